//! How fast this machine multiplies matrices, by the models' own operation.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

/// Rows and columns of the product.
const SIDE: usize = 1024;

/// How long is measured.
const WHILE: Duration = Duration::from_millis(700);

/// f32 matrix products on all threads, in GFLOP/s: the best of those that fit into a second, so that other work on the machine
/// counts little.
pub(super) fn measured() -> anyhow::Result<f64> {
    let matrix = Tensor::ones((SIDE, SIDE), DType::F32, &Device::Cpu)?.affine(0.5, 0.1)?;
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    while begun.elapsed() < WHILE {
        let before = Instant::now();
        kernels::linear(&matrix, &matrix, None)?;
        best = best.min(before.elapsed().as_secs_f64());
    }
    Ok(2.0 * (SIDE as f64).powi(3) / best / 1e9)
}
