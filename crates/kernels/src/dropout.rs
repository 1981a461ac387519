//! Dropout whose mask is a function of a key and the element's index.
//!
//! No mask is stored and none depends on which thread drew it: forward and backward, the fused and the plain versions
//! compute the same bit from `(key, index)`. The caller draws a fresh key per step and layer from its own named stream.

use candle_core::{Device, Result, Tensor, bail};

use crate::fused as use_fused;

/// Dropout with probability `probability`, its mask decided by `key`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of elements set to zero, in `[0, 1)`; those kept are scaled by `1 / (1 - probability)`.
    pub probability: f64,
    /// What decides the mask: equal keys and shapes give equal masks.
    pub key: u64,
}

/// A [`Dropout`] made ready for its inner loop; element `i` is kept when `hash(i) >= threshold`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    low: u32,
    high: u32,
    threshold: u32,
    /// What kept elements are multiplied with.
    pub(crate) scale: f32,
}

impl Mask {
    /// The factor of element `index`: 0 or [`Mask::scale`].
    #[inline(always)]
    pub(crate) fn factor(self, index: u32) -> f32 {
        // Two rounds of multiply and shift (a 32-bit finaliser) with one half of the key before each; plain 32-bit
        // operations, so that the loops around this vectorise.
        let mut hash = index.wrapping_mul(0x9e37_79b1) ^ self.low;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x21f0_aaad);
        hash = (hash ^ (hash >> 15)).wrapping_add(self.high).wrapping_mul(0xd35a_2d97);
        hash = (hash ^ (hash >> 15)).wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 16;
        if hash >= self.threshold { self.scale } else { 0.0 }
    }
}

impl Dropout {
    /// The mask of the `part`-th independent part of a tensor (a row and head of attention; 0 where there is one part),
    /// or `None` where dropout is the identity.
    pub(crate) fn mask(self, part: u64) -> Option<Mask> {
        if self.probability <= 0.0 {
            return None;
        }
        // splitmix64 over key and part: unrelated 64 bits for each part.
        let mut bits = self.key.wrapping_add(part.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        Some(Mask {
            low: bits as u32,
            high: (bits >> 32) as u32,
            threshold: (self.probability * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - self.probability)) as f32,
        })
    }

    /// Checks the probability, and that `elements` can be numbered with 32 bits.
    pub(crate) fn check(self, elements: usize) -> Result<()> {
        if !(0.0..1.0).contains(&self.probability) {
            bail!("dropout: probability {} is outside [0, 1)", self.probability);
        }
        if u32::try_from(elements).is_err() {
            bail!(
                "dropout: {elements} elements in one tensor, at most 2^32 - 1 can be masked; use a smaller batch"
            );
        }
        Ok(())
    }

    /// The factors of the first `count` elements of part 0 as a tensor, for the plain twins.
    pub(crate) fn factors(self, shape: &[usize], device: &Device) -> Result<Option<Tensor>> {
        let count: usize = shape.iter().product();
        self.check(count)?;
        let Some(mask) = self.mask(0) else { return Ok(None) };
        let factors: Vec<f32> = (0..count as u32).map(|index| mask.factor(index)).collect();
        Ok(Some(Tensor::from_vec(factors, shape, device)?))
    }
}

/// Dropout over any tensor, same shape; the identity without a [`Dropout`] or at probability 0.
pub fn dropout(x: &Tensor, dropout: Option<Dropout>) -> Result<Tensor> {
    let Some(dropout) = dropout else { return Ok(x.clone()) };
    dropout.check(x.elem_count())?;
    let _ = use_fused;
    plain(x, dropout)
}

/// Plain twin: the mask as a tensor, multiplied in.
pub(crate) fn plain(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    match dropout.factors(x.dims(), x.device())? {
        Some(factors) => x * factors,
        None => Ok(x.clone()),
    }
}
