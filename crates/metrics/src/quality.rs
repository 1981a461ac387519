//! From ranks to the quality of recommendation: HR@K, NDCG@K, MRR for one relevant item per user.
//!
//! Each function gives the value of *one* user; a figure in a table is the [`mean`](crate::mean) of these over users, and
//! keeping them apart is what makes an interval over users possible.

use crate::{Better, Compares, Cut, Metric};

/// Hit rate.
pub const HR: Metric = Metric {
    name: "HR",
    title: "hit rate",
    meaning: "share of the users whose test item is among the first K",
    compares: Compares::Rank(hit),
    cut: Cut::AtK { shown: &[10, 20] },
    better: Better::Higher,
    drawn: true,
};

/// Normalised discounted cumulative gain.
pub const NDCG: Metric = Metric {
    name: "NDCG",
    title: "normalised discounted cumulative gain",
    meaning: "1 / log2(rank + 1) of a test item among the first K, else 0",
    compares: Compares::Rank(ndcg),
    cut: Cut::AtK { shown: &[10, 20] },
    better: Better::Higher,
    drawn: true,
};

/// Mean reciprocal rank.
pub const MRR: Metric = Metric {
    name: "MRR",
    title: "mean reciprocal rank",
    meaning: "1 / rank of the test item, 0 for a miss",
    compares: Compares::Rank(|rank, _| reciprocal(rank)),
    cut: Cut::Whole,
    better: Better::Higher,
    drawn: false,
};

/// HR@K of one user (the authors' code calls it Recall@K): 1 where the item stands among the first `k`, else 0.
pub fn hit(rank: Option<u32>, k: usize) -> f64 {
    f64::from(u8::from(rank.is_some_and(|rank| rank as usize <= k)))
}

/// NDCG@K of one user: `1 / log2(rank + 1)` where the item stands among the first `k`, else 0. With a single relevant
/// item the ideal gain is 1, so nothing remains to be divided by.
pub fn ndcg(rank: Option<u32>, k: usize) -> f64 {
    match rank {
        Some(rank) if rank as usize <= k => 1.0 / (f64::from(rank) + 1.0).log2(),
        _ => 0.0,
    }
}

/// Reciprocal rank of one user, whose mean is MRR: `1 / rank`, 0 for a miss.
pub fn reciprocal(rank: Option<u32>) -> f64 {
    rank.map_or(0.0, |rank| 1.0 / f64::from(rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_known_ranks() {
        let table = [
            // rank, k, hit, ndcg
            (Some(1), 1, 1.0, 1.0),
            (Some(3), 10, 1.0, 0.5),
            (Some(10), 10, 1.0, 1.0 / 11_f64.log2()),
            (Some(11), 10, 0.0, 0.0),
            (Some(1), 0, 0.0, 0.0),
            (None, 100, 0.0, 0.0),
        ];
        for (rank, k, expected_hit, expected_ndcg) in table {
            assert_eq!(hit(rank, k), expected_hit, "rank {rank:?}, k {k}");
            assert!((ndcg(rank, k) - expected_ndcg).abs() < 1e-15, "rank {rank:?}, k {k}");
        }
        assert_eq!(reciprocal(Some(4)), 0.25);
        assert_eq!(reciprocal(None), 0.0);
    }

    #[test]
    fn at_one_ndcg_is_the_hit_rate() {
        for rank in [Some(1), Some(2), Some(100), None] {
            assert_eq!(hit(rank, 1), ndcg(rank, 1));
        }
    }
}
