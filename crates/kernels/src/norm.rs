//! The normalisation of both transformers, with the residual sum and the dropout before it.
//!
//! Not PyTorch's `LayerNorm`: the models divide by the *sample* standard deviation (divisor `hidden - 1`) and add the
//! epsilon outside the root.

use candle_core::{D, Result, Tensor};

use crate::dropout::{self, Dropout};

/// Added to the standard deviation, outside the root.
const EPSILON: f64 = 1e-6;

/// `weight * (y - mean) / (std + 1e-6) + bias` for each row `y` of `residual + dropout(x)`.
///
/// `x` and `residual` are `(tokens, hidden)`, `weight` and `bias` `(hidden)`; `hidden` must be at least 2.
pub fn norm(
    x: &Tensor,
    residual: Option<&Tensor>,
    dropout: Option<Dropout>,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    plain(x, residual, dropout, weight, bias)
}

/// Plain twin.
pub(crate) fn plain(
    x: &Tensor,
    residual: Option<&Tensor>,
    dropout: Option<Dropout>,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let x = match dropout {
        Some(dropout) => dropout::plain(x, dropout)?,
        None => x.clone(),
    };
    let y = match residual {
        Some(residual) => (residual + x)?,
        None => x,
    };
    let hidden = y.dim(D::Minus1)?;
    let mean = (y.sum_keepdim(D::Minus1)? / hidden as f64)?;
    let centred = y.broadcast_sub(&mean)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / (hidden - 1) as f64)?;
    let scaled = centred.broadcast_div(&(variance.sqrt()? + EPSILON)?)?;
    scaled.broadcast_mul(weight)?.broadcast_add(bias)
}
