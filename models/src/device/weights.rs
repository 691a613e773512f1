//! Tensor data: in place in the file, or packed beside it.

use super::Repack;
use crate::error::Error;
use formats::{Gguf, TensorInfo};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Bytes of a tensor, or of some of its rows, where they lie in the mapped file or in a packed copy.
/// Cheap to clone; keeps the file or the copy.
#[derive(Clone)]
pub struct Weights(Place);

#[derive(Clone)]
enum Place {
    File { _file: Arc<Gguf>, start: *const u8, len: usize },
    Packed { copy: Arc<Repack>, range: Range<usize> },
}

// SAFETY: the bytes of a file are read-only for as long as it is held.
unsafe impl Send for Weights {}
// SAFETY: as above.
unsafe impl Sync for Weights {}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Weights {
    /// The data of `tensor`.
    ///
    /// # Errors
    /// When the file no longer holds it (see [`Gguf::data`]).
    pub fn new(file: &Arc<Gguf>, tensor: &TensorInfo) -> Result<Weights, Error> {
        let data = file.data(tensor)?;
        let (start, len) = (data.as_ptr(), data.len());
        Ok(Weights(Place::File { _file: file.clone(), start, len }))
    }

    /// Part `range` of a packed copy, which is filled before anybody reads.
    pub(super) fn packed(copy: &Arc<Repack>, range: Range<usize>) -> Weights {
        Weights(Place::Packed { copy: copy.clone(), range })
    }

    /// Number of bytes; known before a copy is filled.
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::File { len, .. } => *len,
            Place::Packed { range, .. } => range.len(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part `part` of these bytes.
    ///
    /// # Panics
    /// When the range leaves them.
    #[must_use]
    pub fn part(&self, part: Range<usize>) -> Weights {
        assert!(part.start <= part.end && part.end <= self.len(), "part outside the weights");
        Weights(match &self.0 {
            Place::File { _file, start, .. } => {
                // SAFETY: inside the bytes by the assertion.
                let start = unsafe { start.add(part.start) };
                Place::File { _file: _file.clone(), start, len: part.len() }
            }
            Place::Packed { copy, range } => {
                let range = range.start + part.start..range.start + part.end;
                Place::Packed { copy: copy.clone(), range }
            }
        })
    }
}

impl Deref for Weights {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: a slice of the file's bytes, which it keeps in place.
            Place::File { start, len, .. } => unsafe { std::slice::from_raw_parts(*start, *len) },
            // SAFETY: contexts fill what their plans asked for before they run.
            Place::Packed { copy, range } => unsafe { copy.bytes(range.clone()) },
        }
    }
}
