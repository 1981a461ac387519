//! What a service's model answers by itself: batches of 256 questions about histories of any length, as `gro-serve` asks them when it is busy. No
//! service answers more; `bench/service.py` says how near it comes.

use anyhow::Result;
use artifact::checkpoint::Kind;
use models::{ARCHITECTURES, Architecture, gru4rec};
use service::black_box::{BlackBox, ProtectedTarget};
use streams::{Purpose, Streams, below};

use crate::{ITEMS, Iteration, SEED, Work, learners};

/// Questions of a batch.
const TOGETHER: usize = 256;

/// Longest history.
const LONGEST: usize = 50;

/// A question to each architecture, for lists of ten and of a hundred.
pub fn works() -> Vec<Work> {
    let work = |(architecture, k): (Architecture, usize)| {
        let shape = format!("histories of 1 to {LONGEST}, k {k}, {TOGETHER} together, {ITEMS} items");
        Work::new("service", format!("answer question {architecture}"), shape, move || {
            questions(architecture, k)
        })
        .scaled(1.0 / TOGETHER as f64)
    };
    let each = |architecture: &Architecture| [(*architecture, 10), (*architecture, 100)];
    ARCHITECTURES.entries.iter().flat_map(each).map(work).collect()
}

fn questions(architecture: Architecture, k: usize) -> Result<Iteration> {
    let mut sizes = learners::sizes(LONGEST, ITEMS);
    if architecture == gru4rec::ARCHITECTURE {
        // As in pipelines/gru.yaml.
        sizes.network.blocks = 1;
    }
    let description = sizes.describe(Kind::Target, architecture, "");
    let mut model = learners::recommender(architecture, &sizes)?;
    // As a loaded one is.
    model.freeze()?;
    let mut target = ProtectedTarget::new(model.into(), &description, None, learners::device()?)?;
    let mut stream = Streams::new(SEED).open(Purpose::Generation, 0, 0, 0);
    let histories: Vec<Vec<u32>> = (0..TOGETHER)
        .map(|_| {
            (0..=below(&mut stream, LONGEST as u32 - 1))
                .map(|_| 1 + below(&mut stream, ITEMS as u32))
                .collect()
        })
        .collect();
    Ok(Box::new(move || {
        let histories: Vec<&[u32]> = histories.iter().map(Vec::as_slice).collect();
        target.top_k(&histories, k)?;
        Ok(())
    }))
}
