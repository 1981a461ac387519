//! What a defence is worth: how well the target still recommends, how well its copy does, and how alike they are.
//!
//! `run` measures one target and one surrogate against all users of a dataset; `report` puts several such runs side by
//! side in a table and a chart, and `theft` draws what a thief has for what he pays. `detect` measures how well a guard, and detectors to compare it
//! with, tell thieves from users. Targets are judged through their answer policy, by what a client sees of them. What is
//! measured of quality is up to [`metrics::METRICS`], and what detects to [`detect::detectors::DETECTORS`]: none is named here.

pub mod board;
pub mod detect;
pub mod figures;
pub mod prove;
pub mod report;
pub mod results;
pub mod run;
pub mod theft;

use clap::{Parser, Subcommand};
use stage::Flags;

/// Measure targets and surrogates, and report on them.
///
/// `run` reads a dataset, a target and a surrogate, and writes metrics.json (means over users with 95 % bootstrap
/// intervals), protocol.json (of what, and how) and ranks.parquet (user by user). `report` reads such directories and
/// writes report.html, a page with pictures, report.md, report.json, report.csv, report.parquet, chart.svg and frontier.svg; `theft` reads those with a surrogate and writes
/// theft.md, theft.json, theft.csv and theft.svg. `detect` reads a dataset, a guarded target and query logs, and writes detect.md,
/// detect.json, detect.csv and detect.svg.
///
/// Example: gro-evaluate run --config pipelines/ml-100k.yaml --data out/ml-100k/data --target
/// out/ml-100k-bert/protected-gro --surrogate out/ml-100k-bert/surrogate-gro --out out/ml-100k-bert/eval-gro
#[derive(Debug, Parser)]
#[command(name = "gro-evaluate", version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Rank every user's test item against the whole catalogue or sampled negatives, for a target and its surrogate
    Run(run::Arguments),
    /// Put evaluated runs of one dataset into tables and a page with pictures, and print the tables
    ///
    /// Runs that differ in nothing but the seed are one row: mean and standard deviation over the seeds, with an interval over users and seeds.
    /// Each defence is judged by what it takes from users and from the strongest thief.
    ///
    /// Example: gro-evaluate report --runs out/ml-100k-sas/eval-* --data out/ml-100k/data --histories out/ml-100k-sas/target
    /// out/ml-100k-sas/surrogate-* --out out/ml-100k-sas/report
    Report(report::Arguments),
    /// Draw the quality of copies over the number of questions, and tell how many a thief needs
    ///
    /// Each thief (how he asks, lists of which length, how he learns, which architecture) is a curve, and each price a point.
    ///
    /// Example: gro-evaluate theft --runs out/theft-ml-100k-sas/seed-1/eval-* --out out/theft-ml-100k-sas/theft
    Theft(theft::Arguments),
    /// Prove by its decoys, or its watermark, that a suspect was trained on the answers of a guarded target
    ///
    /// The suspect is asked about histories that the guard flags. How far it agrees with the decoys of the true key, against those of
    /// many public keys, gives an exact probability that it never saw an answer of the target. Where the target's answers carry a watermark,
    /// a second test is made of that. Writes proof.html, a page for people, and proof.json.
    ///
    /// Example: gro-evaluate prove --suspect out/ml-100k-sas/surrogate-guard --protected out/ml-100k-sas/protected-guard --out
    /// out/ml-100k-sas/proof
    Prove(prove::Arguments),
    /// Put what reports of anyone say of their defences into one table, and print it
    ///
    /// A row is a defence of a target: what its users keep, what the strongest thief has and what he paid, and whether theft was proved.
    ///
    /// Example: gro-evaluate board --reports out/*/report --proofs out/*/proof --out out/board
    Board(board::Arguments),
    /// Collect finished experiments, and write the page of results from all that are kept
    ///
    /// Of each experiment a small report.json is kept, with what it cost and its proofs of theft, and its page with pictures. The page of
    /// results has a table for each, in which a defence wins only against the thief who does best, and what can and cannot be said.
    /// What stands on the page outside the two marks is left alone.
    ///
    /// Example: gro-evaluate results --collect out/results-ml-100k-sas
    Results(results::Arguments),
    /// Measure how well a guarded target tells thieves from users, beside detectors from the literature
    ///
    /// Users are those of the part of the dataset that neither fitted the guard nor set its threshold, with all their items; thieves are
    /// the sequences of query logs. Every account is watched question by question. Written are the ROC of each detector against each
    /// thief, what is caught at .1, 1 and 5 % of users ever flagged and after how many questions, and how users and thieves fare
    /// behind the guard as it is set, newcomers among them.
    ///
    /// A log that another target answered shows what the guard would make of the same questions.
    ///
    /// Example: gro-evaluate detect --data out/ml-100k/data --target out/ml-100k-sas/protected-guard --queries
    /// out/ml-100k-sas/queries-guard-* --out out/ml-100k-sas/detect
    Detect(detect::Arguments),
}

impl Cli {
    /// The flags every stage has.
    pub fn flags(&self) -> Option<&Flags> {
        Some(match &self.command {
            Command::Run(arguments) => &arguments.flags,
            Command::Report(arguments) => &arguments.flags,
            Command::Theft(arguments) => &arguments.flags,
            Command::Prove(arguments) => &arguments.flags,
            Command::Board(arguments) => &arguments.flags,
            Command::Results(arguments) => &arguments.flags,
            Command::Detect(arguments) => &arguments.flags,
        })
    }
}

/// Measures or reports, unless the output is up to date.
#[expect(clippy::needless_pass_by_value, reason = "what a stage is run with is used up by the run")]
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Report(arguments) => report::report(arguments),
        Command::Theft(arguments) => theft::theft(arguments),
        Command::Prove(arguments) => prove::prove(arguments),
        Command::Board(arguments) => board::board(arguments),
        Command::Results(arguments) => results::results(arguments),
        Command::Detect(arguments) => detect::detect(arguments),
    }
}
