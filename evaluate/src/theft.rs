//! The command `theft`: evaluated copies in, theft curves out. How good is the copy that a thief has after so many questions, and how many
//! does he need?
//!
//! It needs files only, those of `gro-evaluate run`. A *thief* is a way to ask, a length of lists, a way to learn and an architecture, against
//! one defence of one target; runs of one thief that differ in their price are points of his curve, runs of one price that differ in
//! their seed are repetitions.

pub mod curves;
pub mod markdown;
pub mod plot;
pub mod tidy;

use std::path::{Path, PathBuf};

use anyhow::Context;
use artifact::ranks::RANKS;
use stage::{Flags, Plan, settings};

use crate::figures::{METRICS, PROTOCOL};
use crate::report::grouping::{Run, names_of};
use crate::report::{once, print, read};
use curves::Theft;

/// Name of the readable report.
pub const THEFT: &str = "theft.md";
/// Name of the same numbers for programs.
pub const THEFT_JSON: &str = "theft.json";
/// Name of the same numbers in long form.
pub const THEFT_CSV: &str = "theft.csv";
/// Name of the picture.
pub const PLOT: &str = "theft.svg";

/// What `gro-evaluate theft` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directories made by `gro-evaluate run` with a surrogate, of one dataset and one protocol
    #[arg(long, num_args = 1.., required = true, value_name = "DIR")]
    pub runs: Vec<PathBuf>,
    /// Directory to write theft.md, theft.json, theft.csv and theft.svg to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// Write the curves, unless they are up to date, and print their tables to stdout.
///
/// Fails, as a refusal, where a run is missing, damaged, not comparable with the others, or does not say what was asked.
pub fn theft(arguments: &Arguments) -> anyhow::Result<()> {
    // No setting takes part, but a misspelt one should not pass unnoticed.
    let settings = settings::load(&arguments.flags)?;
    let runs = once("--runs", &arguments.runs);
    Plan::new("gro-evaluate theft", &arguments.out, &arguments.flags, &settings, &[])
        .inputs(runs.iter().flat_map(|run| [METRICS, PROTOCOL, RANKS].map(|file| run.join(file))))
        .produce(|directory| write(&runs, directory))?;
    print(&arguments.out.join(THEFT), PICTURE)
}

/// The line of the report that shows the plot; a terminal is spared it.
const PICTURE: &str = "![quality of the copy over the number of questions](theft.svg)";

fn write(runs: &[PathBuf], directory: &Path) -> anyhow::Result<()> {
    let named = runs.iter().zip(names_of(runs));
    let runs = named.map(|(path, name)| read(path, name)).collect::<anyhow::Result<Vec<Run>>>()?;
    let theft = Theft::of(&runs)?;
    let path = directory.join(THEFT);
    std::fs::write(&path, format!("{}\n{PICTURE}\n", markdown::markdown(&theft)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    artifact::metrics::write(&directory.join(THEFT_JSON), &theft)?;
    tidy::write_csv(&theft, &directory.join(THEFT_CSV))?;
    plot::draw(&theft, &directory.join(PLOT))
}
