//! Evidence over all accounts of a client: who opens thousands of accounts of a few questions each is nobody in any of them, and together
//! he is somebody. New accounts of a client whose accounts before took like thieves begin under suspicion.
//!
//! A client may be a shop with many users, some of whom will look like thieves. So what an account of evidence `E` says is bounded, and
//! weighs against its client only what users do not say on average:
//!
//! `w(E) = ln(1 - s + s exp(min(E, M))) - d`,
//!
//! the logarithm of the Bayes factor of "a share `s` of this client's accounts are a thief's" against "all are users'", where `d` is
//! fitted so that `exp(w)` is at most 1 in the mean over users, whatever they took so far. The sum over a client's accounts, in the
//! order in which they began, is not let fall below 0: `S = max(0, S + w)`, Page's cumulative sum. Then, by Ville's inequality for the sums
//! read backwards, an account among users alone begins while `S` is at least `h` with a chance of `exp(-h)` at most, however many accounts the client has: false
//! alarms do not add up. A client of one account has no other that could speak against it.
//!
//! An account is known by its name as long as the service remembers it (`REMEMBERED`): however many others came meanwhile, it stays as it
//! began, and what it took counts once, in its place. One that is not known is new, whatever past its history claims, or else who
//! claims a past would never be suspected. So that an account's latest evidence moves the sum at little cost, the steps of 64 accounts at
//! a time are kept as one, and these in a tree: steps that are taken one after another are again a step (`Step`).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Who asks: an account, and the client whose account it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// A number that stands for the client; none where an account stands for itself.
    pub client: Option<u64>,
    /// A number that stands for the account.
    pub account: u64,
}

/// Accounts that are remembered one by one, those of all clients together, some 60 bytes each. When they are more, the older half of those
/// of the client with the most is forgotten; what these said stays in its sum.
const REMEMBERED: usize = 1 << 20;

/// Accounts whose steps are kept as one.
const BLOCK: usize = 64;

/// Fewest users over whom a mean is taken.
const FEWEST: usize = 20;

/// What accounts say of their client.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientEvidence {
    /// Share of the accounts of a thief that take like a thief's.
    pub share: f64,
    /// The most that an account's evidence counts for, in nats.
    pub most: f64,
    /// What is taken off each account's weight, in nats.
    pub less: f64,
    /// Sum above which new accounts begin under suspicion, in nats.
    pub alarm: f64,
}

impl ClientEvidence {
    /// The evidence under which at most a share of `alarms` of users' accounts begin under suspicion. `users` are what users' accounts
    /// weighed at each of their questions after the first, in nats.
    pub fn fit(alarms: f64, users: &[Vec<f64>]) -> Self {
        let open = Self { share: 0.9, most: 4.0, less: 0.0, alarm: -alarms.ln() };
        let longest = users.iter().map(Vec::len).max().unwrap_or(0);
        let mean = |question: usize| {
            let factors: Vec<f64> = users
                .iter()
                .filter_map(|nats| nats.get(question))
                .map(|&nats| open.weight(nats).exp())
                .collect();
            (factors.len() >= FEWEST).then(|| factors.iter().sum::<f64>() / factors.len() as f64)
        };
        let highest = (0..longest).filter_map(mean).fold(1.0, f64::max);
        Self { less: highest.ln(), ..open }
    }

    /// Whether these numbers can be used.
    pub(super) fn is_sound(&self) -> bool {
        (0.0..1.0).contains(&self.share)
            && self.less >= 0.0
            && self.most.is_finite()
            && self.less.is_finite()
            && self.alarm > 0.0
    }

    /// What an account with this evidence weighs against its client.
    fn weight(&self, nats: f64) -> f64 {
        (1.0 - self.share + self.share * nats.min(self.most).exp()).ln() - self.less
    }
}

/// What accounts that began one after another make of the sum `S` before them: `min(high, max(low, S + add))`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    add: f64,
    low: f64,
    high: f64,
}

impl Step {
    /// Of no account.
    const NONE: Self = Self { add: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// Of an account of this weight, after which the sum is at most `most`.
    fn of(weight: f64, most: f64) -> Self {
        Self { add: weight, low: 0.0, high: most }
    }

    fn after(&self, sum: f64) -> f64 {
        (sum + self.add).max(self.low).min(self.high)
    }

    /// This step and the `next` as one.
    fn then(&self, next: &Self) -> Self {
        Self { add: self.add + next.add, low: next.after(self.low), high: next.after(self.high) }
    }
}

/// The accounts of a client, in the order in which they began.
#[derive(Debug, Default)]
struct Client {
    /// The sum over the accounts that are not remembered any more.
    before: f64,
    members: Vec<Member>,
    /// Where an account stands among `members`.
    places: HashMap<u64, u32>,
    /// A binary tree: the step of everybody at 1, below `n` the halves of its accounts at `2 n` and `2 n + 1`, and in its second half the blocks.
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Member {
    account: u64,
    /// Under how much suspicion it began, in nats.
    begun_under: f64,
    weight: f64,
}

/// All clients of a service.
#[derive(Debug)]
pub(crate) struct Clients {
    by_number: HashMap<u64, Client>,
    /// Accounts that are remembered.
    accounts: usize,
    /// The most that are.
    most: usize,
}

impl Default for Clients {
    fn default() -> Self {
        Self { by_number: HashMap::new(), accounts: 0, most: REMEMBERED }
    }
}

impl Clients {
    /// Under how much suspicion an account stands because of the others of its client, in nats that its own evidence is raised by, `most` at
    /// most: what they say now, where it is new.
    pub(crate) fn suspicion(&self, evidence: &ClientEvidence, asker: Asker, most: f64) -> f64 {
        let Some(client) = asker.client.and_then(|client| self.by_number.get(&client)) else { return 0.0 };
        match client.places.get(&asker.account) {
            Some(&place) => client.members[place as usize].begun_under,
            None => (client.sum() - evidence.alarm).clamp(0.0, most),
        }
    }

    /// What an account has taken so far is held against its client, or for it, in place of what it had taken before. It began under
    /// `suspicion`, and its own evidence is `nats`; none where it took nothing yet.
    pub(crate) fn note(
        &mut self,
        evidence: &ClientEvidence,
        asker: Asker,
        (suspicion, most): (f64, f64),
        nats: Option<f64>,
    ) {
        let Some(number) = asker.client else { return };
        let client = self.by_number.entry(number).or_default();
        let weight = nats.map_or(0.0, |nats| evidence.weight(nats));
        let most = evidence.alarm + most;
        if let Some(&place) = client.places.get(&asker.account) {
            client.members[place as usize].weight = weight;
            client.step(place as usize / BLOCK, most);
            return;
        }
        client.push(Member { account: asker.account, begun_under: suspicion, weight }, most);
        self.accounts += 1;
        if self.accounts > self.most
            && let Some(largest) = self.by_number.values_mut().max_by_key(|client| client.members.len())
        {
            self.accounts -= largest.forget(most);
        }
    }
}

impl Client {
    /// The sum over its accounts, never below 0 nor above the most: who took like a thief for long is believed again no later than others.
    fn sum(&self) -> f64 {
        self.steps.get(1).unwrap_or(&Step::NONE).after(self.before)
    }

    fn push(&mut self, member: Member, most: f64) {
        let place = self.members.len();
        self.places.insert(member.account, place as u32);
        self.members.push(member);
        if place / BLOCK >= self.steps.len() / 2 {
            self.plant(most);
        } else {
            self.step(place / BLOCK, most);
        }
    }

    /// Works the step of a block out again, and those that it is part of.
    fn step(&mut self, block: usize, most: f64) {
        let mut node = self.steps.len() / 2 + block;
        self.steps[node] = self.step_of(block, most);
        while node > 1 {
            node /= 2;
            self.steps[node] = self.steps[2 * node].then(&self.steps[2 * node + 1]);
        }
    }

    fn step_of(&self, block: usize, most: f64) -> Step {
        let members = self.members.iter().skip(block * BLOCK).take(BLOCK);
        members.fold(Step::NONE, |step, member| step.then(&Step::of(member.weight, most)))
    }

    /// Makes the tree anew, with as much room again.
    fn plant(&mut self, most: f64) {
        let leaves = self.members.len().div_ceil(BLOCK).next_power_of_two();
        self.steps = vec![Step::NONE; 2 * leaves];
        for block in 0..self.members.len().div_ceil(BLOCK) {
            self.steps[leaves + block] = self.step_of(block, most);
        }
        for node in (1..leaves).rev() {
            self.steps[node] = self.steps[2 * node].then(&self.steps[2 * node + 1]);
        }
    }

    /// Forgets the older half of its accounts, but not what they said. Returns how many these were.
    fn forget(&mut self, most: f64) -> usize {
        let older = self.members.len().div_ceil(2);
        for member in self.members.drain(..older) {
            self.before = Step::of(member.weight, most).after(self.before);
        }
        self.places = (0..).zip(&self.members).map(|(place, member)| (member.account, place)).collect();
        self.plant(most);
        older
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIDENCE: ClientEvidence = ClientEvidence { share: 0.9, most: 4.0, less: 0.0, alarm: 6.9 };

    fn asker(client: u64, account: u64) -> Asker {
        Asker { client: Some(client), account }
    }

    #[test]
    fn a_weight_is_bounded_on_both_sides() {
        assert!((EVIDENCE.weight(0.0)).abs() < 1e-12);
        assert_eq!(EVIDENCE.weight(50.0), EVIDENCE.weight(4.0));
        assert!((EVIDENCE.weight(4.0) - (0.1 + 0.9 * 4f64.exp()).ln()).abs() < 1e-12);
        assert!((EVIDENCE.weight(-90.0) - 0.1f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn users_mean_factor_is_one_at_the_question_where_it_is_highest() {
        // Of 40 users one takes like a thief at first, five later on.
        let users: Vec<Vec<f64>> = (0..40)
            .map(|user| vec![if user < 1 { 9.0 } else { -1.0 }, if user < 5 { 9.0 } else { -1.0 }])
            .collect();
        let fitted = ClientEvidence::fit(0.001, &users);
        let mean = |question: usize| {
            users.iter().map(|nats| fitted.weight(nats[question]).exp()).sum::<f64>() / 40.0
        };
        assert!(mean(0) < 1.0 && (mean(1) - 1.0).abs() < 1e-9, "{} {}", mean(0), mean(1));
        assert!((fitted.alarm - 6.907_755).abs() < 1e-5);
        assert!(
            ClientEvidence::fit(0.001, &vec![vec![-2.0]; 40]).less.abs() < 1e-12,
            "nothing is added to it"
        );
    }

    #[test]
    fn accounts_speak_against_new_ones_of_their_client_and_of_no_other() {
        let mut clients = Clients::default();
        for account in 0..3 {
            assert_eq!(clients.suspicion(&EVIDENCE, asker(1, 9), 7.0) > 0.0, account == 2, "after {account}");
            clients.note(&EVIDENCE, asker(1, account), (0.0, 7.0), Some(8.0));
        }
        // Three times 3.897 less the alarm.
        assert!(
            (clients.suspicion(&EVIDENCE, asker(1, 9), 7.0) - (3.0 * EVIDENCE.weight(4.0) - 6.9)).abs()
                < 1e-9
        );
        assert_eq!(clients.suspicion(&EVIDENCE, asker(1, 9), 2.0), 2.0, "never more than was said");
        assert_eq!(clients.suspicion(&EVIDENCE, asker(1, 0), 7.0), 0.0, "an account stays as it began");
        assert_eq!(clients.suspicion(&EVIDENCE, asker(2, 9), 7.0), 0.0);
        assert_eq!(clients.suspicion(&EVIDENCE, Asker { client: None, account: 9 }, 7.0), 0.0);
        // Its accounts are users' after all.
        for account in 0..3 {
            clients.note(&EVIDENCE, asker(1, account), (0.0, 7.0), Some(-5.0));
        }
        assert_eq!(clients.suspicion(&EVIDENCE, asker(1, 9), 7.0), 0.0);
    }

    #[test]
    fn what_is_forgotten_stays_in_the_sum() {
        let nats = |account: u64| if account.is_multiple_of(3) { 2.5 } else { -0.9 };
        let mut clients = Clients { most: 500, ..Clients::default() };
        clients.note(&EVIDENCE, asker(2, 0), (0.25, 7.0), Some(1.0));
        let mut sum: f64 = 0.0;
        for account in 0..2000 {
            let expected = (sum - EVIDENCE.alarm).max(0.0);
            let found = clients.suspicion(&EVIDENCE, asker(1, account), 7.0);
            assert!((found - expected).abs() < 1e-9, "{account}: {found} {expected}");
            clients.note(&EVIDENCE, asker(1, account), (found, 7.0), Some(nats(account)));
            sum = (sum + EVIDENCE.weight(nats(account))).clamp(0.0, EVIDENCE.alarm + 7.0);
            assert!(clients.accounts <= 500);
        }
        assert!(sum > 1.0);
        let left = |client| clients.by_number[&client].members.len();
        assert!(
            (250..500).contains(&left(1)) && clients.by_number[&1].places.len() == left(1),
            "{}",
            left(1)
        );
        assert_eq!((left(2), clients.accounts), (1, left(1) + 1), "the client of few keeps them");
        assert_eq!(clients.suspicion(&EVIDENCE, asker(2, 0), 7.0), 0.25);
    }

    /// The sum in the order in which accounts began, each with what it took last.
    #[test]
    fn an_account_stays_as_it_began_and_counts_once_however_many_others_there_are() {
        use streams::{Purpose, Streams, below, unit};
        const ACCOUNTS: u64 = 3000;
        let mut stream = Streams::new(5).open(Purpose::Generation, 0, 0, 0);
        let mut clients = Clients::default();
        let (mut begun, mut weights): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        // Each of many users asks again and again, in any order.
        for turn in 0..4 * ACCOUNTS {
            let account = if turn < ACCOUNTS { turn } else { u64::from(below(&mut stream, ACCOUNTS as u32)) };
            let nats = 3.2 * unit(&mut stream) - 1.5;
            let found = clients.suspicion(&EVIDENCE, asker(1, account), 7.0);
            if turn < ACCOUNTS {
                begun.push(found);
                weights.push(0.0);
            }
            assert_eq!(found, begun[account as usize], "turn {turn}: account {account} is not new");
            clients.note(&EVIDENCE, asker(1, account), (found, 7.0), Some(nats));
            weights[account as usize] = EVIDENCE.weight(nats);
            if turn % 97 == 0 {
                let most = EVIDENCE.alarm + 7.0;
                let sum = weights.iter().fold(0.0, |sum: f64, weight| (sum + weight).clamp(0.0, most));
                assert!((clients.by_number[&1].sum() - sum).abs() < 1e-9, "turn {turn}");
            }
        }
        assert!(begun.iter().filter(|&&suspicion| suspicion > 0.0).count() > 100);
        assert_eq!(clients.accounts, 3000);
    }

    /// A shop's users by the thousand, one in fifty of whom takes like a thief.
    #[test]
    fn users_false_alarms_do_not_add_up() {
        use streams::{Purpose, Streams, unit};
        let mut stream = Streams::new(4).open(Purpose::Generation, 0, 0, 0);
        let user = |draw: f64| if draw < 0.02 { 8.0 } else { -3.0 * draw };
        let seen: Vec<Vec<f64>> = (0..4000).map(|_| vec![user(unit(&mut stream))]).collect();
        let evidence = ClientEvidence::fit(0.01, &seen);
        let mut clients = Clients::default();
        let mut under = 0;
        for account in 0..20_000 {
            let suspicion = clients.suspicion(&evidence, asker(1, account), 7.0);
            under += usize::from(suspicion > 0.0);
            clients.note(&evidence, asker(1, account), (suspicion, 7.0), Some(user(unit(&mut stream))));
        }
        assert!(under <= 200, "{under} of 20,000 began under suspicion, expected a hundredth at most");
    }
}
