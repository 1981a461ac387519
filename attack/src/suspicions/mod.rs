//! What a thief suspects of the answers, and what he makes of them before he learns. A thief who knows the defence and its code, not its
//! key, is the rule (Kerckhoffs). One file a suspicion, and a line in [`SUSPICIONS`].

mod decoys;
mod none;
mod reversed;
mod shuffled;

use std::fmt;

use artifact::names::{Named, Registry};
use artifact::queries::Query;
use artifact::settings::Distill;

/// Every suspicion.
pub const SUSPICIONS: Registry<Suspicion> = Registry {
    kind: "suspicion",
    entries: &[none::SUSPICION, shuffled::SUSPICION, reversed::SUSPICION, decoys::SUSPICION],
};

/// The settings that name a suspicion, by key path.
pub const SETTINGS: &[&str] = &["distill.suspicion"];

/// A doubt about the answers of one log.
pub trait Doubt: Send + Sync {
    /// Makes of the lists in `query` what the thief takes them for, and says of each prefix whether he learns from its list; nothing
    /// where he learns from all.
    fn read(&self, query: &mut Query) -> Option<Vec<bool>>;
}

/// The doubt about a log with these settings and lists of so many items. It is shown every query first, with one call each.
pub type Build = fn(&Distill, usize) -> Box<dyn Suspecting>;

/// A doubt that forms while the log is looked through.
pub trait Suspecting {
    /// Looks at a query.
    fn look(&mut self, query: &Query);

    /// The doubt, after all were seen.
    fn conclude(self: Box<Self>) -> Box<dyn Doubt>;
}

/// A suspicion: its names, and what is made of answers under it.
#[derive(Clone, Copy)]
pub struct Suspicion {
    /// What files and settings call it.
    pub name: &'static str,
    /// What it takes answers for, in a few words.
    pub title: &'static str,
    /// Whether the order of a list is believed to mean something.
    pub ordered: bool,
    /// How it comes about; none where lists are taken as they are.
    pub build: Option<Build>,
}

impl Named for Suspicion {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

impl fmt::Debug for Suspicion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}
