//! The state of a training run on disk: everything from which it goes on after an interruption to the bytes in which it
//! would have ended without one. Weights, moments, the best weights so far, how far the epochs are and what they measured.
//!
//! One file, written beside and renamed: whenever a run is killed, a whole state is there, the new one or the one before.
//! A digest of its content stands in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use artifact::checkpoint::{Array, read_arrays, write_arrays};
use artifact::digest;
use candle_core::{Device, Tensor};
use models::Weights;
use models::parameters::to_array;
use serde::{Deserialize, Serialize};

use crate::{Error, Learner, Result};

/// How a run's state is saved and taken up.
pub struct Saving<'a> {
    /// Its directory; made when needed.
    pub directory: PathBuf,
    /// What the run depends on, as a digest: a state of other settings or inputs is refused.
    pub identity: String,
    /// Whether to take up a saved state. Without one the run begins anew.
    pub resume: bool,
    /// How long a run goes on at most without saving between two steps; after an epoch it saves anyway.
    pub every: Duration,
    /// Asked after each step: whether to save and stop there.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// One row of the history: the epoch, and its columns in the order of the file.
pub(crate) type HistoryRow = (usize, Vec<(String, Option<f64>)>);

/// What a state holds beside its tensors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Whole epochs, validated.
    pub(crate) epoch: usize,
    /// The epoch after them, where some of its steps are taken.
    pub(crate) under_way: Option<UnderWay>,
    /// The epoch of the best validation so far, and its score.
    pub(crate) best: Option<(usize, f64)>,
    /// Rows of the history, from epoch 0.
    pub(crate) history: Vec<HistoryRow>,
    /// Seconds of each epoch.
    pub(crate) seconds: Vec<(usize, f64)>,
}

/// An epoch of which some steps are taken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct UnderWay {
    /// How many.
    pub(crate) steps: usize,
    /// The sum of each loss over them.
    pub(crate) loss_sums: Vec<f32>,
    /// How long they took.
    pub(crate) seconds: f64,
}

/// The JSON under the one metadata key.
#[derive(Serialize, Deserialize)]
struct Header {
    identity: String,
    optimizer_steps: BTreeMap<String, u64>,
    progress: Progress,
    /// Of the tensors.
    digest: String,
}

const STATE: &str = "state.safetensors";
const STATE_KEY: &str = "progress";

/// Puts the state of `learner` in the place of the one before.
pub(crate) fn save(
    learner: &mut dyn Learner,
    progress: &Progress,
    best: &Weights,
    saving: &Saving<'_>,
) -> Result<()> {
    let mut optimizer_steps = BTreeMap::new();
    let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
    for (name, trained) in learner.trainees() {
        for (tensor, array) in trained.parameters.to_arrays()? {
            arrays.insert(format!("{name}/weight.{tensor}"), array);
        }
        for (tensor, moment) in trained.optimizer.moments() {
            arrays.insert(format!("{name}/{tensor}"), to_array(&moment)?);
        }
        optimizer_steps.insert(name.to_owned(), trained.optimizer.steps());
    }
    for (tensor, value) in best {
        arrays.insert(format!("best/weight.{tensor}"), to_array(value)?);
    }
    let header = Header {
        identity: saving.identity.clone(),
        optimizer_steps,
        progress: progress.clone(),
        digest: digest(&arrays),
    };
    let text = serde_json::to_string(&header)
        .map_err(|error| Error::Training(format!("the state cannot be written as JSON: {error}")))?;
    let failed = |source| Error::State { path: saving.directory.clone(), source };
    std::fs::create_dir_all(&saving.directory).map_err(failed)?;
    remove_leftovers(&saving.directory).map_err(failed)?;
    let (path, partial) = (saving.directory.join(STATE), saving.directory.join(format!("{STATE}.partial")));
    let written =
        write_arrays(&partial, &arrays, Some((STATE_KEY, text))).map_err(Error::from).and_then(|()| {
            File::open(&partial)
                .and_then(|file| file.sync_all())
                .and_then(|()| std::fs::rename(&partial, &path))
                .and_then(|()| File::open(&saving.directory)?.sync_all())
                .map_err(failed)
        });
    if written.is_err() {
        // On a full disk the half of a state is in the way of whatever else is to be saved.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Removes what runs left that were killed while they wrote a state.
fn remove_leftovers(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() != STATE {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Sets `learner` to the saved state; its progress and best weights. `None` where nothing was saved.
pub(crate) fn load(learner: &mut dyn Learner, saving: &Saving<'_>) -> Result<Option<(Progress, Weights)>> {
    let path = saving.directory.join(STATE);
    if !path.exists() {
        tracing::info!("no saved state in {}, beginning anew", saving.directory.display());
        return Ok(None);
    }
    let refused =
        |what: &str| Error::Request(format!("{} {what}; run without --resume to begin anew", path.display()));
    let (arrays, metadata) =
        read_arrays(&path).map_err(|_| refused("is damaged: no whole safetensors file"))?;
    let header = metadata.get(STATE_KEY).and_then(|text| serde_json::from_str(text).ok());
    let Header { identity, optimizer_steps, progress, digest: expected } =
        header.ok_or_else(|| refused("is not a state of this version"))?;
    if identity != saving.identity {
        return Err(refused("was saved by a run with other settings or inputs"));
    }
    if digest(&arrays) != expected {
        return Err(refused("is damaged: its tensors are not those that were saved"));
    }
    let tensors = |prefix: &str, device: &Device| -> Result<Weights> {
        arrays
            .iter()
            .filter_map(|(name, array)| Some((name.strip_prefix(prefix)?, array)))
            .map(|(name, a)| {
                Ok((name.to_owned(), Tensor::from_slice(&a.values, a.shape.as_slice(), device)?))
            })
            .collect()
    };
    let mut best = Weights::new();
    for (place, (name, trained)) in learner.trainees().into_iter().enumerate() {
        let device = trained.parameters.device();
        trained.parameters.restore(&tensors(&format!("{name}/weight."), &device)?)?;
        let steps = optimizer_steps.get(name).copied().unwrap_or(0);
        trained.optimizer.restore(&tensors(&format!("{name}/"), &device)?, steps)?;
        if place == 0 {
            best = tensors("best/weight.", &device)?;
        }
    }
    Ok(Some((progress, best)))
}

/// One digest of all tensors, names and shapes included.
fn digest(arrays: &BTreeMap<String, Array>) -> String {
    let parts: Vec<String> = arrays
        .iter()
        .map(|(name, Array { shape, values })| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            format!("{name} {shape:?} {}", digest::bytes(&bytes))
        })
        .collect();
    digest::bytes(parts.join("\n").as_bytes())
}
