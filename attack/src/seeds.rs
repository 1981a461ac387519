//! Real histories to begin with. Yue, He, Zeng and McAuley (RecSys 2021) attack without any; an attacker who owns a few
//! accounts, or bought a few histories, starts nearer to what real users ask. A sequence of theirs begins with the
//! first items of a user's *train* part, never with a validation or test item, and goes on as any other.

use artifact::dataset::Dataset;
use streams::shuffle;
use streams::{Purpose, Streams};

/// The beginnings of `count` sequences: the first `longest` train items, or all there are, of users drawn without
/// replacement until every user was taken, and then again. Users without train items have nothing to begin with.
///
/// `None` where no user has any.
pub fn choose<'a>(
    dataset: &'a Dataset,
    count: usize,
    longest: usize,
    streams: &Streams,
) -> Option<Vec<&'a [u32]>> {
    let owned: Vec<&[u32]> =
        (0..dataset.users()).map(|user| dataset.train(user)).filter(|train| !train.is_empty()).collect();
    if owned.is_empty() {
        return None;
    }
    let mut seeds = Vec::with_capacity(count);
    for round in 0..count.div_ceil(owned.len()) {
        let mut order: Vec<usize> = (0..owned.len()).collect();
        // Epoch 0 of this purpose belongs to the sequences themselves.
        shuffle(&mut order, &mut streams.open(Purpose::Generation, 1 + round as u64, 0, 0));
        let left = count - seeds.len();
        seeds.extend(order.iter().take(left).map(|&user| &owned[user][..longest.min(owned[user].len())]));
    }
    Some(seeds)
}
