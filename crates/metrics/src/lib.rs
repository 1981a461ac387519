//! Everything that happens to an ordered list once a model has produced it.
//!
//! Selecting the top k of a score row, finding the rank of the item a user really chose, turning ranks into HR@K, NDCG@K
//! and MRR, measuring how closely a surrogate repeats its target's lists, and putting a 95 % interval around every mean.
//! The crate takes slices and gives numbers: it knows neither tensors nor files, so that training (validation NDCG), the
//! attack (validation on answered lists) and evaluation all count in exactly the same way.
//!
//! Conventions, the same in every function:
//! - item ids start at 1; the score of item `id` stands at place `id - 1` of a row;
//! - a *list* holds ids, best first; among equal scores the lower id comes first;
//! - a *rank* starts at 1 and counts ties against the model; `None` is a miss: the item is not in the answered list;
//! - a score that is not a number is worse than any other, and counts against the model where it competes.

mod answers;
mod bootstrap;
mod error;
mod fidelity;
mod negatives;
mod quality;
mod selection;

pub use answers::Answers;
pub use bootstrap::{Bootstrap, Interval, paired_difference};
pub use error::Error;
pub use fidelity::{agreement, exact_match, kl_divergence, kl_over_top, rank_biased_overlap};
pub use negatives::Negatives;
pub use quality::{hit, mean, ndcg, place_in, reciprocal};
pub use selection::{Selection, rank_of, rank_of_unseen, top_k};
