//! The baseline every recommender has to beat: the most popular items, the same list for everyone.
//!
//! Popularity is counted in the train sequences alone; validation and test items are what is to be predicted. Among
//! equally frequent items the lower id comes first, so that the list is one definite list.

use std::cmp::Reverse;

use artifact::dataset::Dataset;

/// Items by how often they occur in the train sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Popularity {
    /// Place of every item in the list, from 1; item `id` at index `id - 1`.
    places: Vec<u32>,
}

impl Popularity {
    /// Count the train sequences of a dataset.
    pub fn of(dataset: &Dataset) -> Self {
        let mut counts = vec![0_u64; dataset.items()];
        for user in 0..dataset.users() {
            for &id in dataset.train(user) {
                counts[id as usize - 1] += 1;
            }
        }
        Self::from_counts(&counts)
    }

    fn from_counts(counts: &[u64]) -> Self {
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|&item| (Reverse(counts[item]), item));
        let mut places = vec![0; counts.len()];
        for (place, item) in (1..).zip(order) {
            places[item] = place;
        }
        Self { places }
    }

    /// The rank of an item, once the items of `seen` (any order, repeats allowed) are taken out of the list.
    pub fn rank(&self, item: u32, seen: &[u32]) -> u32 {
        let own = self.places[item as usize - 1];
        let mut ahead: Vec<u32> =
            seen.iter().map(|&id| self.places[id as usize - 1]).filter(|&place| place < own).collect();
        ahead.sort_unstable();
        ahead.dedup();
        own - ahead.len() as u32
    }

    /// The rank of an item among some others (which may repeat the item itself, and nothing else twice).
    pub fn rank_among(&self, item: u32, others: &[u32]) -> u32 {
        let own = self.places[item as usize - 1];
        1 + others.iter().filter(|&&id| self.places[id as usize - 1] < own).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_items_come_first_and_lower_ids_before_higher() {
        let popularity = Popularity::from_counts(&[2, 9, 2, 0, 5]);
        assert_eq!((1..=5).map(|id| popularity.rank(id, &[])).collect::<Vec<_>>(), [3, 1, 4, 5, 2]);
    }

    #[test]
    fn seen_items_make_room() {
        let popularity = Popularity::from_counts(&[2, 9, 2, 0, 5]);
        assert_eq!(popularity.rank(3, &[2, 2, 5, 4]), 2);
        assert_eq!(popularity.rank(2, &[2, 5]), 1);
    }

    #[test]
    fn among_a_few_only_these_count() {
        let popularity = Popularity::from_counts(&[2, 9, 2, 0, 5]);
        assert_eq!(popularity.rank_among(3, &[3, 1, 4]), 2);
        assert_eq!(popularity.rank_among(3, &[1, 2, 4, 5]), popularity.rank(3, &[]));
    }
}
