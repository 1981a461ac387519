//! Mean cross entropy over the whole catalogue, without ever holding the whole score matrix.
//!
//! Rows are taken in blocks, gradients are computed on the way forward while a block's scores are at hand, and attached to
//! the value: memory is bounded by [`BUDGET`] whatever the batch.

use candle_core::{D, DType, Result, Tensor, bail};

use crate::{attach::attach, catalogue::Catalogue};

/// Most scores held at once, in elements.
pub(crate) const BUDGET: usize = 4 << 20;

pub(crate) fn cross_entropy(catalogue: &Catalogue, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let rows = states.dim(0)?;
    if targets.dims() != [rows] {
        bail!("cross entropy: {rows} states but targets {:?}", targets.dims());
    }
    if rows == 0 {
        bail!("cross entropy: no rows");
    }
    plain(catalogue, states, targets)
}

/// Plain twin: blocks of rows, softmax less the one-hot target as the gradient of the scores.
pub(crate) fn plain(catalogue: &Catalogue, states: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let device = states.device();
    let rows = states.dim(0)?;
    let columns = catalogue.columns()?;
    let weight = catalogue.weight.detach();
    let block = (BUDGET / columns).clamp(1, rows);
    let mut total = Tensor::zeros((), DType::F32, device)?;
    let mut weight_gradient = weight.zeros_like()?;
    let mut bias_gradient = Tensor::zeros((1, columns), DType::F32, device)?;
    let mut state_gradients = Vec::new();
    for start in (0..rows).step_by(block) {
        let count = block.min(rows - start);
        let state = states.detach().narrow(0, start, count)?.contiguous()?;
        let target = targets.narrow(0, start, count)?.unsqueeze(1)?.contiguous()?;
        let scores = catalogue.detached().scores(&state)?;
        let log = candle_nn::ops::log_softmax(&scores, D::Minus1)?;
        total = (total - log.gather(&target, 1)?.sum_all()?)?;
        let one = (target.to_dtype(DType::F32)?.ones_like()? * (-1.0 / rows as f64))?;
        let gradient = (log.exp()? / rows as f64)?.scatter_add(&target, &one, 1)?;
        state_gradients.push(gradient.matmul(&weight)?);
        weight_gradient = (weight_gradient + gradient.t()?.contiguous()?.matmul(&state)?)?;
        bias_gradient = (bias_gradient + Tensor::ones((1, count), DType::F32, device)?.matmul(&gradient)?)?;
    }
    let value = (total / rows as f64)?;
    let state_gradient = Tensor::cat(&state_gradients, 0)?;
    let bias_gradient = bias_gradient.squeeze(0)?;
    let mut gradients = vec![(states, &state_gradient), (&catalogue.weight, &weight_gradient)];
    if let Some(bias) = &catalogue.bias {
        gradients.push((bias, &bias_gradient));
    }
    attach(&value, &gradients)
}
