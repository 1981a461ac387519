//! The normalisation of both transformers, with the dropout and the residual sum before it: a part of their sublayers
//! ([`Embed`](crate::Embed), [`SelfAttention`](crate::SelfAttention), [`FeedForward`](crate::FeedForward)).
//!
//! Not PyTorch's `LayerNorm`: the models divide by the *sample* standard deviation (divisor `hidden - 1`) and add the
//! epsilon outside the root. A row is masked, summed and normalised while it is in registers. The backward pass keeps only the
//! arguments, and computes a row's mean and deviation again.

use candle_core::{D, DType, Result, Tensor};

use super::dropout::{self, Dropout, Mask};
use crate::cpu::{apply, lanes, vectorized};

/// Added to the standard deviation, outside the root.
const EPSILON: f64 = 1e-6;

/// Plain twin: `weight * (y - mean) / (std + 1e-6) + bias` for each row `y` of `residual + dropout(x)`.
///
/// `x` and `residual` are `(tokens, hidden)`, `weight` and `bias` `(hidden)`; `hidden` must be at least 2.
/// A constant row becomes `bias`, and no gradient flows through its deviation. The sum is of the type of `x`, all else f32.
pub(crate) fn plain(
    x: &Tensor,
    residual: Option<&Tensor>,
    dropout: Option<Dropout>,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        let sum = crate::cuda::norm::drop_add(x, residual, dropout)?;
        return crate::cuda::norm::normalise(&sum, weight, bias);
    }
    let x = match dropout {
        Some(dropout) => dropout::plain(x, dropout)?,
        None => x.clone(),
    };
    let y = match residual {
        Some(residual) => (residual + x)?,
        None => x,
    };
    let (y, of_result) = (y.to_dtype(DType::F32)?, y.dtype());
    let hidden = y.dim(D::Minus1)?;
    let mean = (y.sum_keepdim(D::Minus1)? / hidden as f64)?;
    let centred = y.broadcast_sub(&mean)?;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / (hidden - 1) as f64)?;
    let scaled = centred.broadcast_div(&(variance.sqrt()? + EPSILON)?)?;
    scaled.broadcast_mul(weight)?.broadcast_add(bias)?.to_dtype(of_result)
}

/// Writes `residual + mask * x`, less its mean, to `y`, for a row that begins at element `start`. Returns the deviation.
#[inline(always)]
fn centre(y: &mut [f32], x: &[f32], residual: Option<&[f32]>, mask: Option<Mask>, start: u32) -> f32 {
    match mask {
        Some(mask) => {
            for ((y, &x), offset) in y.iter_mut().zip(x).zip(0u32..) {
                *y = x * mask.factor(start.wrapping_add(offset));
            }
        }
        None => y.copy_from_slice(x),
    }
    if let Some(residual) = residual {
        for (y, &residual) in y.iter_mut().zip(residual) {
            *y += residual;
        }
    }
    let mean = lanes::sum(y) / y.len() as f32;
    for y in y.iter_mut() {
        *y -= mean;
    }
    (lanes::dot(y, y) / (y.len() - 1) as f32).sqrt()
}

/// Normalises the rows of a chunk whose first element has index `start`; `parameters` holds weight, then bias.
#[apply(vectorized!)]
pub(crate) fn forward(
    y: &mut [f32],
    x: &[f32],
    residual: Option<&[f32]>,
    mask: Option<Mask>,
    parameters: &[f32],
    start: usize,
) {
    let (weight, bias) = parameters.split_at(parameters.len() / 2);
    let hidden = weight.len();
    for (row, (y, x)) in y.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)).enumerate() {
        let residual = residual.map(|residual| &residual[row * hidden..(row + 1) * hidden]);
        let deviation = centre(y, x, residual, mask, (start + row * hidden) as u32);
        let scale = 1.0 / (deviation + EPSILON as f32);
        for ((y, &weight), &bias) in y.iter_mut().zip(weight).zip(bias) {
            *y = (*y * scale).mul_add(weight, bias);
        }
    }
}

/// Writes the gradient of the sum that was normalised to `dy`, and a chunk's share of the gradients of weight and bias to
/// `parts`.
#[apply(vectorized!)]
pub(crate) fn backward(
    dy: &mut [f32],
    parts: &mut [f32],
    g: &[f32],
    (x, residual): (&[f32], Option<&[f32]>),
    mask: Option<Mask>,
    weight: &[f32],
    start: usize,
) {
    let hidden = weight.len();
    let (weight_part, bias_part) = parts.split_at_mut(hidden);
    let mut centred = vec![0.0; hidden];
    for (row, ((dy, x), g)) in
        dy.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)).zip(g.chunks_exact(hidden)).enumerate()
    {
        let residual = residual.map(|residual| &residual[row * hidden..(row + 1) * hidden]);
        let deviation = centre(&mut centred, x, residual, mask, (start + row * hidden) as u32);
        let scale = 1.0 / (deviation + EPSILON as f32);
        for (((part, sum), &g), &c) in weight_part.iter_mut().zip(bias_part.iter_mut()).zip(g).zip(&centred) {
            *part = (g * scale).mul_add(c, *part);
            *sum += g;
        }
        for ((dy, &g), &weight) in dy.iter_mut().zip(g).zip(weight) {
            *dy = g * weight;
        }
        let mean = lanes::sum(dy) / hidden as f32;
        // d deviation / d y = centred / ((hidden - 1) deviation), taken to be 0 for a constant row.
        let through_deviation = if deviation > 0.0 {
            lanes::dot(dy, &centred) * scale * scale / ((hidden - 1) as f32 * deviation)
        } else {
            0.0
        };
        for (dy, &c) in dy.iter_mut().zip(&centred) {
            *dy = (*dy - mean).mul_add(scale, -through_deviation * c);
        }
    }
}
