//! How well a score tells two groups apart: the receiver operating characteristic, its area, and the threshold that raises no more
//! than a number of false alarms.
//!
//! A score above the threshold is an alarm. *Negatives* are those that should raise none, *positives* those that should; of both, scores
//! in any order, and minus infinity for what cannot be judged. The area is the chance that a positive scores above a negative, equal
//! scores counting half (Mann and Whitney 1947), and its interval resamples both groups.

use rayon::prelude::*;

use crate::intervals::{Draws, percentile};
use crate::{Bootstrap, Error, Interval};

/// A point of a curve: the shares that score at least `at_least`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RocPoint {
    /// The score.
    pub at_least: f64,
    /// Share of the negatives.
    pub false_alarms: f64,
    /// Share of the positives.
    pub caught: f64,
}

/// Scores of both groups in descending order; true is a positive. The number is the place in its group.
fn descending(negatives: &[f64], positives: &[f64]) -> Vec<(f64, bool, usize)> {
    let negatives = negatives.iter().enumerate().map(|(place, &score)| (score, false, place));
    let mut all: Vec<(f64, bool, usize)> =
        negatives.chain(positives.iter().enumerate().map(|(place, &score)| (score, true, place))).collect();
    // Negative zero is zero here: a tie must not fall to the order of the signs.
    all.sort_by(|left, right| (right.0 + 0.0).total_cmp(&(left.0 + 0.0)));
    all
}

/// The curve, from no alarm at all (above every score) to an alarm for everybody: a point for each different score.
pub fn roc(negatives: &[f64], positives: &[f64]) -> Vec<RocPoint> {
    let mut points = vec![RocPoint { at_least: f64::INFINITY, false_alarms: 0.0, caught: 0.0 }];
    let (mut alarms, mut caught) = (0usize, 0usize);
    for alike in descending(negatives, positives).chunk_by(|left, right| left.0 == right.0) {
        let here = alike.iter().filter(|(_, positive, _)| *positive).count();
        caught += here;
        alarms += alike.len() - here;
        points.push(RocPoint {
            at_least: alike[0].0,
            false_alarms: alarms as f64 / negatives.len().max(1) as f64,
            caught: caught as f64 / positives.len().max(1) as f64,
        });
    }
    points
}

/// The area under the curve; one half where a group is empty.
pub fn area(negatives: &[f64], positives: &[f64]) -> f64 {
    let (mut above, mut won) = (0.0, 0.0);
    for alike in descending(negatives, positives).chunk_by(|left, right| left.0 == right.0) {
        let here = alike.iter().filter(|(_, positive, _)| *positive).count() as f64;
        let beside = alike.len() as f64 - here;
        // Each negative here is below the positives above, and even with those here.
        won += beside * (above + here / 2.0);
        above += here;
    }
    let pairs = negatives.len() as f64 * positives.len() as f64;
    if pairs == 0.0 { 0.5 } else { won / pairs }
}

/// The lowest threshold that no more than `allowed` of the scores are above; minus infinity where all may be.
pub fn threshold(scores: &[f64], allowed: usize) -> f64 {
    let mut scores = scores.to_vec();
    scores.sort_by(|left, right| right.total_cmp(left));
    scores.get(allowed).copied().unwrap_or(f64::NEG_INFINITY)
}

impl Bootstrap {
    /// The area under the curve with its interval: both groups are resampled, each by draws of its own. Groups of the same sizes are
    /// resampled by the same draws, whatever their scores.
    ///
    /// # Errors
    /// A group without members; no resample.
    pub fn area(&self, negatives: &[f64], positives: &[f64]) -> Result<Interval, Error> {
        if negatives.is_empty() || positives.is_empty() {
            return Err(Error::NoUsers);
        }
        if self.resamples == 0 {
            return Err(Error::NoResamples);
        }
        let sorted = descending(negatives, positives);
        let (of_negatives, of_positives) = (Draws::among(negatives.len())?, Draws::among(positives.len())?);
        let pairs = negatives.len() as f64 * positives.len() as f64;
        let mut areas: Vec<f64> = (0..self.resamples as u64)
            .into_par_iter()
            .map_init(
                || (vec![0.0; negatives.len()], vec![0.0; positives.len()]),
                |(negative, positive), resample| {
                    of_negatives.count(self.seed, 2 * resample, negative);
                    of_positives.count(self.seed, 2 * resample + 1, positive);
                    let (mut above, mut won) = (0.0, 0.0);
                    for alike in sorted.chunk_by(|left, right| left.0 == right.0) {
                        let (mut here, mut beside) = (0.0, 0.0);
                        for &(_, is_positive, place) in alike {
                            if is_positive {
                                here += positive[place];
                            } else {
                                beside += negative[place];
                            }
                        }
                        won += beside * (above + here / 2.0);
                        above += here;
                    }
                    won / pairs
                },
            )
            .collect();
        areas.sort_unstable_by(f64::total_cmp);
        Ok(Interval {
            mean: area(negatives, positives),
            low: percentile(&areas, 0.025),
            high: percentile(&areas, 0.975),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_by_hand() {
        // Descending: 5 (positive), 4 (both), 3 (negative), 1 (positive), and one that cannot be judged.
        let (negatives, positives) = ([4.0, 3.0, f64::NEG_INFINITY, 3.0], [1.0, 4.0, 5.0, 4.0]);
        let curve: Vec<(f64, f64)> =
            roc(&negatives, &positives).iter().map(|point| (point.false_alarms, point.caught)).collect();
        assert_eq!(curve, [(0.0, 0.0), (0.0, 0.25), (0.25, 0.75), (0.75, 0.75), (0.75, 1.0), (1.0, 1.0)]);
        // Pairs won: of 5 all four; of each 4 three and a half; of 1 one. 12 of 16.
        assert_eq!(area(&negatives, &positives), 12.0 / 16.0);
        // The trapezoids under the curve: .25 * (.25 + .75)/2 + .5 * .75 + .25 * 1.
        assert_eq!(0.125 + 0.375 + 0.25, 12.0 / 16.0);
    }

    #[test]
    fn the_area_is_one_apart_zero_reversed_and_half_when_nothing_tells() {
        assert_eq!(area(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        assert_eq!(area(&[3.0, 4.0], &[1.0, 2.0]), 0.0);
        assert_eq!(area(&[0.0, -0.0], &[-0.0, 0.0, 0.0]), 0.5);
        assert_eq!(area(&[], &[1.0]), 0.5);
    }

    #[test]
    fn a_threshold_is_passed_by_no_more_than_allowed() {
        let scores = [1.0, 5.0, 3.0, 2.0, 4.0, 4.0];
        let above = |threshold: f64| scores.iter().filter(|&&score| score > threshold).count();
        assert_eq!((threshold(&scores, 0), above(5.0)), (5.0, 0));
        assert_eq!((threshold(&scores, 1), above(4.0)), (4.0, 1));
        assert_eq!(threshold(&scores, 2), 4.0, "two of one score pass together or not at all");
        assert_eq!((threshold(&scores, 3), above(3.0)), (3.0, 3));
        assert_eq!(threshold(&scores, 6), f64::NEG_INFINITY);
    }

    #[test]
    fn the_interval_is_as_wide_as_theory_says() {
        // Scores of 0 and 1: 300 negatives with a tenth of ones, 200 positives with half. The area is .5 + (.5 - .1)/2 = .7, the mean of two
        // shares, and its variance (.5*.5/200 + .1*.9/300)/4.
        let ones = |count: usize, every: usize| -> Vec<f64> {
            (0..count).map(|place| f64::from(u8::from(place % every == 0))).collect()
        };
        let (negatives, positives) = (ones(300, 10), ones(200, 2));
        let bootstrap = Bootstrap { resamples: 4000, seed: 3 };
        let interval = bootstrap.area(&negatives, &positives).unwrap();
        assert!((interval.mean - 0.7).abs() < 1e-12);
        let half = 1.96 * ((0.25 / 200.0 + 0.09 / 300.0) / 4.0f64).sqrt();
        assert!(
            (interval.high - 0.7 - half).abs() < 0.003 && (0.7 - interval.low - half).abs() < 0.003,
            "{interval:?}"
        );
    }

    #[test]
    fn the_interval_has_the_same_bytes_with_any_number_of_threads() {
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (negatives, positives): (Vec<f64>, Vec<f64>) =
                ((0..40).map(f64::from).collect(), (20..90).map(|score| f64::from(score) / 1.5).collect());
            pool.install(|| Bootstrap { resamples: 300, seed: 1 }.area(&negatives, &positives).unwrap())
        };
        assert_eq!(of(1), of(3));
        assert_eq!(Bootstrap { resamples: 9, seed: 1 }.area(&[], &[1.0]), Err(Error::NoUsers));
    }
}
