//! Means over users, and 95 % intervals around them by the percentile bootstrap.
//!
//! A figure in a table is a mean over users. The bootstrap asks how far it would move had other users been drawn: it
//! draws as many users as there are, with replacement, a thousand times, and takes the 2.5th and 97.5th percentile of
//! the thousand means. All columns (HR@1, HR@5, …) are resampled by the *same* draws, which costs the drawing once, and
//! a paired comparison is the interval of the column of differences ([`paired_difference`]).
//!
//! Where a figure was measured with several seeds, the seed is a draw too ([`Bootstrap::over_seeds`]): in each resample users are drawn as
//! before, every one with all his seeds, and the mean is moved by what the seeds' means leave open. Drawing the three or five seeds that
//! there are with replacement, as a plain hierarchical bootstrap does, would cover far too seldom: from three seeds at most three times
//! in four, since it never leaves the range that they span. So the seeds' part is drawn from Student's t with one degree
//! of freedom less than there are seeds, around the mean and as wide as their standard error. The draws of t are its quantiles at evenly
//! spaced chances, in an order of their own, which takes the luck out of a heavy tail.
//!
//! Each resample has a ChaCha8 stream of its own, numbered by its place, and every sum runs in the order of the users:
//! the result is the same to the last bit with any number of threads.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{Error, Sample};

/// The mean, summed in order; 0 for no values.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// A mean over users and the ends of its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean over all users.
    pub mean: f64,
    /// 2.5th percentile of the resampled means.
    pub low: f64,
    /// 97.5th percentile of the resampled means.
    pub high: f64,
}

/// How to resample: how often, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// Number of resamples; 1000 is customary for 95 %.
    pub resamples: usize,
    /// Seed of the draws. The same seed and number of users give the same draws.
    pub seed: u64,
}

impl Bootstrap {
    /// The interval of one column of values, one value per user.
    ///
    /// Fails where there is no user or no resample.
    pub fn interval(&self, values: &[f64]) -> Result<Interval, Error> {
        Ok(self.intervals(&[values])?[0])
    }

    /// The intervals of several columns over the same users, in the order given; columns have shape `(users)`.
    ///
    /// Fails where there is no user or no resample, and where columns differ in length.
    pub fn intervals(&self, columns: &[&[f64]]) -> Result<Vec<Interval>, Error> {
        let resampled = self.resample(columns)?;
        Ok(columns
            .iter()
            .zip(resampled)
            .map(|(values, resampled)| interval(mean(values), resampled))
            .collect())
    }

    /// The intervals of several samples of the same users, in the order given: over users, and over seeds where a sample has several.
    ///
    /// Fails where there is no resample, and where samples differ in their number of users.
    pub fn over_seeds(&self, samples: &[Sample]) -> Result<Vec<Interval>, Error> {
        let columns: Vec<&[f64]> = samples.iter().map(Sample::users).collect();
        let resampled = self.resample(&columns)?;
        let mut drawn: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| sample.seeds().len() > 1) {
            drawn.entry(sample.seeds().len()).or_insert_with_key(|&seeds| self.students(seeds));
        }
        let with_seeds = samples.iter().zip(resampled).map(|(sample, mut resampled)| {
            if let Some(drawn) = drawn.get(&sample.seeds().len()) {
                let error = sample.error_of_seeds().sqrt();
                resampled.iter_mut().zip(drawn).for_each(|(mean, draw)| *mean += draw * error);
            }
            interval(sample.mean(), resampled)
        });
        Ok(with_seeds.collect())
    }

    /// Draws of Student's t with `seeds - 1` degrees of freedom, one a resample.
    fn students(&self, seeds: usize) -> Vec<f64> {
        let Ok(t) = StudentsT::new(0.0, 1.0, (seeds - 1) as f64) else { return Vec::new() };
        let chance = |place: usize| (place as f64 + 0.5) / self.resamples as f64;
        let mut draws: Vec<f64> = (0..self.resamples).map(|place| t.inverse_cdf(chance(place))).collect();
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(u64::MAX);
        streams::shuffle(&mut draws, &mut random);
        draws
    }

    /// The means of columns in every resample, `(columns, resamples)`.
    fn resample(&self, columns: &[&[f64]]) -> Result<Vec<Vec<f64>>, Error> {
        let Some(first) = columns.first() else { return Ok(Vec::new()) };
        let users = first.len();
        if let Some(other) = columns.iter().find(|column| column.len() != users) {
            return Err(Error::LengthMismatch { left: users, right: other.len() });
        }
        if users == 0 {
            return Err(Error::NoUsers);
        }
        if self.resamples == 0 {
            return Err(Error::NoResamples);
        }
        let draws = Draws::among(users)?;

        // (resamples, columns)
        let means: Vec<Vec<f64>> = (0..self.resamples)
            .into_par_iter()
            .map_init(
                || vec![0.0; users],
                |weights, resample| {
                    draws.count(self.seed, resample as u64, weights);
                    columns.iter().map(|column| dot(weights, column) / users as f64).collect()
                },
            )
            .collect();

        Ok((0..columns.len()).map(|column| means.iter().map(|row| row[column]).collect()).collect())
    }
}

/// The interval between the percentiles of resampled means.
fn interval(mean: f64, mut resampled: Vec<f64>) -> Interval {
    resampled.sort_unstable_by(f64::total_cmp);
    Interval { mean, low: percentile(&resampled, 0.025), high: percentile(&resampled, 0.975) }
}

/// The column of a paired comparison: `left - right`, user by user. Its interval says whether one is better than the
/// other on the same users, which two intervals that overlap cannot say.
///
/// Fails where the columns differ in length.
pub fn paired_difference(left: &[f64], right: &[f64]) -> Result<Vec<f64>, Error> {
    if left.len() != right.len() {
        return Err(Error::LengthMismatch { left: left.len(), right: right.len() });
    }
    Ok(left.iter().zip(right).map(|(l, r)| l - r).collect())
}

/// Uniform draws among the users, by multiplication with rejection (Lemire 2019), so that none is favoured.
pub(crate) struct Draws {
    users: u32,
    /// Products whose lower half is below this would favour some user.
    rejected_below: u32,
}

impl Draws {
    pub(crate) fn among(users: usize) -> Result<Self, Error> {
        let users = u32::try_from(users).map_err(|_| Error::TooManyUsers { found: users })?;
        Ok(Self { users, rejected_below: users.wrapping_neg() % users })
    }

    /// How often each user is drawn in one resample, written into `weights`.
    pub(crate) fn count(&self, seed: u64, resample: u64, weights: &mut [f64]) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(resample);
        weights.fill(0.0);
        for _ in 0..weights.len() {
            let user = loop {
                let product = u64::from(random.next_u32()) * u64::from(self.users);
                if product as u32 >= self.rejected_below {
                    break product >> 32;
                }
            };
            weights[user as usize] += 1.0;
        }
    }
}

/// The sum of products in eight interleaved parts, added up in a fixed order: fast, and the same on every machine.
fn dot(weights: &[f64], values: &[f64]) -> f64 {
    let mut parts = [0.0; 8];
    let (weight_chunks, weight_tail) = weights.as_chunks::<8>();
    let (value_chunks, value_tail) = values.as_chunks::<8>();
    for (w, v) in weight_chunks.iter().zip(value_chunks) {
        for place in 0..8 {
            parts[place] += w[place] * v[place];
        }
    }
    let tail: f64 = weight_tail.iter().zip(value_tail).map(|(w, v)| w * v).sum();
    parts.iter().sum::<f64>() + tail
}

/// Percentile of sorted values, linear between neighbours.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = place.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(users: usize, every: usize) -> Vec<f64> {
        (0..users).map(|user| f64::from(u8::from(user % every == 0))).collect()
    }

    #[test]
    fn the_mean_of_nothing_is_nothing() {
        assert_eq!(mean(&[]), 0.0);
        assert_eq!(mean(&[1.0, 0.0, 0.0, 1.0]), 0.5);
    }

    #[test]
    fn a_share_gets_the_interval_the_binomial_promises() {
        // 1000 users, a tenth of them hits: the standard error is sqrt(.1 * .9 / 1000) = .0095.
        let interval = Bootstrap { resamples: 4000, seed: 7 }.interval(&hits(1000, 10)).unwrap();
        assert!((interval.mean - 0.1).abs() < 1e-12);
        let (low, high) = (0.1 - 1.96 * 0.009_487, 0.1 + 1.96 * 0.009_487);
        assert!((interval.low - low).abs() < 0.002 && (interval.high - high).abs() < 0.002, "{interval:?}");
    }

    #[test]
    fn same_bytes_with_any_number_of_threads() {
        let column: Vec<f64> = (0..501).map(|user| 1.0 / f64::from(user + 1)).collect();
        let other = hits(501, 3);
        let bootstrap = Bootstrap { resamples: 200, seed: 3 };
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bootstrap.intervals(&[&column, &other]).unwrap())
        };
        let one = with(1);
        assert_eq!(one, with(2));
        assert_eq!(one, with(5));
        // A column's interval does not depend on the company it is in.
        assert_eq!(one[1], bootstrap.interval(&other).unwrap());
        assert_ne!(one[0], Bootstrap { resamples: 200, seed: 4 }.interval(&column).unwrap());
    }

    #[test]
    fn values_without_spread_have_no_width() {
        for users in [1, 2, 9, 100] {
            let interval = Bootstrap { resamples: 50, seed: 1 }.interval(&vec![0.25; users]).unwrap();
            assert_eq!(interval, Interval { mean: 0.25, low: 0.25, high: 0.25 });
        }
    }

    #[test]
    fn the_mean_lies_within() {
        for users in [3, 17, 400] {
            let column: Vec<f64> = (0..users).map(|user| f64::from(user * user % 13)).collect();
            let interval = Bootstrap { resamples: 300, seed: 1 }.interval(&column).unwrap();
            assert!(
                interval.low < interval.mean && interval.mean < interval.high,
                "{users} users: {interval:?}"
            );
        }
    }

    #[test]
    fn a_paired_comparison_sees_what_two_intervals_hide() {
        // The left model hits wherever the right one does, and at 15 more of 1000 users.
        let right = hits(1000, 10);
        let left: Vec<f64> =
            right.iter().enumerate().map(|(user, &hit)| if user % 66 == 1 { 1.0 } else { hit }).collect();
        let bootstrap = Bootstrap { resamples: 1000, seed: 1 };
        let difference = bootstrap.interval(&paired_difference(&left, &right).unwrap()).unwrap();
        assert!(difference.low > 0.0, "{difference:?}");
        let (apart_left, apart_right) =
            (bootstrap.interval(&left).unwrap(), bootstrap.interval(&right).unwrap());
        assert!(apart_left.low < apart_right.high);
    }

    #[test]
    fn every_user_is_drawn_equally_often() {
        let draws = Draws::among(7).unwrap();
        let mut total = [0.0; 7];
        for resample in 0..3000 {
            let mut weights = [0.0; 7];
            draws.count(5, resample, &mut weights);
            assert_eq!(weights.iter().sum::<f64>(), 7.0);
            for (sum, weight) in total.iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        for drawn in total {
            assert!((drawn / 3000.0 - 1.0).abs() < 0.08, "{total:?}");
        }
    }

    #[test]
    fn nothing_to_resample_is_an_error() {
        let bootstrap = Bootstrap { resamples: 10, seed: 1 };
        assert_eq!(bootstrap.interval(&[]), Err(Error::NoUsers));
        assert_eq!(bootstrap.intervals(&[]), Ok(vec![]));
        assert_eq!(bootstrap.intervals(&[&[1.0], &[]]), Err(Error::LengthMismatch { left: 1, right: 0 }));
        assert_eq!(Bootstrap { resamples: 0, seed: 1 }.interval(&[1.0]), Err(Error::NoResamples));
        assert_eq!(paired_difference(&[1.0], &[]), Err(Error::LengthMismatch { left: 1, right: 0 }));
    }
}
