//! `model.safetensors`: the weights of a model under the tensor names of the authors' PyTorch code, and a description of
//! what the model is, so that no settings file is needed to load it.
//!
//! The description is JSON under one metadata key, `gro`. One key only, because safetensors keeps metadata in a hash
//! map: with two, equal checkpoints would differ in their bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;
use crate::dataset::Dataset;
use crate::queries::QueryHeader;
use crate::settings::{Network, Sections};

/// Name of a checkpoint inside the output directory of a stage.
pub const MODEL: &str = "model.safetensors";

/// Name of the target as it was, beside one that a defence with a key has trained: what proofs are made by.
pub const GOLD: &str = "gold.safetensors";

/// The metadata key that holds the [`Description`].
const METADATA_KEY: &str = "gro";

/// What a model is in the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The recommender as its owner trained it.
    Target,
    /// The recommender that faces the public: a target behind a defence.
    Protected,
    /// The attacker's copy.
    Surrogate,
    /// The owner's own imitation of an attacker, kept beside a model protected by GRO.
    Student,
}

/// What a defence changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActsOn {
    /// The weights, once: the model answers as it ranks.
    Weights,
    /// Every answer: the name is that of an answer policy.
    Answers,
}

/// The defence that a model went through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Defence {
    /// Its name in the registry of defences.
    pub name: String,
    /// What it changes.
    pub acts_on: ActsOn,
    /// Its settings.
    #[serde(default)]
    pub parameters: Sections,
    /// What the model went through before, where that changed its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Box<Defence>>,
}

impl Defence {
    /// An answer policy of that name with these settings.
    pub fn answers(name: &str, parameters: Sections) -> Self {
        Self { name: name.to_owned(), acts_on: ActsOn::Answers, parameters, over: None }
    }

    /// This defence over an earlier one. Changed weights stay changed; an earlier answer policy gives way.
    #[must_use]
    pub fn over(self, earlier: Defence) -> Self {
        let over = match earlier.acts_on {
            ActsOn::Weights => Some(Box::new(earlier)),
            ActsOn::Answers => earlier.over,
        };
        Self { over, ..self }
    }

    /// What reports call it: `gro+guard` for a guard over GRO.
    pub fn title(&self) -> String {
        match &self.over {
            None => self.name.clone(),
            Some(earlier) if self.name == "none" => earlier.title(),
            Some(earlier) => format!("{}+{}", earlier.title(), self.name),
        }
    }

    /// No defence: answers are as ranked.
    pub fn none() -> Self {
        Self::answers("none", Sections::new())
    }
}

/// How a surrogate learned from answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// What it learned from a list, by its name in the registry of list losses.
    pub loss: String,
    /// What the thief suspected, by its name in the registry of suspicions.
    pub suspicion: String,
    /// Other settings of `distill` that depart from the defaults and change what is learned from a list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub choices: BTreeMap<String, Value>,
}

/// Everything about a model that its weights do not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Description {
    /// Its part in the experiment.
    pub kind: Kind,
    /// Name of its network in the registry of architectures.
    pub architecture: String,
    /// Number of items, n; the embedding has rows for padding and, in BERT4Rec, the mask id besides.
    pub items: usize,
    /// Its sizes.
    #[serde(flatten)]
    pub network: Network,
    /// The defence it went through.
    pub defence: Defence,
    /// Fingerprint of the dataset whose item numbering it uses.
    pub fingerprint: String,
    /// The splits that it learned from, or the target that it copies: BLAKE3 of each `sequences.parquet`. Empty where nobody
    /// recorded them, as of an imported model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<String>,
    /// Of a surrogate: the header of the query log it learned from, or of the part of one, which says what the attack asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<QueryHeader>,
    /// Of a surrogate: how it learned; `None` in files from before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<Learning>,
}

/// A description as files hold it. Version 0.1 wrote a defence as three keys.
#[derive(Deserialize)]
struct Written {
    kind: Kind,
    architecture: String,
    items: usize,
    #[serde(flatten)]
    network: Network,
    defence: Option<Defence>,
    #[serde(default)]
    policy: String,
    #[serde(default)]
    policy_seed: u64,
    #[serde(default)]
    defense: String,
    fingerprint: String,
    #[serde(default)]
    splits: Vec<String>,
    queries: Option<QueryHeader>,
    learning: Option<Learning>,
}

impl From<Written> for Description {
    fn from(written: Written) -> Self {
        let Written { kind, architecture, items, network, fingerprint, splits, queries, learning, .. } =
            written;
        let (policy, name) = (written.policy, written.defense);
        let earlier = || match (policy.as_str(), name.as_str()) {
            ("" | "none", "" | "none") => Defence::none(),
            ("" | "none", _) => {
                Defence { name, acts_on: ActsOn::Weights, parameters: Sections::new(), over: None }
            }
            ("random", _) => {
                let parameters =
                    Sections::from_iter([("answer_seed".to_owned(), written.policy_seed.into())]);
                Defence::answers("random", parameters)
            }
            (policy, _) => Defence::answers(policy, Sections::new()),
        };
        let defence = written.defence.unwrap_or_else(earlier);
        Self { kind, architecture, items, network, defence, fingerprint, splits, queries, learning }
    }
}

impl Description {
    /// Refuse to let a model meet a dataset that numbers items differently. The paths are for the message.
    ///
    /// # Errors
    /// An input error that names both.
    pub fn check_dataset(&self, dataset: &Dataset, model_path: &Path, data_path: &Path) -> Result<(), Error> {
        if self.fingerprint == dataset.fingerprint() && self.items == dataset.items() {
            return Ok(());
        }
        let message = format!(
            "was trained on another dataset than {}: fingerprint {} ({} items) against {} ({} items); use the data it was \
             trained on, or train it again",
            data_path.display(),
            shorten(&self.fingerprint),
            self.items,
            shorten(dataset.fingerprint()),
            dataset.items()
        );
        Err(Error::content(model_path, message))
    }
}

/// Enough of a hash to compare by eye.
fn shorten(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// A dense array, last axis fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values, as many as the product of `shape`.
    pub values: Vec<f32>,
}

/// A model as a file holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What the model is.
    pub description: Description,
    /// Its weights by name.
    pub tensors: BTreeMap<String, Array>,
}

impl Checkpoint {
    /// Write to `path`.
    ///
    /// # Errors
    /// A write error; also, naming the tensor, when a value is not finite or the shape does not fit the values: a model
    /// that diverged is never kept as if it were one.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let description =
            serde_json::to_string(&self.description).map_err(|source| Error::write(path, source))?;
        write_arrays(path, &self.tensors, Some((METADATA_KEY, description)))
    }

    /// Read from `path`.
    ///
    /// # Errors
    /// An input error: no such file, truncated, a tensor that is not float32 or holds NaN or infinity, no description.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (tensors, metadata) = read_arrays(path)?;
        let description = metadata.get(METADATA_KEY).ok_or_else(|| {
            let message = "has no metadata key `gro`, so what model it holds is unknown; write it with `gro-train`, or \
                           bring foreign weights in with `gro-train import`";
            Error::content(path, message)
        })?;
        let description = serde_json::from_str(description).map_err(|source| {
            Error::read(path, "expected a model description under the metadata key `gro`", source)
        })?;
        Ok(Self { description, tensors })
    }
}

/// The metadata of a safetensors file, by key.
pub type Metadata = BTreeMap<String, String>;

/// Write named arrays to a safetensors file, with at most one metadata key. Training state uses it as well.
///
/// # Errors
/// As [`Checkpoint::write`].
pub fn write_arrays(
    path: &Path,
    tensors: &BTreeMap<String, Array>,
    metadata: Option<(&str, String)>,
) -> Result<(), Error> {
    for (name, array) in tensors {
        let size: usize = array.shape.iter().product();
        if size != array.values.len() {
            let message =
                format!("tensor `{name}` has {} values for the shape {:?}", array.values.len(), array.shape);
            return Err(Error::unwritable(path, message));
        }
        if let Some(place) = array.values.iter().position(|value| !value.is_finite()) {
            let value = array.values[place];
            let message = format!(
                "tensor `{name}` holds {value} at index {place}; training diverged, so lower the learning rate"
            );
            return Err(Error::unwritable(path, message));
        }
    }
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_owned(), value)]));
    let named = tensors.iter().map(|(name, array)| (name.as_str(), array));
    // The library writes to a temporary file that is its maker's alone to read, and renames it; whoever shares the folder is to
    // read it as any other file.
    let permissions =
        File::create(path).and_then(|file| file.metadata()).map(|metadata| metadata.permissions());
    let permissions = permissions.map_err(|source| Error::write(path, source))?;
    safetensors::serialize_to_file(named, metadata, path).map_err(|source| Error::write(path, source))?;
    std::fs::set_permissions(path, permissions).map_err(|source| Error::write(path, source))
}

/// Lets safetensors take the arrays as they are: the bytes of one tensor at a time are made while the file is written.
impl View for &Array {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for value in &self.values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.values.len() * size_of::<f32>()
    }
}

/// Read every array of a safetensors file, and its metadata.
///
/// # Errors
/// As [`Checkpoint::read`], without the description.
pub fn read_arrays(path: &Path) -> Result<(BTreeMap<String, Array>, Metadata), Error> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::read(path, "expected a safetensors file", source))?;
    let damaged = |source| {
        let expected = "expected a whole safetensors file; it may be truncated, so copy it again or rerun the stage that \
                        makes it";
        Error::read(path, expected, source)
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let metadata =
        header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            let message = format!("tensor `{name}` is {:?}, expected F32", view.dtype());
            return Err(Error::content(path, message));
        }
        let (chunks, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let message =
                format!("tensor `{name}` holds {} at index {place}, expected finite numbers", values[place]);
            return Err(Error::content(path, message));
        }
        tensors.insert(name.to_owned(), Array { shape: view.shape().to_vec(), values });
    }
    Ok((tensors, metadata))
}
