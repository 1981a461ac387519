//! The best and the worst of each row of scores.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::cuda_backend::{CudaStorage, WrapErr};
use candle_core::{Layout, Result};

use super::{THREADS, grid, launch, values};

/// The ids, from 1, of the best and of the worst of each row of `scores` `(rows, columns)`: `(rows, 2)`.
pub(crate) fn extremes(scores: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
    let device = scores.device().clone();
    let (rows, columns) = layout.shape().dims2()?;
    let scores = values::<f32>(scores, layout)?;
    // SAFETY: the kernel writes two ids for each row.
    let ids = unsafe { device.alloc::<u32>(rows * 2)? };
    if rows > 0 {
        launch!(device, "extremes", grid(rows, THREADS), &scores, &ids, &(columns as u32));
    }
    Ok(CudaStorage::wrap_cuda_slice(ids, device))
}
