//! The best and the worst item of each state: what GRO takes as replacements.

use candle_core::{D, DType, Result, Tensor};

use super::{
    Catalogue,
    score_blocks::{by_blocks, for_each_block},
};
use crate::cpu::{apply, lanes, vectorized};

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

/// Plain twin: the lowest id among those that reach the extreme.
pub(super) fn plain(catalogue: &Catalogue, states: &Tensor) -> Result<(Tensor, Tensor)> {
    let device = states.device();
    if states.dim(0)? == 0 {
        let none = Tensor::zeros(0, DType::U32, device)?;
        return Ok((none.clone(), none));
    }
    let ids = Tensor::arange(1u32, catalogue.items as u32 + 1, device)?;
    let (mut best, mut worst) = (Vec::new(), Vec::new());
    for_each_block(catalogue, states, |_, scores| {
        let none = Tensor::full(u32::MAX, scores.dims(), device)?;
        let all = ids.broadcast_as(scores.dims())?.contiguous()?;
        let lowest = |extreme: Tensor| -> Result<Tensor> {
            scores.broadcast_eq(&extreme)?.where_cond(&all, &none)?.min(D::Minus1)
        };
        best.push(lowest(scores.max_keepdim(D::Minus1)?)?);
        worst.push(lowest(scores.min_keepdim(D::Minus1)?)?);
        Ok(())
    })?;
    Ok((Tensor::cat(&best, 0)?, Tensor::cat(&worst, 0)?))
}
