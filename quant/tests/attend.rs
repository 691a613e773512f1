//! Attention over pages against an f64 reference, and its promise of one order of addition.
//!
//! Bound: NMSE 2e-11 per query against f64 on the values as stored (so the cache type's own
//! rounding is not part of it): scores here reach 10, where f32 is good to 1e-6, and so are then
//! the weights.

use pumice_quant::{
    Isa, KvLayout, KvType, PAGE, PageRef, QueryRow, QueryTile, SPAN, Vector, attend, attend_spans,
    store_key, store_value, sum_spans,
};

mod common;
use common::{Random, nmse};

/// How a row lies in its page.
enum Place {
    Key,
    Value,
    Row,
}

/// The cache of one head: pages of bytes, and the same numbers as read back.
struct Cache {
    layout: KvLayout,
    n: usize,
    pages: Vec<(Vec<u32>, Vec<u32>)>,
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
}

impl Cache {
    fn new(layout: KvLayout, n: usize, seed: u64) -> Cache {
        let vector = Vector::new(Isa::Scalar);
        let mut random = Random::new(seed);
        let words = |row: usize| vec![0xffff_ffffu32; (PAGE * row).div_ceil(4)];
        let empty = || (words(layout.k_row_bytes()), words(layout.v_row_bytes()));
        let mut cache = Cache { layout, n, pages: vec![], k: vec![], v: vec![] };
        for pos in 0..n {
            if pos % PAGE == 0 {
                cache.pages.push(empty());
            }
            let (k, v) = cache.pages.last_mut().expect("just pushed");
            let mut put = |ty: KvType, dim: usize, page: &mut [u32], place: Place| {
                let bytes = ty.row_bytes(dim);
                let row = random.normal(dim, 1.0);
                let page: &mut [u8] = bytemuck::cast_slice_mut(page);
                let at = pos % PAGE;
                match place {
                    // SAFETY: a whole page, and one thread.
                    Place::Key => unsafe { store_key(ty, vector, &row, page.as_mut_ptr(), at) },
                    // SAFETY: as above.
                    Place::Value => unsafe { store_value(ty, vector, &row, page.as_mut_ptr(), at) },
                    Place::Row => ty.encode(vector, &row, &mut page[at * bytes..][..bytes]),
                }
                let mut stored = vec![0u32; bytes.div_ceil(4)];
                let stored = &mut bytemuck::cast_slice_mut(&mut stored)[..bytes];
                ty.encode(vector, &row, stored);
                let mut back = vec![0.0; dim];
                ty.decode(vector, stored, &mut back);
                back
            };
            let place = if layout.v_in_k { Place::Row } else { Place::Key };
            let key = put(layout.k, layout.head_dim_k, k, place);
            cache.v.push(match layout.v_in_k {
                true => key[..layout.head_dim_v].to_vec(),
                false => put(layout.v, layout.head_dim_v, v, Place::Value),
            });
            cache.k.push(key);
        }
        cache
    }

    fn pages(&self) -> impl Iterator<Item = PageRef<'_>> {
        self.pages.iter().enumerate().map(|(i, (k, v))| PageRef {
            k: bytemuck::cast_slice(k),
            v: bytemuck::cast_slice(if self.layout.v_in_k { k } else { v }),
            first_pos: i * PAGE,
            n: PAGE.min(self.n - i * PAGE),
        })
    }

    fn attend(
        &self,
        vector: Vector,
        q: &[f32],
        rows: &[QueryRow],
        softcap: Option<f32>,
    ) -> Vec<f32> {
        let mut out = vec![7.0; rows.len() * self.layout.head_dim_v];
        // NaN in the scratch: nothing may be read before it is written.
        let mut scratch = vec![f32::NAN; self.layout.scratch_len(rows.len())];
        let tile = QueryTile { q, rows, softcap, bias: None };
        attend(vector, self.layout, &tile, self.pages(), &mut out, &mut scratch);
        out
    }

    /// As `attend`, `step` spans at a time, the last ones first.
    fn apart(&self, vector: Vector, q: &[f32], rows: &[QueryRow], step: usize) -> Vec<f32> {
        let (dv, len, n_q) = (self.layout.head_dim_v, self.layout.part_len(), rows.len());
        let n_spans = self.n.div_ceil(SPAN);
        let mut parts = vec![f32::NAN; n_spans * n_q * len];
        let mut scratch = vec![f32::NAN; self.layout.scratch_len(n_q)];
        let tile = QueryTile { q, rows, softcap: None, bias: None };
        for first in (0..n_spans).step_by(step).rev() {
            let spans = first..n_spans.min(first + step);
            let pages = self.pages().skip(first * SPAN / PAGE);
            let parts = &mut parts[first * n_q * len..spans.end * n_q * len];
            attend_spans(vector, self.layout, &tile, (spans, pages), parts, &mut scratch);
        }
        let mut out = vec![7.0; n_q * dv];
        for (i, (out, row)) in out.chunks_exact_mut(dv).zip(rows).enumerate() {
            let parts = parts.chunks_exact(len).skip(i).step_by(n_q);
            sum_spans(vector, self.layout, row.sink, parts, out, &mut scratch);
        }
        out
    }

    fn reference(&self, q: &[f32], row: &QueryRow, softcap: Option<f32>) -> Vec<f64> {
        let mut scores = vec![];
        for pos in row.first..row.end.min(self.n) {
            let mut s: f64 =
                q.iter().zip(&self.k[pos]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            if let Some(cap) = softcap {
                s = f64::from(cap) * (s / f64::from(cap)).tanh();
            }
            s -= f64::from(row.alibi_slope) * pos.abs_diff(row.pos) as f64;
            scores.push((pos, s));
        }
        let sink = f64::from(row.sink);
        let max = scores.iter().map(|s| s.1).fold(sink, f64::max);
        let mut out = vec![0.0; self.layout.head_dim_v];
        if scores.is_empty() {
            return out;
        }
        let total: f64 =
            (sink - max).exp() + scores.iter().map(|(_, s)| (s - max).exp()).sum::<f64>();
        for (pos, s) in scores {
            for (o, &v) in out.iter_mut().zip(&self.v[pos]) {
                *o += (s - max).exp() / total * f64::from(v);
            }
        }
        out
    }
}

fn layout(ty: KvType, head_dim_k: usize, head_dim_v: usize) -> KvLayout {
    KvLayout { k: ty, v: ty, head_dim_k, head_dim_v, v_in_k: false }
}

fn scaled_queries(n: usize, dim: usize, seed: u64) -> Vec<f32> {
    // Scores of a standard deviation of 3: a softmax that is neither flat nor one-hot.
    Random::new(seed).normal(n * dim, 3.0 / (dim as f32).sqrt())
}

/// Queries of every kind over a cache of n positions.
fn assorted_rows(n: usize) -> Vec<QueryRow> {
    let plain = |first, end| QueryRow::new(first, end);
    let mut rows = vec![
        plain(0, n),
        plain(0, 1),
        plain(0, PAGE),
        plain(0, PAGE + 1),
        plain(n - 1, n),
        plain(5, 5),
        plain(40, 3),
        plain(PAGE, n),
        plain(PAGE - 1, PAGE + 1),
        plain(n / 2, n - 3),
    ];
    rows.extend((0..7).map(|i| plain(i * 9, n - 20 + i)));
    rows.push(QueryRow { sink: 2.5, ..plain(0, n) });
    rows.push(QueryRow { sink: -1.0, ..plain(100, 100) });
    rows.push(QueryRow { alibi_slope: 0.0625, ..plain(0, n) });
    rows.push(QueryRow { alibi_slope: 0.5, pos: n / 2, ..plain(0, n) });
    rows.push(QueryRow { alibi_slope: 0.25, sink: 1.0, ..plain(30, n - 1) });
    rows
}

fn check_against_f64(layout: KvLayout, n: usize, softcap: Option<f32>) {
    let cache = Cache::new(layout, n, 1);
    let rows = assorted_rows(n);
    let q = scaled_queries(rows.len(), layout.head_dim_k, 2);
    for isa in Isa::available() {
        let out = cache.attend(Vector::new(isa), &q, &rows, softcap);
        for (i, row) in rows.iter().enumerate() {
            let q = &q[i * layout.head_dim_k..][..layout.head_dim_k];
            let got = &out[i * layout.head_dim_v..][..layout.head_dim_v];
            let want = cache.reference(q, row, softcap);
            let error = nmse(got, &want);
            assert!(error < 2e-11, "{isa:?} {layout:?} row {i} {row:?}: {error:e}");
            if row.first >= row.end {
                assert!(got.iter().all(|&x| x.to_bits() == 0), "{isa:?} row {i} sees nothing");
            }
        }
    }
}

#[test]
fn every_head_size_follows_f64() {
    for dim in [8, 16, 20, 64, 72, 80, 96, 128, 256] {
        check_against_f64(layout(KvType::F16, dim, dim), 300, None);
    }
    for (k, v) in [(192, 128), (64, 20), (1, 3), (40, 64)] {
        check_against_f64(layout(KvType::F32, k, v), 200, None);
    }
}

#[test]
fn every_cache_type_follows_f64() {
    for k in KvType::ALL {
        for v in KvType::ALL {
            for dim in [64, 72] {
                let layout = KvLayout { k, v, head_dim_k: dim, head_dim_v: dim, v_in_k: false };
                check_against_f64(layout, 200, None);
            }
        }
    }
}

#[test]
fn values_inside_keys_follow_f64() {
    for ty in KvType::ALL {
        for (k, v) in [(192, 128), (40, 32), (24, 16), (20, 20)] {
            check_against_f64(KvLayout { v_in_k: true, ..layout(ty, k, v) }, 150, None);
        }
    }
}

#[test]
fn softcap_follows_f64() {
    for cap in [5.0, 50.0] {
        check_against_f64(layout(KvType::F32, 64, 64), 200, Some(cap));
    }
}

#[test]
fn a_query_has_the_same_bits_alone_and_in_any_tile() {
    for (dim, softcap) in [(64, None), (20, Some(30.0)), (80, None)] {
        let layout = layout(KvType::F16, dim, dim);
        let n = 333;
        let cache = Cache::new(layout, n, 3);
        let rows = assorted_rows(n);
        let q = scaled_queries(rows.len(), dim, 4);
        for isa in Isa::available() {
            let vector = Vector::new(isa);
            let whole = cache.attend(vector, &q, &rows, softcap);
            for size in [1, 2, 3, 5, 7, 11] {
                let parts: Vec<f32> = q
                    .chunks(size * dim)
                    .zip(rows.chunks(size))
                    .flat_map(|(q, rows)| cache.attend(vector, q, rows, softcap))
                    .collect();
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&whole), bits(&parts), "{isa:?} {dim} tiles of {size}");
            }
        }
    }
}

#[test]
fn spans_worked_on_apart_give_the_same_bits() {
    for ty in KvType::ALL {
        for (k, v, v_in_k) in [(64, 64, false), (40, 72, false), (40, 32, true)] {
            let layout = KvLayout { v_in_k, ..layout(ty, k, v) };
            let n = 3 * SPAN + 77;
            let cache = Cache::new(layout, n, 11);
            let mut rows = assorted_rows(n);
            rows.truncate(rows.len() - 1);
            rows.extend([QueryRow::new(SPAN + 3, 2 * SPAN), QueryRow::new(SPAN - 1, SPAN + 1)]);
            let q = scaled_queries(rows.len(), k, 12);
            for isa in Isa::available() {
                let vector = Vector::new(isa);
                let whole = cache.attend(vector, &q, &rows, None);
                for (size, step) in [(1, 1), (3, 2), (8, 3), (rows.len(), 4)] {
                    let tiles = q.chunks(size * k).zip(rows.chunks(size));
                    let apart: Vec<f32> =
                        tiles.flat_map(|(q, rows)| cache.apart(vector, q, rows, step)).collect();
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&whole), bits(&apart), "{isa:?} {ty} {k} {v}, tiles of {size}");
                }
            }
        }
    }
}

#[test]
fn long_sequences_follow_f64() {
    for ty in KvType::ALL {
        check_against_f64(layout(ty, 64, 64), 2 * SPAN + 130, None);
    }
}

#[test]
fn positions_that_come_later_do_not_change_a_bit() {
    // What prefill in one go and token by token have in common: the cache is longer, or not yet.
    let layout = layout(KvType::F16, 64, 64);
    let long = Cache::new(layout, 200, 5);
    let q = scaled_queries(1, 64, 6);
    for end in [1, 17, 63, 64, 65, 130, 199] {
        let short = Cache::new(layout, end, 5);
        let rows = [QueryRow::new(0, end)];
        for isa in Isa::available() {
            let vector = Vector::new(isa);
            let a = long.attend(vector, &q, &rows, None);
            let b = short.attend(vector, &q, &rows, None);
            assert_eq!(a, b, "{isa:?} {end}");
        }
    }
}

#[test]
fn pages_that_nobody_sees_may_be_left_out_or_hold_anything() {
    let layout = layout(KvType::F32, 32, 32);
    let cache = Cache::new(layout, 300, 7);
    let rows = [QueryRow::new(140, 190), QueryRow::new(150, 180)];
    let q = scaled_queries(2, 32, 8);
    let nan = vec![f32::NAN.to_bits(); PAGE * 32];
    for isa in Isa::available() {
        let vector = Vector::new(isa);
        let want = cache.attend(vector, &q, &rows, None);
        let mut out = vec![0.0; 64];
        let mut scratch = vec![0.0; layout.scratch_len(2)];
        let tile = QueryTile { q: &q, rows: &rows, softcap: None, bias: None };
        attend(vector, layout, &tile, cache.pages().skip(2).take(1), &mut out, &mut scratch);
        assert_eq!(out, want, "{isa:?} without the others");
        let poisoned = cache.pages().map(|mut page| {
            if page.first_pos != 2 * PAGE {
                (page.k, page.v) = (bytemuck::cast_slice(&nan), bytemuck::cast_slice(&nan));
            }
            page
        });
        attend(vector, layout, &tile, poisoned, &mut out, &mut scratch);
        assert_eq!(out, want, "{isa:?} with NaN in the others");
    }
}

#[test]
fn a_nan_that_is_seen_stays_visible() {
    let layout = layout(KvType::F32, 16, 16);
    let cache = Cache::new(layout, 10, 9);
    let rows = [QueryRow::new(0, 10)];
    for isa in Isa::available() {
        let out = cache.attend(Vector::new(isa), &[f32::NAN; 16], &rows, None);
        assert!(out.iter().all(|x| x.is_nan()), "{isa:?}");
    }
}

#[test]
#[should_panic(expected = "start at its multiples")]
fn a_page_off_the_grid_panics() {
    let layout = layout(KvType::F32, 16, 16);
    let cache = Cache::new(layout, 10, 9);
    let page = cache.pages().next().expect("one page");
    let tile =
        QueryTile { q: &[0.0; 16], rows: &[QueryRow::new(0, 99)], softcap: None, bias: None };
    let mut scratch = vec![0.0; layout.scratch_len(1)];
    let page = PageRef { first_pos: 3, ..page };
    attend(Vector::new(Isa::Scalar), layout, &tile, [page], &mut [0.0; 16], &mut scratch);
}
