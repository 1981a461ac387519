//! Weights, transposed once for many products.
//!
//! In a product of states with the transpose of a weight, gemm first transposes (packs) the weight, and a task with a few
//! dozen rows would spend longer on that than on multiplying. So the weight is transposed once per call; that of a catalogue
//! in panels of columns whose scores stay in the second-level cache. gemm takes a panel as it lies.

use super::{
    apply, chunks,
    lanes::LANES,
    matrix::{Store, View, ViewMut, multiply},
    vectorized,
};

/// Most columns of one panel.
const WIDEST: usize = 1024;

/// Rows `first..` of a `(columns, hidden)` weight as panels, each `(hidden, width)`.
#[derive(Debug)]
pub(crate) struct Panels {
    values: Vec<f32>,
    hidden: usize,
    columns: usize,
    width: usize,
}

/// Transposes `weight` `(width, hidden)` into `panel` `(hidden, width)`.
#[apply(vectorized!)]
pub(crate) fn transpose_into(panel: &mut [f32], weight: &[f32], hidden: usize) {
    let width = weight.len() / hidden;
    // A few rows at a time, which stay in the first cache while their columns are read.
    for (block, rows) in weight.chunks(LANES * hidden).enumerate() {
        let first = block * LANES;
        for (h, transposed) in panel.chunks_exact_mut(width).enumerate() {
            for (value, row) in transposed[first..].iter_mut().zip(rows.chunks_exact(hidden)) {
                *value = row[h];
            }
        }
    }
}

/// The transpose of a matrix of `columns` columns, which may have no rows.
pub(crate) fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let mut panel = vec![0.0; matrix.len()];
    if !matrix.is_empty() {
        transpose_into(&mut panel, matrix, columns);
    }
    panel
}

impl Panels {
    /// The panels of a `(columns, hidden)` weight. They are equally wide but for a rounding at the end: a narrow last one would
    /// be multiplied by another routine, which adds in another order.
    pub(crate) fn new(weight: &[f32], hidden: usize) -> Self {
        let columns = weight.len() / hidden;
        let width = columns.div_ceil(columns.div_ceil(WIDEST).max(1)).max(1);
        let values = chunks::build(weight.len(), width * hidden, |index, panel| {
            transpose_into(panel, &weight[index * width * hidden..][..panel.len()], hidden);
        });
        Self { values, hidden, columns, width }
    }

    /// Width of every panel but perhaps the last.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// First column and width of each panel.
    pub(crate) fn each(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.columns).step_by(self.width).map(|first| (first, self.width.min(self.columns - first)))
    }

    /// The scores of `rows` states over the panel that begins at column `first`, into rows `stride` apart.
    pub(crate) fn score(&self, scores: &mut [f32], stride: usize, states: &[f32], rows: usize, first: usize) {
        let width = self.width.min(self.columns - first);
        let panel = View::new(&self.values[first * self.hidden..], self.hidden, width);
        let states = View::new(states, rows, self.hidden);
        multiply(ViewMut::strided(scores, rows, width, stride), Store::Overwrite, states, panel, 1.0);
    }
}
