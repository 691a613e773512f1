//! GGUF, versions 2 and 3: one file with metadata, a table of tensors, and their data.
//!
//! ```text
//! "GGUF"  version u32  n_tensors u64  n_keys u64
//! n_keys    x { key string, type u32, value }           string = length u64, that many bytes
//! n_tensors x { name string, n_dims u32, dims u64 each, type u32, offset u64 }
//! padding to the alignment, then the data; offsets count from here
//! ```
//! Where this reader takes a side:
//! - Version 1 (32-bit counts, 2023) is refused by name. A big-endian file is recognised by its
//!   version number and can be inspected; its tensor data cannot be had.
//! - `general.alignment` is a u32 that is a multiple of 8 and not 0, as the specification says; it
//!   need not be a power of two. Without it the alignment is 32.
//! - A tensor of no dimensions is a scalar: one element. A dimension of 0 is an error.
//! - Tensors may lie in any order and leave gaps, but they may not share bytes.
//! - A truth value is 0 or 1; any other byte is an error.
//! - Keys, tensor names and scalar strings must be UTF-8; elements of arrays of strings need
//!   not be (see [`Strings`]).
//! - Arrays may hold arrays, to a depth of [`MAX_ARRAY_DEPTH`].

mod metadata;
mod read;
mod value;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

pub use metadata::Metadata;
pub use value::{Array, Strings, Value, ValueType};
pub use write::GgufWriter;

use crate::cursor;
use crate::error::Error;
use crate::map::{self, Access, Bytes};
use crate::types::TensorType;

/// Most metadata entries accepted. Real files have a few dozen.
pub const MAX_KEYS: u64 = 1 << 16;
/// Most tensors accepted. The largest files known have some thousands.
pub const MAX_TENSORS: u64 = 1 << 16;
/// Longest key, in bytes: the limit of the specification.
pub const MAX_KEY_BYTES: u64 = (1 << 16) - 1;
/// Longest tensor name, in bytes. The specification says 64, some writers exceed it.
pub const MAX_TENSOR_NAME_BYTES: u64 = 256;
/// Longest scalar string, in bytes. Chat templates reach some ten thousand.
pub const MAX_STRING_BYTES: u64 = 16 << 20;
/// Most bytes of one array in the file. A vocabulary of a million tokens needs about 20 MiB.
pub const MAX_ARRAY_BYTES: u64 = 64 << 20;
/// Most bytes of one metadata entry and everything before it. In memory, metadata take at most a
/// small multiple of their bytes in the file.
pub const MAX_METADATA_BYTES: u64 = 128 << 20;
/// Deepest nesting: 1 is an array of scalars.
pub const MAX_ARRAY_DEPTH: usize = 4;
/// Most arrays inside arrays in one file, since each costs more memory than it takes in the file.
pub const MAX_INNER_ARRAYS: u64 = 1 << 16;
/// Most dimensions of a tensor: the limit of the specification.
pub const MAX_DIMS: u64 = 4;
/// Alignment of tensor data where `general.alignment` does not say otherwise.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// The order of bytes in the numbers of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first: nearly every file.
    Little,
    /// Most significant byte first: can be inspected, not run.
    Big,
}

/// One row of the tensor table. Its type, size and place were checked against the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name.
    pub name: String,
    /// How the elements are stored.
    pub ty: TensorType,
    /// Sizes in the order of the file: `dims[0]` is the length of a row, the fastest-running index.
    /// Empty for a scalar; never 0.
    pub dims: Vec<u64>,
    /// Where the data start, in bytes from the start of the file.
    pub offset: u64,
    /// Bytes of data.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// Number of elements: the product of all dimensions, 1 for a scalar.
    pub fn n_elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Elements in a row: `dims[0]`, 1 for a scalar.
    pub fn cols(&self) -> u64 {
        self.dims.first().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all dimensions but the first.
    pub fn rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }

    /// Bytes in a row.
    pub fn row_bytes(&self) -> u64 {
        self.n_bytes / self.rows().max(1)
    }
}

/// What the header of a file says, checked.
struct Header {
    version: u32,
    endian: Endian,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Indices of `tensors`, sorted by name.
    by_name: Vec<u32>,
}

/// An open GGUF file. Share it as `Arc<Gguf>`.
///
/// # Files that change
/// A mapped file is the file itself, not a copy. Replacing it (a new file under the old name) is
/// harmless. Shortening it in place is found by [`Gguf::data`] and [`Gguf::check_unchanged`], which
/// compare its length with the one at opening. No check can exclude that it is shortened after the
/// check: reading a page that is gone then ends the process with SIGBUS on Unix (an in-page error
/// on Windows, where a mapped file cannot usually be shortened at all); it never yields made-up
/// data, save that the rest of the last page reads as zeros. Overwriting a file in place at the
/// same length is not found. [`Access::Read`] has none of these limits once `open` has returned.
pub struct Gguf {
    path: Option<PathBuf>,
    bytes: Bytes,
    header: Header,
}

impl Gguf {
    /// Opens a file and checks its header. Tensor data are not read (with [`Access::Mmap`]), or
    /// read after the header was found good (with [`Access::Read`], which maps the file for that if
    /// it can).
    ///
    /// # Errors
    /// [`Error::InFile`] with the path around what is wrong: see [`Error::root`].
    pub fn open(path: &Path, access: Access) -> Result<Gguf, Error> {
        Self::open_unnamed(path, access).map_err(|error| error.in_file(path))
    }

    fn open_unnamed(path: &Path, access: Access) -> Result<Gguf, Error> {
        let (file, len) = map::open_regular(path)?;
        if len == 0 {
            return Err(Error::EmptyFile);
        }
        let bytes = match Bytes::map(&file, len) {
            Err(_) if access == Access::Read => Bytes::read(file, len)?,
            mapped => mapped?,
        };
        let header = read::header(bytes.as_slice())?;
        let gguf = Gguf { path: Some(path.to_owned()), bytes, header };
        match access {
            Access::Mmap => Ok(gguf),
            Access::Read => gguf.into_memory(),
        }
    }

    /// Takes the bytes of a file. They are copied once, to an address that fits every tensor type.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, Error> {
        let header = read::header(&bytes)?;
        let bytes = Bytes::copy_of(&bytes)?;
        Ok(Gguf { path: None, bytes, header })
    }

    /// Reads a mapped file into memory that this process owns, so that later changes of the file do
    /// no harm; nothing is done where that is so already. Needs [`Gguf::file_bytes`] of memory.
    pub fn into_memory(self) -> Result<Gguf, Error> {
        let Gguf { path, bytes, header } = self;
        let len = bytes.as_slice().len() as u64;
        let bytes = match bytes.into_file() {
            Ok(file) => Bytes::read(file, len)?,
            Err(owned) => owned,
        };
        Ok(Gguf { path, bytes, header })
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// The order of bytes in the file.
    pub fn endian(&self) -> Endian {
        self.header.endian
    }

    /// Every tensor starts at a multiple of this, counted from the start of the data, in bytes.
    pub fn alignment(&self) -> u64 {
        self.header.alignment
    }

    /// Length of the file in bytes, when it was opened.
    pub fn file_bytes(&self) -> u64 {
        self.bytes.as_slice().len() as u64
    }

    /// The path given to [`Gguf::open`].
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The key-value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let Header { tensors, by_name, .. } = &self.header;
        let i = by_name.binary_search_by(|&i| tensors[i as usize].name.as_str().cmp(name));
        Some(&tensors[by_name[i.ok()?] as usize])
    }

    /// The data of a tensor: `tensor.n_bytes` bytes as they lie in the file, row after row.
    ///
    /// # Errors
    /// The file is big-endian, the mapped file shrank, or `tensor` is from another, longer file.
    pub fn data(&self, tensor: &TensorInfo) -> Result<&[u8], Error> {
        self.data_unnamed(tensor).map_err(|error| self.named(error))
    }

    fn data_unnamed(&self, tensor: &TensorInfo) -> Result<&[u8], Error> {
        if self.header.endian == Endian::Big {
            return Err(Error::BigEndianData { tensor: tensor.name.clone() });
        }
        self.bytes.check_len()?;
        let slice = cursor::slice(self.bytes.as_slice(), tensor.offset, tensor.n_bytes);
        slice.ok_or_else(|| Error::OutsideFile {
            tensor: tensor.name.clone(),
            at: 0,
            start: tensor.offset,
            n_bytes: tensor.n_bytes,
            file_bytes: self.file_bytes(),
        })
    }

    fn named(&self, error: Error) -> Error {
        match &self.path {
            Some(path) => error.in_file(path),
            None => error,
        }
    }

    /// Says that `part` of the data will not be read soon: pages of a mapped file leave the process, and
    /// come back from the file when they are read after all. A hint.
    pub fn forget(&self, part: &[u8]) {
        self.bytes.forget(part);
    }

    /// Whether the bytes are the file's own pages rather than a copy.
    pub fn is_mapped(&self) -> bool {
        self.bytes.is_mapped()
    }

    /// An error when a mapped file has become shorter since it was opened. Cheap (one system call):
    /// meant to be asked now and then while a model runs.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.bytes.check_len().map_err(|error| self.named(error))
    }

    /// Pins all bytes in memory until the file is closed, reading in what is not there yet.
    ///
    /// # Errors
    /// [`Error::Lock`]: the limit on locked memory is too low, or the system has no such call.
    pub fn lock(&self) -> Result<(), Error> {
        let locked = self.bytes.lock();
        locked.map_err(|source| self.named(Error::Lock { bytes: self.file_bytes(), source }))
    }

    /// Asks the system to read the file in ahead of use. A hint: it does not wait, and systems
    /// without it do nothing.
    pub fn prefetch(&self) -> Result<(), Error> {
        let asked = self.bytes.will_need();
        asked.map_err(|source| self.named(Error::Io { doing: "prefetch the file", source }))
    }
}

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Gguf>();
};

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("path", &self.path)
            .field("version", &self.header.version)
            .field("endian", &self.header.endian)
            .field("n_keys", &self.header.metadata.len())
            .field("n_tensors", &self.header.tensors.len())
            .field("file_bytes", &self.file_bytes())
            .finish_non_exhaustive()
    }
}
