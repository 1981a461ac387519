//! Training of a target: batches of 128 windows of MovieLens-100K's histories, ragged as they are.

use anyhow::Result;
use artifact::checkpoint::Architecture;
use artifact::dataset::Dataset;
use artifact::settings::{Loss, Optimizer, Train};
use streams::Streams;
use train::gold::Gold;
use training::samples::{Samples, windows};

use crate::arithmetic::{self, THERE_AND_BACK};
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
    let lengths = window_lengths()?;
    let windows = lengths.len() as f64;
    let mut works = Vec::from(losses.map(|(architecture, loss, name)| {
        let bert = architecture == Architecture::Bert;
        let of_row = |length: &f64| {
            // The share that is masked on average; the others learn at every place.
            let picked = if bert { Train::default().mask_prob * length } else { *length };
            let ranked = match loss {
                Loss::CrossEntropy => ITEMS,
                Loss::Bce => 2,
            };
            arithmetic::transformer(*length, picked, bert) + arithmetic::scores(picked, ranked)
        };
        let row = lengths.iter().map(of_row).sum::<f64>() / windows;
        Work::new("training", name, &shape, step(architecture, loss))
            .arithmetic(THERE_AND_BACK * batch as f64 * row)
    }));
    let shape = format!("every prefix, {} users, {ITEMS} items", histories::USERS);
    let epoch =
        Work::new("training", "training epoch narm", shape, step(Architecture::Narm, Loss::CrossEntropy));
    let of_row = |length: &f64| arithmetic::narm(*length) + arithmetic::scores(*length, ITEMS);
    // Batches in an epoch, the last one counted as the part of a batch that it is.
    let epoch = epoch.scaled(windows / batch as f64);
    works.push(epoch.arithmetic(THERE_AND_BACK * lengths.iter().map(of_row).sum::<f64>()));
    Ok(works)
}

/// The lengths of an epoch's windows.
fn window_lengths() -> Result<Vec<f64>> {
    let dataset = histories::movielens_100k()?;
    let lengths = (0..dataset.users()).map(|user| dataset.train(user).len());
    Ok(windows(lengths, LENGTH).iter().map(|window| window.range.len() as f64).collect())
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
