//! Histories made up in memory.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use artifact::dataset::{Dataset, UserSequence};
use streams::negatives::Negatives;
use streams::{Purpose, Streams};

use crate::{ITEMS, SEED};

/// Users of MovieLens-100K.
pub const USERS: usize = 943;

/// How long the histories of MovieLens-100K are: shares of its users, and the length that these do not exceed.
const LENGTHS: [(f64, f64); 15] = [
    (0.0, 19.0),
    (0.05, 21.0),
    (0.1, 23.0),
    (0.2, 29.0),
    (0.3, 37.0),
    (0.4, 49.0),
    (0.5, 64.0),
    (0.6, 91.0),
    (0.7, 127.0),
    (0.8, 169.0),
    (0.9, 239.0),
    (0.95, 308.0),
    (0.98, 386.0),
    (0.99, 446.0),
    (1.0, 648.0),
];

/// A dataset of the sizes of MovieLens-100K: as many users and items, histories as long, items about as popular.
/// Nobody meets an item twice.
///
/// # Errors
/// Never, if a user can have as many items as the longest history holds.
pub fn movielens_100k() -> Result<&'static Dataset> {
    static DATASET: OnceLock<Dataset> = OnceLock::new();
    if let Some(dataset) = DATASET.get() {
        return Ok(dataset);
    }
    // Zipf and Mandelbrot: the most popular item has 0.5 % of all interactions, the last one in 10,000.
    let weights: Vec<u64> = (0..ITEMS as u64).map(|rank| 1_000_000 / (rank + 30)).collect();
    let popular = Negatives::weighted(&weights);
    let length = |user: usize| length_at((user as f64 + 0.5) / USERS as f64);
    let made = dataset((0..USERS).map(length), ITEMS, &popular)?;
    Ok(DATASET.get_or_init(|| made))
}

/// A dataset in which every user trains on `length` items, all items equally popular. It stays for the life of the
/// process, so that a learner may keep it.
///
/// # Errors
/// For fewer items than a history holds.
pub fn of_length(length: usize, users: usize, items: usize) -> Result<&'static Dataset> {
    let lengths = std::iter::repeat_n(length + 2, users);
    Ok(Box::leak(Box::new(dataset(lengths, items, &Negatives::uniform(items))?)))
}

/// The length that a share `below` of all histories does not exceed.
fn length_at(below: f64) -> usize {
    let after = LENGTHS.partition_point(|(share, _)| *share < below).clamp(1, LENGTHS.len() - 1);
    let ((low, shorter), (high, longer)) = (LENGTHS[after - 1], LENGTHS[after]);
    (shorter + (longer - shorter) * (below - low) / (high - low)).round() as usize
}

/// Histories of these lengths, the last two items held out.
fn dataset(lengths: impl Iterator<Item = usize>, items: usize, popularity: &Negatives) -> Result<Dataset> {
    let streams = Streams::new(SEED);
    let draw = |(user, length): (usize, usize)| {
        popularity.draw(length, &[], &mut streams.open(Purpose::Candidates, 0, user as u64, 0))
    };
    let histories: Vec<Vec<u32>> = lengths.enumerate().map(draw).collect::<Result<_, _>>()?;
    let split = histories.iter().filter_map(|history| match history.as_slice() {
        [train @ .., valid, test] => Some(UserSequence { train, valid: *valid, test: Some(*test) }),
        _ => None,
    });
    let raw_ids: Vec<String> = (1..=items).map(|id| id.to_string()).collect();
    Dataset::from_sequences(&raw_ids, split).map_err(|message| anyhow!(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_interactions_as_movielens_100k() {
        let dataset = movielens_100k().unwrap();
        assert_eq!((dataset.users(), dataset.items()), (943, 1349));
        let lengths: Vec<usize> = (0..dataset.users()).map(|user| dataset.train(user).len() + 2).collect();
        assert!(lengths.iter().sum::<usize>().abs_diff(99_287) < 1000, "{}", lengths.iter().sum::<usize>());
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&19), Some(&637)));
        let most = dataset.item_counts().iter().max();
        assert!(most.is_some_and(|count| (400..700).contains(count)), "{most:?}");
    }
}
