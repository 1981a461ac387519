//! Negatives: uniform draws turned into items outside a row's answers.
//!
//! A negative is uniform over the items that are not answers. A uniform number below `items - k`, counted up past the answers,
//! is one without a rejection loop, so that a step takes a fixed number of draws from its random stream.

use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

/// The `draws[r, j]`-th item id, ascending from 1 and counting from draw 0, among the ids that are not in row `r` of `answers`.
///
/// `answers` is `(rows, k)` and `draws` `(rows, c)`, both u32; a row's answers are distinct ids in `1..=items`, a draw lies
/// in `0..items - k`. The result is `(rows, c)` of u32 on the device of `answers`.
pub fn outside(answers: &Tensor, draws: &Tensor, items: usize) -> Result<Tensor> {
    let (rows, k) = answers.dims2()?;
    let (draw_rows, _) = draws.dims2()?;
    if rows != draw_rows || k >= items {
        bail!(
            "outside: answers {:?} and draws {:?} of {items} items do not fit",
            answers.dims(),
            draws.dims()
        );
    }
    if crate::fused(answers.device()) { fused(answers, draws, items) } else { plain(answers, draws) }
}

/// Columns that candle can sort on CUDA: a row must fit into a block's shared memory.
const GPU_SORTS: usize = 8192;

/// Plain twin, which trusts answers and draws: to check them, the host would have to wait for the device.
pub(crate) fn plain(answers: &Tensor, draws: &Tensor) -> Result<Tensor> {
    let (_, k) = answers.dims2()?;
    if answers.device().is_cuda() && k > GPU_SORTS {
        bail!("outside: lists of {k} answers; a GPU takes {GPU_SORTS} at most");
    }
    let (sorted, _) = answers.contiguous()?.sort_last_dim(true)?;
    // As in `shift`: how many items outside lie before each answer, and how many answers a draw is past.
    let places = Tensor::arange(1u32, 1 + k as u32, answers.device())?;
    let before = sorted.broadcast_sub(&places.unsqueeze(0)?)?; // (rows, k)
    let past = before.unsqueeze(1)?.broadcast_le(&draws.unsqueeze(2)?)?.to_dtype(DType::U32)?.sum(2)?; // (rows, c)
    (draws + past)? + draws.ones_like()?
}

/// Fused, on the host; checks answers and draws.
fn fused(answers: &Tensor, draws: &Tensor, items: usize) -> Result<Tensor> {
    let ((rows, k), count) = (answers.dims2()?, draws.dim(1)?);
    let device = answers.device();
    let answers = answers.flatten_all()?.to_vec1::<u32>()?;
    let mut ids = draws.flatten_all()?.to_vec1::<u32>()?;
    if count > 0 {
        ids.par_chunks_mut(count).enumerate().with_min_len(16).try_for_each_init(
            Vec::new,
            |sorted, (r, ids)| {
                sorted.clear();
                sorted.extend_from_slice(&answers[r * k..(r + 1) * k]);
                shift(sorted, ids, r, items)
            },
        )?;
    }
    Tensor::from_vec(ids, (rows, count), device)
}

/// Turns the draws of row `r` into ids; `sorted` comes in as its answers.
fn shift(sorted: &mut [u32], ids: &mut [u32], r: usize, items: usize) -> Result<()> {
    let k = sorted.len();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        bail!("outside: row {r} of the answers holds an item twice");
    }
    if sorted.first().is_some_and(|&id| id == 0) || sorted.last().is_some_and(|&id| id as usize > items) {
        bail!("outside: row {r} of the answers holds an id outside 1..={items}");
    }
    // The j-th answer has `answer - 1 - j` items outside the answers before it; the draw is past all answers for which
    // that is at most the draw.
    for (id, j) in sorted.iter_mut().zip(0u32..) {
        *id -= 1 + j;
    }
    for id in ids {
        if *id as usize >= items - k {
            bail!("outside: draw {id} of row {r} is not below {items} items less {k} answers");
        }
        *id += 1 + sorted.partition_point(|before| before <= id) as u32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn of(answers: &[[u32; 3]], draws: &[[u32; 4]], items: usize) -> Result<Vec<Vec<u32>>> {
        let answers = Tensor::from_slice(answers.as_flattened(), (answers.len(), 3), &Device::Cpu)?;
        let draws = Tensor::from_slice(draws.as_flattened(), (draws.len(), 4), &Device::Cpu)?;
        outside(&answers, &draws, items)?.to_vec2()
    }

    #[test]
    fn every_item_outside_is_reached_in_order() {
        let answers = [[7, 1, 2], [3, 5, 4], [5, 6, 7], [1, 4, 6]];
        let found = of(&answers, &[[0, 1, 2, 3]; 4], 7).unwrap();
        assert_eq!(found, [[3, 4, 5, 6], [1, 2, 6, 7], [1, 2, 3, 4], [2, 3, 5, 7]]);
    }

    #[test]
    fn twins_agree() {
        let (rows, k, count, items) = (7, 5, 40, 45);
        let answers: Vec<u32> =
            (0..rows).flat_map(|row| (0..k).map(move |j| 1 + (row * 13 + j * 7) % items)).collect();
        let draws: Vec<u32> = (0..rows).flat_map(|_| 0..count).collect();
        let answers = Tensor::from_vec(answers, (rows as usize, k as usize), &Device::Cpu).unwrap();
        let draws = Tensor::from_vec(draws, (rows as usize, count as usize), &Device::Cpu).unwrap();
        let values = |tensor: Tensor| tensor.to_vec2::<u32>().unwrap();
        let found = values(fused(&answers, &draws, items as usize).unwrap());
        assert_eq!(found, values(plain(&answers, &draws).unwrap()));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(of(&[[1, 2, 3]], &[[0, 0, 0, 4]], 7).is_err(), "draw too large");
        assert!(of(&[[1, 2, 2]], &[[0; 4]], 7).is_err(), "answer twice");
        assert!(of(&[[0, 1, 2]], &[[0; 4]], 7).is_err(), "padding");
        assert!(of(&[[1, 2, 8]], &[[0; 4]], 7).is_err(), "past the items");
        assert!(of(&[[1, 2, 3]], &[[0; 4]], 3).is_err(), "nothing outside");
    }
}
