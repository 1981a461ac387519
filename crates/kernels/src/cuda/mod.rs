//! Launches of the kernels in `cuda/kernels.cu`, compiled when the crate is built and loaded at their first use.
//!
//! Each function here is the CUDA side of one operation; the operation's CPU side stands in its own module and gives the same
//! bytes. Nothing here waits for the device.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaView, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaDType, CudaStorage, WrapErr};
use candle_core::{Layout, Result, bail};

use crate::ops::dropout::Factors;

/// The kernels, for the compute capability that the crate was built for and later ones.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// The module's name on the device.
const MODULE: &str = "gro";

/// Threads of a block, as `kernels.cu` has them.
const THREADS: u32 = 256;

/// Keys that a block sorts, as `kernels.cu` has them.
const TILE: usize = 2048;

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
    let function = device.get_or_load_custom_func("dropout_factors", MODULE, PTX)?;
    let (threshold, scale) = factors.threshold_and_scale();
    let (key, parts, sharers) = (factors.dropout.key, factors.parts as u32, factors.sharers as u32);
    let (rows, width) = (factors.rows as u32, factors.width as u32);
    let mut builder = function.builder();
    builder.arg(&result).arg(&lengths).arg(&key).arg(&threshold).arg(&scale);
    builder.arg(&parts).arg(&sharers).arg(&rows).arg(&width);
    if count > 0 {
        // SAFETY: types and order of the arguments are those of the kernel, which checks its index against `count`;
        // `lengths` has one element for each `sharers` parts.
        unsafe { builder.launch(grid(count.div_ceil(THREADS as usize), THREADS)) }.w()?;
    }
    Ok(CudaStorage::wrap_cuda_slice(result, device))
}

/// Row `id` of the result `(rows, hidden)`: the rows of `g` `(count, hidden)` of which `ids` say `id`, added in their order.
/// Ids must lie below `rows`.
pub(crate) fn segment_sum(
    (g, g_layout): (&CudaStorage, &Layout),
    (ids, ids_layout): (&CudaStorage, &Layout),
    rows: usize,
    hidden: usize,
) -> Result<CudaStorage> {
    let device = g.device().clone();
    let (g, ids) = (values::<f32>(g, g_layout)?, values::<u32>(ids, ids_layout)?);
    let sums = device.alloc_zeros::<f32>(rows * hidden)?;
    let all = ids_layout.shape().elem_count();
    if all == 0 || hidden == 0 {
        return Ok(CudaStorage::wrap_cuda_slice(sums, device));
    }
    let Ok(count) = u32::try_from(all) else { bail!("cuda: {all} ids in one tensor, at most 2^32 - 1") };
    let tiles = all.div_ceil(TILE);
    let load = |name: &str| device.get_or_load_custom_func(name, MODULE, PTX);
    let (count_digits, scan_counts, move_keys) =
        (load("count_digits")?, load("scan_counts")?, load("move_keys")?);
    // SAFETY: each is written in full before it is read.
    let counts = unsafe { device.alloc::<u32>(256 * tiles)? };
    // From one pair of keys and places to the other and back, pass by pass.
    // SAFETY: the first pass writes the first pair in full, the second the second.
    let buffers = unsafe {
        [
            device.alloc::<u32>(all)?,
            device.alloc::<u32>(all)?,
            device.alloc::<u32>(all)?,
            device.alloc::<u32>(all)?,
        ]
    };
    let [keys_a, places_a, keys_b, places_b] = &buffers;
    let pairs = [(keys_a, places_a), (keys_b, places_b)];
    let bits = usize::BITS - rows.saturating_sub(1).leading_zeros();
    let passes = bits.div_ceil(8).max(1);
    for pass in 0..passes {
        let (shift, first, starts) = (8 * pass, u32::from(pass == 0), 256 * tiles as u32);
        let (_, from_places) = pairs[(pass as usize + 1) % 2];
        let (to_keys, to_places) = pairs[pass as usize % 2];
        let before = pairs[(pass as usize + 1) % 2].0.slice(..);
        let from_keys = if pass == 0 { &ids } else { &before };
        let mut builder = count_digits.builder();
        builder.arg(from_keys).arg(&counts).arg(&count).arg(&shift);
        // SAFETY: the arguments are those of the kernel; `tiles` blocks cover `count` keys, and `counts` holds 256 a block.
        unsafe { builder.launch(grid(tiles, THREADS)) }.w()?;
        let mut builder = scan_counts.builder();
        builder.arg(&counts).arg(&starts);
        // SAFETY: the arguments are those of the kernel, and `counts` has `starts` elements.
        unsafe { builder.launch(grid(1, THREADS)) }.w()?;
        let mut builder = move_keys.builder();
        builder.arg(from_keys).arg(from_places).arg(&counts).arg(to_keys).arg(to_places);
        builder.arg(&count).arg(&shift).arg(&first);
        // SAFETY: the arguments are those of the kernel; what it writes has `count` elements and is not what it reads.
        unsafe { builder.launch(grid(tiles, THREADS)) }.w()?;
    }
    let (keys, places) = pairs[(passes as usize + 1) % 2];
    let function = load("segment_sum")?;
    let width = hidden as u32;
    let mut builder = function.builder();
    builder.arg(&g).arg(keys).arg(places).arg(&sums).arg(&count).arg(&width);
    // SAFETY: the arguments are those of the kernel; places lie below `count`, keys below `rows`.
    unsafe { builder.launch(grid(all, width.next_multiple_of(32).min(THREADS))) }.w()?;
    Ok(CudaStorage::wrap_cuda_slice(sums, device))
}

/// The ids, from 1, of the `k` best of each row of `scores` `(rows, columns)`, best first; `k` is at most
/// [`LONGEST`](crate::catalogue::top_k::LONGEST) and `columns`.
pub(crate) fn top_k(scores: &CudaStorage, layout: &Layout, k: usize) -> Result<CudaStorage> {
    let device = scores.device().clone();
    let (rows, columns) = layout.shape().dims2()?;
    let scores = values::<f32>(scores, layout)?;
    // SAFETY: the kernel writes `k` ids for each row.
    let ids = unsafe { device.alloc::<u32>(rows * k)? };
    if rows > 0 {
        let function = device.get_or_load_custom_func("top_k", MODULE, PTX)?;
        let (columns, k) = (columns as u32, k as u32);
        let mut builder = function.builder();
        builder.arg(&scores).arg(&ids).arg(&columns).arg(&k);
        // SAFETY: the arguments are those of the kernel; a block for each row.
        unsafe { builder.launch(grid(rows, THREADS)) }.w()?;
    }
    Ok(CudaStorage::wrap_cuda_slice(ids, device))
}

/// The kernels as a GPU runs them, which the emulation cannot show. `bench/cuda.sh` runs these tests where there is a GPU.
#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use crate::catalogue::{Catalogue, top_k};
    use crate::ops::{dropout::Dropout, embedding};
    use crate::testing::{ids, numbers};

    fn gpu() -> Device {
        Device::new_cuda(0).expect("a GPU")
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
    fn lists_are_those_of_the_cpu() {
        for (rows, items, k) in [(1, 40, 40), (70, 9001, 100), (16, 1_000_000, 100), (3, 5000, 2048)] {
            // Scores that both devices compute alike: each is one product.
            let states = numbers(3, rows);
            let weight: Vec<f32> = numbers(4, items + 1).iter().map(|x| (x * 4096.0).round()).collect();
            let on = |device: &Device| {
                let weight = Tensor::from_slice(&weight, (items + 1, 1), device).unwrap();
                let catalogue = Catalogue { weight, bias: None, items };
                let states = Tensor::from_slice(&states, (rows, 1), device).unwrap();
                top_k::plain(&catalogue, &states, k).unwrap().to_vec2::<u32>().unwrap()
            };
            assert!(on(&gpu()) == on(&Device::Cpu), "{k} of {items}");
        }
    }
}
