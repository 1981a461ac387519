//! `mimic`: takes as people do. Places near the top are likelier (`1/sqrt(place)` unless `generate.pick` says otherwise), and with a
//! given share an item comes not from the list just answered but from one answered earlier to the same account, or to another
//! one: what people see elsewhere they look for here. To a service that weighs the places an account takes, it looks like a user.
//!
//! Another account is one of the block of [`ACCOUNTS`](crate::generate::BLOCK) accounts before the account's own, so that no choice
//! depends on how many grow side by side. The first block has no other, and takes from its own earlier lists instead.

use artifact::settings::checks::{number, share};
use artifact::settings::{Invalid, Owned, Pick, Section, owned};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use streams::{below, unit};

use super::{Asked, Course, QueryStrategy, Strategy, as_set, taking::Taking};

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "mimic",
    title: "Takes near the top, and now and then from lists answered earlier or to other accounts",
    section: Some(Section::new::<Settings>("generate", "mimic")),
    divide: as_set,
    course: Course::Straight(|campaign| {
        Ok(Box::new(Mimic {
            taking: Taking::new(campaign.settings, Pick::ReciprocalRoot, campaign.items),
            settings: owned(&campaign.settings.strategies, "mimic")?,
        }))
    }),
};

/// Settings of the strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Share of the items that come from a list answered earlier to the same account, 0 to 1.
    earlier: f64,
    /// Share of the items that come from a list answered to another account, 0 to 1.
    others: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { earlier: 0.1, others: 0.25 }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        share("generate.mimic.earlier", self.earlier)?;
        share("generate.mimic.others", self.others)?;
        let both = self.earlier + self.others;
        number("generate.mimic.earlier + generate.mimic.others", both, "at most 1", |sum| sum <= 1.0)
    }
}

/// The strategy.
struct Mimic {
    taking: Taking,
    settings: Settings,
}

impl QueryStrategy for Mimic {
    fn remembers_others(&self) -> bool {
        self.settings.others > 0.0
    }

    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32 {
        let draw = unit(stream);
        let Settings { earlier, others } = self.settings;
        let from = |lists: &[u32], stream: &mut ChaCha8Rng| {
            let place = below(stream, (lists.len() / asked.k) as u32) as usize;
            self.taking.from_list(asked.sequence, asked.one(lists, place), stream)
        };
        let before = &asked.lists[..asked.lists.len() - asked.k];
        if draw < others && !asked.others.is_empty() {
            from(asked.others, stream)
        } else if draw < others + earlier && !before.is_empty() {
            from(before, stream)
        } else {
            self.taking.from_list(asked.sequence, asked.list(), stream)
        }
    }
}
