//! Launches of the kernels in `cuda/kernels.cu`, compiled when the crate is built and loaded at their first use.
//!
//! A file for each operation, with its launches and, where it has one, its backward pass; the operation's CPU side stands in its own
//! module. Nothing here waits for the device.

pub(crate) mod activation;
mod adamw;
pub(crate) mod additive_attention;
pub(crate) mod attention;
pub(crate) mod cross_entropy;
mod device;
mod dropout;
mod extremes;
mod function;
pub(crate) mod gru;
pub(crate) mod linear;
mod lookup;
pub(crate) mod norm;
mod top_k;

use std::ops::Deref;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, LaunchConfig};
use candle_core::cuda_backend::{CudaDType, CudaDevice, CudaStorage};
use candle_core::op::BackpropOp;
use candle_core::{DType, Layout, Result, Shape, Storage, Tensor, bail};

pub(crate) use self::adamw::adamw;
pub use self::device::cuda_device;
pub(crate) use self::dropout::dropout_factors;
pub(crate) use self::extremes::extremes;
use self::function::Of;
pub(crate) use self::lookup::segment_sum;
pub(crate) use self::top_k::top_k;

/// The kernels, for the compute capability that the crate was built for and later ones.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// The module's name on the device.
const MODULE: &str = "gro";

/// A tensor that a kernel is not given.
const NULL: u64 = 0;

/// Threads of a block, as `kernels.cu` has them.
const THREADS: u32 = 256;

/// Keys that a block sorts, as `kernels.cu` has them.
const TILE: usize = 256;

/// Widest state of a recurrent unit, as `kernels.cu` has it.
pub(crate) const WIDEST: usize = 1024;

/// Most keys of a row in the additive attention, as `kernels.cu` has them.
pub(crate) const MOST_KEYS: usize = 2048;

/// Threads that share a row, as `kernels.cu` has them.
const LANES: usize = 32;

/// Blocks of a kernel whose threads take one element after another.
const MOST_BLOCKS: usize = 2048;

/// `blocks` blocks of `threads` threads.
fn grid(blocks: usize, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// The elements of a contiguous tensor.
fn values<'a, T: CudaDType>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        None => bail!("cuda: a tensor of shape {:?} is not contiguous", layout.dims()),
    }
}

/// Whether the kernels here are for this tensor.
pub(crate) fn takes(x: &Tensor) -> bool {
    x.device().is_cuda() && x.dtype() == DType::F32
}

/// So many elements as a kernel counts them.
fn count(elements: usize) -> Result<u32> {
    // Threads step beyond the last element before they see it.
    if elements > 1 << 31 {
        bail!("cuda: {elements} elements in one tensor, at most 2^31; use a smaller batch")
    }
    Ok(elements as u32)
}

/// Blocks whose threads take `elements` elements, several each where there are many.
fn elementwise(elements: usize) -> LaunchConfig {
    grid(elements.div_ceil(THREADS as usize).clamp(1, MOST_BLOCKS), THREADS)
}

/// Launches a kernel with its arguments, in their order.
macro_rules! launch {
    ($device:expr, $name:literal, $grid:expr, $($argument:expr),+ $(,)?) => {{
        let function = $device.get_or_load_custom_func($name, $crate::cuda::MODULE, $crate::cuda::PTX)?;
        // SAFETY: every launch gives a kernel the arguments it declares, in order and type, and the elements that it indexes.
        unsafe { function.builder()$(.arg($argument))+.launch($grid) }.w()?;
    }};
}
use launch;

/// The storages of tensors on a GPU, locked so that they can be read.
fn lock<const N: usize>(tensors: [&Tensor; N]) -> [(impl Deref<Target = Storage>, &Layout); N] {
    tensors.map(Tensor::storage_and_layout)
}

/// The elements of a locked, contiguous tensor.
fn locked<'a, T: CudaDType>(
    (storage, layout): &'a (impl Deref<Target = Storage>, &Layout),
) -> Result<CudaView<'a, T>> {
    match &**storage {
        Storage::Cuda(storage) => values(storage, layout),
        _ => bail!("cuda: a tensor is not on the GPU"),
    }
}

/// What `f` makes of the storages of these tensors, as a tensor without a history.
fn run<const N: usize>(
    tensors: [&Tensor; N],
    f: impl FnOnce([Of<'_>; N]) -> Result<(CudaStorage, Shape)>,
) -> Result<Tensor> {
    let guards = lock(tensors);
    let mut storages = Vec::with_capacity(N);
    for (storage, layout) in &guards {
        match &**storage {
            Storage::Cuda(storage) => storages.push((storage, *layout)),
            _ => bail!("cuda: a tensor is not on the GPU"),
        }
    }
    let Ok(storages) = storages.try_into() else { bail!("cuda: {N} tensors are needed") };
    let (storage, shape) = f(storages)?;
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}

/// What a kernel has written, as a tensor without a history.
fn tensor<T: CudaDType>(slice: CudaSlice<T>, device: &CudaDevice, shape: impl Into<Shape>) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Tensor::from_storage(storage, shape, BackpropOp::none(), false)
}

/// The kernels as a GPU runs them, which the emulation cannot show. `bench/cuda.sh` runs these tests where there is a GPU.
#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use crate::AdamWStep;
    use crate::catalogue::{Catalogue, top_k};
    use crate::ops::{dropout::Dropout, embedding};
    use crate::testing::{self, assert_close, ids, numbers};

    fn gpu() -> Device {
        testing::gpu().cloned().unwrap_or_else(|| super::cuda_device(0).expect("a GPU"))
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn dropout_factors_are_those_of_the_cpu() {
        let dropout = Dropout { probability: 0.3, key: 77 };
        let on =
            |device: &Device| dropout.factors(&[513, 65], device).unwrap().unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(on(&gpu()), on(&Device::Cpu));
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn gradients_of_a_lookup_are_those_of_the_cpu() {
        for (rows, hidden, count) in [(1, 1, 1), (300, 64, 25_600), (1_000_000, 64, 192_000)] {
            let (table, g) = (vec![0f32; rows * hidden], numbers(1, count * hidden));
            let ids = ids(2, count, rows as u32);
            let on = |device: &Device| {
                let table = candle_core::Var::from_slice(&table, (rows, hidden), device).unwrap();
                let found = embedding::plain(&table, &Tensor::new(&ids[..], device).unwrap()).unwrap();
                let g = Tensor::from_slice(&g, (count, hidden), device).unwrap();
                let gradients = (found * g).unwrap().sum_all().unwrap().backward().unwrap();
                gradients.get(&table).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            assert!(on(&gpu()) == on(&Device::Cpu), "{rows} rows");
        }
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn steps_of_adamw_are_those_of_the_cpu() {
        for (count, clip_norm) in [(1, 1e6), (70_001, 1e6), (20_000_000, f64::INFINITY), (70_001, 0.5)] {
            let on = |device: &Device| {
                let tensor = |seed| Tensor::from_vec(numbers(seed, count), count, device).unwrap();
                let variables = [1, 2, 3].map(|seed| Var::from_tensor(&tensor(seed).sqr().unwrap()).unwrap());
                for step in 1..=3 {
                    let (beta1, beta2, epsilon, weight_decay) = (0.9, 0.999, 1e-9, 0.05);
                    let step = AdamWStep { lr: 1e-2, beta1, beta2, epsilon, weight_decay, clip_norm, step };
                    let [param, first, second] = &variables;
                    crate::adamw(param, &tensor(3 + step.step), first, second, &step).unwrap();
                }
                variables.map(|x| x.to_vec1::<f32>().unwrap())
            };
            let (found, expected) = (on(&gpu()), on(&Device::Cpu));
            for (found, expected) in found.iter().zip(&expected) {
                if clip_norm == 0.5 {
                    assert_close("adamw", found, expected, 1e-5);
                } else {
                    assert!(found == expected, "{count} elements, clipped to {clip_norm}");
                }
            }
        }
    }

    #[test]
    #[ignore = "needs a GPU"]
    fn lists_and_extremes_are_those_of_the_cpu() {
        for (rows, items, k) in [(1, 40, 40), (70, 9001, 100), (16, 1_000_000, 100), (3, 5000, 2048)] {
            // Scores that both devices compute alike: each is one product.
            let states = numbers(3, rows);
            let weight: Vec<f32> = numbers(4, items + 1).iter().map(|x| (x * 4096.0).round()).collect();
            let on = |device: &Device| {
                let weight = Tensor::from_slice(&weight, (items + 1, 1), device).unwrap();
                let catalogue = Catalogue { weight, bias: None, items };
                let states = Tensor::from_slice(&states, (rows, 1), device).unwrap();
                let lists = top_k::plain(&catalogue, &states, k).unwrap().to_vec2::<u32>().unwrap();
                let (best, worst) = catalogue.extremes(&states).unwrap();
                (lists, [best, worst].map(|ids| ids.to_vec1::<u32>().unwrap()))
            };
            assert!(on(&gpu()) == on(&Device::Cpu), "{k} of {items}");
        }
    }
}
