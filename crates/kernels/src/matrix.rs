//! A safe face for the `gemm` crate: matrices are views of slices, and their bounds are checked once per product.
//!
//! gemm splits rows and columns of the result and never the inner sum, so a product is the same bytes for any number of
//! threads. Most callers multiply serially inside a task of their own, where the operands are still in cache.

use gemm::Parallelism;

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
