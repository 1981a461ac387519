//! `random`: each item is drawn uniformly from the whole catalogue, whatever was answered.

use rand_chacha::ChaCha8Rng;
use streams::below;

use super::{QueryStrategy, Strategy};

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "random",
    title: "Each item is drawn from the whole catalogue",
    section: None,
    build: |_| Ok(Box::new(Random)),
};

struct Random;

impl QueryStrategy for Random {
    fn next(&self, _: &[u32], _: &[u32], items: usize, stream: &mut ChaCha8Rng) -> u32 {
        1 + below(stream, items as u32)
    }
}
