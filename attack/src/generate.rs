//! Query generation (Yue, He, Zeng and McAuley, RecSys 2021): the attacker makes histories from the answers. A
//! sequence starts from a random item, or from the first items of a real history where the attacker owns some; each
//! next item is chosen by a strategy ([`strategies`](crate::strategies)), until the sequence has its length, and one more
//! question is asked about the whole.
//!
//! Every prefix is asked about, those inside a real history too, so that a budget buys the same number of answers
//! however a sequence begins.
//!
//! This module sees a [`BlackBox`] and nothing behind it: ids in, ordered ids out, every question counted.

use anyhow::{Result, ensure};
use artifact::queries::QueryWriter;
use artifact::settings::Generate;
use indicatif::ProgressBar;
use rand_chacha::ChaCha8Rng;
use service::black_box::BlackBox;
use streams::below;
use streams::{Purpose, Streams};

use crate::strategies::{QueryStrategy, strategy_of};

/// Queries `target` and writes every sequence of `length` items with its answers, as many queries as items. Returns
/// the number of queries asked.
///
/// As many sequences as there are `seeds` begin with one each, spread evenly over the log; a seed holds from 1 to
/// `length` item ids. Each sequence has a random stream of its own, so that the result does not depend on `batch`, nor
/// a sequence on how others begin.
///
/// # Errors
/// Where the black box refuses a question or the log cannot be written; also for more seeds than sequences, and a seed
/// without items or longer than a sequence.
pub fn generate(
    target: &mut dyn BlackBox,
    budget: &Generate,
    length: usize,
    seeds: &[&[u32]],
    streams: &Streams,
    log: &mut QueryWriter,
    bar: &ProgressBar,
) -> Result<u64> {
    let strategy = strategy_of(budget)?;
    let items = target.items();
    ensure!(items > 0, "the target's catalogue is empty");
    ensure!(seeds.len() <= budget.sequences, "{} seeds for {} sequences", seeds.len(), budget.sequences);
    ensure!(seeds.iter().all(|seed| (1..=length).contains(&seed.len())), "a seed holds 1 to {length} items");
    bar.set_length((budget.sequences * length) as u64);
    let asked_before = target.queries();
    for first in (0..budget.sequences).step_by(budget.batch) {
        let together = first..(first + budget.batch).min(budget.sequences);
        let mut growing: Vec<Growing> = together
            .map(|index| {
                let stream = streams.open(Purpose::Generation, 0, index as u64, 0);
                match seed_of(index, budget.sequences, seeds) {
                    Some(seed) => Growing { sequence: seed.to_vec(), answers: Vec::new(), stream },
                    None => Growing::from_random_item(stream, items),
                }
            })
            .collect();
        for asked in 1..=length {
            let histories: Vec<&[u32]> = growing.iter().map(|g| &g.sequence[..asked]).collect();
            let answers = target.top_k(&histories, budget.top_k)?;
            for (sequence, list) in growing.iter_mut().zip(answers.iter()) {
                sequence.answers.extend_from_slice(list);
                // A sequence that is longer than what was asked about is still inside its seed.
                if asked < length && sequence.sequence.len() == asked {
                    sequence.grow(&*strategy, list, items);
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

/// The seed of sequence `index` of `sequences`: the sequences that have one lie at equal distances.
fn seed_of<'a>(index: usize, sequences: usize, seeds: &[&'a [u32]]) -> Option<&'a [u32]> {
    let before = |index: usize| index * seeds.len() / sequences;
    (before(index + 1) > before(index)).then(|| seeds[before(index)])
}

/// A sequence in the making.
struct Growing {
    sequence: Vec<u32>,
    answers: Vec<u32>,
    stream: ChaCha8Rng,
}

impl Growing {
    fn from_random_item(mut stream: ChaCha8Rng, items: usize) -> Self {
        Self { sequence: vec![1 + below(&mut stream, items as u32)], answers: Vec::new(), stream }
    }

    fn grow(&mut self, strategy: &dyn QueryStrategy, list: &[u32], items: usize) {
        let next = strategy.next(&self.sequence, list, items, &mut self.stream);
        self.sequence.push(next);
    }
}
