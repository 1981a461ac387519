//! The item side of the scores, and everything that is computed over all items at once.
//!
//! A catalogue may hold a million items, so nothing here but [`Catalogue::scores`] holds a (rows, columns) matrix: rows are
//! taken in blocks, and of each block only the result is kept: the best k, the extremes, a rank, a loss. This file is the
//! catalogue itself; each of those stands in a file of its own, as a method of [`Catalogue`].
//!
//! Order is total: a higher score comes first, of equal scores the lower id; a score that is not a number comes last.

mod binary_cross_entropy;
pub(crate) mod cross_entropy;
pub(crate) mod extremes;
mod list_loss;
mod list_mle;
mod list_set;
mod list_softmax;
mod outside;
mod picked_scores;
mod prepared;
mod ranking_loss;
mod ranks;
mod score_blocks;
mod swap_loss;
pub(crate) mod top_k;

use candle_core::{Result, Tensor, bail};

pub use outside::outside;
pub use prepared::Prepared;
pub use ranking_loss::{Margins, RankingLoss};

use crate::ops::linear;

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
}

#[cfg(test)]
mod tests;
