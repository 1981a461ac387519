//! The flags that every stage takes, in the same words everywhere.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::Device;

/// The value of `--kernels`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kernels {
    /// The operations made for the CPU.
    #[default]
    Fused,
    /// Their twins in ordinary operations, which a GPU uses too where it has no kernel of ours: slower here, the same numbers up to rounding.
    Plain,
}

/// Flags of every stage; flatten it into the stage's own.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Flags of every stage")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub struct Flags {
    /// Read settings from a YAML file; repeat to layer several, later ones win
    ///
    /// A file states only what differs from the built-in defaults. Layers are merged key by key:
    /// `--config pipelines/ml-100k.yaml --config pipelines/bert.yaml` takes `model.max_len` from the one and
    /// `model.architecture` from the other. The settings that were used stand in `settings.yaml` in the output
    /// directory, which is itself a file to pass here.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,

    /// Change one setting, over every file; repeat for more
    ///
    /// The value is YAML: `--set train.epochs=20`, `--set evaluate.ks=[5,10]`, `--set defend.gro.student=null`.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,

    /// Where to compute: auto, cpu, cuda or cuda:N
    ///
    /// `auto` takes the first GPU of a binary built with `--features cuda` and the CPU otherwise. Results are the same
    /// bytes for any number of CPU threads, and the same numbers up to rounding on a GPU.
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Auto)]
    pub device: Device,

    /// Which version of the models' operations to compute with on a CPU
    ///
    /// The plain ones are what a GPU computes with: a way to try that without one. A GPU always takes them.
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Kernels::Fused)]
    pub kernels: Kernels,

    /// Number of CPU threads; all cores by default
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Seed of everything random; the same as `--set seed=N`
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Work even when the output is up to date, and replace a directory that no stage wrote
    #[arg(long)]
    pub force: bool,

    /// Print warnings and errors only, and no progress bar
    #[arg(long)]
    pub quiet: bool,

    /// Print the log as one JSON object a line
    #[arg(long)]
    pub json_log: bool,

    /// Log progress too, every half a second that there was some: `position` of `total` steps
    ///
    /// For programs that show it, which no progress bar reaches: `{"message": "epoch 2 of 10", "position": 37, "total": 210, …}`.
    #[arg(long, requires = "json_log")]
    pub json_progress: bool,
}
