//! The command `report`: evaluated runs in, one table and one chart out.
//!
//! It needs files only: no model is loaded and nothing is measured again, except that paired differences are taken from
//! the ranks of every user that the runs have kept.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use artifact::ranks::{RANKS, Ranks};
use stage::{Flags, Plan, Refusal, settings};

use crate::chart::{self, Chart, Group, Panel};
use crate::figures::{METRICS, PROTOCOL, name_of};
use crate::table::{Model, Row, Run, Table};

/// Name of the readable report.
pub const REPORT: &str = "report.md";
/// Name of the same numbers for programs.
pub const REPORT_JSON: &str = "report.json";
/// Name of the picture.
pub const CHART: &str = "chart.svg";

/// What `gro-evaluate report` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directories made by `gro-evaluate run`, of one dataset
    #[arg(long, num_args = 1.., required = true, value_name = "DIR")]
    pub runs: Vec<PathBuf>,
    /// Directory to write report.md, report.json and chart.svg to
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
    print(&arguments.out.join(REPORT))
}

fn write(runs: &[PathBuf], directory: &Path) -> anyhow::Result<()> {
    let runs = runs.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<Run>>>()?;
    let table = Table::of(&runs)?;
    let text = format!("{}\n{PICTURE}\n", table.markdown());
    let path = directory.join(REPORT);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    artifact::metrics::write(&directory.join(REPORT_JSON), &table)?;
    chart::draw(&picture_of(&table), &directory.join(CHART))
}

/// The line of the report that shows the chart; a terminal is spared it.
const PICTURE: &str = "![target against surrogate under each defence](chart.svg)";

fn read(path: &Path) -> anyhow::Result<Run> {
    let name =
        path.file_name().ok_or_else(|| Refusal::new(format!("{} names no directory", path.display())))?;
    Ok(Run {
        name: name.to_string_lossy().into_owned(),
        protocol: artifact::metrics::read(&path.join(PROTOCOL))?,
        metrics: artifact::metrics::read(&path.join(METRICS))?,
        ranks: Ranks::read(&path.join(RANKS))?,
    })
}

fn print(report: &Path) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    let shown = text.replace(PICTURE, "");
    let mut out = std::io::stdout().lock();
    // A reader such as `head` may close the pipe early; the report is on disk all the same.
    match writeln!(out, "{}", shown.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot print the report")
        }
        _ => Ok(()),
    }
}

/// The chart of a table: HR@10 and NDCG@10, a group for every target, a colour for the target and one for each kind of
/// surrogate. A second surrogate of one kind, of which there is no colour left, starts a group of its own.
fn picture_of(table: &Table) -> Chart {
    let mut series = vec!["target".to_owned()];
    for row in table.rows.iter().filter(|row| row.model == Model::Surrogate) {
        if !series.contains(&series_of(row)) {
            series.push(series_of(row));
        }
    }
    let targets = table.rows.iter().filter(|row| row.model == Model::Target);
    let mut architectures: Vec<_> = targets.filter_map(|row| row.architecture).collect();
    architectures.sort_unstable();
    architectures.dedup();

    let shared = &table.protocol;
    let seen = if shared.exclude_seen { "seen items left out" } else { "seen items kept" };
    Chart {
        title: match architectures.as_slice() {
            [one] => format!("{} behind each defence, and the copy an attacker makes of it", name_of(*one)),
            _ => "Recommenders behind each defence, and the copies an attacker makes of them".to_owned(),
        },
        subtitle: format!(
            "full ranking of {} items, {} users, {seen}; whiskers: 95 % bootstrap intervals",
            shared.items, shared.users
        ),
        panels: ["HR@10", "NDCG@10"]
            .map(|name| panel_of(table, name, &series, architectures.len() > 1))
            .into(),
        series,
    }
}

/// The colour of a row, by name.
fn series_of(row: &Row) -> String {
    match row.model {
        Model::Surrogate => format!("surrogate {}", row.architecture.map_or("", name_of)),
        Model::Target | Model::Popular => "target".to_owned(),
    }
}

fn panel_of(table: &Table, name: &str, series: &[String], name_targets: bool) -> Panel {
    let mut panel = Panel { name: name.to_owned(), popular: None, groups: Vec::new() };
    for row in &table.rows {
        let figure = row.figures.get(name).copied();
        if row.model == Model::Popular {
            panel.popular = figure;
            continue;
        }
        let place = series.iter().position(|found| *found == series_of(row)).unwrap_or(0);
        let full = panel.groups.last().is_none_or(|group| group.bars[place].is_some());
        if row.model == Model::Target || full {
            // What tells two runs of one defence apart goes to a second line.
            let mut label = row.defense.clone().unwrap_or_default().replacen(" (", "\n(", 1);
            if name_targets && row.model == Model::Target {
                label = format!("{label}\n{}", row.architecture.map_or("", name_of));
            }
            panel.groups.push(Group { label, bars: vec![None; series.len()] });
        }
        if let Some(group) = panel.groups.last_mut() {
            group.bars[place] = figure;
        }
    }
    panel
}
