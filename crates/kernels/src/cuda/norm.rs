//! The norm of the transformers' sublayers, and the dropout and residual sum before it.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Result, Shape, Tensor};

use super::function::{Of, apply};
use super::{LANES, NULL, THREADS, count, elementwise, grid, launch, linear, run, values};
use crate::ops::dropout::Dropout;

/// Rows of a block of [`normalise`].
const ROWS: usize = THREADS as usize / LANES;

/// Rows that share a part of the gradients of weight and bias.
const EACH: usize = 16;

/// `residual + dropout(x)`; all of one shape.
pub(crate) fn drop_add(x: &Tensor, residual: Option<&Tensor>, dropout: Option<Dropout>) -> Result<Tensor> {
    let dropout = dropout.filter(|dropout| dropout.probability > 0.0);
    let of_x = move |g: &Tensor| match dropout {
        Some(_) => run([g], |[g]| masked(g, None, dropout)),
        None => Ok(g.clone()),
    };
    match (residual, dropout) {
        (Some(residual), _) => apply(
            "dropout and sum",
            [x, residual],
            move |[x, residual]| masked(x, Some(residual), dropout),
            move |_, _, g| Ok([of_x(g)?, g.clone()]),
        ),
        (None, Some(_)) => {
            apply("dropout", [x], move |[x]| masked(x, None, dropout), move |_, _, g| Ok([of_x(g)?]))
        }
        (None, None) => Ok(x.clone()),
    }
}

fn masked(x: Of<'_>, residual: Option<Of<'_>>, dropout: Option<Dropout>) -> Result<(CudaStorage, Shape)> {
    let (device, shape) = (x.0.device().clone(), x.1.shape().clone());
    let (threshold, scale) = dropout.map_or((0, 1.0), Dropout::threshold_and_scale);
    let key = dropout.map_or(0, |dropout| dropout.key);
    let all = count(shape.elem_count())?;
    let x = values::<f32>(x.0, x.1)?;
    // SAFETY: the kernel writes all elements.
    let y = unsafe { device.alloc::<f32>(shape.elem_count())? };
    let blocks = elementwise(shape.elem_count());
    if let Some(residual) = residual {
        let residual = values::<f32>(residual.0, residual.1)?;
        launch!(device, "drop_add", blocks, &x, &residual, &y, &key, &threshold, &scale, &all);
    } else {
        launch!(device, "drop_add", blocks, &x, &NULL, &y, &key, &threshold, &scale, &all);
    }
    Ok((CudaStorage::wrap_cuda_slice(y, device), shape))
}

/// `weight * (x - mean) / (std + 1e-6) + bias` for each row of `x` `(tokens, hidden)`.
pub(crate) fn normalise(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    apply("norm", [x, weight, bias], forward, |[x, weight, _], _, g| {
        let (rows, hidden) = x.dims2()?;
        let blocks = rows.div_ceil(EACH).div_ceil(ROWS).max(1);
        let parts = Tensor::zeros((blocks * ROWS, 2 * hidden), x.dtype(), x.device())?;
        let dx = run([g, &x, &weight, &parts], |[g, x, weight, parts]| {
            let device = g.0.device().clone();
            let [g, x, weight, parts] = [g, x, weight, parts].map(|of| values::<f32>(of.0, of.1));
            // SAFETY: the kernel writes the gradient of every row.
            let dx = unsafe { device.alloc::<f32>(rows * hidden)? };
            let sizes = (rows as u32, hidden as u32, EACH as u32);
            launch!(
                device,
                "normalise_gradients",
                grid(blocks, THREADS),
                &g?,
                &x?,
                &weight?,
                &dx,
                &parts?,
                &sizes.0,
                &sizes.1,
                &sizes.2,
            );
            Ok((CudaStorage::wrap_cuda_slice(dx, device), (rows, hidden).into()))
        })?;
        let sums = linear::add_columns(&parts)?;
        Ok([dx, sums.narrow(0, 0, hidden)?, sums.narrow(0, hidden, hidden)?])
    })
}

fn forward([x, weight, bias]: [Of<'_>; 3]) -> Result<(CudaStorage, Shape)> {
    let device = x.0.device().clone();
    let (rows, hidden) = x.1.shape().dims2()?;
    let [x, weight, bias] = [x, weight, bias].map(|of| values::<f32>(of.0, of.1));
    // SAFETY: the kernel writes all rows.
    let y = unsafe { device.alloc::<f32>(rows * hidden)? };
    let blocks = grid(rows.div_ceil(ROWS).max(1), THREADS);
    launch!(device, "normalise", blocks, &x?, &weight?, &bias?, &y, &(rows as u32), &(hidden as u32));
    Ok((CudaStorage::wrap_cuda_slice(y, device), (rows, hidden).into()))
}
