//! Cutting work into chunks that depend on shapes only, and the buffers they write.
//!
//! Every task writes its own part of a result or returns a partial sum, and partial sums are added in chunk order. Nothing
//! depends on how many threads there are, so results are the same bytes for any number of them.

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use super::{apply, lanes, vectorized};

/// Most tokens of one chunk where a chunk's partial sums are as large as a weight matrix.
pub(crate) const TOKENS: usize = 512;

/// Fewest tokens that are worth a chunk, with such partial sums, of their own.
const FEWEST: usize = 48;

/// Chunks that a few tokens are cut into at most.
const CHUNKS: usize = 8;

/// Tokens of each chunk of `count`, the last of which may have fewer: a step of a single sequence is work for all cores too.
pub(crate) fn tokens(count: usize) -> usize {
    count.div_ceil((count / FEWEST).clamp(1, CHUNKS)).clamp(1, TOKENS)
}

/// Elements of one chunk of an elementwise pass.
pub(crate) const ELEMENTS: usize = 32 * 1024;

/// A vector of `length` elements, filled in parallel: `fill(i, part)` writes the part that begins at `i * chunk`.
///
/// Each part is zeroed by the task that fills it, while it is in that core's cache, so no separate pass zeroes the whole.
pub(crate) fn build(length: usize, chunk: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    build_with(length, chunk, fill).0
}

/// As [`build`]; also returns what `fill` returned for each part, in their order. Mostly that is a chunk's share of a sum.
pub(crate) fn build_with<T: Send>(
    length: usize,
    chunk: usize,
    fill: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let mut values: Vec<f32> = Vec::with_capacity(length);
    let parts = values.spare_capacity_mut()[..length].par_chunks_mut(chunk.max(1)).enumerate();
    let returned = parts.map(|(index, part)| fill(index, zeroed(part))).collect();
    // SAFETY: the parts cover the first `length` elements, and each was initialised by its task.
    unsafe { values.set_len(length) };
    (values, returned)
}

/// As [`build_with`], in parts of different lengths: part `i` is `offsets[i] * width .. offsets[i + 1] * width`, the first offset 0. Each
/// is a task of its own, with scratch space that may have been another's.
pub(crate) fn build_parts<S: Default, T: Send>(
    offsets: &[usize],
    width: usize,
    fill: impl Fn(&mut S, usize, &mut [f32]) -> T + Sync,
) -> (Vec<f32>, Vec<T>) {
    let length = offsets.last().map_or(0, |end| end * width);
    assert_eq!(offsets.first().copied().unwrap_or(0), 0, "parts begin at 0");
    let mut values: Vec<f32> = Vec::with_capacity(length);
    let parts = split(&mut values.spare_capacity_mut()[..length], offsets, width);
    let parts = parts.into_par_iter().with_max_len(1).enumerate();
    let returned =
        parts.map_init(S::default, |scratch, (index, part)| fill(scratch, index, zeroed(part))).collect();
    // SAFETY: the parts cover the first `length` elements one after another, and each was initialised by its task.
    unsafe { values.set_len(length) };
    (values, returned)
}

/// A part of a vector after zeros were written to all of it.
fn zeroed(part: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    for element in part.iter_mut() {
        element.write(0.0);
    }
    // SAFETY: every element was written just above, and `MaybeUninit<f32>` is laid out as `f32`.
    unsafe { std::slice::from_raw_parts_mut(part.as_mut_ptr().cast::<f32>(), part.len()) }
}

/// Cuts `values` into parts of different lengths: part `i` is `offsets[i] * width .. offsets[i + 1] * width`.
pub(crate) fn split<'a, T>(mut values: &'a mut [T], offsets: &[usize], width: usize) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(offsets.len());
    for pair in offsets.windows(2) {
        let (part, rest) = values.split_at_mut((pair[1] - pair[0]) * width);
        parts.push(part);
        values = rest;
    }
    parts
}

/// The elementwise sum of partial results, added in their order; `length` zeros without any.
pub(crate) fn add_up(partials: &[Vec<f32>], length: usize) -> Vec<f32> {
    build(length, ELEMENTS, |index, sum| {
        let start = index * ELEMENTS;
        let end = start + sum.len();
        for partial in partials {
            add(sum, &partial[start..end]);
        }
    })
}

/// `sum += x`, elementwise.
#[apply(vectorized!)]
pub(crate) fn add(sum: &mut [f32], x: &[f32]) {
    lanes::axpy(sum, 1.0, x);
}

/// The values of an argument of a custom operation.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("fused operation: an argument of shape {:?} is not contiguous", layout.dims()),
    }
}

/// Calls `f` with the values of a CPU tensor, which are made contiguous where they are not.
pub(crate) fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => bail!("fused operation: a tensor is not on the CPU"),
    }
}

/// The gradients of both arguments of an operation, as candle wants them, from their values and the gradient `g`.
pub(crate) fn both_gradients(
    [a, b]: [&Tensor; 2],
    g: &Tensor,
    gradients: impl FnOnce(&[f32], &[f32], &[f32]) -> [Vec<f32>; 2],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let [da, db] = with_values(a, |a| with_values(b, |b| with_values(g, |g| Ok(gradients(a, b, g)))))?;
    let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device()).map(Some);
    Ok((tensor(da, a)?, tensor(db, b)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tokens_are_cut_into_equal_chunks_and_many_into_full_ones() {
        for (count, expected) in [(0, 1), (1, 1), (95, 95), (96, 48), (199, 50), (800, 100), (5000, TOKENS)] {
            assert_eq!(tokens(count), expected, "{count}");
        }
    }

    /// Small, so that Miri (`make sanitize`) reads along.
    #[test]
    fn parts_of_different_lengths_cover_the_whole() {
        for offsets in [&[0][..], &[0, 0], &[0, 3], &[0, 1, 1, 4, 9], &[]] {
            let (values, lengths) = build_parts(offsets, 2, |seen: &mut Vec<usize>, index, part| {
                assert!(part.iter().all(|&value| value == 0.0));
                part.fill(index as f32 + 1.0);
                seen.push(index);
                part.len()
            });
            let expected = offsets.windows(2).map(|pair| 2 * (pair[1] - pair[0]));
            assert!(lengths.iter().copied().eq(expected), "{offsets:?}: {lengths:?}");
            let parts = (1..).zip(&lengths).flat_map(|(part, &length)| vec![part as f32; length]);
            assert!(values.iter().copied().eq(parts), "{offsets:?}: {values:?}");
        }
    }

    /// Small, so that Miri (`make sanitize`) reads along.
    #[test]
    fn parts_cover_the_whole_and_return_in_order() {
        for length in [0, 1, 7, 8, 9, 20] {
            let (values, firsts) = build_with(length, 4, |index, part| {
                assert!(part.iter().all(|&value| value == 0.0) && part.len() <= 4);
                for (place, value) in part.iter_mut().enumerate() {
                    *value = (4 * index + place) as f32;
                }
                part[0]
            });
            assert!(values.iter().copied().eq((0..length).map(|i| i as f32)), "{length}: {values:?}");
            assert!(
                firsts.iter().copied().eq((0..length).step_by(4).map(|i| i as f32)),
                "{length}: {firsts:?}"
            );
        }
    }
}
