//! The self-attention sublayer of both transformers as one operation:
//! `norm(q + drop(output(attention(query(q), key(x), value(x)))))`, where `q` are the query tokens, all tokens of `x` or some of
//! them. SASRec normalises the query tokens first, and has no output map.
//!
//! Fused, a task takes a few rows of the batch through all of it. Queries, keys, values and scores exist while the task works
//! on its rows, in its core's cache, and the backward pass computes them again. Kept are the results of the attention and of the
//! output map, and the logarithms of the softmax. The plain twin is the chain of the plain operations. Rows of a single query each
//! need no keys and values: [`single_query`].

mod single_query;

use std::{borrow::Cow, ops::Range, sync::OnceLock};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use self::single_query::Maps;
use super::{
    attention::{Attention, Columns, KeyValueCache, QueryTokens, Scratch, Strided, attend_one},
    dropout::{self, Dropout, Mask},
    embedding, linear, norm,
};
use crate::cpu::{
    bias::column_sums,
    chunks::{self, TOKENS, add},
    matrix::{Store, View, ViewMut, multiply, multiply_parallel},
    panels::transposed,
};

/// Fewest rows that a task of [`SelfAttention::extend`] takes.
const ROWS: usize = 8;

/// A self-attention sublayer. Linear maps are `(out, in)` weights with biases `(out)`, norms two tensors `(hidden)`.
#[derive(Clone, Debug)]
pub struct SelfAttention<'a> {
    /// Which tokens are query tokens, and which tokens each of them sees.
    pub attention: Attention,
    /// A norm of the query tokens, before anything else.
    pub query_norm: Option<(&'a Tensor, &'a Tensor)>,
    /// The map of the query tokens to queries.
    pub query: (&'a Tensor, &'a Tensor),
    /// The map of all tokens to keys.
    pub key: (&'a Tensor, &'a Tensor),
    /// The map of all tokens to values.
    pub value: (&'a Tensor, &'a Tensor),
    /// The map of the attention's results.
    pub output: Option<(&'a Tensor, &'a Tensor)>,
    /// Dropout on its result, `(queries, hidden)`, before the residual sum.
    pub dropout: Option<Dropout>,
    /// The norm of the sum.
    pub norm: (&'a Tensor, &'a Tensor),
}

impl SelfAttention<'_> {
    /// `x` `(tokens, hidden)` to `(queries, hidden)`; `hidden` must be at least 2.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, hidden) = x.dims2()?;
        self.attention.check(tokens, hidden)?;
        self.check(hidden)?;
        if let Some(dropout) = self.dropout {
            dropout.check(self.attention.query_rows().tokens() * hidden)?;
        }
        if crate::fused(x.device()) { self.fused(x) } else { self.plain(x) }
    }

    /// Checks that the parameters fit tokens of width `hidden`.
    fn check(&self, hidden: usize) -> Result<()> {
        let maps = [Some(self.query), Some(self.key), Some(self.value), self.output];
        for (weight, bias) in maps.into_iter().flatten() {
            if weight.dims() != [hidden, hidden] || bias.dims() != [hidden] {
                bail!("self-attention: hidden {hidden}, weight {:?}, bias {:?}", weight.dims(), bias.dims());
            }
        }
        for (weight, bias) in [self.query_norm, Some(self.norm)].into_iter().flatten() {
            if hidden < 2 || weight.dims() != [hidden] || bias.dims() != [hidden] {
                bail!("self-attention: hidden {hidden}, norm {:?}, {:?}", weight.dims(), bias.dims());
            }
        }
        let heads = self.attention.heads;
        if heads == 0 || !hidden.is_multiple_of(heads) {
            bail!("self-attention: {heads} heads do not divide hidden {hidden}");
        }
        Ok(())
    }

    /// Plain twin.
    pub(crate) fn plain(&self, x: &Tensor) -> Result<Tensor> {
        let map = |x: &Tensor, (weight, bias): (&Tensor, &Tensor)| linear::plain(x, weight, Some(bias));
        let query_tokens = match self.attention.queries.indices(&self.attention.rows) {
            Some(indices) => {
                let count = indices.len();
                embedding::plain(x, &Tensor::from_vec(indices, count, x.device())?)?
            }
            None => x.clone(),
        };
        let query_tokens = match self.query_norm {
            Some((weight, bias)) => norm::plain(&query_tokens, None, None, weight, bias)?,
            None => query_tokens,
        };
        let (q, k, v) = (map(&query_tokens, self.query)?, map(x, self.key)?, map(x, self.value)?);
        let attended = self.attention.plain(&q, &k, &v)?;
        let narrow = match self.output {
            Some(output) => map(&attended, output)?,
            None => attended,
        };
        norm::plain(&narrow, Some(&query_tokens), self.dropout, self.norm.0, self.norm.1)
    }

    pub(crate) fn fused(&self, x: &Tensor) -> Result<Tensor> {
        let (op, parameters) = self.operation(x)?;
        x.contiguous()?.apply_op2(&parameters, op)
    }

    /// The operation, and its parameters in one tensor: a custom operation takes three arguments at most, and these are
    /// short beside the tokens.
    fn operation(&self, x: &Tensor) -> Result<(Fused, Tensor)> {
        let (query, key, value) = (self.query, self.key, self.value);
        let projections = [query.0, key.0, value.0, query.1, key.1, value.1];
        let others = [self.output, self.query_norm, Some(self.norm)];
        let others = others.into_iter().flatten().flat_map(|(weight, bias)| [weight, bias]);
        let parameters =
            projections.into_iter().chain(others).map(Tensor::flatten_all).collect::<Result<Vec<_>>>()?;
        let parameters = Tensor::cat(&parameters, 0)?;
        let op = Fused {
            single_query: self.attention.is_single_query(),
            attention: self.attention.clone(),
            layout: ParameterLayout::new(x.dim(1)?, self.output.is_some(), self.query_norm.is_some()),
            mask: self.dropout.and_then(|dropout| dropout.mask(0)),
            tracked: x.track_op() || parameters.track_op(),
            kept: OnceLock::new(),
        };
        Ok((op, parameters))
    }

    /// The results for one more token of each row, `(rows, hidden)`, from these tokens `x` `(rows, hidden)` and the cache of each
    /// row. A token is added to its cache and attends to all tokens there. The bytes are those of [`SelfAttention::forward`] over
    /// whole rows; no dropout, no gradient, on the CPU only. Of the attention's settings, only the number of heads counts.
    pub fn extend(&self, x: &Tensor, caches: &mut [KeyValueCache]) -> Result<Tensor> {
        let (rows, hidden) = x.dims2()?;
        self.check(hidden)?;
        if rows != caches.len() {
            bail!("self-attention: {rows} new tokens, {} caches", caches.len());
        }
        let (op, parameters) = self.operation(x)?;
        let y = chunks::with_values(x, |x| {
            chunks::with_values(&parameters, |parameters| Ok(op.extend(x, parameters, caches)))
        })?;
        Tensor::from_vec(y, (rows, hidden), x.device())
    }
}

/// Where each parameter lies in the one tensor of all.
#[derive(Clone, Debug)]
struct ParameterLayout {
    hidden: usize,
    /// `(hidden, hidden)`
    query: Range<usize>,
    /// Key above value, `(2 hidden, hidden)`.
    key_value: Range<usize>,
    query_bias: Range<usize>,
    key_value_bias: Range<usize>,
    /// `(hidden, hidden)`, or empty.
    output: Range<usize>,
    output_bias: Range<usize>,
    /// Weight, then bias; or empty.
    query_norm: Range<usize>,
    norm: Range<usize>,
}

impl ParameterLayout {
    fn new(hidden: usize, has_output: bool, has_query_norm: bool) -> Self {
        let mut end = 0;
        let mut next = |length: usize| {
            end += length;
            end - length..end
        };
        let square = hidden * hidden;
        let (output, query_norm) = (usize::from(has_output), 2 * usize::from(has_query_norm));
        Self {
            hidden,
            query: next(square),
            key_value: next(2 * square),
            query_bias: next(hidden),
            key_value_bias: next(2 * hidden),
            output: next(output * square),
            output_bias: next(output * hidden),
            query_norm: next(query_norm * hidden),
            norm: next(2 * hidden),
        }
    }
}

/// The weights, transposed once for all tasks.
struct Transposed {
    /// `(hidden, hidden)`
    query: Vec<f32>,
    /// `(hidden, 2 hidden)`
    key_value: Vec<f32>,
    /// `(hidden, hidden)`
    output: Vec<f32>,
}

/// The rows of the batch that one task takes, and their tokens and query tokens.
#[derive(Clone, Debug)]
struct Group {
    rows: Range<usize>,
    tokens: Range<usize>,
    queries: Range<usize>,
    /// Whether it is the only one: then its own work is shared out, head by head and product by product.
    alone: bool,
}

impl Group {
    /// How it multiplies.
    fn multiply(&self) -> Multiply {
        if self.alone { multiply_parallel } else { multiply }
    }
}

/// What is kept of a group for the backward pass.
struct Kept {
    /// Results of the attention, `(queries, hidden)`.
    attended: Vec<f32>,
    /// Results of the output map, `(queries, hidden)`; empty without one.
    narrow: Vec<f32>,
    /// `(queries, heads)`
    logarithms: Vec<f32>,
}

/// The query tokens of a group, and the projections of its tokens.
struct Projected<'a> {
    /// The query tokens as they are in x, `(queries, hidden)`.
    picked: Cow<'a, [f32]>,
    /// The same after their norm; empty without one.
    normed: Vec<f32>,
    /// `(queries, hidden)`
    query: Vec<f32>,
    /// Keys and values side by side, `(tokens, 2 hidden)`; empty where each row has a single query.
    key_value: Vec<f32>,
}

impl Projected<'_> {
    /// The query tokens, normalised where there is a norm.
    fn query_tokens(&self) -> &[f32] {
        if self.normed.is_empty() { &self.picked } else { &self.normed }
    }
}

/// One call of [`SelfAttention::forward`].
struct Fused {
    attention: Attention,
    layout: ParameterLayout,
    mask: Option<Mask>,
    /// Whether every row has a single query, so that keys and values are not needed.
    single_query: bool,
    /// Whether there may be a backward pass.
    tracked: bool,
    kept: OnceLock<Vec<Kept>>,
}

/// A matrix product: on this thread ([`multiply`]) or on all ([`multiply_parallel`]), the same bytes.
type Multiply = fn(ViewMut<'_>, Store, View<'_>, View<'_>, f32);

/// `x W^T + b`, `(rows, out)`, of `x` `(rows, hidden)` and the transposed weight `(hidden, out)`.
fn map(x: &[f32], transposed: &[f32], bias: &[f32], hidden: usize, multiply: Multiply) -> Vec<f32> {
    let (rows, columns) = (x.len() / hidden, bias.len());
    let mut y = bias.repeat(rows);
    let (x, weight) = (View::new(x, rows, hidden), View::new(transposed, hidden, columns));
    multiply(ViewMut::new(&mut y, rows, columns), Store::Add, x, weight, 1.0);
    y
}

/// The backward pass of [`map`]: adds to the gradients of weight and bias, and stores that of `x` as told.
fn map_backward(
    (x, weight, g): (&[f32], &[f32], &[f32]),
    (d_weight, d_bias): (&mut [f32], &mut [f32]),
    (dx, store): (&mut [f32], Store),
    hidden: usize,
    multiply: Multiply,
) {
    let (rows, columns) = (x.len() / hidden, d_bias.len());
    column_sums(d_bias, g);
    let (x, g) = (View::new(x, rows, hidden), View::new(g, rows, columns));
    multiply(ViewMut::new(d_weight, columns, hidden), Store::Add, g.t(), x, 1.0);
    multiply(ViewMut::new(dx, rows, hidden), store, g, View::new(weight, columns, hidden), 1.0);
}

impl Fused {
    /// Whole rows, together about as many tokens as a chunk has.
    fn groups(&self) -> Vec<Group> {
        let (keys, queries) = (&self.attention.rows, self.attention.query_rows());
        let mut groups = Vec::new();
        let mut first = 0;
        for row in 0..keys.len() {
            let tokens = keys.row(first).start..keys.row(row).end;
            if tokens.len() >= TOKENS || row + 1 == keys.len() {
                let queries = queries.row(first).start..queries.row(row).end;
                groups.push(Group { rows: first..row + 1, tokens, queries, alone: false });
                first = row + 1;
            }
        }
        if let [group] = &mut groups[..] {
            group.alone = true;
        }
        groups
    }

    fn transposed(&self, parameters: &[f32]) -> Transposed {
        let layout = &self.layout;
        let transposed = |range: &Range<usize>| transposed(&parameters[range.clone()], layout.hidden);
        Transposed {
            query: transposed(&layout.query),
            key_value: transposed(&layout.key_value),
            output: transposed(&layout.output),
        }
    }

    /// The query tokens, queries, keys and values of a group whose tokens are `x`.
    fn project<'a>(
        &self,
        group: &Group,
        x: &'a [f32],
        parameters: &[f32],
        transposed: &Transposed,
    ) -> Projected<'a> {
        let (layout, hidden) = (&self.layout, self.layout.hidden);
        let picked = match &self.attention.queries {
            QueryTokens::All => Cow::Borrowed(x),
            QueryTokens::Picked { .. } => {
                let rows = self.query_indices(group).flat_map(|token| &x[token * hidden..][..hidden]);
                Cow::Owned(rows.copied().collect())
            }
        };
        let normed = match self.normed(&picked, parameters) {
            Cow::Owned(normed) => normed,
            Cow::Borrowed(_) => Vec::new(),
        };
        let query_tokens: &[f32] = if normed.is_empty() { &picked } else { &normed };
        let (query_bias, key_value_bias) = (layout.query_bias.clone(), layout.key_value_bias.clone());
        let multiply = group.multiply();
        let query = map(query_tokens, &transposed.query, &parameters[query_bias], hidden, multiply);
        let key_value = if self.single_query {
            Vec::new()
        } else {
            map(x, &transposed.key_value, &parameters[key_value_bias], hidden, multiply)
        };
        Projected { picked, normed, query, key_value }
    }

    /// The maps of tokens to keys and values.
    fn maps<'a>(&self, parameters: &'a [f32]) -> Maps<'a> {
        let (key, value) = parameters[self.layout.key_value.clone()].split_at(self.layout.hidden.pow(2));
        let value_bias = &parameters[self.layout.key_value_bias.clone()][self.layout.hidden..];
        Maps { key, value, value_bias }
    }

    /// The indices of a group's query tokens, counted from its first token.
    fn query_indices<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = usize> + 'a {
        group.rows.clone().flat_map(move |row| {
            let start = self.attention.rows.row(row).start - group.tokens.start;
            self.attention.queries.places(&self.attention.rows, row).map(move |place| start + place)
        })
    }

    /// The tokens of one row of a group, counted from the group's first.
    fn token_range(&self, group: &Group, row: usize) -> Range<usize> {
        let range = self.attention.rows.row(row);
        range.start - group.tokens.start..range.end - group.tokens.start
    }

    /// The queries, keys and values of one row of a group.
    fn row<'a>(&self, group: &Group, row: usize, projected: &'a Projected<'_>) -> [Strided<'a>; 3] {
        let hidden = self.layout.hidden;
        let query = (self.attention.query_rows().row(row).start - group.queries.start) * hidden;
        let key = self.token_range(group, row).start * 2 * hidden;
        let strided = |values, stride| Strided { values, stride };
        [
            strided(&projected.query[query..], hidden),
            strided(&projected.key_value[key..], 2 * hidden),
            strided(&projected.key_value[key + hidden..], 2 * hidden),
        ]
    }

    /// The queries of one row of a group, counted from the group's first.
    fn query_range(&self, group: &Group, row: usize) -> Range<usize> {
        let range = self.attention.query_rows().row(row);
        range.start - group.queries.start..range.end - group.queries.start
    }

    fn run(&self, x: &[f32], parameters: &[f32]) -> (Vec<f32>, Vec<Kept>) {
        let (layout, hidden) = (&self.layout, self.layout.hidden);
        let transposed = self.transposed(parameters);
        let groups = self.groups();
        chunks::build_parts(&ends(&groups, |group| &group.queries), hidden, |scratch, index, y| {
            let group = &groups[index];
            let x = &x[group.tokens.start * hidden..group.tokens.end * hidden];
            let projected = self.project(group, x, parameters, &transposed);
            let (attended, logarithms) = if self.single_query {
                self.attend_single(group, &projected.query, x, &self.maps(parameters))
            } else {
                self.attend(group, &projected, scratch)
            };
            let mut narrow = Vec::new();
            if !layout.output.is_empty() {
                let bias = &parameters[layout.output_bias.clone()];
                narrow = map(&attended, &transposed.output, bias, hidden, group.multiply());
            }
            let sum = if narrow.is_empty() { &attended } else { &narrow };
            let start = group.queries.start * hidden;
            let norm = &parameters[layout.norm.clone()];
            norm::forward(y, sum, Some(projected.query_tokens()), self.mask, norm, start);
            Kept { attended, narrow, logarithms }
        })
    }

    /// The results of a group's attention `(queries, hidden)`, and the logarithms `(queries, heads)`.
    fn attend(
        &self,
        group: &Group,
        projected: &Projected<'_>,
        scratch: &mut Scratch,
    ) -> (Vec<f32>, Vec<f32>) {
        let (hidden, heads) = (self.layout.hidden, self.attention.heads);
        let (size, queries) = (hidden / heads, group.queries.len());
        let attend = |head, to: Columns, y: &mut [f32], logarithms: &mut [f32], scratch: &mut Scratch| {
            for row in group.rows.clone() {
                let first = self.query_range(group, row).start;
                let to_row = (&mut y[first * to.width..], &mut logarithms[first * to.width / size..]);
                self.attention.attend((row, head), self.row(group, row, projected), to, to_row, scratch);
            }
        };
        let (mut y, mut logarithms) = (vec![0.0; queries * hidden], vec![0.0; queries * heads]);
        if group.alone {
            let own = Columns { width: size, first: 0, size };
            let of_heads = (0..heads).into_par_iter().map(|head| {
                let (mut y, mut logarithms) = (vec![0.0; queries * size], vec![0.0; queries]);
                attend(head, own, &mut y, &mut logarithms, &mut Scratch::default());
                (y, logarithms)
            });
            for (head, (of_head, logarithms_of_head)) in of_heads.collect::<Vec<_>>().iter().enumerate() {
                lay_beside(&mut y, hidden, head * size, of_head, size);
                lay_beside(&mut logarithms, heads, head, logarithms_of_head, 1);
            }
        } else {
            for head in 0..heads {
                let to = Columns { width: hidden, first: head * size, size };
                attend(head, to, &mut y, &mut logarithms, scratch);
            }
        }
        (y, logarithms)
    }

    /// The backward pass of [`Fused::attend`], from the gradient of its results: the gradients of the group's queries `(queries, hidden)`,
    /// and of its keys and values `(tokens, 2 hidden)`.
    fn attend_backward(
        &self,
        group: &Group,
        projected: &Projected<'_>,
        (kept, g): (&Kept, &[f32]),
        scratch: &mut Scratch,
    ) -> (Vec<f32>, Vec<f32>) {
        let (hidden, heads) = (self.layout.hidden, self.attention.heads);
        let (size, queries, tokens) = (hidden / heads, group.queries.len(), group.tokens.len());
        let attend_backward = |head, to: Columns, dq: &mut [f32], dkv: &mut [f32], scratch: &mut Scratch| {
            for row in group.rows.clone() {
                let range = self.query_range(group, row);
                let elements = range.start * hidden..range.end * hidden;
                let key = self.token_range(group, row).start;
                self.attention.attend_backward(
                    (row, head),
                    self.row(group, row, projected),
                    (
                        &kept.attended[elements.clone()],
                        &kept.logarithms[range.start * heads..range.end * heads],
                        &g[elements],
                    ),
                    to,
                    (&mut dq[range.start * to.width..], &mut dkv[key * 2 * to.width..]),
                    scratch,
                );
            }
        };
        let (mut dq, mut dkv) = (vec![0.0; queries * hidden], vec![0.0; tokens * 2 * hidden]);
        if group.alone {
            let own = Columns { width: size, first: 0, size };
            let of_heads = (0..heads).into_par_iter().map(|head| {
                let (mut dq, mut dkv) = (vec![0.0; queries * size], vec![0.0; tokens * 2 * size]);
                attend_backward(head, own, &mut dq, &mut dkv, &mut Scratch::default());
                (dq, dkv)
            });
            for (head, (dq_of_head, dkv_of_head)) in of_heads.collect::<Vec<_>>().iter().enumerate() {
                lay_beside(&mut dq, hidden, head * size, dq_of_head, size);
                // Keys and values, each as wide as the queries.
                lay_beside(&mut dkv, hidden, head * size, dkv_of_head, size);
            }
        } else {
            for head in 0..heads {
                let to = Columns { width: hidden, first: head * size, size };
                attend_backward(head, to, &mut dq, &mut dkv, scratch);
            }
        }
        (dq, dkv)
    }

    /// The query tokens `x` after their norm, if there is one.
    fn normed<'a>(&self, x: &'a [f32], parameters: &[f32]) -> Cow<'a, [f32]> {
        if self.layout.query_norm.is_empty() {
            return Cow::Borrowed(x);
        }
        let mut normed = vec![0.0; x.len()];
        norm::forward(&mut normed, x, None, None, &parameters[self.layout.query_norm.clone()], 0);
        Cow::Owned(normed)
    }

    /// See [`SelfAttention::extend`].
    fn extend(&self, x: &[f32], parameters: &[f32], caches: &mut [KeyValueCache]) -> Vec<f32> {
        let (layout, hidden) = (&self.layout, self.layout.hidden);
        let transposed = self.transposed(parameters);
        let query_tokens = self.normed(x, parameters);
        let (query_bias, key_value_bias) = (layout.query_bias.clone(), layout.key_value_bias.clone());
        let query = map(&query_tokens, &transposed.query, &parameters[query_bias], hidden, multiply);
        let key_value = map(x, &transposed.key_value, &parameters[key_value_bias], hidden, multiply);
        let mut attended = vec![0.0; x.len()];
        attended
            .par_chunks_exact_mut(hidden)
            .zip(caches.par_iter_mut())
            .zip(query.par_chunks_exact(hidden).zip(key_value.par_chunks_exact(2 * hidden)))
            .with_min_len(ROWS)
            .for_each_init(Scratch::default, |scratch, ((attended, cache), (query, key_value))| {
                let (key, value) = key_value.split_at(hidden);
                cache.push(key, value);
                attend_one(self.attention.heads, query, cache, attended, scratch);
            });
        let sum = if layout.output.is_empty() {
            attended
        } else {
            map(&attended, &transposed.output, &parameters[layout.output_bias.clone()], hidden, multiply)
        };
        let mut y = vec![0.0; x.len()];
        norm::forward(&mut y, &sum, Some(&query_tokens), None, &parameters[layout.norm.clone()], 0);
        y
    }

    /// Gradients of x and of the parameters.
    fn gradients(&self, x: &[f32], parameters: &[f32], g: &[f32]) -> [Vec<f32>; 2] {
        let hidden = self.layout.hidden;
        let transposed = self.transposed(parameters);
        let groups = self.groups();
        let kept = self.kept.get_or_init(|| self.run(x, parameters).1);
        let tokens = ends(&groups, |group| &group.tokens);
        let (dx, parts) = chunks::build_parts(&tokens, hidden, |scratch, index, dx| {
            let (group, kept) = (&groups[index], &kept[index]);
            let x = &x[group.tokens.start * hidden..group.tokens.end * hidden];
            let g = &g[group.queries.start * hidden..group.queries.end * hidden];
            let mut part = vec![0.0; parameters.len()];
            self.group_gradients(group, kept, (x, parameters, g), &transposed, dx, &mut part, scratch);
            part
        });
        [dx, chunks::add_up(&parts, parameters.len())]
    }

    /// Writes the gradients of a group's tokens to `dx`, and its share of the parameters' gradients to `part`, both zero before.
    #[expect(clippy::too_many_arguments, reason = "one task's inputs, outputs and scratch")]
    fn group_gradients(
        &self,
        group: &Group,
        kept: &Kept,
        (x, parameters, g): (&[f32], &[f32], &[f32]),
        transposed: &Transposed,
        dx: &mut [f32],
        part: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (layout, hidden) = (&self.layout, self.layout.hidden);
        let projected = self.project(group, x, parameters, transposed);
        let start = group.queries.start * hidden;

        // Through the norm into the residual sum, and from there into the query tokens and the attention's results.
        let mut d_query_tokens = vec![0.0; g.len()];
        let sum = if kept.narrow.is_empty() { &kept.attended } else { &kept.narrow };
        let arguments = (sum.as_slice(), Some(projected.query_tokens()));
        let weight = &parameters[layout.norm.clone()][..hidden];
        norm::backward(
            &mut d_query_tokens,
            &mut part[layout.norm.clone()],
            g,
            arguments,
            self.mask,
            weight,
            start,
        );
        let mut d_attended = d_query_tokens.clone();
        if let Some(mask) = self.mask {
            dropout::masked(mask, start as u32, &mut d_attended, &d_query_tokens);
        }
        if !layout.output.is_empty() {
            let d_narrow = d_attended;
            d_attended = vec![0.0; d_narrow.len()];
            let (output, bias) = two_parts(part, &layout.output, &layout.output_bias);
            let weight = &parameters[layout.output.clone()];
            let to = (d_attended.as_mut_slice(), Store::Overwrite);
            map_backward((&kept.attended, weight, &d_narrow), (output, bias), to, hidden, group.multiply());
        }

        // Through the attention of each row, and the projections of its tokens, into x.
        let dq = if self.single_query {
            let (weight, bias) = two_parts(part, &layout.key_value, &layout.key_value_bias);
            let ((d_key, d_value), d_value_bias) =
                (weight.split_at_mut(hidden * hidden), &mut bias[hidden..]);
            self.attend_single_backward(
                group,
                (&projected.query, x, &self.maps(parameters)),
                (&kept.attended, &kept.logarithms, &d_attended),
                dx,
                [d_key, d_value, d_value_bias],
            )
        } else {
            let (dq, dkv) = self.attend_backward(group, &projected, (kept, &d_attended), scratch);
            let (key_value, bias) = two_parts(part, &layout.key_value, &layout.key_value_bias);
            let arguments = (x, &parameters[layout.key_value.clone()], dkv.as_slice());
            map_backward(
                arguments,
                (key_value, bias),
                (&mut *dx, Store::Overwrite),
                hidden,
                group.multiply(),
            );
            dq
        };

        // Through the projection of the query tokens, and their norm, into x.
        let (query, bias) = two_parts(part, &layout.query, &layout.query_bias);
        let arguments = (projected.query_tokens(), &parameters[layout.query.clone()], dq.as_slice());
        map_backward(arguments, (query, bias), (&mut d_query_tokens, Store::Add), hidden, group.multiply());
        if !layout.query_norm.is_empty() {
            let d_normed = std::mem::replace(&mut d_query_tokens, vec![0.0; g.len()]);
            let weight = &parameters[layout.query_norm.clone()][..hidden];
            let arguments = (projected.picked.as_ref(), None);
            let part = &mut part[layout.query_norm.clone()];
            norm::backward(&mut d_query_tokens, part, &d_normed, arguments, None, weight, 0);
        }
        match &self.attention.queries {
            QueryTokens::All => add(dx, &d_query_tokens),
            QueryTokens::Picked { .. } => {
                for (token, d_query_tokens) in
                    self.query_indices(group).zip(d_query_tokens.chunks_exact(hidden))
                {
                    add(&mut dx[token * hidden..][..hidden], d_query_tokens);
                }
            }
        }
    }
}

/// Where the range of each group ends, after the 0 where the first begins.
fn ends(groups: &[Group], range: impl Fn(&Group) -> &Range<usize>) -> Vec<usize> {
    std::iter::once(0).chain(groups.iter().map(|group| range(group).end)).collect()
}

/// Writes a matrix of `size` columns to those from column `first` on of one that is `width` wide.
fn lay_beside(to: &mut [f32], width: usize, first: usize, from: &[f32], size: usize) {
    for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(size)) {
        to[first..first + size].copy_from_slice(from);
    }
}

/// Two parts of `values`, the first before the second.
fn two_parts<'a>(
    values: &'a mut [f32],
    first: &Range<usize>,
    second: &Range<usize>,
) -> (&'a mut [f32], &'a mut [f32]) {
    let (before, after) = values.split_at_mut(second.start);
    (&mut before[first.clone()], &mut after[..second.len()])
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "self-attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (y, kept) = self.run(chunks::slice(s1, l1)?, chunks::slice(s2, l2)?);
        if self.tracked {
            self.kept.get_or_init(|| kept);
        }
        Ok((CpuStorage::F32(y), (self.attention.query_rows().tokens(), self.layout.hidden).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        chunks::both_gradients([x, parameters], g, |x, parameters, g| self.gradients(x, parameters, g))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::{
        rows::Rows,
        testing::{assert_gradients, assert_twins, values, variable},
    };

    /// Tokens of the row that stands alone.
    const LONG: usize = 199;

    /// Rows with all or some of their tokens as query tokens, causal or not, with dropout or not; more rows than one task
    /// takes; and a long row alone, whose heads go to different threads.
    fn cases() -> Vec<Attention> {
        let rows = Rows::from_lengths([1, 7, 40, 3, 19]);
        let picked = QueryTokens::Picked {
            rows: Rows::from_lengths([1, 0, 3, 3, 2]),
            places: vec![0, 39, 0, 17, 0, 1, 2, 18, 5].into(),
        };
        let many = Rows::from_lengths((0..40).map(|row| 1 + row * 7 % 60));
        let single = (Rows::from_lengths([1]), QueryTokens::All);
        let long = (Rows::from_lengths([LONG]), QueryTokens::All);
        // One query a row, in bidirectional attention without keys and values: few rows, more than one task takes, and one.
        let one_each = |rows: &Rows| {
            let places: Vec<u32> = (0..rows.len()).map(|row| rows.length(row) as u32 * 2 / 3).collect();
            let queries = Rows::from_lengths(vec![1; rows.len()]);
            (rows.clone(), QueryTokens::Picked { rows: queries, places: places.into() })
        };
        let [few_single, many_single] = [&rows, &many].map(one_each);
        let one_single = one_each(&Rows::from_lengths([LONG]));
        let mut cases = Vec::new();
        for (rows, queries) in [
            few_single,
            (rows.clone(), QueryTokens::All),
            (rows, picked),
            single,
            (many, QueryTokens::All),
            long,
            many_single,
            one_single,
        ] {
            for causal in [false, true] {
                for dropout in [None, Some(Dropout { probability: 0.3, key: 5 })] {
                    let (rows, queries) = (rows.clone(), queries.clone());
                    cases.push(Attention { rows, queries, heads: 3, causal, dropout });
                }
            }
        }
        cases
    }

    /// x, the four maps and the two norms.
    fn inputs(tokens: usize, hidden: usize) -> Vec<Var> {
        let map: [&[usize]; 2] = [&[hidden, hidden], &[hidden]];
        let norm: [&[usize]; 2] = [&[hidden], &[hidden]];
        let shapes = [map, map, map, map, norm, norm];
        let x: &[usize] = &[tokens, hidden];
        (1..).zip([x].into_iter().chain(shapes.into_iter().flatten())).map(|(s, d)| variable(s, d)).collect()
    }

    /// BERT4Rec's sublayer, or SASRec's.
    fn layer<'a>(v: &'a [Var], attention: &Attention, cloze: bool) -> SelfAttention<'a> {
        let pair = |place: usize| (v[place].as_tensor(), v[place + 1].as_tensor());
        SelfAttention {
            attention: attention.clone(),
            query_norm: (!cloze).then(|| pair(9)),
            query: pair(1),
            // One bias for key and value: the key's alone has no gradient but rounding where nothing is dropped.
            key: (v[3].as_tensor(), v[6].as_tensor()),
            value: pair(5),
            output: cloze.then(|| pair(7)),
            dropout: if cloze { attention.dropout } else { None },
            norm: pair(11),
        }
    }

    /// The variables that a sublayer has.
    fn used(mut v: Vec<Var>, cloze: bool) -> Vec<Var> {
        v[4] = v[6].clone();
        // Variables that it does not have get another role, so that each has a gradient.
        if cloze {
            (v[9], v[10]) = (v[11].clone(), v[12].clone());
        } else {
            (v[7], v[8]) = (v[5].clone(), v[6].clone());
        }
        v
    }

    #[test]
    fn twins_agree() {
        for attention in cases() {
            for cloze in [false, true] {
                // So wide that a row alone is worth several threads of a product.
                let hidden = if attention.rows.tokens() == LONG { 96 } else { 24 };
                let v = used(inputs(attention.rows.tokens(), hidden), cloze);
                assert_twins(
                    &format!("{attention:?}"),
                    &v,
                    1e-4,
                    |v| layer(v, &attention, cloze).fused(v[0].as_tensor()),
                    |v| layer(v, &attention, cloze).plain(v[0].as_tensor()),
                );
            }
        }
    }

    #[test]
    fn gradients_are_differences() {
        for attention in cases().into_iter().take(12) {
            for cloze in [false, true] {
                let v = used(inputs(attention.rows.tokens(), 6), cloze);
                assert_gradients("self-attention", &v, 1e-2, 2e-2, |v| {
                    layer(v, &attention, cloze).fused(v[0].as_tensor())
                });
            }
        }
    }

    #[test]
    fn a_row_means_the_same_alone() {
        let v = inputs(41, 24);
        let attend = |rows: Rows, x: &Tensor| {
            let attention =
                Attention { rows, queries: QueryTokens::All, heads: 2, causal: true, dropout: None };
            values(&layer(&v, &attention, true).fused(x).unwrap())
        };
        let together = attend(Rows::from_lengths([30, 11]), &v[0]);
        let alone = attend(Rows::from_lengths([11]), &v[0].narrow(0, 30, 11).unwrap());
        assert_eq!(together[30 * 24..], alone);
    }

    #[test]
    fn a_row_of_a_single_query_means_the_same_alone() {
        let v = inputs(42, 24);
        let attend = |lengths: &[usize], x: &Tensor| {
            let rows = Rows::from_lengths(lengths.iter().copied());
            let places = lengths.iter().map(|&length| length as u32 - 1).collect();
            let queries = QueryTokens::Picked { rows: Rows::from_lengths(lengths.iter().map(|_| 1)), places };
            let attention = Attention { rows, queries, heads: 2, causal: false, dropout: None };
            values(&layer(&v, &attention, true).fused(x).unwrap())
        };
        let together = attend(&[30, 11, 1], &v[0]);
        for (row, first, length) in [(0, 0, 30), (1, 30, 11), (2, 41, 1)] {
            let alone = attend(&[length], &v[0].narrow(0, first, length).unwrap());
            assert_eq!(together[row * 24..][..24], alone);
        }
    }

    #[test]
    fn tokens_one_by_one_make_the_row() {
        // Longer, too, than a product sums in one piece.
        for (lengths, cloze) in [([30, 11, 1], true), ([30, 11, 1], false), ([1040, 530, 3], false)] {
            let rows = Rows::from_lengths(lengths);
            let v = inputs(rows.tokens(), 24);
            let attention = Attention {
                rows: rows.clone(),
                queries: QueryTokens::All,
                heads: 3,
                causal: true,
                dropout: None,
            };
            let layer = layer(&v, &attention, cloze);
            let whole = layer.fused(&v[0]).unwrap();
            let mut caches = vec![KeyValueCache::default(); 3];
            for length in 1..=lengths[0] {
                let running = lengths.iter().filter(|&&row| row >= length).count();
                let tokens: Vec<u32> =
                    (0..running).map(|r| (rows.row(r).start + length - 1) as u32).collect();
                let tokens = Tensor::from_vec(tokens, running, whole.device()).unwrap();
                let x = v[0].index_select(&tokens, 0).unwrap();
                let y = layer.extend(&x, &mut caches[..running]).unwrap();
                assert_eq!(values(&y), values(&whole.index_select(&tokens, 0).unwrap()), "length {length}");
            }
            assert_eq!(caches.iter().map(KeyValueCache::tokens).collect::<Vec<_>>(), lengths);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let v = inputs(4, 6);
        let refused = |rows: Rows, queries: QueryTokens, heads: usize| {
            let attention = Attention { rows, queries, heads, causal: true, dropout: None };
            layer(&v, &attention, true).forward(&v[0]).is_err()
        };
        let rows = |length: usize| Rows::from_lengths([length]);
        assert!(!refused(rows(4), QueryTokens::All, 2));
        assert!(refused(rows(3), QueryTokens::All, 2));
        assert!(refused(rows(4), QueryTokens::All, 4));
        let places = QueryTokens::Picked { rows: rows(4), places: vec![0, 1, 2, 4].into() };
        assert!(refused(rows(4), places, 2));
        let attention =
            Attention { rows: rows(4), queries: QueryTokens::All, heads: 2, causal: true, dropout: None };
        let crossed = SelfAttention { query: (&v[2], &v[1]), ..layer(&v, &attention, true) };
        assert!(crossed.forward(&v[0]).is_err());
    }
}
