//! The scores of all items in blocks, never all of them at once.
//!
//! Fused, one task takes a block of rows over the items in panels, a matrix product each, and keeps of each panel only what its
//! result needs. A state has the same scores in any batch, so that the rank of one state alone agrees with a list made among
//! others. Plain, one block of rows after another is scored over all items.

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::Catalogue;
use crate::cpu::{bias::add_to_rows, chunks, panels::Panels};

/// Most scores held at once, in elements.
pub(super) const BUDGET: usize = 4 << 20;

/// The same on a GPU, half a gigabyte: a block of rows has to keep all of it at work, and of a million items the other budget
/// would be four.
const GPU_BUDGET: usize = 128 << 20;

/// Rows of a block of scores with so many columns, on this device.
pub(super) fn rows_at_once(device: &Device, columns: usize) -> usize {
    let budget = if device.is_cuda() { GPU_BUDGET } else { BUDGET };
    (budget / columns).max(1)
}

/// Most rows of one task.
const ROWS: usize = 32;

/// What the fused scores are computed from.
#[derive(Clone, Copy)]
pub(super) struct Scorer<'a> {
    states: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
    panels: &'a Panels,
    pub(super) hidden: usize,
}

impl Scorer<'_> {
    /// The states of the block from `row` on, and how many.
    pub(super) fn block(&self, row: usize) -> (&[f32], usize) {
        let block = &self.states[row * self.hidden..];
        let block = &block[..block.len().min(ROWS * self.hidden)];
        (block, block.len() / self.hidden)
    }

    /// Calls `visit(first id, width, scores)` with the scores of the block's rows over one panel of items after another.
    pub(super) fn for_each_panel(&self, block: &[f32], mut visit: impl FnMut(u32, usize, &[f32])) {
        let rows = block.len() / self.hidden;
        let mut scores = vec![0.0; rows * self.panels.width()];
        for (first, width) in self.panels.each() {
            let scores = &mut scores[..rows * width];
            self.panels.score(scores, width, block, rows, first);
            if let Some(bias) = self.bias {
                add_to_rows(scores, &bias[first + 1..=first + width]);
            }
            visit(first as u32 + 1, width, scores);
        }
    }
}

/// The items' part of the weight in panels.
pub(super) fn panels_of(catalogue: &Catalogue) -> Result<Panels> {
    catalogue.columns()?;
    let hidden = catalogue.weight.dim(1)?;
    chunks::with_values(&catalogue.weight, |weight| {
        Ok(Panels::new(&weight[hidden..][..catalogue.items * hidden], hidden))
    })
}

/// Fused: runs `task` for each block of rows, on the block's part of a result with `width` ids a row. `panels` are those of
/// [`panels_of`], where they are kept.
pub(super) fn by_blocks(
    catalogue: &Catalogue,
    panels: Option<&Panels>,
    states: &Tensor,
    width: usize,
    task: impl Fn(&Scorer<'_>, usize, &mut [u32]) + Sync,
) -> Result<Vec<u32>> {
    catalogue.columns()?;
    let (rows, hidden) = states.dims2()?;
    let made = panels.is_none().then(|| panels_of(catalogue)).transpose()?;
    let Some(panels) = panels.or(made.as_ref()) else { bail!("a catalogue without panels") };
    let mut ids = vec![0u32; rows * width];
    let mut run = |states: &[f32], weight: &[f32], bias: Option<&[f32]>| {
        let scorer = Scorer { states, weight, bias, panels, hidden };
        ids.par_chunks_mut(ROWS * width)
            .enumerate()
            .for_each(|(index, ids)| task(&scorer, index * ROWS, ids));
    };
    chunks::with_values(states, |states| {
        chunks::with_values(&catalogue.weight, |weight| {
            if let Some(bias) = &catalogue.bias {
                chunks::with_values(bias, |bias| {
                    run(states, weight, Some(bias));
                    Ok(())
                })
            } else {
                run(states, weight, None);
                Ok(())
            }
        })
    })?;
    Ok(ids)
}

/// Plain: calls `visit` with the start of each block of at most `block` rows and its item scores, `(count, items)` contiguous.
pub(super) fn for_each_block(
    catalogue: &Catalogue,
    states: &Tensor,
    block: usize,
    mut visit: impl FnMut(usize, Tensor) -> Result<()>,
) -> Result<()> {
    let (rows, items) = (states.dim(0)?, catalogue.items);
    // The items' columns alone, so that no score has to be moved.
    let of_items = Catalogue {
        weight: catalogue.weight.detach().narrow(0, 1, items)?,
        bias: catalogue.bias.as_ref().map(|bias| bias.detach().narrow(0, 1, items)).transpose()?,
        items,
    };
    for start in (0..rows).step_by(block) {
        let count = block.min(rows - start);
        let states = states.detach().narrow(0, start, count)?.to_dtype(DType::F32)?;
        visit(start, of_items.scores(&states)?)?;
    }
    Ok(())
}
