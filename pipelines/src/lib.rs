//! What whoever chains the stages has to know and cannot read off files: the Makefile, Snakemake, DVC, and a reader.
//!
//! `list` prints the names that there are of a kind, from the registry that knows them; `settings` shows what layers of
//! settings come to, `check` says whether every stage would take them, `plan` how long they would work; `verify` holds a tree of outputs
//! against their locks. None of them makes anything, and `gro` is built without CUDA.
//!
//! Beside this crate lie the pipelines themselves: `Snakefile`, `dvc.yaml`, and the settings of data sets and
//! architectures.

pub mod check;
pub mod list;
pub mod plan;
pub mod settings;
pub mod sweep;
pub mod verify;

use clap::{Parser, Subcommand};
use stage::Flags;

/// Ask what there is to choose from, what settings come to, whether they can be run, and whether outputs are still what was
/// written.
///
/// The stages are gro-preprocess, gro-train, gro-defend, gro-attack and gro-evaluate; gro-serve answers for a target.
///
/// Example: gro list architectures
#[derive(Debug, Parser)]
#[command(name = "gro", version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the names that there are of a kind, one a line
    ///
    /// Example: gro list architectures --titles
    List(list::Arguments),
    /// Print the resolved settings as YAML, or one of them as plain words
    ///
    /// Example: gro settings --config pipelines/ml-100k.yaml --set train.epochs=20 --get train
    Settings(settings::Arguments),
    /// Check that every stage would take the settings, before the first one works
    ///
    /// Every section is read and checked, whichever stage it is for. With --data, what asks for more items than that
    /// dataset has is refused too: lists of the whole catalogue, more negatives than there are. Prints nothing; exit code 2
    /// and one message where something is wrong.
    ///
    /// Example: gro check --config pipelines/ml-100k.yaml --config pipelines/bert.yaml --data out/ml-100k/data
    Check(check::Arguments),
    /// Print what a pipeline would do, how large it would be and how long it would take, and run none of it
    ///
    /// Steps, memory, disk and hours of every stage, worked out from the settings, the size of the data and the speed of this
    /// machine's matrix products, which is measured for a second.
    ///
    /// Example: gro plan ml-20m-bert --methods none gro
    Plan(plan::Arguments),
    /// Print the defences of a sweep over strengths, each with its setting, one a line
    ///
    /// Example: gro sweep pipelines/sweep.yaml --config pipelines/ml-100k.yaml --config pipelines/sas.yaml
    Sweep(sweep::Arguments),
    /// Check that outputs are what their stages wrote, and were made from the inputs that lie there now
    ///
    /// Holds every directory with a stage.lock, at or below those given, against that lock. Exit code 2 where a file is
    /// missing, truncated, edited or surplus, or an input has changed since. An input that is not at hand is no fault.
    ///
    /// Example: gro verify out
    Verify(verify::Arguments),
}

impl Cli {
    /// The flags every stage has.
    pub fn flags(&self) -> Option<&Flags> {
        match &self.command {
            Command::List(_) => None,
            Command::Settings(arguments) => Some(&arguments.flags),
            Command::Check(arguments) => Some(&arguments.flags),
            Command::Plan(arguments) => Some(&arguments.flags),
            Command::Sweep(arguments) => Some(&arguments.flags),
            Command::Verify(arguments) => Some(&arguments.flags),
        }
    }
}

/// Prints what was asked for.
#[expect(clippy::needless_pass_by_value, reason = "what a binary is run with is used up by the run")]
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::List(arguments) => list::list(arguments),
        Command::Settings(arguments) => settings::show(arguments),
        Command::Check(arguments) => check::check(arguments),
        Command::Plan(arguments) => plan::plan(arguments),
        Command::Sweep(arguments) => sweep::sweep(arguments),
        Command::Verify(arguments) => verify::verify(arguments),
    }
}
