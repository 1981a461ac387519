//! GRO: a step of a BERT4Rec target and its BERT4Rec student, on rows of full length.

use anyhow::Result;
use artifact::settings::Train;
use defend::methods::gro::{Gro, Settings};
use models::bert4rec;
use streams::{Purpose, Streams};
use training::samples::Samples;

use crate::arithmetic::{self, FORWARD_AND_BACKWARD};
use crate::{ITEMS, Iteration, SEED, TOP_K, Work, histories, learners};

/// Items of a row.
const LENGTH: usize = 200;

/// Rows of a batch.
const BATCH: usize = 24;

/// Steps at the catalogues of MovieLens-100K, 1M and 20M, and at a million items.
pub fn works() -> Vec<Work> {
    [(40, ITEMS), (40, 3416), (20, 26_744), (20, 1_000_000)]
        .map(|(positions, items)| work("gro", positions, items))
        .into_iter()
        .collect()
}

/// A step that compares lists at `positions` places of each row.
pub fn work(subject: &'static str, positions: usize, items: usize) -> Work {
    let (rows, asked) = (BATCH as f64, (BATCH * positions) as f64);
    // Target and student learn; the target's own loss ranks all items, its lists and the student's extremes once more each.
    let encoders = 2.0
        * FORWARD_AND_BACKWARD
        * rows
        * arithmetic::encoder(bert4rec::ARCHITECTURE, LENGTH as f64, positions as f64);
    let rankings = (FORWARD_AND_BACKWARD + 2.0) * arithmetic::scores(asked, items);
    let shape = format!("{} positions, length {LENGTH}, {items} items", BATCH * positions);
    Work::new(subject, "gro step bert", shape, move || steps(positions, items))
        .arithmetic(encoders + rankings + 2.0 * arithmetic::lists(asked))
}

fn steps(positions: usize, items: usize) -> Result<Iteration> {
    let dataset = histories::of_length(LENGTH, 4 * BATCH, items)?;
    let sizes = learners::sizes(LENGTH, items);
    let streams = Streams::new(SEED);
    // So likely that hardly a row has fewer than the most it may have.
    let train = Train { mask_prob: 0.3, max_predictions: positions, ..Train::default() };
    Ok(learners::steps(Gro {
        target: learners::trainee(bert4rec::ARCHITECTURE, &sizes, Purpose::TargetWeights)?,
        student: learners::trainee(bert4rec::ARCHITECTURE, &sizes, Purpose::StudentWeights)?,
        samples: Samples::new(dataset, LENGTH, BATCH, &train, streams)?,
        dataset,
        settings: Settings { positions_per_sequence: positions, top_k: TOP_K, ..Settings::default() },
        streams,
        device: learners::device()?,
    }))
}
