//! A loss whose gradients were computed together with its value.
//!
//! The losses over the catalogue walk it in chunks and never hold a (rows, columns) matrix, so autograd cannot go back
//! over them. They compute the gradients on the way forward instead, while the scores are at hand, and attach them here.

use candle_core::{DType, Result, Tensor};

/// A scalar that equals `value` and whose gradient with respect to each tensor is the one given beside it, in f32.
///
/// For each pair the inner product minus its own detached copy is added: exactly zero, with the wanted gradient.
pub(crate) fn attach(value: &Tensor, gradients: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let mut loss = value.detach();
    for (tensor, gradient) in gradients {
        if tensor.track_op() {
            let product = (tensor.to_dtype(DType::F32)? * gradient.detach())?.sum_all()?;
            loss = (loss + (&product - product.detach())?)?;
        }
    }
    Ok(loss)
}
