//! The two activations of the feed-forward layers.

use candle_core::{DType, Result, Tensor};

/// The tanh form of GELU, elementwise (Hendrycks & Gimpel 2016, arXiv 1606.08415; the form BERT4Rec uses).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    plain_gelu(x)
}

/// `max(0, x)` elementwise; its derivative at 0 is 0.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    plain_relu(x)
}

/// Plain twin of [`gelu`].
pub(crate) fn plain_gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu()
}

/// Plain twin of [`relu`]: a product with the sign's indicator, because candle's own `relu` has derivative 1 at 0.
pub(crate) fn plain_relu(x: &Tensor) -> Result<Tensor> {
    x * x.gt(0f32)?.to_dtype(DType::F32)?
}
