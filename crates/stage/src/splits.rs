//! Is a model judged on what it was not trained on? A model carries the hash of the splits that it learned from, and whoever
//! brings it together with a dataset asks here whether these are the ones.
//!
//! The fingerprint, which every reader compares, is that of the items alone: another split of the same ratings has it too,
//! and what is tested there may be what the model has learned by heart.

use std::path::Path;

use artifact::dataset::SEQUENCES;
use artifact::digest;

use crate::Refusal;
use crate::lock::Lock;

/// The flag of stages that bring a model together with a dataset; flatten it into the stage's own.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct OtherSplit {
    /// Take a model although it was trained on other splits than those of the dataset given
    ///
    /// Without it that is refused: what is tested there may be what the model has learned. What is written says so.
    #[arg(long)]
    pub other_split: bool,
}

/// The identity of the splits in the dataset at `data`.
///
/// # Errors
/// An input error where there is no `sequences.parquet`.
pub fn of(data: &Path) -> Result<String, artifact::Error> {
    Ok(digest::file(&data.join(SEQUENCES))?.blake3)
}

/// The splits that a model learned from once it has learned from `data` too; none where the earlier ones are not known.
///
/// # Errors
/// As [`of`].
pub fn with(earlier: &[String], data: &Path) -> Result<Vec<String>, artifact::Error> {
    let mut splits = earlier.to_vec();
    let added = of(data)?;
    if !splits.is_empty() && !splits.contains(&added) {
        splits.push(added);
    }
    Ok(splits)
}

/// Holds the `splits` that the checkpoint at `model` was trained on against those of the dataset at `data`, and says whether
/// they are others. Where nothing is known of them, a warning says so.
///
/// # Errors
/// A refusal for other splits, unless `allowed`.
pub fn differ(model: &Path, splits: &[String], data: &Path, allowed: OtherSplit) -> anyhow::Result<bool> {
    let given = of(data)?;
    let recorded = if splits.is_empty() { by_lock(model) } else { splits.to_vec() };
    let (model, data) = (model.display(), data.display());
    if recorded.is_empty() {
        tracing::warn!(
            "{model} does not say which splits it was trained on, being imported or of an earlier version: whether they are \
             those of {data} cannot be checked"
        );
        return Ok(false);
    }
    if recorded.iter().all(|split| *split == given) {
        return Ok(false);
    }
    let message = format!(
        "{model} was trained on other splits than those of {data}: the items are the same, but what is tested there may be \
         what it has learned"
    );
    if allowed.other_split {
        tracing::warn!("{message}; --other-split takes it all the same");
        return Ok(true);
    }
    let advice = "give the data it was trained on, or --other-split if that is meant";
    Err(Refusal::new(format!("{message}; {advice}")).into())
}

/// What the lock beside a target of an earlier version says of the data it was trained on.
fn by_lock(model: &Path) -> Vec<String> {
    let directory = model.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let lock = Lock::read(directory).ok().flatten().filter(|lock| lock.cause.command == "gro-train");
    let inputs = lock.into_iter().flat_map(|lock| lock.cause.inputs);
    let sequences =
        inputs.filter(|input| Path::new(&input.path).file_name().is_some_and(|name| name == SEQUENCES));
    sequences.map(|input| input.digest.blake3).collect()
}
