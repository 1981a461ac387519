//! An affine map: the product is cuBLAS's, the bias and the sum over tokens in its gradient are ours.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, Result, Shape, Tensor};

use super::function::{Of, apply};
use super::{THREADS, count, elementwise, grid, launch, run, values};

/// Rows that a block of the first of two launches sums.
const ROWS: usize = 64;

/// `x weight^T + bias` for `x` `(tokens, in)` and `weight` `(out, in)`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => apply(
            "linear",
            [x, weight, bias],
            |[x, weight, bias]| product(x, weight, Some(bias)),
            |[x, weight, _], _, g| Ok([g.matmul(&weight)?, g.t()?.matmul(&x)?, column_sums(g)?]),
        ),
        None => apply(
            "linear",
            [x, weight],
            |[x, weight]| product(x, weight, None),
            |[x, weight], _, g| Ok([g.matmul(&weight)?, g.t()?.matmul(&x)?]),
        ),
    }
}

fn product(x: Of<'_>, weight: Of<'_>, bias: Option<Of<'_>>) -> Result<(CudaStorage, Shape)> {
    let device = x.0.device();
    let ((tokens, inputs), (outputs, _)) = (x.1.shape().dims2()?, weight.1.shape().dims2()?);
    let y = x.0.matmul(weight.0, (1, tokens, outputs, inputs), x.1, &weight.1.transpose(0, 1)?)?;
    if let Some(bias) = bias {
        let bias = values::<f32>(bias.0, bias.1)?;
        let (width, all) = (outputs as u32, count(tokens * outputs)?);
        launch!(
            device,
            "add_bias",
            elementwise(tokens * outputs),
            y.as_cuda_slice::<f32>()?,
            &bias,
            &width,
            &all
        );
    }
    Ok((y, (tokens, outputs).into()))
}

/// The sums of the columns of `x` `(rows, width)`.
pub(crate) fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let parts = run([&x.contiguous()?], |[x]| {
        let (device, parts) = (x.0.device().clone(), rows.div_ceil(ROWS).max(1));
        let values = values::<f32>(x.0, x.1)?;
        // SAFETY: each block writes a row.
        let sums = unsafe { device.alloc::<f32>(parts * width)? };
        let (blocks, sizes) = (grid(parts, THREADS), (rows as u32, width as u32, ROWS as u32));
        launch!(device, "column_parts", blocks, &values, &sums, &sizes.0, &sizes.1, &sizes.2);
        Ok((CudaStorage::wrap_cuda_slice(sums, device), (parts, width).into()))
    })?;
    add_columns(&parts)
}

/// The same of few rows, a block for each column.
pub(crate) fn add_columns(parts: &Tensor) -> Result<Tensor> {
    let (rows, width) = parts.dims2()?;
    run([parts], |[parts]| {
        let device = parts.0.device().clone();
        let values = values::<f32>(parts.0, parts.1)?;
        // SAFETY: each block writes the sum of a column.
        let sums = unsafe { device.alloc::<f32>(width)? };
        launch!(device, "add_columns", grid(width, THREADS), &values, &sums, &(rows as u32), &(width as u32));
        Ok((CudaStorage::wrap_cuda_slice(sums, device), width.into()))
    })
}
