//! The best and the worst item of each state: what GRO takes as replacements.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::{
    Catalogue,
    score_blocks::{by_blocks, for_each_block, rows_at_once},
    top_k::order_key,
};
use crate::cpu::{apply, chunks, lanes, vectorized};

impl Catalogue {
    /// The ids of the best and of the worst item of each state, two `(rows)` of u32; of equal scores the lowest id. No gradient.
    pub fn extremes(&self, states: &Tensor) -> Result<(Tensor, Tensor)> {
        if crate::fused(states.device()) { fused(self, states) } else { plain(self, states) }
    }
}

/// Largest and smallest of `scores`; a score that is not a number is neither.
#[apply(vectorized!)]
fn bounds(scores: &[f32]) -> (f32, f32) {
    (lanes::max(scores), lanes::min(scores))
}

/// Fused: each task keeps the extremes of its rows.
pub(super) fn fused(catalogue: &Catalogue, states: &Tensor) -> Result<(Tensor, Tensor)> {
    let pairs = by_blocks(catalogue, None, states, 2, |scorer, row, pairs| {
        let (block, real) = scorer.block(row);
        let mut found = vec![(f32::NEG_INFINITY, f32::INFINITY); real];
        pairs.fill(1);
        scorer.for_each_panel(block, |first, width, scores| {
            for ((found, pair), scores) in
                found.iter_mut().zip(pairs.chunks_exact_mut(2)).zip(scores.chunks_exact(width))
            {
                let (most, least) = bounds(scores);
                let place =
                    |wanted: f32| scores.iter().position(|&score| score == wanted).unwrap_or(0) as u32;
                if most > found.0 {
                    (found.0, pair[0]) = (most, first + place(most));
                }
                if least < found.1 {
                    (found.1, pair[1]) = (least, first + place(least));
                }
            }
        });
    })?;
    let (best, worst): (Vec<u32>, Vec<u32>) = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
    let rows = best.len();
    Ok((Tensor::from_vec(best, rows, states.device())?, Tensor::from_vec(worst, rows, states.device())?))
}

/// Plain twin: row by row, by a kernel of our own on CUDA.
pub(super) fn plain(catalogue: &Catalogue, states: &Tensor) -> Result<(Tensor, Tensor)> {
    let device = states.device();
    if states.dim(0)? == 0 {
        let none = Tensor::zeros(0, DType::U32, device)?;
        return Ok((none.clone(), none));
    }
    let mut pairs = Vec::new();
    let block = rows_at_once(states.device(), catalogue.columns()?);
    for_each_block(catalogue, states, block, |_, scores| {
        pairs.push(scores.apply_op1_no_bwd(&Extremes)?);
        Ok(())
    })?;
    let pairs = Tensor::cat(&pairs, 0)?.t()?.contiguous()?;
    Ok((pairs.get(0)?, pairs.get(1)?))
}

/// The ids, from 1, of the best and of the worst of each row of scores `(rows, columns)`: `(rows, 2)` of u32.
struct Extremes;

/// The ids, from 1, of the best and of the worst of `scores`.
pub(crate) fn of_row(scores: &[f32]) -> [u32; 2] {
    let key = |(place, score): (usize, f32)| order_key(score, place as u32 + 1);
    let each = || scores.iter().copied().enumerate();
    let worst = each().map(|(place, score)| key((place, -score))).min();
    [each().map(key).min(), worst].map(|key| key.map_or(1, |key| key as u32))
}

impl CustomOp1 for Extremes {
    fn name(&self) -> &'static str {
        "extremes"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = layout.shape().dims2()?;
        let pairs = chunks::slice(scores, layout)?.chunks_exact(columns).flat_map(of_row).collect();
        Ok((CpuStorage::U32(pairs), (rows, 2).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, scores: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((crate::cuda::extremes(scores, layout)?, (layout.dims()[0], 2).into()))
    }
}
