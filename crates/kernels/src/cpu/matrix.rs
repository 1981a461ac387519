//! Matrix products by the `gemm` crate, over views of slices whose bounds are checked once per product.
//!
//! gemm splits rows and columns of the result among threads and never the inner sum, so a product is the same bytes for any
//! number of threads. But how it cuts a long inner sum, and in what order it adds up a very small product, depends on the
//! shape and on the width of the processor's vectors. So sums are cut here, at [`DEPTH`], and very small products are laid out so
//! that gemm takes them for others. Then every number is one chain of fused multiply-adds a part, in a product of any size and on any
//! processor: a row alone is what it is among others. Most callers multiply serially inside a task of their own, where the operands are
//! still in cache.

use gemm::Parallelism;

/// The shortest inner sum that gemm treats as any other.
const SHORTEST: usize = 3;

/// The longest inner sum of one call to gemm. gemm does not cut sums of this length: each is one chain of fused multiply-adds.
pub(crate) const DEPTH: usize = 512;

/// The largest result of which gemm adds up each number lane by lane, where rows meet rows (`a b^T`): sixteen lanes with AVX-512,
/// eight with AVX2, and so other bytes.
const LANE_BY_LANE: usize = 256;

/// Numbers of a matrix that is laid out anew on the stack: keys or values of sixteen items and a head are a quarter of it.
const SCRATCH: usize = 2048;

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
    /// Writes this matrix, whose columns lie one after another (`row_stride` 1), row by row to `target`, which it fills.
    fn lay_columns_out(self, target: &mut [f32]) {
        for column in 0..self.columns {
            let source = &self.data[column * self.column_stride..][..self.rows];
            for (value, &number) in target[column..].iter_mut().step_by(self.columns).zip(source) {
                *value = number;
            }
        }
    }

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

/// How a product is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Over the values of its destination.
    Overwrite,
    /// Added to them.
    Add,
}

/// `dst = scale * lhs * rhs`, or `dst += …`, on this thread alone.
pub(crate) fn multiply(dst: ViewMut<'_>, store: Store, lhs: View<'_>, rhs: View<'_>, scale: f32) {
    Product { store, scale, parallelism: Parallelism::None }.run(dst, lhs, rhs);
}

/// As [`multiply`], split over the threads of the current pool; the same bytes.
pub(crate) fn multiply_parallel(dst: ViewMut<'_>, store: Store, lhs: View<'_>, rhs: View<'_>, scale: f32) {
    let parallelism = Parallelism::Rayon(rayon::current_num_threads());
    Product { store, scale, parallelism }.run(dst, lhs, rhs);
}

/// How a product is computed and stored.
#[derive(Clone, Copy)]
struct Product {
    store: Store,
    scale: f32,
    parallelism: Parallelism,
}

impl Product {
    /// Checks the shapes, and makes products larger that gemm would compute by a routine for small ones.
    fn run(self, mut dst: ViewMut<'_>, lhs: View<'_>, rhs: View<'_>) {
        assert!(
            dst.rows == lhs.rows && dst.columns == rhs.columns && lhs.columns == rhs.rows,
            "shapes of a matrix product do not fit"
        );
        let (rows, columns) = (dst.rows, dst.columns);
        if rows == 0 || columns == 0 {
            return;
        }
        if lhs.columns == 1 || lhs.columns == 2 {
            // Short sums; with zeros at the end they are sums like others.
            let (lhs, rhs) = (lhs.padded(rows, SHORTEST), rhs.padded(SHORTEST, columns));
            return self.run(dst, View::new(&lhs, rows, SHORTEST), View::new(&rhs, SHORTEST, columns));
        }
        if rows > 1 && columns > 1 {
            return self.run_in_depth(&mut dst, lhs, rhs);
        }
        // A single row or column gets a second one beside it, which is thrown away.
        let lhs = if rows == 1 { View { rows: 2, row_stride: 0, ..lhs } } else { lhs };
        // A single column may lie like the transpose of a row, so it is laid out anew, with zeros beside it.
        let beside = if columns == 1 { rhs.padded(rhs.rows, 2) } else { Vec::new() };
        let rhs = if columns == 1 { View::new(&beside, rhs.rows, 2) } else { rhs };
        let width = rhs.columns;
        let mut values = vec![0.0; lhs.rows * width];
        if self.store == Store::Add {
            for (row, twice) in values.chunks_exact_mut(width).take(rows).enumerate() {
                twice[..columns].copy_from_slice(&dst.data[row * dst.row_stride..][..columns]);
            }
        }
        self.run_in_depth(&mut ViewMut::new(&mut values, lhs.rows, width), lhs, rhs);
        for (row, twice) in values.chunks_exact(width).take(rows).enumerate() {
            dst.data[row * dst.row_stride..][..columns].copy_from_slice(&twice[..columns]);
        }
    }

    /// Adds one part of the inner sum after another. Without any part the sums are zero.
    fn run_in_depth(self, dst: &mut ViewMut<'_>, lhs: View<'_>, rhs: View<'_>) {
        for first in (0..lhs.columns.max(1)).step_by(DEPTH) {
            let depth = DEPTH.min(lhs.columns - first);
            let lhs = View { data: &lhs.data[first * lhs.column_stride..], columns: depth, ..lhs };
            let rhs = View { data: &rhs.data[first * rhs.row_stride..], rows: depth, ..rhs };
            let store = if first == 0 { self.store } else { Store::Add };
            Self { store, ..self }.gemm(dst, lhs, rhs);
        }
    }

    fn gemm(self, dst: &mut ViewMut<'_>, lhs: View<'_>, rhs: View<'_>) {
        if lhs.column_stride == 1 && rhs.row_stride == 1 && dst.rows * dst.columns <= LANE_BY_LANE {
            let (mut scratch, mut allocated) = ([0.0; SCRATCH], Vec::new());
            let laid_out = if rhs.rows * rhs.columns <= SCRATCH {
                &mut scratch[..rhs.rows * rhs.columns]
            } else {
                allocated.resize(rhs.rows * rhs.columns, 0.0);
                &mut allocated[..]
            };
            rhs.lay_columns_out(laid_out);
            return self.gemm(dst, lhs, View::new(laid_out, rhs.rows, rhs.columns));
        }
        // SAFETY: the three views were checked to lie within their slices when they were made (the transpose of a view covers
        // the same elements; a part of one begins later in the same slice and ends no later), the shapes agree, and `dst` is
        // borrowed mutably, so it overlaps neither operand.
        unsafe {
            gemm::gemm(
                dst.rows,
                dst.columns,
                lhs.columns,
                dst.data.as_mut_ptr(),
                1,
                dst.row_stride as isize,
                self.store == Store::Add,
                lhs.data.as_ptr(),
                lhs.column_stride as isize,
                lhs.row_stride as isize,
                rhs.data.as_ptr(),
                rhs.column_stride as isize,
                rhs.row_stride as isize,
                1.0,
                self.scale,
                false,
                false,
                false,
                self.parallelism,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    #[test]
    fn zeros_at_the_end_of_a_sum_change_nothing() {
        let columns = 7;
        for (rows, longest, step) in [(5, 40, 1), (5, 1300, 130), (100, 1300, 260)] {
            let (a, b) = (numbers(1, rows * longest), numbers(2, longest * columns));
            for inner in (1..longest).step_by(step) {
                let multiply = |inner: usize, a: &[f32]| {
                    let mut c = vec![0.0; rows * columns];
                    let a = View::strided(a, rows, inner, longest);
                    let to = ViewMut::new(&mut c, rows, columns);
                    super::multiply(to, Store::Overwrite, a, View::new(&b, inner, columns), 1.0);
                    c
                };
                let ended: Vec<f32> =
                    (0..a.len()).map(|i| if i % longest < inner { a[i] } else { 0.0 }).collect();
                assert_eq!(multiply(inner, &a), multiply(longest, &ended), "sums of {inner}");
            }
        }
    }

    #[test]
    fn a_row_and_a_column_are_the_same_alone_and_in_company() {
        for (rows, inner, columns) in [(9, 70, 35), (9, 1300, 35), (90, 600, 70)] {
            let (a, b) = (numbers(1, rows * inner), numbers(2, inner * columns));
            for store in [Store::Overwrite, Store::Add] {
                let multiply = |rows: usize, first_row: usize, columns_: usize, first_column: usize| {
                    let mut c = vec![0.25; rows * columns_];
                    let a = View::new(&a[first_row * inner..], rows, inner);
                    let b = View::strided(&b[first_column..], inner, columns_, columns);
                    super::multiply(ViewMut::new(&mut c, rows, columns_), store, a, b, 0.7);
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
                super::multiply(ViewMut::new(&mut c, rows, 1), store, a, b, 0.7);
                let expected: Vec<f32> = whole.chunks_exact(columns).map(|row| row[4]).collect();
                assert_eq!(c, expected);
            }
        }
    }

    #[test]
    fn a_transpose_gives_the_same_as_its_copy() {
        for (rows, inner, columns) in [(2, 3, 2), (16, 32, 16), (5, 600, 9), (17, 32, 16)] {
            let (a, b) = (numbers(1, rows * inner), numbers(2, columns * inner));
            let transpose = View::new(&b, columns, inner).t();
            let copied = transpose.padded(inner, columns);
            let product = |right: View<'_>| {
                let mut c = vec![0.25; rows * columns];
                multiply(
                    ViewMut::new(&mut c, rows, columns),
                    Store::Add,
                    View::new(&a, rows, inner),
                    right,
                    0.7,
                );
                c
            };
            assert_eq!(
                product(transpose),
                product(View::new(&copied, inner, columns)),
                "{rows} {inner} {columns}"
            );
        }
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let mut c = vec![1.0; 6];
        multiply(
            ViewMut::new(&mut c, 2, 3),
            Store::Overwrite,
            View::new(&[], 2, 0),
            View::new(&[], 0, 3),
            1.0,
        );
        assert_eq!(c, [0.0; 6]);
    }
}
