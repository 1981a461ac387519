//! The catalogue of a model that does not change any more, made ready for many small batches of questions.

use candle_core::{Result, Tensor};

use super::{
    Catalogue,
    score_blocks::panels_of,
    top_k::{self, fused},
};
use crate::cpu::panels::Panels;

/// A catalogue with its weight transposed once for all batches, which a few dozen rows would feel. It is as large again, and whoever trains the
/// weight must not use it: it keeps the weight as it was.
#[derive(Debug)]
pub struct Prepared {
    catalogue: Catalogue,
    /// None on a device that takes the weight as it lies.
    panels: Option<Panels>,
}

impl Prepared {
    /// Transposes the weight, where that is of use.
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(catalogue: &Catalogue) -> Result<Self> {
        let catalogue = catalogue.detached();
        let panels = crate::fused(catalogue.weight.device()).then(|| panels_of(&catalogue)).transpose()?;
        Ok(Self { catalogue, panels })
    }

    /// As [`Catalogue::top_k`].
    ///
    /// # Errors
    /// As [`Catalogue::top_k`].
    pub fn top_k(&self, states: &Tensor, k: usize) -> Result<Tensor> {
        match &self.panels {
            Some(panels) if crate::fused(states.device()) => {
                top_k::check(&self.catalogue, k)?;
                fused(&self.catalogue, Some(panels), states, k)
            }
            _ => self.catalogue.top_k(states, k),
        }
    }
}
