//! A model in training: its weights, their optimizer, and the model over them twice, with gradients to learn and
//! without to be measured. A target, a student and a surrogate are all of this kind.

use artifact::checkpoint::Architecture;
use artifact::settings::Optimizer;

use crate::optimizer::AdamW;
use crate::{Parameters, Recommender, Result, Sizes, build};

/// A model in training.
pub struct Trainee {
    /// Weights.
    pub parameters: Parameters,
    /// Their optimizer.
    pub optimizer: AdamW,
    /// The model over the weights, with gradients.
    pub model: Box<dyn Recommender>,
    /// The model over the same weights without gradients; it follows every step.
    pub frozen: Box<dyn Recommender>,
}

impl Trainee {
    /// Takes weights into training.
    pub fn new(
        architecture: Architecture,
        sizes: &Sizes,
        parameters: Parameters,
        optimizer: &Optimizer,
    ) -> Result<Self> {
        Ok(Self {
            optimizer: AdamW::new(&parameters, optimizer.clone())?,
            model: build(architecture, sizes, &parameters.trainable())?,
            frozen: build(architecture, sizes, &parameters.frozen())?,
            parameters,
        })
    }
}
