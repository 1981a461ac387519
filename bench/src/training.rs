//! Training of a target: batches of 128 windows of MovieLens-100K's histories, ragged as they are.

use anyhow::Result;
use artifact::checkpoint::Architecture;
use artifact::dataset::Dataset;
use artifact::settings::{Loss, Optimizer, Train};
use recommender::Streams;
use recommender::windows::{Samples, windows};
use train::gold::Gold;

use crate::{ITEMS, Iteration, SEED, Work, histories, models};

/// Longest input.
const LENGTH: usize = 200;

/// Optimizer steps of the transformers, and an epoch of NARM, which takes all prefixes of a window in one pass.
///
/// # Errors
/// Where the dataset cannot be made.
pub fn works() -> Result<Vec<Work>> {
    let losses = [
        (Architecture::Bert, Loss::CrossEntropy, "training step bert"),
        (Architecture::Sas, Loss::Bce, "training step sas"),
        (Architecture::Sas, Loss::CrossEntropy, "training step sas, cross entropy"),
    ];
    let batch = Train::default().batch;
    let shape = format!("batch {batch}, length {LENGTH}, {ITEMS} items");
    let step = move |architecture, loss| {
        let train = Train { loss, ..Train::default() };
        move || steps(architecture, LENGTH, histories::movielens_100k()?, &train)
    };
    let mut works = Vec::from(
        losses
            .map(|(architecture, loss, name)| Work::new("training", name, &shape, step(architecture, loss))),
    );
    let shape = format!("every prefix, {} users, {ITEMS} items", histories::USERS);
    let epoch =
        Work::new("training", "training epoch narm", shape, step(Architecture::Narm, Loss::CrossEntropy));
    works.push(epoch.scaled(batches_an_epoch()?));
    Ok(works)
}

/// Batches in an epoch, the last one counted as the part of a batch that it is.
fn batches_an_epoch() -> Result<f64> {
    let dataset = histories::movielens_100k()?;
    let lengths = (0..dataset.users()).map(|user| dataset.train(user).len());
    Ok(windows(lengths, LENGTH).len() as f64 / Train::default().batch as f64)
}

/// Optimizer steps of a target on `dataset`.
///
/// # Errors
/// For a dataset without anything to predict.
pub fn steps(
    architecture: Architecture,
    max_len: usize,
    dataset: &'static Dataset,
    train: &Train,
) -> Result<Iteration> {
    let sizes = models::sizes(max_len, dataset.items());
    let streams = Streams::new(SEED);
    let samples = Samples::new(dataset, max_len, train.batch, train, streams)?;
    let (optimizer, device) = (Optimizer::default(), models::device()?);
    Ok(models::steps(Gold::new(architecture, &sizes, dataset, samples, &optimizer, streams, &device)?))
}
