//! The rank of a target among all items, by which models are evaluated.

use candle_core::{D, DType, Result, Tensor, bail};

use super::{
    Catalogue,
    score_blocks::{by_blocks, for_each_block, rows_at_once},
};
use crate::cpu::{apply, panels::Panels, vectorized};

impl Catalogue {
    /// The rank of each target, `(rows)` of u32: 1 + the number of *other* items that do not score below it. No gradient.
    ///
    /// `targets` is `(rows)` of u32, ids in `1..=items`. Ties, and scores that are not numbers, count against the model.
    pub fn ranks(&self, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
        if targets.dims() != [states.dim(0)?] {
            bail!("ranks: {} states but targets {:?}", states.dim(0)?, targets.dims());
        }
        if crate::fused(states.device()) {
            fused(self, states, targets)
        } else {
            plain(self, states, targets)
        }
    }
}

/// Number of `scores` below `bound`.
#[apply(vectorized!)]
fn below(scores: &[f32], bound: f32) -> u32 {
    let mut count = 0;
    for &score in scores {
        count += u32::from(score < bound);
    }
    count
}

/// Fused: each task counts the scores below its targets'.
pub(super) fn fused(catalogue: &Catalogue, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let targets = targets.to_vec1::<u32>()?;
    let items = catalogue.items;
    if let Some(row) = targets.iter().position(|&target| target == 0 || target as usize > items) {
        bail!("ranks: target {} of row {row} is outside 1..={items}", targets[row]);
    }
    let ranks = by_blocks(catalogue, None, states, 1, |scorer, row, ranks| {
        let (block, real) = scorer.block(row);
        // The targets' own scores, on the diagonal of a product that adds in the same order as those below.
        let hidden = scorer.hidden;
        let mut chosen = vec![0.0; real * hidden];
        for (chosen, &target) in chosen.chunks_exact_mut(hidden).zip(&targets[row..row + real]) {
            chosen.copy_from_slice(&scorer.weight[target as usize * hidden..][..hidden]);
        }
        let mut square = vec![0.0; real * real];
        Panels::new(&chosen, hidden).score(&mut square, real, block, real, 0);
        let bounds: Vec<f32> = (0..real)
            .map(|place| {
                let target = targets[row + place] as usize;
                square[place * real + place] + scorer.bias.map_or(0.0, |bias| bias[target])
            })
            .collect();
        ranks.fill(items as u32);
        scorer.for_each_panel(block, |first, width, scores| {
            for (place, (rank, scores)) in ranks.iter_mut().zip(scores.chunks_exact(width)).enumerate() {
                *rank -= below(scores, bounds[place]);
                // The target never counts against itself, should its two scores ever differ in the last place.
                let own = targets[row + place].wrapping_sub(first) as usize;
                if own < width && scores[own] < bounds[place] {
                    *rank += 1;
                }
            }
        });
    })?;
    Tensor::from_vec(ranks, states.dim(0)?, states.device())
}

/// Plain twin: all items less those that score below the target.
pub(super) fn plain(catalogue: &Catalogue, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if states.dim(0)? == 0 {
        return Tensor::zeros(0, DType::U32, states.device());
    }
    let mut ranks = Vec::new();
    let block = rows_at_once(states.device(), catalogue.columns()?);
    for_each_block(catalogue, states, block, |start, scores| {
        let (count, _) = scores.dims2()?;
        let places = (targets.narrow(0, start, count)?.to_dtype(DType::I64)? - 1.0)?;
        let target = scores.gather(&places.unsqueeze(1)?.contiguous()?, 1)?;
        let below = scores.broadcast_lt(&target)?.to_dtype(DType::U32)?.sum(D::Minus1)?;
        let all = Tensor::full(catalogue.items as u32, count, states.device())?;
        ranks.push((all - below)?);
        Ok(())
    })?;
    Tensor::cat(&ranks, 0)
}
