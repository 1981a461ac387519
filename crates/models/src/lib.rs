//! Sequential recommenders: the architectures, how they train, and the black box an attacker meets.
//!
//! An architecture turns packed histories into *states*, `(positions, hidden)`; a state against the
//! [`kernels::Catalogue`] gives the scores of all items. Everything that follows (training losses, the ranking
//! loss of a surrogate, GRO's swap loss, lists and ranks) needs states and catalogue only, and so works for
//! every architecture. One file an architecture; this file holds what they share.

pub mod bert4rec;
pub mod causal;
mod device;
mod error;
pub mod gru4rec;
mod kv_cache;
mod layers;
pub mod narm;
pub mod packing;
pub mod parameters;
pub mod sasrec;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::path::Path;

use artifact::checkpoint::{Checkpoint, Defence, Description, Kind};
use artifact::names::{Named, Registry};
use artifact::settings::{self, Network};
use candle_core::{DType, Device, Tensor};
use kernels::{Catalogue, Dropout};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use streams::DropoutKeys;

pub use device::{device, name_of};
pub use error::{Error, Result, is_input};
pub use kv_cache::KvCache;
pub use packing::{Contexts, PackedBatch};
pub use parameters::{Declared, Initial, Parameters, Weights};

/// Every architecture, in the order of reports: a file of its own, and a line here.
pub const ARCHITECTURES: Registry<Architecture> = Registry {
    kind: "architecture",
    entries: &[bert4rec::ARCHITECTURE, sasrec::ARCHITECTURE, narm::ARCHITECTURE, gru4rec::ARCHITECTURE],
};

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
    /// A model over these weights: [`Parameters::trainable`] to train it, [`Parameters::detached`] to use it.
    ///
    /// Fails with [`Error::Weights`], naming a declared tensor that is missing.
    pub build: fn(&Sizes, &Weights) -> Result<Box<dyn Recommender>>,
    /// The sizes of a model with tensors of these shapes; what no shape tells is taken from the sizes given.
    pub sizes: fn(&Shapes<'_>, &Sizes) -> Sizes,
    /// Whether `heads` means anything to it: then it divides `hidden`.
    pub has_heads: bool,
    /// What it sees around a place.
    pub reading: Reading,
    /// Floating-point operations of the matrix products of one pass forward over a row of so many tokens, of which so many
    /// states are wanted; scores of items are not in it. For the floors of benchmarks.
    pub operations: fn(&Sizes, tokens: f64, states: f64) -> f64,
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

/// The sizes of a model; those of its network can be read as its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Number of items `n`; ids are 1..=n, 0 is padding.
    pub items: usize,
    /// Sizes beside the number of items.
    pub network: Network,
}

impl Deref for Sizes {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.network
    }
}

impl Sizes {
    /// What a checkpoint of an undefended model of these sizes says of itself.
    pub fn describe(&self, kind: Kind, architecture: Architecture, fingerprint: &str) -> Description {
        Description {
            kind,
            architecture: architecture.name.to_owned(),
            items: self.items,
            network: self.network,
            defence: Defence::none(),
            fingerprint: fingerprint.to_owned(),
            queries: None,
        }
    }
}

impl From<&Description> for Sizes {
    fn from(description: &Description) -> Self {
        Self { items: description.items, network: description.network }
    }
}

/// What a model is run for.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Prediction: no dropout, f32.
    Evaluate,
    /// Training: dropout with masks from these keys, and activations of this precision.
    Train(DropoutKeys, settings::Precision),
}

impl Mode {
    /// The dropout of layer `layer`, counted in the order a model applies them.
    pub fn dropout(self, probability: f64, layer: u64) -> Option<Dropout> {
        match self {
            Mode::Train(keys, _) if probability > 0.0 => {
                Some(Dropout { probability, key: keys.layer(layer) })
            }
            _ => None,
        }
    }

    /// Type of the activations.
    pub fn activations(self) -> DType {
        match self {
            Mode::Train(_, settings::Precision::Bf16) => DType::BF16,
            Mode::Train(_, settings::Precision::F32) | Mode::Evaluate => DType::F32,
        }
    }
}

/// Training samples of one step, packed: contexts whose picked places are the label positions.
#[derive(Clone, Debug, Default)]
pub struct TrainingBatch {
    /// The rows, with the label positions picked.
    pub contexts: Contexts,
    /// The item to be predicted at each picked place, `(positions)`.
    pub labels: Vec<u32>,
    /// An item at each picked place that should score below the label, `(positions)`; empty where the loss
    /// compares the label with the whole catalogue.
    pub negatives: Vec<u32>,
}

/// What a model sees around a place whose state is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The items before and after it; the item at the place is hidden by a mask. One row gives the state after
    /// one prefix of a history.
    Cloze,
    /// The items up to and including it. One row gives the states after all prefixes of a history.
    Causal,
}

/// A sequential recommender.
pub trait Recommender: Send + Sync {
    /// Its sizes.
    fn sizes(&self) -> &Sizes;

    /// The item side of its scores.
    fn catalogue(&self) -> &Catalogue;

    /// What it sees around a place. Two models of one reading can share contexts.
    fn reading(&self) -> Reading;

    /// States at the picked places of a packed batch, `(positions, hidden)`.
    fn encode(&self, batch: &PackedBatch, mode: Mode) -> Result<Tensor>;

    /// States `(rows, hidden)` after one more item in each row, `items` `(rows)` of u32; `cache` holds what came before,
    /// fewer than `max_len` items, and the new item afterwards. The bytes are those of [`Recommender::encode`] over whole
    /// histories. `None` where the model has no such way: reading by cloze, every state changes with every item.
    ///
    /// For the CPU with its fused operations ([`kernels::fused`]).
    fn extend(&self, _cache: &mut KvCache, _items: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Appends rows whose picked places score the item after each of these prefixes of `history` (item ids,
    /// oldest first): lengths in ascending order, at least 1. Of a prefix only the latest items that fit are used.
    fn push_prefixes(&self, history: &[u32], prefixes: &[usize], contexts: &mut Contexts);

    /// Packs histories (at least one item each) for prediction: one row and one picked place each, whose
    /// state scores the next item.
    fn contexts(&self, histories: &[&[u32]]) -> Contexts {
        let mut contexts = Contexts::new();
        for history in histories {
            self.push_prefixes(history, &[history.len()], &mut contexts);
        }
        contexts
    }

    /// Appends to `batch` the training sample that this architecture makes of a `window` (at least one item, two
    /// with what lies before it) of a user's training history.
    fn sample(
        &self,
        history: &[u32],
        window: Range<usize>,
        objective: &settings::Train,
        stream: &mut ChaCha8Rng,
        batch: &mut TrainingBatch,
    );

    /// The training loss, a scalar, from the states at the label positions: mean binary cross entropy over labels and
    /// negatives where the batch has negatives, else mean cross entropy of the labels over all ids.
    fn training_loss(&self, states: &Tensor, batch: &TrainingBatch) -> Result<Tensor> {
        let ids = |ids: &[u32]| Tensor::from_slice(ids, ids.len(), states.device());
        let labels = ids(&batch.labels)?;
        Ok(if batch.negatives.is_empty() {
            self.catalogue().cross_entropy(states, &labels)?
        } else {
            self.catalogue().binary_cross_entropy(states, &labels, &ids(&batch.negatives)?)?
        })
    }
}

/// Parameters and description of a checkpoint, checked against its architecture.
pub fn load_parameters(path: &Path, device: &Device) -> Result<(Parameters, Description)> {
    let Checkpoint { description, tensors } = Checkpoint::read(path)?;
    let declared = (architecture_of(&description, path)?.declare)(&Sizes::from(&description));
    let origin = path.display().to_string();
    Ok((Parameters::from_arrays(&tensors, &declared, &origin, device)?, description))
}

/// A model to be used, not trained, from a checkpoint.
pub fn load(path: &Path, device: &Device) -> Result<(Box<dyn Recommender>, Description)> {
    let (parameters, description) = load_parameters(path, device)?;
    let architecture = architecture_of(&description, path)?;
    let model = (architecture.build)(&Sizes::from(&description), &parameters.detached())?;
    Ok((model, description))
}

/// The architecture that a checkpoint names.
///
/// # Errors
/// [`Error::Weights`] for a name that this version does not know.
pub fn architecture_of(description: &Description, path: &Path) -> Result<&'static Architecture> {
    let found = ARCHITECTURES.find(&description.architecture);
    found.map_err(|unknown| Error::Weights(format!("{}: {unknown}", path.display())))
}
