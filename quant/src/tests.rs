//! The kernels of every type on every row of this machine, against exact arithmetic.
//!
//! The oracle works on the same rounded activations and on the codes, scales and offsets that the
//! scalar unpacker yields (which are tied to the decoders, bit for bit, by the first test), in
//! float64. What is left is the float32 accumulation: `Kernels::error_bound`.

use formats::TensorType;

use crate::act::{self, ActKind, Regime};
use crate::{Isa, Out, SUPPORTED, decode, is_packable, kernels, pack, packed_kernels};

mod support;
use support::{Case, Rng, all, all_packed, blocks, lengths, parts_of, prepared, restored, tame};

#[test]
fn unpackers_agree_with_decoders_to_the_bit() {
    let mut rng = Rng(1);
    for &ty in SUPPORTED {
        // many enough that all entries of the code books occur
        let n = 1 << 16;
        let w = blocks(&mut rng, ty, n, false);
        let mut decoded = vec![0f32; n];
        decode(ty, &w, &mut decoded).unwrap();
        let (main, mins) = parts_of(ty, &w);
        for (i, y) in decoded.iter().enumerate() {
            let found = if mins[i] == 0.0 { main[i] } else { main[i] + mins[i] };
            assert!(found == *y, "{ty}: value {i}: {found} instead of {y}");
        }
    }
}

#[test]
fn every_kernel_is_within_the_bound_of_exact_arithmetic() {
    let mut rng = Rng(2);
    let shapes = [(1, 1), (2, 3), (5, 1), (7, 2), (3, 16), (33, 5), (70, 13)];
    for &ty in SUPPORTED {
        for (i, &k) in lengths(ty).iter().enumerate() {
            let (n_rows, n_cols) = shapes[(i + ty.block_bytes()) % shapes.len()];
            let case = Case::new(&mut rng, ty, k, n_rows, n_cols);
            for regime in [Regime::Rows, Regime::Panel] {
                for kern in all(ty) {
                    let exact = case.exact(kern, regime);
                    let found = case.run(kern, regime);
                    for (j, (y, (sum, size))) in found.iter().zip(&exact).enumerate() {
                        let bound = f64::from(kern.error_bound(regime)) * size;
                        let off = (f64::from(*y) - sum).abs();
                        let id = kern.id();
                        assert!(
                            off <= bound,
                            "{id} {regime:?} k {k} output {j}: {y} instead of {sum}, off {off:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn integer_parts_are_exact_on_every_row() {
    let mut rng = Rng(3);
    for &ty in SUPPORTED.iter().filter(|ty| ty.block_len() > 1) {
        let k = 512;
        let mut case = Case::new(&mut rng, ty, k, 37, 7);
        case.w = blocks(&mut rng, ty, k * 37, true);
        // whole numbers with 127 in every group of four: all activation scales are one
        case.x = (0..k * 7)
            .map(|i| if i % 4 == 1 { 127.0 } else { rng.below(255) as f32 - 127.0 })
            .collect();
        for regime in [Regime::Rows, Regime::Panel] {
            for kern in all(ty) {
                let exact = case.exact(kern, regime);
                let largest = exact.iter().fold(0.0, |a, &(_, size)| size.max(a));
                assert!(largest < f64::from(1 << 24), "{ty}: {largest} is not exact in float32");
                case.whole_numbers(kern, regime, &exact);
            }
        }
    }
}

#[test]
fn extreme_codes_meet_extreme_activations_without_overflow() {
    let mut rng = Rng(9);
    for &ty in SUPPORTED.iter().filter(|ty| ty.block_len() > 1) {
        let (k, n_rows, n_cols) = (256, 9, 5);
        let mut case = Case::new(&mut rng, ty, k, n_rows, n_cols);
        case.w = blocks(&mut rng, ty, k * n_rows, true);
        let row_bytes = case.w.len() / n_rows;
        for (row, byte) in case.w.chunks_exact_mut(row_bytes).zip([0, 255, 0x7f, 0x80, 0x88, 0xf0])
        {
            row.fill(byte);
            row.chunks_exact_mut(ty.block_bytes()).for_each(|b| tame(&mut rng, ty, b, true));
        }
        // the first columns take the signs of rows, so that nothing cancels there
        let (main, _) = parts_of(ty, &case.w);
        for c in 0..n_cols {
            for i in 0..k {
                case.x[c * k + i] = match c {
                    0..3 => 127f32.copysign(main[(3 * c + 1) * k + i]),
                    3 => 127.0,
                    _ => -127.0,
                };
            }
        }
        for regime in [Regime::Rows, Regime::Panel] {
            for kern in all(ty) {
                let exact = case.exact(kern, regime);
                assert!(exact.iter().all(|&(_, size)| size < f64::from(1 << 24)), "{ty}");
                case.whole_numbers(kern, regime, &exact);
            }
        }
    }
}

#[test]
fn blocks_of_any_bytes_are_taken_without_a_panic() {
    let mut rng = Rng(10);
    for &ty in SUPPORTED {
        let (k, n_rows, n_cols) = (256, 33, 2);
        let mut case = Case::new(&mut rng, ty, k, n_rows, n_cols);
        for fill in [None, Some(0u8), Some(0xff)] {
            case.w.iter_mut().for_each(|b| *b = fill.unwrap_or(rng.next() as u8));
            let mut decoded = vec![0f32; k * n_rows];
            decode(ty, &case.w, &mut decoded).unwrap();
            let sane = |row: &[f32]| row.iter().all(|y| y.abs() < 1e30);
            let sane: Vec<bool> = decoded.chunks(k).map(sane).collect();
            for kern in all(ty) {
                for regime in [Regime::Rows, Regime::Panel] {
                    let y = case.run(kern, regime);
                    // scales that are not finite spoil their own rows alone
                    for (i, y) in y.iter().enumerate().filter(|(i, _)| sane[i % n_rows]) {
                        assert!(!y.is_nan(), "{} {regime:?} output {i}", kern.id());
                    }
                }
            }
        }
    }
}

#[test]
fn a_result_depends_on_its_row_and_column_alone() {
    let mut rng = Rng(4);
    for &ty in SUPPORTED {
        let k = match ty.block_len() {
            256 => 512,
            128 => 384,
            _ => 320,
        };
        for kern in all(ty) {
            for regime in [Regime::Rows, Regime::Panel] {
                let case = Case::new(&mut rng, ty, k, 21, 16);
                let whole = case.run(kern, regime);
                let row_bytes = case.w.len() / 21;
                for (r0, r1, c0, c1) in
                    [(0, 21, 3, 4), (5, 6, 0, 16), (2, 9, 11, 13), (20, 21, 15, 16)]
                {
                    let part = Case {
                        n_rows: r1 - r0,
                        n_cols: c1 - c0,
                        w: case.w[r0 * row_bytes..r1 * row_bytes].to_vec(),
                        x: case.x[c0 * k..c1 * k].to_vec(),
                        ..case
                    };
                    let found = part.run(kern, regime);
                    for c in c0..c1 {
                        for r in r0..r1 {
                            let a = found[(c - c0) * (r1 - r0) + r - r0];
                            let b = whole[c * 21 + r];
                            assert_eq!(a.to_bits(), b.to_bits(), "{} {regime:?}", kern.id());
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn long_rows_and_many_columns_stay_within_the_bound() {
    let mut rng = Rng(5);
    for (ty, k, n_rows, n_cols) in [
        (TensorType::Q4_1, 14336, 5, 2),
        (TensorType::Q6K, 8192, 3, 1),
        (TensorType::Q4K, 2048, 40, 67),
        (TensorType::Q8_0, 288, 33, 50),
        (TensorType::NVFP4, 320, 65, 32),
    ] {
        let case = Case::new(&mut rng, ty, k, n_rows, n_cols);
        let regime = if n_cols > 16 { Regime::Panel } else { Regime::Rows };
        for kern in all(ty) {
            let exact = case.exact(kern, regime);
            for (y, (sum, size)) in case.run(kern, regime).iter().zip(&exact) {
                let off = (f64::from(*y) - sum).abs();
                let bound = f64::from(kern.error_bound(regime)) * size;
                assert!(off <= bound, "{}: {off:e}", kern.id());
            }
        }
    }
}

#[test]
fn prepared_columns_are_the_same_bytes_on_every_row_of_a_kind() {
    let mut rng = Rng(6);
    for k in [1, 31, 32, 64, 100, 256, 576, 1000] {
        let mut x: Vec<f32> = (0..k).map(|_| rng.value()).collect();
        let odd = [0.0, -0.0, 1e-36, 1e-38, f32::MAX, f32::MIN_POSITIVE, 63.5, f32::NAN, 0.5, -2.5];
        for (i, v) in odd.into_iter().enumerate() {
            x[(i * 37) % k] = v;
        }
        for ty in [TensorType::Q4_1, TensorType::F16] {
            for regime in [Regime::Rows, Regime::Panel] {
                let scalar = kernels(ty, Isa::Scalar).unwrap();
                let expected = prepared(scalar, &x, k, regime);
                for kern in all(ty) {
                    let found = prepared(kern, &x, k, regime);
                    if (kern.act(), regime) == (ActKind::Q8Bf16, Regime::Panel) {
                        let near = |(a, b): (&f32, &f32)| {
                            let b = if b.is_subnormal() { 0.0 } else { *b };
                            *a == half::bf16::from_f32(b).to_f32() || (a.is_nan() && b.is_nan())
                        };
                        let found = restored(kern.act(), &found, k, regime);
                        assert!(found.iter().zip(&x).all(near), "{} k {k}", kern.id());
                        continue;
                    }
                    // Which NaN it is differs by instruction; that it is one does not.
                    let same = |(a, b): (&[u8], &[u8])| {
                        let float = |w: &[u8]| f32::from_le_bytes(w.try_into().unwrap());
                        a == b || (float(a).is_nan() && float(b).is_nan())
                    };
                    let mut words = found.chunks_exact(4).zip(expected.chunks_exact(4));
                    assert!(words.all(same), "{} k {k}", kern.id());
                }
            }
        }
    }
}

#[test]
fn rounding_is_half_to_even_with_a_scale_per_group() {
    let kern = kernels(TensorType::Q4_1, Isa::detect()).unwrap();
    let x = [127.0, 0.5, 1.5, -2.5, 254.0, 1.0, -3.0, 7.0];
    let column = prepared(kern, &x, 8, Regime::Rows);
    let q: Vec<i8> = column[act::HEADER..][..8].iter().map(|&b| b as i8).collect();
    assert_eq!(q, [127, 0, 2, -2, 127, 0, -2, 4]);
    let restored = restored(ActKind::Q8, &column, 8, Regime::Rows);
    assert_eq!(restored, [127.0, 0.0, 2.0, -2.0, 254.0, 0.0, -4.0, 8.0]);
}

#[test]
fn an_activation_that_is_not_finite_makes_the_results_nan() {
    let mut rng = Rng(7);
    for &ty in SUPPORTED {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut case = Case::new(&mut rng, ty, 256, 3, 2);
            // weights that are not zero anywhere near it
            case.x[256 + 70] = bad;
            for kern in all(ty) {
                for regime in [Regime::Rows, Regime::Panel] {
                    let y = case.run(kern, regime);
                    assert!(y[..3].iter().all(|y| y.is_finite()), "{}: {y:?}", kern.id());
                    assert!(y[3..].iter().all(|y| !y.is_finite()), "{}: {y:?}", kern.id());
                }
            }
        }
    }
}

#[test]
fn zero_weights_and_zero_activations_give_zero() {
    for &ty in SUPPORTED {
        let k = 512;
        let zero = Case {
            ty,
            k,
            n_rows: 5,
            n_cols: 3,
            w: blocks(&mut Rng(8), ty, 5 * k, false),
            x: vec![0.0; 3 * k],
        };
        for kern in all(ty) {
            for regime in [Regime::Rows, Regime::Panel] {
                let y = zero.run(kern, regime);
                assert!(y.iter().all(|&y| y == 0.0), "{}", kern.id());
            }
        }
    }
}

#[test]
#[should_panic(expected = "(tag, k) of a prepared column")]
fn a_column_prepared_for_the_other_driver_is_refused() {
    let kern = kernels(TensorType::Q8_0, Isa::Scalar).unwrap();
    let acts = prepared(kern, &[1.0; 32], 32, Regime::Panel);
    let mut y = [0f32];
    kern.rows(&[0; 34], 32, 1, &acts, 1, &mut Out::new(&mut y, 1, 1, 1));
}

#[test]
#[should_panic(expected = "do not fit 5 floats")]
fn a_view_past_the_end_is_refused() {
    Out::new(&mut [0f32; 5], 2, 3, 3);
}

#[test]
fn packed_rows_have_the_bits_of_panels_in_any_company() {
    let mut rng = Rng(9);
    let shapes = [(16, 1), (32, 4), (48, 3), (80, 7), (64, 16), (16, 2), (112, 5)];
    for &ty in SUPPORTED.iter().filter(|&&ty| is_packable(ty)) {
        for (i, &k) in lengths(ty).iter().enumerate() {
            let (n_rows, n_cols) = shapes[(i + ty.block_bytes()) % shapes.len()];
            let case = Case::new(&mut rng, ty, k, n_rows, n_cols);
            let mut w = vec![0; case.w.len()];
            pack(ty, &case.w, k, &mut w).unwrap();
            let packed = Case { w, x: case.x.clone(), ..case };
            for (plain, kern) in all_packed(ty) {
                let expected = case.run(plain, Regime::Panel);
                for regime in [Regime::Rows, Regime::Panel] {
                    let found = packed.run(kern, regime);
                    for (j, (y, e)) in found.iter().zip(&expected).enumerate() {
                        let id = kern.id();
                        assert!(
                            y.to_bits() == e.to_bits(),
                            "{id} {regime:?} k {k}, {n_rows} rows, output {j}: {y} instead of {e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "packed rows")]
fn packed_rows_come_in_groups() {
    let mut rng = Rng(10);
    let case = Case::new(&mut rng, TensorType::Q8_0, 32, 17, 1);
    case.run(packed_kernels(TensorType::Q8_0, Isa::Scalar).unwrap().unwrap(), Regime::Rows);
}

#[test]
fn a_pair_of_columns_stands_for_nearly_the_exact_values() {
    let mut rng = Rng(11);
    let k = 576;
    let x: Vec<f32> = (0..k).map(|_| rng.value()).collect();
    let q8 = [kernels(TensorType::Q8_0, Isa::Scalar), kernels(TensorType::Q8_0, Isa::detect())];
    let wide = packed_kernels(TensorType::Q8_0, Isa::Scalar).unwrap().map(Ok);
    for kern in q8.into_iter().chain(wide).map(Result::unwrap) {
        for regime in [Regime::Rows, Regime::Panel] {
            let mut pair = vec![0; 2 * kern.act().bytes(k)];
            kern.prepare_pair(&x, &mut pair, regime, &mut vec![0.0; k]);
            let (first, second) = pair.split_at(pair.len() / 2);
            let regime = if kern.is_packed() { Regime::Panel } else { regime };
            let sums = restored(kern.act(), first, k, regime);
            let sums = sums.iter().zip(restored(kern.act(), second, k, regime)).map(|(a, b)| a + b);
            for (i, y) in sums.enumerate() {
                // at worst the largest of 32 values decides on the size of a step
                let near = x[i / 32 * 32..][..32].iter().fold(0f32, |m, x| m.max(x.abs()));
                assert!((x[i] - y).abs() <= near / 127.0 / 254.0, "{} became {y}", x[i]);
            }
        }
    }
}
