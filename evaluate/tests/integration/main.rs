//! `gro-evaluate` as a user runs it: arguments in; files, stdout, messages and an exit code out.

// The board: reports of anyone, the order of defences, refusals.
mod board;
// Proofs of theft: the guilty, the innocent, refusals.
mod prove;
// Detection: a guarded target, thieves, refusals.
mod detect;
// The report as a page: its chapters, what it refuses, and how a browser shows it.
mod page;
// The report: tables, order, paired differences, refusals.
mod report;
// A dataset, models and evaluated runs made by hand, and the binary that meets them.
mod scene;
// The page of results: who wins, what is kept, refusals.
mod results;
// The measurement: full ranks, answer policies, fidelity, refusals.
mod run;
// Theft curves: shares of the target, the best at one price, refusals.
mod theft;
