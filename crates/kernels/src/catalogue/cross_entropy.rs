//! Mean cross entropy over the whole catalogue, without ever holding the whole score matrix.
//!
//! Rows are taken in blocks, and gradients are computed in the forward pass, while a block's scores are at hand: memory is
//! bounded by [`BUDGET`], or what a GPU has instead, whatever the batch. A catalogue so large that a block would be a few rows is taken in chunks of
//! columns instead, twice: once for each row's sum of exponentials, once for the gradients.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{
    Catalogue,
    score_blocks::{BUDGET, rows_at_once},
};
use crate::cpu::{
    apply,
    bias::{add_to_rows, column_sums},
    chunks, lanes,
    matrix::{Store, View, ViewMut, multiply, multiply_parallel},
    panels::Panels,
    vectorized,
};

/// Fewest rows of a block; where the budget is less than that, the catalogue is taken in chunks of columns.
const FEWEST_ROWS: usize = 64;

/// Columns of one such chunk.
const CHUNK: usize = 8192;

impl Catalogue {
    /// Mean cross entropy of `targets` (u32, `(rows)`, columns) under the softmax over *all* columns; a scalar with gradients.
    pub fn cross_entropy(&self, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let rows = states.dim(0)?;
        if targets.dims() != [rows] {
            bail!("cross entropy: {rows} states but targets {:?}", targets.dims());
        }
        if rows == 0 {
            bail!("cross entropy: no rows");
        }
        if crate::fused(states.device()) {
            fused(self, states, targets, BUDGET)
        } else {
            plain(self, states, targets, rows_at_once(states.device(), self.columns()?))
        }
    }
}

/// Fused, with at most `budget` scores held at once.
fn fused(catalogue: &Catalogue, states: &Tensor, targets: &Tensor, budget: usize) -> Result<Tensor> {
    let columns = catalogue.columns()?;
    let targets = targets.to_vec1::<u32>()?;
    if let Some(row) = targets.iter().position(|&target| target as usize >= columns) {
        bail!("cross entropy: target {} of row {row} is outside {columns} columns", targets[row]);
    }
    let (states, weight) = (states.contiguous()?, catalogue.weight.contiguous()?);
    let bias = catalogue.bias.as_ref().map(Tensor::contiguous).transpose()?;
    let wanted = states.track_op() || weight.track_op() || bias.as_ref().is_some_and(Tensor::track_op);
    let (_, hidden) = states.dims2()?;
    let run = |states: &[f32], weight: &[f32], bias: Option<&[f32]>| {
        let problem = Problem { states, weight, bias, targets: &targets, hidden, columns, wanted };
        let rows_of_block = budget / columns;
        if rows_of_block >= FEWEST_ROWS.min(targets.len()) {
            problem.by_rows(rows_of_block)
        } else {
            problem.by_columns((budget / CHUNK.min(columns)).max(1))
        }
    };
    let solution = chunks::with_values(&states, |states| {
        chunks::with_values(&weight, |weight| match &bias {
            Some(bias) => chunks::with_values(bias, |bias| Ok(run(states, weight, Some(bias)))),
            None => Ok(run(states, weight, None)),
        })
    })?;
    let value =
        (solution.losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / targets.len() as f64) as f32;
    if !wanted {
        return Tensor::new(value, states.device());
    }
    let op = Solved {
        value,
        states: Tensor::from_vec(solution.states, states.shape(), states.device())?,
        weight: Tensor::from_vec(solution.weight, weight.shape(), states.device())?,
        bias: Tensor::from_vec(solution.bias, columns, states.device())?,
    };
    match &bias {
        Some(bias) => states.apply_op3(&weight, bias, op),
        None => states.apply_op2(&weight, op),
    }
}

/// What is to be computed.
struct Problem<'a> {
    states: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    targets: &'a [u32],
    hidden: usize,
    columns: usize,
    /// Whether gradients are wanted, or the losses alone.
    wanted: bool,
}

/// The loss of each row, and the gradients of their mean, empty where not wanted.
struct Solution {
    losses: Vec<f32>,
    states: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// Turns a row of scores into the gradient of `share` times its loss, which is returned unscaled.
#[apply(vectorized!)]
pub(crate) fn softmax_loss(scores: &mut [f32], target: usize, share: f32) -> f32 {
    let most = lanes::max(scores);
    let at_target = scores[target];
    for score in scores.iter_mut() {
        *score = lanes::exp(*score - most);
    }
    let total = lanes::sum(scores);
    let scale = share / total;
    for score in scores.iter_mut() {
        *score *= scale;
    }
    scores[target] -= share;
    total.ln() + most - at_target
}

/// Folds a chunk of a row's scores into its running maximum and sum of exponentials.
#[apply(vectorized!)]
fn fold_in(scores: &mut [f32], most: &mut f32, total: &mut f32) {
    let larger = lanes::max(scores).max(*most);
    for score in scores.iter_mut() {
        *score = lanes::exp(*score - larger);
    }
    *total = total.mul_add(lanes::exp(*most - larger), lanes::sum(scores));
    *most = larger;
}

/// Turns a chunk of a row's scores into `share` times their probabilities, given the logarithm of the sum of exponentials.
#[apply(vectorized!)]
fn probabilities(scores: &mut [f32], logarithm: f32, share: f32) {
    for score in scores.iter_mut() {
        *score = share * lanes::exp(*score - logarithm);
    }
}

impl Problem<'_> {
    fn row_count(&self) -> usize {
        self.targets.len()
    }

    /// The weight of a row in the mean.
    fn share(&self) -> f32 {
        (1.0 / self.row_count() as f64) as f32
    }

    /// All zero.
    fn empty(&self) -> Solution {
        let size = |size: usize| vec![0.0; if self.wanted { size } else { 0 }];
        Solution {
            losses: vec![0.0; self.row_count()],
            states: vec![0.0; self.states.len()],
            weight: size(self.weight.len()),
            bias: size(self.columns),
        }
    }

    /// Scores of `rows` rows from `row` on, over all columns of `panels`, which begin at column `first`.
    fn score(&self, panels: &Panels, scores: &mut [f32], row: usize, rows: usize, first: usize) {
        let columns = scores.len() / rows;
        for (start, _) in panels.each() {
            panels.score(&mut scores[start..], columns, &self.states[row * self.hidden..], rows, start);
        }
        if let Some(bias) = self.bias {
            add_to_rows(scores, &bias[first..first + columns]);
        }
    }

    /// Whole rows, `block` of them at once.
    fn by_rows(&self, block: usize) -> Solution {
        let (hidden, columns, share) = (self.hidden, self.columns, self.share());
        let mut solution = self.empty();
        let block = block.min(self.row_count());
        let mut scores = vec![0.0; block * columns];
        let panels = Panels::new(self.weight, hidden);
        // A task's rows: about half a megabyte of scores, but enough of them to make a fair product.
        let task = (131_072 / columns).clamp(16, 128).min(block);
        for start in (0..self.row_count()).step_by(block) {
            let end = self.row_count().min(start + block);
            let scores = &mut scores[..(end - start) * columns];
            let bias_parts: Vec<Vec<f32>> = scores
                .par_chunks_mut(task * columns)
                .zip(solution.losses[start..end].par_chunks_mut(task))
                .zip(solution.states[start * hidden..end * hidden].par_chunks_mut(task * hidden))
                .enumerate()
                .map(|(index, ((scores, losses), ds))| {
                    let (row, rows) = (start + index * task, losses.len());
                    self.score(&panels, scores, row, rows, 0);
                    for ((scores, loss), &target) in
                        scores.chunks_exact_mut(columns).zip(losses.iter_mut()).zip(&self.targets[row..])
                    {
                        *loss = softmax_loss(scores, target as usize, share);
                    }
                    if !self.wanted {
                        return Vec::new();
                    }
                    let gradient = View::new(scores, rows, columns);
                    let weight = View::new(self.weight, columns, hidden);
                    multiply(ViewMut::new(ds, rows, hidden), Store::Overwrite, gradient, weight, 1.0);
                    let mut bias_part = vec![0.0; if self.bias.is_some() { columns } else { 0 }];
                    if self.bias.is_some() {
                        column_sums(&mut bias_part, scores);
                    }
                    bias_part
                })
                .collect();
            if self.wanted {
                let gradient = View::new(scores, end - start, columns);
                let states = View::new(&self.states[start * hidden..], end - start, hidden);
                let dw = ViewMut::new(&mut solution.weight, columns, hidden);
                multiply_parallel(dw, Store::Add, gradient.t(), states, 1.0);
                if self.bias.is_some() {
                    column_sums(&mut solution.bias, &chunks::add_up(&bias_parts, columns));
                }
            }
        }
        solution
    }

    /// Chunks of columns, for `block` rows at once.
    fn by_columns(&self, block: usize) -> Solution {
        let (hidden, columns, share) = (self.hidden, self.columns, self.share());
        let mut solution = self.empty();
        let block = block.min(self.row_count());
        let mut scores = vec![0.0; block * CHUNK.min(columns)];
        let task = 64.min(block);
        let chunks: Vec<Panels> =
            self.weight.chunks(CHUNK * hidden).map(|weight| Panels::new(weight, hidden)).collect();
        for start in (0..self.row_count()).step_by(block) {
            let end = self.row_count().min(start + block);
            let mut logarithms = vec![0.0; end - start];
            let width = CHUNK.min(columns);
            scores[..(end - start) * width]
                .par_chunks_mut(task * width)
                .zip(logarithms.par_chunks_mut(task))
                .zip(solution.losses[start..end].par_chunks_mut(task))
                .enumerate()
                .for_each(|(index, ((scores, logarithms), losses))| {
                    let (row, rows) = (start + index * task, losses.len());
                    let mut running = vec![(f32::NEG_INFINITY, 0.0f32); rows];
                    for first in (0..columns).step_by(width) {
                        let width = width.min(columns - first);
                        let scores = &mut scores[..rows * width];
                        self.score(&chunks[first / CHUNK], scores, row, rows, first);
                        for (place, (most, total)) in running.iter_mut().enumerate() {
                            let scores = &mut scores[place * width..(place + 1) * width];
                            let target = self.targets[row + place] as usize;
                            if (first..first + width).contains(&target) {
                                losses[place] = -scores[target - first];
                            }
                            fold_in(scores, most, total);
                        }
                    }
                    for ((logarithm, loss), (most, total)) in logarithms.iter_mut().zip(losses).zip(running) {
                        *logarithm = most + total.ln();
                        *loss += *logarithm;
                    }
                });
            if !self.wanted {
                continue;
            }
            for first in (0..columns).step_by(width) {
                let width = width.min(columns - first);
                let scores = &mut scores[..(end - start) * width];
                scores
                    .par_chunks_mut(task * width)
                    .zip(solution.states[start * hidden..end * hidden].par_chunks_mut(task * hidden))
                    .enumerate()
                    .for_each(|(index, (scores, ds))| {
                        let (row, rows) = (start + index * task, ds.len() / hidden);
                        self.score(&chunks[first / CHUNK], scores, row, rows, first);
                        for (place, scores) in scores.chunks_exact_mut(width).enumerate() {
                            probabilities(scores, logarithms[row - start + place], share);
                            let target = self.targets[row + place] as usize;
                            if (first..first + width).contains(&target) {
                                scores[target - first] -= share;
                            }
                        }
                        let weight = View::new(&self.weight[first * hidden..], width, hidden);
                        let gradient = View::new(scores, rows, width);
                        multiply(ViewMut::new(ds, rows, hidden), Store::Add, gradient, weight, 1.0);
                    });
                let gradient = View::new(scores, end - start, width);
                let states = View::new(&self.states[start * hidden..], end - start, hidden);
                let dw = ViewMut::new(&mut solution.weight[first * hidden..], width, hidden);
                multiply_parallel(dw, Store::Add, gradient.t(), states, 1.0);
                if self.bias.is_some() {
                    column_sums(&mut solution.bias[first..first + width], scores);
                }
            }
        }
        solution
    }
}

/// The loss with its gradients, which the backward pass scales.
struct Solved {
    value: f32,
    states: Tensor,
    weight: Tensor,
    bias: Tensor,
}

impl Solved {
    fn scaled(&self, g: &Tensor) -> Result<[Tensor; 3]> {
        let scale = f64::from(g.to_scalar::<f32>()?);
        if scale == 1.0 {
            return Ok([self.states.clone(), self.weight.clone(), self.bias.clone()]);
        }
        Ok([(&self.states * scale)?, (&self.weight * scale)?, (&self.bias * scale)?])
    }
}

impl CustomOp2 for Solved {
    fn name(&self) -> &'static str {
        "cross entropy"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), ().into()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [states, weight, _] = self.scaled(g)?;
        Ok((Some(states), Some(weight)))
    }
}

impl CustomOp3 for Solved {
    fn name(&self) -> &'static str {
        "cross entropy with bias"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), ().into()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [states, weight, bias] = self.scaled(g)?;
        Ok((Some(states), Some(weight), Some(bias)))
    }
}

/// Plain twin: so many rows at a time, softmax less the one-hot target as the gradient of the scores. Products are of the type
/// of the states, sums and softmax f32.
fn plain(catalogue: &Catalogue, states: &Tensor, targets: &Tensor, block: usize) -> Result<Tensor> {
    let device = states.device();
    let rows = states.dim(0)?;
    catalogue.columns()?;
    // Cast to the states' type once, and not in every block.
    let (of_states, detached) = (states.dtype(), catalogue.detached());
    let narrow = Catalogue { weight: detached.weight.to_dtype(of_states)?, ..detached };
    let mut losses = Vec::new();
    let mut state_gradients = Vec::new();
    let (mut weight_gradient, mut bias_gradient) = (None, None);
    for start in (0..rows).step_by(block) {
        let count = block.min(rows - start);
        let state = states.detach().narrow(0, start, count)?.contiguous()?;
        let target = targets.narrow(0, start, count)?.contiguous()?;
        let scores = narrow.scores(&state)?.to_dtype(DType::F32)?;
        let (loss, gradient) = softmax_losses(&scores, &target, 1.0 / rows as f64)?;
        losses.push(loss);
        let of_scores = gradient.to_dtype(of_states)?;
        state_gradients.push(of_scores.matmul(&narrow.weight)?.to_dtype(DType::F32)?);
        add(&mut weight_gradient, of_scores.t()?.matmul(&state)?.to_dtype(DType::F32)?)?;
        add(&mut bias_gradient, Tensor::ones((1, count), DType::F32, device)?.matmul(&gradient)?)?;
    }
    let value = Tensor::cat(&losses, 0)?.mean_all()?;
    let state_gradient = Tensor::cat(&state_gradients, 0)?;
    let (Some(weight_gradient), Some(bias_gradient)) = (weight_gradient, bias_gradient) else {
        bail!("cross entropy: no rows")
    };
    let bias_gradient = bias_gradient.squeeze(0)?;
    let bias = catalogue.bias.as_ref().map(|bias| (bias, bias_gradient));
    let (states, weight) = ((states, state_gradient), (&catalogue.weight, weight_gradient));
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(states.0) {
        return crate::cuda::cross_entropy::attach(&value, states, weight, bias);
    }
    attach(&value, [states, weight].into_iter().chain(bias))
}

/// Adds to a sum, which begins with what is first added to it.
fn add(sum: &mut Option<Tensor>, more: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(sum) => (sum + more)?,
        None => more,
    });
    Ok(())
}

/// The cross entropy of each row of `scores` `(rows, columns)` under its target `(rows)`, and the gradient of `share` times their sum,
/// `(rows, columns)`, which on a GPU is left where the scores were.
fn softmax_losses(scores: &Tensor, targets: &Tensor, share: f64) -> Result<(Tensor, Tensor)> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(scores) {
        let losses = crate::cuda::cross_entropy::softmax_loss(scores, targets, share as f32)?;
        return Ok((losses, scores.clone()));
    }
    let targets = targets.unsqueeze(1)?;
    let log = candle_nn::ops::log_softmax(scores, D::Minus1)?;
    let losses = log.gather(&targets, 1)?.squeeze(1)?.neg()?;
    let one = (targets.to_dtype(DType::F32)?.ones_like()? * -share)?;
    Ok((losses, (log.exp()? * share)?.scatter_add(&targets, &one, 1)?))
}

/// A scalar that equals `value` and whose gradient with respect to each tensor is the one given beside it, in f32.
///
/// [`plain`] computes the gradients with the value and keeps no graph of its blocks, so they are attached here: for each pair the
/// inner product minus its own detached copy is added, which is exactly zero and has the wanted gradient.
fn attach<'a>(value: &Tensor, gradients: impl Iterator<Item = (&'a Tensor, Tensor)>) -> Result<Tensor> {
    let mut loss = value.detach();
    for (tensor, gradient) in gradients {
        if tensor.track_op() {
            let product = (tensor.to_dtype(DType::F32)? * gradient.detach())?.sum_all()?;
            loss = (loss + (&product - product.detach())?)?;
        }
    }
    Ok(loss)
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::testing::{assert_gradients, assert_twins, beside, catalogue_of, id_tensor, variable};

    fn of(v: &[Var]) -> Catalogue {
        catalogue_of(v, v[1].dim(0).unwrap() - 1)
    }

    /// By autograd over the whole matrix.
    fn whole(v: &[Var], targets: &Tensor) -> Result<Tensor> {
        let log = candle_nn::ops::log_softmax(&of(v).scores(&v[0])?, D::Minus1)?;
        log.gather(&targets.unsqueeze(1)?, 1)?.mean_all()?.neg()
    }

    #[test]
    fn all_ways_agree() {
        for (rows, columns, hidden, budget) in [
            (1, 3, 4, BUDGET),
            (150, 70, 24, BUDGET),
            (300, 70, 24, 70 * 100),     // three blocks of rows
            (150, 20_000, 8, 8192 * 70), // chunks of columns, three blocks of rows
        ] {
            let v = [variable(1, &[rows, hidden]), variable(2, &[columns, hidden]), variable(3, &[columns])];
            let targets = id_tensor(4, rows, columns);
            for v in [&v[..], &v[..2]] {
                assert_twins(
                    "cross entropy",
                    v,
                    3e-5,
                    |v| fused(&of(v), &v[0], &targets, budget)? * 2.0,
                    |v| plain(&of(v), &v[0], &beside(&targets, v), 128)? * 2.0,
                );
                assert_twins(
                    "cross entropy",
                    v,
                    3e-5,
                    |v| fused(&of(v), &v[0], &targets, budget),
                    |v| whole(v, &beside(&targets, v)),
                );
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        let v = [variable(1, &[6, 5]), variable(2, &[12, 5]), variable(3, &[12])];
        let targets = id_tensor(4, 6, 12);
        assert_gradients("cross entropy", &v, 1e-2, 2e-2, |v| fused(&of(v), &v[0], &targets, BUDGET));
    }

    #[test]
    fn without_gradients_the_value_is_the_same() {
        let v = [variable(1, &[40, 8]), variable(2, &[300, 8])];
        let targets = id_tensor(4, 40, 300);
        let tracked = fused(&of(&v), &v[0], &targets, BUDGET).unwrap();
        let untracked = fused(&of(&v).detached(), &v[0].as_detached_tensor(), &targets, BUDGET).unwrap();
        assert!(!untracked.track_op());
        assert_eq!(tracked.to_scalar::<f32>().unwrap(), untracked.to_scalar::<f32>().unwrap());
    }
}
