//! Query strategies: how a thief chooses what to ask next. One file a strategy, and a line in [`STRATEGIES`].

mod autoregressive;
mod random;

use std::fmt;

use artifact::names::{Named, Registry};
use artifact::settings::{Generate, Invalid, Section, Sections};
use rand_chacha::ChaCha8Rng;

/// Every query strategy.
pub const STRATEGIES: Registry<Strategy> =
    Registry { kind: "query strategy", entries: &[autoregressive::STRATEGY, random::STRATEGY] };

/// The settings that name a strategy, by key path.
pub const SETTINGS: &[&str] = &["generate.strategy"];

/// Chooses the items of a sequence.
pub trait QueryStrategy: Send + Sync {
    /// The item that follows `sequence`, to which the target answered `list`, out of a catalogue of `items`. Draws come from
    /// `stream`, which is the sequence's own: no choice depends on other sequences or on how many grow side by side.
    fn next(&self, sequence: &[u32], list: &[u32], items: usize, stream: &mut ChaCha8Rng) -> u32;
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
    /// The strategy with the settings in these sections of `generate`.
    ///
    /// Fails for settings that it cannot use.
    pub build: fn(&Sections) -> Result<Box<dyn QueryStrategy>, Invalid>,
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

/// The strategy that the settings name.
///
/// # Errors
/// A name that is not known, or settings that the strategy cannot use.
pub fn strategy_of(settings: &Generate) -> anyhow::Result<Box<dyn QueryStrategy>> {
    Ok((STRATEGIES.find(&settings.strategy)?.build)(&settings.strategies)?)
}
