//! The gradient of a lookup: a stable sort of the ids, then one sum for each row of the table, in the order of the batch.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::cuda_backend::{CudaStorage, WrapErr};
use candle_core::{Layout, Result, bail};

use super::{LANES, THREADS, TILE, grid, launch, values};

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
    // SAFETY: each is written in full before it is read.
    let (counts, totals) = unsafe { (device.alloc::<u32>(256 * tiles)?, device.alloc::<u32>(256)?) };
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
        let (shift, first, of_each) = (8 * pass, u32::from(pass == 0), tiles as u32);
        let (_, from_places) = pairs[(pass as usize + 1) % 2];
        let (to_keys, to_places) = pairs[pass as usize % 2];
        let before = pairs[(pass as usize + 1) % 2].0.slice(..);
        let from_keys = if pass == 0 { &ids } else { &before };
        let one_each = grid(tiles, THREADS);
        launch!(device, "count_digits", one_each, from_keys, &counts, &count, &shift);
        launch!(device, "scan_counts", grid(256, THREADS), &counts, &totals, &of_each);
        launch!(
            device,
            "move_keys",
            one_each,
            from_keys,
            from_places,
            &counts,
            &totals,
            to_keys,
            to_places,
            &count,
            &shift,
            &first
        );
    }
    let (keys, places) = pairs[(passes as usize + 1) % 2];
    let lanes = (hidden.next_multiple_of(LANES) as u32).min(THREADS);
    let blocks = grid(all.div_ceil((THREADS / lanes) as usize), THREADS);
    launch!(device, "segment_sum", blocks, &g, keys, places, &sums, &count, &(hidden as u32), &lanes);
    Ok(CudaStorage::wrap_cuda_slice(sums, device))
}
