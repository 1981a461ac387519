//! What the registry says of an architecture. An entry is data: names, and the functions by which a model of it comes about.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use artifact::names::Named;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ARCHITECTURES, Declared, Reading, Recommender, Result, Sizes, Weights};

/// The settings that name an architecture, by key path.
pub const SETTINGS: &[&str] = &["model.architecture", "surrogates"];

/// An architecture: its names, and how a model of it comes about.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// What files, settings and command lines call it: `sas`.
    pub name: &'static str,
    /// What papers call it: `SASRec`.
    pub title: &'static str,
    /// Names, shapes and initial values of all tensors of a model of these sizes.
    pub declare: fn(&Sizes) -> Vec<Declared>,
    /// A model over these weights: [`Parameters::trainable`](crate::Parameters::trainable) to train it, [`Parameters::detached`](crate::Parameters::detached) to use it.
    ///
    /// Fails with [`Error::Weights`](crate::Error::Weights), naming a declared tensor that is missing.
    pub build: fn(&Sizes, &Weights) -> Result<Box<dyn Recommender>>,
    /// The sizes of a model with tensors of these shapes; what no shape tells is taken from the sizes given.
    pub sizes: fn(&Shapes<'_>, &Sizes) -> Sizes,
    /// Whether `heads` means anything to it: then it divides `hidden`.
    pub has_heads: bool,
    /// Whether it has an embedding for each place of a history, which means nothing where no history in training reached that far.
    pub has_positions: bool,
    /// What it sees around a place.
    pub reading: Reading,
    /// Floating-point operations of the matrix products of one pass forward over a row of so many tokens, of which so many
    /// states are wanted; scores of items are not in it. For the floors of benchmarks.
    pub operations: fn(&Sizes, tokens: f64, states: f64) -> f64,
    /// Numbers that a step of training keeps for each token of its batch, with the fused operations: read off the peak memory of
    /// runs. For estimates of what fits, see [`memory`](crate::memory).
    pub kept: fn(&Sizes) -> f64,
}

impl Named for Architecture {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Architecture {}

/// In the order of the registry.
impl Ord for Architecture {
    fn cmp(&self, other: &Self) -> Ordering {
        ARCHITECTURES.position(self.name).cmp(&ARCHITECTURES.position(other.name))
    }
}

impl PartialOrd for Architecture {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By name.
impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        ARCHITECTURES.find(&name).copied().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name)
    }
}

/// Names and shapes of the tensors of a state dict.
pub type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;
