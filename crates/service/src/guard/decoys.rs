//! Decoys: what a flagged account is answered. Each item of the true list gives way to the one that a permutation of the
//! catalogue, drawn by the key, puts in its place. So the lists contradict nothing that was answered under suspicion before, a copy
//! learns from them as from true ones, and what it has learned can be recognised by whoever has the key.

use streams::shuffle;

use crate::key::Key;

/// The permutation of a key.
#[derive(Clone, Debug)]
pub struct Decoys {
    /// What item `id` gives way to, at place `id`; 0 at place 0.
    instead: Vec<u32>,
}

impl Decoys {
    /// The permutation of a catalogue of `items`.
    pub fn new(key: &Key, items: usize) -> Self {
        let mut instead: Vec<u32> = (0..=items as u32).collect();
        if items > 0 {
            shuffle(&mut instead[1..], &mut key.stream("decoys", &[]));
        }
        Self { instead }
    }

    /// Number of items.
    pub fn items(&self) -> usize {
        self.instead.len() - 1
    }

    /// What `item` gives way to.
    pub fn of(&self, item: u32) -> u32 {
        self.instead[item as usize]
    }

    /// Replaces every item of a list.
    pub fn replace(&self, list: &mut [u32]) {
        for item in list {
            *item = self.of(*item);
        }
    }

    /// Puts a list into the order of its decoys: for a list whose items are given, such as candidates.
    pub fn reorder(&self, list: &mut [u32]) {
        list.sort_by_key(|&item| self.of(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_gives_way_to_one_and_keys_differ() {
        let decoys = Decoys::new(&Key::of_seed(1), 500);
        let mut list: Vec<u32> = (1..=500).collect();
        decoys.replace(&mut list);
        assert_eq!(list[6], decoys.of(7));
        let other = Decoys::new(&Key::of_seed(2), 500);
        assert!((1..=500).filter(|&item| decoys.of(item) == other.of(item)).count() < 10);
        list.sort_unstable();
        assert_eq!(list, (1..=500).collect::<Vec<u32>>());
    }
}
