//! How closely a surrogate repeats its target, one user at a time.
//!
//! Agreement, exact match and rank-biased overlap compare two lists, and so can be taken against the lists a target
//! *answers*, whatever a defence did to them. The divergence compares scores, and so needs the target's own model.

use crate::{Better, Compares, Cut, Metric};

/// The p of rank-biased overlap in tables: the first ten places carry 86 % of the weight.
const PERSISTENCE: f64 = 0.9;

/// Agreement.
pub const AGR: Metric = Metric {
    name: "Agr",
    title: "agreement",
    meaning: "share of the target's first K items that are among the surrogate's first K as well",
    compares: Compares::Lists(agreement),
    cut: Cut::AtK { shown: &[10] },
    better: Better::Higher,
    drawn: false,
};

/// Exact match.
pub const EM: Metric = Metric {
    name: "EM",
    title: "exact match",
    meaning: "share of the first K places at which both lists hold the same item",
    compares: Compares::Lists(exact_match),
    cut: Cut::AtK { shown: &[10] },
    better: Better::Higher,
    drawn: false,
};

/// Rank-biased overlap.
pub const RBO: Metric = Metric {
    name: "RBO",
    title: "rank-biased overlap",
    meaning: "rank-biased overlap of the lists (persistence 0.9)",
    compares: Compares::Lists(|target, surrogate, _| rank_biased_overlap(target, surrogate, PERSISTENCE)),
    cut: Cut::Whole,
    better: Better::Higher,
    drawn: false,
};

/// Kullback-Leibler divergence.
pub const KL: Metric = Metric {
    name: "KL",
    title: "Kullback-Leibler divergence",
    meaning: "divergence, in nats, of the surrogate's scores from the target's over the target's own list",
    compares: Compares::Scores(|target, surrogate, _| kl_divergence(target, surrogate)),
    cut: Cut::Whole,
    better: Better::Lower,
    drawn: false,
};

/// Agr@K of one user: the share of the first `k` of `target` that `surrogate`'s first `k` also hold, in any order.
/// A list shorter than `k` can at best agree on what it holds: the divisor stays `k`. 0 for `k` = 0.
pub fn agreement(target: &[u32], surrogate: &[u32], k: usize) -> f64 {
    if k == 0 {
        return 0.0;
    }
    let mut held = surrogate[..k.min(surrogate.len())].to_vec();
    held.sort_unstable();
    let shared = target.iter().take(k).filter(|id| held.binary_search(id).is_ok()).count();
    shared as f64 / k as f64
}

/// EM@K of one user: the share of the first `k` places at which both lists hold the same item. 0 for `k` = 0.
pub fn exact_match(target: &[u32], surrogate: &[u32], k: usize) -> f64 {
    if k == 0 {
        return 0.0;
    }
    let equal = target.iter().zip(surrogate).take(k).filter(|(a, b)| a == b).count();
    equal as f64 / k as f64
}

/// Rank-biased overlap of two lists of distinct ids (Webber, Moffat & Zobel 2010), extrapolated beyond their end:
/// `X_m/m · p^m + (1-p)/p · sum_{d=1..m} X_d/d · p^d`, where `X_d` ids are shared by the first `d` of both and `m` is the
/// length of the shorter. 1 for equal lists, 0 for disjoint or empty ones. `persistence` is the paper's p, in (0, 1): with
/// 0.9 the first ten places carry 86 % of the weight.
pub fn rank_biased_overlap(target: &[u32], surrogate: &[u32], persistence: f64) -> f64 {
    let depth = target.len().min(surrogate.len());
    if depth == 0 {
        return 0.0;
    }
    // Where each id stands in the surrogate's list: an id is shared from the depth at which both have shown it.
    let mut places: Vec<(u32, usize)> = surrogate[..depth].iter().copied().zip(1..).collect();
    places.sort_unstable();
    let mut shared_from = vec![0_usize; depth + 1];
    for (place, id) in (1..).zip(&target[..depth]) {
        if let Ok(found) = places.binary_search_by_key(id, |&(listed, _)| listed) {
            shared_from[place.max(places[found].1)] += 1;
        }
    }
    let (mut shared, mut weight, mut sum) = (0_usize, 1.0, 0.0);
    for (d, &entering) in shared_from.iter().enumerate().skip(1) {
        shared += entering;
        weight *= persistence;
        sum += shared as f64 / d as f64 * weight;
    }
    shared as f64 / depth as f64 * weight + (1.0 - persistence) / persistence * sum
}

/// Kullback-Leibler divergence, in nats, of the surrogate's distribution from the target's, for one user: both score the
/// same items (the target's top k), each row goes through a softmax of its own over these items alone, and the result is
/// `sum_i p_i (ln p_i - ln q_i)` with p the target's. This is the figure the authors' code calls KL-Div.
/// 0 for empty rows; where the rows differ in length the tail of the longer is ignored.
pub fn kl_divergence(target_scores: &[f32], surrogate_scores: &[f32]) -> f64 {
    let items = target_scores.len().min(surrogate_scores.len());
    let (target, surrogate) = (&target_scores[..items], &surrogate_scores[..items]);
    let (target_total, surrogate_total) = (log_sum_exp(target), log_sum_exp(surrogate));
    target
        .iter()
        .zip(surrogate)
        .map(|(&t, &s)| {
            let log_p = f64::from(t) - target_total;
            let log_q = f64::from(s) - surrogate_total;
            log_p.exp() * (log_p - log_q)
        })
        .sum()
}

fn log_sum_exp(scores: &[f32]) -> f64 {
    let highest = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    highest + scores.iter().map(|&score| (f64::from(score) - highest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_agree_fully_and_disjoint_ones_not_at_all() {
        for length in [1_u32, 2, 10, 100] {
            let list: Vec<u32> = (1..=length).collect();
            let other: Vec<u32> = (length + 1..=2 * length).collect();
            let k = length as usize;
            assert_eq!(agreement(&list, &list, k), 1.0);
            assert_eq!(exact_match(&list, &list, k), 1.0);
            assert!((rank_biased_overlap(&list, &list, 0.9) - 1.0).abs() < 1e-12);
            assert_eq!(agreement(&list, &other, k), 0.0);
            assert_eq!(exact_match(&list, &other, k), 0.0);
            assert_eq!(rank_biased_overlap(&list, &other, 0.9), 0.0);
        }
    }

    #[test]
    fn a_reversed_list_agrees_but_does_not_match() {
        let list: Vec<u32> = (1..=10).collect();
        let reversed: Vec<u32> = (1..=10).rev().collect();
        assert_eq!(agreement(&list, &reversed, 10), 1.0);
        assert_eq!(agreement(&list, &reversed, 5), 0.0);
        assert_eq!(exact_match(&list, &reversed, 10), 0.0);
        let overlap = rank_biased_overlap(&list, &reversed, 0.9);
        assert!(overlap > 0.3 && overlap < 0.9, "{overlap}");
        // The last place carries all the weight there is as persistence grows.
        assert!(rank_biased_overlap(&list, &reversed, 0.9999) > 0.99);
    }

    #[test]
    fn overlap_of_a_worked_case() {
        // a = 1 2 3, b = 2 1 4: shared 0 of 1, 2 of 2, 2 of 3; p = 0.5.
        let expected = (2.0 / 3.0) * 0.125 + 1.0 * (1.0 * 0.25 + (2.0 / 3.0) * 0.125);
        assert!((rank_biased_overlap(&[1, 2, 3], &[2, 1, 4], 0.5) - expected).abs() < 1e-15);
        assert_eq!(rank_biased_overlap(&[], &[1], 0.5), 0.0);
    }

    #[test]
    fn short_lists_are_divided_by_k_all_the_same() {
        assert_eq!(agreement(&[1, 2], &[2, 1], 4), 0.5);
        assert_eq!(exact_match(&[1, 2], &[1, 3], 4), 0.25);
        assert_eq!(agreement(&[], &[], 0), 0.0);
        assert_eq!(exact_match(&[1], &[1], 0), 0.0);
    }

    #[test]
    fn divergence_is_zero_for_shifted_scores_and_positive_else() {
        let target = [3.0, 1.0, -2.0, 0.5];
        let shifted = [103.0, 101.0, 98.0, 100.5];
        assert!(kl_divergence(&target, &shifted).abs() < 1e-6);
        assert!(kl_divergence(&target, &[0.0; 4]) > 0.1);
        assert_eq!(kl_divergence(&[], &[]), 0.0);
        assert_eq!(kl_divergence(&[5.0], &[-5.0]), 0.0);
        // Two items, worked by hand: p = (3/4, 1/4), q = (1/2, 1/2).
        let expected = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((kl_divergence(&[3_f32.ln(), 0.0], &[0.0, 0.0]) - expected).abs() < 1e-7);
    }
}
