//! Multi-head attention over packed rows.
//!
//! Each row attends to itself only; no padded position is computed. In training with picked positions, and in prediction,
//! the last block needs attention at a few places of each row: [`Queries::Picked`] computes those and no others.
//!
//! Fused, one task takes one row through all its heads, so that scores and probabilities never leave its cache. The way
//! back computes them again from the kept logarithm of each query's sum of exponentials, in place of keeping them.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::{
    chunks,
    dropout::{Dropout, Mask},
    lanes,
    matrix::{Into, View, ViewMut, multiply},
    rows::Rows,
};

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

impl Queries {
    /// Where each row's queries lie, given where its keys do.
    pub(crate) fn rows<'a>(&'a self, keys: &'a Rows) -> &'a Rows {
        match self {
            Queries::All => keys,
            Queries::Picked { rows, .. } => rows,
        }
    }

    /// How many keys of its row the `i`-th query of row `r` sees when it does not look ahead.
    pub(crate) fn visible(&self, r: usize, i: usize) -> usize {
        match self {
            Queries::All => i + 1,
            Queries::Picked { rows, places } => places[rows.row(r).start + i] as usize + 1,
        }
    }

    /// Checks that the places lie in the rows of the keys.
    pub(crate) fn check(&self, keys: &Rows) -> Result<()> {
        let Queries::Picked { rows, places } = self else { return Ok(()) };
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
        if crate::fused(k.device()) { self.fused(q, k, v) } else { self.plain(q, k, v) }
    }

    /// Where each row's queries lie.
    pub(crate) fn query_rows(&self) -> &Rows {
        self.queries.rows(&self.rows)
    }

    /// How many keys of its row the `i`-th query of row `r` sees.
    pub(crate) fn visible(&self, r: usize, i: usize) -> usize {
        if self.causal { self.queries.visible(r, i) } else { self.rows.length(r) }
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
        self.queries.check(&self.rows)?;
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

impl Attention {
    pub(crate) fn fused(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let op = Fused { attention: self.clone(), logarithms: OnceLock::new() };
        q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
    }

    fn mask(&self, r: usize, head: usize) -> Option<Mask> {
        self.dropout.and_then(|dropout| dropout.mask((r * self.heads + head) as u64))
    }
}

/// One call of [`Attention::forward`].
struct Fused {
    attention: Attention,
    /// For each query and head the logarithm of the sum of its exponentials, kept for the way back.
    logarithms: OnceLock<Vec<f32>>,
}

/// What the inner loops need to know of one row and head.
struct Block<'a> {
    attention: &'a Attention,
    row: usize,
    queries: usize,
    keys: usize,
    mask: Option<Mask>,
}

/// Turns scores into masked probabilities, row by row, and writes the logarithms of the sums, `heads` apart.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
fn softmax(block: &Block<'_>, scores: &mut [f32], logarithms: &mut [f32], heads: usize) {
    for i in 0..block.queries {
        let (seen, unseen) =
            scores[i * block.keys..(i + 1) * block.keys].split_at_mut(block.attention.visible(block.row, i));
        let most = lanes::max(seen);
        for score in seen.iter_mut() {
            *score = lanes::exp(*score - most);
        }
        let total = lanes::sum(seen);
        logarithms[i * heads] = most + total.ln();
        let scale = 1.0 / total;
        match block.mask {
            Some(mask) => {
                for (probability, j) in seen.iter_mut().zip(0u32..) {
                    *probability *= scale * mask.factor(((i * block.keys) as u32).wrapping_add(j));
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
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
fn softmax_backward(
    block: &Block<'_>,
    scores: &mut [f32],
    gradient: &mut [f32],
    inner: &[f32],
    logarithms: &[f32],
    heads: usize,
) {
    for i in 0..block.queries {
        let range = i * block.keys..(i + 1) * block.keys;
        let visible = block.attention.visible(block.row, i);
        let (seen, unseen) = scores[range.clone()].split_at_mut(visible);
        let (gradient, unseen_gradient) = gradient[range].split_at_mut(visible);
        let (logarithm, inner) = (logarithms[i * heads], inner[i]);
        match block.mask {
            Some(mask) => {
                for ((score, gradient), j) in seen.iter_mut().zip(gradient.iter_mut()).zip(0u32..) {
                    let probability = lanes::exp(*score - logarithm);
                    let factor = mask.factor(((i * block.keys) as u32).wrapping_add(j));
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
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
fn row_products(products: &mut [f32], a: &[f32], b: &[f32], hidden: usize, first: usize, size: usize) {
    for ((product, a), b) in products.iter_mut().zip(a.chunks_exact(hidden)).zip(b.chunks_exact(hidden)) {
        *product = lanes::dot(&a[first..first + size], &b[first..first + size]);
    }
}

impl Fused {
    fn forward(&self, q: &[f32], k: &[f32], v: &[f32], hidden: usize) -> (Vec<f32>, Vec<f32>) {
        let attention = &self.attention;
        let (queries, keys, heads) = (attention.query_rows(), &attention.rows, attention.heads);
        let size = hidden / heads;
        let root = 1.0 / (size as f32).sqrt();
        let mut y = vec![0.0; q.len()];
        let mut logarithms = vec![0.0; queries.tokens() * heads];
        chunks::split(&mut y, queries.offsets(), hidden)
            .into_par_iter()
            .zip(chunks::split(&mut logarithms, queries.offsets(), heads))
            .with_max_len(1)
            .enumerate()
            .for_each_init(Vec::new, |scores, (row, (y, logarithms))| {
                let (nq, nk) = (queries.length(row), keys.length(row));
                if nq == 0 {
                    return;
                }
                scores.resize(nq * nk, 0.0);
                let (q, start) = (&q[queries.row(row).start * hidden..], keys.row(row).start * hidden);
                for head in 0..heads {
                    let first = head * size;
                    let q = View::strided(&q[first..], nq, size, hidden);
                    let k = View::strided(&k[start + first..], nk, size, hidden);
                    let v = View::strided(&v[start + first..], nk, size, hidden);
                    multiply(ViewMut::new(scores, nq, nk), Into::Overwrite, q, k.t(), root);
                    let block =
                        Block { attention, row, queries: nq, keys: nk, mask: attention.mask(row, head) };
                    softmax(&block, scores, &mut logarithms[head..], heads);
                    let y = ViewMut::strided(&mut y[first..], nq, size, hidden);
                    multiply(y, Into::Overwrite, View::new(scores, nq, nk), v, 1.0);
                }
            });
        (y, logarithms)
    }

    /// Gradients of q, k and v.
    fn backward(
        &self,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        y: &[f32],
        g: &[f32],
        hidden: usize,
    ) -> [Vec<f32>; 3] {
        let attention = &self.attention;
        let (queries, keys, heads) = (attention.query_rows(), &attention.rows, attention.heads);
        let size = hidden / heads;
        let root = 1.0 / (size as f32).sqrt();
        let logarithms = self.logarithms.get_or_init(|| self.forward(q, k, v, hidden).1);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; k.len()]);
        chunks::split(&mut dq, queries.offsets(), hidden)
            .into_par_iter()
            .zip(chunks::split(&mut dk, keys.offsets(), hidden))
            .zip(chunks::split(&mut dv, keys.offsets(), hidden))
            .with_max_len(1)
            .enumerate()
            .for_each_init(<[Vec<f32>; 3]>::default, |[scores, gradient, inner], (row, ((dq, dk), dv))| {
                let (nq, nk) = (queries.length(row), keys.length(row));
                if nq == 0 {
                    return;
                }
                scores.resize(nq * nk, 0.0);
                gradient.resize(nq * nk, 0.0);
                inner.resize(nq, 0.0);
                let range = queries.row(row);
                let elements = range.start * hidden..range.end * hidden;
                let (q, y, g) = (&q[elements.clone()], &y[elements.clone()], &g[elements]);
                let logarithms = &logarithms[range.start * heads..];
                let start = keys.row(row).start * hidden;
                for head in 0..heads {
                    let first = head * size;
                    let q_view = View::strided(&q[first..], nq, size, hidden);
                    let g_view = View::strided(&g[first..], nq, size, hidden);
                    let k_view = View::strided(&k[start + first..], nk, size, hidden);
                    let v_view = View::strided(&v[start + first..], nk, size, hidden);
                    multiply(ViewMut::new(scores, nq, nk), Into::Overwrite, q_view, k_view.t(), root);
                    multiply(ViewMut::new(gradient, nq, nk), Into::Overwrite, g_view, v_view.t(), 1.0);
                    row_products(inner, y, g, hidden, first, size);
                    let block =
                        Block { attention, row, queries: nq, keys: nk, mask: attention.mask(row, head) };
                    softmax_backward(&block, scores, gradient, inner, &logarithms[head..], heads);
                    let (scores, gradient) = (View::new(scores, nq, nk), View::new(gradient, nq, nk));
                    let part = ViewMut::strided(&mut dv[first..], nk, size, hidden);
                    multiply(part, Into::Overwrite, scores.t(), g_view, 1.0);
                    let part = ViewMut::strided(&mut dq[first..], nq, size, hidden);
                    multiply(part, Into::Overwrite, gradient, k_view, root);
                    let part = ViewMut::strided(&mut dk[first..], nk, size, hidden);
                    multiply(part, Into::Overwrite, gradient.t(), q_view, root);
                }
            });
        [dq, dk, dv]
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "attention"
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
        let hidden = l1.dims()[1];
        let (q, k, v) = (chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, chunks::slice(s3, l3)?);
        let (y, logarithms) = self.forward(q, k, v, hidden);
        self.logarithms.get_or_init(|| logarithms);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let hidden = q.dim(1)?;
        let [dq, dk, dv] = chunks::with_values(q, |q| {
            chunks::with_values(k, |k| {
                chunks::with_values(v, |v| {
                    chunks::with_values(y, |y| {
                        chunks::with_values(g, |g| Ok(self.backward(q, k, v, y, g, hidden)))
                    })
                })
            })
        })?;
        Ok((
            Some(Tensor::from_vec(dq, q.shape(), q.device())?),
            Some(Tensor::from_vec(dk, k.shape(), k.device())?),
            Some(Tensor::from_vec(dv, v.shape(), v.device())?),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_gradients, assert_twins, variable};

    fn cases() -> Vec<Attention> {
        let rows = Rows::from_lengths([1, 7, 40, 3, 19]);
        let picked = Queries::Picked {
            rows: Rows::from_lengths([1, 0, 3, 3, 2]),
            places: vec![0, 39, 0, 17, 0, 1, 2, 18, 5].into(),
        };
        let single = (Rows::from_lengths([1]), Queries::All);
        let mut cases = Vec::new();
        for (rows, queries) in [(rows.clone(), Queries::All), (rows, picked), single] {
            for causal in [false, true] {
                for dropout in [None, Some(Dropout { probability: 0.3, key: 5 })] {
                    cases.push(Attention {
                        rows: rows.clone(),
                        queries: queries.clone(),
                        heads: 3,
                        causal,
                        dropout,
                    });
                }
            }
        }
        cases
    }

    #[test]
    fn twins_agree() {
        for attention in cases() {
            let (queries, keys) = (attention.query_rows().tokens(), attention.rows.tokens());
            let v = [variable(1, &[queries, 24]), variable(2, &[keys, 24]), variable(3, &[keys, 24])];
            let name = format!("{attention:?}");
            assert_twins(
                &name,
                &v,
                2e-5,
                |v| attention.fused(&v[0], &v[1], &v[2]),
                |v| attention.plain(&v[0], &v[1], &v[2]),
            );
        }
    }

    #[test]
    fn gradients_are_differences() {
        for attention in cases() {
            let (queries, keys) = (attention.query_rows().tokens(), attention.rows.tokens());
            let v = [variable(1, &[queries, 6]), variable(2, &[keys, 6]), variable(3, &[keys, 6])];
            assert_gradients("attention", &v, 2e-2, 1e-2, |v| attention.fused(&v[0], &v[1], &v[2]));
        }
    }

    #[test]
    fn a_row_means_the_same_alone() {
        let rows = Rows::from_lengths([30, 11]);
        let v: Vec<Tensor> = (0..3).map(|i| variable(i, &[41, 16]).as_detached_tensor()).collect();
        let attend = |rows: Rows, v: &[Tensor]| {
            let attention = Attention { rows, queries: Queries::All, heads: 2, causal: true, dropout: None };
            attention.fused(&v[0], &v[1], &v[2]).unwrap()
        };
        let together = attend(rows, &v).narrow(0, 30, 11).unwrap();
        let alone: Vec<Tensor> =
            v.iter().map(|x| x.narrow(0, 30, 11).unwrap().contiguous().unwrap()).collect();
        let alone = attend(Rows::from_lengths([11]), &alone);
        assert_eq!(together.to_vec2::<f32>().unwrap(), alone.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = variable(1, &[4, 6]);
        let attend = |rows: Rows, queries: Queries, heads: usize| {
            Attention { rows, queries, heads, causal: true, dropout: None }.forward(&x, &x, &x).is_err()
        };
        assert!(attend(Rows::from_lengths([3]), Queries::All, 2));
        assert!(attend(Rows::from_lengths([4]), Queries::All, 4));
        let places = Queries::Picked { rows: Rows::from_lengths([4]), places: vec![0, 1, 2, 4].into() };
        assert!(attend(Rows::from_lengths([4]), places, 2));
    }
}
