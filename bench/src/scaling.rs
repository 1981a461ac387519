//! How costs grow: with the items of the catalogue, the length of the rows, and the threads.
//!
//! - Items: 24 rows of 200 with 20 positions each, so that what is done with the catalogue stands out. GRO's step over a
//!   million items is among the works of [`crate::gro`].
//! - Length: 25,600 tokens whatever the length of a row, with a fifth of them labels for BERT4Rec and all of them for
//!   the others, so that only what is done between the tokens of a row can grow.
//! - Threads: powers of two, below the number of threads that all other works run on.

use anyhow::Result;
use artifact::settings::{Loss, Train};
use models::{ARCHITECTURES, Architecture, bert4rec};

use crate::{ITEMS, Work, generation, gro, histories, ranking, training};

/// Rows, their length, and positions looked at in each, where items grow.
const BATCH: usize = 24;
const LENGTH: usize = 200;
const POSITIONS: usize = 20;

/// Tokens of a batch where length grows.
const TOKENS: usize = 25_600;

/// All three.
///
/// # Errors
/// Where the dataset cannot be made.
pub fn works() -> Result<Vec<Work>> {
    let mut works = Vec::new();
    for items in [1000, 10_000, 100_000, 1_000_000] {
        works.push(step(bert4rec::ARCHITECTURE, LENGTH, BATCH, POSITIONS, items));
        if items < 1_000_000 {
            works.push(gro::work("scaling", POSITIONS, items));
        }
        works.push(ranking::work("scaling", BATCH * POSITIONS, items));
    }
    for &architecture in ARCHITECTURES.entries {
        for length in [50, 100, 200, 400, 800] {
            works.push(step(architecture, length, TOKENS / length, length / 5, ITEMS));
        }
    }
    let all = rayon::current_num_threads();
    for threads in (0..usize::BITS).map(|power| 1 << power).take_while(|&threads| threads < all) {
        let subjects = [training::works()?, gro::works(), generation::works()];
        // The first shape of each subject.
        works.extend(subjects.into_iter().filter_map(|works| works.into_iter().next()).map(|work| {
            let work = work.on_threads(threads);
            Work { subject: "scaling", ..work }
        }));
    }
    Ok(works)
}

/// A training step on rows that all have `length` items; for BERT4Rec, `labels` of them hidden.
fn step(architecture: Architecture, length: usize, batch: usize, labels: usize, items: usize) -> Work {
    let shape = format!("batch {batch}, full length {length}, {items} items");
    // Hidden so likely that hardly a row has fewer labels than the most it may have.
    let train = Train {
        batch,
        loss: Loss::CrossEntropy,
        mask_prob: 0.3,
        max_predictions: labels,
        ..Train::default()
    };
    Work::new("scaling", format!("training step {architecture}"), shape, move || {
        training::steps(architecture, length, histories::of_length(length, 4 * batch, items)?, &train)
    })
}
