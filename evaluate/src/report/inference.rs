//! Intervals and tests of all figures of a report in few passes of the bootstrap: the draws of users are the same for every figure, and
//! drawing them is most of the work.

use anyhow::Context;
use indexmap::IndexMap;
use metrics::{Bootstrap, Comparison, Interval, LEVEL, Sample, holm};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Bytes of users' values that wait for a pass, at most.
const WAITING: usize = 64 << 20;

/// The interval of a mean of shares, cut off where no share lies: Student's t for a few seeds reaches further than that.
fn within(interval: Interval, users: &[f64]) -> Interval {
    let low = if users.iter().all(|&value| value >= 0.0) { interval.low.max(0.0) } else { interval.low };
    let high = if users.iter().all(|&value| value <= 1.0) { interval.high.min(1.0) } else { interval.high };
    Interval { low, high, ..interval }
}

/// How a model differs from its counterpart: user by user, and seed by seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The mean difference.
    pub mean: f64,
    /// Lower end of its 95 % interval, over users and over seeds where there are several.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Seeds that both sides have.
    pub seeds: usize,
    /// Chance of so large a difference were there none.
    pub p: f64,
    /// The same, corrected for all differences of the report by the same figure (Holm).
    pub p_corrected: f64,
    /// The mean over the standard deviation of the users' differences.
    pub effect: f64,
    /// Users with whom half the difference would be seen four times in five, under as many seeds; null where no number would do.
    pub users_needed: Option<u64>,
    /// Seeds with which it would, on these users; null where no number would do, or one seed says nothing of others.
    pub seeds_needed: Option<u64>,
}

impl Difference {
    /// Whether it can be told from chance, all differences of the report by the same figure considered.
    pub fn found(&self) -> bool {
        self.p_corrected < LEVEL
    }
}

/// Differences by the name of the figure.
pub type Differences = IndexMap<String, Difference>;

/// What waits for a pass, and what passes have found.
pub(crate) struct Inference {
    bootstrap: Bootstrap,
    waiting: Vec<(Sample, Option<String>)>,
    bytes: usize,
    found: Vec<Result>,
}

/// What was found of a sample.
struct Result {
    interval: Interval,
    seeds: usize,
    /// The figure whose differences are one family, and the test.
    tested: Option<(String, Comparison)>,
}

/// The place of a sample among those handed in.
#[derive(Clone, Copy)]
pub(crate) struct Place(usize);

/// What was found of all samples.
pub(crate) struct Found {
    results: Vec<Result>,
    corrected: Vec<f64>,
    tested: IndexMap<String, usize>,
}

impl Inference {
    pub(crate) fn new(bootstrap: Bootstrap) -> Self {
        Self { bootstrap, waiting: Vec::new(), bytes: 0, found: Vec::new() }
    }

    /// Hand in a figure.
    pub(crate) fn figure(&mut self, sample: Sample) -> anyhow::Result<Place> {
        self.push(sample, None)
    }

    /// Hand in differences by a figure, to be tested as well.
    pub(super) fn difference(&mut self, figure: &str, sample: Sample) -> anyhow::Result<Place> {
        self.push(sample, Some(figure.to_owned()))
    }

    fn push(&mut self, sample: Sample, tested: Option<String>) -> anyhow::Result<Place> {
        let place = Place(self.found.len() + self.waiting.len());
        self.bytes += size_of_val(sample.users());
        self.waiting.push((sample, tested));
        if self.bytes > WAITING {
            self.pass()?;
        }
        Ok(place)
    }

    fn pass(&mut self) -> anyhow::Result<()> {
        self.bytes = 0;
        let (samples, tested): (Vec<Sample>, Vec<Option<String>>) =
            std::mem::take(&mut self.waiting).into_iter().unzip();
        let intervals = self.bootstrap.over_seeds(&samples).context("resampling users and seeds")?;
        let compare = |(sample, tested): (&Sample, Option<String>)| Some((tested?, Comparison::of(sample)));
        let compared: Vec<Option<(String, Comparison)>> =
            samples.par_iter().zip(tested).map(compare).collect();
        let results =
            samples.iter().zip(intervals).zip(compared).map(|((sample, interval), tested)| Result {
                interval: if tested.is_none() { within(interval, sample.users()) } else { interval },
                seeds: sample.seeds().len(),
                tested,
            });
        self.found.extend(results);
        Ok(())
    }

    /// What there is to say of all that was handed in.
    pub(crate) fn finish(mut self) -> anyhow::Result<Found> {
        self.pass()?;
        let mut families: IndexMap<&str, Vec<usize>> = IndexMap::new();
        for (place, result) in self.found.iter().enumerate() {
            if let Some((figure, _)) = &result.tested {
                families.entry(figure).or_default().push(place);
            }
        }
        let mut corrected = vec![1.0; self.found.len()];
        for places in families.values() {
            let chance = |&place: &usize| self.found[place].tested.as_ref().map_or(1.0, |(_, test)| test.p);
            let chances: Vec<f64> = places.iter().map(chance).collect();
            places.iter().zip(holm(&chances)).for_each(|(&place, p)| corrected[place] = p);
        }
        let tested = families.iter().map(|(figure, places)| ((*figure).to_owned(), places.len())).collect();
        Ok(Found { results: self.found, corrected, tested })
    }
}

impl Found {
    pub(crate) fn interval(&self, Place(place): Place) -> Interval {
        self.results[place].interval
    }

    pub(super) fn difference(&self, Place(place): Place) -> Option<Difference> {
        let Result { interval: Interval { mean, low, high }, seeds, ref tested } = self.results[place];
        let (_, Comparison { p, effect, users_needed, seeds_needed }) = *tested.as_ref()?;
        let p_corrected = self.corrected[place];
        Some(Difference { mean, low, high, seeds, p, p_corrected, effect, users_needed, seeds_needed })
    }

    /// How many differences by each figure were tested.
    pub(super) fn tested(&self) -> &IndexMap<String, usize> {
        &self.tested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_shares_is_one_of_shares() {
        let wide = Interval { mean: 0.01, low: -0.02, high: 1.04 };
        assert_eq!(within(wide, &[0.0, 1.0]), Interval { low: 0.0, high: 1.0, ..wide });
        assert_eq!(within(wide, &[-0.5, 1.0]), Interval { high: 1.0, ..wide }, "a difference");
        assert_eq!(within(wide, &[0.0, 3.0]), Interval { low: 0.0, ..wide }, "nats");
    }
}
