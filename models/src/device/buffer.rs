//! Memory that the workers of a team write in disjoint parts.

use bytemuck::Pod;
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::ops::Range;

/// Every buffer starts on a cache line, so that vector loads of aligned rows never split one.
const ALIGN: usize = 64;

/// A fixed block of zeroed memory, 64-byte aligned, shared by the workers of a team.
///
/// A phase of a step writes it in parts that do not overlap and reads what earlier phases wrote;
/// which part belongs to whom is the business of the op, so access is unsafe. Large buffers cost
/// no memory before they are written.
pub struct Buffer<T> {
    /// Over-allocated, so that an aligned start exists inside; plain `Vec` memory of zeroes is
    /// taken from the system lazily, which an aligned allocation is not.
    store: UnsafeCell<Vec<T>>,
    skip: usize,
    len: usize,
}

// SAFETY: the unsafe accessors demand that no two threads touch the same elements unless all of
// them read; T is plain data.
unsafe impl<T: Pod + Send> Sync for Buffer<T> {}

impl<T> std::fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a buffer of {}", self.len)
    }
}

impl<T: Pod> Buffer<T> {
    /// A buffer of `len` zeroes.
    pub fn new(len: usize) -> Self {
        let extra = ALIGN / size_of::<T>();
        let store = vec![T::zeroed(); len + extra];
        let skip = store.as_ptr().align_offset(ALIGN).min(extra);
        Buffer { store: UnsafeCell::new(store), skip, len }
    }

    /// As [`Buffer::new`]; `None` when there is no memory for it.
    pub fn try_new(len: usize) -> Option<Self> {
        let extra = ALIGN / size_of::<T>();
        let n = len.checked_add(extra)?;
        let layout = Layout::array::<T>(n).ok().filter(|l| l.size() > 0)?;
        // SAFETY: the layout is not empty.
        let start = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<T>();
        if start.is_null() {
            return None;
        }
        // SAFETY: fresh memory of the layout of a Vec of n elements; zeroes are a value of plain data.
        let store = unsafe { Vec::from_raw_parts(start, n, n) };
        let skip = store.as_ptr().align_offset(ALIGN).min(extra);
        Some(Buffer { store: UnsafeCell::new(store), skip, len })
    }

    /// Asks the system for large pages, of which reading front to back needs fewer look-ups; a hint.
    pub fn advise_huge(&self) {
        #[cfg(target_os = "linux")]
        {
            const PAGE: usize = 4096;
            // SAFETY: the address alone is taken.
            let start = unsafe { self.as_mut_ptr() } as usize;
            let (first, end) = (start.next_multiple_of(PAGE), start + self.len * size_of::<T>());
            if end > first {
                // SAFETY: whole pages of this allocation; the advice does not change what they hold.
                unsafe { libc::madvise(first as *mut _, end - first, libc::MADV_HUGEPAGE) };
            }
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Start of the buffer, for writing.
    ///
    /// # Safety
    /// Dereferencing is bound by the rules of [`Buffer::part_mut`].
    pub unsafe fn as_mut_ptr(&self) -> *mut T {
        // SAFETY: `new` left room for `skip` elements; no reference to the Vec outlives this line.
        unsafe { (*self.store.get()).as_mut_ptr().add(self.skip) }
    }

    /// Elements `range`, for reading.
    ///
    /// # Panics
    /// When the range leaves the buffer.
    ///
    /// # Safety
    /// No thread writes these elements while the slice lives.
    pub unsafe fn part(&self, range: Range<usize>) -> &[T] {
        assert!(range.start <= range.end && range.end <= self.len, "part outside the buffer");
        // SAFETY: in range by the assertion; the caller keeps writers away.
        unsafe {
            std::slice::from_raw_parts(self.as_mut_ptr().add(range.start), range.end - range.start)
        }
    }

    /// Elements `range`, for writing.
    ///
    /// # Panics
    /// When the range leaves the buffer.
    ///
    /// # Safety
    /// No other thread reads or writes these elements, and this thread holds no other slice of
    /// them, while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    pub unsafe fn part_mut(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part outside the buffer");
        // SAFETY: in range by the assertion; the caller grants exclusive use.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.as_mut_ptr().add(range.start),
                range.end - range.start,
            )
        }
    }

    /// The whole buffer, when nobody else can hold a part of it.
    pub fn all_mut(&mut self) -> &mut [T] {
        let (skip, len) = (self.skip, self.len);
        &mut self.store.get_mut()[skip..skip + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for len in [0, 1, 3, 1000] {
            let mut b = Buffer::<f32>::new(len);
            assert_eq!(b.all_mut().as_ptr() as usize % ALIGN, 0);
            assert_eq!(b.all_mut(), &vec![0.0; len][..]);
        }
    }

    #[test]
    #[should_panic(expected = "part outside the buffer")]
    fn a_part_outside_is_refused() {
        let b = Buffer::<u8>::new(8);
        // SAFETY: the only thread.
        unsafe { b.part(4..9) };
    }
}
