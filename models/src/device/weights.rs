//! Tensor data: in place in the file, or packed beside it.

use super::Repack;
use crate::error::Error;
use formats::{Gguf, TensorInfo};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Bytes of a tensor, or of some of its rows, where they lie in the mapped file or in a packed copy.
/// Cheap to clone; keeps the file or the copy.
#[derive(Clone)]
pub struct Weights {
    keep: Keep,
    start: *const u8,
    len: usize,
}

/// What the bytes belong to.
#[derive(Clone)]
enum Keep {
    File { _file: Arc<Gguf> },
    Packed { _copy: Arc<Repack> },
}

// SAFETY: the bytes are read-only for as long as their owner is held, once a packed copy is filled.
unsafe impl Send for Weights {}
// SAFETY: as above.
unsafe impl Sync for Weights {}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

impl Weights {
    /// The data of `tensor`.
    ///
    /// # Errors
    /// When the file no longer holds it (see [`Gguf::data`]).
    pub fn new(file: &Arc<Gguf>, tensor: &TensorInfo) -> Result<Weights, Error> {
        let data = file.data(tensor)?;
        let keep = Keep::File { _file: file.clone() };
        Ok(Weights { keep, start: data.as_ptr(), len: data.len() })
    }

    /// Part `range` of a packed copy, which is filled before anybody reads.
    pub(super) fn packed(copy: &Arc<Repack>, range: Range<usize>) -> Weights {
        let len = range.len();
        // SAFETY: the address alone is taken.
        let start = unsafe { copy.bytes(range).as_ptr() };
        Weights { keep: Keep::Packed { _copy: copy.clone() }, start, len }
    }

    /// The part `range` of these bytes.
    ///
    /// # Panics
    /// When the range leaves them.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Weights {
        let part = &self[range];
        Weights { keep: self.keep.clone(), start: part.as_ptr(), len: part.len() }
    }
}

impl Deref for Weights {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: bytes of the file or of the copy, which `keep` keeps in place.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}
