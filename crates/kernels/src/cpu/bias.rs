//! A bias and the many rows it belongs to: laid under them, added to them, and its gradient, their sum.

use super::lanes;

/// Fills each row of `y` with the bias.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
pub(crate) fn fill_rows(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        row.copy_from_slice(bias);
    }
}

/// Adds the bias to each row of `y`.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
pub(crate) fn add_to_rows(y: &mut [f32], bias: &[f32]) {
    for row in y.chunks_exact_mut(bias.len()) {
        lanes::axpy(row, 1.0, bias);
    }
}

/// Adds each row of `g` to `sums`.
#[multiversion::multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+fma+avx2",
    "x86_64+avx2+fma"
))]
pub(crate) fn column_sums(sums: &mut [f32], g: &[f32]) {
    for row in g.chunks_exact(sums.len()) {
        lanes::axpy(sums, 1.0, row);
    }
}
