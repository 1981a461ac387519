//! Evidence whether an account takes like a user or like a thief (docs/mathematics.md, section 6.1).
//!
//! What an account takes next stands at some *place* of what it was shown. Places are counted in bins. Under "a user" the
//! bins follow a Dirichlet-multinomial fitted to users: users differ, and a plain multinomial calls too many of them thieves.
//! Under "a thief" they follow an equal mixture of the known ways to take: from the list uniformly, with weights `1/sqrt(place)` or
//! `1/place`, or as users do inside of it, each with some share from the whole catalogue; from the whole catalogue alone; and,
//! for what nobody thought of, any proportions at all (a Dirichlet of 1/2). The evidence is the logarithm of the Bayes
//! factor, in nats; each item taken changes it by one look-up a way.

use serde::{Deserialize, Serialize};

/// Shares of the catalogue that are mixed into each way to take from a list.
const SHARES: [f64; 5] = [0.02, 0.1, 0.25, 0.5, 0.75];

/// Ways to take from a list.
const LISTS: usize = 4;

/// All ways to steal that are told apart: the whole catalogue, and every way to take from a list with every share.
const WAYS: usize = 1 + LISTS * SHARES.len();

/// Upper ends of bins that any catalogue has as far as it reaches. They reach far, so that a thief who takes a third of his items from the
/// whole catalogue is seen.
const ENDS: [u32; 13] = [2, 5, 10, 20, 35, 50, 75, 100, 140, 200, 300, 500, 800];

/// What two ends further out differ by.
const GROWTH: f64 = 1.6;

/// Upper ends of the bins of places in a catalogue of so many items, ascending; the last is `items`.
pub fn bins(items: usize) -> Vec<u32> {
    let items = items as u32;
    let mut ends: Vec<u32> = ENDS.iter().copied().take_while(|&end| end < items).collect();
    let mut end = f64::from(ENDS[ENDS.len() - 1]) * GROWTH;
    while (end as u32) < items {
        ends.push(end as u32);
        end *= GROWTH;
    }
    ends.push(items);
    ends
}

/// What the two hypotheses say of the places an account takes, for lists of one length.
#[derive(Clone, Debug)]
pub struct Ways {
    ends: Vec<u32>,
    /// Parameters of the users' Dirichlet, a bin each.
    users: Vec<f64>,
    total: f64,
    /// Logarithm of the probability of each bin under each way, bin by bin.
    thieves: Vec<[f64; WAYS]>,
}

/// What one account took.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    counts: Vec<u32>,
    taken: u32,
    /// Logarithms of the likelihood: of users, of each way, and of any proportions.
    user: f64,
    thieves: [f64; WAYS],
    any: f64,
    canaries: f64,
}

impl Ways {
    /// The ways over lists of `k`, where users' bins have the parameters `users` and end at `ends`.
    pub fn new(ends: &[u32], users: &[f64], k: usize) -> Self {
        let items = f64::from(*ends.last().unwrap_or(&1));
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let spans: Vec<(u32, u32)> = starts.zip(ends.iter().copied()).collect();
        let k = (k as u32).min(items as u32);
        let inside = |weight: &dyn Fn(u32) -> f64| -> Vec<f64> {
            let masses = spans.iter().map(|&(start, end)| (start + 1..=end.min(k)).map(weight).sum::<f64>());
            let masses: Vec<f64> = masses.collect();
            let sum: f64 = masses.iter().sum();
            masses.into_iter().map(|mass| mass / sum).collect()
        };
        let density = |place: u32| {
            let bin = ends.partition_point(|&end| end < place);
            users[bin] / f64::from(spans[bin].1 - spans[bin].0)
        };
        let lists: [Vec<f64>; LISTS] = [
            inside(&|_| 1.0),
            inside(&|place| f64::from(place).sqrt().recip()),
            inside(&|place| f64::from(place).recip()),
            inside(&density),
        ];
        let catalogue: Vec<f64> = spans.iter().map(|&(start, end)| f64::from(end - start) / items).collect();
        let of_bin = |(bin, all): (usize, &f64)| {
            let mut ways = [all.ln(); WAYS];
            let mixed =
                lists.iter().flat_map(|list| SHARES.map(|share| (1.0 - share) * list[bin] + share * all));
            for (way, probability) in ways[1..].iter_mut().zip(mixed) {
                *way = probability.ln();
            }
            ways
        };
        let thieves = catalogue.iter().enumerate().map(of_bin).collect();
        Self { ends: ends.to_vec(), users: users.to_vec(), total: users.iter().sum(), thieves }
    }

    /// Nothing taken yet.
    pub fn begin(&self) -> Evidence {
        Evidence {
            counts: vec![0; self.ends.len()],
            taken: 0,
            user: 0.0,
            thieves: [0.0; WAYS],
            any: 0.0,
            canaries: 0.0,
        }
    }

    /// An item was taken from `place`, counted from 1; `canaries` is what canaries say to it, in nats.
    pub fn take(&self, evidence: &mut Evidence, place: u32, canaries: f64) {
        let bin = self.ends.partition_point(|&end| end < place).min(self.ends.len() - 1);
        let (count, taken) = (f64::from(evidence.counts[bin]), f64::from(evidence.taken));
        evidence.user += ((self.users[bin] + count) / (self.total + taken)).ln();
        evidence.any += ((0.5 + count) / (0.5 * self.ends.len() as f64 + taken)).ln();
        for (sum, way) in evidence.thieves.iter_mut().zip(&self.thieves[bin]) {
            *sum += way;
        }
        evidence.canaries += canaries;
        evidence.counts[bin] += 1;
        evidence.taken += 1;
    }
}

impl Evidence {
    /// The evidence for a thief, in nats: below 0 for who takes as users do.
    pub fn nats(&self) -> f64 {
        let ways = self.thieves.iter().copied().chain([self.any]);
        let most = ways.clone().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = ways.map(|way| (way - most).exp()).sum();
        most + (sum / (WAYS + 1) as f64).ln() - self.user + self.canaries
    }

    /// Items taken after the first.
    pub fn taken(&self) -> u32 {
        self.taken
    }
}

/// Parameters of a Dirichlet-multinomial by maximum likelihood, from counts `(accounts, bins)`: Minka's fixed point (Estimating a
/// Dirichlet distribution, 2000, eq. 55). `psi(n + a) - psi(a)` of a whole n is the sum of `1 / (a + j)` over j below n.
pub fn fit_users(counts: &[Vec<u32>], bins: usize) -> Vec<f64> {
    let difference = |alpha: f64, count: u32| (0..count).map(|j| 1.0 / (alpha + f64::from(j))).sum::<f64>();
    let all: u32 = counts.iter().flatten().sum();
    // A bin that nobody took from keeps a little: no single item may prove anything.
    let least = 0.5 / f64::from(all.max(1));
    let shares = (0..bins)
        .map(|bin| f64::from(counts.iter().map(|account| account[bin]).sum::<u32>()) / f64::from(all.max(1)));
    let mut alpha: Vec<f64> = shares.map(|share| (10.0 * share).max(least)).collect();
    for _ in 0..ITERATIONS {
        let total: f64 = alpha.iter().sum();
        let below: f64 = counts.iter().map(|account| difference(total, account.iter().sum())).sum();
        if below == 0.0 {
            break;
        }
        let mut moved = 0.0f64;
        for (bin, value) in alpha.iter_mut().enumerate() {
            let above: f64 = counts.iter().map(|account| difference(*value, account[bin])).sum();
            let next = (*value * above / below).max(least);
            moved = moved.max((next / *value - 1.0).abs());
            *value = next;
        }
        if moved < CLOSE {
            break;
        }
    }
    alpha
}

/// Steps of the fixed point at most, and the largest relative step after which it has arrived.
const ITERATIONS: usize = 300;
const CLOSE: f64 = 1e-4;

/// What canaries say to an item taken: the logarithm of how much likelier a thief does that than a user.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chance {
    /// Share of users' steps at which a given canary of the list is taken.
    pub user: f64,
}

impl Chance {
    /// From how often users took one of `shown` canaries (counted over all steps): half a case more, so that none is impossible.
    pub fn fit(taken: u64, shown: u64) -> Self {
        Self { user: (taken as f64 + 0.5) / (shown as f64 + 1.0) }
    }

    /// After a list of `k` with `canaries` of them. Who takes from a list without taste takes each place with 1/k, at least every
    /// other time.
    pub fn weigh(self, canaries: usize, k: usize, taken: bool) -> f64 {
        let (canaries, k) = (canaries as f64, k as f64);
        if canaries == 0.0 {
            0.0
        } else if taken {
            (1.0 / k / self.user).ln().max(0.0)
        } else {
            (1.0 - canaries / (2.0 * k)).ln()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_end_where_the_catalogue_does() {
        assert_eq!(bins(3), [2, 3]);
        assert_eq!(bins(100), [2, 5, 10, 20, 35, 50, 75, 100]);
        let large = bins(12_101);
        assert_eq!(large[12..], [800, 1280, 2048, 3276, 5242, 8388, 12_101]);
    }

    #[test]
    fn evidence_is_the_bayes_factor_of_the_two_hypotheses() {
        // Two bins: places 1 and 2, places 3 and 4; users Dirichlet(3, 1); lists of 2.
        let (ends, users) = ([2, 4], [3.0, 1.0]);
        let ways = Ways::new(&ends, &users, 2);
        let mut evidence = ways.begin();
        ways.take(&mut evidence, 1, 0.0);
        ways.take(&mut evidence, 4, 0.25);
        // Users: 3/4 * 1/5. Any: 1/2 * (1/2)/2. The catalogue alone: 1/4. A list with a share s: (1 - s/2) * s/2, all four ways
        // alike, for both places of the list are in one bin.
        let mixed: f64 = SHARES.iter().map(|s| (1.0 - s / 2.0) * s / 2.0).sum();
        let thief = (0.125 + 0.25 + 4.0 * mixed) / 22.0;
        let expected = (thief / 0.15).ln() + 0.25;
        assert!((evidence.nats() - expected).abs() < 1e-12, "{} {expected}", evidence.nats());
    }

    #[test]
    fn the_order_of_what_was_taken_does_not_matter() {
        let ways = Ways::new(&bins(900), &[1.0; 14], 100);
        let of = |places: &[u32]| {
            let mut evidence = ways.begin();
            for &place in places {
                ways.take(&mut evidence, place, 0.0);
            }
            evidence.nats()
        };
        assert!((of(&[1, 900, 30, 30, 7]) - of(&[30, 7, 1, 30, 900])).abs() < 1e-12);
    }

    #[test]
    fn users_are_fitted_by_maximum_likelihood() {
        let counts = vec![vec![9, 1], vec![2, 8], vec![5, 5], vec![10, 0], vec![1, 9]];
        let alpha = fit_users(&counts, 2);
        let likelihood = |alpha: &[f64]| -> f64 {
            let rising = |a: f64, n: u32| (0..n).map(|j| (a + f64::from(j)).ln()).sum::<f64>();
            let total: f64 = alpha.iter().sum();
            let account = |account: &Vec<u32>| {
                account.iter().zip(alpha).map(|(&n, &a)| rising(a, n)).sum::<f64>()
                    - rising(total, account.iter().sum())
            };
            counts.iter().map(account).sum()
        };
        let best = likelihood(&alpha);
        for step in [0.99, 1.01] {
            assert!(likelihood(&[alpha[0] * step, alpha[1]]) < best + 1e-6);
            assert!(likelihood(&[alpha[0], alpha[1] * step]) < best + 1e-6);
        }
    }

    #[test]
    fn a_canary_taken_weighs_and_each_left_alone_takes_a_little_back() {
        let chance = Chance::fit(0, 49_999);
        assert!((chance.user - 1e-5).abs() < 1e-12);
        assert!((chance.weigh(10, 100, true) - (0.01f64 / 1e-5).ln()).abs() < 1e-9);
        assert!((chance.weigh(10, 100, false) - 0.95f64.ln()).abs() < 1e-12);
        assert_eq!(chance.weigh(0, 100, false), 0.0);
    }
}
