//! Turning uniform draws into items outside a row's answers.
//!
//! Negatives are uniform over the items that are not answers. Drawing a number below `items - k` and walking past the
//! answers gives that without a rejection loop, so the draws of a step are a fixed number of one stream.

use candle_core::{Result, Tensor, bail};

/// The `draws[r, j]`-th item id, ascending from 1 and counting from draw 0, among the ids that are not in row `r` of `answers`.
///
/// `answers` is `(rows, k)` and `draws` `(rows, c)`, both u32; a row's answers are distinct ids in `1..=items`, a draw lies
/// in `0..items - k`. The result is `(rows, c)` of u32 on the device of `answers`.
pub fn outside(answers: &Tensor, draws: &Tensor, items: usize) -> Result<Tensor> {
    let (rows, k) = answers.dims2()?;
    let (draw_rows, count) = draws.dims2()?;
    if rows != draw_rows || k >= items {
        bail!(
            "outside: answers {:?} and draws {:?} of {items} items do not fit",
            answers.dims(),
            draws.dims()
        );
    }
    let device = answers.device();
    let answers = answers.flatten_all()?.to_vec1::<u32>()?;
    let mut ids = draws.flatten_all()?.to_vec1::<u32>()?;
    let mut sorted = Vec::with_capacity(k);
    for r in 0..rows {
        sorted.clear();
        sorted.extend_from_slice(&answers[r * k..(r + 1) * k]);
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            bail!("outside: row {r} of the answers holds an item twice");
        }
        if sorted.first().is_some_and(|&id| id == 0) || sorted.last().is_some_and(|&id| id as usize > items) {
            bail!("outside: row {r} of the answers holds an id outside 1..={items}");
        }
        // The j-th answer has `answer - 1 - j` items outside the answers before it; the draw is past all answers for
        // which that is at most the draw.
        for (j, id) in sorted.iter_mut().enumerate() {
            *id -= 1 + j as u32;
        }
        for id in &mut ids[r * count..(r + 1) * count] {
            if *id as usize >= items - k {
                bail!("outside: draw {id} of row {r} is not below {} items less {k} answers", items);
            }
            *id += 1 + sorted.partition_point(|before| before <= id) as u32;
        }
    }
    Tensor::from_vec(ids, (rows, count), device)
}
