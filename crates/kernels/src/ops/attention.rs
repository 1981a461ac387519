//! Multi-head attention over packed rows.
//!
//! Each row attends to itself only, and no padded position is computed. In training with picked positions, and in prediction,
//! the last block needs attention at a few tokens of each row: [`QueryTokens::Picked`] computes those and no others.
//!
//! This file takes one row through all its heads, forward and backward, while its scores and probabilities stay in
//! the processor's cache. They are not kept: the backward pass computes them again from the logarithm of each query's sum of
//! exponentials.
//! [`SelfAttention`](crate::SelfAttention) makes a sublayer of it.

use std::sync::Arc;

use candle_core::{D, DType, Device, Result, Tensor, bail};

use super::{
    dropout::{Dropout, Factors, Mask},
    embedding,
};
use crate::{
    cpu::{
        apply,
        lanes::{self, LANES},
        matrix::{DEPTH, Store, View, ViewMut, multiply},
        vectorized,
    },
    rows::Rows,
};

/// Which tokens of the packed rows are query tokens of the attention: those whose results are computed.
#[derive(Clone, Debug)]
pub enum QueryTokens {
    /// Every token: query tokens are packed as the keys are.
    All,
    /// Chosen tokens only.
    Picked {
        /// Where each row's query tokens lie among all query tokens; as many rows as the keys have, some possibly empty.
        rows: Rows,
        /// The place of each query token within its row, from 0: the last that it sees in causal attention.
        places: Arc<[u32]>,
    },
}

impl QueryTokens {
    /// Where each row's query tokens lie, given where its keys do.
    pub(crate) fn query_rows<'a>(&'a self, keys: &'a Rows) -> &'a Rows {
        match self {
            QueryTokens::All => keys,
            QueryTokens::Picked { rows, .. } => rows,
        }
    }

    /// How many keys of its row the `i`-th query of row `r` sees in causal attention.
    pub(crate) fn visible(&self, r: usize, i: usize) -> usize {
        match self {
            QueryTokens::All => i + 1,
            QueryTokens::Picked { rows, places } => places[rows.row(r).start + i] as usize + 1,
        }
    }

    /// The places of the query tokens of row `r`.
    pub(crate) fn places(&self, keys: &Rows, r: usize) -> impl Iterator<Item = usize> {
        let (all, picked) = match self {
            QueryTokens::All => (0..keys.length(r), &[][..]),
            QueryTokens::Picked { rows, places } => (0..0, &places[rows.row(r)]),
        };
        all.chain(picked.iter().map(|&place| place as usize))
    }

    /// The index of each query token among the tokens; `None` where every token is one.
    pub(crate) fn indices(&self, keys: &Rows) -> Option<Vec<u32>> {
        let rows = 0..keys.len();
        let token = |r: usize| self.places(keys, r).map(move |place| (keys.row(r).start + place) as u32);
        matches!(self, QueryTokens::Picked { .. }).then(|| rows.flat_map(token).collect())
    }

    /// Checks that the places lie in the rows of the keys.
    pub(crate) fn check(&self, keys: &Rows) -> Result<()> {
        let QueryTokens::Picked { rows, places } = self else { return Ok(()) };
        if rows.len() != keys.len() {
            bail!("attention: {} rows of queries for {} rows of keys", rows.len(), keys.len());
        }
        if places.len() != rows.tokens() {
            bail!("attention: {} places for {} picked queries", places.len(), rows.tokens());
        }
        for r in 0..rows.len() {
            if let Some(place) = places[rows.row(r)].iter().find(|&&place| place as usize >= keys.length(r)) {
                bail!("attention: place {place} is outside row {r} of {} tokens", keys.length(r));
            }
        }
        Ok(())
    }
}

/// `softmax(q k^T / sqrt(hidden / heads)) v` for each row and head.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Where the rows of keys and values lie.
    pub rows: Rows,
    /// Which tokens are query tokens.
    pub queries: QueryTokens,
    /// Number of heads; divides `hidden`. Head `h` is the columns `h * hidden / heads ..`.
    pub heads: usize,
    /// Whether a query at place `p` sees keys `0..=p` only.
    pub causal: bool,
    /// Dropout on the attention probabilities.
    pub dropout: Option<Dropout>,
}

impl Attention {
    /// Where each row's query tokens lie.
    pub(crate) fn query_rows(&self) -> &Rows {
        self.queries.query_rows(&self.rows)
    }

    /// How many keys of its row the `i`-th query of row `r` sees.
    pub(crate) fn visible(&self, r: usize, i: usize) -> usize {
        if self.causal { self.queries.visible(r, i) } else { self.rows.length(r) }
    }

    /// Whether every row has one query token that was picked for it and sees the whole row.
    pub(crate) fn is_single_query(&self) -> bool {
        match &self.queries {
            QueryTokens::All => false,
            QueryTokens::Picked { rows, .. } => {
                !self.causal && (0..rows.len()).all(|row| rows.length(row) == 1)
            }
        }
    }

    /// Checks that this describes `tokens` tokens of width `hidden`.
    pub(crate) fn check(&self, tokens: usize, hidden: usize) -> Result<()> {
        if tokens != self.rows.tokens() {
            bail!("attention: {tokens} tokens in rows of {}", self.rows.tokens());
        }
        if self.heads == 0 || !hidden.is_multiple_of(self.heads) {
            bail!("attention: {} heads do not divide hidden {hidden}", self.heads);
        }
        self.queries.check(&self.rows)?;
        match self.dropout {
            Some(dropout) => dropout.check(self.query_rows().longest() * self.rows.longest()),
            None => Ok(()),
        }
    }

    /// Plain twin: rows padded to the longest, masked, batched matrix products. `k` and `v` are `(tokens, hidden)`, `q` and
    /// the result `(queries, hidden)`.
    pub(crate) fn plain(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (device, hidden) = (k.device(), k.dim(1)?);
        let (queries, keys) = (self.query_rows(), &self.rows);
        if queries.tokens() == 0 {
            return Ok(q.clone());
        }
        #[cfg(feature = "cuda")]
        if [q, k, v].into_iter().all(crate::cuda::takes) {
            return crate::cuda::attention::attend(self, q, k, v);
        }
        let (batch, heads, size) = (keys.len(), self.heads, hidden / self.heads);
        let (most_queries, most_keys) = (queries.longest(), keys.longest());
        // Padding points at real tokens, each at another, so that no token collects the gradients of all padding. The mask
        // keeps what padding holds from reaching a real place.
        let places = |rows: &Rows, longest: usize| -> Vec<u32> {
            let place = |r: usize, i: usize| {
                if i < rows.length(r) { rows.row(r).start + i } else { (r * longest + i) % rows.tokens() }
            };
            (0..batch).flat_map(|r| (0..longest).map(move |i| place(r, i) as u32)).collect()
        };
        let padded = |x: &Tensor, rows: &Rows, longest: usize| -> Result<Tensor> {
            let index = Tensor::from_vec(places(rows, longest), batch * longest, device)?;
            // (batch * longest, hidden) -> (batch, heads, longest, size)
            embedding::plain(x, &index)?.reshape((batch, longest, heads, size))?.transpose(1, 2)?.contiguous()
        };
        let q = padded(q, queries, most_queries)?;
        let k = padded(k, keys, most_keys)?;
        let v = padded(v, keys, most_keys)?;

        let mut visible = vec![0; batch * most_queries];
        for r in 0..batch {
            for i in 0..queries.length(r) {
                visible[r * most_queries + i] = self.visible(r, i) as u32;
            }
        }
        let unseen = unseen(visible, most_keys, device)?.reshape((batch, 1, most_queries, most_keys))?;
        let scores = (q.matmul(&k.t()?.contiguous()?)? / (size as f64).sqrt())?; // (batch, heads, queries, keys)
        let scores = scores.to_dtype(DType::F32)?.broadcast_add(&unseen)?;
        let mut probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
        if let Some(factors) = self.factors(most_queries, most_keys, device)? {
            probabilities = (probabilities * factors)?;
        }
        let probabilities = probabilities.to_dtype(v.dtype())?;
        let padded = probabilities.matmul(&v)?.transpose(1, 2)?.reshape((batch * most_queries, hidden))?;
        let back: Vec<u32> = (0..batch)
            .flat_map(|r| (0..queries.length(r)).map(move |i| (r * most_queries + i) as u32))
            .collect();
        embedding::plain(&padded, &Tensor::from_vec(back, queries.tokens(), device)?)
    }

    /// The dropout factors of the padded probabilities, `(batch, heads, most_queries, most_keys)`: each row and head has its
    /// own mask over `(queries, keys)` of the row.
    fn factors(&self, most_queries: usize, most_keys: usize, device: &Device) -> Result<Option<Tensor>> {
        let Some(dropout) = self.dropout.filter(|dropout| dropout.probability > 0.0) else { return Ok(None) };
        let (batch, heads) = (self.rows.len(), self.heads);
        let lengths: Vec<u32> = (0..batch).map(|r| self.rows.length(r) as u32).collect();
        let factors =
            Factors { dropout, parts: batch * heads, sharers: heads, rows: most_queries, width: most_keys };
        let factors = Tensor::from_vec(lengths, batch, device)?.apply_op1_no_bwd(&factors)?;
        Ok(Some(factors.reshape((batch, heads, most_queries, most_keys))?))
    }
}

/// What is added to scores `(queries, keys)` before their softmax: 0 for the first `visible` keys of each query, which it sees,
/// and -1e9 for the others.
pub(crate) fn unseen(visible: Vec<u32>, keys: usize, device: &Device) -> Result<Tensor> {
    let queries = visible.len();
    let visible = Tensor::from_vec(visible, (queries, 1), device)?;
    let seen = Tensor::arange(0u32, keys as u32, device)?.unsqueeze(0)?.broadcast_lt(&visible)?;
    (seen.to_dtype(DType::F32)? - 1.0)? * 1e9
}

impl Attention {
    fn mask(&self, r: usize, head: usize) -> Option<Mask> {
        self.dropout.and_then(|dropout| dropout.mask((r * self.heads + head) as u64))
    }
}

/// One row in one head, as the inner loops need it.
struct RowHead<'a> {
    attention: &'a Attention,
    row: usize,
    queries: usize,
    keys: usize,
    mask: Option<Mask>,
}

/// Turns scores into multiples of their exponentials. Returns the logarithm of the sum of the exponentials themselves, and the
/// factor that makes the multiples probabilities.
#[inline(always)]
fn exponentials(scores: &mut [f32]) -> (f32, f32) {
    let most = lanes::max(scores);
    for score in scores.iter_mut() {
        *score = lanes::exp(*score - most);
    }
    let total = lanes::sum(scores);
    (most + total.ln(), 1.0 / total)
}

/// Turns scores into masked probabilities, row by row, and writes the logarithms of the sums, `heads` apart.
#[apply(vectorized!)]
fn softmax(row_head: &RowHead<'_>, scores: &mut [f32], logarithms: &mut [f32], heads: usize) {
    for i in 0..row_head.queries {
        let (seen, unseen) = scores[i * row_head.keys..(i + 1) * row_head.keys]
            .split_at_mut(row_head.attention.visible(row_head.row, i));
        let (logarithm, scale) = exponentials(seen);
        logarithms[i * heads] = logarithm;
        match row_head.mask {
            Some(mask) => {
                for (probability, j) in seen.iter_mut().zip(0u32..) {
                    *probability *= scale * mask.factor(((i * row_head.keys) as u32).wrapping_add(j));
                }
            }
            None => {
                for probability in seen.iter_mut() {
                    *probability *= scale;
                }
            }
        }
        unseen.fill(0.0);
    }
}

/// From scores and the gradient of the masked probabilities, `scores` becomes the masked probabilities and `gradient` the
/// gradient of the scores. `inner` is the inner product of each query's result and its gradient.
#[apply(vectorized!)]
fn softmax_backward(
    row_head: &RowHead<'_>,
    scores: &mut [f32],
    gradient: &mut [f32],
    inner: &[f32],
    logarithms: &[f32],
    heads: usize,
) {
    for i in 0..row_head.queries {
        let range = i * row_head.keys..(i + 1) * row_head.keys;
        let visible = row_head.attention.visible(row_head.row, i);
        let (seen, unseen) = scores[range.clone()].split_at_mut(visible);
        let (gradient, unseen_gradient) = gradient[range].split_at_mut(visible);
        let (logarithm, inner) = (logarithms[i * heads], inner[i]);
        match row_head.mask {
            Some(mask) => {
                for ((score, gradient), j) in seen.iter_mut().zip(gradient.iter_mut()).zip(0u32..) {
                    let probability = lanes::exp(*score - logarithm);
                    let factor = mask.factor(((i * row_head.keys) as u32).wrapping_add(j));
                    *gradient = probability * (factor * *gradient - inner);
                    *score = probability * factor;
                }
            }
            None => {
                for (score, gradient) in seen.iter_mut().zip(gradient.iter_mut()) {
                    let probability = lanes::exp(*score - logarithm);
                    *gradient = probability * (*gradient - inner);
                    *score = probability;
                }
            }
        }
        unseen.fill(0.0);
        unseen_gradient.fill(0.0);
    }
}

/// Inner products of the rows of two `(queries, hidden)` parts within the columns of one head.
#[apply(vectorized!)]
pub(crate) fn row_products(
    products: &mut [f32],
    a: &[f32],
    b: &[f32],
    hidden: usize,
    first: usize,
    size: usize,
) {
    for ((product, a), b) in products.iter_mut().zip(a.chunks_exact(hidden)).zip(b.chunks_exact(hidden)) {
        *product = lanes::dot(&a[first..first + size], &b[first..first + size]);
    }
}

/// Columns of a wider matrix: their rows begin `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

impl<'a> Strided<'a> {
    /// `size` columns from column `first` on, of `rows` rows.
    fn columns(self, rows: usize, first: usize, size: usize) -> View<'a> {
        View::strided(&self.values[first..], rows, size, self.stride)
    }
}

/// Where the results of one head go: `size` columns, from column `first` on, of a matrix of `width`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) width: usize,
    pub(crate) first: usize,
    pub(crate) size: usize,
}

/// Buffers for one row and head, used again for the next.
#[derive(Default)]
pub(crate) struct Scratch {
    keys_transposed: Vec<f32>,
    scores: Vec<f32>,
    gradient: Vec<f32>,
    inner: Vec<f32>,
}

/// The first `length` numbers of a buffer, which grows where it is shorter: whatever they hold is written over.
fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// The keys and values of the tokens that one row has so far, to which the row's next token attends.
///
/// Keys lie transposed, `(hidden, room)`, so that the scores of a query over all keys are vector sums.
#[derive(Clone, Debug, Default)]
pub struct KeyValueCache {
    keys: Vec<f32>,
    /// Tokens that `keys` has room for.
    room: usize,
    /// `(tokens, hidden)`
    values: Vec<f32>,
    tokens: usize,
}

impl KeyValueCache {
    /// Number of tokens in the cache.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<f32>() * (self.keys.capacity() + self.values.capacity())
    }

    /// Adds a token's key and value, equally long.
    pub(crate) fn push(&mut self, key: &[f32], value: &[f32]) {
        if self.tokens == self.room {
            let room = (2 * self.room).max(LANES);
            let mut keys = vec![0.0; key.len() * room];
            for (to, from) in keys.chunks_exact_mut(room).zip(self.keys.chunks_exact(self.room.max(1))) {
                to[..self.room].copy_from_slice(from);
            }
            (self.keys, self.room) = (keys, room);
        }
        for (row, &key) in self.keys.chunks_exact_mut(self.room).zip(key) {
            row[self.tokens] = key;
        }
        self.values.extend_from_slice(value);
        self.tokens += 1;
    }
}

/// Attends from one query `(hidden)` to all tokens in the cache, with `heads` heads and no dropout, and writes the result to `y`
/// `(hidden)`: the bytes of [`Attention::attend`].
#[apply(vectorized!)]
pub(crate) fn attend_one(
    heads: usize,
    query: &[f32],
    cache: &KeyValueCache,
    y: &mut [f32],
    scratch: &mut Scratch,
) {
    let KeyValueCache { keys, room, values, tokens } = cache;
    let hidden = query.len();
    let size = hidden / heads;
    let root = 1.0 / (size as f32).sqrt();
    // Keys have room for whole vectors; scores beyond the last token are computed and not used.
    scratch.scores.resize(tokens.next_multiple_of(LANES), 0.0);
    for first in (0..hidden).step_by(size) {
        let (blocks, _) = scratch.scores.as_chunks_mut::<LANES>();
        for (block, scores) in blocks.iter_mut().enumerate() {
            let mut sum = [0.0; LANES];
            for (place, &query) in (first..).zip(&query[first..first + size]) {
                let keys = &keys[place * room + block * LANES..][..LANES];
                for lane in 0..LANES {
                    sum[lane] = query.mul_add(keys[lane], sum[lane]);
                }
            }
            for lane in 0..LANES {
                scores[lane] = sum[lane] * root;
            }
        }
        let probabilities = &mut scratch.scores[..*tokens];
        let (_, scale) = exponentials(probabilities);
        for probability in probabilities.iter_mut() {
            *probability *= scale;
        }
        y[first..first + size].fill(0.0);
        // Long sums are cut where `multiply` cuts them.
        for (probabilities, values) in probabilities.chunks(DEPTH).zip(values.chunks(DEPTH * hidden)) {
            let (blocks, tail) = y[first..first + size].as_chunks_mut::<LANES>();
            for (block, y) in blocks.iter_mut().enumerate() {
                let mut sum = [0.0; LANES];
                for (&probability, value) in probabilities.iter().zip(values.chunks_exact(hidden)) {
                    let value = &value[first + block * LANES..][..LANES];
                    for lane in 0..LANES {
                        sum[lane] = probability.mul_add(value[lane], sum[lane]);
                    }
                }
                for lane in 0..LANES {
                    y[lane] += sum[lane];
                }
            }
            let start = first + size - tail.len();
            for (y, column) in tail.iter_mut().zip(start..) {
                let mut sum = 0.0;
                for (&probability, value) in probabilities.iter().zip(values.chunks_exact(hidden)) {
                    sum = probability.mul_add(value[column], sum);
                }
                *y += sum;
            }
        }
    }
}

/// Transposes `size` columns, from column `first` on, into `transposed` `(size, rows)`.
#[apply(vectorized!)]
fn transpose_columns(transposed: &mut [f32], matrix: Strided<'_>, rows: usize, first: usize) {
    for (place, transposed) in transposed.chunks_exact_mut(rows).enumerate() {
        for (value, row) in transposed.iter_mut().zip(matrix.values.chunks(matrix.stride)) {
            *value = row[first + place];
        }
    }
}

impl Attention {
    /// Writes the scores of a row's queries over its keys in one head, before the softmax, to `scores` `(queries, keys)`.
    fn score(&self, row: usize, [q, k]: [Strided<'_>; 2], size: usize, head: usize, scratch: &mut Scratch) {
        let (nq, nk) = (self.query_rows().length(row), self.rows.length(row));
        let Scratch { keys_transposed, scores, .. } = scratch;
        let (keys_transposed, scores) = (room(keys_transposed, size * nk), room(scores, nq * nk));
        transpose_columns(keys_transposed, k, nk, head * size);
        let (q, k) = (q.columns(nq, head * size, size), View::new(keys_transposed, size, nk));
        multiply(ViewMut::new(scores, nq, nk), Store::Overwrite, q, k, 1.0 / (size as f32).sqrt());
    }

    fn row_head(&self, row: usize, head: usize) -> RowHead<'_> {
        let (queries, keys) = (self.query_rows().length(row), self.rows.length(row));
        RowHead { attention: self, row, queries, keys, mask: self.mask(row, head) }
    }

    /// Turns the scores of a single query of this row and head into masked probabilities, and writes the logarithm of the sum of their
    /// exponentials to the first of `logarithms`.
    pub(crate) fn softmax_of(&self, (row, head): (usize, usize), scores: &mut [f32], logarithms: &mut [f32]) {
        softmax(&self.row_head(row, head), scores, logarithms, self.heads);
    }

    /// The backward pass of [`Attention::softmax_of`]: the scores become masked probabilities again, and the gradient of these becomes that
    /// of the scores. `inner` is the inner product of the query's result and its gradient.
    pub(crate) fn softmax_backward_of(
        &self,
        (row, head): (usize, usize),
        (scores, gradient): (&mut [f32], &mut [f32]),
        inner: f32,
        logarithms: &[f32],
    ) {
        let row_head = self.row_head(row, head);
        softmax_backward(&row_head, scores, gradient, &[inner], logarithms, self.heads);
    }

    /// Attends within row `row` in one head, from the row's queries `(queries, hidden)`, keys and values `(keys, hidden)`. Writes the
    /// result to the head's columns of `y` and the logarithms of the sums of exponentials to its column of `logarithms`, which has one
    /// for each head in `y`; nothing for a row without queries.
    pub(crate) fn attend(
        &self,
        (row, head): (usize, usize),
        [q, k, v]: [Strided<'_>; 3],
        to: Columns,
        (y, logarithms): (&mut [f32], &mut [f32]),
        scratch: &mut Scratch,
    ) {
        let (nq, nk) = (self.query_rows().length(row), self.rows.length(row));
        if nq == 0 {
            return;
        }
        let first = head * to.size;
        self.score(row, [q, k], to.size, head, scratch);
        let scores = &mut scratch.scores;
        softmax(&self.row_head(row, head), scores, &mut logarithms[to.first / to.size..], to.width / to.size);
        let y = ViewMut::strided(&mut y[to.first..], nq, to.size, to.width);
        multiply(y, Store::Overwrite, View::new(scores, nq, nk), v.columns(nk, first, to.size), 1.0);
    }

    /// The backward pass of [`Attention::attend`] in one head, from its arguments, its results and the gradient `g`, all `(queries, hidden)`.
    /// Overwrites the head's columns of `dq` with the gradient of the queries, and those of `dkv`, twice as wide, with those of keys and
    /// values side by side; nothing for a row without queries.
    pub(crate) fn attend_backward(
        &self,
        (row, head): (usize, usize),
        [q, k, v]: [Strided<'_>; 3],
        (y, logarithms, g): (&[f32], &[f32], &[f32]),
        to: Columns,
        (dq, dkv): (&mut [f32], &mut [f32]),
        scratch: &mut Scratch,
    ) {
        let (nq, nk) = (self.query_rows().length(row), self.rows.length(row));
        if nq == 0 {
            return;
        }
        let (hidden, Columns { width, size, .. }) = (g.len() / nq, to);
        let root = 1.0 / (size as f32).sqrt();
        let first = head * size;
        self.score(row, [q, k], size, head, scratch);
        let Scratch { scores, gradient, inner, .. } = &mut *scratch;
        let (gradient, inner) = (room(gradient, nq * nk), room(inner, nq));
        let g_view = View::strided(&g[first..], nq, size, hidden);
        let (q, k, v) = (q.columns(nq, first, size), k.columns(nk, first, size), v.columns(nk, first, size));
        multiply(ViewMut::new(gradient, nq, nk), Store::Overwrite, g_view, v.t(), 1.0);
        row_products(inner, y, g, hidden, first, size);
        softmax_backward(&self.row_head(row, head), scores, gradient, inner, &logarithms[head..], self.heads);
        let (scores, gradient) = (View::new(scores, nq, nk), View::new(gradient, nq, nk));
        let dv = ViewMut::strided(&mut dkv[width + to.first..], nk, size, 2 * width);
        multiply(dv, Store::Overwrite, scores.t(), g_view, 1.0);
        let dq = ViewMut::strided(&mut dq[to.first..], nq, size, width);
        multiply(dq, Store::Overwrite, gradient, k, root);
        let dk = ViewMut::strided(&mut dkv[to.first..], nk, size, 2 * width);
        multiply(dk, Store::Overwrite, gradient.t(), q, root);
    }
}
