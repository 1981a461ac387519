//! Query strategies: how a thief chooses what to ask next. One file a strategy, and a line in [`STRATEGIES`].

mod autoregressive;
mod coverage;
mod evasive;
mod mimic;
mod random;
mod rounds;
mod short;
mod singles;
mod taking;
mod wary;

use std::fmt;

use artifact::names::{Named, Registry};
use artifact::queries::listed;
use artifact::settings::{Generate, Invalid, Section};
use rand_chacha::ChaCha8Rng;

pub use taking::Taking;

use crate::campaign::Campaign;
use crate::generate::first_item;
use crate::rounds::RoundsPlan;

/// Every query strategy.
pub const STRATEGIES: Registry<Strategy> = Registry {
    kind: "query strategy",
    entries: &[
        autoregressive::STRATEGY,
        random::STRATEGY,
        coverage::STRATEGY,
        short::STRATEGY,
        singles::STRATEGY,
        mimic::STRATEGY,
        wary::STRATEGY,
        evasive::STRATEGY,
        rounds::STRATEGY,
    ],
};

/// The settings that name a strategy, by key path.
pub const SETTINGS: &[&str] = &["generate.strategy"];

/// What is known when the next item of a sequence is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Number of the account, from 0.
    pub account: usize,
    /// The items so far, oldest first.
    pub sequence: &'a [u32],
    /// `(sequence.len(), k)`, flat: the lists answered to its prefixes, as [`Asked::one`] reads them.
    pub lists: &'a [u32],
    /// Length of a list.
    pub k: usize,
    /// Lists answered to other accounts, flat; empty unless the strategy [remembers](QueryStrategy::remembers_others) them, and
    /// for the first block of accounts.
    pub others: &'a [u32],
}

impl<'a> Asked<'a> {
    /// The list just answered, best item first.
    pub fn list(&self) -> &'a [u32] {
        self.one(self.lists, self.lists.len() / self.k - 1)
    }

    /// The list at a place of some flat ones: its items, of which there may be fewer than k.
    pub fn one<'b>(&self, lists: &'b [u32], place: usize) -> &'b [u32] {
        listed(&lists[place * self.k..(place + 1) * self.k])
    }
}

/// Chooses the items of a sequence.
pub trait QueryStrategy: Send + Sync {
    /// Whether lists answered to other accounts take part in a choice.
    fn remembers_others(&self) -> bool {
        false
    }

    /// The item that an account without a real history begins with, of a catalogue of `items`: any of them, unless the strategy knows better.
    fn begin(&self, _account: usize, items: usize, stream: &mut ChaCha8Rng) -> u32 {
        first_item(stream, items)
    }

    /// The item that follows what was asked. Draws come from `stream`, which is the account's own: no choice depends on how many
    /// accounts grow side by side.
    fn next(&self, asked: &Asked<'_>, stream: &mut ChaCha8Rng) -> u32;
}

/// A strategy, or why its settings cannot be used.
pub type Built = Result<Box<dyn QueryStrategy>, Invalid>;

/// Accounts, and questions of each; or why the settings cannot be used.
pub type Division = Result<(usize, usize), Invalid>;

/// What happens while a thief asks.
#[derive(Clone, Copy)]
pub enum Course {
    /// One account after another grows to its length. The strategy for a campaign.
    Straight(fn(&Campaign<'_>) -> Built),
    /// All accounts grow in rounds, and between two rounds a copy is trained that says where to go on.
    Rounds(fn(&Campaign<'_>) -> Result<RoundsPlan, Invalid>),
}

/// A query strategy: its names, its settings, and how it comes about.
#[derive(Clone, Copy)]
pub struct Strategy {
    /// What files and settings call it.
    pub name: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// Its own settings, where it has any: the section `generate.NAME`.
    pub section: Option<Section>,
    /// How many accounts it opens and how many questions each asks (on average), where the target reads so many items of a
    /// history, and of a catalogue of so many.
    pub divide: fn(&Generate, usize, usize) -> Division,
    /// What happens while it asks.
    pub course: Course,
}

impl Strategy {
    /// The sections of the settings, beside `generate`, that its log depends on.
    pub fn reads(&self) -> &'static [&'static str] {
        match self.course {
            Course::Straight(_) => &[],
            Course::Rounds(_) => &["model", "optimizer", "distill"],
        }
    }
}

/// `generate.accounts` and `generate.questions` as they are, or `sequences` and `length`.
///
/// # Errors
/// None; the type is that of [`Strategy::divide`].
#[expect(
    clippy::unnecessary_wraps,
    reason = "other strategies read settings of their own, which may be wrong"
)]
fn as_set(settings: &Generate, longest: usize, _items: usize) -> Division {
    let questions = settings.questions.or(settings.length).unwrap_or(longest);
    Ok((settings.accounts.unwrap_or(settings.sequences), questions))
}

impl Named for Strategy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

impl fmt::Debug for Strategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}
