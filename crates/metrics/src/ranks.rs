//! From scores to lists and ranks.
//!
//! A pair (score, id) is folded into one 64-bit key whose order is the order of the list: the score's bits made monotone
//! in the upper half, the id inverted in the lower, so that a higher score wins and, among equals, the lower id. One
//! integer comparison then decides everything, no key equals another, and the result cannot depend on how a selection
//! algorithm treats equals. Selection holds 2k keys, whatever the catalogue's size, and takes the scores in chunks.

/// The place of a score among all scores as an integer: higher is better, not-a-number the lowest, and -0 equal to 0.
fn order_of(score: f32) -> u32 {
    const SIGN: u32 = 1 << 31;
    if score.is_nan() {
        return 0;
    }
    let bits = (score + 0.0).to_bits(); // adding 0 turns -0 into 0
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn key_of(score: f32, id: u32) -> u64 {
    (u64::from(order_of(score)) << 32) | u64::from(!id)
}

fn id_of(key: u64) -> u32 {
    !(key as u32)
}

/// The best k of a row of scores that arrives in chunks.
///
/// ```
/// let mut best = metrics::Selection::new(2);
/// best.offer(1, &[0.5, 3.0]); // items 1 and 2
/// best.offer(3, &[1.0, 3.0]); // items 3 and 4
/// assert_eq!(best.take(), [2, 4]);
/// ```
#[derive(Debug, Clone)]
pub struct Selection {
    k: usize,
    keys: Vec<u64>,
    /// No key at or below this one can still be among the best k.
    floor: u64,
}

impl Selection {
    /// An empty selection of at most `k` items.
    pub fn new(k: usize) -> Self {
        Self { k, keys: Vec::with_capacity(k.saturating_mul(2).min(1 << 20)), floor: 0 }
    }

    /// Offer the scores of consecutive items, the first of which has id `first_id`.
    pub fn offer(&mut self, first_id: u32, scores: &[f32]) {
        for (id, &score) in (first_id..).zip(scores) {
            self.offer_one(id, score);
        }
    }

    /// Offer a single item.
    pub fn offer_one(&mut self, id: u32, score: f32) {
        let key = key_of(score, id);
        if key <= self.floor || self.k == 0 {
            return;
        }
        self.keys.push(key);
        if self.keys.len() >= self.k.saturating_mul(2) {
            self.shrink();
        }
    }

    /// Keep the best k keys and raise the floor to the worst of them.
    fn shrink(&mut self) {
        if self.keys.len() > self.k {
            self.keys.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
            self.keys.truncate(self.k);
            self.floor = self.keys[self.k - 1];
        }
    }

    /// The ids selected, best first, at most k; leaves an empty selection, ready for the next row.
    pub fn take(&mut self) -> Vec<u32> {
        let mut list = vec![0; self.k.min(self.keys.len())];
        self.take_into(&mut list);
        list
    }

    /// As [`Selection::take`], into a list of the caller's; returns how many ids were written (the rest is untouched).
    pub fn take_into(&mut self, list: &mut [u32]) -> usize {
        self.shrink();
        self.keys.sort_unstable_by(|a, b| b.cmp(a));
        let written = list.len().min(self.keys.len());
        for (slot, &key) in list.iter_mut().zip(&self.keys) {
            *slot = id_of(key);
        }
        self.keys.clear();
        self.floor = 0;
        written
    }
}

/// The ids of the `k` highest scores, best first (all of them where `k` exceeds the row); ties: lower id first.
/// `scores` has shape `(items)`, item `id` at place `id - 1`.
pub fn top_k(scores: &[f32], k: usize) -> Vec<u32> {
    let mut best = Selection::new(k.min(scores.len()));
    best.offer(1, scores);
    best.take()
}

/// The rank of item `id` among all scores: one more than the number of *other* items that score at least as much, so
/// that a model which gives every item the same score ranks last everywhere. `None` where the row has no such item.
pub fn rank_of(scores: &[f32], id: u32) -> Option<u32> {
    rank_of_unseen(scores, id, &[])
}

/// As [`rank_of`], competing only with items outside `seen` (any order; repeats do no harm). The item itself competes
/// even where it was seen before.
pub fn rank_of_unseen(scores: &[f32], id: u32, seen: &[u32]) -> Option<u32> {
    let own = *scores.get((id as usize).checked_sub(1)?)?;
    // `!(x < own)` and not `x >= own`: a score that is not a number counts against the model. The item itself is among
    // those counted, which is the one that starts the ranks at 1.
    let beats = |score: f32| u32::from(!matches!(score.partial_cmp(&own), Some(std::cmp::Ordering::Less)));
    let all: u32 = scores.iter().map(|&score| beats(score)).sum();
    if seen.is_empty() {
        return Some(all);
    }
    let mut others: Vec<u32> = seen.iter().copied().filter(|&other| other != id).collect();
    others.sort_unstable();
    others.dedup();
    let left_out: u32 = others
        .iter()
        .filter_map(|&other| scores.get((other as usize).checked_sub(1)?))
        .map(|&score| beats(score))
        .sum();
    Some(all - left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place_in;

    /// The definition, spelled out: sort everything, cut.
    fn top_k_by_sorting(scores: &[f32], k: usize) -> Vec<u32> {
        let mut ids: Vec<u32> = (1..=scores.len() as u32).collect();
        ids.sort_by(|&a, &b| {
            let (x, y) = (scores[a as usize - 1], scores[b as usize - 1]);
            match (x.is_nan(), y.is_nan()) {
                (false, false) => y.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(&b)),
                (x_fails, y_fails) => x_fails.cmp(&y_fails).then(a.cmp(&b)),
            }
        });
        ids.truncate(k);
        ids
    }

    fn awkward_rows() -> Vec<Vec<f32>> {
        let mut state = 1_u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let mut rows = vec![
            vec![],
            vec![0.0],
            vec![f32::NAN],
            vec![1.0; 50],
            vec![0.0, -0.0, 0.0, -0.0],
            vec![f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 0.0, -f32::NAN, f32::INFINITY],
            (0..40).map(|i| i as f32).collect(),
            (0..40).map(|i| -i as f32).collect(),
            vec![f32::MIN_POSITIVE / 2.0, -f32::MIN_POSITIVE / 2.0, 0.0],
        ];
        for distinct in [2, 7, 1000] {
            rows.push((0..200).map(|_| (next() % distinct) as f32 - 3.0).collect());
        }
        rows
    }

    #[test]
    fn selection_equals_sorting_and_cutting() {
        for row in awkward_rows() {
            for k in [0, 1, 2, 3, row.len().saturating_sub(1), row.len(), row.len() + 3] {
                assert_eq!(top_k(&row, k), top_k_by_sorting(&row, k), "k = {k}, row {row:?}");
            }
        }
    }

    #[test]
    fn selection_does_not_depend_on_the_chunks() {
        for row in awkward_rows() {
            for chunk in [1, 3, 64] {
                let mut best = Selection::new(5);
                // Last chunk first: the order of arrival must not matter either.
                for (number, part) in row.chunks(chunk).enumerate().collect::<Vec<_>>().into_iter().rev() {
                    best.offer((number * chunk) as u32 + 1, part);
                }
                assert_eq!(best.take(), top_k(&row, 5), "chunks of {chunk}, row {row:?}");
                assert_eq!(best.take(), [] as [u32; 0]);
            }
        }
    }

    #[test]
    fn rank_and_list_agree_where_no_score_ties() {
        let row: Vec<f32> = (0..97).map(|i| ((i * 31) % 97) as f32).collect();
        let list = top_k(&row, row.len());
        for id in 1..=97 {
            assert_eq!(rank_of(&row, id), place_in(&list, id));
        }
    }

    #[test]
    fn ties_count_against_the_model() {
        assert_eq!(rank_of(&[1.0; 50], 1), Some(50));
        assert_eq!(rank_of(&[2.0, 1.0, 2.0, 3.0], 1), Some(3));
        assert_eq!(rank_of(&[0.0, -0.0], 2), Some(2));
        assert_eq!(rank_of(&[7.0], 1), Some(1));
    }

    #[test]
    fn what_is_not_a_number_counts_against_the_model() {
        assert_eq!(rank_of(&[f32::NAN, 1.0, 2.0], 2), Some(3));
        assert_eq!(rank_of(&[f32::NAN, 1.0, 2.0], 1), Some(3));
    }

    #[test]
    fn an_item_outside_the_row_has_no_rank() {
        for id in [0, 4, u32::MAX] {
            assert_eq!(rank_of(&[1.0, 2.0, 3.0], id), None);
        }
        assert_eq!(rank_of(&[], 1), None);
    }

    #[test]
    fn seen_items_leave_the_contest() {
        let row = [5.0, 4.0, 3.0, 2.0, 1.0];
        assert_eq!(rank_of_unseen(&row, 4, &[2, 1, 2]), Some(2));
        assert_eq!(rank_of_unseen(&row, 4, &[4, 3]), Some(3));
        assert_eq!(rank_of_unseen(&row, 4, &[0, 99]), Some(4));
        // The definition: rank among the row with the seen items' scores taken out.
        for row in awkward_rows().into_iter().filter(|row| row.len() > 10) {
            let seen = [2, 3, 8];
            let left: Vec<f32> =
                (1_u32..).zip(&row).filter(|(id, _)| !seen.contains(id)).map(|(_, &s)| s).collect();
            assert_eq!(rank_of_unseen(&row, 10, &seen), rank_of(&left, 7));
        }
    }
}
