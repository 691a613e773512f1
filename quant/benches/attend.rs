//! Attention speed on one core: `cargo bench -p pumice-quant --bench attend`.
//!
//! Short bursts, the best of which counts (other processes only ever make a burst slower). The
//! rate of a register-only multiply-add loop from the same minute is the limit for prefill, the
//! bytes of keys and values over the time the figure for decode.

use pumice_quant::{
    Isa, KvLayout, KvType, PAGE, PageRef, QueryRow, QueryTile, Vector, attend, store_key,
    store_value,
};
use std::hint::black_box;
use std::time::Instant;

/// Seconds of the fastest of `n` runs.
fn best(n: usize, mut run: impl FnMut()) -> f64 {
    let burst = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..n).map(|_| burst(&mut run)).fold(f64::MAX, f64::min)
}

/// Gflop/s of a dot product that stays in the nearest cache: 2 loads per multiply-add, so about
/// half of a register-only loop; printed as a yardstick for the vector functions.
fn dot_rate(vector: Vector) -> f64 {
    let x = vec![1.0f32; 2048];
    let seconds = best(2000, || {
        for _ in 0..16 {
            black_box(vector.dot(black_box(&x), black_box(&x)));
        }
    });
    16.0 * 2.0 * 2048.0 / seconds / 1e9
}

/// GB/s of a plain sum over 96 MiB: the limit of decode.
fn read_rate(vector: Vector) -> f64 {
    let x = vec![1.0f32; 24 << 20];
    let mut parts = x.chunks(1 << 16).cycle();
    let seconds = best(1500, || {
        black_box(vector.sum(black_box(parts.next().expect("endless"))));
    });
    (4 << 16) as f64 / seconds / 1e9
}

struct Case {
    ty: KvType,
    head_dim: usize,
    n_q: usize,
    depth: usize,
    /// Key/value heads in turn: enough of them do not fit the caches.
    heads: usize,
}

fn run(vector: Vector, case: &Case) {
    let Case { ty, head_dim, n_q, depth, heads } = *case;
    let layout =
        KvLayout { k: ty, v: ty, head_dim_k: head_dim, head_dim_v: head_dim, v_in_k: false };
    let n_pages = depth.div_ceil(PAGE);
    let page_bytes = PAGE * layout.k_row_bytes();
    let row: Vec<f32> = (0..head_dim).map(|i| (i % 7) as f32 * 0.1).collect();
    let mut bytes = vec![0u32; heads * n_pages * 2 * page_bytes / 4];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut bytes);
    for page in bytes.chunks_exact_mut(2 * page_bytes) {
        let (k, v) = page.split_at_mut(page_bytes);
        for at in 0..PAGE {
            // SAFETY: whole pages, and one thread.
            unsafe {
                store_key(ty, vector, &row, k.as_mut_ptr(), at);
                store_value(ty, vector, &row, v.as_mut_ptr(), at);
            }
        }
    }
    let q = vec![0.05; n_q * head_dim];
    // Prefill: the tile's queries are the last positions; decode: one position, several heads.
    let rows: Vec<QueryRow> = (0..n_q)
        .map(|i| QueryRow::new(0, if n_q > 8 { depth - n_q / 3 + i / 3 + 1 } else { depth }))
        .collect();
    let mut out = vec![0.0; n_q * head_dim];
    let mut scratch = vec![0.0; layout.scratch_len(n_q)];
    let mut head = 0;
    let tile = QueryTile { q: &q, rows: &rows, softcap: None, bias: None };
    let seconds = best(if heads > 1 { 4 * heads } else { 300 }, || {
        let cache = &bytes[head * n_pages * 2 * page_bytes..][..n_pages * 2 * page_bytes];
        head = (head + 1) % heads;
        let pages = cache.chunks_exact(2 * page_bytes).enumerate().map(|(i, page)| PageRef {
            k: &page[..page_bytes],
            v: &page[page_bytes..],
            first_pos: i * PAGE,
            n: PAGE.min(depth - i * PAGE),
        });
        attend(vector, layout, &tile, pages, black_box(&mut out), &mut scratch);
    });
    let flop = 4.0 * (n_q * depth * head_dim) as f64;
    let read = (2 * depth * layout.k_row_bytes()) as f64;
    println!(
        "{:?} {ty} head_dim {head_dim} queries {n_q} depth {depth} heads {heads}: {:.1} us, {:.1} Gflop/s, {:.2} GB/s",
        vector.isa(),
        seconds * 1e6,
        flop / seconds / 1e9,
        read / seconds / 1e9
    );
}

fn main() {
    let only = std::env::args()
        .nth(1)
        .and_then(|name| Isa::available().into_iter().find(|isa| format!("{isa:?}") == name));
    for isa in Isa::available() {
        if only.is_some_and(|only| only != isa) {
            continue;
        }
        let vector = Vector::new(isa);
        println!("{isa:?} dot of 2048 in L1: {:.1} Gflop/s", dot_rate(vector));
        println!("{isa:?} sum over memory: {:.2} GB/s", read_rate(vector));
        let types = [KvType::F16, KvType::Q8_0, KvType::Q4_0].map(|ty| (64, ty));
        for (head_dim, ty) in types.into_iter().chain([(128, KvType::F16)]) {
            for n_q in [96, 24] {
                run(vector, &Case { ty, head_dim, n_q, depth: 1024, heads: 1 });
            }
            for (n_q, heads) in [(3, 1), (3, 120), (1, 120)] {
                run(vector, &Case { ty, head_dim, n_q, depth: 2048, heads });
            }
        }
    }
}
