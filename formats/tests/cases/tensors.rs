//! Wrong files: the tensor table.

use formats::gguf::MAX_TENSOR_NAME_BYTES;
use formats::{Error, GgufWriter, Place, TensorType, TypeError};

use super::{HEADER, Raw, cases, one_tensor};

/// A file with one tensor, "t", whose table row is followed by 4096 bytes of data. The dimension
/// count is at byte 33, the dimensions from 37 on; of one dimension, the type is at 45, the offset
/// at 49, the data from 64 on.
fn row(dims: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.tensor_raw("t", type_id, dims, Some(offset), Vec::new());
    let mut bytes = writer.to_bytes();
    bytes.resize(bytes.len() + 4096, 0);
    bytes
}

fn without_last_byte(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.pop();
    bytes
}

/// Tensors "a" of 64 bytes at offset 32 and "b" of 64 bytes at this offset; data start at byte 96.
fn two_tensors(offset_b: u64) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.tensor_raw("a", 0, &[16], Some(32), vec![]);
    writer.tensor_raw("b", 0, &[16], Some(offset_b), vec![]);
    let mut bytes = writer.to_bytes();
    bytes.resize(bytes.len() + 256, 0);
    bytes
}

cases! { CASES:
    tensor_name_empty: Raw::new(1, 0).str("").zeros(64).0
        => Error::EmptyName { place: Place::TensorName(0), at: 32 },
        ["name of tensor 0", "byte 32"];
    tensor_name_not_utf8: Raw::new(1, 0).str(b"a\xc3").zeros(64).0
        => Error::NotUtf8 { at: 32, bad_at: 33, found: 0xc3, .. },
        ["name of tensor 0", "0xc3 at byte 33", "expected UTF-8"];
    tensor_name_over_cap: Raw::new(1, 0).str("t".repeat(257)).zeros(64).0
        => Error::OverCap { at: HEADER, found: 257, cap: MAX_TENSOR_NAME_BYTES, .. },
        ["name of tensor 0", "byte 24 is 257", "at most 256"];
    tensor_duplicate: one_tensor(|w| _ = w.tensor("t", TensorType::F32, &[8], vec![0; 32]))
        => Error::DuplicateTensor { tensor, first_at: HEADER, at: 57 } if tensor == "t",
        ["tensor \"t\" occurs twice", "bytes 24 and 57"];
    too_many_dims: row(&[1; 5], 0, 0)
        => Error::OverCap { at: 33, found: 5, cap: 4, .. },
        ["tensor \"t\"", "dimension count at byte 33 is 5", "at most 4"];
    zero_dim: row(&[8, 0], 0, 0)
        => Error::ZeroDim { tensor, index: 1, at: 45 } if tensor == "t",
        ["tensor \"t\"", "dimension 1 at byte 45 is 0", "at least 1"];
    dims_overflow: row(&[1 << 32, 1 << 32], 0, 0)
        => Error::DimsOverflow { dims, at: 37, .. } if dims[..] == [1 << 32, 1 << 32],
        ["tensor \"t\"", "[4294967296, 4294967296] at byte 37 overflow"];
    bytes_overflow: row(&[1 << 61], 0, 0)
        => Error::DimsOverflow { at: 37, .. },
        ["tensor \"t\"", "[2305843009213693952]", "9223372036854775807 bytes"];
    type_removed: row(&[32], 31, 0)
        => Error::BadTensorType { at: 45, error: TypeError::Removed { id: 31, name: "Q4_0_4_4" }, .. },
        ["tensor \"t\"", "byte 45", "31 (Q4_0_4_4) was removed"];
    type_of_activations: row(&[32], 9, 0)
        => Error::BadTensorType { at: 45, error: TypeError::NotStored { id: 9, name: "Q8_1" }, .. },
        ["tensor \"t\"", "byte 45", "9 (Q8_1) is for activations only"];
    type_unknown: row(&[32], 77, 0)
        => Error::BadTensorType { at: 45, error: TypeError::Unknown { id: 77 }, .. },
        ["tensor \"t\"", "byte 45", "tensor type 77 is unknown"];
    partial_block: row(&[288, 8], TensorType::Q4K.id(), 0)
        => Error::PartialBlock { ty: TensorType::Q4K, found: 288, at: 37, .. },
        ["tensor \"t\"", "288 elements (byte 37)", "256, the block of Q4_K"];
    offset_misaligned: row(&[8], 0, 33)
        => Error::Misaligned { at: 49, found: 33, alignment: 32, .. },
        ["tensor \"t\"", "33 at byte 49", "multiple of 32"];
    offset_outside: row(&[8], 0, 8192)
        => Error::OutsideFile { at: 49, start: 8256, n_bytes: 32, file_bytes: 4160, .. },
        ["tensor \"t\"", "byte 8256", "byte 49", "ends at byte 4160"];
    offset_overflows: row(&[8], 0, u64::MAX - 31)
        => Error::OutsideFile { at: 49, start: u64::MAX, .. },
        ["tensor \"t\"", "byte 49", "ends at byte 4160"];
    data_cut: without_last_byte(one_tensor(|_| ()))
        => Error::OutsideFile { start: 64, n_bytes: 32, file_bytes: 95, .. },
        ["tensor \"t\"", "32 bytes of data from byte 64", "ends at byte 95"];
    overlap: two_tensors(0)
        => Error::Overlap { start: 128, end: 192, other_start: 96, other_end: 160, .. },
        ["tensor \"a\" (bytes 128 to 192)", "tensor \"b\" (bytes 96 to 160)"];
    same_offset: two_tensors(32)
        => Error::Overlap { start: 128, other_start: 128, .. },
        ["tensor \"b\" (bytes 128 to 192)", "tensor \"a\" (bytes 128 to 192)"];
}
