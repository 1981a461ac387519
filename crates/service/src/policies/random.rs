//! `random`: a list is answered in an order that is drawn for its history. The shuffle is keyed by the seed and the history,
//! not by the order of the queries, so that a repeated question tells nothing new.

use artifact::settings::{Invalid, Owned, Section, read_all};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use streams::{Purpose, scramble, shuffle};

use super::{AnswerPolicy, Answering, Build, Policy};

/// The registry's entry.
pub(super) const POLICY: Policy = Policy {
    name: "random",
    title: "Answers every query with its list shuffled",
    section: Some(Section::new::<Random>("defend", "random").read_flat()),
    build: Build::Open(|parameters| Ok(Answering::ByQuestion(Box::new(read_all::<Random>(parameters)?)))),
};

/// The policy, which is its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Random {
    /// Seed of the shuffles.
    answer_seed: u64,
}

impl Default for Random {
    fn default() -> Self {
        Self { answer_seed: 1 }
    }
}

impl Owned for Random {
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

impl AnswerPolicy for Random {
    fn answer(&self, history: &[u32], _: usize, list: &mut [u32]) {
        let mut hash = Hash(self.answer_seed);
        for &item in history {
            hash.mix(u64::from(item));
        }
        let mut key = [0u8; 32];
        let words = [self.answer_seed, Purpose::Answers as u64, hash.0, history.len() as u64];
        for (slot, word) in key.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        shuffle(list, &mut ChaCha8Rng::from_seed(key));
    }
}

/// A hash of a history (SplitMix64 at each item): it need not resist an adversary who sees shuffled lists only.
struct Hash(u64);

impl Hash {
    fn mix(&mut self, word: u64) {
        self.0 = scramble(self.0.wrapping_add(word));
    }
}
