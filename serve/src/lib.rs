//! A protected target as a service: the door that users and thieves come to.
//!
//! `http` answers over a network, `proxy` does so with the lists of a recommender that others run, `once` answers one question on a terminal, and `key` makes the keys that clients come with. Whatever
//! the door, a question goes to [`service::black_box::ProtectedTarget`], as in the attack: the answers are the same, to the byte.
//!
//! A request passes [`listen`] (connections, TLS), [`routes`] (paths), [`keys`] and [`limits`] (who asks, and how much he may), the
//! [`remote::Catalogue`] (raw ids to dense ones), and the [`engine`], whose threads answer what has arrived meanwhile, each a share of it;
//! [`journal`] writes down what was asked and answered, and [`tally`] how much.

pub mod demo;
pub mod engine;
pub mod http;
pub mod journal;
pub mod keys;
pub mod limits;
pub mod listen;
pub mod once;
pub mod problem;
pub mod protocol;
pub mod proxy;
pub mod routes;
pub mod tally;
pub mod target;
pub mod telemetry;
pub mod titles;

use std::num::NonZeroUsize;

use clap::{Parser, Subcommand};
use stage::{Device, Flags, Kernels};

/// Answer for a protected target: over HTTP, or once on a terminal.
///
/// Example: gro-serve once --target out/ml-100k-sas/target --data out/ml-100k/data --history "50 181 258"
#[derive(Debug, Parser)]
#[command(name = "gro-serve", version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer questions over HTTP
    ///
    /// POST /v1/recommend with {"account": "7", "history": [50, 181], "k": 10} answers {"items": …}, best first; /openapi.json describes
    /// the rest. Answers are those that `gro-attack generate` is given for the same questions.
    ///
    /// SIGTERM or Ctrl-C: what was asked is answered, and the service ends. SIGHUP: the target and the keys are read again, and no
    /// request is lost.
    ///
    /// Example: gro-serve http --target out/ml-100k-sas/protected-guard --data out/ml-100k/data --log out/asked
    Http(Box<http::Arguments>),
    /// Put a guard in front of a recommender that others run, and answer over HTTP
    ///
    /// The lists are the recommender's own; the guard watches who takes from them, puts canaries into them, and answers thieves with decoys by
    /// its key. Keys, limits and log are those of `http`.
    ///
    /// Example: `gro-serve proxy --upstream https://recommender.internal --guard out/copy-guard --keys keys.yaml --log out/asked`
    Proxy(Box<proxy::Arguments>),
    /// Answer one question, as a table
    ///
    /// Example: gro-serve once --target out/ml-100k-sas/target --data out/ml-100k/data --history "50 181 258" --k 10
    Once(Box<once::Arguments>),
    /// Make a key for a client, or for one account, and print it
    ///
    /// The file keeps a hash of it only, so it is shown this once. A running service reads the file again at SIGHUP.
    ///
    /// Example: gro-serve key --keys keys.yaml --name shop --per-second 50
    Key(keys::Arguments),
}

/// Where and how to compute, and what to say.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Flags of every stage")]
pub struct Machine {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Auto)]
    pub device: Device,
    /// Which version of the models' operations to compute with on a CPU
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Kernels::Fused)]
    pub kernels: Kernels,
    /// Number of CPU threads; all cores by default
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print warnings and errors only
    #[arg(long)]
    pub quiet: bool,
    /// Print the log as one JSON object a line
    #[arg(long)]
    pub json_log: bool,
}

impl Machine {
    /// As the flags of a stage, for what every binary does with them.
    pub fn flags(&self) -> Flags {
        Flags {
            device: self.device,
            kernels: self.kernels,
            threads: self.threads,
            quiet: self.quiet,
            json_log: self.json_log,
            ..Flags::default()
        }
    }
}

impl Cli {
    /// What every binary asks of its command line.
    pub fn flags(&self) -> Option<Flags> {
        match &self.command {
            Command::Http(arguments) => Some(arguments.machine.flags()),
            Command::Proxy(arguments) => Some(arguments.machine.flags()),
            Command::Once(arguments) => Some(arguments.machine.flags()),
            Command::Key(_) => None,
        }
    }
}

/// Serves, answers, or makes a key.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Http(arguments) => http::http(&arguments),
        Command::Proxy(arguments) => proxy::proxy(&arguments),
        Command::Once(arguments) => once::once(&arguments),
        Command::Key(arguments) => keys::make(&arguments),
    }
}
