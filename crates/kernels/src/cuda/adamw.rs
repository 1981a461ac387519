//! One step of AdamW in two launches: the norm of the gradient, and all else.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor, Var};

use super::{THREADS, count, elementwise, grid, launch, lock, locked};
use crate::ops::adamw::{AdamWStep, Update};

/// One step of AdamW, of the parameter and both moments in place; all four tensors have one shape.
///
/// They are written through handles that others may hold too. On the device there is one order of all work, so that whoever
/// reads them before or after reads what was there then.
pub(crate) fn adamw(
    param: &Var,
    grad: &Tensor,
    (first, second): (&Var, &Var),
    step: &AdamWStep,
    update: &Update,
) -> Result<()> {
    let grad = grad.contiguous()?;
    if grad.elem_count() == 0 {
        return Ok(());
    }
    let count = count(grad.elem_count())?;
    let device = grad.device().as_cuda_device()?;
    let guards = lock([param.as_tensor(), first.as_tensor(), second.as_tensor(), &grad]);
    let (param, first) = (locked::<f32>(&guards[0])?, locked::<f32>(&guards[1])?);
    let (second, grad) = (locked::<f32>(&guards[2])?, locked::<f32>(&guards[3])?);
    let blocks = grad.len().div_ceil(THREADS as usize);
    // As many sums as a block has threads, which add them up.
    let parts = if step.clip_norm.is_finite() { blocks.min(THREADS as usize) } else { 0 };
    // SAFETY: each block writes its part before any is read.
    let squares = unsafe { device.alloc::<f32>(parts.max(1))? };
    if parts > 0 {
        launch!(device, "square_sums", grid(parts, THREADS), &grad, &squares, &count);
    }
    let (kept1, taken1) = (step.beta1 as f32, (1.0 - step.beta1) as f32);
    let (kept2, taken2) = (step.beta2 as f32, (1.0 - step.beta2) as f32);
    let (parts, clip_norm) = (parts as u32, step.clip_norm as f32);
    launch!(
        device,
        "adamw",
        elementwise(grad.len()),
        &param,
        &first,
        &second,
        &grad,
        &squares,
        &count,
        &parts,
        &clip_norm,
        &kept1,
        &taken1,
        &kept2,
        &taken2,
        &update.keep,
        &update.rate,
        &update.root,
        &update.epsilon,
    );
    Ok(())
}
