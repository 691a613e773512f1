//! Safetensors files: a JSON table of tensors, then their bytes.
//!
//! Layout: the length of the table (u64, little-endian), the table (an object of
//! `name: {dtype, shape, data_offsets}`, and optionally `__metadata__` of strings), the data. Offsets
//! count from the end of the table. The format's rules are checked before anything is handed out:
//! every tensor has the bytes that its shape asks for, and the tensors cover the data from its
//! first byte to its last without gap or overlap. What has no natural bound has a cap.

use crate::cursor::{self, Cursor};
use crate::error::{Error, shown};
use crate::gguf::Endian;
use crate::map::{self, Bytes};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

/// Longest table, in bytes. Those of the largest models have a few hundred thousand.
pub const MAX_TABLE_BYTES: u64 = 8 << 20;
/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 8;

/// Types of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    F8E4m3,
    F8E5m2,
}

/// Types with their names and bytes per element.
const DTYPES: &[(Dtype, &str, u64)] = &[
    (Dtype::F64, "F64", 8),
    (Dtype::F32, "F32", 4),
    (Dtype::F16, "F16", 2),
    (Dtype::Bf16, "BF16", 2),
    (Dtype::I64, "I64", 8),
    (Dtype::I32, "I32", 4),
    (Dtype::I16, "I16", 2),
    (Dtype::I8, "I8", 1),
    (Dtype::U64, "U64", 8),
    (Dtype::U32, "U32", 4),
    (Dtype::U16, "U16", 2),
    (Dtype::U8, "U8", 1),
    (Dtype::Bool, "BOOL", 1),
    (Dtype::F8E4m3, "F8_E4M3", 1),
    (Dtype::F8E5m2, "F8_E5M2", 1),
];

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = DTYPES.iter().find(|(ty, ..)| ty == self);
        f.write_str(row.map_or("?", |(_, name, _)| name))
    }
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeTensor {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Dimensions, the length of a row last; none for a single value.
    pub shape: Vec<u64>,
    /// Where its data start in the file.
    pub offset: u64,
    /// Bytes of its data.
    pub n_bytes: u64,
}

/// What is wrong with a safetensors file. Byte offsets of data count from the end of the table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The table is no JSON of the right form.
    #[error("the table of tensors (from byte 8 on) is not as expected: {message}")]
    Table {
        /// What was found and expected, with line and column.
        message: String,
    },
    /// Two tensors with one name.
    #[error("tensor {} occurs twice, expected once", shown(tensor))]
    Duplicate {
        /// The name.
        tensor: String,
    },
    /// An unknown type of elements.
    #[error(
        "tensor {}: dtype is {}, expected one of {}",
        shown(tensor),
        shown(found),
        known_dtypes()
    )]
    UnknownDtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// The size of a tensor does not fit 63 bits.
    #[error(
        "tensor {}: shape {shape:?} overflows, expected at most {} bytes",
        shown(tensor),
        i64::MAX
    )]
    ShapeOverflow {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// The offsets do not enclose what the shape asks for.
    #[error(
        "tensor {}: data_offsets are {start} and {end}, expected {need} bytes between them",
        shown(tensor)
    )]
    Size {
        /// The tensor.
        tensor: String,
        /// First offset.
        start: u64,
        /// Second offset.
        end: u64,
        /// Bytes of its shape and type.
        need: u64,
    },
    /// A tensor does not start where the one before it ends.
    #[error(
        "tensor {}: its data start at {found}, expected {expected}, where the data before it end",
        shown(tensor)
    )]
    Place {
        /// The tensor.
        tensor: String,
        /// Where it starts.
        found: u64,
        /// Where it should.
        expected: u64,
    },
    /// The tensors end before the file does, or after.
    #[error("the data of the last tensor end at {found}, expected {expected}, the end of the file")]
    End {
        /// Where the last tensor ends.
        found: u64,
        /// Bytes of data in the file.
        expected: u64,
    },
}

fn known_dtypes() -> String {
    DTYPES.iter().map(|(_, name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// An open safetensors file.
pub struct Safetensors {
    bytes: Bytes,
    tensors: Vec<SafeTensor>,
    by_name: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

impl Safetensors {
    /// Maps a file and checks its table.
    ///
    /// # Errors
    /// [`Error::InFile`] with the path around what is wrong: see [`Error::root`].
    pub fn open(path: &Path) -> Result<Safetensors, Error> {
        let open = || {
            let (file, len) = map::open_regular(path)?;
            if len == 0 {
                return Err(Error::EmptyFile);
            }
            Safetensors::of(Bytes::map(&file, len)?)
        };
        open().map_err(|error: Error| error.in_file(path))
    }

    /// Takes the bytes of a file.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Safetensors, Error> {
        Safetensors::of(Bytes::copy_of(bytes)?)
    }

    fn of(bytes: Bytes) -> Result<Safetensors, Error> {
        let mut cursor = Cursor::new(bytes.as_slice(), Endian::Little);
        let n = cursor.u64("length of the table")?;
        if n <= cursor.remaining() {
            cursor.check_cap("length of the table", 0, n, MAX_TABLE_BYTES)?;
        }
        let text = cursor.take(n, "table of tensors")?;
        let table: Table = serde_json::from_slice(text)
            .map_err(|e| SafetensorsError::Table { message: e.to_string() })?;
        let (start, have) = (cursor.at(), cursor.remaining());
        let tensors = check(table.tensors, start, have)?;
        let mut by_name = HashMap::with_capacity(tensors.len());
        for (i, t) in tensors.iter().enumerate() {
            if by_name.insert(t.name.clone(), i).is_some() {
                return Err(SafetensorsError::Duplicate { tensor: t.name.clone() }.into());
            }
        }
        Ok(Safetensors { bytes, tensors, by_name, metadata: table.metadata })
    }

    /// The tensors in the order of their data.
    pub fn tensors(&self) -> &[SafeTensor] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&SafeTensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// The strings under `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The data of a tensor: little-endian elements, row after row.
    ///
    /// # Errors
    /// The mapped file shrank, or `tensor` is from another file.
    pub fn data(&self, tensor: &SafeTensor) -> Result<&[u8], Error> {
        self.bytes.check_len()?;
        let bytes = self.bytes.as_slice();
        cursor::slice(bytes, tensor.offset, tensor.n_bytes).ok_or_else(|| Error::OutsideFile {
            tensor: tensor.name.clone(),
            at: 0,
            start: tensor.offset,
            n_bytes: tensor.n_bytes,
            file_bytes: bytes.len() as u64,
        })
    }
}

/// Tensors in the order of their data, which starts at byte `start` and has `have` bytes.
fn check(
    entries: Vec<(String, Entry)>,
    start: u64,
    have: u64,
) -> Result<Vec<SafeTensor>, SafetensorsError> {
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let Some((dtype, _, size)) = DTYPES.iter().find(|(_, known, _)| *known == entry.dtype)
        else {
            return Err(SafetensorsError::UnknownDtype { tensor: name, found: entry.dtype });
        };
        let shape = entry.shape.0;
        let n_bytes = shape.iter().try_fold(*size, |n, &d| n.checked_mul(d));
        let Some(need) = n_bytes.filter(|&n| i64::try_from(n).is_ok()) else {
            return Err(SafetensorsError::ShapeOverflow { tensor: name, shape });
        };
        let (first, end) = entry.data_offsets;
        if end.checked_sub(first) != Some(need) {
            return Err(SafetensorsError::Size { tensor: name, start: first, end, need });
        }
        tensors.push(SafeTensor { name, dtype: *dtype, shape, offset: first, n_bytes: need });
    }
    // Empty tensors come before what starts at their place.
    tensors.sort_by_key(|t| (t.offset, t.n_bytes));
    let mut expected = 0;
    for t in &mut tensors {
        if t.offset != expected {
            let (tensor, found) = (t.name.clone(), t.offset);
            return Err(SafetensorsError::Place { tensor, found, expected });
        }
        expected = t.offset + t.n_bytes;
        t.offset += start;
        if expected > have {
            break;
        }
    }
    if expected != have {
        return Err(SafetensorsError::End { found: expected, expected: have });
    }
    Ok(tensors)
}

/// The table as it stands in the file.
struct Table {
    tensors: Vec<(String, Entry)>,
    metadata: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// Up to [`MAX_DIMS`] dimensions.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Table;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
                let mut table = Table { tensors: Vec::new(), metadata: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "__metadata__" => table.metadata = map.next_value()?,
                        _ => table.tensors.push((name, map.next_value()?)),
                    }
                }
                Ok(table)
            }
        }
        d.deserialize_map(Visit)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of at most {MAX_DIMS} dimensions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == MAX_DIMS {
                        return Err(de::Error::invalid_length(MAX_DIMS + 1, &self));
                    }
                    dims.push(dim);
                }
                Ok(Shape(dims))
            }
        }
        d.deserialize_seq(Visit)
    }
}
