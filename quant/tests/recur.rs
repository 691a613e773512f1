//! Recurrences against f64 on every instruction set that this CPU has. Bound: NMSE 1e-11, a relative
//! error of some 3e-6: sums of up to 128 terms that partly cancel, one after the other where there
//! are no lanes.

use pumice_quant::{Isa, Read, Recur, Vector};

mod common;
use common::{Random, nmse};

/// One step in f64; returns what is read out.
fn reference(state: &mut [f64], step: &Recur<'_>, values: &[f32]) -> Vec<f64> {
    let n = step.key.len();
    let wide = |x: f32| f64::from(x);
    let dot = |s: &[f64], x: &[f32]| s.iter().zip(x).map(|(s, &x)| s * wide(x)).sum::<f64>();
    let rows = state.chunks_exact_mut(n).zip(values).enumerate();
    rows.map(|(r, (s, &value))| {
        let before = dot(s, step.query);
        let erased = step.erase.map(|[read, along]| (dot(s, read), along));
        let decay = if step.decay.len() == n { step.decay } else { &step.decay[r * n..] };
        for i in 0..n {
            s[i] = s[i] * wide(decay[i]) + wide(value) * wide(step.key[i]);
            s[i] += erased.map_or(0.0, |(a, along)| a * wide(along[i]));
        }
        if step.read == Read::Before { before } else { dot(s, step.query) }
    })
    .collect()
}

#[test]
fn steps_follow_f64() {
    let rows = 5;
    for isa in Isa::available() {
        let vector = Vector::new(isa);
        for n in [1, 3, 8, 16, 17, 64, 100, 128] {
            let mut random = Random::new(n as u64);
            let mut state = random.normal(rows * n, 1.0);
            let mut wide: Vec<f64> = state.iter().map(|&x| f64::from(x)).collect();
            for round in 0..6 {
                let mut vector_of = |n: usize, d: f32| random.normal(n, d);
                let own = round % 2 == 0;
                let decay = vector_of(if own { rows * n } else { n }, 0.3);
                let [a, b] = [vector_of(n, 0.1), vector_of(n, 0.1)];
                let (key, query, values) =
                    (vector_of(n, 1.0), vector_of(n, 1.0), vector_of(rows, 1.0));
                let step = Recur {
                    decay: &decay,
                    erase: (round % 3 != 0).then_some([&a[..], &b[..]]),
                    key: &key,
                    query: &query,
                    read: if round < 3 { Read::After } else { Read::Before },
                };
                let mut out = vec![0.0; rows];
                vector.recur(&mut state, step, &values, &mut out);
                let want = reference(&mut wide, &step, &values);
                let error = nmse(&out, &want).max(nmse(&state, &wide));
                assert!(error < 1e-11, "{isa:?}, {n} columns, round {round}: {error:e}");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone() {
    let (rows, n) = (7, 33);
    let mut random = Random::new(1);
    let (start, values) = (random.normal(rows * n, 1.0), random.normal(rows, 1.0));
    let [decay, a, b, key, query] = [(); 5].map(|()| random.normal(n, 0.5));
    let erase = Some([&a[..], &b[..]]);
    let step = Recur { decay: &decay, erase, key: &key, query: &query, read: Read::After };
    for isa in Isa::available() {
        let vector = Vector::new(isa);
        let (mut state, mut out) = (start.clone(), vec![0.0; rows]);
        vector.recur(&mut state, step, &values, &mut out);
        for r in 0..rows {
            let (mut own, mut y) = (start[r * n..(r + 1) * n].to_vec(), [0.0]);
            vector.recur(&mut own, step, &values[r..=r], &mut y);
            assert_eq!((own.as_slice(), y[0]), (&state[r * n..(r + 1) * n], out[r]), "{isa:?}");
        }
    }
}

#[test]
fn products_are_added_element_by_element() {
    for isa in Isa::available() {
        for n in [0, 1, 7, 16, 33, 100] {
            let mut random = Random::new(9);
            let [mut acc, x, y] = [(); 3].map(|()| random.normal(n, 1.0));
            let wide = |v: f32| f64::from(v);
            let want: Vec<f64> = (0..n).map(|i| wide(acc[i]) + wide(x[i]) * wide(y[i])).collect();
            Vector::new(isa).mul_add(&mut acc, &x, &y);
            assert!(nmse(&acc, &want) < 1e-13, "{isa:?} {n}");
        }
    }
}
