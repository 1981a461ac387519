//! The item side of the scores, and everything that is asked over all items at once.
//!
//! The catalogue may hold a million items, so nothing here but [`Catalogue::scores`] holds a (rows, columns) matrix: rows
//! are taken in blocks, and what is asked (the best k, the extremes, a rank, a loss) is kept of each block.
//!
//! Order is total: a higher score comes first, of equal scores the lower id; a score that is not a number comes last.

mod attach;
mod binary_cross_entropy;
mod cross_entropy;
mod outside;
mod picked_scores;
mod ranking_loss;
pub(crate) mod selection;
mod swap_loss;

use candle_core::{D, DType, Result, Tensor, bail};

pub use outside::outside;
pub use ranking_loss::{Margins, RankingLoss};

use crate::ops::{embedding, linear};
use cross_entropy::BUDGET;
use picked_scores::Picked;

/// The item side of the scores: `score(row, column) = state . weight[column] + bias[column]`.
///
/// Columns `1..=items` are items, column `id` the item `id`; the others are padding (0) and, for BERT4Rec, the mask.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// `(columns, hidden)`
    pub weight: Tensor,
    /// `(columns)`
    pub bias: Option<Tensor>,
    /// Number of items, less than the number of columns.
    pub items: usize,
}

impl Catalogue {
    /// Number of columns, items and others.
    pub fn columns(&self) -> Result<usize> {
        let columns = self.weight.dim(0)?;
        if self.items == 0 || self.items >= columns {
            bail!("catalogue: {} items in {columns} columns, of which column 0 is padding", self.items);
        }
        Ok(columns)
    }

    /// The same catalogue over the same memory, outside the graph.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.as_ref().map(Tensor::detach), items: self.items }
    }

    /// All scores, `(rows, columns)`, of `states` `(rows, hidden)`; differentiable. Only for small things: the matrix is whole.
    pub fn scores(&self, states: &Tensor) -> Result<Tensor> {
        linear::plain(states, &self.weight, self.bias.as_ref())
    }

    /// Mean cross entropy of `targets` (u32, `(rows)`, columns) under the softmax over *all* columns; a scalar with gradients.
    pub fn cross_entropy(&self, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
        cross_entropy::cross_entropy(self, states, targets)
    }

    /// Mean binary cross entropy over `2 * positions` terms, `softplus(-score(positive))` and `softplus(score(negative))`;
    /// a scalar with gradients.
    ///
    /// `states` is `(positions, hidden)`, `positives` and `negatives` `(positions)` of u32, columns.
    pub fn binary_cross_entropy(
        &self,
        states: &Tensor,
        positives: &Tensor,
        negatives: &Tensor,
    ) -> Result<Tensor> {
        binary_cross_entropy::binary_cross_entropy(self, states, positives, negatives)
    }

    /// The ids of the `k` best items of each state, best first: `(rows, k)` of u32. No gradient.
    pub fn top_k(&self, states: &Tensor, k: usize) -> Result<Tensor> {
        if k == 0 || k > self.items {
            bail!("top k: k is {k}, must lie in 1..={} items", self.items);
        }
        if crate::fused(states.device()) {
            selection::top_k(self, states, k)
        } else {
            self.plain_top_k(states, k)
        }
    }

    /// The ids of the best and of the worst item of each state, two `(rows)` of u32; of equal scores the lowest id. No gradient.
    pub fn extremes(&self, states: &Tensor) -> Result<(Tensor, Tensor)> {
        if crate::fused(states.device()) {
            selection::extremes(self, states)
        } else {
            self.plain_extremes(states)
        }
    }

    /// The rank of each target, `(rows)` of u32: 1 + the number of *other* items that do not score below it. No gradient.
    ///
    /// `targets` is `(rows)` of u32, ids in `1..=items`. Ties, and scores that are not numbers, count against the model.
    pub fn ranks(&self, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
        if targets.dims() != [states.dim(0)?] {
            bail!("ranks: {} states but targets {:?}", states.dim(0)?, targets.dims());
        }
        if crate::fused(states.device()) {
            selection::ranks(self, states, targets)
        } else {
            self.plain_ranks(states, targets)
        }
    }

    /// The scores of chosen columns, `(rows, c)`, of `ids` `(rows, c)` of u32; differentiable.
    pub fn pick(&self, states: &Tensor, ids: &Tensor) -> Result<Tensor> {
        if states.dim(0)? != ids.dim(0)? {
            bail!("pick: {} states but ids {:?}", states.dim(0)?, ids.dims());
        }
        if crate::fused(states.device()) {
            Picked::new(self, &[ids])?.tensor(self, states)
        } else {
            self.plain_pick(states, ids)
        }
    }

    /// The ranking loss of `answers` (best first) against `negatives`, both `(rows, k)` of u32, columns:
    /// `mean max(0, s[a_(i+1)] - s[a_i] + rank) + mean max(0, s[u_j] - s[a_j] + negative)`, over `rows * (k - 1)` and
    /// `rows * k` terms.
    pub fn ranking_loss(
        &self,
        states: &Tensor,
        answers: &Tensor,
        negatives: &Tensor,
        margins: Margins,
    ) -> Result<RankingLoss> {
        ranking_loss::ranking_loss(self, states, answers, negatives, margins)
    }

    /// The swap loss, `mean max(0, s[a_j] - s[r_j] + margin)` over `rows * k` terms; a scalar with gradients.
    ///
    /// `answers` and `replacements` are `(rows, k)` of u32. Replacement 0 is none: its term is 0 and still counts in the mean.
    pub fn swap_loss(
        &self,
        states: &Tensor,
        answers: &Tensor,
        replacements: &Tensor,
        margin: f64,
    ) -> Result<Tensor> {
        swap_loss::swap_loss(self, states, answers, replacements, margin)
    }

    /// Calls `visit` with the item scores, `(count, items)` contiguous, of each block of rows and where the block starts.
    fn blocks(&self, states: &Tensor, mut visit: impl FnMut(usize, Tensor) -> Result<()>) -> Result<()> {
        let rows = states.dim(0)?;
        let block = (BUDGET / self.columns()?).clamp(1, rows.max(1));
        for start in (0..rows).step_by(block) {
            let count = block.min(rows - start);
            let states = states.detach().narrow(0, start, count)?.to_dtype(DType::F32)?;
            let scores = self.detached().scores(&states)?;
            visit(start, scores.narrow(1, 1, self.items)?.contiguous()?)?;
        }
        Ok(())
    }

    /// Plain twin: a selection from each row's scores, by a kernel of our own on CUDA.
    pub(crate) fn plain_top_k(&self, states: &Tensor, k: usize) -> Result<Tensor> {
        if states.dim(0)? == 0 || k > selection::LONGEST {
            return self.top_k_by_rounds(states, k);
        }
        let mut lists = Vec::new();
        self.blocks(states, |_, scores| {
            lists.push(scores.apply_op1_no_bwd(&selection::TopK(k))?);
            Ok(())
        })?;
        Tensor::cat(&lists, 0)
    }

    /// `k` times the best of what is left, for lists longer than the selection takes. candle's own sort fails past 8192 columns
    /// on CUDA, and orders ties differently there; this holds for any number of items and never asks the device for a number.
    pub(crate) fn top_k_by_rounds(&self, states: &Tensor, k: usize) -> Result<Tensor> {
        let device = states.device();
        if states.dim(0)? == 0 {
            return Tensor::zeros((0, k), DType::U32, device);
        }
        let ids = Tensor::arange(1u32, self.items as u32 + 1, device)?;
        let mut lists = Vec::new();
        self.blocks(states, |_, scores| {
            let none = Tensor::full(u32::MAX, scores.dims(), device)?;
            let lowest = Tensor::full(f32::NEG_INFINITY, scores.dims(), device)?;
            let mut left = ids.broadcast_as(scores.dims())?.contiguous()?;
            // What is no number is equal to nothing, itself included.
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

    /// Plain twin: the lowest id among those that reach the extreme.
    pub(crate) fn plain_extremes(&self, states: &Tensor) -> Result<(Tensor, Tensor)> {
        let device = states.device();
        if states.dim(0)? == 0 {
            let none = Tensor::zeros(0, DType::U32, device)?;
            return Ok((none.clone(), none));
        }
        let ids = Tensor::arange(1u32, self.items as u32 + 1, device)?;
        let (mut best, mut worst) = (Vec::new(), Vec::new());
        self.blocks(states, |_, scores| {
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

    /// Plain twin: all items less those that score below the target.
    pub(crate) fn plain_ranks(&self, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
        if states.dim(0)? == 0 {
            return Tensor::zeros(0, DType::U32, states.device());
        }
        let mut ranks = Vec::new();
        self.blocks(states, |start, scores| {
            let (count, _) = scores.dims2()?;
            let places = (targets.narrow(0, start, count)?.to_dtype(DType::I64)? - 1.0)?;
            let target = scores.gather(&places.unsqueeze(1)?.contiguous()?, 1)?;
            let below = scores.broadcast_lt(&target)?.to_dtype(DType::U32)?.sum(D::Minus1)?;
            let all = Tensor::full(self.items as u32, count, states.device())?;
            ranks.push((all - below)?);
            Ok(())
        })?;
        Tensor::cat(&ranks, 0)
    }

    /// Plain twin: chosen rows of the weight, batched products with the states.
    pub(crate) fn plain_pick(&self, states: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let (rows, count) = ids.dims2()?;
        let flat = ids.flatten_all()?;
        let hidden = self.weight.dim(1)?;
        let chosen = embedding::plain(&self.weight, &flat)?.reshape((rows, count, hidden))?;
        let states = states.to_dtype(DType::F32)?.contiguous()?;
        let scores = chosen.matmul(&states.reshape((rows, hidden, 1))?)?.squeeze(2)?;
        match &self.bias {
            Some(bias) => scores + embedding::plain(&bias.unsqueeze(1)?, &flat)?.reshape((rows, count))?,
            None => Ok(scores),
        }
    }
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
