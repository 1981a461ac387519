//! A safe face for the `gemm` crate: matrices are views of slices, and their bounds are checked once per product.
//!
//! gemm splits rows and columns of the result and never the inner sum, so a product is the same bytes for any number of
//! threads. Where the right matrix lies row by row, every number is one chain of fused multiply-adds over the inner index, and
//! so the same in a product of any size (up to 512 inner elements); where it is a transpose, small products add in another
//! order. Most callers multiply serially inside a task of their own, where the operands are still in cache.

use gemm::Parallelism;

/// The shortest inner sum that gemm treats as any other.
const SHORTEST: usize = 3;

/// A read-only matrix in a slice.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// Whether a matrix with these strides fits in `length` elements.
fn fits(length: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * row_stride + (columns - 1) * column_stride < length
}

impl<'a> View<'a> {
    /// A row-major matrix that fills the beginning of `data`.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart.
    pub(crate) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride, 1), "matrix view is larger than its data");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transpose, over the same data.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

impl View<'_> {
    /// A row-major copy of `rows` x `columns`, zero where this matrix has no element.
    fn padded(self, rows: usize, columns: usize) -> Vec<f32> {
        let mut values = vec![0.0; rows * columns];
        for row in 0..self.rows {
            for column in 0..self.columns {
                values[row * columns + column] =
                    self.data[row * self.row_stride + column * self.column_stride];
            }
        }
        values
    }
}

/// A row-major matrix in a slice, to be written.
pub(crate) struct ViewMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> ViewMut<'a> {
    /// A row-major matrix that fills the beginning of `data`.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart.
    pub(crate) fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, row_stride, 1), "matrix view is larger than its data");
        assert!(row_stride >= columns || rows <= 1, "rows of a written matrix overlap");
        Self { data, rows, columns, row_stride }
    }
}

/// What becomes of the values a product finds in its destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// They are overwritten.
    Overwrite,
    /// The product is added to them.
    Add,
}

/// `dst = scale * lhs * rhs`, or `dst += …`, on this thread alone.
pub(crate) fn multiply(mut dst: ViewMut<'_>, into: Into, lhs: View<'_>, rhs: View<'_>, scale: f32) {
    product(&mut dst, into, lhs, rhs, scale, Parallelism::None);
}

/// As [`multiply`], split over the threads of the current pool; the same bytes.
pub(crate) fn multiply_parallel(mut dst: ViewMut<'_>, into: Into, lhs: View<'_>, rhs: View<'_>, scale: f32) {
    product(&mut dst, into, lhs, rhs, scale, Parallelism::Rayon(rayon::current_num_threads()));
}

fn product(
    dst: &mut ViewMut<'_>,
    into: Into,
    lhs: View<'_>,
    rhs: View<'_>,
    scale: f32,
    parallelism: Parallelism,
) {
    assert!(
        dst.rows == lhs.rows && dst.columns == rhs.columns && lhs.columns == rhs.rows,
        "shapes of a matrix product do not fit"
    );
    if lhs.columns == 1 || lhs.columns == 2 {
        // Short sums too have a routine of their own; with zeros to the end they are sums like others.
        let (lhs_values, rhs_values) = (lhs.padded(dst.rows, SHORTEST), rhs.padded(SHORTEST, dst.columns));
        let lhs = View::new(&lhs_values, dst.rows, SHORTEST);
        let rhs = View::new(&rhs_values, SHORTEST, dst.columns);
        return product(dst, into, lhs, rhs, scale, parallelism);
    }
    if dst.rows != 1 && dst.columns != 1 {
        return product_of_many(dst, into, lhs, rhs, scale, parallelism);
    }
    // For a single row or column gemm turns to another routine, which adds in another order. With two, a
    // number is the same alone and in company.
    let (rows, columns) = (dst.rows, dst.columns);
    let lhs = if rows == 1 { View { rows: 2, row_stride: 0, ..lhs } } else { lhs };
    // A single column may lie like the transpose of a row, so it is laid out anew, with zeros beside it.
    let beside = if columns == 1 { rhs.padded(rhs.rows, 2) } else { Vec::new() };
    let rhs = if columns == 1 { View::new(&beside, rhs.rows, 2) } else { rhs };
    let mut values = vec![0.0; lhs.rows * rhs.columns];
    let width = rhs.columns;
    if into == Into::Add {
        for (row, twice) in values.chunks_exact_mut(width).take(rows).enumerate() {
            twice[..columns].copy_from_slice(&dst.data[row * dst.row_stride..][..columns]);
        }
    }
    let mut twice = ViewMut::new(&mut values, lhs.rows, width);
    product_of_many(&mut twice, into, lhs, rhs, scale, parallelism);
    for (row, twice) in values.chunks_exact(width).take(rows).enumerate() {
        dst.data[row * dst.row_stride..][..columns].copy_from_slice(&twice[..columns]);
    }
}

fn product_of_many(
    dst: &mut ViewMut<'_>,
    into: Into,
    lhs: View<'_>,
    rhs: View<'_>,
    scale: f32,
    parallelism: Parallelism,
) {
    // SAFETY: the three views were checked to lie within their slices when they were made (the transpose of a view covers
    // the same elements), the shapes agree, and `dst` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.columns,
            lhs.columns,
            dst.data.as_mut_ptr(),
            1,
            dst.row_stride as isize,
            into == Into::Add,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn zeros_at_the_end_of_a_sum_change_nothing() {
        let (rows, longest, columns) = (5, 40, 7);
        let (a, b) = (numbers(1, rows * longest), numbers(2, longest * columns));
        for inner in 1..longest {
            let multiply = |inner: usize, a: &[f32]| {
                let mut c = vec![0.0; rows * columns];
                let a = View::strided(a, rows, inner, longest);
                super::multiply(
                    ViewMut::new(&mut c, rows, columns),
                    Into::Overwrite,
                    a,
                    View::new(&b, inner, columns),
                    1.0,
                );
                c
            };
            let ended: Vec<f32> =
                (0..a.len()).map(|i| if i % longest < inner { a[i] } else { 0.0 }).collect();
            assert_eq!(multiply(inner, &a), multiply(longest, &ended), "sums of {inner}");
        }
    }

    #[test]
    fn a_row_and_a_column_are_the_same_alone_and_in_company() {
        let (rows, inner, columns) = (9, 70, 35);
        let (a, b) = (numbers(1, rows * inner), numbers(2, inner * columns));
        for into in [Into::Overwrite, Into::Add] {
            let multiply = |rows: usize, first_row: usize, columns_: usize, first_column: usize| {
                let mut c = vec![0.25; rows * columns_];
                let a = View::new(&a[first_row * inner..], rows, inner);
                let b = View::strided(&b[first_column..], inner, columns_, columns);
                super::multiply(ViewMut::new(&mut c, rows, columns_), into, a, b, 0.7);
                c
            };
            let whole = multiply(rows, 0, columns, 0);
            for row in 0..rows {
                assert_eq!(multiply(1, row, columns, 0), whole[row * columns..][..columns]);
            }
            for column in 0..columns {
                let expected: Vec<f32> = whole.chunks_exact(columns).map(|row| row[column]).collect();
                assert_eq!(multiply(rows, 0, 1, column), expected);
            }
            assert_eq!(multiply(1, 3, 1, 4), [whole[3 * columns + 4]]);
            // A column that lies like a row.
            let column: Vec<f32> = b.iter().skip(4).step_by(columns).copied().collect();
            let mut c = vec![0.25; rows];
            let (a, b) = (View::new(&a, rows, inner), View::new(&column, inner, 1));
            super::multiply(ViewMut::new(&mut c, rows, 1), into, a, b, 0.7);
            let expected: Vec<f32> = whole.chunks_exact(columns).map(|row| row[4]).collect();
            assert_eq!(c, expected);
        }
    }
}
