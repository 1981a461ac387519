//! gelu and relu, and what each makes of a gradient.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Result, Shape, Tensor};

use super::function::{Of, apply};
use super::{NULL, count, elementwise, launch, run, values};
use crate::ops::activation::Activation;

/// The activation of each element.
pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    apply(
        "activation",
        [x],
        move |[x]| elements(x, None, activation),
        move |[x], _, g| Ok([run([&x, g], |[x, g]| elements(x, Some(g), activation))?]),
    )
}

/// The activations of `x`, or its gradients from `g`.
fn elements(x: Of<'_>, g: Option<Of<'_>>, activation: Activation) -> Result<(CudaStorage, Shape)> {
    let (device, shape) = (x.0.device().clone(), x.1.shape().clone());
    let (kind, all) = (u32::from(activation == Activation::Relu), count(shape.elem_count())?);
    let x = values::<f32>(x.0, x.1)?;
    // SAFETY: the kernel writes all elements.
    let y = unsafe { device.alloc::<f32>(shape.elem_count())? };
    let blocks = elementwise(shape.elem_count());
    if let Some(g) = g {
        launch!(device, "activate", blocks, &x, &values::<f32>(g.0, g.1)?, &y, &kind, &all);
    } else {
        launch!(device, "activate", blocks, &x, &NULL, &y, &kind, &all);
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}
