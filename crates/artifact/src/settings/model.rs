//! The network of a target, and of a surrogate where the command line does not name another.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::checks::{at_least, at_most, probability};

/// Settings of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Which network: a name in the registry of architectures.
    pub architecture: String,
    /// Its sizes.
    #[serde(flatten)]
    pub network: Network,
}

/// Sizes of a network, beside the number of items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Width of the hidden state, H; `heads` divides it.
    pub hidden: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Longest input, L. A surrogate that has an embedding for each place looks back no further than its thief has asked.
    pub max_len: usize,
    /// Dropout probability in training.
    pub dropout: f64,
    /// Dropout probability on attention weights in training.
    pub attention_dropout: f64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            architecture: "bert".to_owned(),
            network: Network {
                hidden: 64,
                blocks: 2,
                heads: 2,
                max_len: 200,
                dropout: 0.1,
                attention_dropout: 0.1,
            },
        }
    }
}

impl Model {
    /// Refuses values that no run can use.
    ///
    /// # Errors
    /// The first such value, with its key and what was expected.
    pub fn check(&self) -> Result<(), Invalid> {
        at_least("model.hidden", self.network.hidden, 1)?;
        at_least("model.blocks", self.network.blocks, 1)?;
        // Each is a level of the recursion that finds gradients, and nobody has trained as many.
        at_most("model.blocks", self.network.blocks, 1000)?;
        at_least("model.heads", self.network.heads, 1)?;
        at_least("model.max_len", self.network.max_len, 2)?;
        if !self.network.hidden.is_multiple_of(self.network.heads) {
            return Err(Invalid::new(format!(
                "`model.heads` is {}, expected a divisor of `model.hidden`, {}",
                self.network.heads, self.network.hidden
            )));
        }
        probability("model.dropout", self.network.dropout)?;
        probability("model.attention_dropout", self.network.attention_dropout)?;
        Ok(())
    }
}
