//! The typed getters: what converts, and errors that say key, place, found and expected.

use formats::{Error, Gguf, GgufWriter, Metadata};

/// A file with one entry, "k", whose value starts at byte 37, or 49 for the elements of an array.
fn with(value: impl Into<formats::Value>) -> Gguf {
    Gguf::from_bytes(GgufWriter::new().set("k", value).to_bytes()).unwrap()
}

fn wrong_type<T: std::fmt::Debug>(found: Result<T, Error>, says: &[&str]) {
    let error = found.unwrap_err();
    assert!(
        matches!(&error, Error::WrongType { key, at: 37, .. } if key == "k"),
        "{error:?}"
    );
    for part in says.iter().chain(&["\"k\"", "byte 37"]) {
        assert!(
            error.to_string().contains(part),
            "{part:?} is not in {error}"
        );
    }
}

#[test]
fn integers_convert_when_they_fit() {
    for gguf in [with(200u8), with(200i16), with(200u64), with(200i64)] {
        let m = gguf.metadata();
        assert_eq!(
            (m.u32("k").unwrap(), m.u64("k").unwrap()),
            (Some(200), Some(200))
        );
        assert_eq!(
            (m.i32("k").unwrap(), m.i64("k").unwrap()),
            (Some(200), Some(200))
        );
    }
    wrong_type(
        with(-1i32).metadata().u32("k"),
        &["found i32 -1", "integer that fits u32"],
    );
    wrong_type(
        with(1u64 << 32).metadata().u32("k"),
        &["found u64 4294967296", "fits u32"],
    );
    wrong_type(
        with(u64::MAX).metadata().i64("k"),
        &["found u64 18446744073709551615", "fits i64"],
    );
    wrong_type(
        with(1.0f32).metadata().u32("k"),
        &["found f32 1", "fits u32"],
    );
    wrong_type(
        with(true).metadata().u64("k"),
        &["found bool true", "fits u64"],
    );
}

#[test]
fn floats_convert_when_they_fit() {
    assert_eq!(with(0.5f64).metadata().f32("k").unwrap(), Some(0.5));
    assert_eq!(with(0.5f32).metadata().f64("k").unwrap(), Some(0.5));
    assert_eq!(
        with(f64::INFINITY).metadata().f32("k").unwrap(),
        Some(f32::INFINITY)
    );
    wrong_type(
        with(1e300f64).metadata().f32("k"),
        &["f64 1000000", "expected f32"],
    );
    wrong_type(
        with(1u32).metadata().f32("k"),
        &["found u32 1", "expected f32"],
    );
}

#[test]
fn other_types_do_not_convert() {
    wrong_type(
        with(1u8).metadata().bool("k"),
        &["found u8 1", "expected bool"],
    );
    wrong_type(
        with(vec![1u8]).metadata().str("k"),
        &["array of 1 u8 elements", "expected string"],
    );
    wrong_type(
        with("abc").metadata().array("k"),
        &["string of 3 bytes", "expected array"],
    );
    wrong_type(
        with(vec![1u8]).metadata().strings("k"),
        &["u8 elements", "array of strings"],
    );
    wrong_type(
        with(vec![1.0f32]).metadata().u32_array("k"),
        &["f32 elements", "array of integers"],
    );
    wrong_type(
        with(vec![-1i32]).metadata().u32_array("k"),
        &["i32 elements", "fit u32"],
    );
    wrong_type(
        with(vec![1i32]).metadata().f32_array("k"),
        &["i32 elements", "array of f32"],
    );
}

#[test]
fn absent_keys_are_no_error() {
    let gguf = with(1u8);
    let m = gguf.metadata();
    assert_eq!(
        (m.u32("none").unwrap(), m.str("none").unwrap()),
        (None, None)
    );
    assert_eq!(
        (m.u32_per("none", 3).unwrap(), m.f32_array("none").unwrap()),
        (None, None)
    );
    assert_eq!(
        (m.get("none"), m.offset("none"), m.offset("k")),
        (None, None, Some(37))
    );
}

#[test]
fn one_value_stands_for_every_layer_and_arrays_must_reach() {
    let per = |gguf: Gguf, n| gguf.metadata().u32_per("k", n);
    assert_eq!(per(with(7u16), 3).unwrap(), Some(vec![7, 7, 7]));
    assert_eq!(per(with(vec![1i32, 2, 3]), 2).unwrap(), Some(vec![1, 2]));
    let error = per(with(vec![1i32, 2]), 3).unwrap_err();
    assert!(matches!(
        error,
        Error::ArrayTooShort {
            at: 37,
            found: 2,
            expected: 3,
            ..
        }
    ));
    assert!(
        error
            .to_string()
            .contains("array of 2 entries at byte 37, expected at least 3")
    );
    let gguf = with(vec![true, false]);
    assert_eq!(
        gguf.metadata().bool_per("k", 2).unwrap(),
        Some(vec![true, false])
    );
    assert_eq!(
        with(true).metadata().bool_per("k", 2).unwrap(),
        Some(vec![true; 2])
    );
    assert_eq!(
        with(0.5f32).metadata().f32_per("k", 2).unwrap(),
        Some(vec![0.5; 2])
    );
    assert_eq!(
        with(vec![0.5f64]).metadata().f32_per("k", 1).unwrap(),
        Some(vec![0.5])
    );
    wrong_type(
        per(with("x"), 1),
        &["string of 1 bytes", "or an array of such"],
    );
}

#[test]
fn values_out_of_range_are_reported_with_place_and_bounds() {
    let gguf = with(99u32);
    let m: &Metadata = gguf.metadata();
    m.check_range("k", 99, 0..=99).unwrap();
    let error = m.check_range("k", 99, 0..=49).unwrap_err();
    assert!(
        matches!(&error, Error::BadValue { key, at: 37, .. } if key == "k"),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("found 99 at byte 37, expected 0 to 49"),
        "{error}"
    );
    let error = m.missing("a.b", "the number of layers");
    assert_eq!(
        error.to_string(),
        "key \"a.b\" is missing, expected the number of layers"
    );
}
