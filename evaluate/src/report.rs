//! The command `report`: evaluated runs in, tables and one chart out.
//!
//! It needs files only: no model is loaded and nothing is measured again, except that paired differences are taken from
//! the ranks of every user that the runs have kept.

pub mod chart;
pub mod grouping;
pub mod inference;
pub mod markdown;
pub mod table;
pub mod tidy;
pub mod verdict;
pub mod words;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use artifact::ranks::{RANKS, Ranks};
use artifact::report::REPORT_TABLE;
use chart::{Chart, Group, Panel};
use grouping::{Run, names_of};
use markdown::markdown;
use models::Architecture;
use stage::{Flags, Plan, settings};
use table::{Model, Table};

use crate::figures::{METRICS, PROTOCOL, grouped};

/// Name of the readable report.
pub const REPORT: &str = "report.md";
/// Name of the same numbers for programs.
pub const REPORT_JSON: &str = "report.json";
/// Name of the same numbers in long form.
pub const REPORT_CSV: &str = "report.csv";
/// Name of the picture.
pub const CHART: &str = "chart.svg";

/// What `gro-evaluate report` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directories made by `gro-evaluate run`, of one dataset and one protocol
    #[arg(long, num_args = 1.., required = true, value_name = "DIR")]
    pub runs: Vec<PathBuf>,
    /// Directory to write report.md, report.json, report.csv, report.parquet and chart.svg to
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
    let mut runs = arguments.runs.clone();
    runs.sort();
    runs.dedup();
    Plan::new("gro-evaluate report", &arguments.out, &arguments.flags, &settings, &[])
        .inputs(runs.iter().flat_map(|run| [METRICS, PROTOCOL, RANKS].map(|file| run.join(file))))
        .produce(|directory| write(&runs, directory))?;
    print(&arguments.out.join(REPORT), PICTURE)
}

fn write(runs: &[PathBuf], directory: &Path) -> anyhow::Result<()> {
    let named = runs.iter().zip(names_of(runs));
    let runs = named.map(|(path, name)| read(path, name)).collect::<anyhow::Result<Vec<Run>>>()?;
    let table = Table::of(&runs)?;
    let text = format!("{}\n{PICTURE}\n", markdown(&table));
    let path = directory.join(REPORT);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    artifact::metrics::write(&directory.join(REPORT_JSON), &table)?;
    let cells = tidy::cells(&table);
    tidy::write_csv(&cells, &directory.join(REPORT_CSV))?;
    artifact::report::write(&directory.join(REPORT_TABLE), &cells)?;
    chart::draw(&picture_of(&table), &directory.join(CHART))
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

/// The chart of a table: a panel for each figure that is drawn, a group for every defence, a colour for the target and one
/// for each kind of surrogate. With several targets each has a column of panels of its own, and the panels of a figure share
/// their scale.
fn picture_of(table: &Table) -> Chart {
    let mut series = vec!["target".to_owned()];
    series.extend(table.surrogates().into_iter().map(|one| format!("surrogate {}", one.title)));
    let shared = &table.protocol;
    let spread = match table.seeds.len() {
        1 => "whiskers: 95 % bootstrap intervals".to_owned(),
        count => format!("means over {count} seeds, whiskers: 95 % intervals over users and seeds"),
    };
    let targets = table.targets();
    let subtitle = format!(
        "{}, {}, {} users; {spread}",
        shared.ranked_against(),
        shared.seen(),
        grouped(shared.users as u64)
    );
    let (several, colours) = (targets.len() > 1, series.len());
    let panel = |figure: &String, target: Architecture| Panel {
        name: if several { format!("{} target: {figure}", target.title) } else { figure.clone() },
        scale: figure.clone(),
        popular: table.popular().and_then(|row| row.figures.get(figure)).copied(),
        groups: groups_of(table, target, figure, colours),
    };
    let panels_of = |figure: String| targets.iter().map(|&target| panel(&figure, target)).collect::<Vec<_>>();
    Chart {
        title: match targets.as_slice() {
            [one] => format!("{} behind each defence, and the copy an attacker makes of it", one.title),
            _ => "Recommenders behind each defence, and the copies an attacker makes of them".to_owned(),
        },
        subtitle,
        columns: targets.len().max(2),
        panels: table.drawn().into_iter().flat_map(panels_of).collect(),
        series,
    }
}

/// The bars of one target: a group for each of its defences, and for each variant of one. A second surrogate of one kind,
/// of which there is no colour left, starts a group of its own.
fn groups_of(table: &Table, target: Architecture, figure: &str, colours: usize) -> Vec<Group> {
    let kinds = table.surrogates();
    let mut groups: Vec<Group> = Vec::new();
    for row in table.rows.iter().filter(|row| row.target == Some(target)) {
        let kind = kinds.iter().position(|&kind| Some(kind) == row.surrogate);
        let place = kind.map_or(0, |kind| kind + 1);
        let full = groups.last().is_none_or(|group| group.bars[place].is_some());
        if row.model == Model::Target || full {
            // What tells two of one defence apart goes to a second line.
            let variant = row.variant.as_ref().map_or_else(String::new, |name| format!("\n({name})"));
            let label = format!("{}{variant}", row.defence.as_deref().unwrap_or_default());
            groups.push(Group { label, bars: vec![None; colours] });
        }
        if let Some(group) = groups.last_mut() {
            group.bars[place] = row.figures.get(figure).copied();
        }
    }
    groups
}
