//! `autoregressive` (Yue, He, Zeng and McAuley, RecSys 2021): each item is drawn uniformly from the answer to those before it.

use rand_chacha::ChaCha8Rng;
use streams::below;

use super::{QueryStrategy, Strategy};

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "autoregressive",
    title: "Each item is drawn from the answer to those before it",
    section: None,
    build: |_| Ok(Box::new(Autoregressive)),
};

struct Autoregressive;

impl QueryStrategy for Autoregressive {
    fn next(&self, _: &[u32], list: &[u32], _: usize, stream: &mut ChaCha8Rng) -> u32 {
        list[below(stream, list.len() as u32) as usize]
    }
}
