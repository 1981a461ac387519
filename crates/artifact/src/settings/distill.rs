//! Training of a surrogate.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::checks::{at_least, not_negative, share};

/// What decides which epoch is kept, and when training stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeepBy {
    /// NDCG@10 of the item answered first to each held-out question.
    #[default]
    #[serde(rename = "ndcg@10")]
    Ndcg,
    /// Share of the first ten items answered to each held-out question that are among the copy's first ten.
    #[serde(rename = "agr@10")]
    Agreement,
}

/// Settings of `gro-attack distill`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// Sequences a batch.
    pub batch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Questions that an epoch learns from at least: a log, or the part of it that is learned from, with fewer is gone through several
    /// times.
    pub epoch_questions: usize,
    /// Epochs without a better validation after which training stops.
    pub patience: usize,
    /// Epochs from one validation to the next.
    pub validate_every: usize,
    /// What a validation on held-out questions goes by.
    pub keep_by: KeepBy,
    /// Questions to learn from, the first of the log; `null` for all.
    pub budget: Option<usize>,
    /// What the thief suspects of the answers, by its name.
    pub suspicion: String,
    /// Share of a list that a close history's must hold for the suspicion of `decoys` to believe it, 0 to 1.
    pub least_overlap: f64,
    /// What is learned from a list, by its name.
    pub loss: String,
    /// Items outside a list that it is compared with; `null` for as many as it holds.
    pub negatives: Option<usize>,
    /// Share of these that come from the copy's own top instead of the whole catalogue, 0 to 1.
    pub own_top: f64,
    /// How fast the weights of the `softmax` loss fall: place i weighs 1 / i to this power.
    pub fall: f64,
    /// Margin between neighbours in the ranking loss.
    pub margin_rank: f64,
    /// Margin over negatives in the ranking loss.
    pub margin_negative: f64,
}

impl Default for Distill {
    fn default() -> Self {
        Self {
            batch: 128,
            epochs: 200,
            epoch_questions: 0,
            patience: 20,
            validate_every: 1,
            keep_by: KeepBy::default(),
            budget: None,
            suspicion: "none".to_owned(),
            least_overlap: 0.2,
            loss: "hinge".to_owned(),
            negatives: None,
            own_top: 0.0,
            fall: 1.0,
            margin_rank: 0.5,
            margin_negative: 0.5,
        }
    }
}

impl Distill {
    /// Refuses values that no run can use.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        at_least("distill.batch", self.batch, 1)?;
        at_least("distill.epochs", self.epochs, 1)?;
        at_least("distill.patience", self.patience, 1)?;
        at_least("distill.validate_every", self.validate_every, 1)?;
        at_least("distill.budget", self.budget.unwrap_or(1), 1)?;
        at_least("distill.negatives", self.negatives.unwrap_or(1), 1)?;
        share("distill.least_overlap", self.least_overlap)?;
        share("distill.own_top", self.own_top)?;
        not_negative("distill.fall", self.fall)?;
        not_negative("distill.margin_rank", self.margin_rank)?;
        not_negative("distill.margin_negative", self.margin_negative)?;
        Ok(())
    }
}
