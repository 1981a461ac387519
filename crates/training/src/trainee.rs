//! A model in training: its weights, their optimizer, and the model over them twice, with gradients to learn and
//! without to be measured. A target, a student and a surrogate are all of this kind.

use artifact::settings::{Optimizer, Precision};
use models::{Architecture, Mode, Parameters, Recommender, Sizes};
use streams::DropoutKeys;

use crate::optimizer::AdamW;
use crate::{Error, Result};

/// A model in training.
pub struct Trainee {
    /// Weights.
    pub parameters: Parameters,
    /// Their optimizer.
    pub optimizer: AdamW,
    /// The model over the weights, with gradients.
    pub model: Box<dyn Recommender>,
    /// The model over the same weights without gradients; it follows every step.
    pub detached: Box<dyn Recommender>,
    precision: Precision,
}

impl Trainee {
    /// Takes weights into training.
    ///
    /// # Errors
    /// [`Error::Request`] for bf16 where the fused operations compute: they know f32 only.
    pub fn new(
        architecture: Architecture,
        sizes: &Sizes,
        parameters: Parameters,
        optimizer: &Optimizer,
    ) -> Result<Self> {
        if optimizer.precision == Precision::Bf16 && kernels::fused(&parameters.device()) {
            return Err(Error::Request(
                "optimizer.precision is bf16, which is for GPUs; leave it at f32 on the CPU, or try it there with \
                 --kernels plain"
                    .to_owned(),
            ));
        }
        Ok(Self {
            precision: optimizer.precision,
            optimizer: AdamW::new(&parameters, optimizer.clone())?,
            model: (architecture.build)(sizes, &parameters.trainable())?,
            detached: (architecture.build)(sizes, &parameters.detached())?,
            parameters,
        })
    }

    /// The mode in which its model learns, with dropout masks from these keys.
    pub fn mode(&self, dropout: DropoutKeys) -> Mode {
        Mode::Train(dropout, self.precision)
    }
}
