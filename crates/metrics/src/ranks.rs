//! From a row of scores to a list, and to the rank of an item: for the scores that are at hand, a user's candidates or a
//! row out of which seen items are left. Lists and ranks over a whole catalogue come from `kernels`, which never holds a row.
//!
//! A pair (score, id) is folded into one 64-bit key whose order is the order of the list: the score's bits made monotone
//! in the upper half, the id inverted in the lower, so that a higher score wins and, among equals, the lower id. One
//! integer comparison then decides everything, no key equals another, and the result cannot depend on how a selection
//! algorithm treats equals.

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

/// The `k` of `ids` with the highest `scores`, best first (all of them where `k` exceeds the row); of equal scores the lower id.
/// Both have shape `(items)`, the ids distinct and in any order.
///
/// ```
/// assert_eq!(metrics::top_k(&[4, 1, 2, 3], &[3.0, 0.5, 3.0, 1.0], 2), [2, 4]);
/// ```
pub fn top_k(ids: &[u32], scores: &[f32], k: usize) -> Vec<u32> {
    let mut keys: Vec<u64> = ids.iter().zip(scores).map(|(&id, &score)| key_of(score, id)).collect();
    if k < keys.len() {
        keys.select_nth_unstable_by(k, |a, b| b.cmp(a));
        keys.truncate(k);
    }
    keys.sort_unstable_by(|a, b| b.cmp(a));
    keys.into_iter().map(id_of).collect()
}

/// The place of an item in an answered list, from 1; `None` where the list does not hold it.
pub fn place_in(list: &[u32], id: u32) -> Option<u32> {
    list.iter().position(|&listed| listed == id).map(|place| place as u32 + 1)
}

/// The rank of item `id` among all scores: one more than the number of *other* items that score at least as much, so
/// that a model which gives every item the same score ranks last everywhere. `None` where the row has no such item.
pub fn rank_of(scores: &[f32], id: u32) -> Option<u32> {
    rank_of_unseen(scores, id, &[])
}

/// As [`rank_of`], against items outside `seen` only (any order; repeats do no harm). The item itself is ranked even where
/// it was seen before.
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

    /// The ids of a row over a whole catalogue.
    fn all(row: &[f32]) -> Vec<u32> {
        (1..=row.len() as u32).collect()
    }

    /// The definition, spelled out: sort everything, cut.
    fn top_k_by_sorting(scores: &[f32], k: usize) -> Vec<u32> {
        let mut ids = all(scores);
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
                assert_eq!(top_k(&all(&row), &row, k), top_k_by_sorting(&row, k), "k = {k}, row {row:?}");
            }
        }
    }

    #[test]
    fn selection_does_not_depend_on_the_order_of_the_candidates() {
        for row in awkward_rows() {
            let expected = top_k(&all(&row), &row, 5);
            for step in [1, 3, 64] {
                // In chunks, the last chunk first.
                let places: Vec<usize> =
                    (0..row.len()).collect::<Vec<_>>().chunks(step).rev().flatten().copied().collect();
                let ids: Vec<u32> = places.iter().map(|&place| place as u32 + 1).collect();
                let scores: Vec<f32> = places.iter().map(|&place| row[place]).collect();
                assert_eq!(top_k(&ids, &scores, 5), expected, "chunks of {step}, row {row:?}");
            }
        }
    }

    #[test]
    fn places_start_at_one() {
        assert_eq!(place_in(&[4, 9, 2], 4), Some(1));
        assert_eq!(place_in(&[4, 9, 2], 2), Some(3));
        assert_eq!(place_in(&[4, 9, 2], 3), None);
        assert_eq!(place_in(&[], 3), None);
    }

    #[test]
    fn rank_and_list_agree_where_no_score_ties() {
        let row: Vec<f32> = (0..97).map(|i| ((i * 31) % 97) as f32).collect();
        let list = top_k(&all(&row), &row, row.len());
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
    fn seen_items_are_not_ranked_against() {
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
