//! Models with fresh weights, and learners to be stepped.

use anyhow::Result;
use artifact::settings::{Model, Network, Optimizer};
use candle_core::Device;
use models::{Architecture, Parameters, Recommender, Sizes};
use streams::{Purpose, Streams};
use training::Learner;
use training::Trainee;

use crate::{Iteration, SEED};

/// Where the works run: what `GRO_DEVICE` names, or the first GPU of a build with the `cuda` feature, else the CPU.
///
/// # Errors
/// Those of the device.
pub fn device() -> Result<Device> {
    Ok(models::device(std::env::var("GRO_DEVICE").as_deref().unwrap_or("auto").parse()?)?)
}

/// The default network, two blocks of hidden 64 with two heads, for inputs of `max_len` items.
pub fn sizes(max_len: usize, items: usize) -> Sizes {
    Sizes { items, network: Network { max_len, ..Model::default().network } }
}

/// Fresh weights.
///
/// # Errors
/// Those of the device.
pub fn weights(architecture: Architecture, sizes: &Sizes, purpose: Purpose) -> Result<Parameters> {
    let deviation = Optimizer::default().embedding_deviation;
    let declared = (architecture.declare)(sizes);
    Ok(Parameters::initial(&declared, deviation, &Streams::new(SEED), purpose, &device()?)?)
}

/// A model to be used, not trained.
///
/// # Errors
/// Those of the device.
pub fn recommender(architecture: Architecture, sizes: &Sizes) -> Result<Box<dyn Recommender>> {
    Ok((architecture.build)(sizes, &weights(architecture, sizes, Purpose::TargetWeights)?.detached())?)
}

/// A model to be trained.
///
/// # Errors
/// Those of the device.
pub fn trainee(architecture: Architecture, sizes: &Sizes, purpose: Purpose) -> Result<Trainee> {
    let weights = weights(architecture, sizes, purpose)?;
    Ok(Trainee::new(architecture, sizes, weights, &Optimizer::default())?)
}

/// The steps of a learner, one an iteration, epoch after epoch. The batches of an epoch differ, so that several
/// iterations see what an epoch is made of; the last, smaller one does not move a median.
pub fn steps(mut learner: impl Learner + Send + 'static) -> Iteration {
    let (mut epoch, mut step) = (1, 0);
    Box::new(move || {
        for loss in learner.step(epoch, step)? {
            // A GPU may still be at work; to have the number is to wait for it.
            anyhow::ensure!(loss.to_scalar::<f32>()?.is_finite(), "a loss is no finite number");
        }
        step += 1;
        if step == learner.steps() {
            (epoch, step) = (epoch + 1, 0);
        }
        Ok(())
    })
}
