//! The attention of a bidirectional model whose every row has one query token, as BERT4Rec's last block has when it predicts, and in
//! distillation: the token that hides the next item.
//!
//! Its keys and values are never computed. With the head's query `q`, the score of token `x_j` is
//! `q (W_k x_j + b_k) = (W_k^T q) x_j + q b_k`, whose last term is the same for all tokens and leaves their softmax as it is; the
//! result `sum_j p_j (W_v x_j + b_v)` is `W_v (sum_j p_j x_j) + b_v sum_j p_j`. So a head asks the tokens as they are for their products with
//! one *direction*, `W_k^T q / sqrt(size)`, and what goes through a map is one weighted sum of them, where two maps of every token were
//! needed. The key's bias has no gradient.
//!
//! Causal models do without: their keys and values are kept from one question to the next, and one more token gives the same bytes as
//! a whole row.

use super::{Fused, Group};
use crate::{
    cpu::{
        apply,
        lanes::{self, LANES},
        matrix::{Store, View, ViewMut, multiply},
        vectorized,
    },
    ops::attention::row_products,
};

/// Key and value maps as they lie in the parameters, or their gradients: weights `(hidden, hidden)`, biases `(hidden)`.
pub(super) struct Maps<'a> {
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) value_bias: &'a [f32],
}

/// Columns of the tokens that are summed at a time: as many as stay in registers.
const WIDE: usize = 4 * LANES;

/// Writes the inner products of each direction with each token, `(directions, tokens)`.
#[apply(vectorized!)]
fn products(products: &mut [f32], directions: &[f32], x: &[f32], hidden: usize) {
    let tokens = x.len() / hidden;
    for (products, direction) in products.chunks_exact_mut(tokens).zip(directions.chunks_exact(hidden)) {
        for (product, x) in products.iter_mut().zip(x.chunks_exact(hidden)) {
            *product = lanes::dot(direction, x);
        }
    }
}

/// Writes, for each head, the sum of the tokens by its `weights` `(heads, tokens)` to `sums` `(heads, hidden)`.
#[apply(vectorized!)]
fn weighted_sums(sums: &mut [f32], weights: &[f32], x: &[f32], hidden: usize) {
    let tokens = x.len() / hidden;
    for (sums, weights) in sums.chunks_exact_mut(hidden).zip(weights.chunks_exact(tokens)) {
        let (wide, rest) = sums.as_chunks_mut::<WIDE>();
        for (block, sums) in wide.iter_mut().enumerate() {
            let mut sum = [0.0; WIDE];
            for (&weight, x) in weights.iter().zip(x.chunks_exact(hidden)) {
                let x = &x[block * WIDE..][..WIDE];
                for lane in 0..WIDE {
                    sum[lane] = weight.mul_add(x[lane], sum[lane]);
                }
            }
            *sums = sum;
        }
        rest.fill(0.0);
        let first = hidden - rest.len();
        for (&weight, x) in weights.iter().zip(x.chunks_exact(hidden)) {
            lanes::axpy(rest, weight, &x[first..]);
        }
    }
}

/// Adds to the gradient of each token what each head's sums and products give it: `sum_h p_hj g_h + s_hj u_h`, where `g` are the gradients
/// of the sums, and `s` those of the products with the directions `u`.
#[apply(vectorized!)]
fn add_to_tokens(
    dx: &mut [f32],
    (probabilities, d_sums): (&[f32], &[f32]),
    (d_products, directions): (&[f32], &[f32]),
    hidden: usize,
) {
    let tokens = dx.len() / hidden;
    for (token, dx) in dx.chunks_exact_mut(hidden).enumerate() {
        for (head, (d_sums, direction)) in
            d_sums.chunks_exact(hidden).zip(directions.chunks_exact(hidden)).enumerate()
        {
            let (probability, d_product) =
                (probabilities[head * tokens + token], d_products[head * tokens + token]);
            for ((dx, &d_sum), &direction) in dx.iter_mut().zip(d_sums).zip(direction) {
                *dx = d_product.mul_add(direction, probability.mul_add(d_sum, *dx));
            }
        }
    }
}

/// Sum of each row of `(rows, width)`.
#[apply(vectorized!)]
fn row_sums(sums: &mut [f32], values: &[f32], width: usize) {
    for (sum, values) in sums.iter_mut().zip(values.chunks_exact(width)) {
        *sum = lanes::sum(values);
    }
}

impl Fused {
    /// For each row and head, through the head's rows of `weight` `(hidden, hidden)`, times `factor`: `(rows, heads, hidden)` of values
    /// `(rows, hidden)`.
    fn spread_over_heads(&self, values: &[f32], weight: &[f32], factor: f32) -> Vec<f32> {
        let (hidden, heads) = (self.layout.hidden, self.attention.heads);
        let (size, rows) = (hidden / heads, values.len() / hidden);
        let mut y = vec![0.0; rows * heads * hidden];
        for head in 0..heads {
            let values = View::strided(&values[head * size..], rows, size, hidden);
            let weight = View::new(&weight[head * size * hidden..], size, hidden);
            let to = ViewMut::strided(&mut y[head * hidden..], rows, hidden, heads * hidden);
            multiply(to, Store::Overwrite, values, weight, factor);
        }
        y
    }

    /// The other way round: `(rows, hidden)` of values `(rows, heads, hidden)`, each head by the transpose of its rows of `weight`.
    fn gather_heads(&self, values: &[f32], weight: &[f32], factor: f32) -> Vec<f32> {
        let (hidden, heads) = (self.layout.hidden, self.attention.heads);
        let (size, rows) = (hidden / heads, values.len() / (heads * hidden));
        let mut y = vec![0.0; rows * hidden];
        for head in 0..heads {
            let values = View::strided(&values[head * hidden..], rows, hidden, heads * hidden);
            let weight = View::new(&weight[head * size * hidden..], size, hidden).t();
            let to = ViewMut::strided(&mut y[head * size..], rows, size, hidden);
            multiply(to, Store::Overwrite, values, weight, factor);
        }
        y
    }

    /// Adds to the gradient of `weight` what [`Fused::spread_over_heads`] or [`Fused::gather_heads`] give it: of the values `(rows, hidden)` on
    /// one side and those `(rows, heads, hidden)` on the other.
    fn add_to_weight(&self, d_weight: &mut [f32], narrow: &[f32], wide: &[f32], factor: f32) {
        let (hidden, heads) = (self.layout.hidden, self.attention.heads);
        let (size, rows) = (hidden / heads, narrow.len() / hidden);
        for head in 0..heads {
            let narrow = View::strided(&narrow[head * size..], rows, size, hidden).t();
            let wide = View::strided(&wide[head * hidden..], rows, hidden, heads * hidden);
            let to = ViewMut::new(&mut d_weight[head * size * hidden..], size, hidden);
            multiply(to, Store::Add, narrow, wide, factor);
        }
    }

    /// `1 / sqrt(hidden / heads)`.
    fn root(&self) -> f32 {
        1.0 / ((self.layout.hidden / self.attention.heads) as f32).sqrt()
    }

    /// The results of a group's attention `(rows, hidden)`, and the logarithms `(rows, heads)`, from its queries `(rows, hidden)` and
    /// tokens `x`: what [`Fused::attend`] computes of keys and values.
    pub(super) fn attend_single(
        &self,
        group: &Group,
        query: &[f32],
        x: &[f32],
        maps: &Maps<'_>,
    ) -> (Vec<f32>, Vec<f32>) {
        let (hidden, heads) = (self.layout.hidden, self.attention.heads);
        let (size, rows, width) = (hidden / heads, group.rows.len(), heads * hidden);
        let directions = self.spread_over_heads(query, maps.key, self.root());
        let (mut sums, mut totals) = (vec![0.0; rows * width], vec![0.0; rows * heads]);
        let mut logarithms = vec![0.0; rows * heads];
        let mut scores = Vec::new();
        for (index, row) in group.rows.clone().enumerate() {
            let range = self.token_range(group, row);
            let tokens = range.len();
            let x = &x[range.start * hidden..range.end * hidden];
            scores.resize(heads * tokens, 0.0);
            products(&mut scores, &directions[index * width..][..width], x, hidden);
            for (head, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                self.attention.softmax_of((row, head), scores, &mut logarithms[index * heads + head..]);
            }
            weighted_sums(&mut sums[index * width..][..width], &scores, x, hidden);
            row_sums(&mut totals[index * heads..][..heads], &scores, tokens);
        }
        let mut y = self.gather_heads(&sums, maps.value, 1.0);
        for (y, totals) in y.chunks_exact_mut(hidden).zip(totals.chunks_exact(heads)) {
            for ((y, bias), &total) in
                y.chunks_exact_mut(size).zip(maps.value_bias.chunks_exact(size)).zip(totals)
            {
                lanes::axpy(y, total, bias);
            }
        }
        (y, logarithms)
    }

    /// The backward pass of [`Fused::attend_single`], from its arguments, its results and the gradient `g` `(rows, hidden)`. Adds to the
    /// gradients of the tokens and of the maps, and returns that of the queries, `(rows, hidden)`.
    pub(super) fn attend_single_backward(
        &self,
        group: &Group,
        (query, x, maps): (&[f32], &[f32], &Maps<'_>),
        (attended, logarithms, g): (&[f32], &[f32], &[f32]),
        dx: &mut [f32],
        [d_key, d_value, d_value_bias]: [&mut [f32]; 3],
    ) -> Vec<f32> {
        let (hidden, heads) = (self.layout.hidden, self.attention.heads);
        let (size, rows, width) = (hidden / heads, group.rows.len(), heads * hidden);
        let directions = self.spread_over_heads(query, maps.key, self.root());
        let d_sums = self.spread_over_heads(g, maps.value, 1.0);
        let (mut sums, mut d_directions) = (vec![0.0; rows * width], vec![0.0; rows * width]);
        let (mut totals, mut d_totals, mut inner) = (vec![0.0; heads], vec![0.0; heads], vec![0.0; heads]);
        let (mut scores, mut gradient) = (Vec::new(), Vec::new());
        for (index, row) in group.rows.clone().enumerate() {
            let range = self.token_range(group, row);
            let tokens = range.len();
            let x = &x[range.start * hidden..range.end * hidden];
            let (of_row, of_heads) =
                (index * hidden..(index + 1) * hidden, index * width..(index + 1) * width);
            let (directions, d_sums) = (&directions[of_heads.clone()], &d_sums[of_heads.clone()]);
            let g = &g[of_row.clone()];
            scores.resize(heads * tokens, 0.0);
            gradient.resize(heads * tokens, 0.0);
            products(&mut scores, directions, x, hidden);
            products(&mut gradient, d_sums, x, hidden);
            row_products(&mut d_totals, g, maps.value_bias, size, 0, size);
            row_products(&mut inner, &attended[of_row], g, size, 0, size);
            let of_each = scores.chunks_exact_mut(tokens).zip(gradient.chunks_exact_mut(tokens)).enumerate();
            for (head, (scores, gradient)) in of_each {
                for gradient in gradient.iter_mut() {
                    *gradient += d_totals[head];
                }
                let logarithms = &logarithms[index * heads + head..];
                self.attention.softmax_backward_of((row, head), (scores, gradient), inner[head], logarithms);
            }
            let dx = &mut dx[range.start * hidden..range.end * hidden];
            add_to_tokens(dx, (&scores, d_sums), (&gradient, directions), hidden);
            weighted_sums(&mut sums[of_heads.clone()], &scores, x, hidden);
            weighted_sums(&mut d_directions[of_heads], &gradient, x, hidden);
            row_sums(&mut totals, &scores, tokens);
            let of_each = d_value_bias.chunks_exact_mut(size).zip(g.chunks_exact(size));
            for ((d_bias, g), &total) in of_each.zip(&totals) {
                lanes::axpy(d_bias, total, g);
            }
        }
        self.add_to_weight(d_value, g, &sums, 1.0);
        self.add_to_weight(d_key, query, &d_directions, self.root());
        self.gather_heads(&d_directions, maps.key, self.root())
    }
}
