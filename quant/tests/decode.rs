//! Decoders against the reference decodings, bit for bit; and the errors of the public functions.

use std::path::{Path, PathBuf};

use formats::TensorType;
use pumice_quant::{Error, Isa, SUPPORTED, decode, decode_row, kernels};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn read(folder: &Path, ty: TensorType, ext: &str) -> Vec<u8> {
    let path = folder.join(format!("{ty}.{ext}"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// FNV-1a, 64 bits.
fn checksum(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Whether the values of `NAME.bin` have the checksum that stands in `decoded.txt`; none if there is
/// no line for the type, whose values are then in a file.
fn has_the_checksum(folder: &Path, ty: TensorType) -> Option<bool> {
    let list = std::fs::read_to_string(folder.join("decoded.txt")).unwrap();
    let line = list.lines().find_map(|line| line.strip_prefix(&format!("{ty} ")))?;
    let blocks = read(folder, ty, "bin");
    let mut found = vec![0f32; blocks.len() / ty.block_bytes() * ty.block_len()];
    decode(ty, &blocks, &mut found).unwrap();
    let sum = checksum(found.iter().flat_map(|y| y.to_le_bytes()));
    Some(format!("{sum:016x}") == line)
}

fn check(folder: &Path, ty: TensorType) {
    let (blocks, expected) = (read(folder, ty, "bin"), read(folder, ty, "f32"));
    let mut found = vec![0f32; expected.len() / 4];
    decode(ty, &blocks, &mut found).unwrap();
    for (i, (y, e)) in found.iter().zip(expected.as_chunks::<4>().0).enumerate() {
        let e = f32::from_le_bytes(*e);
        assert_eq!(y.to_bits(), e.to_bits(), "{ty}: value {i}: {y} instead of {e}");
    }
    // the first 8 x 512 values are a matrix: its rows decode alone to the same bits
    let mut row = vec![0f32; 512];
    for r in 0..8 {
        let bytes = &blocks[..8 * ty.row_bytes(512).unwrap()];
        decode_row(ty, bytes, r, &mut row).unwrap();
        let whole = &found[512 * r..512 * (r + 1)];
        assert!(row.iter().zip(whole).all(|(a, b)| a.to_bits() == b.to_bits()), "{ty}: row {r}");
    }
}

fn golden_types() -> impl Iterator<Item = TensorType> {
    SUPPORTED.iter().copied().filter(|&ty| ty != TensorType::F32)
}

#[test]
fn every_type_decodes_to_the_reference_bits() {
    assert_eq!(golden_types().count(), 27);
    for ty in golden_types() {
        match has_the_checksum(&data(), ty) {
            Some(same) => {
                assert!(same, "{ty}: not the reference values; PUMICE_GOLDENS tells which")
            }
            None => check(&data(), ty),
        }
    }
}

#[test]
fn every_type_decodes_to_the_bits_of_the_whole_golden_set() {
    let Some(folder) = std::env::var_os("PUMICE_GOLDENS") else {
        println!("skipped: PUMICE_GOLDENS is not set");
        return;
    };
    golden_types().for_each(|ty| check(&Path::new(&folder).join("blocks"), ty));
}

#[test]
fn f32_is_copied_bit_for_bit() {
    let values = [0.0f32, -0.0, 1.5, f32::MIN_POSITIVE / 4.0, f32::INFINITY, -3.25e30];
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut found = [1f32; 6];
    decode(TensorType::F32, &bytes, &mut found).unwrap();
    assert_eq!(found.map(f32::to_bits), values.map(f32::to_bits));
}

#[test]
fn wrong_lengths_are_errors_that_name_both_figures() {
    let mut y = vec![0f32; 64];
    let err = decode(TensorType::Q4_1, &[0; 39], &mut y).unwrap_err();
    assert_eq!(err.to_string(), "Q4_1: 64 values need 40 bytes of blocks, found 39");
    let err = decode(TensorType::Q4K, &[0; 144], &mut y).unwrap_err();
    assert_eq!(err.to_string(), "Q4_K: 64 values are no multiple of the 256-value block");
    let err = decode(TensorType::F16, &[0; 127], &mut y).unwrap_err();
    assert!(matches!(err, Error::BlockBytes { expected: 128, found: 127, .. }), "{err}");
    let err = decode_row(TensorType::Q8_0, &[0; 34], 1, &mut y[..32]).unwrap_err();
    assert!(matches!(err, Error::BlockBytes { expected: 68, found: 34, .. }), "{err}");
    let err = decode_row(TensorType::Q8_0, &[0; 34], usize::MAX, &mut y[..32]).unwrap_err();
    assert!(matches!(err, Error::BlockBytes { .. }), "{err}");
}

#[test]
fn a_type_without_kernels_is_an_error_that_names_it() {
    let mut y = vec![0f32; 256];
    let err = decode(TensorType::I16, &[0; 512], &mut y).unwrap_err();
    assert!(err.to_string().contains("I16") && err.to_string().contains("IQ2_XXS"), "{err}");
    assert!(kernels(TensorType::I16, Isa::Scalar).is_err());
}

#[test]
fn isa_names_round_trip_and_unknown_ones_are_explained() {
    for &isa in Isa::ALL {
        assert_eq!(isa.name().parse::<Isa>().unwrap(), isa);
    }
    let err = "avx1024".parse::<Isa>().unwrap_err().to_string();
    assert!(err.contains("avx1024") && err.contains("known are scalar avx2"), "{err}");
    let chosen = |isa: &&Isa| **isa != Isa::Amx;
    assert_eq!(Isa::available().iter().rfind(chosen), Some(&Isa::detect()));
    assert_eq!(Isa::available().first(), Some(&Isa::Scalar));
    for &isa in Isa::ALL {
        assert_eq!(kernels(TensorType::Q8_0, isa).is_ok(), Isa::available().contains(&isa));
    }
}
