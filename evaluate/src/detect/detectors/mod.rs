//! Detectors: what judges, question by question, whether an account takes like a thief.
//!
//! One file each and a line in [`DETECTORS`]. `guard` is the project's own; `prada` and `hoda` are the two best known ones for
//! classifiers, carried over to lists as far as they can be, to compare with. Each file says what was carried over and how.

mod guard;
mod hoda;
mod prada;
mod shapiro_wilk;

use artifact::names::{Named, Registry};

/// Every detector, in the order of tables.
pub const DETECTORS: Registry<Detector> =
    Registry { kind: "detector", entries: &[guard::DETECTOR, prada::DETECTOR, hoda::DETECTOR] };

/// Questions after which `prada` and `hoda` begin to judge an account. Both papers wait for 100, which most accounts of a recommender
/// never ask; with fewer than this both see little but chance.
pub const FEWEST: usize = 20;

/// The score of an account of which nothing can be said yet: below all others.
pub const UNJUDGED: f64 = f64::NEG_INFINITY;

/// What is seen of an account at one of its questions.
#[derive(Clone, Debug)]
pub struct Question {
    /// The guard's evidence, in nats.
    pub nats: f64,
    /// Whether the guard answers with decoys.
    pub flagged: bool,
    /// The model's state after the history, `(hidden)`.
    pub state: Vec<f32>,
    /// How uncertain the model is of what comes next: the entropy of its softmax over the catalogue, in nats.
    pub entropy: f64,
}

/// What judges an account.
pub trait Judge: Send + Sync {
    /// A score at each question, from this question and those before it: the higher, the more like a thief; [`UNJUDGED`] while there is
    /// too little to go by.
    fn scores(&self, account: &[Question]) -> Vec<f64>;
}

/// A detector: its names, and how it comes about.
#[derive(Clone, Copy, Debug)]
pub struct Detector {
    /// What files and tables call it.
    pub name: &'static str,
    /// What it looks at, in a few words.
    pub title: &'static str,
    /// The detector, fitted to what these users did.
    pub fit: fn(&[Vec<Question>]) -> Box<dyn Judge>,
}

impl Named for Detector {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}
