//! A GRU over ragged rows: a block of threads takes a row through all its steps, forth and back.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{CudaStorage, DType, Result, Shape, Tensor};

use super::function::{Of, apply};
use super::{grid, launch, lock, locked, tensor, values};
use crate::ops::embedding;
use crate::rows::Rows;

/// [`gru`](crate::gru) of a state no wider than [`WIDEST`](super::WIDEST), over at least one token.
pub(crate) fn gru(x: &Tensor, weight: &Tensor, bias: &Tensor, rows: &Rows) -> Result<Tensor> {
    let (of_result, x) = (x.dtype(), x.to_dtype(DType::F32)?);
    let starts: Vec<u32> = rows.offsets().iter().map(|&start| start as u32).collect();
    let count = starts.len();
    let starts = Tensor::from_vec(starts, count, x.device())?;
    let (first, rows) = (starts.clone(), rows.clone());
    let back = move |[x, transposed, bias]: [Tensor; 3], y: &Tensor, g: &Tensor| {
        let tokens = rows.tokens();
        // Row 0 is the state before a row's first token, row t + 1 that after token t.
        let before = (0..rows.len())
            .flat_map(|row| rows.row(row).enumerate())
            .map(|(place, token)| if place == 0 { 0 } else { token as u32 });
        let before = Tensor::from_vec(before.collect::<Vec<_>>(), tokens, y.device())?;
        let zero = Tensor::zeros((1, y.dim(1)?), DType::F32, y.device())?;
        let previous = embedding::plain(&Tensor::cat(&[&zero, y], 0)?, &before)?;
        let a = previous.matmul(&transposed)?.broadcast_add(&bias)?;
        let weight = transposed.t()?.contiguous()?;
        let [dx, da] = gradients([g, &x, &a, &previous, &weight], &starts)?;
        Ok([dx, previous.t()?.matmul(&da)?, da.sum(0)?])
    };
    apply("gru", [&x, &weight.t()?, bias], move |of| states(of, &first), back)?.to_dtype(of_result)
}

/// A thread for each gate of a state, where a block may have so many.
fn threads(hidden: usize) -> u32 {
    (3 * hidden).next_multiple_of(32).min(768) as u32
}

/// The states after each token, `(tokens, hidden)`: of x `(tokens, 3 hidden)`, the weight transposed `(hidden, 3 hidden)` and
/// the bias; `starts` has each row's first token, and their number at its end.
fn states([x, weight, bias]: [Of<'_>; 3], starts: &Tensor) -> Result<(CudaStorage, Shape)> {
    let device = x.0.device().clone();
    let (tokens, hidden) = (x.1.dims()[0], weight.1.dims()[0]);
    let (x, weight) = (values::<f32>(x.0, x.1)?, values::<f32>(weight.0, weight.1)?);
    let bias = values::<f32>(bias.0, bias.1)?;
    let [guard] = lock([starts]);
    let starts = locked::<u32>(&guard)?;
    // SAFETY: the rows are all tokens, and the kernel writes the state after each.
    let states = unsafe { device.alloc::<f32>(tokens * hidden)? };
    let (blocks, width) = (grid(starts.len() - 1, threads(hidden)), hidden as u32);
    launch!(device, "gru_states", blocks, &x, &weight, &bias, &starts, &states, &width);
    Ok((CudaStorage::wrap_cuda_slice(states, device), (tokens, hidden).into()))
}

/// The gradients of x and of the state's share of the gates, both `(tokens, 3 hidden)`: from `g` `(tokens, hidden)`, x and the
/// state's share, the states before and the weight `(3 hidden, hidden)`.
fn gradients(inputs: [&Tensor; 5], starts: &Tensor) -> Result<[Tensor; 2]> {
    let device = starts.device().as_cuda_device()?;
    let (shape, hidden) = (inputs[1].dims2()?, inputs[0].dim(1)?);
    let (guards, [of_starts]) = (lock(inputs), lock([starts]));
    let [g, x, a, previous, weight] = guards.each_ref().map(locked::<f32>);
    let starts = locked::<u32>(&of_starts)?;
    // SAFETY: the rows are all tokens, and the kernel writes both gradients of each.
    let (dx, da) =
        unsafe { (device.alloc::<f32>(shape.0 * shape.1)?, device.alloc::<f32>(shape.0 * shape.1)?) };
    let (blocks, width) = (grid(starts.len() - 1, threads(hidden)), hidden as u32);
    launch!(device, "gru_gradients", blocks, &g?, &x?, &a?, &previous?, &weight?, &starts, &dx, &da, &width);
    Ok([tensor(dx, device, shape), tensor(da, device, shape)])
}
