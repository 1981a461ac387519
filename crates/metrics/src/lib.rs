//! Everything that happens to an ordered list once a model has produced it.
//!
//! Where the item that a user really chose stands in it, what that is worth (HR@K, NDCG@K, MRR), how closely a surrogate
//! repeats its target's lists and scores (agreement, exact match, rank-biased overlap, KL divergence), and a 95 % interval
//! around every mean. The crate takes slices and gives numbers: it knows neither tensors nor files, so that training
//! (validation NDCG), the attack (validation on answered lists) and evaluation all count in exactly the same way.
//!
//! Conventions, the same in every function:
//! - item ids start at 1; the score of item `id` stands at place `id - 1` of a row;
//! - a *list* holds ids, best first; among equal scores the lower id comes first;
//! - a *rank* starts at 1 and counts ties against the model; `None` is a miss: the item is not in the answered list;
//! - a score that is not a number is worse than any other, and counts against the model where it is ranked against.
//!
//! # Another metric
//!
//! Write its function, of one user, into the file of its family ([`quality`] or [`fidelity`]; a family of its own gets a file),
//! its [`Metric`] beside it, and a line in [`METRICS`]. Evaluation then measures it at every K of the settings, with an
//! interval; `metrics.json`, `ranks.parquet`, the tables, the legend and, if it is [drawn](Metric::drawn), the chart have
//! it. Nothing else has to be told; runs that were evaluated before have to be evaluated again, with `--force`, to be
//! reported on. Precision@K, for example, whose one relevant item is one of the K that are shown:
//!
//! ```
//! use metrics::{Better, Compares, Cut, Metric, quality};
//!
//! const PRECISION: Metric = Metric {
//!     name: "Precision",
//!     title: "precision",
//!     meaning: "share of the first K items that are relevant",
//!     compares: Compares::Rank(|rank, k| quality::hit(rank, k) / k as f64),
//!     cut: Cut::AtK { shown: &[10] },
//!     better: Better::Higher,
//!     drawn: false,
//! };
//! ```
//!
//! A metric compares what [`Compares`] names. One that needs something else of a user (how popular the listed items are,
//! which share of a genre they cover) adds a variant there, a sister of [`of_lists`] that collects its columns, and the
//! place in `evaluate`'s measurement that hands over what it needs. A figure that is no mean over users, such as the
//! share of the catalogue that all lists together cover, is not a metric of this registry: there is nothing to resample.

mod answers;
mod comparison;
mod error;
pub mod fidelity;
mod intervals;
mod metric;
pub mod quality;
mod ranks;
mod roc;
mod sample;

use artifact::names::Registry;
pub use artifact::queries::{NOTHING, listed};

pub use answers::Answers;
pub use comparison::{Comparison, LEVEL, POWER, holm};
pub use error::Error;
pub use fidelity::{agreement, exact_match, kl_divergence, rank_biased_overlap};
pub use intervals::{Bootstrap, Interval, mean, paired_difference};
pub use metric::{
    Better, Compares, Cut, Ks, Measure, Metric, OfLists, OfRank, OfScores, of_lists, of_ranks, of_scores,
};
pub use quality::{hit, ndcg, reciprocal};
pub use ranks::{place_in, rank_of, rank_of_unseen, top_k};
pub use roc::{RocPoint, area, roc, threshold};
pub use sample::Sample;

/// Every metric, in the order of tables and files: a function in the file of its family, and a line here.
pub const METRICS: Registry<Metric> = Registry {
    kind: "metric",
    entries: &[
        quality::HR,
        quality::NDCG,
        quality::MRR,
        fidelity::AGR,
        fidelity::EM,
        fidelity::RBO,
        fidelity::KL,
    ],
};
