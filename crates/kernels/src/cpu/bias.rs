//! A bias and the many rows it belongs to: laid under them, added to them, and its gradient, their sum.

use super::{apply, lanes, vectorized};

/// Fills each row of `y` with the bias.
#[apply(vectorized!)]
pub(crate) fn fill_rows(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        row.copy_from_slice(bias);
    }
}

/// Adds the bias to each row of `y`.
#[apply(vectorized!)]
pub(crate) fn add_to_rows(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        lanes::axpy(row, 1.0, bias);
    }
}

/// Adds each row of `g` to `sums`.
#[apply(vectorized!)]
pub(crate) fn column_sums(sums: &mut [f32], g: &[f32]) {
    for row in g.chunks_exact(sums.len()) {
        lanes::axpy(sums, 1.0, row);
    }
}
