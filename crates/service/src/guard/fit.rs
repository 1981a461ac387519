//! Fitting a guard to users: half of them say how users take and how seldom they take canaries, others where the threshold stands,
//! and a last part is left for measuring ([`Part`]).
//!
//! The histories that the threshold is set on are to end with an item that the model was not trained on (the validation item). The items
//! before it the model may know by heart, and ranks higher than any that a user will take next: a threshold set on these alone would be
//! passed by far more users than it is meant to be. How users take is fitted to what the model knows, all the same: then those who are
//! flagged are mostly users whom it serves badly, who lose little.

use candle_core::Device;
use models::Recommender;
use rayon::prelude::*;
use streams::scramble;

use super::clients::ClientEvidence;
use super::evidence::{Chance, bins, fit_users};
use super::standing::Taken;
use super::{Guard, Parameters};
use crate::Result;
use crate::key::Key;

/// What a user's history is for. The three parts are disjoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// How users take: two fifths.
    Fit,
    /// Where the threshold stands: two fifths.
    Threshold,
    /// What detection is measured on: one fifth.
    Measure,
}

impl Part {
    /// The part of the user at `index` of a dataset, the same for every guard.
    pub fn of(index: usize) -> Self {
        match scramble(index as u64) % 5 {
            0 | 1 => Part::Fit,
            2 | 3 => Part::Threshold,
            _ => Part::Measure,
        }
    }
}

/// What a guard is to be set to.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// First places of a list, which hold no canary.
    pub honest: usize,
    /// Share of the places past these that hold canaries.
    pub canaries: f64,
    /// Evidence for a user, in nats, at which lists hold none any more.
    pub trust: f64,
    /// Share of their places by which green items are lifted; 0 for no watermark.
    pub watermark: f64,
    /// Share of users that may ever be flagged.
    pub false_alarms: f64,
    /// Share of users' accounts that may begin under suspicion because of others of their client; 0 where none may.
    pub client_alarms: f64,
    /// Length of the lists that users are taken to see.
    pub top_k: usize,
}

/// The parameters of a guard under this key, fitted to users' histories.
///
/// # Errors
/// Those of the model.
pub fn fit<History: AsRef<[u32]> + Sync>(
    wanted: &Wanted,
    key: &Key,
    model: &dyn Recommender,
    (users, others): (&[History], &[History]),
    device: &Device,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<Parameters> {
    let bins = bins(model.sizes().items);
    // Nobody is flagged yet, nor trusted: what the evidence would be does not matter.
    let unfitted = Parameters {
        honest: wanted.honest,
        canaries: wanted.canaries,
        trust: f64::MAX,
        watermark: wanted.watermark,
        false_alarms: wanted.false_alarms,
        users: vec![1.0; bins.len()],
        bins,
        key: key.fingerprint(),
        ..Parameters::default()
    };
    let guard = Guard::with(unfitted.clone(), key.clone());
    let taken = observe(&guard, model, users, wanted.top_k, device, advance)?;
    let counts: Vec<Vec<u32>> = taken.iter().map(|account| counted(account, &unfitted.bins)).collect();
    let all = || taken.iter().flatten();
    let shown: u64 = all().map(|taken| taken.canaries as u64).sum();
    let chance = Chance::fit(all().filter(|taken| taken.canary).count() as u64, shown);
    let users = fit_users(&counts, unfitted.bins.len());
    let fitted = Parameters { users, chance, trust: wanted.trust, ..unfitted };

    let guard = Guard::with(fitted.clone(), key.clone());
    let ways = guard.ways(wanted.top_k);
    let taken = observe(&guard, model, others, wanted.top_k, device, advance)?;
    let weighed = |account: &Vec<Taken>| -> Vec<f64> {
        let mut evidence = ways.begin();
        let nats = account.iter().map(|taken| {
            let canaries = chance.weigh(taken.canaries, wanted.top_k, taken.canary);
            ways.take(&mut evidence, taken.place, canaries);
            evidence.nats()
        });
        nats.collect()
    };
    let nats: Vec<Vec<f64>> = taken.iter().map(weighed).collect();
    // A new account stands at 0, and is believed.
    let mut highest: Vec<f64> = nats.iter().map(|nats| nats.iter().copied().fold(0.0, f64::max)).collect();
    let clients = (wanted.client_alarms > 0.0).then(|| ClientEvidence::fit(wanted.client_alarms, &nats));
    Ok(Parameters { threshold: threshold(&mut highest, wanted.false_alarms), clients, ..fitted })
}

/// The lowest threshold that at most `share` of the accounts with these highest evidences ever pass.
fn threshold(highest: &mut [f64], share: f64) -> f64 {
    highest.sort_by(|a, b| b.total_cmp(a));
    let allowed = (share * highest.len() as f64).floor() as usize;
    highest.get(allowed).copied().unwrap_or(0.0)
}

fn counted(account: &[Taken], bins: &[u32]) -> Vec<u32> {
    let mut counts = vec![0; bins.len()];
    for taken in account {
        counts[bins.partition_point(|&end| end < taken.place)] += 1;
    }
    counts
}

/// What each user took under a guard that flags nobody.
fn observe<History: AsRef<[u32]> + Sync>(
    guard: &Guard,
    model: &dyn Recommender,
    histories: &[History],
    k: usize,
    device: &Device,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Vec<Taken>>> {
    let of = |history: &History| {
        let history = history.as_ref();
        let mut account = Vec::new();
        guard.replay(model, (history, history.len(), k), 0.0, device, |standing| {
            account.extend(standing.taken);
        })?;
        advance(1);
        Ok(account)
    };
    if kernels::fused(device) {
        histories.par_iter().map(of).collect()
    } else {
        histories.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_passed_by_no_more_than_the_share() {
        let mut highest = vec![1.0, 5.0, 3.0, 2.0, 4.0];
        assert_eq!(threshold(&mut highest, 0.4), 3.0, "4 and 5 pass");
        assert_eq!(threshold(&mut highest, 0.0), 5.0);
        assert_eq!(threshold(&mut [], 0.1), 0.0);
    }

    #[test]
    fn users_fall_into_three_parts() {
        let count = |part| (0..10_000).filter(|&index| Part::of(index) == part).count();
        for (part, expected) in [(Part::Fit, 4000usize), (Part::Threshold, 4000), (Part::Measure, 2000)] {
            assert!(count(part).abs_diff(expected) < 200, "{part:?}");
        }
    }
}
