//! Sampled negatives: items that stand for all those a user did not choose.
//!
//! *In training*, [`outside`]: uniform, with replacement, outside the user's history.
//!
//! *In evaluation*, [`Negatives`]: the few items that a test item is ranked against where ranking it against all would
//! cost too much, or where a published figure was taken that way. Items are drawn one after the other, each with a
//! probability proportional to its weight among those not drawn yet (sampling without replacement). It is done by drawing
//! with replacement and passing over what was drawn before or is excluded, which leaves exactly these probabilities and
//! costs `log(items)` a draw, however large the catalogue. Figures from sampled negatives are no estimate of the full
//! ranking and may order models otherwise (Krichene & Rendle 2020): they compare with figures of the same protocol only.

use std::collections::HashSet;

use rand::{Rng, RngExt};

use crate::below;

/// Negatives are drawn without replacement, and there are not as many items.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("{asked} different negatives cannot be drawn from {left} items")]
pub struct TooFewNegatives {
    /// How many were asked for.
    pub asked: usize,
    /// How many items there are to draw from.
    pub left: usize,
}

/// `count` items that are not in `history`, uniform and with replacement, or any item where the history holds the whole
/// catalogue of `items`.
pub fn outside(history: &[u32], items: usize, count: usize, stream: &mut impl Rng) -> Vec<u32> {
    let outside = Outside::of(history, items);
    (0..count).map(|_| outside.item(below(stream, outside.count))).collect()
}

/// `count` different items that are not in `history`, in random order; fewer where there are no more.
pub fn distinct_outside(history: &[u32], items: usize, count: usize, stream: &mut impl Rng) -> Vec<u32> {
    let outside = Outside::of(history, items);
    if history.len() >= items {
        return Vec::new();
    }
    let count = count.min(outside.count as usize);
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        let item = outside.item(below(stream, outside.count));
        if !drawn.contains(&item) {
            drawn.push(item);
        }
    }
    drawn
}

/// The items outside a history, by number.
struct Outside {
    count: u32,
    /// How many ids outside the history come before each held one.
    before: Vec<u32>,
}

impl Outside {
    /// Of a catalogue of `items`; all items where the history holds them all.
    fn of(history: &[u32], items: usize) -> Self {
        let mut held = history.to_vec();
        held.sort_unstable();
        held.dedup();
        if held.len() >= items {
            held.clear();
        }
        let before = held.iter().enumerate().map(|(place, id)| id - 1 - place as u32).collect();
        Self { count: (items - held.len()) as u32, before }
    }

    /// The item of a number below the count.
    fn item(&self, number: u32) -> u32 {
        1 + number + self.before.partition_point(|&before| before <= number) as u32
    }
}

/// A distribution over item ids from which negatives are drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negatives {
    /// Running sums of the weights; item `id` at place `id - 1`.
    sums: Vec<u64>,
    /// Number of items with a weight above 0.
    drawable: usize,
}

impl Negatives {
    /// Every item 1..=`items` is as likely as any other.
    pub fn uniform(items: usize) -> Self {
        Self { sums: (1..=items as u64).collect(), drawable: items }
    }

    /// Items as likely as their weights say, item `id` at place `id - 1`; weight 0 is never drawn.
    pub fn weighted(weights: &[u64]) -> Self {
        let mut sum = 0;
        let sums = weights.iter().map(|weight| {
            sum += weight;
            sum
        });
        Self { sums: sums.collect(), drawable: weights.iter().filter(|&&weight| weight > 0).count() }
    }

    /// True where an item of that id could be drawn.
    fn holds(&self, id: u32) -> bool {
        let Some(place) = (id as usize).checked_sub(1) else { return false };
        let before = place.checked_sub(1).and_then(|before| self.sums.get(before)).copied().unwrap_or(0);
        self.sums.get(place).is_some_and(|&sum| sum > before)
    }

    /// The ids of `excluded` (any order, repeats allowed) that could be drawn otherwise.
    fn taken_by(&self, excluded: &[u32]) -> HashSet<u32> {
        excluded.iter().copied().filter(|&id| self.holds(id)).collect()
    }

    /// How many different items can be drawn outside `excluded`.
    pub fn left(&self, excluded: &[u32]) -> usize {
        self.drawable - self.taken_by(excluded).len()
    }

    /// `count` different ids outside `excluded`, in the order they were drawn.
    ///
    /// Fails where fewer than `count` can be drawn.
    pub fn draw(
        &self,
        count: usize,
        excluded: &[u32],
        stream: &mut impl Rng,
    ) -> Result<Vec<u32>, TooFewNegatives> {
        let mut taken = self.taken_by(excluded);
        let left = self.drawable - taken.len();
        if left < count {
            return Err(TooFewNegatives { asked: count, left });
        }
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let ticket = stream.random_range(0..self.sums[self.sums.len() - 1]);
            let id = self.sums.partition_point(|&sum| sum <= ticket) as u32 + 1;
            if taken.insert(id) {
                drawn.push(id);
            }
        }
        Ok(drawn)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::{Purpose, Streams};

    #[test]
    fn negatives_of_training_are_uniform_over_the_other_items() {
        let mut stream = Streams::new(1).open(Purpose::Negatives, 0, 0, 0);
        let mut counts = [0u32; 9];
        for item in outside(&[2, 8, 3, 2], 8, 50_000, &mut stream) {
            counts[item as usize] += 1;
        }
        for (item, &count) in counts.iter().enumerate() {
            let expected = if [1, 4, 5, 6, 7].contains(&item) { 10_000 } else { 0 };
            assert!(count.abs_diff(expected) < 500, "{counts:?}");
        }
        assert!(outside(&[1, 2], 2, 9, &mut stream).iter().all(|item| [1, 2].contains(item)));
    }

    fn random(seed: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(seed)
    }

    #[test]
    fn negatives_are_distinct_and_outside_what_is_excluded() {
        for sampler in [Negatives::uniform(30), Negatives::weighted(&(0..30).collect::<Vec<u64>>())] {
            for seed in 0..50 {
                let excluded = [7, 7, 30, 1, 99, 0];
                let mut drawn = sampler.draw(20, &excluded, &mut random(seed)).unwrap();
                assert_eq!(drawn, sampler.draw(20, &excluded, &mut random(seed)).unwrap());
                assert!(drawn.iter().all(|id| (1..=30).contains(id) && !excluded.contains(id)));
                drawn.sort_unstable();
                drawn.dedup();
                assert_eq!(drawn.len(), 20);
            }
        }
    }

    #[test]
    fn all_that_is_left_can_be_drawn_and_no_more() {
        let sampler = Negatives::weighted(&[5, 0, 1, 1_000_000, 0, 2]);
        assert_eq!(sampler.left(&[]), 4);
        assert_eq!(sampler.left(&[2, 3, 3]), 3, "item 2 is never drawn in any case");
        let mut drawn = sampler.draw(3, &[3], &mut random(1)).unwrap();
        drawn.sort_unstable();
        assert_eq!(drawn, [1, 4, 6]);
        let refused = sampler.draw(4, &[3], &mut random(1));
        assert_eq!(refused, Err(TooFewNegatives { asked: 4, left: 3 }));
        assert_eq!(Negatives::uniform(0).draw(0, &[], &mut random(1)), Ok(vec![]));
        assert_eq!(Negatives::uniform(3).left(&[1, 2, 3, 4]), 0);
    }

    /// Every ordered pair must come up as often as successive draws without replacement say:
    /// `w_i / W * w_j / (W - w_i)`, the excluded item's weight taken out of W.
    #[test]
    fn pairs_come_up_as_often_as_successive_draws_promise() {
        const DRAWS: usize = 40_000;
        for weights in [[1_u64, 1, 1, 1, 1], [1, 2, 9, 4, 8]] {
            let sampler = if weights[2] == 1 { Negatives::uniform(5) } else { Negatives::weighted(&weights) };
            let excluded = 3_usize;
            let mut counts = [[0_usize; 6]; 6];
            let mut random = random(9);
            for _ in 0..DRAWS {
                let pair = sampler.draw(2, &[excluded as u32], &mut random).unwrap();
                counts[pair[0] as usize][pair[1] as usize] += 1;
            }
            let total = (weights.iter().sum::<u64>() - weights[excluded - 1]) as f64;
            for first in 1..=5 {
                for second in 1..=5 {
                    let possible = first != second && first != excluded && second != excluded;
                    let (w, v) = (weights[first - 1] as f64, weights[second - 1] as f64);
                    let expected = if possible { w / total * v / (total - w) } else { 0.0 };
                    let found = counts[first][second] as f64 / DRAWS as f64;
                    // Four standard errors.
                    let slack = 4.0 * (expected * (1.0 - expected) / DRAWS as f64).sqrt();
                    assert!((found - expected).abs() <= slack, "{first}, {second}: {found}, {expected}");
                }
            }
        }
    }
}
