//! The command `board`: reports of anyone in, one table of defences out.
//!
//! A report says what each defence comes to ([`crate::report::verdict`]); a board puts the verdicts of many reports side by side. Those taken
//! under other conditions (another dataset, another way to rank) do not compare, and stand in a table of their own. Nothing is measured
//! again: who hands in a report vouches for it, and the BLAKE3 of the target's checkpoint in it says which target it speaks of. A proof of
//! theft is put beside the target that it is about.

pub mod markdown;
pub mod standing;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use stage::{Flags, Plan, Refusal, settings};
use standing::{Board, Handed};

use crate::prove::PROOF;
use crate::prove::watermark::{Corrected, least};
use crate::report::grouping::names_of;
use crate::report::{REPORT_JSON, once, print};

/// Name of the readable board.
pub const BOARD: &str = "board.md";
/// Name of the same numbers for programs.
pub const BOARD_JSON: &str = "board.json";

/// What `gro-evaluate board` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directories made by `gro-evaluate report` (their report.json), by whomever
    #[arg(long, num_args = 1.., required = true, value_name = "DIR")]
    pub reports: Vec<PathBuf>,
    /// Directories made by `gro-evaluate prove` (their proof.json) about targets of these reports
    #[arg(long, num_args = 1.., value_name = "DIR")]
    pub proofs: Vec<PathBuf>,
    /// Directory to write board.md and board.json to
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[expect(missing_docs, reason = "a doc comment on a flattened group would become the command's help")]
    #[command(flatten)]
    pub flags: Flags,
}

/// What the board needs of `proof.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Proven {
    /// BLAKE3 of the guarded target's checkpoint.
    pub protected: String,
    /// Chance that the suspect agrees with its decoys as it does and never saw an answer of it.
    p: f64,
    /// That and the chance of its watermark, each corrected for the other; none where it has no watermark.
    corrected: Option<Corrected>,
}

impl Proven {
    /// Chance of what was found of the suspect if it never saw an answer of the target: by the decoys, or by whichever of two tests found more.
    pub fn chance(&self) -> f64 {
        least(self.p, self.corrected)
    }
}

/// Write the board, unless it is up to date, and print it to stdout.
///
/// Fails, as a refusal, where a report or a proof is missing or damaged, or a report is of before it had verdicts.
pub fn board(arguments: &Arguments) -> anyhow::Result<()> {
    // No setting takes part, but a misspelt one should not pass unnoticed.
    let settings = settings::load(&arguments.flags)?;
    let (reports, proofs) = (once("--reports", &arguments.reports), once("--proofs", &arguments.proofs));
    Plan::new("gro-evaluate board", &arguments.out, &arguments.flags, &settings, &[])
        .inputs(reports.iter().map(|directory| directory.join(REPORT_JSON)))
        .inputs(proofs.iter().map(|directory| directory.join(PROOF)))
        .produce(|directory| write(&reports, &proofs, directory))?;
    print(&arguments.out.join(BOARD), "")
}

fn write(reports: &[PathBuf], proofs: &[PathBuf], directory: &Path) -> anyhow::Result<()> {
    let mut handed = Vec::with_capacity(reports.len());
    for (path, name) in reports.iter().zip(names_of(reports)) {
        let file = path.join(REPORT_JSON);
        let report: Handed = artifact::metrics::read(&file)?;
        if report.verdicts.is_empty() {
            let message = format!(
                "{} has no verdicts on defences, expected one for each target; report again on its runs",
                file.display()
            );
            return Err(Refusal::new(message).into());
        }
        handed.push((name, report));
    }
    let of = |tables: bool| handed.iter().filter(move |(_, report)| report.has_tables() == Some(tables));
    let lacking: Vec<&str> = of(false).map(|(name, _)| name.as_str()).collect();
    if let Some(first) = lacking.first().filter(|_| of(true).next().is_some()) {
        tracing::warn!(
            "{first}, and {} more: no table of lists was measured there, so that a thief is missing whom other reports have; evaluate one run \
             of each target again, with --force, and report again",
            lacking.len() - 1
        );
    }
    let mut proven: Vec<Proven> = Vec::with_capacity(proofs.len());
    for path in proofs {
        proven.push(artifact::metrics::read(&path.join(PROOF))?);
    }
    let board = Board::of(handed, &proven);
    if board.proofs_of_others > 0 {
        tracing::warn!(
            "{} of {} proofs are about targets that no report speaks of",
            board.proofs_of_others,
            proofs.len()
        );
    }
    let path = directory.join(BOARD);
    std::fs::write(&path, markdown::markdown(&board))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(artifact::metrics::write(&directory.join(BOARD_JSON), &board)?)
}
