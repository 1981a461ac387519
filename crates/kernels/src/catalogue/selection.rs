//! The best k, the extremes and ranks over all items: what is kept of scores that are never all held.
//!
//! One task takes a block of rows over the items in panels, a matrix product each, and keeps of each panel what matters.
//! A state has the same scores in any batch, so that a rank asked alone agrees with a list asked in company.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{Catalogue, order_key};
use crate::cpu::{chunks, lanes, panels::Panels};

/// Most rows of one task.
const ROWS: usize = 32;

/// The values a walk reads.
#[derive(Clone, Copy)]
struct Scorer<'a> {
    states: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    panels: &'a Panels,
    hidden: usize,
}

/// Adds the bias to rows of scores.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
fn add_bias(scores: &mut [f32], bias: &[f32]) {
    for row in scores.chunks_exact_mut(bias.len()) {
        lanes::axpy(row, 1.0, bias);
    }
}

impl Scorer<'_> {
    /// The states of the block from `row` on, and how many.
    fn block(&self, row: usize) -> (&[f32], usize) {
        let block = &self.states[row * self.hidden..];
        let block = &block[..block.len().min(ROWS * self.hidden)];
        (block, block.len() / self.hidden)
    }

    /// Calls `visit(first id, width, scores)` with the scores of the block's rows over one chunk of items after another.
    fn walk(&self, block: &[f32], mut visit: impl FnMut(u32, usize, &[f32])) {
        let rows = block.len() / self.hidden;
        let mut scores = vec![0.0; rows * self.panels.width()];
        for (first, width) in self.panels.each() {
            let scores = &mut scores[..rows * width];
            self.panels.score(scores, width, block, rows, first);
            if let Some(bias) = self.bias {
                add_bias(scores, &bias[first + 1..=first + width]);
            }
            visit(first as u32 + 1, width, scores);
        }
    }
}

/// Runs `task` for each block of rows, on the block's part of a result with `width` ids per row.
fn by_blocks(
    catalogue: &Catalogue,
    states: &Tensor,
    width: usize,
    task: impl Fn(&Scorer<'_>, usize, &mut [u32]) + Sync,
) -> Result<Vec<u32>> {
    catalogue.columns()?;
    let (rows, hidden) = states.dims2()?;
    let mut ids = vec![0u32; rows * width];
    let mut run = |states: &[f32], weight: &[f32], bias: Option<&[f32]>| {
        let panels = Panels::new(&weight[hidden..][..catalogue.items * hidden], hidden);
        let scorer = Scorer { states, weight, bias, panels: &panels, hidden };
        ids.par_chunks_mut(ROWS * width)
            .enumerate()
            .for_each(|(index, ids)| task(&scorer, index * ROWS, ids));
    };
    chunks::with_values(states, |states| {
        chunks::with_values(&catalogue.weight, |weight| {
            if let Some(bias) = &catalogue.bias {
                chunks::with_values(bias, |bias| {
                    run(states, weight, Some(bias));
                    Ok(())
                })
            } else {
                run(states, weight, None);
                Ok(())
            }
        })
    })?;
    Ok(ids)
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

/// The place of the first of sixteen-wide blocks, from `block` on, that holds a score above `threshold`.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
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
/// The scores are laid over one another in up to eight layers; the largest at each place of the pile are so many different
/// scores, so the `k`-th of those is reached by `k` of all, and by few more.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
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

pub(crate) fn top_k(catalogue: &Catalogue, states: &Tensor, k: usize) -> Result<Tensor> {
    let ids = by_blocks(catalogue, states, k, |scorer, row, ids| {
        let (block, real) = scorer.block(row);
        let mut best: Vec<Best> = (0..real).map(|_| Best::new(k)).collect();
        scorer.walk(block, |first, width, scores| {
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

/// The longest list that [`TopK`] makes: what fits into a block's shared memory on CUDA.
pub(crate) const LONGEST: usize = 2048;

/// The ids, from 1, of the best of each row of scores `(rows, columns)`, best first: `(rows, k)` of u32, `k` at most [`LONGEST`].
pub(crate) struct TopK(pub(crate) usize);

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

/// Largest and smallest of `scores`; a score that is not a number is neither.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
fn bounds(scores: &[f32]) -> (f32, f32) {
    (lanes::max(scores), lanes::min(scores))
}

pub(crate) fn extremes(catalogue: &Catalogue, states: &Tensor) -> Result<(Tensor, Tensor)> {
    let pairs = by_blocks(catalogue, states, 2, |scorer, row, pairs| {
        let (block, real) = scorer.block(row);
        let mut found = vec![(f32::NEG_INFINITY, f32::INFINITY); real];
        pairs.fill(1);
        scorer.walk(block, |first, width, scores| {
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

/// Number of `scores` below `bound`.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
fn below(scores: &[f32], bound: f32) -> u32 {
    let mut count = 0;
    for &score in scores {
        count += u32::from(score < bound);
    }
    count
}

pub(crate) fn ranks(catalogue: &Catalogue, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let targets = targets.to_vec1::<u32>()?;
    let items = catalogue.items;
    if let Some(row) = targets.iter().position(|&target| target == 0 || target as usize > items) {
        bail!("ranks: target {} of row {row} is outside 1..={items}", targets[row]);
    }
    let ranks = by_blocks(catalogue, states, 1, |scorer, row, ranks| {
        let (block, real) = scorer.block(row);
        // The targets' own scores, on the diagonal of a product that adds as the walk's do.
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
        scorer.walk(block, |first, width, scores| {
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::testing::{ids, numbers, on_threads};

    fn list(tensor: &Tensor) -> Vec<u32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn tensor(values: Vec<f32>, shape: &[usize]) -> Tensor {
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// A catalogue in which every third item equals the one before it, so that scores tie.
    fn tied(items: usize, hidden: usize, bias: bool) -> Catalogue {
        let mut weight = numbers(2, (items + 2) * hidden);
        let mut biases = numbers(3, items + 2);
        for item in (3..items).step_by(3) {
            weight.copy_within((item - 1) * hidden..item * hidden, item * hidden);
            biases[item] = biases[item - 1];
        }
        let bias = bias.then(|| tensor(biases, &[items + 2]));
        Catalogue { weight: tensor(weight, &[items + 2, hidden]), bias, items }
    }

    #[test]
    fn twins_agree() {
        for (rows, items, hidden, k) in
            [(1, 1, 4, 1), (1, 40, 64, 40), (37, 300, 20, 10), (70, 9001, 64, 100)]
        {
            for bias in [false, true] {
                let catalogue = tied(items, hidden, bias);
                let states = tensor(numbers(1, rows * hidden), &[rows, hidden]);
                let targets = Tensor::new(ids(9, rows, items as u32), &Device::Cpu).unwrap();
                let targets = (targets + 1.0).unwrap();
                let (best, worst) = extremes(&catalogue, &states).unwrap();
                let lists = top_k(&catalogue, &states, k).unwrap();
                let places = ranks(&catalogue, &states, &targets).unwrap();
                let (plain_best, plain_worst) = catalogue.plain_extremes(&states).unwrap();
                assert_eq!(list(&best), list(&plain_best));
                assert_eq!(list(&worst), list(&plain_worst));
                assert_eq!(list(&lists), list(&catalogue.plain_top_k(&states, k).unwrap()));
                assert_eq!(list(&lists), list(&catalogue.top_k_by_rounds(&states, k).unwrap()));
                assert_eq!(list(&places), list(&catalogue.plain_ranks(&states, &targets).unwrap()));
                for threads in [1, 3] {
                    let (lists_again, best_again, worst_again, places_again) = on_threads(threads, || {
                        let (best, worst) = extremes(&catalogue, &states).unwrap();
                        let lists = top_k(&catalogue, &states, k).unwrap();
                        (
                            list(&lists),
                            list(&best),
                            list(&worst),
                            list(&ranks(&catalogue, &states, &targets).unwrap()),
                        )
                    });
                    assert_eq!(lists_again, list(&lists), "{threads} threads");
                    assert_eq!(best_again, list(&best), "{threads} threads");
                    assert_eq!(worst_again, list(&worst), "{threads} threads");
                    assert_eq!(places_again, list(&places), "{threads} threads");
                }
            }
        }
    }

    #[test]
    fn lists_ranks_and_extremes_tell_one_story_in_any_batch() {
        let (rows, items, hidden, k) = (45, 5000, 64, 50);
        let catalogue = tied(items, hidden, true);
        let states = tensor(numbers(1, rows * hidden), &[rows, hidden]);
        let lists = top_k(&catalogue, &states, k).unwrap().to_vec2::<u32>().unwrap();
        let first = list(&extremes(&catalogue, &states).unwrap().0);
        for (row, ids) in lists.iter().enumerate() {
            assert_eq!(ids[0], first[row]);
            let alone = states.narrow(0, row, 1).unwrap();
            assert_eq!(&list(&top_k(&catalogue, &alone, k).unwrap()), ids);
            for (place, &id) in ids.iter().enumerate().step_by(7) {
                let target = Tensor::new(&[id], &Device::Cpu).unwrap();
                let rank = list(&ranks(&catalogue, &alone, &target).unwrap())[0] as usize;
                // An item that ties with the one after it ranks there, at most one place below the list's.
                assert!(rank == place + 1 || rank == place + 2, "rank {rank} at place {place}");
            }
        }
    }

    #[test]
    fn scores_that_are_not_numbers_come_last() {
        let weight = tensor(vec![0.0, f32::NAN, 1.0, f32::NEG_INFINITY, 3.0, f32::NAN, 3.0], &[7, 1]);
        let catalogue = Catalogue { weight, bias: None, items: 6 };
        let states = tensor(vec![1.0], &[1, 1]);
        for k in 1..=6 {
            let expected = &[4u32, 6, 2, 1, 3, 5][..k];
            assert_eq!(list(&top_k(&catalogue, &states, k).unwrap()), expected);
            assert_eq!(list(&catalogue.plain_top_k(&states, k).unwrap()), expected);
            assert_eq!(list(&catalogue.top_k_by_rounds(&states, k).unwrap()), expected);
        }
        for (target, rank) in [(4u32, 4), (1, 6), (2, 5)] {
            let target = Tensor::new(&[target], &Device::Cpu).unwrap();
            assert_eq!(list(&ranks(&catalogue, &states, &target).unwrap()), [rank]);
            assert_eq!(list(&catalogue.plain_ranks(&states, &target).unwrap()), [rank]);
        }
    }

    #[test]
    fn nothing_of_no_rows_and_refusals() {
        let catalogue = tied(10, 4, false);
        let none = tensor(Vec::new(), &[0, 4]);
        assert_eq!(catalogue.top_k(&none, 3).unwrap().dims(), [0, 3]);
        let one = tensor(numbers(1, 4), &[1, 4]);
        assert!(catalogue.top_k(&one, 0).is_err() && catalogue.top_k(&one, 11).is_err());
        let target = Tensor::new(&[0u32], &Device::Cpu).unwrap();
        assert!(catalogue.ranks(&one, &target).is_err());
    }
}
