//! Scores of chosen columns and their backward pass: what [`Catalogue::pick`], the ranking loss, the swap loss and the binary
//! cross entropy have in common.
//!
//! Each row picks `count` columns of its own. Where these are a fair share of all columns, whole blocks of scores come from a
//! matrix product and the picked ones are read out of it; the backward pass scatters the derivatives of the picked scores into
//! such a block. Where they are few, each score is an inner product, and the backward pass sorts the picked ids by column.
//! Either way each task owns what it writes, and sums run in the order of rows.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::Catalogue;
use crate::{
    cpu::{
        apply, chunks, lanes,
        matrix::{Store, View, ViewMut, multiply},
        vectorized,
    },
    ops::embedding::{self, Sorted},
};

/// Most rows of one task.
const ROWS: usize = 64;

/// Most partial weight gradients held at once.
const PARTIALS: usize = 16;

/// Columns for each picked one, up to which whole blocks of scores are cheaper than inner products.
const DENSE: usize = 5;

impl Catalogue {
    /// The scores of chosen columns, `(rows, c)`, of `ids` `(rows, c)` of u32; differentiable.
    pub fn pick(&self, states: &Tensor, ids: &Tensor) -> Result<Tensor> {
        if states.dim(0)? != ids.dim(0)? {
            bail!("pick: {} states but ids {:?}", states.dim(0)?, ids.dims());
        }
        if crate::fused(states.device()) {
            PickedScores::new(self, &[ids])?.tensor(self, states)
        } else {
            plain(self, states, ids)
        }
    }
}

/// Plain twin: chosen rows of the weight, batched products with the states.
pub(super) fn plain(catalogue: &Catalogue, states: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (rows, count) = ids.dims2()?;
    let flat = ids.flatten_all()?;
    let hidden = catalogue.weight.dim(1)?;
    let chosen = embedding::plain(&catalogue.weight, &flat)?.reshape((rows, count, hidden))?;
    let states = states.to_dtype(DType::F32)?.contiguous()?;
    let scores = chosen.matmul(&states.reshape((rows, hidden, 1))?)?.squeeze(2)?;
    match &catalogue.bias {
        Some(bias) => scores + embedding::plain(&bias.unsqueeze(1)?, &flat)?.reshape((rows, count))?,
        None => Ok(scores),
    }
}

/// The picked ids of all rows, and the sizes that go with them.
#[derive(Clone)]
pub(crate) struct PickedScores {
    /// `(rows, count)`
    ids: Arc<[u32]>,
    count: usize,
    hidden: usize,
    columns: usize,
}

/// A loss computed from picked scores: its value, and its derivative with respect to each of them.
struct Loss {
    picked: PickedScores,
    value: f32,
    /// `(rows, count)`
    coefficients: Vec<f32>,
}

/// Gradients of states, weight and bias, where wanted.
type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// The scores of `ids` in one row, without bias.
#[apply(vectorized!)]
fn products(scores: &mut [f32], state: &[f32], weight: &[f32], ids: &[u32]) {
    let hidden = state.len();
    for (score, &id) in scores.iter_mut().zip(ids) {
        *score = lanes::dot(&weight[id as usize * hidden..][..hidden], state);
    }
}

/// `sum += coefficient * row` of `table` for each row number and coefficient that is not zero.
#[apply(vectorized!)]
fn weighted_rows(sum: &mut [f32], table: &[f32], choices: impl Iterator<Item = (usize, f32)>) {
    let hidden = sum.len();
    for (row, coefficient) in choices {
        if coefficient != 0.0 {
            lanes::axpy(sum, coefficient, &table[row * hidden..][..hidden]);
        }
    }
}

impl PickedScores {
    /// The ids of `parts`, each `(rows, k)` of u32, side by side; checks that they are columns of the catalogue.
    pub(crate) fn new(catalogue: &Catalogue, parts: &[&Tensor]) -> Result<Self> {
        let columns = catalogue.columns()?;
        let hidden = catalogue.weight.dim(1)?;
        let mut values = Vec::with_capacity(parts.len());
        let (mut count, mut rows) = (0, 0);
        for part in parts {
            let (part_rows, part_count) = part.dims2()?;
            (rows, count) = (part_rows, count + part_count);
            values.push((part.flatten_all()?.to_vec1::<u32>()?, part_count));
        }
        let mut ids = Vec::with_capacity(rows * count);
        for r in 0..rows {
            for (values, part_count) in &values {
                ids.extend_from_slice(&values[r * part_count..(r + 1) * part_count]);
            }
        }
        if let Some(place) = ids.iter().position(|&id| id as usize >= columns) {
            bail!("catalogue: id {} in row {} is outside {columns} columns", ids[place], place / count);
        }
        Ok(Self { ids: ids.into(), count, hidden, columns })
    }

    /// Number of rows.
    fn row_count(&self) -> usize {
        self.ids.len().checked_div(self.count).unwrap_or(0)
    }

    /// Rows of each task, the last of which may have fewer: as few tasks as [`ROWS`] allows, and each as much as any other.
    fn rows_of_task(&self) -> usize {
        let rows = self.row_count();
        rows.div_ceil(rows.div_ceil(ROWS).max(1)).max(1)
    }

    /// Whether whole blocks of scores are computed.
    fn dense(&self) -> bool {
        self.columns <= DENSE * self.count
    }

    /// The scores, `(rows, count)`.
    pub(crate) fn scores(&self, states: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let (hidden, columns, count) = (self.hidden, self.columns, self.count);
        let task = self.rows_of_task();
        let chunk = task * count;
        chunks::build(self.ids.len(), chunk, |index, scores| {
            let rows = scores.len() / count.max(1);
            let ids = &self.ids[index * chunk..][..scores.len()];
            let states = &states[index * task * hidden..][..rows * hidden];
            if self.dense() {
                let mut block = vec![0.0; rows * columns];
                let product = ViewMut::new(&mut block, rows, columns);
                multiply(
                    product,
                    Store::Overwrite,
                    View::new(states, rows, hidden),
                    View::new(weight, columns, hidden).t(),
                    1.0,
                );
                for ((scores, ids), block) in scores
                    .chunks_exact_mut(count)
                    .zip(ids.chunks_exact(count))
                    .zip(block.chunks_exact(columns))
                {
                    for (score, &id) in scores.iter_mut().zip(ids) {
                        *score = block[id as usize];
                    }
                }
            } else {
                for ((scores, ids), state) in scores
                    .chunks_exact_mut(count)
                    .zip(ids.chunks_exact(count))
                    .zip(states.chunks_exact(hidden))
                {
                    products(scores, state, weight, ids);
                }
            }
            if let Some(bias) = bias {
                for (score, &id) in scores.iter_mut().zip(ids) {
                    *score += bias[id as usize];
                }
            }
        })
    }

    /// The gradients of states, weight and bias, from the derivatives with respect to the scores, times `scale`.
    fn gradients(
        &self,
        states: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        coefficients: &[f32],
        scale: f32,
    ) -> Result<Gradients> {
        let scaled: Vec<f32>;
        let coefficients = if scale == 1.0 {
            coefficients
        } else {
            scaled = coefficients.iter().map(|c| c * scale).collect();
            &scaled
        };
        let (states_wanted, weight_wanted) = (states.track_op(), weight.track_op());
        let (ds, dw) = chunks::with_values(states, |states| {
            chunks::with_values(weight, |weight| {
                Ok(if self.dense() {
                    self.dense_gradients(states, weight, coefficients, states_wanted, weight_wanted)
                } else {
                    self.sparse_gradients(states, weight, coefficients, states_wanted, weight_wanted)
                })
            })
        })?;
        let db = match bias {
            Some(bias) if bias.track_op() => {
                let mut db = vec![0.0; self.columns];
                for (&id, c) in self.ids.iter().zip(coefficients) {
                    db[id as usize] += c;
                }
                Some(Tensor::from_vec(db, self.columns, bias.device())?)
            }
            _ => None,
        };
        let tensor = |wanted: bool, values: Vec<f32>, like: &Tensor| {
            wanted.then(|| Tensor::from_vec(values, like.shape(), like.device())).transpose()
        };
        Ok((tensor(states_wanted, ds, states)?, tensor(weight_wanted, dw, weight)?, db))
    }

    fn dense_gradients(
        &self,
        states: &[f32],
        weight: &[f32],
        coefficients: &[f32],
        states_wanted: bool,
        weight_wanted: bool,
    ) -> (Vec<f32>, Vec<f32>) {
        let (hidden, columns, count, rows) = (self.hidden, self.columns, self.count, self.row_count());
        // Groups of whole blocks; one partial weight gradient for each.
        let task = self.rows_of_task();
        let group = rows.div_ceil(task).div_ceil(PARTIALS).max(1) * task;
        let mut ds = vec![0.0; if states_wanted { rows * hidden } else { rows }];
        let width = if states_wanted { hidden } else { 1 };
        let partials: Vec<Vec<f32>> = ds
            .par_chunks_mut(group * width)
            .enumerate()
            .map(|(index, ds)| {
                let mut dw = vec![0.0; if weight_wanted { columns * hidden } else { 0 }];
                let mut block = vec![0.0; task * columns];
                for (part, ds) in ds.chunks_mut(task * width).enumerate() {
                    let first = index * group + part * task;
                    let rows = ds.len() / width;
                    block.fill(0.0);
                    let choices = first * count..(first + rows) * count;
                    for (place, (&id, c)) in
                        self.ids[choices.clone()].iter().zip(&coefficients[choices]).enumerate()
                    {
                        block[place / count * columns + id as usize] += c;
                    }
                    let block = View::new(&block, rows, columns);
                    if states_wanted {
                        let weight = View::new(weight, columns, hidden);
                        multiply(ViewMut::new(ds, rows, hidden), Store::Overwrite, block, weight, 1.0);
                    }
                    if weight_wanted {
                        let states = View::new(&states[first * hidden..], rows, hidden);
                        multiply(ViewMut::new(&mut dw, columns, hidden), Store::Add, block.t(), states, 1.0);
                    }
                }
                dw
            })
            .collect();
        let dw = if weight_wanted { chunks::add_up(&partials, columns * hidden) } else { Vec::new() };
        (ds, dw)
    }

    fn sparse_gradients(
        &self,
        states: &[f32],
        weight: &[f32],
        coefficients: &[f32],
        states_wanted: bool,
        weight_wanted: bool,
    ) -> (Vec<f32>, Vec<f32>) {
        let (hidden, count) = (self.hidden, self.count);
        let mut ds = Vec::new();
        if states_wanted {
            ds = vec![0.0; self.row_count() * hidden];
            ds.par_chunks_mut(hidden).with_min_len(8).enumerate().for_each(|(row, ds)| {
                let choices = row * count..(row + 1) * count;
                let choices = self.ids[choices.clone()].iter().zip(&coefficients[choices]);
                weighted_rows(ds, weight, choices.map(|(&id, &c)| (id as usize, c)));
            });
        }
        let mut dw = Vec::new();
        if weight_wanted {
            let sorted = Sorted::new(&self.ids, self.columns, |place| coefficients[place] != 0.0);
            dw = vec![0.0; self.columns * hidden];
            dw.par_chunks_mut(hidden).with_min_len(16).enumerate().for_each(|(id, dw)| {
                let places = sorted.of(id).iter().map(|&place| place as usize);
                weighted_rows(dw, states, places.map(|place| (place / count, coefficients[place])));
            });
        }
        (ds, dw)
    }

    /// The scores as a tensor with gradients.
    pub(crate) fn tensor(&self, catalogue: &Catalogue, states: &Tensor) -> Result<Tensor> {
        let (states, weight) = (states.contiguous()?, catalogue.weight.contiguous()?);
        match &catalogue.bias {
            Some(bias) => states.apply_op3(&weight, &bias.contiguous()?, self.clone()),
            None => states.apply_op2(&weight, self.clone()),
        }
    }

    /// The scores as values.
    pub(crate) fn values(&self, catalogue: &Catalogue, states: &Tensor) -> Result<Vec<f32>> {
        chunks::with_values(states, |states| {
            chunks::with_values(&catalogue.weight, |weight| match &catalogue.bias {
                Some(bias) => chunks::with_values(bias, |bias| Ok(self.scores(states, weight, Some(bias)))),
                None => Ok(self.scores(states, weight, None)),
            })
        })
    }

    /// A scalar of this value and these derivatives with respect to the scores.
    pub(crate) fn loss(
        self,
        catalogue: &Catalogue,
        states: &Tensor,
        value: f32,
        coefficients: Vec<f32>,
    ) -> Result<Tensor> {
        let (states, weight) = (states.contiguous()?, catalogue.weight.contiguous()?);
        let op = Loss { picked: self, value, coefficients };
        match &catalogue.bias {
            Some(bias) => states.apply_op3(&weight, &bias.contiguous()?, op),
            None => states.apply_op2(&weight, op),
        }
    }
}

impl CustomOp2 for PickedScores {
    fn name(&self) -> &'static str {
        "pick"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let scores = self.scores(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, None);
        Ok((CpuStorage::F32(scores), (l1.dims()[0], self.count).into()))
    }

    fn bwd(
        &self,
        states: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (ds, dw, _) = chunks::with_values(g, |g| self.gradients(states, weight, None, g, 1.0))?;
        Ok((ds, dw))
    }
}

impl CustomOp3 for PickedScores {
    fn name(&self) -> &'static str {
        "pick with bias"
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
        let bias = chunks::slice(s3, l3)?;
        let scores = self.scores(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, Some(bias));
        Ok((CpuStorage::F32(scores), (l1.dims()[0], self.count).into()))
    }

    fn bwd(
        &self,
        states: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<Gradients> {
        chunks::with_values(g, |g| self.gradients(states, weight, Some(bias), g, 1.0))
    }
}

impl CustomOp2 for Loss {
    fn name(&self) -> &'static str {
        "loss of picked scores"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.value]), ().into()))
    }

    fn bwd(
        &self,
        states: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let scale = g.to_scalar::<f32>()?;
        let (ds, dw, _) = self.picked.gradients(states, weight, None, &self.coefficients, scale)?;
        Ok((ds, dw))
    }
}

impl CustomOp3 for Loss {
    fn name(&self) -> &'static str {
        "loss of picked scores with bias"
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
        states: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<Gradients> {
        let scale = g.to_scalar::<f32>()?;
        self.picked.gradients(states, weight, Some(bias), &self.coefficients, scale)
    }
}
