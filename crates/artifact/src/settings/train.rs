//! Training of a target.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::checks::{at_least, number};

/// What SASRec compares a label with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// One random item outside the user's history, as in the paper: binary cross entropy.
    #[default]
    Bce,
    /// All items: cross entropy, as the other architectures have it.
    CrossEntropy,
}

/// What one training sample is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// A window of a history; SASRec and NARM learn from all its prefixes in one pass.
    #[default]
    Windows,
    /// One prefix of a history, and the item after it.
    Prefixes,
}

/// Settings of `gro-train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Sequences a batch.
    pub batch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better validation NDCG@10 after which training stops.
    pub patience: usize,
    /// Epochs from one validation to the next.
    pub validate_every: usize,
    /// What one training sample is.
    pub sampling: Sampling,
    /// Samples an epoch goes through, at most, drawn anew for each; all of them where it is not set.
    pub epoch_samples: Option<usize>,
    /// Users validated with, at most, evenly spaced; all of them where it is not set.
    pub validation_users: Option<usize>,
    /// SASRec: what a label is compared with.
    pub loss: Loss,
    /// BERT4Rec: probability that an item is masked.
    pub mask_prob: f64,
    /// BERT4Rec: masked positions a sequence, at most.
    pub max_predictions: usize,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            batch: 128,
            epochs: 200,
            patience: 20,
            validate_every: 1,
            sampling: Sampling::Windows,
            epoch_samples: None,
            validation_users: None,
            loss: Loss::Bce,
            mask_prob: 0.2,
            max_predictions: 40,
        }
    }
}

impl Train {
    /// Refuses values that no run can use.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        at_least("train.batch", self.batch, 1)?;
        at_least("train.epochs", self.epochs, 1)?;
        at_least("train.patience", self.patience, 1)?;
        at_least("train.validate_every", self.validate_every, 1)?;
        at_least("train.epoch_samples", self.epoch_samples.unwrap_or(1), 1)?;
        at_least("train.validation_users", self.validation_users.unwrap_or(1), 1)?;
        number("train.mask_prob", self.mask_prob, "more than 0 and at most 1", |p| 0.0 < p && p <= 1.0)?;
        at_least("train.max_predictions", self.max_predictions, 1)?;
        Ok(())
    }
}
