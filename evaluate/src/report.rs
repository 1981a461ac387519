//! The command `report`: evaluated runs in, tables, a chart and a page with pictures out.
//!
//! It needs files only: no model is loaded and nothing is measured again, except that intervals over seeds and paired differences are
//! taken from the ranks of every user that the runs have kept. What else the page shows is read from what it is told of, and from nothing
//! that happens to lie beside the runs.

pub mod bars;
pub mod chart;
pub mod grouping;
pub mod inference;
pub mod likeness;
pub mod markdown;
pub mod mlflow;
pub mod page;
pub mod payers;
pub mod references;
pub mod table;
pub mod tidy;
pub mod verdict;
pub mod words;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use artifact::dataset::{self, Dataset};
use artifact::history::{HISTORY, History};
use artifact::ranks::{RANKS, Ranks};
use artifact::report::REPORT_TABLE;
use bars::bars;
use grouping::{Run, names_of, with_tables, without_table};
use markdown::markdown;
use mlflow::Store;
use page::{Curves, Detected, Material, Training, frontier_file, page};
use payers::payers;
use rayon::prelude::*;
use stage::output::begun;
use stage::{Flags, Plan, Refusal, settings, splits};
use table::Table;

use crate::detect::DETECT_JSON;
use crate::figures::{Conditions, METRICS, PROTOCOL};
use crate::theft::THEFT_JSON;

/// Name of the readable report.
pub const REPORT: &str = "report.md";
/// Name of the same numbers for programs.
pub const REPORT_JSON: &str = "report.json";
/// Name of the same numbers in long form.
pub const REPORT_CSV: &str = "report.csv";
/// Name of the page for people.
pub const PAGE: &str = "report.html";
/// Name of the picture.
pub const CHART: &str = "chart.svg";

/// Name of the picture of what defences cost and buy.
pub const FRONTIER: &str = "frontier.svg";

/// What `gro-evaluate report` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directories made by `gro-evaluate run`, of one dataset and one protocol
    #[arg(long, num_args = 1.., required = true, value_name = "DIR")]
    pub runs: Vec<PathBuf>,
    /// The dataset of the runs: the page then shows who pays for a defence by activity, and by popularity of the test item
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Directories made by `gro-evaluate theft`, whose curves the page is to show
    #[arg(long, num_args = 1.., value_name = "DIR")]
    pub theft: Vec<PathBuf>,
    /// Directories made by `gro-evaluate detect`, whose ROC curves the page is to show
    #[arg(long, num_args = 1.., value_name = "DIR")]
    pub detect: Vec<PathBuf>,
    /// Directories of trained models (their history.csv), whose training the page is to show; a run that is still going on is shown as far
    /// as it is
    #[arg(long, num_args = 1.., value_name = "DIR")]
    pub histories: Vec<PathBuf>,
    /// Directory to put the runs into as well, in the file format of MLflow: `mlflow ui --backend-store-uri DIR` shows them
    #[arg(long, value_name = "DIR")]
    pub mlflow: Option<PathBuf>,
    /// Directory to write report.html, report.md, report.json, report.csv, report.parquet, chart.svg and frontier.svg to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Write the report, unless it is up to date, and print its tables to stdout.
///
/// Fails, as a refusal, where a run is missing, damaged or not comparable with the others.
pub fn report(arguments: &Arguments) -> anyhow::Result<()> {
    // No setting takes part in the report, but a misspelt one should not pass unnoticed.
    let settings = settings::load(&arguments.flags)?;
    let sources = Sources {
        runs: once("--runs", &arguments.runs),
        data: arguments.data.clone(),
        theft: once("--theft", &arguments.theft),
        detect: once("--detect", &arguments.detect),
        histories: once("--histories", &arguments.histories).into_iter().map(Recorded::of).collect(),
    };
    let files = |directories: &[PathBuf], name: &str| {
        directories.iter().map(|path| path.join(name)).collect::<Vec<_>>()
    };
    // Where the runs go besides is looked at before the report is written.
    let store = arguments.mlflow.as_deref().map(|root| Store::open(root, &arguments.out)).transpose()?;
    Plan::new("gro-evaluate report", &arguments.out, &arguments.flags, &settings, &[])
        .inputs(sources.runs.iter().flat_map(|run| [METRICS, PROTOCOL, RANKS].map(|file| run.join(file))))
        .inputs(sources.data.iter().flat_map(|data| dataset::files(data)))
        .inputs(files(&sources.theft, THEFT_JSON))
        .inputs(files(&sources.detect, DETECT_JSON))
        .inputs(sources.histories.iter().map(|recorded| recorded.file.clone()))
        .produce(|directory| write(&sources, directory))?;
    if let Some(store) = &store {
        hand_on(&sources, &arguments.out, store)?;
    }
    print(&arguments.out.join(REPORT), PICTURE)
}

/// The directories of a flag in order, each once; a warning counts those that were named again.
pub(crate) fn once(flag: &str, directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut once = directories.to_vec();
    once.sort();
    once.dedup();
    let again = directories.len() - once.len();
    if again > 0 {
        tracing::warn!("{flag} names {again} of its directories again, which count once");
    }
    once
}

/// Put the runs of a written report where MLflow finds them.
fn hand_on(sources: &Sources, out: &Path, store: &Store) -> anyhow::Result<()> {
    let read = |(path, name): (&PathBuf, String)| Ok((path.clone(), read(path, name)?));
    let runs =
        sources.runs.iter().zip(names_of(&sources.runs)).map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let trained = sources.histories.iter().map(|recorded| recorded.directory.clone()).zip(sources.trained()?);
    store.write(
        &runs,
        &trained.collect::<Vec<_>>(),
        out,
        &[PAGE, REPORT, REPORT_JSON, REPORT_CSV, CHART, FRONTIER],
    )
}

/// What is read.
struct Sources {
    runs: Vec<PathBuf>,
    data: Option<PathBuf>,
    theft: Vec<PathBuf>,
    detect: Vec<PathBuf>,
    histories: Vec<Recorded>,
}

impl Sources {
    /// The histories, each with its name.
    fn trained(&self) -> anyhow::Result<Vec<Training>> {
        let directories: Vec<PathBuf> =
            self.histories.iter().map(|recorded| recorded.directory.clone()).collect();
        let read = |(recorded, name): (&Recorded, String)| {
            let history = if recorded.begun {
                History::read_begun(&recorded.file)?
            } else {
                History::read(&recorded.file)?
            };
            Ok(Training { name, begun: recorded.begun, history })
        };
        self.histories.iter().zip(names_of(&directories)).map(read).collect()
    }
}

/// A history, and whether its run has ended.
struct Recorded {
    directory: PathBuf,
    file: PathBuf,
    begun: bool,
}

impl Recorded {
    /// That of a directory, or of the run that is filling it, where it has written one.
    fn of(directory: PathBuf) -> Self {
        let whole = directory.join(HISTORY);
        let unfinished = begun(&directory).map(|directory| directory.join(HISTORY));
        match unfinished.filter(|file| !whole.is_file() && file.is_file()) {
            Some(file) => Self { directory, file, begun: true },
            None => Self { directory, file: whole, begun: false },
        }
    }
}

fn write(sources: &Sources, directory: &Path) -> anyhow::Result<()> {
    let named: Vec<(&PathBuf, String)> = sources.runs.iter().zip(names_of(&sources.runs)).collect();
    let runs =
        named.into_par_iter().map(|(path, name)| read(path, name)).collect::<anyhow::Result<Vec<Run>>>()?;
    let older = without_table(&runs);
    if let Some(first) = older.first() {
        tracing::warn!(
            "{first}, and {} more: an older program evaluated these targets, which measured no table of lists, so that a thief is missing there whom \
             others have; evaluate one run of each again, with --force",
            older.len() - 1
        );
    }
    let runs = with_tables(runs);
    let table = Table::of(&runs)?;
    for warning in references::references(&table).iter().flat_map(|references| &references.warnings) {
        tracing::warn!("{warning}");
    }
    let material = material(sources, &runs, &table)?;
    let put = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put(REPORT, format!("{}\n{PICTURE}\n", markdown(&table)))?;
    put(PAGE, page(&material))?;
    artifact::metrics::write(&directory.join(REPORT_JSON), &table)?;
    let cells = tidy::cells(&table);
    tidy::write_csv(&cells, &directory.join(REPORT_CSV))?;
    artifact::report::write(&directory.join(REPORT_TABLE), &cells)?;
    put(FRONTIER, frontier_file(&table))?;
    chart::draw(&bars(&table), &directory.join(CHART))
}

/// What the page shows beside the table, found to be of the same data.
fn material<'a>(sources: &Sources, runs: &[Run], table: &'a Table) -> anyhow::Result<Material<'a>> {
    let alike = |file: PathBuf, fingerprint: &str, sequences: &str| {
        let Conditions { fingerprint: items, sequences: users, .. } = &table.protocol;
        if fingerprint == items && sequences == users {
            return Ok(());
        }
        let message = format!(
            "{} is of another dataset than the runs; leave it out, or report on its own",
            file.display()
        );
        Err(Refusal::new(message))
    };
    let dataset = match &sources.data {
        Some(data) => {
            let dataset = Dataset::read(data)?;
            alike(data.clone(), dataset.fingerprint(), &splits::of(data)?)?;
            Some(dataset)
        }
        None => None,
    };
    let mut theft = Vec::new();
    for file in sources.theft.iter().map(|directory| directory.join(THEFT_JSON)) {
        let curves: Curves = artifact::metrics::read(&file)?;
        alike(file, &curves.protocol.fingerprint, &curves.protocol.sequences)?;
        theft.push(curves);
    }
    let mut detected = Vec::new();
    for file in sources.detect.iter().map(|directory| directory.join(DETECT_JSON)) {
        let found: Detected = artifact::metrics::read(&file)?;
        alike(file, &found.fingerprint, &found.sequences)?;
        detected.push(found);
    }
    Ok(Material {
        table,
        payers: payers(runs, table, dataset.as_ref())?,
        theft,
        detected,
        trained: sources.trained()?,
    })
}

/// The line of the report that shows the chart; a terminal is spared it.
const PICTURE: &str = "![target against surrogate under each defence](chart.svg)";

/// A run from its directory.
pub(crate) fn read(path: &Path, name: String) -> anyhow::Result<Run> {
    Ok(Run {
        name,
        protocol: artifact::metrics::read(&path.join(PROTOCOL))?,
        metrics: artifact::metrics::read(&path.join(METRICS))?,
        ranks: Ranks::read(&path.join(RANKS))?,
    })
}

/// Print a report to stdout, without the line that shows its picture.
pub(crate) fn print(report: &Path, picture: &str) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    let shown = text.replace(picture, "");
    let mut out = std::io::stdout().lock();
    // A reader such as `head` may close the pipe early; the report is on disk all the same.
    match writeln!(out, "{}", shown.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot print the report")
        }
        _ => Ok(()),
    }
}
