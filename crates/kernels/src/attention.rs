//! Multi-head attention over packed rows.
//!
//! Each row attends to itself only; no padded position is computed. In training with picked positions, and in prediction,
//! the last block needs attention at a few places of each row: [`Queries::Picked`] computes those and no others.

use std::sync::Arc;

use candle_core::{D, Result, Tensor, bail};

use crate::{dropout::Dropout, rows::Rows};

/// Which places of each row are asked.
#[derive(Clone, Debug)]
pub enum Queries {
    /// Every token: the queries are packed as the keys are.
    All,
    /// Chosen places only.
    Picked {
        /// Where each row's queries lie in the packed queries; as many rows as the keys have, possibly empty ones.
        rows: Rows,
        /// The place of each query within its row, from 0: what a causal query may see ends there.
        places: Arc<[u32]>,
    },
}

/// `softmax(q k^T / sqrt(hidden / heads)) v` for each row and head.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Where the rows of keys and values lie.
    pub rows: Rows,
    /// Which places ask.
    pub queries: Queries,
    /// Number of heads; divides `hidden`. Head `h` is the columns `h * hidden / heads ..`.
    pub heads: usize,
    /// Whether a query at place `p` sees keys `0..=p` only.
    pub causal: bool,
    /// Dropout on the attention probabilities.
    pub dropout: Option<Dropout>,
}

impl Attention {
    /// Attends: `k` and `v` are `(tokens, hidden)`, `q` `(tokens, hidden)` or `(picked, hidden)`; the result is shaped as `q`.
    pub fn forward(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        self.check(q, k, v)?;
        self.plain(q, k, v)
    }

    /// Where each row's queries lie.
    pub(crate) fn query_rows(&self) -> &Rows {
        match &self.queries {
            Queries::All => &self.rows,
            Queries::Picked { rows, .. } => rows,
        }
    }

    /// How many keys of its row the `i`-th query of row `r` sees.
    pub(crate) fn visible(&self, r: usize, i: usize) -> usize {
        if !self.causal {
            return self.rows.length(r);
        }
        match &self.queries {
            Queries::All => i + 1,
            Queries::Picked { rows, places } => places[rows.row(r).start + i] as usize + 1,
        }
    }

    fn check(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<()> {
        let (tokens, hidden) = k.dims2()?;
        let queries = self.query_rows();
        if tokens != self.rows.tokens() || v.dims() != k.dims() || q.dims() != [queries.tokens(), hidden] {
            bail!(
                "attention: q {:?}, k {:?}, v {:?} do not fit {} tokens and {} queries",
                q.dims(),
                k.dims(),
                v.dims(),
                self.rows.tokens(),
                queries.tokens()
            );
        }
        if self.heads == 0 || hidden % self.heads != 0 {
            bail!("attention: {} heads do not divide hidden {hidden}", self.heads);
        }
        if queries.len() != self.rows.len() {
            bail!("attention: {} rows of queries for {} rows of keys", queries.len(), self.rows.len());
        }
        if let Queries::Picked { rows, places } = &self.queries {
            if places.len() != rows.tokens() {
                bail!("attention: {} places for {} picked queries", places.len(), rows.tokens());
            }
            for r in 0..rows.len() {
                if let Some(place) =
                    places[rows.row(r)].iter().find(|&&place| place as usize >= self.rows.length(r))
                {
                    bail!("attention: place {place} is outside row {r} of {} tokens", self.rows.length(r));
                }
            }
        }
        if let Some(dropout) = self.dropout {
            dropout.check(queries.longest() * self.rows.longest())?;
        }
        Ok(())
    }

    /// Plain twin: rows padded to the longest, masked, batched matrix products.
    pub(crate) fn plain(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (device, hidden) = (k.device(), k.dim(1)?);
        let (queries, keys) = (self.query_rows(), &self.rows);
        if queries.tokens() == 0 {
            return Ok(q.clone());
        }
        let (batch, heads, size) = (keys.len(), self.heads, hidden / self.heads);
        let (most_queries, most_keys) = (queries.longest(), keys.longest());
        // Padded places point at token 0; the mask keeps what they hold from reaching a real place.
        let places = |rows: &Rows, longest: usize| -> Vec<u32> {
            let place =
                |r: usize, i: usize| if i < rows.length(r) { (rows.row(r).start + i) as u32 } else { 0 };
            (0..batch).flat_map(|r| (0..longest).map(move |i| place(r, i))).collect()
        };
        let padded = |x: &Tensor, rows: &Rows, longest: usize| -> Result<Tensor> {
            let index = Tensor::from_vec(places(rows, longest), batch * longest, device)?;
            // (batch * longest, hidden) -> (batch, heads, longest, size)
            x.contiguous()?
                .index_select(&index, 0)?
                .reshape((batch, longest, heads, size))?
                .transpose(1, 2)?
                .contiguous()
        };
        let q = padded(q, queries, most_queries)?;
        let k = padded(k, keys, most_keys)?;
        let v = padded(v, keys, most_keys)?;

        let mut hidden_keys = vec![-1e9f32; batch * most_queries * most_keys];
        for r in 0..batch {
            for i in 0..queries.length(r) {
                let start = (r * most_queries + i) * most_keys;
                hidden_keys[start..start + self.visible(r, i)].fill(0.0);
            }
        }
        let hidden_keys = Tensor::from_vec(hidden_keys, (batch, 1, most_queries, most_keys), device)?;
        let scores = (q.matmul(&k.t()?.contiguous()?)? / (size as f64).sqrt())?; // (batch, heads, queries, keys)
        let scores = scores.broadcast_add(&hidden_keys)?;
        let mut probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
        if let Some(factors) = self.factors(most_queries, most_keys) {
            probabilities = (probabilities
                * Tensor::from_vec(factors, (batch, heads, most_queries, most_keys), device)?)?;
        }
        let padded = probabilities.matmul(&v)?.transpose(1, 2)?.reshape((batch * most_queries, hidden))?;
        let back: Vec<u32> = (0..batch)
            .flat_map(|r| (0..queries.length(r)).map(move |i| (r * most_queries + i) as u32))
            .collect();
        padded.index_select(&Tensor::from_vec(back, queries.tokens(), device)?, 0)
    }

    /// The dropout factors of the padded probabilities: each row and head has its own mask over `(queries, keys)` of the row.
    fn factors(&self, most_queries: usize, most_keys: usize) -> Option<Vec<f32>> {
        let dropout = self.dropout?;
        dropout.mask(0)?;
        let (batch, block) = (self.rows.len(), most_queries * most_keys);
        let mut factors = vec![1.0; batch * self.heads * block];
        for r in 0..batch {
            let keys = self.rows.length(r);
            for h in 0..self.heads {
                let part = r * self.heads + h;
                let mask = dropout.mask(part as u64)?;
                let block = &mut factors[part * block..][..block];
                for i in 0..self.query_rows().length(r) {
                    for j in 0..keys {
                        block[i * most_keys + j] = mask.factor((i * keys + j) as u32);
                    }
                }
            }
        }
        Some(factors)
    }
}
