//! Safetensors files: what is right is read, and every way to be wrong has its error.

use formats::safetensors::{Dtype, MAX_TABLE_BYTES, Safetensors};
use formats::{Error, SafetensorsError};
use std::path::Path;

/// A file of a table and data.
fn file(table: &str, data: &[u8]) -> Vec<u8> {
    [&(table.len() as u64).to_le_bytes(), table.as_bytes(), data].concat()
}

fn tensor(name: &str, dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

/// A table of two good tensors of 8 and 2 bytes.
fn sample() -> Vec<u8> {
    let (a, b) = (tensor("a", "F32", "[1,2]", 2, 10), tensor("b", "BF16", "[]", 0, 2));
    file(
        &format!(r#"{{"__metadata__":{{"format":"pt"}},{a},{b}}}"#),
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    )
}

fn refused(table: &str, n_data: usize) -> Error {
    Safetensors::from_bytes(&file(table, &vec![0; n_data])).err().expect("a wrong file")
}

#[test]
fn tensors_come_in_the_order_of_their_data() {
    let file = Safetensors::from_bytes(&sample()).unwrap();
    let names: Vec<_> = file.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    let (a, b) = (file.tensor("a").unwrap(), file.tensor("b").unwrap());
    assert_eq!(
        (a.dtype, &a.shape[..], b.dtype, b.shape.len()),
        (Dtype::F32, &[1, 2][..], Dtype::Bf16, 0)
    );
    assert_eq!(file.data(b).unwrap(), [1, 2]);
    assert_eq!(file.data(a).unwrap(), [3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(file.metadata()["format"], "pt");
    assert!(file.tensor("c").is_none());
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    let whole = sample();
    for len in 0..whole.len() {
        let error = Safetensors::from_bytes(&whole[..len]).err().expect("a part of a file");
        let expected = match &error {
            Error::Truncated { at, need, have, .. } => at + have == len as u64 && need > have,
            Error::Safetensors(SafetensorsError::End { found, expected }) => found > expected,
            _ => false,
        };
        assert!(expected, "{len} bytes: {error}");
    }
}

#[test]
fn every_class_of_wrong_table_has_its_message() {
    let t = |shape, start, end| format!("{{{}}}", tensor("t", "F32", shape, start, end));
    let two = |a: String, b: String| format!("{{{a},{b}}}");
    let cases = [
        ("[]".into(), 0, "expected an object of tensors"),
        ("{".into(), 0, "EOF while parsing"),
        ("{} x".into(), 0, "trailing characters"),
        (r#"{"t":{"dtype":"F32","shape":[]}}"#.into(), 0, "missing field `data_offsets`"),
        (r#"{"t":{"dtype":1,"shape":[],"data_offsets":[0,4]}}"#.into(), 4, "expected a string"),
        (t("[-1]", 0, 4), 4, "invalid value: integer `-1`"),
        (t("[1.5]", 0, 4), 4, "invalid type: floating point"),
        (t("[1,1,1,1,1,1,1,1,1]", 0, 4), 4, "an array of at most 8 dimensions"),
        (
            format!("{{{}}}", tensor("t", "F31", "[1]", 0, 4)),
            4,
            r#"dtype is "F31", expected one of F64"#,
        ),
        (t("[4294967296,4294967296]", 0, 4), 4, "overflows, expected at most"),
        (t("[2305843009213693952]", 0, 4), 4, "overflows, expected at most"),
        (t("[1]", 4, 0), 4, "data_offsets are 4 and 0, expected 4 bytes between them"),
        (t("[2]", 0, 4), 4, "expected 8 bytes between them"),
        (t("[1]", 18446744073709551612, 18446744073709551615), 4, "expected 4 bytes between them"),
        (t("[1]", 4, 8), 8, "start at 4, expected 0"),
        (
            two(tensor("a", "U8", "[4]", 0, 4), tensor("b", "U8", "[4]", 2, 6)),
            6,
            "start at 2, expected 4",
        ),
        (
            two(tensor("a", "U8", "[2]", 0, 2), tensor("a", "U8", "[2]", 2, 4)),
            4,
            r#""a" occurs twice"#,
        ),
        (t("[1]", 0, 4), 3, "end at 4, expected 3, the end of the file"),
        (t("[1]", 0, 4), 5, "end at 4, expected 5, the end of the file"),
    ];
    for (table, n_data, expected) in cases {
        let message = refused(&table, n_data).to_string();
        assert!(message.contains(expected), "{table}: {message}");
    }
}

#[test]
fn tables_beyond_the_cap_and_beyond_the_file_are_told_apart() {
    let mut bytes = vec![b' '; MAX_TABLE_BYTES as usize + 9];
    bytes[..8].copy_from_slice(&(MAX_TABLE_BYTES + 1).to_le_bytes());
    let error = Safetensors::from_bytes(&bytes).err().unwrap();
    assert!(matches!(error, Error::OverCap { at: 0, .. }), "{error}");
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let error = Safetensors::from_bytes(&bytes).err().unwrap();
    assert!(matches!(error, Error::Truncated { need: u64::MAX, .. }), "{error}");
}

#[test]
fn deep_nesting_ends_in_an_error() {
    let message = refused(&format!(r#"{{"t":{}"#, "[".repeat(100_000)), 0).to_string();
    assert!(message.contains("table of tensors"), "{message}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Safetensors::open(Path::new("nowhere/model.safetensors")).err().unwrap();
    assert!(matches!(error.root(), Error::FileMissing), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}
