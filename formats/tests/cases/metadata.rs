//! Wrong files: header and metadata.

use formats::gguf::{
    MAX_ARRAY_DEPTH, MAX_INNER_ARRAYS, MAX_KEY_BYTES, MAX_KEYS, MAX_STRING_BYTES, MAX_TENSORS,
};
use formats::{Array, Endian, Error, GgufWriter, Place, Value};

use super::{HEADER, Raw, cases, one_tensor};

/// A file with one entry, "k".
fn one_key(value: impl Into<Value>) -> Vec<u8> {
    GgufWriter::new().set("k", value).to_bytes()
}

/// Header and first entry up to its value: key "k", this type (at byte 33). The value starts at
/// byte 37; of an array, the element type is there, the length at 41, the elements from 49 on.
fn key_k(value_type: u32) -> Raw {
    Raw::new(0, 1).str("k").u32(value_type)
}

/// A file with an array in an array in ..., `depth` of them.
fn nested(depth: usize) -> Vec<u8> {
    let innermost = Array::U8(vec![1]);
    one_key((1..depth).fold(innermost, |array, _| Array::from(vec![array])))
}

/// A file with this value of `general.alignment`, which is at byte 53.
fn alignment(value: impl Into<Value>) -> Vec<u8> {
    one_tensor(|writer| _ = writer.set("general.alignment", value))
}

cases! { CASES:
    empty_file: vec![]
        => Error::EmptyFile,
        ["0 bytes", "GGUF"];
    magic_cut: b"GGU".to_vec()
        => Error::Truncated { at: 0, need: 4, have: 3, .. },
        ["magic", "needs 4 bytes, 3 remain"];
    wrong_magic: b"tjgg\x01\0\0\0".to_vec()
        => Error::NotGguf { magic, .. } if magic == b"tjgg",
        ["74, 6a, 67, 67", "GGUF", "GGML"];
    version_1: GgufWriter::new().version(1).to_bytes()
        => Error::Version1,
        ["version 1", "expected version 2 or 3"];
    version_0: GgufWriter::new().version(0).to_bytes()
        => Error::UnknownVersion { found: 0 },
        ["version 0", "2 or 3"];
    version_4: GgufWriter::new().version(4).to_bytes()
        => Error::UnknownVersion { found: 4 },
        ["version 4", "2 or 3"];
    version_1_big_endian: GgufWriter::new().version(1).endian(Endian::Big).to_bytes()
        => Error::Version1,
        ["version 1"];
    header_cut: Raw::new(0, 0).0[..19].to_vec()
        => Error::Truncated { place: Place::Header, at: 16, need: 8, have: 3, .. },
        ["metadata count", "byte 16", "3 remain"];
    tensor_count_beyond_file: Raw::new(5, 0).zeros(100).0
        => Error::CountTooLarge { at: 8, found: 5, fits: 4, have: 108, .. },
        ["tensor count at byte 8 is 5", "108 bytes hold at most 4"];
    tensor_count_over_cap: Raw::new(MAX_TENSORS + 1, 0).zeros(24 * (MAX_TENSORS as usize + 1)).0
        => Error::OverCap { at: 8, cap: MAX_TENSORS, .. },
        ["tensor count at byte 8 is 65537", "at most 65536"];
    key_count_beyond_file: Raw::new(0, u64::MAX).zeros(100).0
        => Error::CountTooLarge { at: 16, found: u64::MAX, fits: 7, have: 100, .. },
        ["metadata count at byte 16 is 18446744073709551615", "hold at most 7"];
    key_count_over_cap: Raw::new(0, MAX_KEYS + 1).zeros(13 * (MAX_KEYS as usize + 1)).0
        => Error::OverCap { at: 16, cap: MAX_KEYS, .. },
        ["metadata count at byte 16 is 65537", "at most 65536"];
    key_cut: Raw::new(0, 1).u64(90).zeros(12).0
        => Error::Truncated { place: Place::KeyName(0), at: 32, need: 90, have: 12, .. },
        ["metadata entry 0", "byte 32", "needs 90 bytes"];
    key_over_cap: Raw::new(0, 1).str("k".repeat(MAX_KEY_BYTES as usize + 1)).u32(0).u8(0).0
        => Error::OverCap { at: HEADER, cap: MAX_KEY_BYTES, .. },
        ["metadata entry 0", "byte 24 is 65536", "at most 65535"];
    key_empty: Raw::new(0, 1).str("").u32(0).zeros(8).0
        => Error::EmptyName { place: Place::KeyName(0), at: 32 },
        ["metadata entry 0", "byte 32"];
    key_not_utf8: Raw::new(0, 1).str(b"ab\xfec").u32(0).u8(0).0
        => Error::NotUtf8 { at: 32, bad_at: 34, found: 0xfe, .. },
        ["metadata entry 0", "byte 32", "0xfe at byte 34", "expected UTF-8"];
    key_duplicate: GgufWriter::new().push("a.b", 1u8).push("c", 1u8).push("a.b", 2u8).to_bytes()
        => Error::DuplicateKey { key, first_at: HEADER, at: 54 } if key == "a.b",
        ["\"a.b\"", "bytes 24 and 54", "expected once"];
    value_type_unknown: key_k(13).zeros(8).0
        => Error::UnknownValueType { at: 33, found: 13, .. },
        ["key \"k\"", "13 at byte 33", "0 to 12"];
    value_cut: key_k(10).zeros(5).0
        => Error::Truncated { at: 37, need: 8, have: 5, .. },
        ["key \"k\"", "byte 37", "u64 needs 8 bytes, 5 remain"];
    bool_not_0_or_1: key_k(7).u8(2).0
        => Error::BadBool { at: 37, found: 2, .. },
        ["key \"k\"", "found 2 at byte 37", "0 (false) or 1 (true)"];
    string_cut: key_k(8).u64(7).zeros(6).0
        => Error::Truncated { at: 45, need: 7, have: 6, .. },
        ["key \"k\"", "byte 45", "needs 7 bytes, 6 remain"];
    string_length_overflows: key_k(8).u64(u64::MAX).zeros(6).0
        => Error::Truncated { at: 45, need: u64::MAX, have: 6, .. },
        ["key \"k\"", "18446744073709551615 bytes"];
    string_over_cap: one_key("x".repeat(MAX_STRING_BYTES as usize + 1))
        => Error::OverCap { at: 37, cap: MAX_STRING_BYTES, .. },
        ["key \"k\"", "byte 37 is 16777217", "at most 16777216"];
    string_not_utf8: key_k(8).str(b"a\xff").0
        => Error::NotUtf8 { at: 45, bad_at: 46, found: 0xff, .. },
        ["key \"k\"", "byte 45", "0xff at byte 46"];
    array_type_unknown: key_k(9).u32(99).u64(0).0
        => Error::UnknownElementType { at: 37, found: 99, .. },
        ["key \"k\"", "element type 99 at byte 37", "0 to 12"];
    array_beyond_file: key_k(9).u32(4).u64(4).zeros(15).0
        => Error::CountTooLarge { at: 41, found: 4, fits: 3, have: 15, .. },
        ["key \"k\"", "array length at byte 41 is 4", "15 bytes hold at most 3"];
    array_length_overflows: key_k(9).u32(10).u64(u64::MAX).zeros(64).0
        => Error::CountTooLarge { at: 41, found: u64::MAX, .. },
        ["key \"k\"", "18446744073709551615", "64 bytes hold at most 8"];
    array_string_cut: key_k(9).u32(8).u64(2).str("x").u64(200).zeros(3).0
        => Error::Truncated { at: 66, need: 200, have: 3, .. },
        ["key \"k\"", "byte 66", "array element needs 200 bytes, 3 remain"];
    array_bool_not_0_or_1: key_k(9).u32(7).u64(3).bytes(&[0, 1, 0xff]).0
        => Error::BadBool { at: 51, found: 0xff, .. },
        ["key \"k\"", "found 255 at byte 51"];
    array_nested_too_deep: nested(MAX_ARRAY_DEPTH + 1)
        => Error::NestedTooDeep { at: 85, cap: MAX_ARRAY_DEPTH, .. },
        ["key \"k\"", "more than 4 deep", "byte 85"];
    array_unknown_type_inside: key_k(9).u32(9).u64(1).u32(13).u64(0).0
        => Error::UnknownElementType { at: 49, found: 13, .. },
        ["key \"k\"", "type 13 at byte 49"];
    too_many_inner_arrays: one_key(vec![Array::U8(vec![]); MAX_INNER_ARRAYS as usize + 1])
        => Error::OverCap { at: 41, cap: MAX_INNER_ARRAYS, .. },
        ["key \"k\"", "inner arrays at byte 41 is 65537", "at most 65536"];
    alignment_0: alignment(0u32)
        => Error::BadAlignment { at: 53, found } if found == "u32 0",
        ["general.alignment", "u32 0 at byte 53", "multiple of 8"];
    alignment_12: alignment(12u32)
        => Error::BadAlignment { at: 53, found } if found == "u32 12",
        ["general.alignment", "u32 12 at byte 53", "multiple of 8"];
    alignment_wrong_type: alignment(32u64)
        => Error::BadAlignment { at: 53, found } if found == "u64 32",
        ["general.alignment", "u64 32 at byte 53", "expected a u32"];
    alignment_string: alignment("32")
        => Error::BadAlignment { at: 53, .. },
        ["general.alignment", "a string of 2 bytes at byte 53"];
}
