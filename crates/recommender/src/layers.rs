//! What the architectures are assembled from: tensors by name, and a weight with its bias.

use candle_core::Tensor;
use kernels::{Attention, FeedForward, QueryTokens, SelfAttention};

use crate::{Declared, Error, Initial, Mode, Placed, Result, Sizes, Weights};

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
    batch: &Placed,
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
