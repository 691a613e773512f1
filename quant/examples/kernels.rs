//! Speed of the kernels on this machine, per type and instruction set row, against what the
//! machine can do (measured in the same bursts).
//!
//! `cargo run --release -p pumice-quant --example kernels -- [rows|panel|prepare] [TYPE] [ISA]`
//!
//! Work is done in bursts of about half a millisecond, repeated in turn with the limit's own loop,
//! and the best of each is printed: on a machine with other load, means say nothing.

use std::time::Instant;

use formats::TensorType;
use pumice_quant::{Isa, Kernels, Out, Regime, SUPPORTED, kernels, limits, packed_kernels};

/// Weights that are walked through, so that none are in a cache when they come by again.
const POOL: usize = 192 << 20;
/// Bytes of weights per burst.
const BURST: usize = 3 << 20;
/// Bytes of weights that stay in the second-level cache.
const CACHED: usize = 300 << 10;

fn seconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

fn pool() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut pool = Vec::with_capacity(POOL);
    while pool.len() < POOL {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // as float16 fields the bytes are small finite numbers
        pool.extend((state & 0x2fff_2fff_2fff_2fff).to_le_bytes());
    }
    pool
}

/// Columns on cache line boundaries, as the kernels like them.
struct Columns {
    buffer: Vec<u8>,
    start: usize,
}

impl Columns {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

fn columns(kern: &Kernels, k: usize, n: usize, regime: Regime) -> Columns {
    let bytes = kern.act().bytes(k);
    let mut buffer = vec![0u8; n * bytes + 64];
    let start = buffer.as_ptr().align_offset(64);
    buffer.truncate(start + n * bytes);
    let acts = &mut buffer[start..];
    for (c, dst) in acts.chunks_exact_mut(bytes).enumerate() {
        let x: Vec<f32> = (0..k).map(|i| ((i * 37 + c * 11) % 101) as f32 - 50.0).collect();
        kern.prepare(&x, dst, regime);
    }
    Columns { buffer, start }
}

fn rows(pool: &[u8], kern: &Kernels, k: usize, n_cols: usize, burst: usize) -> (f64, f64) {
    let row = kern.tensor_type().row_bytes(k).expect("whole blocks");
    let n_rows = (burst / row).max(1).next_multiple_of(32);
    let acts = columns(kern, k, n_cols, Regime::Rows);
    let mut y = vec![0f32; n_rows * n_cols];
    let (mut best, mut read) = (0f64, 0f64);
    let bytes = n_rows * row;
    let windows = pool.len() / bytes;
    for i in 0..(2 * windows).min(400) {
        // a small burst is repeated: it then measures the kernel from the second-level cache
        let at = if burst < BURST { 0 } else { i * 5 % windows };
        let w = &pool[at * bytes..][..bytes];
        if i % 2 == 0 {
            let mut out = Out::new(&mut y, n_cols, n_rows, n_rows);
            let t = seconds(|| kern.rows(w, k, n_rows, acts.bytes(), n_cols, &mut out));
            best = best.max(bytes as f64 / t);
        } else {
            let t = seconds(|| {
                std::hint::black_box(limits::read(w, 8 << 10));
            });
            read = read.max(bytes as f64 / t);
        }
    }
    (best * 1e-9, read * 1e-9)
}

fn panel(pool: &[u8], kern: &Kernels, k: usize, n_cols: usize) -> (f64, f64) {
    let (row, isa) = (kern.tensor_type().row_bytes(k).expect("whole blocks"), kern.isa());
    let n_rows = kern.panel_rows();
    let acts = columns(kern, k, n_cols, Regime::Panel);
    let mut y = vec![0f32; n_rows * n_cols];
    let mut scratch = vec![0u8; kern.panel_scratch(n_cols)];
    let (mut best, mut peak) = (0f64, 0f64);
    let bytes = n_rows * row;
    let rounds = 8000;
    for i in 0..60 {
        let w = &pool[i * bytes..][..bytes];
        let mut out = Out::new(&mut y, n_cols, n_rows, n_rows);
        let t = seconds(|| kern.panel(w, k, n_rows, acts.bytes(), n_cols, &mut out, &mut scratch));
        best = best.max((2 * n_rows * k * n_cols) as f64 / t);
        let t = seconds(|| {
            std::hint::black_box(limits::int8_peak(isa, rounds));
        });
        peak = peak.max(limits::int8_operations(isa, rounds) as f64 / t);
    }
    (best * 1e-9, peak * 1e-9)
}

fn prepare(isa: Isa, k: usize, regime: Regime) -> f64 {
    let kern = kernels(TensorType::Q8_0, isa).expect("a row of this machine");
    let x: Vec<f32> = (0..k).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
    let mut dst = vec![0u8; kern.act().bytes(k)];
    let times = (0..2000).map(|_| seconds(|| kern.prepare(&x, &mut dst, regime)));
    k as f64 / times.fold(f64::MAX, f64::min) * 1e-9
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str, at: usize| args.get(at).is_none_or(|a| a == name || a == "all");
    let pool = pool();
    let k = 2048;
    for isa in Isa::available().into_iter().rev().filter(|isa| wanted(isa.name(), 2)) {
        if wanted("prepare", 0) {
            let (fine, wide) = (prepare(isa, k, Regime::Rows), prepare(isa, k, Regime::Panel));
            println!("{isa:8} prepare  {fine:6.2} Gvalues/s for rows, {wide:6.2} for panels");
        }
        for &ty in SUPPORTED.iter().filter(|ty| wanted(ty.name(), 1)) {
            let plain = kernels(ty, isa).expect("a row of this machine");
            let packed = packed_kernels(ty, isa).expect("a row of this machine");
            for kern in [plain].into_iter().chain(packed) {
                if wanted("rows", 0) {
                    let (one, read) = rows(&pool, kern, k, 1, BURST);
                    let (four, _) = rows(&pool, kern, k, 4, BURST);
                    let (cached, _) = rows(&pool, kern, k, 1, CACHED);
                    let (cached4, _) = rows(&pool, kern, k, 4, CACHED);
                    println!(
                        "{:20} rows  k {k}: 1 column {one:6.2} GB/s = {:3.0} % of {read:.2}, \
                         4 columns {four:6.2} GB/s; from cache {cached:.2}, {cached4:.2}",
                        kern.id(),
                        100.0 * one / read
                    );
                }
                if wanted("panel", 0) {
                    let (ops, peak) = panel(&pool, kern, k, 512);
                    println!(
                        "{:20} panel k {k} x 512 columns: {ops:7.1} GOP/s = {:3.0} % of {peak:.0}",
                        kern.id(),
                        100.0 * ops / peak
                    );
                }
            }
        }
    }
}
