//! A checkpoint of the authors' PyTorch code as a target: the same tensors by the same names, in our file.
//!
//! A `.pth` file is a zip archive with a pickle in it; the state dict is the pickle itself or lies in it under
//! `model_state_dict`. Shapes tell all sizes but the number of heads, which comes from the settings, as do the
//! dropouts, which only matter when the target is trained further.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use artifact::checkpoint::{Architecture, Array, Checkpoint, Kind, MODEL};
use artifact::dataset::{self, Dataset};
use artifact::settings::Model;
use candle_core::pickle::read_all_with_key;
use candle_core::{Device, Tensor};
use recommender::parameters::to_array;
use recommender::{Parameters, Sizes, declare};
use stage::{Flags, Plan, Refusal, settings};

/// Imports `from`, unless the output is up to date.
///
/// # Errors
/// A refusal, naming the tensor, where the file is no such checkpoint, is of another architecture, or of another
/// number of items than the dataset.
pub fn import(from: &Path, architecture: Architecture, data: &Path, out: &Path, flags: &Flags) -> Result<()> {
    let settings = settings::load(flags)?;
    let plan = Plan::new("gro-train import", out, flags, &settings, &["model"])
        .argument("arch", architecture)
        .input(from)
        .inputs(dataset::files(data));
    plan.produce(|directory| {
        let dataset = Dataset::read(data)?;
        let tensors = state_dict(from)?;
        let sizes = sizes(&tensors, architecture, &settings.model, from)?;
        if sizes.items != dataset.items() {
            let message = format!(
                "{}: scores {} items, {} has {}; give the dataset it was trained on",
                from.display(),
                sizes.items,
                data.display(),
                dataset.items()
            );
            return Err(Refusal::new(message).into());
        }
        let declared = declare(architecture, &sizes);
        Parameters::from_arrays(&tensors, &declared, &from.display().to_string(), &Device::Cpu)?;
        let description = sizes.describe(Kind::Target, architecture, dataset.fingerprint());
        tracing::info!(
            "{architecture}: {} items, hidden {}, {} blocks, {} heads, max_len {}",
            sizes.items,
            sizes.hidden,
            sizes.blocks,
            sizes.heads,
            sizes.max_len
        );
        Ok(Checkpoint { description, tensors }.write(&directory.join(MODEL))?)
    })?;
    Ok(())
}

/// The tensors of a `.pth` file by name.
fn state_dict(from: &Path) -> Result<BTreeMap<String, Array>> {
    let wrapped = read_all_with_key(from, Some("model_state_dict"));
    let tensors: Vec<(String, Tensor)> =
        wrapped.or_else(|_| read_all_with_key(from, None)).map_err(|error| {
            let message =
                format!("{}: expected a checkpoint that torch.save wrote as a zip archive", from.display());
            Refusal::because(message, error)
        })?;
    if tensors.is_empty() {
        let message = format!("{}: holds no tensors, bare or under `model_state_dict`", from.display());
        return Err(Refusal::new(message).into());
    }
    tensors.into_iter().map(|(name, tensor)| Ok((name, to_array(&tensor)?))).collect()
}

/// What the shapes say.
fn sizes(
    tensors: &BTreeMap<String, Array>,
    architecture: Architecture,
    model: &Model,
    from: &Path,
) -> Result<Sizes> {
    let matrix = |name: &str| match tensors.get(name).map(|array| array.shape.as_slice()) {
        Some(&[rows, columns]) => Ok((rows, columns)),
        Some(shape) => Err(Refusal::new(format!(
            "{}: tensor `{name}` has shape {shape:?}, expected a matrix",
            from.display()
        ))),
        None => Err(Refusal::new(format!(
            "{}: tensor `{name}` is missing, so this is no {architecture} of the authors' code",
            from.display()
        ))),
    };
    let (columns, hidden) = matrix("embedding.token.weight")?;
    let (positions, _) = matrix("embedding.position.pe.weight")?;
    let blocks: std::collections::BTreeSet<&str> = tensors
        .keys()
        .filter_map(|name| name.strip_prefix("model.transformer_blocks.")?.split('.').next())
        .collect();
    // Beside the items, BERT4Rec scores padding and mask.
    if columns < 3 || positions < 2 || !hidden.is_multiple_of(model.heads) {
        let message = format!(
            "{}: {columns} ids of width {hidden} and {positions} positions make no model of {} heads; set model.heads",
            from.display(),
            model.heads
        );
        return Err(Refusal::new(message).into());
    }
    Ok(Sizes {
        items: columns - 2,
        hidden,
        blocks: blocks.len(),
        heads: model.heads,
        max_len: positions - 1,
        dropout: model.dropout,
        attention_dropout: model.attention_dropout,
    })
}
