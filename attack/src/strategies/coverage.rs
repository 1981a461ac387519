//! `coverage` (after LLM4MEA, 2025): random and grown accounts in turns, until the random ones have drawn a share of the catalogue;
//! from there on all are grown. Random items tell how the target sees what it seldom recommends, grown ones how it goes on
//! from its own recommendations.
//!
//! In LLM4MEA all random sequences come first. Here they alternate with grown ones, so that the first questions of a log are a
//! thief of the same kind as the whole. Which accounts are random is known before the first question: what they draw does not
//! depend on answers. Accounts that begin with a real history count with what they would draw without one.

use artifact::settings::checks::number;
use artifact::settings::{Invalid, Owned, Pick, Section, owned};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Asked, Course, QueryStrategy, Strategy, as_set, taking::Taking};
use crate::campaign::Campaign;
use crate::generate::first_item;

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "coverage",
    title: "Random and grown accounts in turns, until a share of the catalogue was drawn",
    section: Some(Section::new::<Settings>("generate", "coverage")),
    divide: as_set,
    course: Course::Straight(|campaign| Ok(Box::new(Coverage::new(campaign)?))),
};

/// Settings of the strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Share of the catalogue that random accounts draw, above 0 and at most 1.
    share: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { share: 0.9 }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        number("generate.coverage.share", self.share, "above 0 and at most 1", |share| {
            share > 0.0 && share <= 1.0
        })
    }
}

/// The strategy.
struct Coverage {
    taking: Taking,
    /// Even accounts below this one are random.
    random_below: usize,
}

impl Coverage {
    fn new(campaign: &Campaign<'_>) -> Result<Self, Invalid> {
        let items = campaign.items;
        let settings: Settings = owned(&campaign.settings.strategies, "coverage")?;
        let taking = Taking::new(campaign.settings, Pick::Uniform, items);
        let wanted = (settings.share * items as f64).ceil() as usize;
        let (mut drawn, mut count, mut account) = (vec![false; items + 1], 0, 0);
        while account < campaign.accounts && count < wanted {
            let mut stream = campaign.stream_of(account);
            let mut sequence = vec![first_item(&mut stream, items)];
            while sequence.len() < campaign.questions {
                sequence.push(taking.from_catalogue(&sequence, &mut stream));
            }
            for item in sequence {
                count += usize::from(!std::mem::replace(&mut drawn[item as usize], true));
            }
            account += 2;
        }
        if count < wanted {
            tracing::warn!(
                "random accounts draw {count} of {items} items, less than the share {} that generate.coverage asks for: every \
                 other account is random",
                settings.share
            );
        }
        Ok(Self { taking, random_below: account })
    }
}

impl QueryStrategy for Coverage {
    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32 {
        if asked.account < self.random_below && asked.account.is_multiple_of(2) {
            self.taking.from_catalogue(asked.sequence, stream)
        } else {
            self.taking.from_list(asked.sequence, asked.list(), stream)
        }
    }
}
