//! AdamW, the same for target, student and surrogate.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::checks::{above_zero, not_negative, probability};

/// Type of the numbers between the layers of a model in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, of which 8 are exponent. Weights, moments, norms, softmax and losses stay at 32.
    Bf16,
}

/// How weights begin and move: AdamW with decoupled weight decay, and the clipping before each step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimizer {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decay of weights that are neither biases nor norms.
    pub weight_decay: f64,
    /// Largest gradient norm of each parameter tensor on its own.
    pub clip_norm: f64,
    /// BERT4Rec, SASRec: standard deviation of the embeddings at the beginning. Not a matter of the step, but of how far
    /// steps must go: with 1, as published, SASRec's scores begin far too large and take long to come down.
    pub embedding_deviation: f64,
    /// Activations in training, for GPUs: `bf16` halves their memory and multiplies faster there.
    pub precision: Precision,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-9,
            weight_decay: 0.01,
            clip_norm: 5.0,
            embedding_deviation: 1.0,
            precision: Precision::F32,
        }
    }
}

impl Optimizer {
    /// Refuses values that no run can use.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        above_zero("optimizer.learning_rate", self.learning_rate)?;
        above_zero("optimizer.embedding_deviation", self.embedding_deviation)?;
        probability("optimizer.beta1", self.beta1)?;
        probability("optimizer.beta2", self.beta2)?;
        above_zero("optimizer.epsilon", self.epsilon)?;
        not_negative("optimizer.weight_decay", self.weight_decay)?;
        above_zero("optimizer.clip_norm", self.clip_norm)?;
        Ok(())
    }
}
