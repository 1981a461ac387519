//! What is measured of detection: the shape of `detect.json`, and how its figures come from accounts.

use artifact::queries::{Price, QueryHeader};
use metrics::{Bootstrap, roc, threshold};
use serde::Serialize;

use super::accounts::Account;
use super::detectors::DETECTORS;
use crate::figures::{Figure, Subject};

/// Shares of users that may ever be flagged, at which detectors are compared.
pub const SHARES: [f64; 3] = [0.001, 0.01, 0.05];

/// Questions up to which it is told who was flagged.
pub const QUESTIONS: [u32; 4] = [5, 10, 20, 50];

/// Most items of a history in each bin of lengths; the last has no end.
pub const LENGTHS: [u32; 5] = [20, 50, 100, 200, u32::MAX];

/// `detect.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Detection {
    /// Fingerprint of the dataset's item numbering.
    pub fingerprint: String,
    /// BLAKE3 of the dataset's sequences.parquet.
    pub sequences: String,
    /// How many items the catalogue holds.
    pub items: usize,
    /// Users that the detectors were fitted to; the guard was fitted to those of the same part when it was made.
    pub fitted_users: usize,
    /// Users that are measured.
    pub users: usize,
    /// Whether the target was trained or guarded on other splits, which `--other-split` allows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub other_split: bool,
    /// Number of bootstrap resamples behind every interval.
    pub bootstrap: usize,
    /// Their seed.
    pub seed: u64,
    /// The target.
    pub target: Subject,
    /// Evidence above which its guard flags an account, in nats.
    pub threshold: f64,
    /// Share of users that its guard was allowed to flag, of those its threshold was set on.
    pub false_alarms: f64,
    /// Users behind the guard, for lists of each length that some thief asked for.
    pub guarded: Vec<Guarded>,
    /// The thieves, in the order of their logs' names.
    pub thieves: Vec<Thief>,
}

/// Users behind the guard as it is set.
#[derive(Clone, Debug, Serialize)]
pub struct Guarded {
    /// Length of the lists.
    pub k: usize,
    /// How they fare.
    #[serde(flatten)]
    pub flagged: Flagged,
    /// Share of them flagged at their test question.
    pub at_test: f64,
    /// The same by length of history.
    pub by_length: Vec<OfLength>,
}

/// How accounts fare behind the guard as it is set.
#[derive(Clone, Debug, Serialize)]
pub struct Flagged {
    /// Accounts.
    pub accounts: usize,
    /// Questions they asked.
    pub questions: u64,
    /// Share of accounts ever flagged.
    pub ever: f64,
    /// Questions until half of the accounts were flagged; null where they never were.
    pub median: Option<u32>,
    /// Questions until nine tenths were.
    pub ninth_decile: Option<u32>,
    /// Share of questions answered truly.
    pub truly: f64,
    /// Share flagged at or before the questions [`QUESTIONS`], of the accounts that asked so many.
    pub by_question: Vec<ByQuestion>,
}

/// Who was flagged by a question.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ByQuestion {
    /// The question, counted from 1.
    pub question: u32,
    /// Accounts that asked so many.
    pub accounts: usize,
    /// Share of these flagged at it or before; null where there are none.
    pub flagged: Option<f64>,
}

/// Users with histories of some lengths.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OfLength {
    /// Fewest items of such a history.
    pub from: u32,
    /// Most items; null where there is no end.
    pub to: Option<u32>,
    /// Users.
    pub users: usize,
    /// Share of them ever flagged; null where there are none.
    pub ever: Option<f64>,
    /// Share flagged at their test question.
    pub at_test: Option<f64>,
    /// Share of their questions answered truly.
    pub truly: Option<f64>,
}

/// A thief, before the guard and before all detectors.
#[derive(Clone, Debug, Serialize)]
pub struct Thief {
    /// The log's directory, as seen from the one that holds all of them.
    pub name: String,
    /// How he asked, in words.
    pub strategy: String,
    /// Length of his lists.
    pub k: usize,
    /// What he paid.
    pub price: Price,
    /// Whether this target answered him; null where the log does not say. Otherwise he is taken to have asked the same of it.
    pub answered_here: Option<bool>,
    /// How he fares behind the guard as it is set.
    pub guarded: Flagged,
    /// How each detector tells him from users.
    pub detectors: Vec<Verdict>,
}

/// How well a detector tells a thief's accounts from users.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The detector.
    pub detector: &'static str,
    /// Share of users that asked enough to be judged.
    pub users_judged: f64,
    /// Share of the thief's accounts that did.
    pub accounts_judged: f64,
    /// Area under the curve, with its 95 % interval.
    pub area: Figure,
    /// What is caught at each of [`SHARES`].
    pub caught: Vec<Caught>,
    /// The corners of the curve: share of users ever flagged, share of accounts caught.
    pub roc: Vec<[f64; 2]>,
}

/// What a detector catches at a threshold.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Caught {
    /// Share of users that may ever be flagged.
    pub false_alarms: f64,
    /// What can be said at it; null where the users are too few for one of them to be so small a share.
    pub at: Option<AtThreshold>,
}

/// What a threshold does.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AtThreshold {
    /// The threshold; null where everyone who can be judged is above it.
    pub threshold: Option<f64>,
    /// Users ever above it.
    pub users_flagged: usize,
    /// Share of the thief's accounts ever above it.
    pub caught: f64,
    /// Questions until half of them were; null where they never were.
    pub median: Option<u32>,
    /// Questions until nine tenths were.
    pub ninth_decile: Option<u32>,
}

/// The share of `accounts` for which something holds; none where there are none.
fn share(accounts: &[&Account], holds: impl Fn(&Account) -> bool) -> Option<f64> {
    let count = accounts.iter().filter(|account| holds(account)).count();
    (!accounts.is_empty()).then(|| count as f64 / accounts.len() as f64)
}

/// The share of the questions of `accounts` that are answered truly.
fn truly(accounts: &[&Account]) -> Option<f64> {
    let questions: u64 = accounts.iter().map(|account| u64::from(account.questions)).sum();
    let decoys: u64 = accounts.iter().map(|account| account.decoyed.len() as u64).sum();
    (questions > 0).then(|| 1.0 - decoys as f64 / questions as f64)
}

/// By which question a share of the accounts was flagged, when each was first flagged at these; none where so many never were.
fn until(first: &[Option<u32>], share: f64) -> Option<u32> {
    let mut asked: Vec<u32> = first.iter().flatten().copied().collect();
    asked.sort_unstable();
    let needed = (share * first.len() as f64).ceil() as usize;
    asked.get(needed.max(1) - 1).copied()
}

impl Flagged {
    /// Of these accounts.
    pub fn of(accounts: &[Account]) -> Self {
        let all: Vec<&Account> = accounts.iter().collect();
        let first: Vec<Option<u32>> = accounts.iter().map(Account::first_flagged).collect();
        let by_question = QUESTIONS.map(|question| {
            let asked: Vec<&Account> =
                accounts.iter().filter(|account| account.questions >= question).collect();
            let flagged = |account: &Account| account.first_flagged().is_some_and(|first| first <= question);
            ByQuestion { question, accounts: asked.len(), flagged: share(&asked, flagged) }
        });
        Self {
            accounts: accounts.len(),
            questions: accounts.iter().map(|account| u64::from(account.questions)).sum(),
            ever: share(&all, |account| account.first_flagged().is_some()).unwrap_or(0.0),
            median: until(&first, 0.5),
            ninth_decile: until(&first, 0.9),
            truly: truly(&all).unwrap_or(1.0),
            by_question: by_question.into(),
        }
    }
}

impl Guarded {
    /// Of these users, who asked for lists of `k`.
    pub fn of(k: usize, users: &[Account]) -> Self {
        let all: Vec<&Account> = users.iter().collect();
        let starts = std::iter::once(1).chain(LENGTHS.iter().map(|&end| end.saturating_add(1)));
        let by_length = starts.zip(LENGTHS).map(|(from, to)| {
            let of_length: Vec<&Account> =
                users.iter().filter(|user| (from..=to).contains(&user.questions)).collect();
            OfLength {
                from,
                to: (to < u32::MAX).then_some(to),
                users: of_length.len(),
                ever: share(&of_length, |user| user.first_flagged().is_some()),
                at_test: share(&of_length, Account::flagged_at_test),
                truly: truly(&of_length),
            }
        });
        Self {
            k,
            flagged: Flagged::of(users),
            at_test: share(&all, Account::flagged_at_test).unwrap_or(0.0),
            by_length: by_length.collect(),
        }
    }
}

/// How each detector tells these accounts of a thief from users.
///
/// # Errors
/// No users, no accounts, or no resample.
pub fn verdicts(
    users: &[Account],
    accounts: &[Account],
    bootstrap: &Bootstrap,
) -> Result<Vec<Verdict>, metrics::Error> {
    let verdict = |(place, detector): (usize, &'static str)| {
        let highest = |accounts: &[Account]| -> Vec<f64> {
            accounts.iter().map(|account| account.scores[place].highest()).collect()
        };
        let judged = |accounts: &[Account]| {
            let count = accounts.iter().filter(|account| account.scores[place].judged()).count();
            count as f64 / accounts.len().max(1) as f64
        };
        let (of_users, of_accounts) = (highest(users), highest(accounts));
        let caught = SHARES.map(|false_alarms| {
            let allowed = (false_alarms * users.len() as f64).floor() as usize;
            let at = (allowed > 0).then(|| {
                let threshold = threshold(&of_users, allowed);
                let first: Vec<Option<u32>> =
                    accounts.iter().map(|account| account.scores[place].first_above(threshold)).collect();
                AtThreshold {
                    threshold: threshold.is_finite().then_some(threshold),
                    users_flagged: of_users.iter().filter(|&&score| score > threshold).count(),
                    caught: first.iter().flatten().count() as f64 / first.len().max(1) as f64,
                    median: until(&first, 0.5),
                    ninth_decile: until(&first, 0.9),
                }
            });
            Caught { false_alarms, at }
        });
        Ok(Verdict {
            detector,
            users_judged: judged(users),
            accounts_judged: judged(accounts),
            area: bootstrap.area(&of_users, &of_accounts)?.into(),
            caught: caught.into(),
            roc: corners(&of_users, &of_accounts),
        })
    };
    DETECTORS.names().enumerate().map(verdict).collect()
}

/// The curve without the points that lie between their neighbours on a line up or to the right.
fn corners(users: &[f64], accounts: &[f64]) -> Vec<[f64; 2]> {
    let mut corners: Vec<[f64; 2]> = Vec::new();
    for point in roc(users, accounts) {
        let next = [point.false_alarms, point.caught];
        if let [.., before, last] = corners.as_mut_slice()
            && (0..2).any(|axis| before[axis] == last[axis] && last[axis] == next[axis])
        {
            *last = next;
        } else {
            corners.push(next);
        }
    }
    corners
}

impl Thief {
    /// A thief's accounts against users.
    ///
    /// # Errors
    /// As [`verdicts`].
    pub fn of(
        (name, strategy): (String, String),
        header: &QueryHeader,
        answered_here: Option<bool>,
        (users, accounts): (&[Account], &[Account]),
        bootstrap: &Bootstrap,
    ) -> Result<Self, metrics::Error> {
        Ok(Self {
            name,
            strategy,
            k: header.k,
            price: header.price(),
            answered_here,
            guarded: Flagged::of(accounts),
            detectors: verdicts(users, accounts, bootstrap)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::accounts::Scores;
    use super::*;

    /// An account with `questions`, decoyed at these, and the same scores by every detector.
    fn account(questions: u32, decoyed: &[u32], scores: &[f64]) -> Account {
        Account {
            questions,
            decoyed: decoyed.to_vec(),
            scores: DETECTORS.names().map(|_| Scores::of(scores)).collect(),
        }
    }

    #[test]
    fn a_share_that_was_never_reached_takes_for_ever() {
        assert_eq!(until(&[Some(9), Some(2), None, Some(4)], 0.5), Some(4));
        assert_eq!(until(&[Some(9), Some(2), None, Some(4)], 0.75), Some(9));
        assert_eq!(until(&[Some(9), Some(2), None, Some(4)], 0.9), None);
        assert_eq!(until(&[], 0.5), None);
    }

    #[test]
    fn accounts_behind_the_guard_by_hand() {
        let accounts = [
            account(10, &[5, 6], &[]),
            account(30, &[6, 29], &[]),
            account(4, &[], &[]),
            account(6, &[], &[]),
        ];
        let flagged = Flagged::of(&accounts);
        assert_eq!((flagged.accounts, flagged.questions), (4, 50));
        assert_eq!((flagged.ever, flagged.median, flagged.ninth_decile), (0.5, Some(6), None));
        assert!((flagged.truly - 46.0 / 50.0).abs() < 1e-12);
        // Three asked five questions and one of them was flagged by then; two asked ten, both flagged; one asked twenty.
        let by: Vec<(usize, Option<f64>)> =
            flagged.by_question.iter().map(|by| (by.accounts, by.flagged)).collect();
        assert_eq!(by, [(3, Some(1.0 / 3.0)), (2, Some(1.0)), (1, Some(1.0)), (0, None)]);

        let guarded = Guarded::of(100, &accounts);
        // The account of 30 questions is flagged at the 29th.
        assert_eq!(guarded.at_test, 0.25);
        let lengths: Vec<(usize, Option<f64>, Option<f64>)> =
            guarded.by_length.iter().map(|of| (of.users, of.ever, of.at_test)).collect();
        assert_eq!(lengths[..2], [(3, Some(1.0 / 3.0), Some(0.0)), (1, Some(1.0), Some(1.0))]);
        assert_eq!(lengths[2..], [(0, None, None); 3]);
        let bounds: Vec<(u32, Option<u32>)> = guarded.by_length.iter().map(|of| (of.from, of.to)).collect();
        assert_eq!(bounds, [(1, Some(20)), (21, Some(50)), (51, Some(100)), (101, Some(200)), (201, None)]);
    }

    #[test]
    fn a_verdict_by_hand() {
        // A hundred users who score 0 to 99; thieves who score 98.5 at once, 96 after two questions, and 50.
        let users: Vec<Account> = (0..100).map(|score| account(1, &[], &[f64::from(score)])).collect();
        let thieves =
            [account(2, &[], &[98.5, 0.0]), account(2, &[], &[1.0, 96.0]), account(2, &[], &[50.0, 50.0])];
        let verdict = &verdicts(&users, &thieves, &Bootstrap { resamples: 20, seed: 1 }).unwrap()[0];
        assert_eq!((verdict.detector, verdict.users_judged, verdict.accounts_judged), ("guard", 1.0, 1.0));
        // Users below: 99, 96 and one even, 50 and one even.
        assert!((verdict.area.mean - (99.0 + 96.5 + 50.5) / 300.0).abs() < 1e-12);
        let [tenth, one, five] = verdict.caught.as_slice() else { panic!() };
        assert!(tenth.at.is_none(), "no one of a hundred users is a tenth of a hundredth");
        let at = one.at.unwrap();
        assert_eq!((at.threshold, at.users_flagged, at.median), (Some(98.0), 1, None));
        assert!((at.caught - 1.0 / 3.0).abs() < 1e-12);
        let at = five.at.unwrap();
        assert_eq!(
            (at.threshold, at.users_flagged, at.median, at.ninth_decile),
            (Some(94.0), 5, Some(2), None)
        );
        assert!((at.caught - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(verdict.roc[..3], [[0.0, 0.0], [0.01, 0.0], [0.01, 1.0 / 3.0]]);
        assert_eq!(verdict.roc.last(), Some(&[1.0, 1.0]));
    }

    #[test]
    fn what_cannot_be_judged_is_caught_last() {
        let users = [account(1, &[], &[0.3]), account(1, &[], &[])];
        let verdict =
            &verdicts(&users, &[account(1, &[], &[])], &Bootstrap { resamples: 9, seed: 1 }).unwrap()[1];
        assert_eq!((verdict.users_judged, verdict.accounts_judged), (0.5, 0.0));
        // Below the user who was judged, even with the other.
        assert_eq!(verdict.area.mean, 0.25);
        assert_eq!(verdict.roc, [[0.0, 0.0], [0.5, 0.0], [1.0, 1.0]]);
    }
}
