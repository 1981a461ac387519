//! A target, read from its directory: model, policy, key and catalogue, found to belong together.

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

use crate::Machine;
use crate::catalogue::Catalogue;

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
    let catalogue =
        Catalogue::of(arguments.data.as_deref(), description.items, &description.fingerprint, &model)?;
    let catalogue = match &arguments.titles {
        None => catalogue,
        Some(titles) => catalogue.with_titles(titles)?,
    };
    let key = key_of(&description, directory, arguments.key.as_deref())?;
    let recommender: Arc<dyn Recommender> = recommender.into();
    let service = ProtectedTarget::new(Arc::clone(&recommender), &description, key, device.clone())?;
    let digest = artifact::digest::file(&model)?.blake3;
    Ok(Target { service, model: recommender, description, digest, catalogue, device })
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
