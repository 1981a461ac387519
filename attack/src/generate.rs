//! Data-free query generation (Yue, He, Zeng and McAuley, RecSys 2021): the attacker owns no histories and makes
//! them from the answers. A sequence starts from a random item; each next item is drawn from the list answered
//! to what there is so far, until the sequence has its length, and one more question is asked about the whole.
//!
//! This module sees a [`BlackBox`] and nothing behind it: ids in, ordered ids out, every question counted.

use anyhow::{Result, ensure};
use artifact::queries::QueryWriter;
use artifact::settings::{Generate, Strategy};
use indicatif::ProgressBar;
use rand_chacha::ChaCha8Rng;
use recommender::black_box::BlackBox;
use recommender::streams::below;
use recommender::{Purpose, Streams};

/// Queries `target` and writes every sequence of `length` items with its answers, as many queries as items. Each sequence has a random stream of its own,
/// so that the result does not depend on `batch`. Returns the number of queries asked.
pub fn generate(
    target: &mut dyn BlackBox,
    budget: &Generate,
    length: usize,
    streams: &Streams,
    log: &mut QueryWriter,
    bar: &ProgressBar,
) -> Result<u64> {
    let items = target.items();
    ensure!(items > 0, "the target's catalogue is empty");
    bar.set_length((budget.sequences * length) as u64);
    let asked_before = target.queries();
    for first in (0..budget.sequences).step_by(budget.batch) {
        let together = first..(first + budget.batch).min(budget.sequences);
        let mut growing: Vec<Growing> = together
            .map(|index| {
                Growing::new(
                    streams.open(Purpose::Generation, 0, index as u64, 0),
                    items,
                    length,
                    budget.top_k,
                )
            })
            .collect();
        for step in 0..length {
            let histories: Vec<&[u32]> = growing.iter().map(|g| g.sequence.as_slice()).collect();
            let answers = target.top_k(&histories, budget.top_k)?;
            let last = step + 1 == length;
            for (sequence, list) in growing.iter_mut().zip(answers.iter()) {
                sequence.answers.extend_from_slice(list);
                if !last {
                    sequence.grow(list, items, budget.strategy);
                }
            }
            bar.inc(growing.len() as u64);
        }
        for Growing { sequence, answers, .. } in &growing {
            log.push(sequence, answers)?;
        }
    }
    bar.finish_and_clear();
    Ok(target.queries() - asked_before)
}

/// A sequence in the making.
struct Growing {
    sequence: Vec<u32>,
    answers: Vec<u32>,
    stream: ChaCha8Rng,
}

impl Growing {
    fn new(mut stream: ChaCha8Rng, items: usize, length: usize, top_k: usize) -> Self {
        let mut sequence = Vec::with_capacity(length);
        sequence.push(1 + below(&mut stream, items as u32));
        Self { sequence, answers: Vec::with_capacity(length * top_k), stream }
    }

    fn grow(&mut self, list: &[u32], items: usize, strategy: Strategy) {
        self.sequence.push(match strategy {
            Strategy::Autoregressive => list[below(&mut self.stream, list.len() as u32) as usize],
            Strategy::Random => 1 + below(&mut self.stream, items as u32),
        });
    }
}
