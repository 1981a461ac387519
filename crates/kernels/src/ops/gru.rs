//! A gated recurrent unit over packed rows (Cho et al. 2014, arXiv 1406.1078), with PyTorch's equations and order of gates.
//!
//! With `x` the input's share of the gates (an affine map of the input, made by the caller for all tokens at once) and
//! `a = W h + b` the state's share, a step is
//!
//! ```text
//! r = sigmoid(x_r + a_r)    z = sigmoid(x_z + a_z)    n = tanh(x_n + r * a_n)    h' = (1 - z) * n + z * h
//! ```
//!
//! Fused, rows are dealt into groups, longest first: groups have about equal work, and the rows of a group that are still
//! running are always its first ones. One task takes a group through all its steps: no thread waits for another, and weights
//! and states stay in its cache. In the backward pass the task leaves for each token the factors of the gradients of weight and
//! bias; these gradients are then products over all tokens.

use std::{
    cmp::Reverse,
    sync::{Mutex, PoisonError},
};

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{embedding, linear};
use crate::{
    cpu::{
        apply,
        bias::column_sums,
        chunks::{self, TOKENS},
        lanes,
        matrix::{Store, View, ViewMut, multiply},
        panels::transpose_into,
        vectorized,
    },
    rows::Rows,
};

/// Most rows of one group: enough for a matrix product, few enough that many threads find work.
const GROUP: usize = 16;

/// Runs a GRU over every row from a zero state; the result, `(tokens, hidden)`, is the state after each token.
///
/// `x` is `(tokens, 3 hidden)`, the input's share of the gates r, z and n: [`linear`](crate::linear()) of the input with
/// PyTorch's `weight_ih` and `bias_ih`. `weight` is `(3 hidden, hidden)` and `bias` `(3 hidden)`, its `weight_hh` and
/// `bias_hh`. What a row becomes does not depend on the rows beside it.
pub fn gru(x: &Tensor, weight: &Tensor, bias: &Tensor, rows: &Rows) -> Result<Tensor> {
    check(x, rows.tokens(), weight, bias)?;
    if crate::fused(x.device()) { fused(x, weight, bias, rows) } else { plain(x, weight, bias, rows) }
}

/// One step of [`gru`] for many rows at once: the states after it, `(rows, hidden)`, of the same bytes. No gradient.
///
/// `x` is `(rows, 3 hidden)`, `state` `(rows, hidden)`; `weight` and `bias` are as for [`gru`].
pub fn gru_step(x: &Tensor, state: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (rows, hidden) = state.dims2()?;
    check(x, rows, weight, bias)?;
    if hidden != weight.dim(1)? {
        bail!("gru: state {:?} and weight {:?} do not fit", state.dims(), weight.dims());
    }
    if crate::fused(x.device()) {
        fused_step(x, state, weight, bias)
    } else {
        Ok(plain_step(x, state, weight, bias)?.detach())
    }
}

fn check(x: &Tensor, tokens: usize, weight: &Tensor, bias: &Tensor) -> Result<()> {
    let (gates, hidden) = weight.dims2()?;
    if hidden == 0 || gates != 3 * hidden || x.dims() != [tokens, gates] || bias.dims() != [gates] {
        bail!(
            "gru: x {:?}, weight {:?} and bias {:?} do not fit {tokens} tokens",
            x.dims(),
            weight.dims(),
            bias.dims()
        );
    }
    Ok(())
}

/// The rows' numbers, longest first; equally long ones in their order.
fn longest_first(rows: &Rows) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| Reverse(rows.length(row)));
    order
}

/// Plain twin of a step.
pub(crate) fn plain_step(x: &Tensor, state: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let hidden = weight.dim(1)?;
    let a = linear::plain(state, weight, Some(bias))?;
    let gate = |i: usize| -> Result<Tensor> {
        let (x, a) = (x.narrow(1, i * hidden, hidden)?, a.narrow(1, i * hidden, hidden)?);
        // 1 / (1 + exp(-x)) by way of tanh: candle has a sigmoid for the CPU only, and this does not overflow.
        (((x + a)? * 0.5)?.tanh()? + 1.0)? * 0.5
    };
    let (r, z) = (gate(0)?, gate(1)?);
    let n = (x.narrow(1, 2 * hidden, hidden)? + (r * a.narrow(1, 2 * hidden, hidden)?)?)?.tanh()?;
    &n + (z * (state - &n)?)?
}

/// Plain twin: the rows still running, longest first, one step after another.
///
/// The graph is as deep as the longest row, and candle traverses and drops graphs recursively: 200 steps need more than the
/// 2 MiB of stack that a spawned thread has.
pub(crate) fn plain(x: &Tensor, weight: &Tensor, bias: &Tensor, rows: &Rows) -> Result<Tensor> {
    let (device, hidden) = (x.device(), weight.dim(1)?);
    if rows.tokens() == 0 {
        return Tensor::zeros((0, hidden), x.dtype(), device);
    }
    #[cfg(feature = "cuda")]
    if device.is_cuda() && hidden <= crate::cuda::WIDEST {
        return crate::cuda::gru::gru(x, weight, bias, rows);
    }
    // A rounding of the state at every step would add up: the recurrence is f32 whatever its input.
    let (x, of_result) = (x.to_dtype(DType::F32)?, x.dtype());
    let order = longest_first(rows);
    let mut state = Tensor::zeros((rows.len(), hidden), DType::F32, device)?;
    let mut states = Vec::with_capacity(rows.longest());
    let mut back = vec![0u32; rows.tokens()];
    let mut done = 0;
    for step in 0..rows.longest() {
        let running: Vec<usize> = order.iter().copied().filter(|&row| rows.length(row) > step).collect();
        let tokens: Vec<u32> = running.iter().map(|&row| (rows.row(row).start + step) as u32).collect();
        for (&token, place) in tokens.iter().zip(done..) {
            back[token as usize] = place;
        }
        done += tokens.len() as u32;
        let count = tokens.len();
        let x = embedding::plain(&x, &Tensor::from_vec(tokens, count, device)?)?;
        state = plain_step(&x, &state.narrow(0, 0, count)?, weight, bias)?;
        states.push(state.clone());
    }
    let back = Tensor::from_vec(back, rows.tokens(), device)?;
    embedding::plain(&Tensor::cat(&states, 0)?, &back)?.to_dtype(of_result)
}

pub(crate) fn fused(x: &Tensor, weight: &Tensor, bias: &Tensor, rows: &Rows) -> Result<Tensor> {
    let trained = [x, weight, bias].iter().any(|tensor| tensor.track_op());
    let op = Gru { rows: rows.clone(), trained, kept: Mutex::new(None) };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

fn fused_step(x: &Tensor, state: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (_, hidden) = state.dims2()?;
    let next = chunks::with_values(x, |x| {
        chunks::with_values(state, |state| {
            chunks::with_values(weight, |weight| {
                chunks::with_values(bias, |bias| {
                    let cell = Cell::new(weight, bias, hidden);
                    Ok(chunks::build(state.len(), GROUP * hidden, |index, next| {
                        let start = index * GROUP;
                        let count = next.len() / hidden;
                        let mut group = States::new(count, hidden);
                        group.states[..next.len()].copy_from_slice(&state[start * hidden..][..next.len()]);
                        group.multiply(&cell, count);
                        let mut record = vec![0.0; 4 * hidden];
                        for i in 0..count {
                            group.step(&cell, i, &x[(start + i) * 3 * hidden..], &mut record);
                        }
                        next.copy_from_slice(&group.states[..next.len()]);
                    }))
                })
            })
        })
    })?;
    Tensor::from_vec(next, state.shape(), state.device())
}

/// The recurrent parameters as the steps need them.
struct Cell<'a> {
    /// The weight transposed, `(hidden, 3 hidden)`, so that gemm takes it as it lies at every step.
    transposed: Vec<f32>,
    bias: &'a [f32],
    hidden: usize,
}

impl<'a> Cell<'a> {
    fn new(weight: &[f32], bias: &'a [f32], hidden: usize) -> Self {
        let mut transposed = vec![0.0; weight.len()];
        transpose_into(&mut transposed, weight, hidden);
        Self { transposed, bias, hidden }
    }
}

/// The states of a group of rows, and the room for a step.
struct States {
    /// `(rows, hidden)`
    states: Vec<f32>,
    /// `(rows, 3 hidden)`, products of the weight with the states.
    products: Vec<f32>,
}

impl States {
    /// Zero states.
    fn new(rows: usize, hidden: usize) -> Self {
        Self { states: vec![0.0; rows * hidden], products: vec![0.0; rows * 3 * hidden] }
    }

    /// Multiplies the first `count` states with the weight.
    fn multiply(&mut self, cell: &Cell<'_>, count: usize) {
        let hidden = cell.hidden;
        multiply(
            ViewMut::new(&mut self.products, count, 3 * hidden),
            Store::Overwrite,
            View::new(&self.states, count, hidden),
            View::new(&cell.transposed, hidden, 3 * hidden),
            1.0,
        );
    }

    /// Takes state `i` over a step, and leaves r, z, n and a_n in `record`; returns the new state.
    fn step(&mut self, cell: &Cell<'_>, i: usize, x: &[f32], record: &mut [f32]) -> &[f32] {
        let hidden = cell.hidden;
        let state = &mut self.states[i * hidden..(i + 1) * hidden];
        step_forward(
            state,
            record,
            &x[..3 * hidden],
            &self.products[i * 3 * hidden..][..3 * hidden],
            cell.bias,
        );
        state
    }
}

/// One step of one row: `state` becomes the state after it, and `record` receives r, z, n and a_n.
#[apply(vectorized!)]
fn step_forward(state: &mut [f32], record: &mut [f32], x: &[f32], products: &[f32], bias: &[f32]) {
    let hidden = state.len();
    let (gates, rest) = record.split_at_mut(2 * hidden);
    for (((gate, &x), &product), &bias) in gates.iter_mut().zip(x).zip(products).zip(bias) {
        *gate = lanes::sigmoid(x + (product + bias));
    }
    let (r, z) = gates.split_at(hidden);
    let (n, a) = rest.split_at_mut(hidden);
    for ((a, &product), &bias) in a.iter_mut().zip(&products[2 * hidden..]).zip(&bias[2 * hidden..]) {
        *a = product + bias;
    }
    for (((n, &a), &r), &x) in n.iter_mut().zip(&*a).zip(r).zip(&x[2 * hidden..]) {
        *n = lanes::tanh(r.mul_add(a, x));
    }
    for ((state, &n), &z) in state.iter_mut().zip(&*n).zip(z) {
        *state = z.mul_add(*state - n, n);
    }
}

/// The backward pass over one step of one row.
///
/// `carry` holds the gradient that reaches the new state from the steps after it, and then what passes straight to the state
/// before, `previous`. `dx` receives the gradient of `x`. `record` holds r, z, n and a_n, and then the gradient of `a` beside
/// the state before: the two factors of this token's share of the weight's gradient.
#[apply(vectorized!)]
fn step_backward(carry: &mut [f32], dx: &mut [f32], record: &mut [f32], previous: &[f32], g: &[f32]) {
    let hidden = carry.len();
    let (dr, rest) = dx.split_at_mut(hidden);
    let (dz, dn) = rest.split_at_mut(hidden);
    let (r, rest) = record.split_at_mut(hidden);
    let (z, rest) = rest.split_at_mut(hidden);
    let (n, a) = rest.split_at_mut(hidden);
    for (carry, &g) in carry.iter_mut().zip(g) {
        *carry += g;
    }
    for (((dn, &carry), &z), &n) in dn.iter_mut().zip(&*carry).zip(&*z).zip(&*n) {
        *dn = carry * (1.0 - z) * (1.0 - n * n);
    }
    for ((((dz, &carry), &z), &n), &previous) in dz.iter_mut().zip(&*carry).zip(&*z).zip(&*n).zip(previous) {
        *dz = carry * (previous - n) * (z * (1.0 - z));
    }
    for (((dr, &dn), &r), &a) in dr.iter_mut().zip(&*dn).zip(&*r).zip(&*a) {
        *dr = dn * a * (r * (1.0 - r));
    }
    for (carry, &z) in carry.iter_mut().zip(&*z) {
        *carry *= z;
    }
    for ((n, &dn), &r) in n.iter_mut().zip(&*dn).zip(&*r) {
        *n = dn * r;
    }
    r.copy_from_slice(dr);
    z.copy_from_slice(dz);
    a.copy_from_slice(previous);
}

/// One call of [`gru`].
struct Gru {
    rows: Rows,
    /// Whether there will be a backward pass.
    trained: bool,
    /// r, z, n and a_n of each token, `(tokens, 4 hidden)`; kept for the backward pass, which overwrites them.
    kept: Mutex<Option<Vec<f32>>>,
}

impl Gru {
    /// Deals the rows, each with its part, into groups, longest first.
    fn groups<T>(&self, parts: Vec<T>) -> Vec<Vec<(usize, T)>> {
        let count = self.rows.len().div_ceil(GROUP).max(1);
        let mut groups: Vec<Vec<(usize, T)>> = (0..count).map(|_| Vec::with_capacity(GROUP)).collect();
        let mut parts: Vec<(usize, T)> = parts.into_iter().enumerate().collect();
        parts.sort_by_key(|&(row, _)| Reverse(self.rows.length(row)));
        for (i, part) in parts.into_iter().enumerate() {
            groups[i % count].push(part);
        }
        groups
    }

    /// Number of steps of a group: the length of its first row.
    fn steps<T>(&self, group: &[(usize, T)]) -> usize {
        group.first().map_or(0, |&(row, _)| self.rows.length(row))
    }

    /// The states after every token, and what the backward pass needs if `trained`.
    fn forward(&self, x: &[f32], cell: &Cell<'_>, trained: bool) -> (Vec<f32>, Vec<f32>) {
        let (rows, hidden) = (&self.rows, cell.hidden);
        let width = if trained { 4 * hidden } else { 0 };
        let mut y = vec![0.0; rows.tokens() * hidden];
        let mut kept = vec![0.0; rows.tokens() * width];
        let parts = chunks::split(&mut y, rows.offsets(), hidden)
            .into_iter()
            .zip(chunks::split(&mut kept, rows.offsets(), width))
            .collect();
        self.groups(parts).into_par_iter().with_max_len(1).for_each(|mut group| {
            let mut states = States::new(group.len(), hidden);
            let mut record = vec![0.0; 4 * hidden];
            let mut running = group.len();
            for step in 0..self.steps(&group) {
                while rows.length(group[running - 1].0) <= step {
                    running -= 1;
                }
                states.multiply(cell, running);
                for (i, (row, (y, kept))) in group[..running].iter_mut().enumerate() {
                    let token = rows.row(*row).start + step;
                    let record = if trained { &mut kept[step * width..][..width] } else { &mut record[..] };
                    let state = states.step(cell, i, &x[token * 3 * hidden..], record);
                    y[step * hidden..][..hidden].copy_from_slice(state);
                }
            }
        });
        (y, kept)
    }

    /// The gradient of x. In `kept`, r, z, n and a_n are replaced by the factors of the weight's gradient.
    fn backward(&self, kept: &mut [f32], weight: &[f32], y: &[f32], g: &[f32], hidden: usize) -> Vec<f32> {
        let rows = &self.rows;
        let mut dx = vec![0.0; rows.tokens() * 3 * hidden];
        let parts = chunks::split(&mut dx, rows.offsets(), 3 * hidden)
            .into_iter()
            .zip(chunks::split(kept, rows.offsets(), 4 * hidden))
            .collect();
        let zero = vec![0.0; hidden];
        self.groups(parts).into_par_iter().with_max_len(1).for_each(|mut group| {
            let mut carry = vec![0.0; group.len() * hidden];
            let mut shares = vec![0.0; group.len() * 3 * hidden];
            let mut running = 0;
            for step in (0..self.steps(&group)).rev() {
                while running < group.len() && rows.length(group[running].0) > step {
                    running += 1;
                }
                for (i, (row, (dx, kept))) in group[..running].iter_mut().enumerate() {
                    let token = rows.row(*row).start + step;
                    let previous = if step == 0 { &zero } else { &y[(token - 1) * hidden..][..hidden] };
                    let record = &mut kept[step * 4 * hidden..][..4 * hidden];
                    step_backward(
                        &mut carry[i * hidden..][..hidden],
                        &mut dx[step * 3 * hidden..][..3 * hidden],
                        record,
                        previous,
                        &g[token * hidden..][..hidden],
                    );
                    shares[i * 3 * hidden..][..3 * hidden].copy_from_slice(&record[..3 * hidden]);
                }
                multiply(
                    ViewMut::new(&mut carry, running, hidden),
                    Store::Add,
                    View::new(&shares, running, 3 * hidden),
                    View::new(weight, 3 * hidden, hidden),
                    1.0,
                );
            }
        });
        dx
    }
}

/// The gradients of weight and bias from the factors that the backward pass left at each token.
fn parameter_gradients(factors: &[f32], hidden: usize) -> (Vec<f32>, Vec<f32>) {
    let (weight_parts, bias_parts): (Vec<_>, Vec<_>) = factors
        .par_chunks(TOKENS * 4 * hidden)
        .map(|factors| {
            let count = factors.len() / (4 * hidden);
            let mut weight_part = vec![0.0; 3 * hidden * hidden];
            multiply(
                ViewMut::new(&mut weight_part, 3 * hidden, hidden),
                Store::Overwrite,
                View::strided(factors, count, 3 * hidden, 4 * hidden).t(),
                View::strided(&factors[3 * hidden..], count, hidden, 4 * hidden),
                1.0,
            );
            // The last quarter of these sums, that over states, is not needed, and left out when the parts are added.
            let mut bias_part = vec![0.0; 4 * hidden];
            column_sums(&mut bias_part, factors);
            (weight_part, bias_part)
        })
        .unzip();
    (chunks::add_up(&weight_parts, 3 * hidden * hidden), chunks::add_up(&bias_parts, 3 * hidden))
}

impl CustomOp3 for Gru {
    fn name(&self) -> &'static str {
        "gru"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, hidden) = l2.shape().dims2()?;
        let cell = Cell::new(chunks::slice(s2, l2)?, chunks::slice(s3, l3)?, hidden);
        let (y, kept) = self.forward(chunks::slice(s1, l1)?, &cell, self.trained);
        if self.trained {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        }
        Ok((CpuStorage::F32(y), (self.rows.tokens(), hidden).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let hidden = weight.dim(1)?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut kept = match kept {
            Some(kept) => kept,
            // A second backward pass over the same graph.
            None => chunks::with_values(x, |x| {
                chunks::with_values(weight, |weight| {
                    chunks::with_values(bias, |bias| {
                        Ok(self.forward(x, &Cell::new(weight, bias, hidden), true).1)
                    })
                })
            })?,
        };
        let dx = chunks::with_values(weight, |weight| {
            chunks::with_values(y, |y| {
                chunks::with_values(g, |g| Ok(self.backward(&mut kept, weight, y, g, hidden)))
            })
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        if !weight.track_op() && !bias.track_op() {
            return Ok((Some(dx), None, None));
        }
        let (dw, db) = parameter_gradients(&kept, hidden);
        Ok((
            Some(dx),
            Some(Tensor::from_vec(dw, weight.shape(), weight.device())?),
            Some(Tensor::from_vec(db, bias.shape(), bias.device())?),
        ))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::testing::{assert_close, assert_gradients, assert_twins, values, variable};

    /// Gates, weight and bias of a batch.
    fn inputs(rows: &Rows, hidden: usize) -> [Var; 3] {
        let gates = 3 * hidden;
        [variable(1, &[rows.tokens(), gates]), variable(2, &[gates, hidden]), variable(3, &[gates])]
    }

    fn ragged() -> Vec<Rows> {
        vec![
            Rows::from_lengths([1]),
            Rows::from_lengths([9]),
            Rows::from_lengths([2, 7, 0, 1, 5]),
            Rows::from_lengths((0..45).map(|row| row * 7 % 31 + 1)),
        ]
    }

    #[test]
    fn twins_agree() {
        for rows in ragged() {
            for hidden in [1, 6, 20] {
                assert_twins(
                    "gru",
                    &inputs(&rows, hidden),
                    5e-5,
                    |v| fused(&v[0], &v[1], &v[2], &rows),
                    |v| plain(&v[0], &v[1], &v[2], &rows),
                );
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        let rows = Rows::from_lengths([3, 1, 6]);
        assert_gradients("gru", &inputs(&rows, 5), 1e-2, 5e-3, |v| fused(&v[0], &v[1], &v[2], &rows));
    }

    /// The equations written out for a single number, from PyTorch's documentation of `GRU`.
    #[test]
    fn one_unit_follows_the_equations() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let rows = Rows::from_lengths([12]);
        let v = inputs(&rows, 1);
        let [x, w, b] =
            [&v[0], &v[1], &v[2]].map(|v| values(v).into_iter().map(f64::from).collect::<Vec<_>>());
        let mut h = 0.0;
        let expected: Vec<f32> = x
            .chunks_exact(3)
            .map(|x| {
                let r = sigmoid(x[0] + b[0] + w[0] * h);
                let z = sigmoid(x[1] + b[1] + w[1] * h);
                let n = (x[2] + r * (w[2] * h + b[2])).tanh();
                h = (1.0 - z) * n + z * h;
                h as f32
            })
            .collect();
        assert_close("gru", &values(&fused(&v[0], &v[1], &v[2], &rows).unwrap()), &expected, 1e-6);
    }

    #[test]
    fn a_row_means_the_same_alone() {
        let rows = Rows::from_lengths((0..45).map(|row| row * 7 % 31 + 1));
        for hidden in [20, 128] {
            let v = inputs(&rows, hidden).map(Var::into_inner);
            let together = fused(&v[0], &v[1], &v[2], &rows).unwrap();
            for row in [0, 1, 30, 44] {
                let (start, length) = (rows.row(row).start, rows.length(row));
                let alone = v[0].narrow(0, start, length).unwrap();
                let alone = fused(&alone, &v[1], &v[2], &Rows::from_lengths([length])).unwrap();
                assert_eq!(values(&together.narrow(0, start, length).unwrap()), values(&alone));
            }
        }
    }

    #[test]
    fn steps_make_the_sequence() {
        for (count, hidden) in [(1, 20), (1, 128), (37, 20), (37, 128)] {
            let rows = Rows::from_lengths(vec![6; count]);
            let v = inputs(&rows, hidden).map(Var::into_inner);
            let shape = (count, 6, 3 * hidden);
            let x = v[0].reshape(shape).unwrap();
            let mut state = Tensor::zeros((count, hidden), DType::F32, x.device()).unwrap();
            let mut plain_state = state.clone();
            let sequence = fused(&v[0], &v[1], &v[2], &rows).unwrap();
            let sequence = sequence.reshape((count, 6, hidden)).unwrap();
            for step in 0..6 {
                let x = x.narrow(1, step, 1).unwrap().squeeze(1).unwrap();
                state = fused_step(&x, &state, &v[1], &v[2]).unwrap();
                plain_state = plain_step(&x, &plain_state, &v[1], &v[2]).unwrap();
                assert_eq!(values(&sequence.narrow(1, step, 1).unwrap()), values(&state));
                assert_close("plain step", &values(&plain_state), &values(&state), 1e-5);
            }
        }
    }

    #[test]
    fn the_backward_pass_can_be_run_twice() {
        let rows = Rows::from_lengths([4, 2]);
        let v = inputs(&rows, 3);
        let loss = fused(&v[0], &v[1], &v[2], &rows).unwrap().sqr().unwrap().sum_all().unwrap();
        let [first, second] = [(); 2].map(|()| {
            let grads = loss.backward().unwrap();
            v.each_ref().map(|v| values(grads.get(v).unwrap()))
        });
        assert_eq!(first, second);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let rows = Rows::from_lengths([2, 2]);
        let [x, weight, bias] = inputs(&rows, 3);
        assert!(gru(&x, &weight, &bias, &rows).is_ok());
        assert!(gru(&x, &weight, &bias, &Rows::from_lengths([3])).is_err(), "tokens");
        assert!(gru(&x, &weight, &variable(3, &[3]), &rows).is_err(), "bias");
        assert!(gru(&x, &variable(2, &[3, 9]), &bias, &rows).is_err(), "weight");
        assert!(gru_step(&x, &variable(4, &[4, 2]), &weight, &bias).is_err(), "state");
    }
}
