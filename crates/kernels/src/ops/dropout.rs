//! Dropout whose mask is a function of a key and the element's index.
//!
//! No mask is stored and none depends on a thread: the forward and the backward pass, fused and plain, compute the same bit
//! from `(key, index)`. The caller draws a fresh key for each step and layer from a random stream of its own.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::cpu::{
    apply,
    chunks::{self, ELEMENTS},
    vectorized,
};

/// Dropout with probability `probability`, its mask decided by `key`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of elements set to zero, in `[0, 1)`; those kept are scaled by `1 / (1 - probability)`.
    pub probability: f64,
    /// Decides the mask: equal keys and shapes give equal masks.
    pub key: u64,
}

/// The mask of a [`Dropout`], as the inner loops compute it: element `i` is kept where `hash(i) >= threshold`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    low: u32,
    high: u32,
    threshold: u32,
    /// The factor of the elements that are kept.
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

    /// The hash from which on an element is kept, and the factor of those kept.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn threshold_and_scale(self) -> (u32, f32) {
        self.mask(0).map_or((0, 1.0), |mask| (mask.threshold, mask.scale))
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

    /// The factors of the elements of a tensor of this shape, part 0, for the plain twins; `None` where they are all 1.
    pub(crate) fn factors(self, shape: &[usize], device: &Device) -> Result<Option<Tensor>> {
        let count: usize = shape.iter().product();
        self.check(count)?;
        if self.probability <= 0.0 {
            return Ok(None);
        }
        let factors = Factors { dropout: self, parts: 1, sharers: 1, rows: 1, width: count };
        let length = Tensor::new(&[count as u32], device)?;
        Ok(Some(length.apply_op1_no_bwd(&factors)?.reshape(shape)?))
    }
}

/// The dropout factors of `parts` padded matrices of `(rows, width)` elements, computed on the device.
///
/// Every part has a mask of its own. `sharers` parts in succession, the heads of one row, share a length: in part `p` the first
/// `lengths[p / sharers]` columns are real, and the mask numbers their elements row by row. The factors of padding are not used.
pub(crate) struct Factors {
    pub(crate) dropout: Dropout,
    pub(crate) parts: usize,
    pub(crate) sharers: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl Factors {
    /// Number of factors.
    pub(crate) fn count(&self) -> usize {
        self.parts * self.rows * self.width
    }
}

impl CustomOp1 for Factors {
    fn name(&self) -> &'static str {
        "dropout factors"
    }

    fn cpu_fwd(&self, lengths: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::U32(lengths), Some((start, _))) = (lengths, layout.contiguous_offsets()) else {
            bail!("dropout: lengths {:?} are not contiguous u32", layout.dims())
        };
        let mut factors = vec![1.0; self.count()];
        let block = (self.rows * self.width).max(1);
        factors.par_chunks_mut(block).enumerate().for_each(|(part, block)| {
            let Some(mask) = self.dropout.mask(part as u64) else { return };
            let length = lengths[start + part / self.sharers];
            for (row, factors) in (0u32..).zip(block.chunks_exact_mut(self.width)) {
                for (column, factor) in (0u32..).zip(factors) {
                    *factor = mask.factor(row.wrapping_mul(length).wrapping_add(column));
                }
            }
        });
        Ok((CpuStorage::F32(factors), self.count().into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, lengths: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((crate::cuda::dropout_factors(lengths, layout, self)?, self.count().into()))
    }
}

/// Dropout over any tensor, same shape; the identity without a [`Dropout`] or at probability 0.
pub fn dropout(x: &Tensor, dropout: Option<Dropout>) -> Result<Tensor> {
    let Some(dropout) = dropout else { return Ok(x.clone()) };
    dropout.check(x.elem_count())?;
    if crate::fused(x.device()) { fused(x, dropout) } else { plain(x, dropout) }
}

/// Plain twin: the mask as a tensor, multiplied in.
pub(crate) fn plain(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::norm::drop_add(x, None, Some(dropout));
    }
    match dropout.factors(x.dims(), x.device())? {
        Some(factors) => x * factors.to_dtype(x.dtype())?,
        None => Ok(x.clone()),
    }
}

pub(crate) fn fused(x: &Tensor, dropout: Dropout) -> Result<Tensor> {
    match dropout.mask(0) {
        Some(mask) => x.contiguous()?.apply_op1(Masked(mask)),
        None => Ok(x.clone()),
    }
}

/// Multiplication with the mask, which is also its own backward pass.
struct Masked(Mask);

impl Masked {
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        chunks::build(x.len(), ELEMENTS, |index, y| {
            let start = index * ELEMENTS;
            masked(self.0, start as u32, y, &x[start..start + y.len()]);
        })
    }
}

/// `y = mask * x` for elements from `start` on.
#[apply(vectorized!)]
pub(crate) fn masked(mask: Mask, start: u32, y: &mut [f32], x: &[f32]) {
    for ((y, &x), offset) in y.iter_mut().zip(x).zip(0u32..) {
        *y = x * mask.factor(start.wrapping_add(offset));
    }
}

impl CustomOp1 for Masked {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.apply(chunks::slice(storage, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let dx = chunks::with_values(g, |g| Ok(self.apply(g)))?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_twins, values, variable};

    #[test]
    fn twins_agree() {
        for shape in [[1, 1], [3, 7], [1300, 64]] {
            let x = [variable(1, &shape)];
            let dropout = Dropout { probability: 0.3, key: 7 };
            assert_twins("dropout", &x, 0.0, |v| fused(&v[0], dropout), |v| plain(&v[0], dropout));
        }
    }

    #[test]
    fn masks_drop_their_share_and_differ_by_key() {
        let count = 200_000u32;
        let kept = |probability: f64, key: u64, part: u64| -> Vec<bool> {
            let mask = Dropout { probability, key }.mask(part);
            (0..count).map(|i| mask.is_none_or(|mask| mask.factor(i) > 0.0)).collect()
        };
        for probability in [0.0, 0.1, 0.2, 0.5, 0.9] {
            let mut previous: Option<Vec<bool>> = None;
            for (key, part) in [(0, 0), (1, 0), (0, 1), (u64::MAX, 5), (1 << 40, 0)] {
                let mask = kept(probability, key, part);
                let share = |bits: &mut dyn Iterator<Item = bool>| {
                    bits.filter(|&b| b).count() as f64 / f64::from(count)
                };
                // Five standard deviations of a binomial share.
                let tolerance = 5.0 * (0.25 / f64::from(count)).sqrt();
                let keep = 1.0 - probability;
                assert!((share(&mut mask.iter().copied()) - keep).abs() < tolerance);
                // Neighbours, and equal places under another key, are kept together as often as independent ones are.
                for lag in [1, 2, 16, 64, 200] {
                    let together = share(&mut mask.iter().zip(&mask[lag..]).map(|(a, b)| *a && *b));
                    assert!((together - keep * keep).abs() < tolerance + 2e-3, "lag {lag}: {together}");
                }
                if let Some(previous) = &previous {
                    let together = share(&mut mask.iter().zip(previous).map(|(a, b)| *a && *b));
                    assert!((together - keep * keep).abs() < tolerance);
                }
                previous = Some(mask);
            }
        }
    }

    #[test]
    fn kept_elements_are_scaled_and_probability_zero_is_the_identity() {
        let x = variable(3, &[50, 8]);
        let run = |probability| dropout(&x, Some(Dropout { probability, key: 3 })).map(|y| values(&y));
        assert!(run(0.0).is_ok_and(|y| y == values(&x)));
        assert!(run(0.2).is_ok_and(|y| y.iter().zip(values(&x)).all(|(y, x)| *y == 0.0 || *y == x * 1.25)));
        assert!(run(1.0).is_err());
    }
}
