//! `tail`: the first places of a list are as ranked, the others hold items drawn by the key and the history. People look at the first
//! places; a thief who learns from whole lists learns from noise.

use artifact::settings::{Invalid, Owned, Section, read_all};
use serde::{Deserialize, Serialize};
use streams::negatives::distinct_outside;

use super::{AnswerPolicy, Answering, Build, Policy, check_key};
use crate::key::Key;

/// The registry's entry.
pub(super) const POLICY: Policy = Policy {
    name: "tail",
    title: "The first places as ranked, noise behind them",
    section: Some(Section::new::<Tail>("defend", "tail")),
    build: Build::Keyed(|parameters, key, _| {
        let settings = read_all::<Tail>(parameters)?;
        check_key(&key, &settings.key)?;
        Ok(Answering::ByQuestion(Box::new(Keyed { settings, key })))
    }),
};

/// Its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tail {
    /// First places, which are left alone.
    keep: usize,
    /// Fingerprint of the key; `gro-defend` writes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
}

impl Default for Tail {
    fn default() -> Self {
        Self { keep: 10, key: String::new() }
    }
}

impl Owned for Tail {
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

struct Keyed {
    settings: Tail,
    key: Key,
}

impl AnswerPolicy for Keyed {
    fn answer(&self, history: &[u32], items: usize, list: &mut [u32]) {
        let (head, rest) = list.split_at_mut(self.settings.keep.min(list.len()));
        let noise = distinct_outside(head, items, rest.len(), &mut self.key.stream("tail", history));
        for (place, item) in rest.iter_mut().zip(noise) {
            *place = item;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_stays_and_the_rest_is_drawn_by_key_and_history() {
        let answered = |seed, history: &[u32]| {
            let mut list: Vec<u32> = (1..=40).collect();
            Keyed { settings: Tail::default(), key: Key::of_seed(seed) }.answer(history, 500, &mut list);
            list
        };
        let list = answered(1, &[7]);
        assert_eq!(list[..10], (1..=10).collect::<Vec<u32>>());
        let mut sorted = list.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 40, "each item once");
        assert_eq!(list, answered(1, &[7]));
        assert_ne!(list, answered(1, &[8]));
        assert_ne!(list, answered(2, &[7]));
    }
}
