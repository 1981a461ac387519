//! The lists of each row of scores.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::cuda_backend::{CudaStorage, WrapErr};
use candle_core::{Layout, Result};

use super::{THREADS, grid, launch, values};

/// The ids, from 1, of the `k` best of each row of `scores` `(rows, columns)`, best first; `k` is at most
/// [`LONGEST`](crate::catalogue::top_k::LONGEST) and `columns`.
pub(crate) fn top_k(scores: &CudaStorage, layout: &Layout, k: usize) -> Result<CudaStorage> {
    let device = scores.device().clone();
    let (rows, columns) = layout.shape().dims2()?;
    let scores = values::<f32>(scores, layout)?;
    // SAFETY: the kernel writes `k` ids for each row.
    let ids = unsafe { device.alloc::<u32>(rows * k)? };
    if rows > 0 {
        let (columns, k) = (columns as u32, k as u32);
        launch!(device, "top_k", grid(rows, THREADS), &scores, &ids, &columns, &k);
    }
    Ok(CudaStorage::wrap_cuda_slice(ids, device))
}
