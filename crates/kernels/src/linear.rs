//! The affine map `x W^T + b`, weights laid out as PyTorch's `Linear` has them.

use candle_core::{Result, Tensor};

/// `x W^T + b`: `x` is `(tokens, in)`, `weight` `(out, in)`, `bias` `(out)`; the result is `(tokens, out)`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    plain(x, weight, bias)
}

/// Plain twin: a matrix product and a broadcast sum.
pub(crate) fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let product = x.contiguous()?.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => product.broadcast_add(bias),
        None => Ok(product),
    }
}
