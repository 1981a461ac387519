//! Answer policies: what a service does to the list of its model before a client sees it (docs/mathematics.md, section 6).
//!
//! A policy is a function of the question, the ranked list and its parameters, and of nothing else. So the same question always
//! gets the same answer: nobody can average a noise away by repeating it, batches may be cut anywhere, and a run can be
//! resumed and replayed. One file a policy, and a line in [`POLICIES`]; its parameters stand in the checkpoint of the target it
//! protects.

mod none;
mod random;
mod reverse;

use std::fmt;

use artifact::checkpoint::{ActsOn, Description};
use artifact::names::{Named, Registry};
use artifact::settings::{Invalid, Section, Sections};

use crate::{Error, Result};

/// Every answer policy, in the order of reports.
pub const POLICIES: Registry<Policy> =
    Registry { kind: "answer policy", entries: &[none::POLICY, random::POLICY, reverse::POLICY] };

/// What is done to a ranked list.
pub trait AnswerPolicy: Send + Sync {
    /// Changes `list`, the ids that the model ranks best after `history`, best first, into what is answered: ids of the
    /// catalogue, each once.
    fn answer(&self, history: &[u32], list: &mut [u32]);
}

/// A policy of any kind.
pub type BoxedPolicy = Box<dyn AnswerPolicy>;

/// An answer policy: its names, its settings, and how it comes about.
#[derive(Clone, Copy)]
pub struct Policy {
    /// What files, settings and command lines call it.
    pub name: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// Its settings, where it has any: a section of `defend`. They become the parameters of the defence.
    pub section: Option<Section>,
    /// The policy with these parameters; none where a list is answered as it is ranked.
    ///
    /// Fails for parameters that it cannot use.
    pub build: fn(&Sections) -> std::result::Result<Option<BoxedPolicy>, Invalid>,
}

impl Named for Policy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// The policy through which a model answers; none where its lists are answered as ranked.
///
/// # Errors
/// [`Error::Request`] for a policy that this version does not know, or parameters that it cannot use.
pub fn policy_of(description: &Description) -> Result<Option<BoxedPolicy>> {
    let defence = &description.defence;
    match defence.acts_on {
        ActsOn::Weights => Ok(None),
        ActsOn::Answers => {
            let policy =
                POLICIES.find(&defence.name).map_err(|unknown| Error::Request(unknown.to_string()))?;
            (policy.build)(&defence.parameters).map_err(|invalid| Error::Request(invalid.to_string()))
        }
    }
}
