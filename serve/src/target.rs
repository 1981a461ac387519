//! A target, read from its directory: model, policy, key and catalogue, found to belong together.

use remote::Catalogue;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use artifact::checkpoint::{Description, MODEL};
use candle_core::Device;
use models::Recommender;
use service::black_box::ProtectedTarget;
use service::policies::key_of;
use stage::memory::check_loading;
use stage::{Kernels, Refusal, verify};

use crate::{Machine, titles};

/// Which target, and how its items are called.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Directory of the target: one made by `gro-defend`, `gro-train` or `gro-attack distill`
    #[arg(long, value_name = "DIR")]
    pub target: PathBuf,
    /// Key of a guarded target; by default answer.key beside its model
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Dataset of the target, made by `gro-preprocess run`: items are called by their raw ids
    ///
    /// Without it they are called by their numbers, 1 to n.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Table whose first column is the raw id of an item and whose second its title: movies.csv, movies.dat, u.item
    #[arg(long, value_name = "FILE", requires = "data")]
    pub titles: Option<PathBuf>,
}

/// A target, ready to answer.
pub struct Target {
    /// The model behind its policy.
    pub service: ProtectedTarget,
    /// The model.
    pub model: Arc<dyn Recommender>,
    /// What is written of it.
    pub description: Description,
    /// BLAKE3 of its checkpoint.
    pub digest: String,
    /// Its items.
    pub catalogue: Catalogue,
    /// Where it computes.
    pub device: Device,
}

/// Reads a target.
///
/// # Errors
/// Files that are missing, damaged or of another catalogue; a key that is missing or another's.
pub fn read(arguments: &Arguments, machine: &Machine) -> Result<Target> {
    kernels::set_plain(machine.kernels == Kernels::Plain);
    let directory = &arguments.target;
    let model = directory.join(MODEL);
    check_lock(directory)?;
    check_loading(&model)?;
    let device = models::device(machine.device)?;
    let (recommender, description) = models::load(&model, &device)?;
    let catalogue = catalogue(arguments.data.as_deref(), &description, &model)?;
    let catalogue = match &arguments.titles {
        None => catalogue,
        Some(path) => titles::entitled(catalogue, path)?,
    };
    let key = key_of(&description, directory, arguments.key.as_deref())?;
    let recommender: Arc<dyn Recommender> = recommender.into();
    let service = ProtectedTarget::new(Arc::clone(&recommender), &description, key, device.clone())?;
    let digest = artifact::digest::file(&model)?.blake3;
    Ok(Target { service, model: recommender, description, digest, catalogue, device })
}

/// The items of the dataset in `data`, which must be those of the model, or without one, items named by their numbers.
fn catalogue(data: Option<&Path>, description: &Description, model: &Path) -> Result<Catalogue> {
    let Description { items, fingerprint, .. } = description;
    let Some(data) = data else {
        let ids = (1..=*items).map(|item| item.to_string()).collect();
        return Ok(Catalogue::of(ids, &model.display().to_string())?);
    };
    let found = Catalogue::read(data)?;
    if found.fingerprint != *fingerprint {
        let message = format!(
            "{} was trained on other items than those of {}: fingerprint {fingerprint} ({items} items) against {} ({}); give \
             the data it was trained on",
            model.display(),
            data.display(),
            found.fingerprint,
            found.items()
        );
        return Err(Refusal::new(message).into());
    }
    Ok(found)
}

/// Holds the directory against its lock, where it has one: a model cut short by a copy answers, but not as it should.
pub(crate) fn check_lock(directory: &Path) -> Result<()> {
    if !directory.join("stage.lock").is_file() {
        return Ok(());
    }
    for verdict in verify::tree(directory)? {
        if let Some(damage) = verdict.damage.first() {
            let message =
                format!("{}: {damage}; copy it again, or make it anew", verdict.directory.display());
            return Err(Refusal::new(message).into());
        }
    }
    Ok(())
}
