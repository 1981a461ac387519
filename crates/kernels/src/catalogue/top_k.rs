//! The k best items of each state: the answers of a recommender.
//!
//! Fused, a row keeps the keys of its best candidates, and a threshold that a score must pass to join them. The plain twin
//! selects from a row's scores, on CUDA by a kernel of our own; lists too long for that kernel are made best by best.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{
    Catalogue,
    score_blocks::{by_blocks, for_each_block, rows_at_once},
};
use crate::cpu::{apply, chunks, lanes, panels::Panels, vectorized};

impl Catalogue {
    /// The ids of the `k` best items of each state, best first: `(rows, k)` of u32. No gradient.
    pub fn top_k(&self, states: &Tensor, k: usize) -> Result<Tensor> {
        check(self, k)?;
        if crate::fused(states.device()) { fused(self, None, states, k) } else { plain(self, states, k) }
    }
}

/// Refuses lists that a catalogue cannot fill.
pub(super) fn check(catalogue: &Catalogue, k: usize) -> Result<()> {
    if k == 0 || k > catalogue.items {
        bail!("top k: k is {k}, must lie in 1..={} items", catalogue.items);
    }
    Ok(())
}

/// A key that sorts ascending in the order of the lists: higher scores first, then lower ids; NaN last. The id is its low half.
#[inline]
pub(crate) fn order_key(score: f32, id: u32) -> u64 {
    // Adding zero turns -0 into +0, so that they tie. Flipping the sign bit of positive numbers and all bits of negative
    // ones makes the bits ascend with the number; the complement makes them descend.
    let score = if score.is_nan() { f32::NEG_INFINITY } else { score + 0.0 };
    let bits = score.to_bits();
    let ascending = if bits >> 31 == 0 { bits | 0x8000_0000 } else { !bits };
    (u64::from(!ascending) << 32) | u64::from(id)
}

/// Fused: each task keeps the best candidates of its rows. `panels` are those of the catalogue, where they are kept.
pub(super) fn fused(
    catalogue: &Catalogue,
    panels: Option<&Panels>,
    states: &Tensor,
    k: usize,
) -> Result<Tensor> {
    let ids = by_blocks(catalogue, panels, states, k, |scorer, row, ids| {
        let (block, real) = scorer.block(row);
        let mut best: Vec<Best> = (0..real).map(|_| Best::new(k)).collect();
        scorer.for_each_panel(block, |first, width, scores| {
            for (best, scores) in best.iter_mut().zip(scores.chunks_exact(width)) {
                offer(best, first, scores);
            }
        });
        for (best, ids) in best.into_iter().zip(ids.chunks_exact_mut(k)) {
            list(best, ids);
        }
    })?;
    Tensor::from_vec(ids, (states.dim(0)?, k), states.device())
}

/// The best candidates of one row so far.
struct Best {
    keys: Vec<u64>,
    k: usize,
    /// A score must be above this to matter; below, there are `k` better ones already.
    threshold: f32,
    /// Room for [`lower_bound`].
    largest: Vec<f32>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { keys: Vec::with_capacity(4 * k + 64), k, threshold: f32::NEG_INFINITY, largest: Vec::new() }
    }

    /// Keeps the best `k`, once there are more, and lets only better ones in from there on.
    fn prune(&mut self) {
        if self.keys.len() > self.k {
            self.keys.select_nth_unstable(self.k - 1);
            self.keys.truncate(self.k);
        }
        if self.keys.len() == self.k {
            self.threshold = self.keys.iter().max().map_or(f32::NEG_INFINITY, |&key| score_of(key));
        }
    }
}

/// The place of the first block, from place `from` on, that holds a score above `threshold`; the number of blocks without one.
#[apply(vectorized!)]
fn next_above(blocks: &[[f32; lanes::LANES]], from: usize, threshold: f32) -> usize {
    for (place, block) in blocks.iter().enumerate().skip(from) {
        let mut any = false;
        for score in block {
            any |= *score > threshold;
        }
        if any {
            return place;
        }
    }
    blocks.len()
}

/// A score that at least `k` of `scores` reach, or negative infinity where none is found cheaply.
///
/// The scores are cut into up to eight equally long layers, and at each place the largest score of all layers is taken. These
/// are so many different scores, so `k` of all scores reach the `k`-th best of them, and few more do.
#[apply(vectorized!)]
fn lower_bound(scores: &[f32], k: usize, largest: &mut Vec<f32>) -> f32 {
    let layers = (scores.len() / k).min(8);
    if layers < 2 {
        return f32::NEG_INFINITY;
    }
    let places = scores.len() / layers;
    largest.clear();
    largest.resize(places, f32::NEG_INFINITY);
    for layer in scores.chunks_exact(places) {
        for (most, &score) in largest.iter_mut().zip(layer) {
            *most = if score > *most { score } else { *most };
        }
    }
    *largest.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// Offers a chunk of a row's scores, of the items from `first` on.
fn offer(best: &mut Best, first: u32, scores: &[f32]) {
    if best.keys.is_empty() {
        let bound = lower_bound(scores, best.k, &mut best.largest);
        if bound > f32::NEG_INFINITY {
            best.threshold = bound.next_down();
            return keep_better(best, first, scores, 0);
        }
    }
    // Until k items are known every score matters, even one that is not a number.
    let open = scores.len().min(best.k.saturating_sub(best.keys.len()));
    best.keys.extend((0..open).map(|place| order_key(scores[place], first + place as u32)));
    if open > 0 {
        best.prune();
    }
    keep_better(best, first, scores, open);
}

/// Keeps those of the scores from place `open` on that are above the threshold.
fn keep_better(best: &mut Best, first: u32, scores: &[f32], open: usize) {
    let key = |place: usize| order_key(scores[place], first + place as u32);
    let (blocks, tail) = scores[open..].as_chunks::<{ lanes::LANES }>();
    let mut place = next_above(blocks, 0, best.threshold);
    while place < blocks.len() {
        let start = open + place * lanes::LANES;
        for offset in 0..lanes::LANES {
            if scores[start + offset] > best.threshold {
                best.keys.push(key(start + offset));
            }
        }
        if best.keys.len() > 3 * best.k + 32 {
            best.prune();
        }
        place = next_above(blocks, place + 1, best.threshold);
    }
    for (&score, place) in tail.iter().zip(scores.len() - tail.len()..) {
        if score > best.threshold {
            best.keys.push(key(place));
        }
    }
}

/// The score in an order key.
fn score_of(key: u64) -> f32 {
    let ascending = !((key >> 32) as u32);
    f32::from_bits(if ascending >> 31 == 1 { ascending & 0x7fff_ffff } else { !ascending })
}

/// Writes the ids of the items kept, best first.
fn list(mut best: Best, ids: &mut [u32]) {
    best.prune();
    best.keys.sort_unstable();
    for (id, &key) in ids.iter_mut().zip(&best.keys) {
        *id = key as u32;
    }
}

/// Plain twin: a selection from each row's scores, by a kernel of our own on CUDA.
pub(crate) fn plain(catalogue: &Catalogue, states: &Tensor, k: usize) -> Result<Tensor> {
    if states.dim(0)? == 0 || k > LONGEST {
        return by_rounds(catalogue, states, k);
    }
    let mut lists = Vec::new();
    let block = rows_at_once(states.device(), catalogue.columns()?);
    for_each_block(catalogue, states, block, |_, scores| {
        lists.push(scores.apply_op1_no_bwd(&TopK(k))?);
        Ok(())
    })?;
    Tensor::cat(&lists, 0)
}

/// The plain twin for lists longer than [`LONGEST`]: `k` times the best of what is left.
///
/// candle's own sort fails past 8192 columns on CUDA, and orders ties differently there. This works for any number of items, and
/// the host never waits for the device.
pub(super) fn by_rounds(catalogue: &Catalogue, states: &Tensor, k: usize) -> Result<Tensor> {
    let device = states.device();
    if states.dim(0)? == 0 {
        return Tensor::zeros((0, k), DType::U32, device);
    }
    let ids = Tensor::arange(1u32, catalogue.items as u32 + 1, device)?;
    let mut lists = Vec::new();
    // A round holds some eight tensors of the scores' size.
    let block = rows_at_once(device, 8 * catalogue.columns()?);
    for_each_block(catalogue, states, block, |_, scores| {
        let none = Tensor::full(u32::MAX, scores.dims(), device)?;
        let lowest = Tensor::full(f32::NEG_INFINITY, scores.dims(), device)?;
        let mut left = ids.broadcast_as(scores.dims())?.contiguous()?;
        // NaN equals nothing, itself included.
        let mut scores = scores.eq(&scores)?.where_cond(&scores, &lowest)?;
        let mut list = Vec::with_capacity(k);
        for _ in 0..k {
            let best = scores.broadcast_eq(&scores.max_keepdim(D::Minus1)?)?;
            let id = best.where_cond(&left, &none)?.min_keepdim(D::Minus1)?; // (count, 1)
            let taken = left.broadcast_eq(&id)?;
            scores = taken.where_cond(&lowest, &scores)?;
            left = taken.where_cond(&none, &left)?;
            list.push(id);
        }
        lists.push(Tensor::cat(&list, 1)?);
        Ok(())
    })?;
    Tensor::cat(&lists, 0)
}

/// The longest list that [`TopK`] makes: what fits into a block's shared memory on CUDA.
pub(crate) const LONGEST: usize = 2048;

/// The ids, from 1, of the best of each row of scores `(rows, columns)`, best first: `(rows, k)` of u32, `k` at most [`LONGEST`].
struct TopK(usize);

/// The ids, from 1, of the best scores, best first; as many as fit into `ids`.
pub(crate) fn best(scores: &[f32], ids: &mut [u32]) {
    let mut best = Best::new(ids.len());
    offer(&mut best, 1, scores);
    list(best, ids);
}

impl CustomOp1 for TopK {
    fn name(&self) -> &'static str {
        "top k"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = layout.shape().dims2()?;
        let scores = chunks::slice(scores, layout)?;
        let mut ids = vec![0; rows * self.0];
        ids.par_chunks_mut(self.0)
            .zip(scores.par_chunks(columns))
            .for_each(|(ids, scores)| best(scores, ids));
        Ok((CpuStorage::U32(ids), (rows, self.0).into()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, scores: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((crate::cuda::top_k(scores, layout, self.0)?, (layout.dims()[0], self.0).into()))
    }
}
