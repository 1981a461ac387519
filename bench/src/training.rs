//! Training of a target: batches of 128 windows of MovieLens-100K's histories, ragged as they are.

use anyhow::Result;
use artifact::dataset::Dataset;
use artifact::settings::{Loss, Train};
use models::{Architecture, bert4rec, narm, sasrec};
use streams::{Purpose, Streams};
use train::gold::Gold;
use training::samples::{Samples, windows};

use crate::arithmetic::{self, FORWARD_AND_BACKWARD};
use crate::{ITEMS, Iteration, SEED, Work, histories, learners};

/// Longest input.
const LENGTH: usize = 200;

/// Optimizer steps of the transformers, and an epoch of NARM, which takes all prefixes of a window in one pass.
///
/// # Errors
/// Where the dataset cannot be made.
pub fn works() -> Result<Vec<Work>> {
    let losses = [
        (bert4rec::ARCHITECTURE, Loss::CrossEntropy, "training step bert"),
        (sasrec::ARCHITECTURE, Loss::Bce, "training step sas"),
        (sasrec::ARCHITECTURE, Loss::CrossEntropy, "training step sas, cross entropy"),
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
        let bert = architecture == bert4rec::ARCHITECTURE;
        let of_row = |length: &f64| {
            // The share that is masked on average; the others learn at every place.
            let picked = if bert { Train::default().mask_prob * length } else { *length };
            let ranked = match loss {
                Loss::CrossEntropy => ITEMS,
                Loss::Bce => 2,
            };
            arithmetic::encoder(architecture, *length, picked) + arithmetic::scores(picked, ranked)
        };
        let row = lengths.iter().map(of_row).sum::<f64>() / windows;
        Work::new("training", name, &shape, step(architecture, loss))
            .arithmetic(FORWARD_AND_BACKWARD * batch as f64 * row)
    }));
    let shape = format!("every prefix, {} users, {ITEMS} items", histories::USERS);
    let epoch =
        Work::new("training", "training epoch narm", shape, step(narm::ARCHITECTURE, Loss::CrossEntropy));
    let of_row = |length: &f64| {
        arithmetic::encoder(narm::ARCHITECTURE, *length, *length) + arithmetic::scores(*length, ITEMS)
    };
    // Batches in an epoch, the last one counted as the part of a batch that it is.
    let epoch = epoch.scaled(windows / batch as f64);
    works.push(epoch.arithmetic(FORWARD_AND_BACKWARD * lengths.iter().map(of_row).sum::<f64>()));
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
    let sizes = learners::sizes(max_len, dataset.items());
    let streams = Streams::new(SEED);
    let samples = Samples::new(dataset, max_len, train.batch, train, streams)?;
    let target = learners::trainee(architecture, &sizes, Purpose::TargetWeights)?;
    Ok(learners::steps(Gold::new(target, dataset, samples, streams, &learners::device()?)))
}
