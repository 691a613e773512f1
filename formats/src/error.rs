//! The one error type: what was found, what was expected, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::types::{TensorType, TypeError};

/// The part of a file that was being read. Names are shown escaped, since a hostile file chose
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<S = String> {
    /// The first 24 bytes: magic, version and the two counts.
    Header,
    /// The name of the metadata entry with this index.
    KeyName(u64),
    /// The value of this key.
    Key(S),
    /// The name of the tensor with this index.
    TensorName(u64),
    /// The table entry of this tensor.
    Tensor(S),
}

impl Place<&str> {
    pub(crate) fn to_owned(self) -> Place {
        match self {
            Place::Header => Place::Header,
            Place::KeyName(i) => Place::KeyName(i),
            Place::Key(name) => Place::Key(name.to_owned()),
            Place::TensorName(i) => Place::TensorName(i),
            Place::Tensor(name) => Place::Tensor(name.to_owned()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("header"),
            Place::KeyName(i) => write!(f, "name of metadata entry {i}"),
            Place::Key(name) => write!(f, "key {}", shown(name)),
            Place::TensorName(i) => write!(f, "name of tensor {i}"),
            Place::Tensor(name) => write!(f, "tensor {}", shown(name)),
        }
    }
}

/// Longest name shown in a message, in characters; the fields of the error hold all of it.
const SHOWN_CHARS: usize = 100;

/// A name in quotes with control characters escaped, so that a file cannot steer a terminal.
pub(crate) fn shown(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARS) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", &name[..end], name.len()),
    }
}

/// What can be wrong with a model file or with a question to one.
///
/// Byte offsets (`at`) count from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Any of the other errors, with the file it came from. [`Error::root`] looks inside.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file as it was given.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<Error>,
    },
    /// The operating system refused an operation.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no such file.
    #[error("no such file")]
    FileMissing,
    /// The path leads to a directory, pipe, socket or device.
    #[error("this is {found}, expected a regular file")]
    NotAFile {
        /// What it is.
        found: &'static str,
    },
    /// The file has no bytes.
    #[error("the file is empty (0 bytes), expected a GGUF file")]
    EmptyFile,
    /// The file does not start like a GGUF file.
    #[error(
        "not a GGUF file: the first bytes are {magic:02x?}, expected [47, 47, 55, 46] (\"GGUF\"); \
         this looks like {looks_like}"
    )]
    NotGguf {
        /// Up to four bytes.
        magic: Vec<u8>,
        /// The best guess at what it is instead.
        looks_like: &'static str,
    },
    /// GGUF version 1, which nothing writes since August 2023.
    #[error(
        "GGUF version 1 (byte 4) is not supported, expected version 2 or 3: convert the model again"
    )]
    Version1,
    /// A version that does not exist, or not yet.
    #[error("GGUF version {found} (byte 4) is unknown, expected version 2 or 3")]
    UnknownVersion {
        /// The number found.
        found: u32,
    },
    /// The file ends before something does.
    #[error("{place}: file truncated at byte {at}: {item} needs {need} bytes, {have} remain")]
    Truncated {
        /// What was being read.
        place: Place,
        /// The part of it.
        item: &'static str,
        /// Where the part starts.
        at: u64,
        /// Bytes that it takes.
        need: u64,
        /// Bytes from there to the end of the file.
        have: u64,
    },
    /// A count of entries that the rest of the file is too short for.
    #[error(
        "{place}: the {item} at byte {at} is {found}, but the remaining {have} bytes hold \
         at most {fits}"
    )]
    CountTooLarge {
        /// What was being read.
        place: Place,
        /// Which count.
        item: &'static str,
        /// Where the count is.
        at: u64,
        /// Its value.
        found: u64,
        /// The largest value that the rest of the file could satisfy.
        fits: u64,
        /// Bytes after the count.
        have: u64,
    },
    /// A length or count above what this program accepts.
    #[error("{place}: the {item} at byte {at} is {found}, expected at most {cap}")]
    OverCap {
        /// What was being read.
        place: Place,
        /// Which length or count.
        item: &'static str,
        /// Where it is.
        at: u64,
        /// Its value.
        found: u64,
        /// The largest accepted value: one of the `MAX_*` constants of [`crate::gguf`].
        cap: u64,
    },
    /// A name or string that is not UTF-8.
    #[error(
        "{place}: the {item} at byte {at} is not UTF-8: found byte 0x{found:02x} at byte {bad_at}, \
         expected UTF-8"
    )]
    NotUtf8 {
        /// What was being read.
        place: Place,
        /// Which string.
        item: &'static str,
        /// Where its first byte is.
        at: u64,
        /// Where the first byte is that cannot stand there.
        bad_at: u64,
        /// That byte.
        found: u8,
    },
    /// A key or a tensor with a name of no characters.
    #[error("{place}: empty name at byte {at}, expected at least one character")]
    EmptyName {
        /// Whose name.
        place: Place,
        /// Where its first byte would be.
        at: u64,
    },
    /// The type of a metadata value does not exist.
    #[error("{place}: unknown value type {found} at byte {at}, expected 0 to 12")]
    UnknownValueType {
        /// The key.
        place: Place,
        /// Where the type is.
        at: u64,
        /// Its number.
        found: u32,
    },
    /// The element type of an array does not exist.
    #[error("{place}: unknown array element type {found} at byte {at}, expected 0 to 12")]
    UnknownElementType {
        /// The key.
        place: Place,
        /// Where the type is.
        at: u64,
        /// Its number.
        found: u32,
    },
    /// Arrays in arrays in arrays.
    #[error("{place}: arrays nested more than {cap} deep at byte {at}")]
    NestedTooDeep {
        /// The key.
        place: Place,
        /// Where the first array too many starts.
        at: u64,
        /// The depth accepted.
        cap: usize,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("{place}: found {found} at byte {at}, expected 0 (false) or 1 (true)")]
    BadBool {
        /// The key.
        place: Place,
        /// Where the byte is.
        at: u64,
        /// The byte.
        found: u8,
    },
    /// Two metadata entries with one key.
    #[error("key {} occurs twice, at bytes {first_at} and {at}, expected once", shown(key))]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where the first entry's name is.
        first_at: u64,
        /// Where the second one's name is.
        at: u64,
    },
    /// Two tensors with one name.
    #[error("tensor {} occurs twice, at bytes {first_at} and {at}, expected once", shown(tensor))]
    DuplicateTensor {
        /// The name.
        tensor: String,
        /// Where the first one's table entry is.
        first_at: u64,
        /// Where the second one's is.
        at: u64,
    },
    /// `general.alignment` is not a number that tensors can be aligned to.
    #[error(
        "key \"general.alignment\": found {found} at byte {at}, expected a u32 that is a multiple of 8 \
         and not 0"
    )]
    BadAlignment {
        /// Where the value is.
        at: u64,
        /// The value, or what it is where it is no u32.
        found: String,
    },
    /// A dimension of a tensor is 0.
    #[error("tensor {}: dimension {index} at byte {at} is 0, expected at least 1", shown(tensor))]
    ZeroDim {
        /// The tensor.
        tensor: String,
        /// Which dimension, from 0.
        index: usize,
        /// Where it is.
        at: u64,
    },
    /// The size of a tensor does not fit 63 bits.
    #[error(
        "tensor {}: dimensions {dims:?} at byte {at} overflow, expected a size of at most {} bytes",
        shown(tensor),
        i64::MAX
    )]
    DimsOverflow {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        dims: Vec<u64>,
        /// Where the first one is.
        at: u64,
    },
    /// The type of a tensor is not one that files may hold.
    #[error("tensor {}: type field at byte {at}: {error}", shown(tensor))]
    BadTensorType {
        /// The tensor.
        tensor: String,
        /// Where the type is.
        at: u64,
        /// Whether the type was removed, is not for files, or is unknown.
        error: TypeError,
    },
    /// The rows of a tensor are no whole number of blocks.
    #[error(
        "tensor {}: rows of {found} elements (byte {at}), expected a multiple of {}, the block of {ty}",
        shown(tensor), ty.block_len()
    )]
    PartialBlock {
        /// The tensor.
        tensor: String,
        /// Its type.
        ty: TensorType,
        /// The row length found.
        found: u64,
        /// Where the row length is.
        at: u64,
    },
    /// The offset of a tensor is no multiple of the alignment.
    #[error(
        "tensor {}: offset {found} at byte {at} is misaligned, expected a multiple of {alignment}",
        shown(tensor)
    )]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Where the offset is.
        at: u64,
        /// The offset, from the start of the data section.
        found: u64,
        /// The alignment of the file.
        alignment: u64,
    },
    /// The data of a tensor are not all in the file.
    #[error(
        "tensor {}: {n_bytes} bytes of data from byte {start} on (offset field at byte {at}), \
         but the file ends at byte {file_bytes}",
        shown(tensor)
    )]
    OutsideFile {
        /// The tensor.
        tensor: String,
        /// Where the offset is.
        at: u64,
        /// Where the data would start; `u64::MAX` where that overflows.
        start: u64,
        /// How many there would be.
        n_bytes: u64,
        /// Length of the file.
        file_bytes: u64,
    },
    /// Two tensors share bytes.
    #[error(
        "tensor {} (bytes {start} to {end}) overlaps tensor {} (bytes {other_start} to {other_end})",
        shown(tensor),
        shown(other)
    )]
    Overlap {
        /// The one that starts later (or is later in the table, if both start together).
        tensor: String,
        /// Its first byte.
        start: u64,
        /// One past its last byte.
        end: u64,
        /// The other one.
        other: String,
        /// Its first byte.
        other_start: u64,
        /// One past its last byte.
        other_end: u64,
    },
    /// Tensor data were asked of a big-endian file, which can only be inspected.
    #[error(
        "tensor {}: the file is big-endian, expected little-endian to run it \
         (its metadata and tensor table can be inspected): convert it",
        shown(tensor)
    )]
    BigEndianData {
        /// The tensor.
        tensor: String,
    },
    /// A mapped file has become shorter, or a file became shorter while it was read.
    #[error(
        "the file shrank while it was in use: found {found} bytes, expected {expected}; \
         do not change a model in place while it runs"
    )]
    FileShrank {
        /// Length when it was opened.
        expected: u64,
        /// Length now.
        found: u64,
    },
    /// A key that is needed is not there.
    #[error("key {} is missing, expected {expected}", shown(key))]
    MissingKey {
        /// The key.
        key: String,
        /// What its value should be.
        expected: String,
    },
    /// The value of a key has another type than the one that was asked for.
    #[error("key {}: found {found} at byte {at}, expected {expected}", shown(key))]
    WrongType {
        /// The key.
        key: String,
        /// Where the value is.
        at: u64,
        /// What it is.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// The value of a key has the right type but cannot be used.
    #[error("key {}: found {found} at byte {at}, expected {expected}", shown(key))]
    BadValue {
        /// The key.
        key: String,
        /// Where the value is; 0 where the key is not in the file.
        at: u64,
        /// The value.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// An array with fewer entries than asked for.
    #[error(
        "key {}: array of {found} entries at byte {at}, expected at least {expected}",
        shown(key)
    )]
    ArrayTooShort {
        /// The key.
        key: String,
        /// Where the value is.
        at: u64,
        /// Entries found.
        found: usize,
        /// Entries needed.
        expected: usize,
    },
    /// A safetensors file is damaged.
    #[error(transparent)]
    Safetensors(#[from] crate::safetensors::SafetensorsError),
    /// The bytes of a file could not be pinned in memory.
    #[error(
        "cannot lock {bytes} bytes in memory: {source}; raise the limit on locked memory \
         (ulimit -l) or run without locking"
    )]
    Lock {
        /// Bytes to lock.
        bytes: u64,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// This error with the file it is about.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Error::InFile { path: path.to_owned(), error: Box::new(self) }
    }

    /// The error itself, without the file around it.
    pub fn root(&self) -> &Error {
        match self {
            Error::InFile { error, .. } => error.root(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_cheap_to_return() {
        assert!(size_of::<Error>() <= 120, "{} bytes", size_of::<Error>());
    }

    #[test]
    fn names_from_files_cannot_steer_a_terminal_or_flood_it() {
        let place = Place::Key(format!("\u{1b}[2J{}", "x".repeat(70_000)));
        let text = place.to_string();
        assert!(!text.contains('\u{1b}') && text.len() < 200, "{text}");
        assert!(text.contains("(70004 bytes)"), "{text}");
    }
}
