//! Cross entropy over the whole catalogue: softmax, loss and gradient of a block of scores in one launch.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Storage, Tensor, bail};

use super::function::apply;
use super::{THREADS, grid, launch, lock, locked, tensor};

/// The cross entropy of each row of `scores` `(rows, columns)` under its target (u32, `(rows)`, below `columns`): `(rows)`. The scores
/// become the gradient of `share` times their sum, so nobody else may hold them.
pub(crate) fn softmax_loss(scores: &Tensor, targets: &Tensor, share: f32) -> Result<Tensor> {
    let (rows, columns) = scores.dims2()?;
    let device = scores.device().as_cuda_device()?;
    let guards = lock([scores, targets]);
    let (scores, targets) = (locked::<f32>(&guards[0])?, locked::<u32>(&guards[1])?);
    // SAFETY: each block writes its row's.
    let losses = unsafe { device.alloc::<f32>(rows)? };
    let sizes = (share, columns as u32);
    launch!(device, "softmax_loss", grid(rows, THREADS), &scores, &targets, &losses, &sizes.0, &sizes.1);
    Ok(tensor(losses, device, rows))
}

/// A scalar that equals `value` and whose gradients with respect to states, weight and bias are those given.
pub(crate) fn attach(
    value: &Tensor,
    (states, of_states): (&Tensor, Tensor),
    (weight, of_weight): (&Tensor, Tensor),
    bias: Option<(&Tensor, Tensor)>,
) -> Result<Tensor> {
    let value = value.detach();
    let copy = move || match &*value.storage_and_layout().0 {
        Storage::Cuda(storage) => Ok((storage.try_clone(value.layout())?, ().into())),
        _ => bail!("cuda: a tensor is not on the GPU"),
    };
    match bias {
        Some((bias, of_bias)) => apply(
            "cross entropy with bias",
            [states, weight, bias],
            move |_| copy(),
            move |_, _, g| {
                Ok([of_states.broadcast_mul(g)?, of_weight.broadcast_mul(g)?, of_bias.broadcast_mul(g)?])
            },
        ),
        None => apply(
            "cross entropy",
            [states, weight],
            move |_| copy(),
            move |_, _, g| Ok([of_states.broadcast_mul(g)?, of_weight.broadcast_mul(g)?]),
        ),
    }
}
