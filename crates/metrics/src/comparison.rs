//! Whether a difference can be told from chance, how large it is, and how much more would have to be measured to see half of it.
//!
//! With one seed it is the paired t test over users. With several the mean may be off by what users contribute, which is normal, and by
//! what seeds do, which has the tails of Student's t with one degree of freedom less than there are seeds; p is the chance that the two
//! together reach as far (the solution of Behrens and Fisher), as the interval of [`crate::Bootstrap::over_seeds`] has it. One t with
//! Satterthwaite's degrees of freedom for both would be simpler, and gives half as many false alarms again as it promises where seeds say
//! most. What users and seeds have together is counted in both parts (see [`Sample`]), so that the test errs on the side of caution.
//!
//! How much is needed is a plan and not a test: there the quantiles are those of one t with Satterthwaite's degrees of freedom (Biometrics
//! Bulletin 2, 1946, doi 10.2307/3002019).

use statrs::distribution::{Continuous, ContinuousCDF, Normal, StudentsT};

use crate::sample::{Sample, Variances};

/// Chance of a false alarm that a single test may have.
pub const LEVEL: f64 = 0.05;
/// Chance of seeing an effect that is there, behind [`Comparison::users_needed`].
pub const POWER: f64 = 0.8;

/// Quantiles of the normal distribution at 1 - [`LEVEL`] / 2 and at [`POWER`], which Student's t approaches.
const NORMAL: (f64, f64) = (1.959_963_984_540_054, 0.841_621_233_572_914_2);
/// Degrees of freedom from which the two are taken to be the same.
const MANY: f64 = 1e5;
/// Where the normal density of the users' part is taken: this many points to each side, so far apart.
const NODES: i32 = 128;
const STEP: f64 = 1.0 / 16.0;
/// More users or seeds than this are as good as none.
const MOST: f64 = 1e9;

/// What a mean that is 0 where there is no difference says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Chance of a mean as far from 0 were there no difference; two-sided, of this one test.
    pub p: f64,
    /// The mean over the standard deviation of the users' means: how many of the users' own ups and downs it is large (Cohen's d of pairs). 0
    /// where users do not differ.
    pub effect: f64,
    /// Users with whom, under as many seeds, a difference of half the size would be found with a chance of [`POWER`]; none where no number of
    /// users would do.
    pub users_needed: Option<u64>,
    /// Seeds with which, on as many users, it would; none where no number would do, or where one seed says nothing of others.
    pub seeds_needed: Option<u64>,
}

impl Comparison {
    /// Of paired differences.
    pub fn of(differences: &Sample) -> Self {
        let (users, seeds) = (differences.users().len() as f64, differences.seeds().len() as f64);
        let found = differences.mean();
        let spread = differences.deviation_of_users();
        let of = Errors { users: differences.error_of_users(), seeds: differences.error_of_seeds() };
        let needed = Needed { half: found.abs() / 2.0, variances: differences.variances(), users, seeds };
        Self {
            p: of.p(found, users, seeds),
            effect: if spread > 0.0 { found / spread } else { 0.0 },
            users_needed: needed.users(),
            seeds_needed: needed.seeds(),
        }
    }
}

/// Squared standard errors that users and seeds contribute to a mean.
#[derive(Clone, Copy)]
struct Errors {
    users: f64,
    seeds: f64,
}

impl Errors {
    /// Satterthwaite's degrees of freedom.
    fn freedom(self, users: f64, seeds: f64) -> f64 {
        let part = |error: f64, count: f64| if count > 1.0 { error * error / (count - 1.0) } else { 0.0 };
        (self.users + self.seeds).powi(2) / (part(self.users, users) + part(self.seeds, seeds))
    }

    fn p(self, found: f64, users: f64, seeds: f64) -> f64 {
        let error = (self.users + self.seeds).sqrt();
        // One user, or no difference anywhere, tells nothing.
        if users < 2.0 || found == 0.0 {
            return 1.0;
        }
        if error == 0.0 {
            return 0.0;
        }
        let one_side = if self.seeds == 0.0 {
            let freedom = (users - 1.0).min(MANY);
            StudentsT::new(0.0, 1.0, freedom).map_or(0.5, |t| t.sf(found.abs() / error))
        } else {
            self.beyond(found.abs(), seeds)
        };
        (2.0 * one_side).min(1.0)
    }

    /// The chance that users' part and seeds' part together exceed `reach`: over what the users' may be, what the seeds' then has to be.
    fn beyond(self, reach: f64, seeds: f64) -> f64 {
        let (users, of_seeds) = (self.users.sqrt(), self.seeds.sqrt());
        let (Ok(normal), Ok(t)) = (Normal::new(0.0, 1.0), StudentsT::new(0.0, 1.0, seeds - 1.0)) else {
            return 0.5;
        };
        let nodes = (-NODES..=NODES).map(|node| f64::from(node) * STEP);
        let parts = nodes.map(|z| (normal.pdf(z), t.sf((reach - z * users) / of_seeds)));
        let (weights, chances) =
            parts.fold((0.0, 0.0), |(all, sum), (weight, chance)| (all + weight, sum + weight * chance));
        chances / weights
    }
}

/// How much would have to be measured to see `half`.
struct Needed {
    half: f64,
    variances: Variances,
    users: f64,
    seeds: f64,
}

impl Needed {
    fn users(&self) -> Option<u64> {
        let Variances { users: a, seeds: b, both: e } = self.variances;
        let seeds = self.seeds;
        let twice = if seeds > 1.0 { 2.0 } else { 1.0 };
        self.least(|allowed| (a + twice * e / seeds) / (allowed - b / seeds).max(0.0), |users| (users, seeds))
    }

    fn seeds(&self) -> Option<u64> {
        if self.seeds < 2.0 {
            return None;
        }
        let Variances { users: a, seeds: b, both: e } = self.variances;
        let users = self.users;
        self.least(|allowed| (b + 2.0 * e / users) / (allowed - a / users).max(0.0), |seeds| (users, seeds))
    }

    /// The least number for which the error is small enough, where `solve` says which number brings the squared error down to what is
    /// allowed, and `design` how many users and seeds it stands for.
    fn least(&self, solve: impl Fn(f64) -> f64, design: impl Fn(f64) -> (f64, f64)) -> Option<u64> {
        if self.half == 0.0 {
            return None;
        }
        let number = |(level, power): (f64, f64)| {
            let found = solve((self.half / (level + power)).powi(2));
            // 0 / 0 where nothing varies.
            if found.is_nan() { 2.0 } else { found.ceil().max(2.0) }
        };
        let enough = |count: f64| number(self.quantiles(design(count))) <= count;
        let mut low = number(NORMAL);
        if low > MOST {
            return None;
        }
        // Few of a kind ask for more than the normal distribution says.
        let mut high = low;
        while !enough(high) {
            (low, high) = (high, 2.0 * high);
            if high > MOST {
                return None;
            }
        }
        while high - low > 1.0 {
            let middle = f64::midpoint(low, high).floor();
            if enough(middle) { high = middle } else { low = middle }
        }
        Some(high as u64)
    }

    /// Quantiles of Student's t for the level and the power in another design.
    fn quantiles(&self, (users, seeds): (f64, f64)) -> (f64, f64) {
        let Variances { users: a, seeds: b, both: e } = self.variances;
        let both = e / (users * seeds);
        let of = Errors { users: a / users + both, seeds: if seeds > 1.0 { b / seeds + both } else { 0.0 } };
        let freedom = of.freedom(users, seeds);
        if freedom.is_nan() || freedom > MANY {
            return NORMAL;
        }
        StudentsT::new(0.0, 1.0, freedom)
            .map_or(NORMAL, |t| (t.inverse_cdf(1.0 - LEVEL / 2.0), t.inverse_cdf(POWER)))
    }
}

/// Chances of several tests, corrected so that the chance that any of them is a false alarm stays below [`LEVEL`] where those below it
/// are called found (Holm, Scandinavian Journal of Statistics 6, 1979). They may hang together in any way. In the order given.
///
/// ```
/// assert_eq!(metrics::holm(&[0.01, 0.04, 0.03]), [0.03, 0.06, 0.06]);
/// ```
pub fn holm(chances: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|&left, &right| chances[left].total_cmp(&chances[right]));
    let mut corrected = vec![0.0; chances.len()];
    let mut highest: f64 = 0.0;
    for (place, &test) in order.iter().enumerate() {
        highest = highest.max((chances.len() - place) as f64 * chances[test]).min(1.0);
        corrected[test] = highest;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(columns: &[Vec<f64>]) -> Sample {
        Sample::new(&columns.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn one_seed_is_the_paired_t_test() {
        // Student (1908), extra sleep of ten patients under two drugs: paired t = 4.0621, df 9, p = .002833.
        let slept = vec![1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4];
        let found = Comparison::of(&sample(&[slept]));
        assert!((found.p - 0.002_833).abs() < 5e-7, "{found:?}");
        assert!((found.effect - 4.062_13 / 10f64.sqrt()).abs() < 1e-5, "{found:?}");
        assert_eq!(found.seeds_needed, None);
        // d of half the effect = .6423: R's power.t.test(type = "paired", power = .8) needs 21.03 pairs; the t approximation here, 22.
        assert!(matches!(found.users_needed, Some(21..=22)), "{found:?}");
    }

    #[test]
    fn seeds_that_differ_leave_few_degrees_of_freedom() {
        // Users hardly differ, seeds do: -.05, -.10, -.15. t = -.1 / (.05 / sqrt 3) = -3.464 with 2 degrees: p = .0742.
        let columns: Vec<Vec<f64>> = [-0.05, -0.10, -0.15]
            .iter()
            .map(|&mean| (0..500).map(|user| mean + 1e-6 * f64::from(user % 2)).collect())
            .collect();
        let found = Comparison::of(&sample(&columns));
        assert!((found.p - 0.0742).abs() < 2e-4, "{found:?}");
        assert_eq!(found.users_needed, None, "no number of users makes up for three seeds");
        // Half of it, .05, against .05 / sqrt S: (t.975 + t.8)^2 <= S from 10 seeds on (2.262 + .883 = 3.145, squared 9.89).
        assert_eq!(found.seeds_needed, Some(10));
    }

    #[test]
    fn no_difference_is_no_finding() {
        let nothing = Comparison::of(&sample(&[vec![0.0; 50]]));
        assert_eq!((nothing.p, nothing.effect, nothing.users_needed), (1.0, 0.0, None));
        assert_eq!(Comparison::of(&sample(&[vec![1.0]])).p, 1.0, "one user");
        assert_eq!(Comparison::of(&sample(&[vec![1.0; 50]])).p, 0.0, "the same for everyone");
    }

    #[test]
    fn corrected_chances_keep_their_order_and_end_at_one() {
        assert_eq!(holm(&[]), [0.0; 0]);
        assert_eq!(holm(&[0.2]), [0.2]);
        assert_eq!(holm(&[0.5, 0.001, 0.5, 0.9]), [1.0, 0.004, 1.0, 1.0]);
    }
}
