//! `short`: lists of at most a given length, shorter for a young account, growing with it. A thief who opens many accounts of few questions
//! each is shown little, and whoever wants long lists has to stay. What is shown is the head of the true list.
//!
//! How long a list may be is a function of the history's length alone, and doubles every so often, so that lists of one log have few
//! different lengths.

use artifact::settings::checks::at_least;
use artifact::settings::{Invalid, Owned, Section, read_all};
use serde::{Deserialize, Serialize};

use super::{AnswerPolicy, Answering, Build, NOTHING, Policy};

/// The registry's entry.
pub(super) const POLICY: Policy = Policy {
    name: "short",
    title: "Short lists for young accounts, which grow with them",
    section: Some(Section::new::<Short>("defend", "short")),
    build: Build::Open(|parameters| Ok(Answering::ByQuestion(Box::new(read_all::<Short>(parameters)?)))),
};

/// The policy, which is its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Short {
    /// Length of the lists of a new account, at most.
    first: usize,
    /// Items taken after which lists may be twice as long.
    doubles: usize,
    /// Length of any list, at most.
    longest: usize,
}

impl Default for Short {
    fn default() -> Self {
        Self { first: 10, doubles: 10, longest: 100 }
    }
}

impl Owned for Short {
    fn check(&self) -> Result<(), Invalid> {
        // Two items have an order, from which a copy can learn at all.
        at_least("defend.short.first", self.first, 2)?;
        at_least("defend.short.doubles", self.doubles, 1)?;
        at_least("defend.short.longest", self.longest, self.first)
    }
}

impl Short {
    /// How long a list may be after a history of so many items, of which the first is no take.
    fn length(&self, items: usize) -> usize {
        let doublings = (items.saturating_sub(1) / self.doubles).min(usize::BITS as usize - 1) as u32;
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

impl AnswerPolicy for Short {
    fn answer(&self, history: &[u32], _: usize, list: &mut [u32]) {
        let length = self.length(history.len()).min(list.len());
        list[length..].fill(NOTHING);
    }

    fn longest(&self) -> Option<usize> {
        Some(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_the_head_of_the_true_one_and_double_with_the_account() {
        let policy = Short::default();
        let ranked: Vec<u32> = (1..=100).collect();
        for (items, length) in
            [(1, 10), (10, 10), (11, 20), (20, 20), (21, 40), (31, 80), (41, 100), (9999, 100)]
        {
            let mut list = ranked.clone();
            policy.answer(&vec![7; items], 500, &mut list);
            assert_eq!(list[..length], ranked[..length], "after {items} items");
            assert!(list[length..].iter().all(|&item| item == NOTHING), "after {items} items");
        }
        let mut list = ranked[..5].to_vec();
        policy.answer(&[7], 500, &mut list);
        assert_eq!(list, ranked[..5], "who asks for less than that gets it");
    }

    #[test]
    fn settings_that_no_list_can_have_are_refused() {
        for (short, key) in [
            (Short { first: 1, ..Short::default() }, "defend.short.first"),
            (Short { doubles: 0, ..Short::default() }, "defend.short.doubles"),
            (Short { longest: 9, ..Short::default() }, "defend.short.longest"),
        ] {
            assert!(short.check().unwrap_err().to_string().contains(key));
        }
    }
}
