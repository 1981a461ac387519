//! NARM's local attention (Li et al. 2017, arXiv 1711.04725): which tokens of a row matter to a state, for every prefix at once.
//!
//! The score of a query and a key is `v . hardsigmoid(query + key)`, no inner product: scores are no matrix product, and each
//! pair costs a pass over the attention's width. Fused, this is two operations, whose backward passes autograd joins. The first
//! yields the probabilities, a `(queries, keys)` matrix for each row; its backward pass needs them and their gradient and
//! computes each pair once more. The second is the weighted sum of the values, a matrix product for each row.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::attention::{self, QueryTokens};
use crate::{
    cpu::{
        apply,
        bias::column_sums,
        chunks,
        lanes::{self, LANES},
        matrix::{Store, View, ViewMut, multiply},
        vectorized,
    },
    rows::Rows,
};

/// The slope of `hardsigmoid(x) = clamp(x / 6 + 1 / 2, 0, 1)` between its bends; at both bends it is taken to be 0.
const SLOPE: f32 = 1.0 / 6.0;

/// Rows that a task of [`additive_attention_step`] takes.
const ROWS: usize = 8;

/// Keys that are scored side by side.
const ABREAST: usize = 4;

/// For a query at place `p` of its row `sum_t softmax_t(v . hardsigmoid(query + key_t)) value_t` over `t = 0..=p`.
///
/// `keys` is `(tokens, width)` and `values` `(tokens, hidden)`, packed as `rows` says; `v` is `(width)`. `queries` says which
/// tokens are query tokens: `query` is `(queries, width)`, one for each, and the result `(queries, hidden)`.
pub fn additive_attention(
    query: &Tensor,
    keys: &Tensor,
    v: &Tensor,
    values: &Tensor,
    rows: &Rows,
    queries: &QueryTokens,
) -> Result<Tensor> {
    let (count, tokens) = (queries.query_rows(rows).tokens(), rows.tokens());
    let width = v.dim(0)?;
    if width == 0
        || query.dims() != [count, width]
        || keys.dims() != [tokens, width]
        || values.dim(0)? != tokens
    {
        bail!(
            "additive attention: query {:?}, keys {:?}, v {:?} and values {:?} do not fit {tokens} tokens and {count} queries",
            query.dims(),
            keys.dims(),
            v.dims(),
            values.dims()
        );
    }
    queries.check(rows)?;
    if crate::fused(keys.device()) {
        fused(query, keys, v, values, rows, queries)
    } else {
        plain(query, keys, v, values, rows, queries)
    }
}

/// [`additive_attention`] of one query a row, `(rows, width)`, over all tokens of its row so far, at least one. Their keys
/// `(tokens, width)` and values `(tokens, hidden)` are given row by row. The same bytes, `(rows, hidden)`; no gradient. On the CPU
/// only.
pub fn additive_attention_step(
    query: &Tensor,
    keys: &[Vec<f32>],
    v: &Tensor,
    values: &[Vec<f32>],
) -> Result<Tensor> {
    let (rows, width) = query.dims2()?;
    let length = |row: usize| keys[row].len() / width;
    if v.dims() != [width] || keys.len() != rows || values.len() != rows {
        bail!(
            "additive attention: query {:?}, keys of {} rows, values of {}",
            query.dims(),
            keys.len(),
            values.len()
        );
    }
    let hidden = values.first().map_or(0, |values| values.len() / length(0).max(1));
    if let Some(row) = (0..rows).find(|&row| length(row) == 0 || values[row].len() != length(row) * hidden) {
        bail!("additive attention: {} keys of row {row} and its values do not fit", length(row));
    }
    let y = chunks::with_values(query, |query| {
        chunks::with_values(v, |v| {
            Ok(chunks::build(rows * hidden, ROWS * hidden, |index, y| {
                let mut rescaled = vec![0.0; width];
                for (row, y) in (index * ROWS..).zip(y.chunks_exact_mut(hidden)) {
                    let mut seen = vec![0.0; length(row)];
                    probabilities(&mut seen, &mut rescaled, &query[row * width..][..width], &keys[row], v);
                    let (seen, values) =
                        (View::new(&seen, 1, length(row)), View::new(&values[row], length(row), hidden));
                    multiply(ViewMut::new(y, 1, hidden), Store::Overwrite, seen, values, 1.0);
                }
            }))
        })
    })?;
    Tensor::from_vec(y, (rows, hidden), query.device())
}

/// Plain twin, row by row: the sums of all queries and keys of a row at once, keys after the query masked. Computes in f32.
pub(crate) fn plain(
    query: &Tensor,
    keys: &Tensor,
    v: &Tensor,
    values: &Tensor,
    rows: &Rows,
    queries: &QueryTokens,
) -> Result<Tensor> {
    let (device, width) = (keys.device(), v.dim(0)?);
    let query_rows = queries.query_rows(rows);
    let v = v.reshape((width, 1))?;
    let of_result = values.dtype();
    let [query, keys, values] = [query, keys, values].map(|x| x.to_dtype(DType::F32));
    let (query, keys, values) = (query?, keys?, values?);
    if query_rows.tokens() == 0 {
        return Tensor::zeros((0, values.dim(1)?), of_result, device);
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(&keys) && rows.longest() <= crate::cuda::MOST_KEYS {
        let attended = crate::cuda::additive_attention::attend(&query, &keys, &v, &values, rows, queries)?;
        return attended.to_dtype(of_result);
    }
    let visible =
        (0..rows.len()).flat_map(|r| (0..query_rows.length(r)).map(move |i| queries.visible(r, i) as u32));
    let unseen = attention::unseen(visible.collect(), rows.longest(), device)?; // (all queries, longest)
    let mut results = Vec::with_capacity(rows.len());
    for r in (0..rows.len()).filter(|&r| query_rows.length(r) > 0) {
        let (nq, nk) = (query_rows.length(r), rows.length(r));
        let query = query.narrow(0, query_rows.row(r).start, nq)?.unsqueeze(1)?;
        let keys = keys.narrow(0, rows.row(r).start, nk)?.unsqueeze(0)?;
        let activated = ((query.broadcast_add(&keys)? * f64::from(SLOPE))? + 0.5)?.clamp(0f32, 1f32)?; // (queries, keys, width)
        let scores = activated.reshape((nq * nk, width))?.matmul(&v)?.reshape((nq, nk))?;
        let scores = (scores + unseen.narrow(0, query_rows.row(r).start, nq)?.narrow(1, 0, nk)?)?;
        let probabilities = candle_nn::ops::softmax(&scores, D::Minus1)?;
        results.push(probabilities.matmul(&values.narrow(0, rows.row(r).start, nk)?.contiguous()?)?);
    }
    Tensor::cat(&results, 0)?.to_dtype(of_result)
}

pub(crate) fn fused(
    query: &Tensor,
    keys: &Tensor,
    v: &Tensor,
    values: &Tensor,
    rows: &Rows,
    queries: &QueryTokens,
) -> Result<Tensor> {
    let layout = PairLayout::new(rows, queries);
    let probabilities = query.contiguous()?.apply_op3(
        &keys.contiguous()?,
        &v.contiguous()?,
        Probabilities(layout.clone()),
    )?;
    probabilities.apply_op2(&values.contiguous()?, WeightedSum(layout))
}

/// Where numbers of pairs lie: a `(queries, keys)` matrix for each row, one after another.
#[derive(Clone)]
struct PairLayout {
    rows: Rows,
    queries: QueryTokens,
    /// Where each row's matrix begins, and the end.
    offsets: Vec<usize>,
}

impl PairLayout {
    fn new(rows: &Rows, queries: &QueryTokens) -> Self {
        let query_rows = queries.query_rows(rows);
        let mut offsets = vec![0];
        offsets.extend((0..rows.len()).scan(0, |end, r| {
            *end += query_rows.length(r) * rows.length(r);
            Some(*end)
        }));
        Self { rows: rows.clone(), queries: queries.clone(), offsets }
    }

    /// Where each row's query tokens lie.
    fn query_rows(&self) -> &Rows {
        self.queries.query_rows(&self.rows)
    }

    /// Number of elements of all matrices.
    fn len(&self) -> usize {
        self.offsets[self.rows.len()]
    }

    /// The matrix of row `r`.
    fn matrix<'a>(&self, values: &'a [f32], r: usize) -> &'a [f32] {
        &values[self.offsets[r]..self.offsets[r + 1]]
    }
}

/// The part of a packed `(tokens, width)` tensor that is row `r`.
fn row_of<'a>(values: &'a [f32], rows: &Rows, r: usize, width: usize) -> &'a [f32] {
    let row = rows.row(r);
    &values[row.start * width..row.end * width]
}

/// `x / 6 + 1 / 2`, of a query: what the hard sigmoid clamps, less the key's share.
#[inline(always)]
fn rescale(x: f32) -> f32 {
    x.mul_add(SLOPE, 0.5)
}

/// `sum += v * hardsigmoid(query + key)` in sixteen columns; the query comes rescaled.
#[inline(always)]
fn add_products(sum: &mut [f32; LANES], v: &[f32; LANES], query: &[f32; LANES], key: &[f32; LANES]) {
    for lane in 0..LANES {
        let x = key[lane].mul_add(SLOPE, query[lane]).clamp(0.0, 1.0);
        sum[lane] = v[lane].mul_add(x, sum[lane]);
    }
}

/// The scores of four keys. Each is the same bytes whatever the others are.
#[inline(always)]
fn score(query: &[f32], keys: [&[f32]; ABREAST], v: &[f32]) -> [f32; ABREAST] {
    let (query, query_tail) = query.as_chunks::<LANES>();
    let (v, v_tail) = v.as_chunks::<LANES>();
    let [(k0, tail0), (k1, tail1), (k2, tail2), (k3, tail3)] = keys.map(<[f32]>::as_chunks::<LANES>);
    // Four sums by name: from an array of sums the compiler makes scalar code.
    let [mut s0, mut s1, mut s2, mut s3] = [[0.0; LANES]; ABREAST];
    for (((((query, v), k0), k1), k2), k3) in query.iter().zip(v).zip(k0).zip(k1).zip(k2).zip(k3) {
        add_products(&mut s0, v, query, k0);
        add_products(&mut s1, v, query, k1);
        add_products(&mut s2, v, query, k2);
        add_products(&mut s3, v, query, k3);
    }
    let mut scores = [0.0; ABREAST];
    for ((score, sum), tail) in scores.iter_mut().zip([s0, s1, s2, s3]).zip([tail0, tail1, tail2, tail3]) {
        for ((&query, &v), &key) in query_tail.iter().zip(v_tail).zip(tail) {
            *score = v.mul_add(key.mul_add(SLOPE, query).clamp(0.0, 1.0), *score);
        }
        *score = lanes::fold(sum, *score);
    }
    scores
}

/// The probabilities of one query over the keys it sees. `rescaled` is room for the rescaled query.
#[apply(vectorized!)]
fn probabilities(seen: &mut [f32], rescaled: &mut [f32], query: &[f32], keys: &[f32], v: &[f32]) {
    for (rescaled, &x) in rescaled.iter_mut().zip(query) {
        *rescaled = rescale(x);
    }
    let (width, last) = (v.len(), seen.len() - 1);
    for (place, scores) in seen.chunks_mut(ABREAST).enumerate() {
        // Where fewer than four are left, the last one is scored several times.
        let mut four = [keys; ABREAST];
        for (j, key) in four.iter_mut().enumerate() {
            *key = &keys[(place * ABREAST + j).min(last) * width..][..width];
        }
        scores.copy_from_slice(&score(rescaled, four, v)[..scores.len()]);
    }
    let most = lanes::max(seen);
    for score in seen.iter_mut() {
        *score = lanes::exp(*score - most);
    }
    let scale = 1.0 / lanes::sum(seen);
    for probability in seen.iter_mut() {
        *probability *= scale;
    }
}

/// The gradient of the scores of one query from its probabilities and their gradient.
#[apply(vectorized!)]
fn softmax_backward(gradient: &mut [f32], probabilities: &[f32], g: &[f32]) {
    let inner = lanes::dot(probabilities, g);
    for ((gradient, &probability), &g) in gradient.iter_mut().zip(probabilities).zip(g) {
        *gradient = probability * (g - inner);
    }
}

/// `g` where the hard sigmoid rises, elsewhere 0; `x` comes rescaled.
#[inline(always)]
fn where_rising(g: f32, x: &[f32; LANES]) -> [f32; LANES] {
    let mut y = [0.0; LANES];
    for lane in 0..LANES {
        y[lane] = if x[lane] > 0.0 && x[lane] < 1.0 { g } else { 0.0 };
    }
    y
}

/// `sum += x` in sixteen columns.
#[inline(always)]
fn add(sum: &mut [f32; LANES], x: &[f32; LANES]) {
    for lane in 0..LANES {
        sum[lane] += x[lane];
    }
}

/// The backward pass of one query, which comes rescaled, in sixteen columns of the attention's width.
///
/// Writes the gradient of the query to `dq` and adds to those of the keys it sees, in `dk`, both still without their factor
/// `v`; adds to the gradient of `v` in `dv`.
#[apply(vectorized!)]
fn pairs_backward(
    query: &[f32; LANES],
    keys: &[[f32; LANES]],
    gradient: &[f32],
    dq: &mut [f32; LANES],
    dk: &mut [[f32; LANES]],
    dv: &mut [f32; LANES],
) {
    let (query, mut query_sum, mut v_sum) = (*query, [0.0; LANES], *dv);
    for ((key, dk), &g) in keys.iter().zip(dk).zip(gradient) {
        let mut x = [0.0; LANES];
        for lane in 0..LANES {
            x[lane] = key[lane].mul_add(SLOPE, query[lane]);
        }
        let share = where_rising(g, &x);
        add(&mut query_sum, &share);
        add(dk, &share);
        for lane in 0..LANES {
            v_sum[lane] = g.mul_add(x[lane].clamp(0.0, 1.0), v_sum[lane]);
        }
    }
    (*dq, *dv) = (query_sum, v_sum);
}

/// Copies sixteen columns of the keys of a row, from `first` on, or as many as are left and zeros.
#[inline(always)]
fn copy_columns(panel: &mut [[f32; LANES]], x: &[f32], width: usize, first: usize) {
    let count = LANES.min(width - first);
    for (lanes, x) in panel.iter_mut().zip(x.chunks_exact(width)) {
        *lanes = [0.0; LANES];
        lanes[..count].copy_from_slice(&x[first..first + count]);
    }
}

/// What the backward pass over one row reads.
struct RowPairs<'a> {
    query: &'a [f32],
    keys: &'a [f32],
    v: &'a [f32],
    /// Gradient of the scores, `(queries, keys)`.
    gradient: &'a [f32],
    /// How many keys each query sees.
    visible: &'a [usize],
}

/// The backward pass over all pairs of a row, sixteen columns at a time, so that keys and their gradients stay in the first cache.
#[apply(vectorized!)]
fn row_backward(pairs: &RowPairs<'_>, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
    let width = pairs.v.len();
    let nk = pairs.keys.len() / width;
    let (mut keys, mut dk_panel) = (vec![[0.0; LANES]; nk], vec![[0.0; LANES]; nk]);
    for first in (0..width).step_by(LANES) {
        let count = LANES.min(width - first);
        let v = &pairs.v[first..first + count];
        copy_columns(&mut keys, pairs.keys, width, first);
        dk_panel.fill([0.0; LANES]);
        let mut dv_lanes = [0.0; LANES];
        for (i, &visible) in pairs.visible.iter().enumerate() {
            let (mut query, mut query_gradient) = ([0.0; LANES], [0.0; LANES]);
            for (lane, &x) in query.iter_mut().zip(&pairs.query[i * width + first..][..count]) {
                *lane = rescale(x);
            }
            let gradient = &pairs.gradient[i * nk..][..visible];
            pairs_backward(&query, &keys, gradient, &mut query_gradient, &mut dk_panel, &mut dv_lanes);
            for ((dq, lane), v) in dq[i * width + first..].iter_mut().zip(query_gradient).zip(v) {
                *dq = lane * (v * SLOPE);
            }
        }
        for (dk, lanes) in dk.chunks_exact_mut(width).zip(&dk_panel) {
            for ((dk, lane), v) in dk[first..].iter_mut().zip(lanes).zip(v) {
                *dk = lane * (v * SLOPE);
            }
        }
        dv[first..first + count].copy_from_slice(&dv_lanes[..count]);
    }
}

/// The probabilities, from query, keys and `v`.
struct Probabilities(PairLayout);

impl Probabilities {
    fn forward(&self, query: &[f32], keys: &[f32], v: &[f32]) -> Vec<f32> {
        let PairLayout { rows, queries, offsets } = &self.0;
        let (query_rows, width) = (self.0.query_rows(), v.len());
        let mut y = vec![0.0; self.0.len()];
        chunks::split(&mut y, offsets, 1).into_par_iter().with_max_len(1).enumerate().for_each(|(r, y)| {
            let keys = row_of(keys, rows, r, width);
            let mut rescaled = vec![0.0; width];
            let query = row_of(query, query_rows, r, width).chunks_exact(width);
            for (i, (y, query)) in y.chunks_exact_mut(rows.length(r).max(1)).zip(query).enumerate() {
                probabilities(&mut y[..queries.visible(r, i)], &mut rescaled, query, keys, v);
            }
        });
        y
    }

    /// Gradients of query, keys and `v` from the probabilities `y` and their gradient `g`.
    fn backward(&self, query: &[f32], keys: &[f32], v: &[f32], y: &[f32], g: &[f32]) -> [Vec<f32>; 3] {
        let PairLayout { rows, queries, .. } = &self.0;
        let (query_rows, width) = (self.0.query_rows(), v.len());
        let (mut dq, mut dk) = (vec![0.0; query.len()], vec![0.0; keys.len()]);
        let mut dv_parts = vec![0.0; rows.len() * width];
        chunks::split(&mut dq, query_rows.offsets(), width)
            .into_par_iter()
            .zip(chunks::split(&mut dk, rows.offsets(), width))
            .zip(dv_parts.par_chunks_exact_mut(width))
            .with_max_len(1)
            .enumerate()
            .for_each(|(r, ((dq, dk), dv))| {
                let nk = rows.length(r);
                let (y, g) = (self.0.matrix(y, r), self.0.matrix(g, r));
                let mut gradient = vec![0.0; y.len()];
                let visible: Vec<usize> = (0..query_rows.length(r)).map(|i| queries.visible(r, i)).collect();
                for (i, &visible) in visible.iter().enumerate() {
                    let seen = i * nk..i * nk + visible;
                    softmax_backward(&mut gradient[seen.clone()], &y[seen.clone()], &g[seen]);
                }
                let (query, keys) = (row_of(query, query_rows, r, width), row_of(keys, rows, r, width));
                let pairs = RowPairs { query, keys, v, gradient: &gradient, visible: &visible };
                row_backward(&pairs, dq, dk, dv);
            });
        let mut dv = vec![0.0; width];
        column_sums(&mut dv, &dv_parts);
        [dq, dk, dv]
    }
}

impl CustomOp3 for Probabilities {
    fn name(&self) -> &'static str {
        "additive attention, probabilities"
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
        let y = self.forward(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, chunks::slice(s3, l3)?);
        Ok((CpuStorage::F32(y), self.0.len().into()))
    }

    fn bwd(
        &self,
        query: &Tensor,
        keys: &Tensor,
        v: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dq, dk, dv] = chunks::with_values(query, |query| {
            chunks::with_values(keys, |keys| {
                chunks::with_values(v, |v| {
                    chunks::with_values(y, |y| {
                        chunks::with_values(g, |g| Ok(self.backward(query, keys, v, y, g)))
                    })
                })
            })
        })?;
        Ok((
            Some(Tensor::from_vec(dq, query.shape(), query.device())?),
            Some(Tensor::from_vec(dk, keys.shape(), keys.device())?),
            Some(Tensor::from_vec(dv, v.shape(), v.device())?),
        ))
    }
}

/// The weighted sums, from probabilities and values.
struct WeightedSum(PairLayout);

impl WeightedSum {
    fn forward(&self, probabilities: &[f32], values: &[f32], hidden: usize) -> Vec<f32> {
        let (rows, query_rows) = (&self.0.rows, self.0.query_rows());
        let mut y = vec![0.0; query_rows.tokens() * hidden];
        chunks::split(&mut y, query_rows.offsets(), hidden)
            .into_par_iter()
            .with_max_len(1)
            .enumerate()
            .for_each(|(r, y)| {
                let (nq, nk) = (query_rows.length(r), rows.length(r));
                multiply(
                    ViewMut::new(y, nq, hidden),
                    Store::Overwrite,
                    View::new(self.0.matrix(probabilities, r), nq, nk),
                    View::new(row_of(values, rows, r, hidden), nk, hidden),
                    1.0,
                );
            });
        y
    }

    /// Gradients of the probabilities and of the values. Those of keys that a query does not see are computed too, and not read.
    fn backward(&self, probabilities: &[f32], values: &[f32], g: &[f32], hidden: usize) -> [Vec<f32>; 2] {
        let (rows, query_rows) = (&self.0.rows, self.0.query_rows());
        let (mut dp, mut dv) = (vec![0.0; probabilities.len()], vec![0.0; values.len()]);
        chunks::split(&mut dp, &self.0.offsets, 1)
            .into_par_iter()
            .zip(chunks::split(&mut dv, rows.offsets(), hidden))
            .with_max_len(1)
            .enumerate()
            .for_each(|(r, (dp, dv))| {
                let (nq, nk) = (query_rows.length(r), rows.length(r));
                let g = View::new(row_of(g, query_rows, r, hidden), nq, hidden);
                let values = View::new(row_of(values, rows, r, hidden), nk, hidden);
                let probabilities = View::new(self.0.matrix(probabilities, r), nq, nk);
                multiply(ViewMut::new(dp, nq, nk), Store::Overwrite, g, values.t(), 1.0);
                multiply(ViewMut::new(dv, nk, hidden), Store::Overwrite, probabilities.t(), g, 1.0);
            });
        [dp, dv]
    }
}

impl CustomOp2 for WeightedSum {
    fn name(&self) -> &'static str {
        "additive attention, weighted sum"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let hidden = l2.dims()[1];
        let y = self.forward(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?, hidden);
        Ok((CpuStorage::F32(y), (self.0.query_rows().tokens(), hidden).into()))
    }

    fn bwd(
        &self,
        probabilities: &Tensor,
        values: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let hidden = values.dim(1)?;
        chunks::both_gradients([probabilities, values], g, |probabilities, values, g| {
            self.backward(probabilities, values, g, hidden)
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::testing::{assert_gradients, assert_twins, values, variable};

    fn cases() -> Vec<(Rows, QueryTokens)> {
        let rows = Rows::from_lengths([1, 7, 40, 3, 19]);
        let picked = QueryTokens::Picked {
            rows: Rows::from_lengths([1, 0, 3, 3, 2]),
            places: vec![0, 39, 0, 17, 0, 1, 2, 18, 5].into(),
        };
        let single = QueryTokens::Picked { rows: Rows::from_lengths([1]), places: vec![4].into() };
        vec![
            (rows.clone(), QueryTokens::All),
            (rows, picked),
            (Rows::from_lengths([1]), QueryTokens::All),
            (Rows::from_lengths([5]), single),
        ]
    }

    /// Query, keys, v and values; sums reach beyond both bends of the hard sigmoid.
    fn inputs(rows: &Rows, queries: &QueryTokens, width: usize, hidden: usize) -> [Var; 4] {
        let far = |seed, count| {
            let x = (variable(seed, &[count, width]).as_tensor() * 4.0).unwrap();
            Var::from_tensor(&x).unwrap()
        };
        [
            far(1, queries.query_rows(rows).tokens()),
            far(2, rows.tokens()),
            variable(3, &[width]),
            variable(4, &[rows.tokens(), hidden]),
        ]
    }

    #[test]
    fn twins_agree() {
        for (rows, queries) in cases() {
            for (width, hidden) in [(1, 3), (16, 8), (37, 20)] {
                assert_twins(
                    &format!("additive attention {queries:?} {width}"),
                    &inputs(&rows, &queries, width, hidden),
                    3e-5,
                    |v| fused(&v[0], &v[1], &v[2], &v[3], &rows, &queries),
                    |v| plain(&v[0], &v[1], &v[2], &v[3], &rows, &queries),
                );
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        for (rows, queries) in cases() {
            // Within the bends: across one, a difference is not the slope.
            let v = inputs(&rows, &queries, 5, 4)
                .map(|v| Var::from_tensor(&(v.as_tensor() * 0.3).unwrap()).unwrap());
            assert_gradients("additive attention", &v, 2e-2, 1e-2, |v| {
                fused(&v[0], &v[1], &v[2], &v[3], &rows, &queries)
            });
        }
    }

    #[test]
    fn the_slope_is_zero_at_and_beyond_the_bends() {
        let rows = Rows::from_lengths([3]);
        let last = QueryTokens::Picked { rows: Rows::from_lengths([1]), places: vec![2].into() };
        let device = &Device::Cpu;
        let query = Var::new(&[[1f32]], device).unwrap();
        // Sums -3, 3 and 4: hard sigmoids 0, 1 and 1.
        let keys = Var::new(&[[-4f32], [2.0], [3.0]], device).unwrap();
        let v = Var::new(&[std::f32::consts::LN_2], device).unwrap();
        let x = Tensor::new(&[[5f32], [0.0], [0.0]], device).unwrap();
        // Odds 1 : 2 : 2.
        let y = fused(&query, &keys, &v, &x, &rows, &last).unwrap();
        assert!((values(&y)[0] - 1.0).abs() < 1e-6, "{y}");
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(values(grads.get(&query).unwrap()), [0.0]);
        assert_eq!(values(grads.get(&keys).unwrap()), [0.0; 3]);
        // d/dv of 5 / (1 + 2 e^v) is -10 e^v / (1 + 2 e^v)^2 = -20 / 25.
        assert!((values(grads.get(&v).unwrap())[0] + 0.8).abs() < 1e-6);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let rows = Rows::from_lengths([2, 2]);
        let [query, keys, v, x] = inputs(&rows, &QueryTokens::All, 6, 4);
        let attend =
            |rows: Rows, queries: QueryTokens| additive_attention(&query, &keys, &v, &x, &rows, &queries);
        assert!(attend(rows.clone(), QueryTokens::All).is_ok());
        assert!(attend(Rows::from_lengths([3]), QueryTokens::All).is_err(), "tokens");
        let picked = |places: [u32; 4]| QueryTokens::Picked { rows: rows.clone(), places: places.into() };
        assert!(attend(rows.clone(), picked([0, 1, 1, 0])).is_ok());
        assert!(attend(rows.clone(), picked([0, 1, 2, 0])).is_err(), "place");
        let wide = variable(3, &[7]);
        assert!(additive_attention(&query, &keys, &wide, &x, &rows, &QueryTokens::All).is_err(), "width");
    }
}
