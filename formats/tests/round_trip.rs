//! What the writer writes, the reader reads: versions, byte orders, alignments, all value types.

mod common;
#[cfg(target_os = "linux")]
mod machine;

use common::sample;
use formats::{Array, Endian, Error, Gguf, GgufWriter, Strings, TensorType, Value};

#[test]
fn every_version_and_byte_order_holds_the_same_metadata_and_tensors() {
    let reference = Gguf::from_bytes(sample().to_bytes()).unwrap();
    assert_eq!(
        (reference.version(), reference.endian()),
        (3, Endian::Little)
    );
    for (version, endian) in [(2, Endian::Little), (2, Endian::Big), (3, Endian::Big)] {
        let bytes = sample().version(version).endian(endian).build().unwrap();
        let gguf = Gguf::from_bytes(bytes).unwrap();
        assert_eq!((gguf.version(), gguf.endian()), (version, endian));
        assert!(gguf.metadata().iter().eq(reference.metadata().iter()));
        assert_eq!(gguf.tensors(), reference.tensors());
    }
}

#[test]
fn every_value_type_comes_back() {
    let gguf = Gguf::from_bytes(sample().to_bytes()).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.len(), 27);
    let expected: [(&str, Value); 12] = [
        ("u8", 1u8.into()),
        ("i8", (-1i8).into()),
        ("u16", 2u16.into()),
        ("i16", (-2i16).into()),
        ("u32", 3u32.into()),
        ("i32", (-3i32).into()),
        ("u64", 4u64.into()),
        ("i64", (-4i64).into()),
        ("f32", 0.5f32.into()),
        ("f64", 0.25f64.into()),
        ("bool", true.into()),
        ("text", "häß".into()),
    ];
    for (key, value) in expected {
        assert_eq!(metadata.get(key), Some(&value), "{key}");
    }
    assert_eq!(metadata.get("i16s"), Some(&vec![-3i16].into()));
    assert_eq!(metadata.get("u64s"), Some(&vec![6u64].into()));
    assert_eq!(metadata.get("bools"), Some(&vec![true, false].into()));
    let tokens = metadata.strings("tokens").unwrap().unwrap();
    assert_eq!(
        tokens.iter().flatten().collect::<Vec<_>>(),
        ["a", "", "héé"]
    );
    let nested = metadata.array("nested").unwrap().unwrap();
    let inner = vec![
        Array::U8(vec![1]),
        Array::from(vec![Array::Bool(vec![true])]),
    ];
    assert_eq!((nested, nested.len()), (&Array::Array(inner), 2));
    let keys: Vec<&str> = metadata.iter().map(|(key, _)| key).take(3).collect();
    assert_eq!(keys, ["general.architecture", "general.alignment", "u8"]);
}

#[test]
fn tensors_come_back_with_shape_and_data() {
    let gguf = Gguf::from_bytes(sample().to_bytes()).unwrap();
    let [norm, w, scalar] = gguf.tensors() else {
        panic!("{:?}", gguf.tensors())
    };
    assert_eq!(gguf.data(norm).unwrap(), (0..32).collect::<Vec<u8>>());
    assert_eq!(
        (w.cols(), w.rows(), w.n_elements(), w.n_bytes, w.row_bytes()),
        (32, 2, 64, 68, 34)
    );
    assert_eq!(gguf.data(w).unwrap(), [7; 68]);
    assert_eq!(
        (scalar.cols(), scalar.rows(), scalar.n_elements()),
        (1, 1, 1)
    );
    assert_eq!(gguf.data(scalar).unwrap(), [1, 2]);
    assert_eq!((gguf.tensor("w"), gguf.tensor("v")), (Some(w), None));
    assert!(!gguf.is_mapped() && gguf.path().is_none());
}

#[test]
fn big_endian_files_can_be_inspected_but_give_no_data() {
    let gguf = Gguf::from_bytes(sample().endian(Endian::Big).to_bytes()).unwrap();
    assert_eq!(gguf.metadata().u32("u32").unwrap(), Some(3));
    let error = gguf.data(&gguf.tensors()[1]).unwrap_err();
    assert!(
        matches!(&error, Error::BigEndianData { tensor } if tensor == "w"),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("big-endian, expected little-endian"),
        "{error}"
    );
}

#[test]
fn any_multiple_of_8_aligns() {
    for alignment in [8, 16, 24, 32, 64, 4096, 1 << 20] {
        let mut writer = GgufWriter::new();
        writer.alignment(alignment);
        writer.tensor("a", TensorType::F32, &[1], vec![1; 4]);
        writer.tensor("b", TensorType::F64, &[1], vec![2; 8]);
        let gguf = Gguf::from_bytes(writer.to_bytes()).unwrap();
        let alignment = u64::from(alignment);
        assert_eq!(gguf.alignment(), alignment);
        for (tensor, value) in gguf.tensors().iter().zip([1, 2]) {
            assert_eq!(tensor.offset % alignment, 0);
            let data = gguf.data(tensor).unwrap();
            assert!(data.iter().all(|&byte| byte == value));
            assert_eq!(data.as_ptr().addr() % 8, 0, "data can be read in place");
        }
        assert_eq!(
            gguf.tensors()[1].offset - gguf.tensors()[0].offset,
            alignment
        );
    }
}

#[test]
fn tensors_may_lie_in_any_order_with_gaps_between() {
    let mut writer = GgufWriter::new();
    writer.tensor_raw("late", TensorType::F32.id(), &[8], Some(96), vec![]);
    writer.tensor_raw("early", TensorType::F32.id(), &[8], Some(0), vec![]);
    let mut bytes = writer.to_bytes();
    bytes.resize(bytes.len() + 128, 0);
    let gguf = Gguf::from_bytes(bytes).unwrap();
    assert_eq!(gguf.tensors()[0].offset, gguf.tensors()[1].offset + 96);
}

#[test]
fn a_file_of_metadata_alone_needs_no_padding() {
    let bytes = GgufWriter::new().set("a", 1u8).to_bytes();
    assert_eq!(bytes.len(), 24 + 8 + 1 + 4 + 1);
    let gguf = Gguf::from_bytes(bytes).unwrap();
    assert_eq!((gguf.metadata().len(), gguf.tensors().len()), (1, 0));
}

#[test]
fn vocabularies_of_bytes_keep_them() {
    let tokens: Strings = [&b"\xe4\xb8"[..], b"ok"].into_iter().collect();
    let gguf = Gguf::from_bytes(GgufWriter::new().set("tokens", tokens).to_bytes()).unwrap();
    let tokens = gguf.metadata().strings("tokens").unwrap().unwrap();
    assert_eq!((tokens.get(0), tokens.get(1)), (None, Some("ok")));
    assert_eq!(tokens.get_bytes(0), Some(&b"\xe4\xb8"[..]));
    assert_eq!(tokens.first_not_utf8(), Some(0));
}

#[test]
fn the_writer_reports_data_that_do_not_fit_their_shape() {
    let mut writer = GgufWriter::new();
    writer.tensor("t", TensorType::F32, &[8], vec![0; 31]);
    assert!(matches!(writer.build(), Err(Error::OutsideFile { .. })));
}

#[test]
#[cfg(target_os = "linux")]
fn locked_files_are_counted_as_locked() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), sample().to_bytes()).unwrap();
    let gguf = Gguf::open(file.path(), formats::Access::Mmap).unwrap();
    gguf.prefetch().unwrap();
    let locked_kib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmLck:"))
            .unwrap()
            .to_owned();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = locked_kib();
    match gguf.lock() {
        // AddressSanitizer makes mlock do nothing.
        Ok(()) => assert!(locked_kib() >= before + 4 || machine::is_slow()),
        // A machine may forbid it: then the error says what to do.
        Err(error) => assert!(error.to_string().contains("ulimit -l"), "{error}"),
    }
}
