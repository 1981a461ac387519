//! Rows that begin alike: a token that several rows have in common is mapped to its query, key and value once, and the gradients of
//! what was made of it are added up before they go back through the maps. Distillation to BERT4Rec asks for many prefixes of one sequence,
//! which differ where they end; from the second block on every row has seen another end, and nothing is common any more.

use std::{borrow::Cow, ops::Range};

use rayon::prelude::*;

use super::{Fused, Kept, Projected, Transposed, ends, map, map_backward, two_parts};
use crate::{
    cpu::{
        chunks::{self, add},
        matrix::{Store, multiply},
    },
    ops::embedding::gather,
};

/// Queries `(distinct, hidden)`, and keys and values side by side `(distinct, 2 hidden)`, of the distinct tokens.
struct Projections {
    query: Vec<f32>,
    key_value: Vec<f32>,
}

/// Gradients of a run of distinct tokens.
struct Gradients {
    /// The distinct tokens that they are of.
    tokens: Range<usize>,
    /// As query tokens in the residual sum, `(tokens, hidden)`.
    x: Vec<f32>,
    /// `(tokens, hidden)`
    query: Vec<f32>,
    /// `(tokens, 2 hidden)`
    key_value: Vec<f32>,
}

/// The rows of a table of this width with these indices.
fn gathered(table: &[f32], indices: &[u32], width: usize) -> Vec<f32> {
    let mut rows = vec![0.0; indices.len() * width];
    gather(&mut rows, table, indices);
    rows
}

/// Adds rows to those of a table, which begins with row `first`, that these indices name; in their order.
fn add_scattered(table: &mut [f32], first: usize, indices: &[u32], rows: &[f32], width: usize) {
    for (&index, row) in indices.iter().zip(rows.chunks_exact(width)) {
        add(&mut table[(index as usize - first) * width..][..width], row);
    }
}

impl Fused {
    /// The projections of the distinct tokens `x`.
    fn project_distinct(&self, x: &[f32], parameters: &[f32], transposed: &Transposed) -> Projections {
        let (layout, hidden) = (&self.layout, self.layout.hidden);
        let tokens = x.len() / hidden;
        let chunk = chunks::tokens(tokens);
        let all = |weight: &[f32], bias: &Range<usize>| {
            let bias = &parameters[bias.clone()];
            chunks::build(tokens * bias.len(), chunk * bias.len(), |index, y| {
                let count = y.len() / bias.len();
                let x = &x[index * chunk * hidden..][..count * hidden];
                y.copy_from_slice(&map(x, weight, bias, hidden, multiply));
            })
        };
        Projections {
            query: all(&transposed.query, &layout.query_bias),
            key_value: all(&transposed.key_value, &layout.key_value_bias),
        }
    }

    /// What [`Fused::project`] would compute of a group's tokens, one by one.
    fn gather(&self, x: &[f32], all: &Projections, tokens: &[u32]) -> Projected<'static> {
        let hidden = self.layout.hidden;
        Projected {
            picked: Cow::Owned(gathered(x, tokens, hidden)),
            normed: Vec::new(),
            query: gathered(&all.query, tokens, hidden),
            key_value: gathered(&all.key_value, tokens, 2 * hidden),
        }
    }

    /// [`Fused::run`] over distinct tokens `x`; `shared` has the distinct token of each token.
    pub(super) fn run_shared(
        &self,
        shared: &[u32],
        x: &[f32],
        parameters: &[f32],
        transposed: &Transposed,
    ) -> (Vec<f32>, Vec<Kept>) {
        let groups = self.groups();
        let all = self.project_distinct(x, parameters, transposed);
        chunks::build_parts(&ends(&groups, |group| &group.tokens), self.layout.hidden, |scratch, index, y| {
            let group = &groups[index];
            let projected = self.gather(x, &all, &shared[group.tokens.clone()]);
            let (attended, logarithms) = self.attend(group, &projected, scratch);
            self.finish(group, &projected, (attended, logarithms), (parameters, transposed), y)
        })
    }

    /// [`Fused::gradients`] over distinct tokens `x`.
    pub(super) fn gradients_shared(
        &self,
        shared: &[u32],
        kept: &[Kept],
        (x, parameters, g): (&[f32], &[f32], &[f32]),
        transposed: &Transposed,
    ) -> [Vec<f32>; 2] {
        let (layout, hidden) = (&self.layout, self.layout.hidden);
        let groups = self.groups();
        let all = self.project_distinct(x, parameters, transposed);
        let of_groups: Vec<(Gradients, Vec<f32>)> = groups
            .par_iter()
            .zip(kept)
            .with_max_len(1)
            .map_init(Default::default, |scratch, (group, kept)| {
                let tokens = &shared[group.tokens.clone()];
                let projected = self.gather(x, &all, tokens);
                let g = &g[group.tokens.start * hidden..group.tokens.end * hidden];
                let mut part = vec![0.0; parameters.len()];
                let (dx, d_attended) =
                    self.through_output(group, kept, &projected, (parameters, g), &mut part);
                let (dq, dkv) = self.attend_backward(group, &projected, (kept, &d_attended), scratch);
                let first = tokens.iter().copied().min().unwrap_or(0) as usize;
                let end = tokens.iter().copied().max().map_or(0, |last| last as usize + 1);
                let summed = |rows: &[f32], width: usize| {
                    let mut sums = vec![0.0; (end - first) * width];
                    add_scattered(&mut sums, first, tokens, rows, width);
                    sums
                };
                let gradients = Gradients {
                    tokens: first..end,
                    x: summed(&dx, hidden),
                    query: summed(&dq, hidden),
                    key_value: summed(&dkv, 2 * hidden),
                };
                (gradients, part)
            })
            .collect();

        // Through the maps, a chunk of distinct tokens at a time.
        let chunk = chunks::tokens(x.len() / hidden);
        let (dx, mut parts) = chunks::build_with(x.len(), chunk * hidden, |index, dx| {
            let tokens = index * chunk..index * chunk + dx.len() / hidden;
            let total = |of: &dyn Fn(&Gradients) -> &[f32], width: usize, sums: &mut [f32]| {
                for (gradients, _) in &of_groups {
                    let start = gradients.tokens.start.max(tokens.start);
                    let end = gradients.tokens.end.min(tokens.end);
                    if start < end {
                        let from = &of(gradients)[(start - gradients.tokens.start) * width..];
                        let to = &mut sums[(start - tokens.start) * width..(end - tokens.start) * width];
                        let length = to.len();
                        add(to, &from[..length]);
                    }
                }
            };
            let (mut dq, mut dkv) = (vec![0.0; dx.len()], vec![0.0; 2 * dx.len()]);
            total(&|gradients| &gradients.x, hidden, dx);
            total(&|gradients| &gradients.query, hidden, &mut dq);
            total(&|gradients| &gradients.key_value, 2 * hidden, &mut dkv);
            let x = &x[tokens.start * hidden..tokens.end * hidden];
            let mut part = vec![0.0; layout.key_value_bias.end];
            for (weight, bias, g) in
                [(&layout.query, &layout.query_bias, &dq), (&layout.key_value, &layout.key_value_bias, &dkv)]
            {
                let to = two_parts(&mut part, weight, bias);
                let arguments = (x, &parameters[weight.clone()], g.as_slice());
                map_backward(arguments, to, (&mut *dx, Store::Add), hidden, multiply);
            }
            // As long as the others: these parameters come first.
            part.resize(parameters.len(), 0.0);
            part
        });
        parts.extend(of_groups.into_iter().map(|(_, part)| part));
        [dx, chunks::add_up(&parts, parameters.len())]
    }
}
