//! Dropout factors as a tensor, for operations that have no dropout of their own.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::cuda_backend::{CudaStorage, WrapErr};
use candle_core::{Layout, Result};

use super::{THREADS, grid, launch, values};
use crate::ops::dropout::Factors;

/// The [`Factors`] of rows of these `lengths`.
pub(crate) fn dropout_factors(
    lengths: &CudaStorage,
    layout: &Layout,
    factors: &Factors,
) -> Result<CudaStorage> {
    let device = lengths.device().clone();
    let lengths = values::<u32>(lengths, layout)?;
    let count = factors.count();
    // SAFETY: the kernel writes all `count` elements.
    let result = unsafe { device.alloc::<f32>(count)? };
    let (threshold, scale) = factors.dropout.threshold_and_scale();
    let (key, parts, sharers) = (factors.dropout.key, factors.parts as u32, factors.sharers as u32);
    let (rows, width) = (factors.rows as u32, factors.width as u32);
    if count > 0 {
        let blocks = grid(count.div_ceil(THREADS as usize), THREADS);
        launch!(
            device,
            "dropout_factors",
            blocks,
            &result,
            &lengths,
            &key,
            &threshold,
            &scale,
            &parts,
            &sharers,
            &rows,
            &width
        );
    }
    Ok(CudaStorage::wrap_cuda_slice(result, device))
}
