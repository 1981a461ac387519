//! Sequential recommenders. An architecture turns packed histories into *states*, `(positions, hidden)`; a state against the
//! [`kernels::Catalogue`] gives the scores of all items. Everything that follows (training losses, the ranking
//! loss of a surrogate, GRO's swap loss, lists and ranks) needs states and catalogue only, and so works for
//! every architecture.
//!
//! One file an architecture, and a line in [`ARCHITECTURES`]. What they share stands beside them: what each must be able to do
//! ([`Recommender`]), packed batches ([`packing`]), layers, causal reading ([`causal`]), the cache of what was read, and named
//! weights ([`parameters`]).

mod architecture;
pub mod bert4rec;
pub mod causal;
mod device;
mod error;
pub mod gru4rec;
mod input_gates;
mod kv_cache;
mod layers;
pub mod memory;
pub mod narm;
pub mod packing;
pub mod parameters;
mod recommender;
pub mod sasrec;
mod sizes;

use std::path::Path;

use artifact::checkpoint::{Checkpoint, Description};
use artifact::names::Registry;
use artifact::settings::Network;
use artifact::settings::checks::MOST;
use candle_core::Device;

pub use architecture::{Architecture, SETTINGS, Shapes};
pub use device::{device, name_of};
pub use error::{Error, Result, is_input};
pub use kv_cache::KvCache;
pub use packing::{Contexts, PackedBatch};
pub use parameters::{Declared, Initial, Parameters, Weights};
pub use recommender::{Mode, Reading, Recommender, TrainingBatch};
pub use sizes::Sizes;

/// Every architecture, in the order of reports: a file of its own, and a line here.
pub const ARCHITECTURES: Registry<Architecture> = Registry {
    kind: "architecture",
    entries: &[bert4rec::ARCHITECTURE, sasrec::ARCHITECTURE, narm::ARCHITECTURE, gru4rec::ARCHITECTURE],
};

/// Parameters and description of a checkpoint, checked against its architecture.
pub fn load_parameters(path: &Path, device: &Device) -> Result<(Parameters, Description)> {
    let Checkpoint { description, tensors } = Checkpoint::read(path)?;
    check(&description, tensors.len(), path)?;
    let declared = (architecture_of(&description, path)?.declare)(&Sizes::from(&description));
    let origin = path.display().to_string();
    Ok((Parameters::from_arrays(&tensors, &declared, &origin, device)?, description))
}

/// Refuses sizes that no model of so many tensors can have, before anything is made of them.
fn check(description: &Description, tensors: usize, path: &Path) -> Result<()> {
    let Network { hidden, blocks, heads, max_len, .. } = description.network;
    let wrong = |key: &str, value: usize, expected: String| {
        let path = path.display();
        Err(Error::Weights(format!(
            "{path}: its description says `{key}` {value}, expected {expected}; copy it again, or make it anew"
        )))
    };
    for (key, value) in [("items", description.items), ("hidden", hidden), ("max_len", max_len)] {
        // Beside the items are padding and the mask.
        if value == 0 || value >= MOST {
            return wrong(key, value, format!("from 1 to {}", MOST - 1));
        }
    }
    if blocks == 0 || blocks > tensors {
        return wrong("blocks", blocks, format!("from 1 to the number of its tensors, {tensors}"));
    }
    let divides = heads > 0 && hidden.is_multiple_of(heads);
    if architecture_of(description, path)?.has_heads && !divides {
        return wrong("heads", heads, format!("a divisor of `hidden`, {hidden}"));
    }
    Ok(())
}

/// A model to be used, not trained, from a checkpoint.
pub fn load(path: &Path, device: &Device) -> Result<(Box<dyn Recommender>, Description)> {
    let (parameters, description) = load_parameters(path, device)?;
    let architecture = architecture_of(&description, path)?;
    let mut model = (architecture.build)(&Sizes::from(&description), &parameters.detached())?;
    model.freeze()?;
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
