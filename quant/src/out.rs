//! The strided output view of the matrix kernels.

use std::marker::PhantomData;

/// Where a kernel writes: element (column `c`, row `r`) is `base[c * stride + r]`.
///
/// A view may cover a range of rows of a wider result, so that threads can share one buffer.
pub struct Out<'a> {
    base: *mut f32,
    n_cols: usize,
    n_rows: usize,
    stride: usize,
    life: PhantomData<&'a mut [f32]>,
}

impl<'a> Out<'a> {
    /// A view of `y` as `[n_cols, n_rows]` with `stride` floats between columns.
    ///
    /// # Panics
    /// When `stride < n_rows` or `y` is too short for the last column.
    pub fn new(y: &'a mut [f32], n_cols: usize, n_rows: usize, stride: usize) -> Self {
        assert!(n_cols < 2 || stride >= n_rows, "stride {stride} is below n_rows {n_rows}");
        let need = n_cols
            .saturating_sub(1)
            .checked_mul(stride)
            .and_then(|n| n.checked_add(if n_cols == 0 { 0 } else { n_rows }));
        assert!(
            need.is_some_and(|need| need <= y.len()),
            "{n_cols} columns of {n_rows} rows at stride {stride} do not fit {} floats",
            y.len()
        );
        Self { base: y.as_mut_ptr(), n_cols, n_rows, stride, life: PhantomData }
    }

    /// A view of memory that other threads write other parts of.
    ///
    /// # Safety
    /// For every column `c < n_cols` the floats `base[c * stride ..][..n_rows]` must be valid for
    /// writes for `'a`, and nobody else may touch them meanwhile.
    pub unsafe fn from_raw(base: *mut f32, n_cols: usize, n_rows: usize, stride: usize) -> Self {
        Self { base, n_cols, n_rows, stride, life: PhantomData }
    }

    /// Columns.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }

    /// Rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The first element and the floats between columns.
    pub(crate) fn parts(&mut self) -> (*mut f32, usize) {
        (self.base, self.stride)
    }
}
