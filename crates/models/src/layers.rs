//! What the architectures are assembled from: tensors by name, and a weight with its bias.

use std::collections::BTreeSet;

use artifact::settings::Network;
use candle_core::Tensor;
use kernels::{Attention, FeedForward, QueryTokens, SelfAttention};

use crate::{Declared, Error, Initial, Mode, PackedBatch, Result, Shapes, Sizes, Weights};

/// The tensor of this name.
///
/// # Errors
/// [`Error::Weights`] when it is missing.
pub(crate) fn tensor(weights: &Weights, name: &str) -> Result<Tensor> {
    weights.get(name).cloned().ok_or_else(|| Error::Weights(format!("tensor `{name}` is missing")))
}

/// A weight and a bias: of a linear map, or of a norm.
pub(crate) struct Affine {
    weight: Tensor,
    bias: Tensor,
}

impl Affine {
    /// The tensors `{name}.weight` and `{name}.bias`.
    pub(crate) fn new(weights: &Weights, name: &str) -> Result<Self> {
        Ok(Self {
            weight: tensor(weights, &format!("{name}.weight"))?,
            bias: tensor(weights, &format!("{name}.bias"))?,
        })
    }

    /// The same for a convolution of kernel 1, `(output, input, 1)`, which is a linear map.
    pub(crate) fn convolution(weights: &Weights, name: &str) -> Result<Self> {
        let Self { weight, bias } = Self::new(weights, name)?;
        Ok(Self { weight: weight.squeeze(2)?, bias })
    }

    /// `x` `(tokens, input)` to `(tokens, output)`.
    pub(crate) fn linear(&self, x: &Tensor) -> Result<Tensor> {
        Ok(kernels::linear(x, &self.weight, Some(&self.bias))?)
    }

    /// Weight and bias.
    pub(crate) fn pair(&self) -> (&Tensor, &Tensor) {
        (&self.weight, &self.bias)
    }
}

/// A block of a transformer.
pub(crate) trait Block {
    /// Its two sublayers, run one after the other. Their dropouts, of probability `dropout`, count from `layer`; there may
    /// be two.
    fn sublayers(
        &self,
        attention: Attention,
        dropout: f64,
        mode: Mode,
        layer: u64,
    ) -> (SelfAttention<'_>, FeedForward<'_>);
}

/// Runs a batch, embedded as `x` `(tokens, hidden)`, through all blocks, the last for its picked places only:
/// `(positions, hidden)`. The dropout layer 0 is the embedding's.
pub(crate) fn transform<B: Block>(
    blocks: &[B],
    mut x: Tensor,
    batch: &PackedBatch,
    causal: bool,
    sizes: &Sizes,
    mode: Mode,
) -> Result<Tensor> {
    for (index, block) in blocks.iter().enumerate() {
        let last = index + 1 == blocks.len();
        let layer = 1 + 3 * index as u64;
        let attention = Attention {
            rows: batch.rows.clone(),
            queries: if last { batch.queries.clone() } else { QueryTokens::All },
            heads: sizes.heads,
            causal,
            dropout: mode.dropout(sizes.attention_dropout, layer),
        };
        let (attention, feed_forward) = block.sublayers(attention, sizes.dropout, mode, layer + 1);
        x = feed_forward.forward(&attention.forward(&x)?)?;
    }
    Ok(x)
}

/// Declares a norm of this width.
pub(crate) fn declare_norm(tensors: &mut Vec<Declared>, name: &str, width: usize) {
    tensors.push(Declared::new(format!("{name}.weight"), &[width], Initial::Ones));
    tensors.push(Declared::new(format!("{name}.bias"), &[width], Initial::Zeros));
}

/// Declares a weight of this shape, outputs first, with its bias.
pub(crate) fn declare_affine(tensors: &mut Vec<Declared>, name: &str, shape: &[usize]) {
    tensors.push(Declared::new(format!("{name}.weight"), shape, Initial::Truncated));
    tensors.push(Declared::new(format!("{name}.bias"), &shape[..1], Initial::Truncated));
}

/// The shape of a tensor, where there is one of that name and it is a matrix.
fn matrix(shapes: &Shapes<'_>, name: &str) -> Option<(usize, usize)> {
    match shapes.get(name) {
        Some(&&[rows, columns]) => Some((rows, columns)),
        _ => None,
    }
}

/// The sizes that a token embedding tells: items, beside which it has rows for `others`, and width.
pub(crate) fn embedding_sizes(shapes: &Shapes<'_>, others: usize, base: &Sizes) -> Sizes {
    let (items, hidden) = matrix(shapes, "embedding.token.weight")
        .map_or((base.items, base.hidden), |(rows, columns)| (rows.saturating_sub(others), columns));
    Sizes { items, network: Network { hidden, ..base.network } }
}

/// The sizes that the tensors of a transformer tell: all but the number of heads.
pub(crate) fn transformer_sizes(shapes: &Shapes<'_>, others: usize, base: &Sizes) -> Sizes {
    let blocks: BTreeSet<&str> = shapes
        .keys()
        .filter_map(|name| name.strip_prefix("model.transformer_blocks.")?.split('.').next())
        .collect();
    // Row 0 of the positions is padding.
    let positions = matrix(shapes, "embedding.position.pe.weight");
    let max_len = positions.map_or(base.max_len, |(rows, _)| rows.saturating_sub(1));
    let Sizes { items, network } = embedding_sizes(shapes, others, base);
    Sizes { items, network: Network { blocks: blocks.len().max(1), max_len, ..network } }
}

/// Floating-point operations of the matrix products of one pass over a row of `tokens` through the blocks of a transformer, the
/// last block for `states` query tokens only. `bidirectional`: whether every token sees the whole row, and attention has an output
/// projection; a causal one, which has none, needs half of the attention: each token sees only those before it. A single query of a
/// bidirectional block needs no keys and values: one direction a head and one weighted sum stand for them.
pub(crate) fn transformer_operations(sizes: &Sizes, tokens: f64, states: f64, bidirectional: bool) -> f64 {
    let hidden = sizes.hidden as f64;
    let block = |queries: f64| {
        let maps =
            4.0 * tokens + 2.0 * queries + if bidirectional { 2.0 * queries } else { 0.0 } + 16.0 * queries;
        let attention = 4.0 * tokens * queries * if bidirectional { 1.0 } else { 0.5 };
        maps * hidden * hidden + attention * hidden
    };
    let last = if bidirectional && states == 1.0 {
        // Query, directions, value and output; then products and sums as wide as a token in each head.
        (4.0 * 2.0 + 16.0) * hidden * hidden + 4.0 * tokens * sizes.heads as f64 * hidden
    } else {
        block(states)
    };
    (sizes.blocks as f64 - 1.0) * block(tokens) + last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bert4rec;

    #[test]
    fn a_row_costs_what_its_products_cost() {
        let sizes = Sizes {
            items: 9,
            network: Network {
                hidden: 64,
                blocks: 2,
                heads: 2,
                max_len: 200,
                dropout: 0.0,
                attention_dropout: 0.0,
            },
        };
        // By hand, one block of which every token is a query: 3 maps into attention, 1 out of it, 2 of 4 times the width, and
        // two products of (length, length) with the states.
        let (tokens, hidden) = (200.0, 64.0);
        let block = 2.0 * tokens * hidden * hidden * (4.0 + 8.0) + 2.0 * 2.0 * tokens * tokens * hidden;
        let head = 2.0 * tokens * hidden * hidden;
        let all = (bert4rec::ARCHITECTURE.operations)(&sizes, tokens, tokens);
        assert!((all / (2.0 * block + head) - 1.0).abs() < 1e-12);
        // For one state, its last block takes every token through no map but two products and two sums a head.
        let last = 2.0 * hidden * hidden * (4.0 + 8.0) + 2.0 * 2.0 * 2.0 * tokens * hidden;
        let one = (bert4rec::ARCHITECTURE.operations)(&sizes, tokens, 1.0);
        assert!((one / (block + last + 2.0 * hidden * hidden) - 1.0).abs() < 1e-12);
    }
}
