//! Answer policies: what a service does to the list of its model before a client sees it (docs/mathematics.md, section 6).
//!
//! A policy is a function of the question, the ranked list and its parameters, and of nothing else. So the same question always
//! gets the same answer: nobody can average a noise away by repeating it, batches may be cut anywhere, and a run can be
//! resumed and replayed. One file a policy, and a line in [`POLICIES`]; its parameters stand in the checkpoint of the target it
//! protects. A policy with a secret has it from a [`Key`], which stands beside the checkpoint and never in it.

mod guard;
mod none;
mod random;
mod replace;
mod reverse;
mod short;
mod tail;

use std::fmt;
use std::path::Path;

use artifact::checkpoint::{ActsOn, Description};
use artifact::names::{Named, Registry};
use artifact::settings::{Invalid, Section, Sections};

pub use metrics::NOTHING;

use crate::guard::Guard;
use crate::key::{Key, key_path};
use crate::{Error, Result};

/// Every answer policy, in the order of reports.
pub const POLICIES: Registry<Policy> = Registry {
    kind: "answer policy",
    entries: &[
        none::POLICY,
        random::POLICY,
        reverse::POLICY,
        short::POLICY,
        tail::POLICY,
        replace::POLICY,
        guard::POLICY,
    ],
};

/// What is done to a ranked list.
pub trait AnswerPolicy: Send + Sync {
    /// Changes `list`, the ids that the model ranks best after `history`, best first, into what is answered: ids of the
    /// catalogue of `items`, each once. A policy that has a [longest](Self::longest) list may leave [`NOTHING`] behind the last item, of which
    /// there is one at least.
    fn answer(&self, history: &[u32], items: usize, list: &mut [u32]);

    /// Items of its longest list; none where it answers with as many as were asked for.
    fn longest(&self) -> Option<usize> {
        None
    }
}

/// How a service answers.
pub enum Answering {
    /// As the model ranks.
    AsRanked,
    /// By a policy that knows the question alone.
    ByQuestion(Box<dyn AnswerPolicy>),
    /// By a guard, which knows what the account took before.
    ByAccount(Box<Guard>),
}

impl Answering {
    /// Items of the longest list, where lists may hold fewer than were asked for.
    pub fn longest(&self) -> Option<usize> {
        match self {
            Answering::AsRanked | Answering::ByAccount(_) => None,
            Answering::ByQuestion(policy) => policy.longest(),
        }
    }
}

/// How a policy comes about.
#[derive(Clone, Copy)]
pub enum Build {
    /// From its parameters alone.
    Open(fn(&Sections) -> std::result::Result<Answering, Invalid>),
    /// From its parameters, of which `key` is the fingerprint of the key, that key, and the number of items in the catalogue.
    Keyed(fn(&Sections, Key, usize) -> std::result::Result<Answering, Invalid>),
}

/// An answer policy: its names, its settings, and how it comes about.
#[derive(Clone, Copy)]
pub struct Policy {
    /// What files, settings and command lines call it.
    pub name: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// Its settings, where it has any: a section of `defend`. They become the parameters of the defence.
    pub section: Option<Section>,
    /// The policy with these parameters. Fails for parameters that it cannot use.
    pub build: Build,
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

/// How a model answers.
///
/// # Errors
/// [`Error::Request`] for a policy that this version does not know, parameters that it cannot use, a key that is missing or another's.
pub fn policy_of(description: &Description, key: Option<Key>) -> Result<Answering> {
    let refused = |invalid: Invalid| Error::Request(invalid.to_string());
    let defence = &description.defence;
    match policy(description)?.map(|policy| policy.build) {
        None => Ok(Answering::AsRanked),
        Some(Build::Open(build)) => build(&defence.parameters).map_err(refused),
        Some(Build::Keyed(build)) => {
            let key = key.ok_or_else(|| {
                Error::Request(format!("the target answers by `{}`, which needs its key", defence.name))
            })?;
            build(&defence.parameters, key, description.items).map_err(refused)
        }
    }
}

/// The key of the target in `directory`, where its policy has one: the file `given`, or else the one beside the model.
///
/// # Errors
/// A key that cannot be read; one that was given and is not used; a policy that this version does not know.
pub fn key_of(description: &Description, directory: &Path, given: Option<&Path>) -> Result<Option<Key>> {
    let keyed = policy(description)?.is_some_and(|policy| matches!(policy.build, Build::Keyed(_)));
    match given {
        _ if keyed => {
            let beside = key_path(directory);
            Key::read(given.unwrap_or(&beside)).map(Some)
        }
        None => Ok(None),
        Some(path) => Err(Error::Request(format!(
            "{} would not be used: the target in {} answers by `{}`, which has no key; leave it out",
            path.display(),
            directory.display(),
            description.defence.name
        ))),
    }
}

/// Refuses a key that is not the one of this fingerprint.
///
/// # Errors
/// That both fingerprints are named in.
pub fn check_key(key: &Key, fingerprint: &str) -> std::result::Result<(), Invalid> {
    if key.fingerprint() == fingerprint {
        return Ok(());
    }
    Err(Invalid::new(format!(
        "the key has the fingerprint {}, but the target was protected with {fingerprint}; give the key that `gro-defend` wrote \
         beside it",
        key.fingerprint()
    )))
}

/// The policy through which a model answers; none where a defence changed its weights.
fn policy(description: &Description) -> Result<Option<&'static Policy>> {
    let defence = &description.defence;
    match defence.acts_on {
        ActsOn::Weights => Ok(None),
        ActsOn::Answers => {
            POLICIES.find(&defence.name).map(Some).map_err(|unknown| Error::Request(unknown.to_string()))
        }
    }
}
