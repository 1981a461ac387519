//! The first stage: ratings in, dense ids and leave-one-out sequences out.
//!
//! Data flow one way through the modules: [`fetch`] (or [`synthesis`]) puts a raw file in place; [`layout`] says how its
//! lines are to be read; [`blocks`] cuts it into lines, [`parser`] takes those apart (with [`literal`] and [`json`]; a
//! Parquet table comes through [`columnar`] instead), and [`reader`] joins what they give to [`interactions`], columns of
//! codes; [`filter`] decides which users and items stay; [`identifiers`] gives them dense ids; [`sequences`] orders what
//! everybody did in time; and [`prepare`] splits that and writes the files that every later stage begins with. [`export`] leads back from those. A new
//! layout is an entry in [`layout`], a new data set one in [`fetch`]; nothing behind them knows where data came from.

pub mod blocks;
pub mod columnar;
pub mod export;
pub mod fetch;
pub mod filter;
pub mod identifiers;
pub mod interactions;
pub mod interner;
pub mod json;
pub mod layout;
pub mod literal;
pub mod parser;
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
  there are any, rating:float and timestamp:float), or as any csv, tsv, jsonl or Parquet table:
    gro-preprocess run --input clicks.inter --out out/clicks/data --set preprocess.ties=input
    gro-preprocess run --input clicks.parquet --out out/clicks/data --set preprocess.columns.user=visitor
      --set preprocess.columns.item=page --set preprocess.columns.timestamp=at

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
    Export(ExportCommand),
    Synth(SynthCommand),
}

/// Download a public data set, check it against its checksum, and unpack it
///
/// MovieLens-100K comes from its publisher or, where that cannot be reached, from the copy in the Python wheel of
/// RecBole; the log says which. A file that is there already is checked and left alone, without a network. A download
/// that broke off is taken up again by the same command. The publishers of the Steam reviews and the Amazon ratings give
/// no checksum: that of the file that came first is pinned in source.json beside it, and another file is refused.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gro-preprocess fetch ml-100k --to data/raw     makes data/raw/ml-100k/u.data (or ml-100k.inter)
  gro-preprocess fetch ml-20m --to data/raw      makes data/raw/ml-20m/ratings.csv, from 190 MB

  gro-preprocess fetch steam --to data/raw       makes data/raw/steam/steam_reviews.json.gz, 1.3 GB
  gro-preprocess fetch beauty --to data/raw      makes data/raw/beauty/ratings_Beauty.csv, 80 MB

Without a network, put the publisher's file into the data set's directory by hand and give the same command: a zip
as data/raw/ml-20m/ml-20m.zip, another file under its own name. Where a host cannot be reached, the message says
which file and where.")]
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
    /// Steam reviews: 2,567,538 users, 7,793,069 reviews
    #[value(name = "steam")]
    Steam,
    /// Amazon Beauty: 1,210,271 users, 2,023,070 ratings
    #[value(name = "beauty")]
    Beauty,
}

impl PublicDataset {
    fn source(self) -> Source<'static> {
        match self {
            Self::MovieLens100k => fetch::ML_100K,
            Self::MovieLens1m => fetch::ML_1M,
            Self::MovieLens20m => fetch::ML_20M,
            Self::Steam => fetch::STEAM,
            Self::Beauty => fetch::BEAUTY,
        }
    }
}

/// Filter ratings, give users and items dense ids, order everybody's items in time, and split off the last two
///
/// Layouts, told by the file's name or first line unless preprocess.format says: movielens-100k (u.data),
/// movielens-1m (ratings.dat), movielens-20m (ratings.csv), inter (*.inter of RecBole), steam (steam_reviews.json),
/// amazon (ratings_*.csv without a header). Only the settings can tell a table (csv with a header, tsv, jsonl or
/// Parquet: preprocess.columns.user, .item, .timestamp and .rating name its columns; without a timestamp the rows are in
/// order of time) and preprocess.format=sequences (a user and then items on every line, *.txt). Text may be packed by
/// gzip.
///
/// Items with fewer than preprocess.min_item_count interactions go first, then users with fewer than preprocess.min_user_count of what is
/// left; preprocess.filter=core repeats that until nothing changes. The last item of a user is for testing, the one
/// before for validation, the rest for training. It writes sequences.parquet, items.parquet, users.parquet and
/// stats.json.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gro-preprocess run --input data/raw/ml-100k --out out/ml-100k/data --set preprocess.ties=input
  gro-preprocess run --input clicks.inter --out out/clicks/data --set preprocess.filter=core --set preprocess.min_rating=4
  gro-preprocess run --input plays.csv.gz --out out/plays/data --set preprocess.columns.user=listener
    --set preprocess.columns.item=track --set preprocess.columns.timestamp=played_at
  gro-preprocess run --input Beauty.txt --out out/beauty/data --set preprocess.format=sequences")]
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

/// Write a data set as a file for other programs, under its raw ids
///
/// The format is RecBole's atomic file: user_id:token, item_id:token and timestamp:float, the place of the item in the
/// user's sequence, from 1. `run` on the file gives the same sequences again. Every user's whole sequence is written,
/// validation and test items included.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gro-preprocess export --data out/ml-100k/data --out ml-100k.inter
  gro-preprocess export --data out/ml-100k/data --out dataset/ml-100k     makes dataset/ml-100k/ml-100k.inter")]
struct ExportCommand {
    /// Data made by `gro-preprocess run`
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// File to write, ending in .inter, or directory to make with such a file in it
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Layout of the file
    #[arg(long, value_name = "FORMAT", default_value = "inter")]
    format: ExportFormat,
    #[command(flatten)]
    flags: Flags,
}

/// A layout that `export` writes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    /// RecBole's atomic file
    Inter,
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
            Command::Export(export) => &export.flags,
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
        Command::Export(ExportCommand { data, out, format: ExportFormat::Inter, flags }) => {
            // No setting has a say in it, but a wrong one should not pass unseen.
            settings::load(&flags)?;
            export::export(&data, &out, &flags)
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
