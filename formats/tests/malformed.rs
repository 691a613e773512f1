//! Each thing that can be wrong with a file gives its own error, with the figures.

mod cases;
mod common;

use std::collections::HashSet;

use cases::Case;
use common::sample;
use formats::{Access, Error, Gguf, GgufWriter, TensorType};

/// The file is refused with the right error and message, from memory as from a file.
fn check(name: &str, case: Case) {
    let error = Gguf::from_bytes(case.bytes.clone()).expect_err(name);
    assert!((case.is)(&error), "{name}: {error:?}");
    let message = error.to_string();
    for part in case.says {
        assert!(
            message.contains(part),
            "{name}: {part:?} is not in {message:?}"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &case.bytes).unwrap();
    for access in [Access::Mmap, Access::Read] {
        let error = Gguf::open(file.path(), access).expect_err(name);
        assert!((case.is)(error.root()), "{name}: {error:?}");
        assert_eq!(
            error.to_string(),
            format!("{}: {message}", file.path().display())
        );
    }
}

/// A test for each of these cases, and a test that none is left out.
macro_rules! tests {
    ($file:ident: $($name:ident)*) => {
        mod $file {
            use super::cases::$file;

            $(#[test]
            fn $name() {
                super::check(stringify!($name), $file::$name());
            })*

            #[test]
            fn every_case_has_its_test() {
                let listed: Vec<&str> = $file::CASES.iter().map(|(name, _)| *name).collect();
                assert_eq!(listed, [$(stringify!($name)),*]);
            }
        }
    };
}

tests! { metadata:
    empty_file magic_cut wrong_magic version_1 version_0 version_4 version_1_big_endian header_cut
    tensor_count_beyond_file tensor_count_over_cap key_count_beyond_file key_count_over_cap
    key_cut key_over_cap key_empty key_not_utf8 key_duplicate value_type_unknown value_cut
    bool_not_0_or_1 string_cut string_length_overflows string_over_cap string_not_utf8
    array_type_unknown array_beyond_file array_length_overflows array_string_cut
    array_bool_not_0_or_1 array_nested_too_deep array_unknown_type_inside too_many_inner_arrays
    alignment_0 alignment_12 alignment_wrong_type alignment_string
}

tests! { tensors:
    tensor_name_empty tensor_name_not_utf8 tensor_name_over_cap tensor_duplicate too_many_dims
    zero_dim dims_overflow bytes_overflow type_removed type_of_activations type_unknown
    partial_block offset_misaligned offset_outside offset_overflows data_cut overlap same_offset
}

#[test]
fn no_two_classes_share_a_message() {
    let cases = || cases::metadata::CASES.iter().chain(cases::tensors::CASES);
    let messages: HashSet<String> = cases()
        .map(|(_, case)| Gguf::from_bytes(case().bytes).unwrap_err().to_string())
        .collect();
    // Version 1 is refused in the same words in either byte order.
    assert_eq!(messages.len(), cases().count() - 1);
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    for (version, endian) in [(2, formats::Endian::Little), (3, formats::Endian::Big)] {
        let whole = sample().version(version).endian(endian).build().unwrap();
        for len in 0..whole.len() {
            let error = Gguf::from_bytes(whole[..len].to_vec()).expect_err("a part of a file");
            let expected = match &error {
                Error::EmptyFile => len == 0,
                Error::Truncated { at, need, have, .. } => at + have == len as u64 && need > have,
                Error::CountTooLarge {
                    found, fits, have, ..
                } => found > fits && *have < len as u64,
                Error::OutsideFile { file_bytes, .. } => *file_bytes == len as u64,
                _ => false,
            };
            assert!(expected, "{len} bytes: {error:?}");
        }
    }
}

#[test]
fn what_is_no_model_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        Gguf::open(&path, Access::Mmap).unwrap_err()
    };
    let safetensors = [&9u64.to_le_bytes()[..], b"{\"a\": {}}"].concat();
    let cases: [(&[u8], &str); 6] = [
        (&safetensors, "safetensors"),
        (b"PK\x03\x04........", "zip archive"),
        (b"\x80\x02ctorch", "pickle"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (
            b"version https://git-lfs.example.org/spec/v1\noid sha256:0\n",
            "git-lfs pointer",
        ),
        (b"x", "text"),
    ];
    for (content, kind) in cases {
        let error = open("model.gguf", content);
        assert!(matches!(error.root(), Error::NotGguf { magic, .. } if content.starts_with(magic)));
        let message = error.to_string();
        assert!(
            message.contains(kind) && message.contains("model.gguf"),
            "{message}"
        );
    }
    let missing = Gguf::open(&folder.path().join("none"), Access::Mmap).unwrap_err();
    assert!(matches!(missing.root(), Error::FileMissing), "{missing:?}");
    assert!(
        missing.to_string().ends_with("none: no such file"),
        "{missing}"
    );
    let directory = Gguf::open(folder.path(), Access::Read).unwrap_err();
    assert!(
        matches!(
            directory.root(),
            Error::NotAFile {
                found: "a directory"
            }
        ),
        "{directory:?}"
    );
}

/// Opening a pipe that nobody writes to would wait for ever.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    let error = Gguf::open(&pipe, Access::Mmap).unwrap_err();
    assert!(
        matches!(
            error.root(),
            Error::NotAFile {
                found: "a named pipe"
            }
        ),
        "{error:?}"
    );
    let error = Gguf::open(std::path::Path::new("/dev/null"), Access::Mmap).unwrap_err();
    assert!(
        matches!(error.root(), Error::NotAFile { found: "a device" }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("expected a regular file"),
        "{error}"
    );
}

/// Windows does not let a mapped file be shortened.
#[cfg(unix)]
#[test]
fn a_mapped_file_that_shrinks_is_found_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes = GgufWriter::new()
        .tensor("t", TensorType::F32, &[4096], vec![1; 16384])
        .to_bytes();
    std::fs::write(file.path(), &bytes).unwrap();
    let mapped = Gguf::open(file.path(), Access::Mmap).unwrap();
    let read = Gguf::open(file.path(), Access::Read).unwrap();
    assert_eq!(mapped.data(&mapped.tensors()[0]).unwrap(), vec![1; 16384]);
    mapped.check_unchanged().unwrap();
    file.as_file().set_len(100).unwrap();
    for error in [
        mapped.data(&mapped.tensors()[0]).unwrap_err(),
        mapped.check_unchanged().unwrap_err(),
    ] {
        let expected = bytes.len() as u64;
        assert!(
            matches!(error.root(), Error::FileShrank { expected: e, found: 100 } if *e == expected),
            "{error:?}"
        );
        assert!(
            error
                .to_string()
                .contains("found 100 bytes, expected 16448"),
            "{error}"
        );
    }
    let error = mapped.into_memory().unwrap_err();
    assert!(
        matches!(error.root(), Error::FileShrank { found: 100, .. }),
        "{error:?}"
    );
    // What was read into memory is out of reach of the change.
    assert_eq!(read.data(&read.tensors()[0]).unwrap(), vec![1; 16384]);
    read.check_unchanged().unwrap();
}

#[test]
fn a_tensor_of_another_file_has_no_data_here() {
    let long = GgufWriter::new()
        .tensor("t", TensorType::F32, &[64], vec![0; 256])
        .to_bytes();
    let long = Gguf::from_bytes(long).unwrap();
    let short = Gguf::from_bytes(sample().to_bytes()[..].to_vec()).unwrap();
    let mut foreign = long.tensors()[0].clone();
    foreign.offset = short.file_bytes() - 8;
    assert!(matches!(
        short.data(&foreign),
        Err(Error::OutsideFile { .. })
    ));
    foreign.offset = u64::MAX;
    assert!(matches!(
        short.data(&foreign),
        Err(Error::OutsideFile { .. })
    ));
}

/// The kernel's own settings are files of a kind that cannot be mapped, and shorter than they
/// claim.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_mapped_can_be_read() {
    let path = std::path::Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    if !path.is_file() {
        println!("skipped: no {}", path.display());
        return;
    }
    let error = Gguf::open(path, Access::Mmap).unwrap_err();
    assert!(
        matches!(
            error.root(),
            Error::Io {
                doing: "map the file",
                ..
            }
        ),
        "{error:?}"
    );
    let error = Gguf::open(path, Access::Read).unwrap_err();
    assert!(
        matches!(error.root(), Error::FileShrank { .. }),
        "{error:?}"
    );
}
