//! Tensor data in place in the file.

use crate::error::Error;
use formats::{Gguf, TensorInfo};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Bytes of a tensor, or of some of its rows, where they lie in the mapped file. Cheap to clone;
/// keeps the file open.
#[derive(Clone)]
pub struct Weights {
    file: Arc<Gguf>,
    start: *const u8,
    len: usize,
}

// SAFETY: the bytes are read-only for as long as the file is held.
unsafe impl Send for Weights {}
// SAFETY: as above.
unsafe impl Sync for Weights {}

impl Weights {
    /// The data of `tensor`.
    ///
    /// # Errors
    /// When the file no longer holds it (see [`Gguf::data`]).
    pub fn new(file: &Arc<Gguf>, tensor: &TensorInfo) -> Result<Weights, Error> {
        let data = file.data(tensor)?;
        Ok(Weights { file: file.clone(), start: data.as_ptr(), len: data.len() })
    }

    /// The part `range` of these bytes.
    ///
    /// # Panics
    /// When the range leaves them.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Weights {
        let part = &self[range];
        Weights { file: self.file.clone(), start: part.as_ptr(), len: part.len() }
    }
}

impl Deref for Weights {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: a slice of the file's bytes, which `file` keeps in place.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}
