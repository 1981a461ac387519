//! A checkpoint of the authors' PyTorch code as a target: the same tensors by the same names, in our file. What every name
//! begins with besides, such as the `module.` of data parallelism, is left out.
//!
//! Shapes tell most sizes. What no shape tells comes from the settings: the number of heads; for NARM and GRU4Rec, which
//! have no position embedding, the longest input; and the dropouts, which only matter when the target is trained further.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Result;
use artifact::checkpoint::{Array, Checkpoint, Kind, MODEL};
use artifact::dataset::{self, Dataset};
use artifact::settings::Network;
use models::{ARCHITECTURES, Architecture, Declared, Shapes, Sizes};
use stage::{Flags, Plan, Refusal};

use crate::foreign::Foreign;
use crate::torch::shortened;

/// Names of each kind that a message shows.
const SHOWN: usize = 5;

/// Imports `from`, unless the output is up to date.
///
/// # Errors
/// A refusal where the file is no such checkpoint, naming every tensor that is missing, surplus or of another shape;
/// also for another number of items than the dataset's.
pub fn import(from: &Path, architecture: Architecture, data: &Path, out: &Path, flags: &Flags) -> Result<()> {
    let settings = crate::schema().load(flags)?;
    let plan = Plan::new("gro-train import", out, flags, &settings, &["model"])
        .argument("arch", architecture)
        .input(from)
        .inputs(dataset::files(data));
    plan.produce(|directory| {
        let dataset = Dataset::read(data)?;
        let mut weights = Foreign::open(from)?;
        let base = Sizes { items: dataset.items(), network: settings.model.network };
        while !is_all_of(&weights.shapes(), architecture, &base) {
            let Some(prefix) = weights.shorten() else { break };
            tracing::info!("every name in {} begins with `{prefix}`, which is left out", from.display());
        }
        let (sizes, declared) = fit(&weights.shapes(), architecture, &base, from)?;
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
        let tensors: BTreeMap<String, Array> = declared
            .into_iter()
            .map(|Declared { name, .. }| Ok((name.clone(), weights.read(&name)?)))
            .collect::<Result<_, Refusal>>()?;
        tracing::info!("{architecture} of {}", in_words(&sizes));
        // On which splits it was trained nobody knows: the dataset given is that of its items.
        let description = sizes.describe(Kind::Target, architecture, dataset.fingerprint());
        Ok(Checkpoint { description, tensors }.write(&directory.join(MODEL))?)
    })?;
    Ok(())
}

/// The sizes of the model with these shapes, and its tensors, which are exactly those. `base` has the sizes that no
/// shape tells.
fn fit(
    shapes: &Shapes<'_>,
    architecture: Architecture,
    base: &Sizes,
    from: &Path,
) -> Result<(Sizes, Vec<Declared>)> {
    let sizes = (architecture.sizes)(shapes, base);
    let declared = (architecture.declare)(&sizes);
    let misfits = Misfits::of(shapes, &declared);
    if !misfits.is_none() {
        let right = ARCHITECTURES.entries.iter().find(|&&other| is_all_of(shapes, other, base));
        let advice = right.map_or_else(String::new, |right| format!("; give --arch {right}, which fits"));
        let size = in_words(&sizes);
        let from = from.display();
        let message = format!("{from} holds no {architecture} of {size}: {misfits}{advice}");
        return Err(Refusal::new(message).into());
    }
    check(&sizes, architecture, from)?;
    Ok((sizes, declared))
}

/// Everything in which shapes differ from what is declared, by kind and in name order.
struct Misfits {
    /// How many tensors there are, and how many are expected.
    counts: (usize, usize),
    missing: Vec<String>,
    surplus: Vec<String>,
    misshapen: Vec<String>,
}

impl Misfits {
    fn of(shapes: &Shapes<'_>, declared: &[Declared]) -> Self {
        let expected: Shapes<'_> = declared.iter().map(|d| (d.name.as_str(), d.shape.as_slice())).collect();
        let named = |(name, shape): (&&str, &&[usize])| format!("`{name}` {shape:?}");
        let missing = expected.iter().filter(|(name, _)| !shapes.contains_key(*name));
        let surplus = shapes.iter().filter(|(name, _)| !expected.contains_key(*name));
        let misshapen = shapes.iter().filter_map(|(name, found)| {
            let shape = expected.get(name).filter(|shape| *shape != found)?;
            Some(format!("`{name}` has shape {found:?}, expected {shape:?}"))
        });
        Self {
            counts: (shapes.len(), expected.len()),
            missing: missing.map(named).collect(),
            surplus: surplus.map(named).collect(),
            misshapen: misshapen.collect(),
        }
    }

    fn is_none(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Misfits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (there, expected) = self.counts;
        write!(formatter, "{there} tensors are there, {expected} expected")?;
        for (what, names) in [
            ("missing", &self.missing),
            ("not belonging there", &self.surplus),
            ("of another shape", &self.misshapen),
        ] {
            if !names.is_empty() {
                write!(formatter, "; {} {what}: {}", names.len(), shortened(names, SHOWN))?;
            }
        }
        Ok(())
    }
}

/// True where the shapes are those of a model of `architecture`.
fn is_all_of(shapes: &Shapes<'_>, architecture: Architecture, base: &Sizes) -> bool {
    Misfits::of(shapes, &(architecture.declare)(&(architecture.sizes)(shapes, base))).is_none()
}

/// Refuses sizes of which no model can be built, though its tensors agree with each other.
fn check(sizes: &Sizes, architecture: Architecture, from: &Path) -> Result<(), Refusal> {
    if sizes.hidden == 0 || architecture.has_heads && !sizes.hidden.is_multiple_of(sizes.heads) {
        let message = format!(
            "{}: {} heads do not divide its width of {}; set model.heads to the number it was trained with",
            from.display(),
            sizes.heads,
            sizes.hidden
        );
        return Err(Refusal::new(message));
    }
    if sizes.max_len < 2 {
        let message = format!("{}: has {} positions, expected at least 2", from.display(), sizes.max_len);
        return Err(Refusal::new(message));
    }
    Ok(())
}

fn in_words(sizes: &Sizes) -> String {
    let Sizes { items, network: Network { hidden, blocks, heads, max_len, .. } } = sizes;
    format!("{items} items, hidden {hidden}, {blocks} blocks, {heads} heads, max_len {max_len}")
}
