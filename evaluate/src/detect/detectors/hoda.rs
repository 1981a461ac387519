//! `hoda`: whether an account asks as hard questions as users do (Sadeghzadeh, Sobhanian, Dehghan and Jalili, IEEE TDSC 2023), carried
//! over to histories.
//!
//! As published: the hardness of a query is the epoch of training from which on the classifier's label for it stays the same. The
//! histogram of an account's hardness is compared with that of normal samples by Pearson's distance, 1 - correlation over the bins; an
//! alarm where it exceeds a threshold. The score here is the distance, so that every threshold is tried.
//!
//! Carried over: one checkpoint knows no epochs, and a list no label. How hard a history is says the model's own uncertainty, the
//! entropy of its softmax over the catalogue. Eleven bins as in the authors' HODA-11, of equal width between the 1st and 99th
//! percentile of the fitting users (bins of equal mass would make their histogram flat, and nothing correlates with a constant);
//! what lies outside falls into the outer bins. An account's histogram is that of all its questions so far, from 20 on, not 100
//! ([`super::FEWEST`]).

use super::{Detector, FEWEST, Judge, Question, UNJUDGED};

/// The registry's entry.
pub(super) const DETECTOR: Detector = Detector {
    name: "hoda",
    title: "Whether the model is as uncertain about its histories as about users'",
    fit: |users| Box::new(Hoda::fit(users)),
};

const BINS: usize = 11;

struct Hoda {
    low: f64,
    width: f64,
    /// Share of the users' questions in each bin.
    users: [f64; BINS],
}

impl Hoda {
    fn fit(users: &[Vec<Question>]) -> Self {
        let mut all: Vec<f64> = users.iter().flatten().map(|question| question.entropy).collect();
        all.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * all.len().saturating_sub(1) as f64).round() as usize;
            all.get(place).copied().unwrap_or(0.0)
        };
        let (low, high) = (at(0.01), at(0.99));
        let mut fitted = Self { low, width: (high - low) / BINS as f64, users: [0.0; BINS] };
        for &entropy in &all {
            fitted.users[fitted.bin(entropy)] += 1.0;
        }
        fitted
    }

    fn bin(&self, entropy: f64) -> usize {
        // A float that is negative or not a number becomes 0.
        (((entropy - self.low) / self.width) as usize).min(BINS - 1)
    }
}

impl Judge for Hoda {
    fn scores(&self, account: &[Question]) -> Vec<f64> {
        let mut counts = [0.0; BINS];
        account
            .iter()
            .enumerate()
            .map(|(before, question)| {
                counts[self.bin(question.entropy)] += 1.0;
                if before + 1 < FEWEST {
                    return UNJUDGED;
                }
                // Nothing is known where a histogram is flat.
                correlation(&counts, &self.users).map_or(UNJUDGED, |correlation| 1.0 - correlation)
            })
            .collect()
    }
}

/// Pearson's correlation; none where one of the two does not vary. It does not mind whether counts or shares are compared.
fn correlation(one: &[f64; BINS], other: &[f64; BINS]) -> Option<f64> {
    let mean = |values: &[f64; BINS]| values.iter().sum::<f64>() / BINS as f64;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (mut both, mut square_one, mut square_other) = (0.0, 0.0, 0.0);
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (a - mean_one, b - mean_other);
        both += a * b;
        square_one += a * a;
        square_other += b * b;
    }
    let deviations = (square_one * square_other).sqrt();
    (deviations > 0.0).then(|| both / deviations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(entropies: impl IntoIterator<Item = f64>) -> Vec<Question> {
        let question = |entropy| Question { nats: 0.0, flagged: false, state: Vec::new(), entropy };
        entropies.into_iter().map(question).collect()
    }

    /// Users with one question of hardness 0, two of hardness 1, and so on to 10.
    fn fitted() -> Hoda {
        Hoda::fit(&[asked(
            (0..11u32).flat_map(|hardness| vec![f64::from(hardness); hardness as usize * 5 + 5]),
        )])
    }

    #[test]
    fn the_histogram_of_the_users_themselves_is_at_no_distance() {
        let hoda = fitted();
        assert_eq!(hoda.users, [5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 55.0]);
        let scores = hoda
            .scores(&asked((0..11u32).flat_map(|hardness| vec![f64::from(hardness); hardness as usize + 1])));
        assert_eq!(scores.len(), 66);
        assert!(scores[..FEWEST - 1].iter().all(|&score| score == UNJUDGED));
        assert!(scores[65].abs() < 1e-12);
    }

    #[test]
    fn a_distance_by_hand() {
        // Twenty questions of the easiest kind and below it: correlation of (20, 0, .., 0) with (1, .., 11). Deviations of the first from its
        // mean 20/11, of the second from 6: sum of products 20 * (1 - 6) = -100; of squares 400 - 400/11 and 110.
        let scores = fitted().scores(&asked([[0.0; 10], [-3.0; 10]].concat()));
        let expected = 1.0 + 100.0 / ((400.0 - 400.0 / 11.0) * 110.0f64).sqrt();
        assert!((scores[19] - expected).abs() < 1e-12, "{} {expected}", scores[19]);
        // What is harder than any user's falls into the last bin.
        let hard = fitted().scores(&asked([99.0; 20]));
        assert!((hard[19] - (2.0 - expected)).abs() < 1e-12);
    }

    #[test]
    fn users_without_any_spread_judge_nobody() {
        let hoda = Hoda::fit(&[]);
        assert!(hoda.scores(&asked([1.0; 30])).iter().all(|&score| score == UNJUDGED));
    }
}
