//! The first stage: ratings in, dense ids and leave-one-out sequences out.
//!
//! Data flow one way through the modules: [`fetch`] (or [`synthesis`]) puts a raw file in place; [`layout`] says how its
//! lines are to be read; [`blocks`] cuts it into lines and [`reader`] turns those into [`interactions`], columns of
//! codes; [`filter`] decides which users and items stay; [`identifiers`] gives them dense ids; [`sequences`] orders what
//! everybody did in time; and [`prepare`] splits that and writes the files that every later stage begins with. A new
//! layout is an entry in [`layout`], a new data set one in [`fetch`]; nothing behind them knows where data came from.

pub mod blocks;
pub mod fetch;
pub mod filter;
pub mod identifiers;
pub mod interactions;
pub mod interner;
pub mod layout;
pub mod prepare;
pub mod reader;
pub mod sequences;
pub mod synthesis;
pub mod timestamps;

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use stage::{Checked, Flags, Plan, progress, settings};

use crate::fetch::{Source, Tools};
use crate::synthesis::Recipe;

const EXAMPLES: &str = "\
Examples:
  Fetch MovieLens-100K and make a data set of it:
    gro-preprocess fetch ml-100k --to data/raw
    gro-preprocess run --input data/raw/ml-100k --out out/ml-100k/data

  Your own data, as a RecBole .inter file (tabs; a header with user_id:token, item_id:token and, where
  there are any, rating:float and timestamp:float):
    gro-preprocess run --input clicks.inter --out out/clicks/data --set preprocess.ties=input

  No network: make ratings up, as many as MovieLens-20M has:
    gro-preprocess synth --users 138493 --items 26744 --interactions 20000000 --out data/raw/synth-20m";

/// From ratings to the sequences that every other stage begins with
#[derive(Debug, Parser)]
#[command(name = "gro-preprocess", version, after_long_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Fetch(FetchCommand),
    Run(RunCommand),
    Synth(SynthCommand),
}

/// Download a public data set, check it against its checksum, and unpack it
///
/// MovieLens-100K comes from its publisher or, where that cannot be reached, from the copy in the Python wheel of
/// RecBole; the log says which. A file that is there already is checked and left alone, without a network. A download
/// that broke off is taken up again by the same command.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gro-preprocess fetch ml-100k --to data/raw     makes data/raw/ml-100k/u.data (or ml-100k.inter)
  gro-preprocess fetch ml-20m --to data/raw      makes data/raw/ml-20m/ratings.csv, from 190 MB

Without a network, put the publisher's zip at data/raw/ml-20m/ml-20m.zip and give the same command.")]
struct FetchCommand {
    /// Which data set
    #[arg(value_name = "DATASET")]
    dataset: PublicDataset,
    /// Directory of raw data; the data set gets a directory of its own name in it
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

/// A data set that `fetch` knows.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PublicDataset {
    /// MovieLens-100K: 943 users, 100,000 ratings
    #[value(name = "ml-100k")]
    MovieLens100k,
    /// MovieLens-1M: 6,040 users, 1,000,209 ratings
    #[value(name = "ml-1m")]
    MovieLens1m,
    /// MovieLens-20M: 138,493 users, 20,000,263 ratings
    #[value(name = "ml-20m")]
    MovieLens20m,
}

impl PublicDataset {
    fn source(self) -> Source<'static> {
        match self {
            Self::MovieLens100k => fetch::ML_100K,
            Self::MovieLens1m => fetch::ML_1M,
            Self::MovieLens20m => fetch::ML_20M,
        }
    }
}

/// Filter ratings, give users and items dense ids, order everybody's items in time, and split off the last two
///
/// Layouts, told by the file's name or first line unless preprocess.format says: movielens-100k (u.data),
/// movielens-1m (ratings.dat), movielens-20m (ratings.csv), inter (*.inter of RecBole). Items with fewer than
/// preprocess.min_item_count interactions go first, then users with fewer than preprocess.min_user_count of what is
/// left; preprocess.filter=core repeats that until nothing changes. The last item of a user is for testing, the one
/// before for validation, the rest for training. It writes sequences.parquet, items.parquet, users.parquet and
/// stats.json.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gro-preprocess run --input data/raw/ml-100k --out out/ml-100k/data --set preprocess.ties=input
  gro-preprocess run --input clicks.inter --out out/clicks/data --set preprocess.filter=core --set preprocess.min_rating=4")]
struct RunCommand {
    /// Directory with one ratings file in it, or the file itself
    #[arg(long, value_name = "PATH")]
    input: PathBuf,
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

/// Make ratings up: popular and unpopular items, and tastes that drift, so that the next item depends on the last
///
/// The file is laid out as MovieLens-20M's ratings.csv. The same numbers and the same --seed give the same bytes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gro-preprocess synth --users 400 --items 200 --interactions 20000 --out data/raw/demo
  gro-preprocess synth --users 138493 --items 26744 --interactions 20000000 --seed 1 --out data/raw/synth-20m")]
struct SynthCommand {
    /// Number of users
    #[arg(long, value_name = "N")]
    users: u32,
    /// Number of items; the least popular may not occur
    #[arg(long, value_name = "N")]
    items: u32,
    /// Number of ratings, at least three for each user
    #[arg(long, value_name = "N")]
    interactions: u64,
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

impl Cli {
    /// The flags that every stage takes.
    pub fn flags(&self) -> Option<&Flags> {
        Some(match &self.command {
            Command::Fetch(fetch) => &fetch.flags,
            Command::Run(run) => &run.flags,
            Command::Synth(synth) => &synth.flags,
        })
    }
}

/// Does what the command line asks for.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Fetch(fetch) => {
            let show_progress =
                !fetch.flags.quiet && !fetch.flags.json_log && std::io::stderr().is_terminal();
            fetch::fetch(&fetch.dataset.source(), &fetch.to, &Tools::usual(show_progress)).map(drop)
        }
        Command::Run(run) => {
            // Nothing is drawn here, so another seed must not make other data.
            let mut settings = settings::load(&run.flags)?.into_inner();
            settings.seed = settings::Settings::default().seed;
            prepare::prepare(&run.input, &run.out, &Checked::new(settings)?, &run.flags).map(drop)
        }
        Command::Synth(synth) => synthesise(&synth),
    }
}

fn synthesise(command: &SynthCommand) -> anyhow::Result<()> {
    let SynthCommand { users, items, interactions, ref out, ref flags } = *command;
    let settings = settings::load(flags)?;
    let recipe = Recipe { users, items, interactions, seed: settings.seed };
    recipe.check()?;
    let plan = Plan::new("gro-preprocess synth", out, flags, &settings, &[])
        .argument("users", users)
        .argument("items", items)
        .argument("interactions", interactions);
    plan.produce(|directory| {
        let path = directory.join("ratings.csv");
        let bar = progress::bar(interactions, "making ratings up", flags.quiet);
        let write = || {
            let mut file = BufWriter::new(File::create(&path)?);
            synthesis::write(&recipe, &mut file, &bar)?;
            file.flush()
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        bar.finish_and_clear();
        Ok(())
    })?;
    Ok(())
}
