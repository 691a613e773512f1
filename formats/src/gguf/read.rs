//! Reads and checks the header of a GGUF file: everything but the tensor data.

use super::metadata::{Entry, Metadata};
use super::value::{Array, Strings, Value, ValueType};
use super::{
    DEFAULT_ALIGNMENT, Endian, Header, MAX_ARRAY_BYTES, MAX_ARRAY_DEPTH, MAX_DIMS,
    MAX_INNER_ARRAYS, MAX_KEY_BYTES, MAX_KEYS, MAX_METADATA_BYTES, MAX_STRING_BYTES,
    MAX_TENSOR_NAME_BYTES, MAX_TENSORS, TensorInfo,
};
use crate::cursor::Cursor;
use crate::error::{Error, Place};
use crate::sniff;
use crate::types::TensorType;

/// The first four bytes of every GGUF file, whatever its byte order.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Fewest bytes of a metadata entry: a key length, a type, a value of one byte.
const MIN_ENTRY_BYTES: u64 = 8 + 4 + 1;
/// Fewest bytes of a table entry: a name length, a dimension count, a type, an offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// Reads the header of the file that `bytes` are.
pub(super) fn header(bytes: &[u8]) -> Result<Header, Error> {
    check_magic(bytes)?;
    let (mut cursor, version) = version(bytes)?;
    let n_tensors = cursor.count("tensor count", MIN_TENSOR_BYTES, MAX_TENSORS)?;
    let n_keys = cursor.count("metadata count", MIN_ENTRY_BYTES, MAX_KEYS)?;
    let metadata = metadata(&mut cursor, n_keys)?;
    let alignment = alignment(&metadata)?;
    let table = table(&mut cursor, n_tensors)?;
    let (tensors, by_name) = place(table, cursor.at(), alignment, bytes.len() as u64)?;
    let endian = cursor.endian();
    Ok(Header {
        version,
        endian,
        alignment,
        metadata,
        tensors,
        by_name,
    })
}

fn check_magic(bytes: &[u8]) -> Result<(), Error> {
    if bytes.is_empty() {
        return Err(Error::EmptyFile);
    }
    if bytes.starts_with(&MAGIC) {
        return Ok(());
    }
    // A file that ends inside the magic was cut, as far as anybody can tell.
    if MAGIC.starts_with(bytes) {
        let (need, have) = (MAGIC.len() as u64, bytes.len() as u64);
        return Err(Error::Truncated {
            place: Place::Header,
            item: "magic",
            at: 0,
            need,
            have,
        });
    }
    let magic = bytes[..bytes.len().min(MAGIC.len())].to_vec();
    Err(Error::NotGguf {
        magic,
        looks_like: sniff::looks_like(bytes),
    })
}

/// Reads the version and, by it, the order of bytes: a version whose low half is empty in
/// little-endian order was written the other way round.
fn version(bytes: &[u8]) -> Result<(Cursor<'_>, u32), Error> {
    let after_magic = |endian| {
        let mut cursor = Cursor::new(bytes, endian);
        cursor.take(MAGIC.len() as u64, "magic").map(|_| cursor)
    };
    let mut cursor = after_magic(Endian::Little)?;
    let mut version = cursor.u32("version")?;
    if version != 0 && version & 0xffff == 0 {
        cursor = after_magic(Endian::Big)?;
        version = cursor.u32("version")?;
    }
    match version {
        1 => Err(Error::Version1),
        2 | 3 => Ok((cursor, version)),
        found => Err(Error::UnknownVersion { found }),
    }
}

fn metadata(cursor: &mut Cursor<'_>, n_keys: u64) -> Result<Metadata, Error> {
    let mut entries = Vec::new();
    let mut inner_arrays = 0;
    for i in 0..n_keys {
        let key_at = cursor.at();
        cursor.place = Place::KeyName(i);
        let key = cursor.string("key", MAX_KEY_BYTES)?;
        if key.is_empty() {
            return Err(Error::EmptyName {
                place: cursor.place.to_owned(),
                at: key_at + 8,
            });
        }
        cursor.place = Place::Key(key);
        let type_at = cursor.at();
        let id = cursor.u32("value type")?;
        let Some(ty) = ValueType::from_id(id) else {
            let place = cursor.place.to_owned();
            return Err(Error::UnknownValueType {
                place,
                at: type_at,
                found: id,
            });
        };
        let at = cursor.at();
        let value = value(cursor, ty, &mut inner_arrays)?;
        cursor.check_cap(
            "size of the metadata so far",
            at,
            cursor.at(),
            MAX_METADATA_BYTES,
        )?;
        entries.push(Entry {
            key: key.to_owned(),
            value,
            key_at,
            at,
        });
    }
    Metadata::new(entries)
}

fn value(cursor: &mut Cursor<'_>, ty: ValueType, inner_arrays: &mut u64) -> Result<Value, Error> {
    Ok(match ty {
        ValueType::U8 => Value::U8(cursor.u8("u8")?),
        ValueType::I8 => Value::I8(cursor.i8("i8")?),
        ValueType::U16 => Value::U16(cursor.u16("u16")?),
        ValueType::I16 => Value::I16(cursor.i16("i16")?),
        ValueType::U32 => Value::U32(cursor.u32("u32")?),
        ValueType::I32 => Value::I32(cursor.i32("i32")?),
        ValueType::F32 => Value::F32(cursor.f32("f32")?),
        ValueType::U64 => Value::U64(cursor.u64("u64")?),
        ValueType::I64 => Value::I64(cursor.i64("i64")?),
        ValueType::F64 => Value::F64(cursor.f64("f64")?),
        ValueType::Bool => {
            let at = cursor.at();
            let byte = cursor.u8("bool")?;
            Value::Bool(truth(cursor, at, byte)?)
        }
        ValueType::String => Value::String(cursor.string("string", MAX_STRING_BYTES)?.to_owned()),
        ValueType::Array => Value::Array(array(cursor, 1, inner_arrays)?),
    })
}

fn truth(cursor: &Cursor<'_>, at: u64, byte: u8) -> Result<bool, Error> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(Error::BadBool {
            place: cursor.place.to_owned(),
            at,
            found,
        }),
    }
}

/// Reads an array; `depth` is 1 for the outermost one.
fn array(cursor: &mut Cursor<'_>, depth: usize, inner_arrays: &mut u64) -> Result<Array, Error> {
    let at = cursor.at();
    if depth > MAX_ARRAY_DEPTH {
        let place = cursor.place.to_owned();
        return Err(Error::NestedTooDeep {
            place,
            at,
            cap: MAX_ARRAY_DEPTH,
        });
    }
    let id = cursor.u32("array element type")?;
    let Some(ty) = ValueType::from_id(id) else {
        return Err(Error::UnknownElementType {
            place: cursor.place.to_owned(),
            at,
            found: id,
        });
    };
    let n_at = cursor.at();
    let n = cursor.count(
        "array length",
        ty.min_bytes(),
        MAX_ARRAY_BYTES / ty.min_bytes(),
    )?;
    Ok(match ty {
        ValueType::U8 => Array::U8(cursor.take(n, "array")?.to_vec()),
        ValueType::I8 => Array::I8(numbers(cursor, n, i8::from_le_bytes, i8::from_be_bytes)?),
        ValueType::U16 => Array::U16(numbers(cursor, n, u16::from_le_bytes, u16::from_be_bytes)?),
        ValueType::I16 => Array::I16(numbers(cursor, n, i16::from_le_bytes, i16::from_be_bytes)?),
        ValueType::U32 => Array::U32(numbers(cursor, n, u32::from_le_bytes, u32::from_be_bytes)?),
        ValueType::I32 => Array::I32(numbers(cursor, n, i32::from_le_bytes, i32::from_be_bytes)?),
        ValueType::F32 => Array::F32(numbers(cursor, n, f32::from_le_bytes, f32::from_be_bytes)?),
        ValueType::U64 => Array::U64(numbers(cursor, n, u64::from_le_bytes, u64::from_be_bytes)?),
        ValueType::I64 => Array::I64(numbers(cursor, n, i64::from_le_bytes, i64::from_be_bytes)?),
        ValueType::F64 => Array::F64(numbers(cursor, n, f64::from_le_bytes, f64::from_be_bytes)?),
        ValueType::Bool => {
            let at = cursor.at();
            let bytes = cursor.take(n, "array")?;
            let bits = bytes
                .iter()
                .zip(at..)
                .map(|(&byte, at)| truth(cursor, at, byte));
            Array::Bool(bits.collect::<Result<_, _>>()?)
        }
        ValueType::String => Array::String(strings(cursor, n, n_at)?),
        ValueType::Array => {
            *inner_arrays += n;
            cursor.check_cap(
                "number of inner arrays",
                n_at,
                *inner_arrays,
                MAX_INNER_ARRAYS,
            )?;
            let inner = (0..n).map(|_| array(cursor, depth + 1, inner_arrays));
            Array::Array(inner.collect::<Result<_, _>>()?)
        }
    })
}

/// Reads `n` numbers of `N` bytes, which `Cursor::count` has found to be there.
fn numbers<T, const N: usize>(
    cursor: &mut Cursor<'_>,
    n: u64,
    little: fn([u8; N]) -> T,
    big: fn([u8; N]) -> T,
) -> Result<Vec<T>, Error> {
    let bytes = cursor.take(n * N as u64, "array")?;
    let (chunks, _) = bytes.as_chunks::<N>();
    Ok(match cursor.endian() {
        Endian::Little => chunks.iter().map(|&chunk| little(chunk)).collect(),
        Endian::Big => chunks.iter().map(|&chunk| big(chunk)).collect(),
    })
}

/// Reads `n` strings, whose count stood at byte `n_at`, into one buffer. They need not be UTF-8.
fn strings(cursor: &mut Cursor<'_>, n: u64, n_at: u64) -> Result<Strings, Error> {
    // `Cursor::count` has checked that 8 n bytes follow, so these sizes are at most the file's.
    let mut ends = Vec::with_capacity(n as usize);
    let mut bytes = Vec::with_capacity(8 * n as usize);
    for _ in 0..n {
        let len = cursor.u64("length of an array element")?;
        bytes.extend_from_slice(cursor.take(len, "array element")?);
        cursor.check_cap(
            "array size in bytes",
            n_at,
            bytes.len() as u64,
            MAX_ARRAY_BYTES,
        )?;
        ends.push(bytes.len() as u32);
    }
    bytes.shrink_to_fit();
    Ok(Strings::new(bytes, ends))
}

/// The alignment that the metadata ask for.
fn alignment(metadata: &Metadata) -> Result<u64, Error> {
    const KEY: &str = "general.alignment";
    match metadata.get(KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(found)) if found != 0 && found % 8 == 0 => Ok(u64::from(found)),
        Some(other) => {
            let at = metadata.offset(KEY).unwrap_or(0);
            Err(Error::BadAlignment {
                at,
                found: other.describe(),
            })
        }
    }
}

/// A row of the tensor table as it stands in the file.
struct Row {
    /// With `offset` still counted from the start of the data section.
    info: TensorInfo,
    /// Where the row starts.
    at: u64,
    /// Where its offset field is.
    offset_at: u64,
}

fn table(cursor: &mut Cursor<'_>, n_tensors: u64) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for i in 0..n_tensors {
        let at = cursor.at();
        cursor.place = Place::TensorName(i);
        let name = cursor.string("name", MAX_TENSOR_NAME_BYTES)?;
        if name.is_empty() {
            return Err(Error::EmptyName {
                place: cursor.place.to_owned(),
                at: at + 8,
            });
        }
        cursor.place = Place::Tensor(name);
        let (dims, dims_at) = dims(cursor, name)?;
        let type_at = cursor.at();
        let id = cursor.u32("tensor type")?;
        let ty = TensorType::from_id(id).map_err(|error| Error::BadTensorType {
            tensor: name.to_owned(),
            at: type_at,
            error,
        })?;
        let n_bytes = n_bytes(name, ty, &dims, dims_at)?;
        let offset_at = cursor.at();
        let offset = cursor.u64("offset")?;
        let info = TensorInfo {
            name: name.to_owned(),
            ty,
            dims,
            offset,
            n_bytes,
        };
        rows.push(Row {
            info,
            at,
            offset_at,
        });
    }
    Ok(rows)
}

/// Reads the dimensions of a tensor; also says where the first one is.
fn dims(cursor: &mut Cursor<'_>, tensor: &str) -> Result<(Vec<u64>, u64), Error> {
    let n_at = cursor.at();
    let n = u64::from(cursor.u32("dimension count")?);
    cursor.check_cap("dimension count", n_at, n, MAX_DIMS)?;
    let dims_at = cursor.at();
    let mut dims = Vec::with_capacity(n as usize);
    for index in 0..n as usize {
        let at = cursor.at();
        let dim = cursor.u64("dimension")?;
        if dim == 0 {
            return Err(Error::ZeroDim {
                tensor: tensor.to_owned(),
                index,
                at,
            });
        }
        dims.push(dim);
    }
    Ok((dims, dims_at))
}

/// The size of a tensor in bytes, which fits an i64 (so that sums of two such never wrap).
fn n_bytes(tensor: &str, ty: TensorType, dims: &[u64], at: u64) -> Result<u64, Error> {
    let block = ty.block_len() as u64;
    let found = dims.first().copied().unwrap_or(1);
    if found % block != 0 {
        return Err(Error::PartialBlock {
            tensor: tensor.to_owned(),
            ty,
            found,
            at,
        });
    }
    let n_elements = dims
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let n_bytes = n_elements.and_then(|n| (n / block).checked_mul(ty.block_bytes() as u64));
    match n_bytes {
        Some(n) if n <= i64::MAX as u64 => Ok(n),
        _ => Err(Error::DimsOverflow {
            tensor: tensor.to_owned(),
            dims: dims.to_vec(),
            at,
        }),
    }
}

/// Turns offsets into places in the file and checks them. Also returns the indices sorted by name.
fn place(
    rows: Vec<Row>,
    header_end: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<(Vec<TensorInfo>, Vec<u32>), Error> {
    let by_name = by_name(&rows)?;
    // Neither can wrap: the header lies in the file, and the alignment is a u32.
    let data_start = header_end.next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(rows.len());
    for Row {
        mut info,
        offset_at: at,
        ..
    } in rows
    {
        if info.offset % alignment != 0 {
            let (tensor, found) = (info.name, info.offset);
            return Err(Error::Misaligned {
                tensor,
                at,
                found,
                alignment,
            });
        }
        let start = info.offset.checked_add(data_start);
        let inside = |start: u64| {
            start
                .checked_add(info.n_bytes)
                .is_some_and(|e| e <= file_bytes)
        };
        let Some(start) = start.filter(|&start| inside(start)) else {
            return Err(Error::OutsideFile {
                tensor: info.name,
                at,
                start: start.unwrap_or(u64::MAX),
                n_bytes: info.n_bytes,
                file_bytes,
            });
        };
        info.offset = start;
        tensors.push(info);
    }
    check_overlaps(&tensors)?;
    Ok((tensors, by_name))
}

fn by_name(rows: &[Row]) -> Result<Vec<u32>, Error> {
    let mut by_name: Vec<u32> = (0..rows.len() as u32).collect();
    by_name.sort_by_key(|&i| &rows[i as usize].info.name);
    let pair_of = |pair: &[u32]| (&rows[pair[0] as usize], &rows[pair[1] as usize]);
    for (first, second) in by_name.windows(2).map(pair_of) {
        if first.info.name == second.info.name {
            // The sort is stable: `first` is also the first in the file.
            let (tensor, first_at) = (second.info.name.clone(), first.at);
            return Err(Error::DuplicateTensor {
                tensor,
                first_at,
                at: second.at,
            });
        }
    }
    Ok(by_name)
}

/// Refuses tensors that share bytes. Everything lies inside the file here, so no sum can wrap.
fn check_overlaps(tensors: &[TensorInfo]) -> Result<(), Error> {
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_by_key(|tensor| tensor.offset);
    for pair in by_offset.windows(2) {
        let (other, tensor) = (pair[0], pair[1]);
        let other_end = other.offset + other.n_bytes;
        if tensor.offset < other_end {
            return Err(Error::Overlap {
                tensor: tensor.name.clone(),
                start: tensor.offset,
                end: tensor.offset + tensor.n_bytes,
                other: other.name.clone(),
                other_start: other.offset,
                other_end,
            });
        }
    }
    Ok(())
}
