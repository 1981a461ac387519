//! `short`: many accounts of few questions, grown as by `autoregressive`. A service that watches accounts sees little of each.
//!
//! It divides the budget of `generate.sequences` times `generate.length` into accounts of `generate.short.questions`.

use artifact::settings::checks::at_least;
use artifact::settings::{Generate, Invalid, Owned, Pick, Section, owned};
use serde::{Deserialize, Serialize};

use super::autoregressive::Autoregressive;
use super::{Course, Division, Strategy, taking::Taking};

/// The registry's entry.
pub(super) const STRATEGY: Strategy = Strategy {
    name: "short",
    title: "Many accounts of few questions, grown as by autoregressive",
    section: Some(Section::new::<Settings>("generate", "short")),
    divide,
    course: Course::Straight(|campaign| {
        Ok(Box::new(Autoregressive(Taking::new(campaign.settings, Pick::Uniform, campaign.items))))
    }),
};

/// Settings of the strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Questions of an account.
    questions: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { questions: 10 }
    }
}

impl Owned for Settings {
    fn check(&self) -> Result<(), Invalid> {
        at_least("generate.short.questions", self.questions, 1)
    }
}

fn divide(settings: &Generate, longest: usize, _items: usize) -> Division {
    let own: Settings = owned(&settings.strategies, "short")?;
    let questions = settings.questions.unwrap_or(own.questions);
    let budget = settings.sequences * settings.length.unwrap_or(longest);
    Ok((settings.accounts.unwrap_or((budget / questions).max(1)), questions))
}
