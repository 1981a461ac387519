//! `rounds` (after BECOME, CIKM 2025): the thief asks, trains a copy, looks where the copy still disagrees with what was answered,
//! and goes on asking there. The course of the rounds is in [`crate::rounds`]; here is how the next item is taken.
//!
//! The place of a list is drawn with the weights `exp(3/4 a_i + 1/4 b_i)`, where `a` is the softmax over the list of
//! `1 / (1 + ln(1 + count_i))`, `count_i` being how often item i stood in the sequences when the round began, and `b` that of as many
//! uniform numbers, sorted down the list. That is the published formula. Both softmaxes sum to 1 over the list, so that in a
//! list of 100 no weight is more than two per cent above another: it prefers what was asked seldom and stands high in name more
//! than in effect, and is nearly a uniform draw. With `generate.pick` a place is drawn as that says instead.

use artifact::settings::checks::at_least;
use artifact::settings::{Generate, Invalid, Owned, Pick, Section, owned};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use streams::unit;

use super::{Asked, Course, Division, QueryStrategy, Strategy, taking::Taking};
use crate::rounds::RoundsPlan;

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "rounds",
    title: "Asks, trains a copy, and goes on where the copy still disagrees",
    section: Some(Section::new::<Settings>("generate", "rounds")),
    divide,
    course: Course::Rounds(|campaign| {
        let Settings { rounds, epochs } = owned(&campaign.settings.strategies, "rounds")?;
        let longest = campaign.longest.max(campaign.questions);
        Ok(RoundsPlan {
            rounds,
            epochs,
            longest,
            next: |campaign, items, counts| Box::new(Rare::new(campaign, items, counts)),
        })
    }),
};

/// Settings of the strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Rounds of asking, with a training between two of them.
    rounds: usize,
    /// Epochs of each of these trainings; `null` for half of `distill.epochs`.
    epochs: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { rounds: 4, epochs: None }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        at_least("generate.rounds.rounds", self.rounds, 2)?;
        at_least("generate.rounds.epochs", self.epochs.unwrap_or(1), 1)
    }
}

/// Twice the accounts, each of half the questions on average: some stay short, so that others can grow to the full length.
#[expect(
    clippy::unnecessary_wraps,
    reason = "other strategies read settings of their own, which may be wrong"
)]
fn divide(settings: &Generate, longest: usize, _items: usize) -> Division {
    let length = settings.length.unwrap_or(longest);
    let questions = settings.questions.unwrap_or((length / 2).max(2));
    Ok((settings.accounts.unwrap_or((settings.sequences * length / questions).max(1)), questions))
}

/// Takes what was asked seldom.
struct Rare {
    taking: Taking,
    /// Whether `generate.pick` names another way.
    as_taken: bool,
    /// `1 / (1 + ln(1 + count))` of item `id` at place `id`.
    rarity: Vec<f64>,
}

impl Rare {
    fn new(campaign: &crate::campaign::Campaign<'_>, items: usize, counts: &[u64]) -> Self {
        let rarity = counts.iter().map(|&count| 1.0 / (1.0 + (1.0 + count as f64).ln())).collect();
        let taking = Taking::new(campaign.settings, Pick::Uniform, items);
        Self { taking, as_taken: campaign.settings.pick.is_some(), rarity }
    }

    /// The weights of the places of `list`.
    fn weights(&self, list: &[u32], stream: &mut ChaCha8Rng) -> Vec<f64> {
        let mut random: Vec<f64> = list.iter().map(|_| unit(stream)).collect();
        random.sort_by(|a, b| b.total_cmp(a));
        let rare = list.iter().map(|&item| self.rarity[item as usize].exp());
        let random = random.into_iter().map(f64::exp);
        let (rare, random): (Vec<f64>, Vec<f64>) = rare.zip(random).unzip();
        let (of_rare, of_random) = (rare.iter().sum::<f64>(), random.iter().sum::<f64>());
        rare.iter().zip(&random).map(|(a, b)| (0.75 * a / of_rare + 0.25 * b / of_random).exp()).collect()
    }
}

impl QueryStrategy for Rare {
    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32 {
        let list = asked.list();
        if self.as_taken {
            return self.taking.from_list(asked.sequence, list, stream);
        }
        let mut weights = self.weights(list, stream);
        for (weight, &item) in weights.iter_mut().zip(list) {
            if !self.taking.may_follow(asked.sequence, item) {
                *weight = 0.0;
            }
        }
        let mut draw = unit(stream) * weights.iter().sum::<f64>();
        for (weight, &item) in weights.iter().zip(list) {
            if draw < *weight {
                return item;
            }
            draw -= weight;
        }
        // Nothing of the list may follow, or the last weight was lost in rounding.
        self.taking.from_list(asked.sequence, list, stream)
    }
}

#[cfg(test)]
mod tests {
    use artifact::settings::Generate;
    use streams::{Purpose, Streams};

    use super::*;
    use crate::campaign::Campaign;

    #[test]
    fn what_was_asked_seldom_and_stands_high_is_a_little_likelier() {
        let settings = Generate { top_k: 3, strategy: "rounds".to_owned(), ..Generate::default() };
        let campaign = Campaign::new(&settings, (8, 30), &[], Streams::new(1)).unwrap();
        let rare = Rare::new(&campaign, 3, &[0, 0, 5, 100]);
        let mut stream = Streams::new(1).open(Purpose::Generation, 0, 0, 0);
        let weights = rare.weights(&[1, 2, 3], &mut stream);
        // By hand: 1, 1/(1 + ln 6) = .3582 and 1/(1 + ln 101) = .1781 have the softmax .5087, .2677, .2236, and three
        // numbers from [0, 1) one between 1/(1 + 2e) = .1554 and e/(e + 2) = .5762, falling.
        for (weight, share) in weights.iter().zip([0.5087, 0.2677, 0.2236]) {
            let random = (weight.ln() - 0.75 * share) / 0.25;
            assert!((0.15..0.58).contains(&random), "{weights:?}");
        }
        assert!(weights[0] > weights[1] && weights[1] > weights[2], "{weights:?}");
    }
}
