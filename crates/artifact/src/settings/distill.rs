//! Training of a surrogate.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::checks::{at_least, not_negative};

/// Settings of `gro-attack distill`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// Sequences a batch.
    pub batch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better validation NDCG@10 after which training stops.
    pub patience: usize,
    /// Epochs from one validation to the next.
    pub validate_every: usize,
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
            patience: 20,
            validate_every: 1,
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
        not_negative("distill.margin_rank", self.margin_rank)?;
        not_negative("distill.margin_negative", self.margin_negative)?;
        Ok(())
    }
}
