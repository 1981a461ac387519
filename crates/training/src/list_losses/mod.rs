//! What a thief learns from an answered list. One file a loss, and a line in [`LIST_LOSSES`]; the arithmetic is in `crates/kernels`,
//! fused and plain.

mod hinge;
mod listmle;
mod set;
mod softmax;

use std::fmt;

use artifact::names::{Named, Registry};
use artifact::settings::{Distill, Invalid};
use candle_core::Tensor;
use kernels::Catalogue;
use models::Result;

/// Every loss of lists.
pub const LIST_LOSSES: Registry<ListLoss> =
    Registry { kind: "list loss", entries: &[hinge::LOSS, listmle::LOSS, softmax::LOSS, set::LOSS] };

/// The settings that name a loss, by key path.
pub const SETTINGS: &[&str] = &["distill.loss"];

/// Lists, and what they are held against.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    /// `(rows, hidden)`: the model's states after the histories.
    pub states: &'a Tensor,
    /// `(rows, k)` of u32: what was answered, best first.
    pub answers: &'a Tensor,
    /// `(rows, c)` of u32: items outside these.
    pub negatives: &'a Tensor,
}

/// A loss of lists: its names, and how it is computed.
#[derive(Clone, Copy)]
pub struct ListLoss {
    /// What files and settings call it.
    pub name: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// Whether the order of a list makes a difference.
    pub ordered: bool,
    /// How many negatives a list of so many items is held against.
    ///
    /// Fails for a number that it cannot use.
    pub negatives: fn(&Distill, usize) -> std::result::Result<usize, Invalid>,
    /// The loss, a scalar with gradients.
    pub value: fn(&Catalogue, &Lists<'_>, &Distill) -> Result<Tensor>,
}

/// `distill.negatives`, or as many as the list holds.
///
/// # Errors
/// None; the type is that of [`ListLoss::negatives`].
#[expect(clippy::unnecessary_wraps, reason = "the hinges take no other number than their own")]
fn as_set(settings: &Distill, k: usize) -> std::result::Result<usize, Invalid> {
    Ok(settings.negatives.unwrap_or(k))
}

impl Named for ListLoss {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> &'static str {
        self.title
    }
}

impl fmt::Debug for ListLoss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}
