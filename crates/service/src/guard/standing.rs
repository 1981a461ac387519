//! Where accounts stand: what a service keeps of each between two questions, so that the next one costs a look-up. What is kept is
//! bounded; an account that was forgotten is worked out again from its history, and answered the same.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::evidence::Evidence;

/// Accounts that are kept at most, about 1 kB each.
const KEPT: usize = 1 << 16;

/// Where an account stands after a question. The next question changes it where it lies, and nothing is allocated anew.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    /// What the account took so far, oldest first.
    pub(crate) history: Vec<u32>,
    pub(crate) evidence: Evidence,
    /// Suspicion that the account began under, because of others of its client, in nats.
    pub(crate) suspicion: f64,
    /// What is known of the last item taken; none where it is the first.
    pub(crate) taken: Option<Taken>,
    pub(crate) flagged: bool,
    /// The list that was answered.
    pub(crate) shown: Vec<u32>,
    /// The canaries in it.
    pub(crate) canaries: Vec<u32>,
    /// All canaries of the account.
    pub(crate) drawn: Vec<u32>,
    /// The model's state after the history, `(hidden)`.
    pub(crate) state: Vec<f32>,
}

/// An item taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its place in the list shown, or else in the model's own ranking; from 1.
    pub place: u32,
    /// Whether it was a canary.
    pub canary: bool,
    /// Canaries in the list shown.
    pub canaries: usize,
}

impl Standing {
    /// What speaks for a thief, in nats: the account's own evidence, and what its client's other accounts said when it began.
    pub(crate) fn nats(&self) -> f64 {
        self.evidence.nats() + self.suspicion
    }

    /// The place of an item in the list that was answered, from 1.
    pub(crate) fn place_of(&self, item: u32) -> Option<u32> {
        self.shown.iter().position(|&shown| shown == item).map(|place| place as u32 + 1)
    }
}

/// The accounts that a service remembers, by their histories. When the newer half is full, the older half is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Standings {
    newer: HashTable<Box<Standing>>,
    older: HashTable<Box<Standing>>,
    hasher: DefaultHashBuilder,
}

impl Standings {
    /// Where the account with this history, that began under this suspicion, stands after lists of `k`; forgotten here, for it is about to move
    /// on.
    pub(crate) fn take(&mut self, history: &[u32], suspicion: f64, k: usize) -> Option<Box<Standing>> {
        let hash = self.hasher.hash_one(history);
        let of = |table: &mut HashTable<Box<Standing>>| {
            let found = table.find_entry(hash, |standing| standing.history == history).ok()?;
            Some(found.remove().0)
        };
        let found = of(&mut self.newer).or_else(|| of(&mut self.older));
        found.filter(|standing| standing.shown.len() == k && standing.suspicion.total_cmp(&suspicion).is_eq())
    }

    /// Remembers where an account stands.
    pub(crate) fn keep(&mut self, standing: Box<Standing>) {
        if self.newer.len() >= KEPT / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        let hash_of = |history: &[u32]| self.hasher.hash_one(history);
        let hash = hash_of(&standing.history);
        match self.newer.entry(
            hash,
            |other| other.history == standing.history,
            |other| hash_of(&other.history),
        ) {
            Entry::Occupied(mut occupied) => *occupied.get_mut() = standing,
            Entry::Vacant(vacant) => _ = vacant.insert(standing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Ways;
    use super::*;

    fn standing(history: &[u32]) -> Box<Standing> {
        Box::new(Standing {
            history: history.to_vec(),
            evidence: Ways::new(&[2, 4], &[1.0, 1.0], 2).begin(),
            suspicion: 0.0,
            taken: None,
            flagged: false,
            shown: vec![3, 4],
            canaries: Vec::new(),
            drawn: Vec::new(),
            state: Vec::new(),
        })
    }

    #[test]
    fn an_account_is_found_by_its_history_and_the_length_of_its_lists() {
        let mut standings = Standings::default();
        standings.keep(standing(&[1, 2]));
        assert_eq!(standings.take(&[1], 0.0, 2), None);
        assert_eq!(standings.take(&[1, 2], 0.0, 2), Some(standing(&[1, 2])));
        assert_eq!(standings.take(&[1, 2], 0.0, 2), None, "it moved on");
        standings.keep(standing(&[1, 2]));
        assert_eq!(standings.take(&[1, 2], 0.0, 3), None, "lists of another length");
        standings.keep(standing(&[1, 2]));
        assert_eq!(standings.take(&[1, 2], 1.5, 2), None, "an account of a client under suspicion");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut standings = Standings::default();
        for account in 1..=(2 * KEPT) as u32 {
            standings.keep(standing(&[account]));
        }
        assert!(standings.newer.len() + standings.older.len() <= KEPT);
        assert!(standings.take(&[2 * KEPT as u32], 0.0, 2).is_some());
        assert_eq!(standings.take(&[1], 0.0, 2), None);
    }
}
