//! Kernels from the second-level cache, on the instruction set that this machine picks.
//!
//! `cargo bench --bench kernels`. For figures beside the machine's limits, and from memory, there is
//! `pumice bench --kernels`; this one is for comparing two builds.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use formats::TensorType;
use quant::{Isa, Kernels, Out, Regime, SUPPORTED, kernels, pack, packed_kernels, random_blocks};
use std::hint::black_box;

const K: usize = 2048;
const ROWS: usize = 128;

/// Weights as the kernels read them.
fn weights(kern: &Kernels) -> Vec<u8> {
    let ty = kern.tensor_type();
    let mut rows = vec![0; ROWS * ty.row_bytes(K).expect("whole blocks")];
    random_blocks(ty, 1, &mut rows).expect("a type that can be made up");
    if !kern.is_packed() {
        return rows;
    }
    let mut packed = vec![0; rows.len()];
    pack(ty, &rows, K, &mut packed).expect("a type that can be packed");
    packed
}

fn columns(kern: &Kernels, n_cols: usize, regime: Regime) -> Vec<u8> {
    let bytes = kern.act().bytes(K);
    let mut all = vec![0; n_cols * bytes];
    for (c, column) in all.chunks_exact_mut(bytes).enumerate() {
        let x: Vec<f32> = (0..K).map(|i| ((i * 37 + c * 11) % 101) as f32 - 50.0).collect();
        kern.prepare(&x, column, regime);
    }
    all
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernels");
    let isa = Isa::detect();
    let of = |ty: &TensorType| {
        let packed = packed_kernels(*ty, isa).expect("this machine's own row");
        packed.unwrap_or_else(|| kernels(*ty, isa).expect("a supported type"))
    };
    for kern in SUPPORTED.iter().map(of) {
        let w = weights(kern);
        for n_cols in [1, 4] {
            let acts = columns(kern, n_cols, Regime::Rows);
            let mut y = vec![0.0; n_cols * ROWS];
            group.throughput(Throughput::Bytes(w.len() as u64));
            group.bench_function(BenchmarkId::new(kern.id(), format!("rows x {n_cols}")), |b| {
                b.iter(|| {
                    let mut out = Out::new(&mut y, n_cols, ROWS, ROWS);
                    kern.rows(black_box(&w), K, ROWS, &acts, n_cols, &mut out);
                });
            });
        }
        let n_cols = 128;
        if kern.panel_scratch(n_cols) == 0 {
            continue;
        }
        let acts = columns(kern, n_cols, Regime::Panel);
        let mut y = vec![0.0; n_cols * ROWS];
        let mut scratch = vec![0; kern.panel_scratch(n_cols)];
        group.throughput(Throughput::Elements((2 * ROWS * K * n_cols) as u64));
        group.bench_function(BenchmarkId::new(kern.id(), format!("panel x {n_cols}")), |b| {
            b.iter(|| {
                let mut out = Out::new(&mut y, n_cols, ROWS, ROWS);
                kern.panel(black_box(&w), K, ROWS, &acts, n_cols, &mut out, &mut scratch);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
