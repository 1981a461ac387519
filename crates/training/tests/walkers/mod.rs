//! Histories that can be learned.

use artifact::dataset::{Dataset, UserSequence};

/// Users who walk the catalogue in steps of their own, so that the next item can be known.
pub(crate) fn dataset(users: u32, items: u32) -> Dataset {
    let sequences: Vec<Vec<u32>> = (0..users)
        .map(|user| (0..8 + user % 9).map(|t| 1 + (user * 7 + t * (1 + user % 3)) % items).collect())
        .collect();
    let raw_ids: Vec<String> = (1..=items).map(|id| id.to_string()).collect();
    let users: Vec<UserSequence<'_>> =
        sequences.iter().map(|s| UserSequence { train: s, valid: 1 + s[0] % items, test: Some(1) }).collect();
    Dataset::from_sequences(&raw_ids, users).unwrap()
}
