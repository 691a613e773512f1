//! The drivers for rows side by side, and the primitives that they need of an instruction set row.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "driver code below one checked wrapper, see `Job`; contracts are on the functions"
)]

use super::{Layout, PACK_ROWS, Sub};
use crate::act;
use crate::isa::{Simd, prefetch};
use crate::panel::Slab;
use crate::span::Codes;
use crate::tile::{Job, SPAN};

/// Rows that multiply packed weights: what [`Simd`] has no need of.
///
/// # Safety
/// That of [`Simd`].
pub(crate) trait Lanes: Simd {
    /// Most columns that share the unpacking of a weight (1, 2 or 4).
    const COLS: usize = 4;
    /// `L` 32-bit integers.
    type N: Copy;

    /// All zero.
    unsafe fn zero_n() -> Self::N;
    /// What the sum of a group begins with, in all lanes: the negated sum of the values, which stands at
    /// `p`, times the offset `1 << shift` of the codes; zero on rows whose [`Lanes::dp`] takes it off.
    unsafe fn start(p: *const u8, shift: u32) -> Self::N;
    /// Lane-wise sum.
    unsafe fn add_n(a: Self::N, b: Self::N) -> Self::N;
    /// Adds, per lane, the sum of four products of unsigned `u <= max` and signed `x >= -127`; exact.
    /// `offset` is to be taken off `u`, where [`Lanes::start`] does not see to it.
    unsafe fn dp(acc: Self::N, u: Self::Q, x: Self::Q, max: u8, offset: u8) -> Self::N;
    /// As floats; exact below 2^24.
    unsafe fn float(n: Self::N) -> Self::F;
    /// `L` unsigned bytes as floats.
    unsafe fn load_u8(p: *const u8) -> Self::F;
    /// `L` signed bytes as floats.
    unsafe fn load_i8(p: *const u8) -> Self::F;
    /// Every 32-bit lane shifted right by `shift` (left where it is negative), then every byte
    /// masked; the caller knows that what the mask leaves comes from the byte itself.
    unsafe fn field(q: Self::Q, shift: i32, mask: u8) -> Self::Q;
    /// Two quads one after the other as the panel of the row reads them.
    #[inline(always)]
    unsafe fn in_panel(first: Self::Q, second: Self::Q) -> (Self::Q, Self::Q) {
        (first, second)
    }
}

/// Few columns, unpacked in registers: all rows by all columns.
///
/// # Safety
/// The job's invariants hold: packed rows, columns prepared as [`ActKind::Wide`](crate::ActKind),
/// and the contract of [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn rows<S: Lanes, T: Layout>(job: &Job<'_>) {
    let ahead = prefetch::distance();
    for group in 0..job.n_rows / PACK_ROWS {
        // as many vectors as hold the rows of a group
        match S::LANES {
            16 => columns::<S, T, 1>(job, group, ahead),
            8 => columns::<S, T, 2>(job, group, ahead),
            _ => columns::<S, T, 4>(job, group, ahead),
        }
    }
}

/// A group of rows by all columns.
#[inline(always)]
unsafe fn columns<S: Lanes, T: Layout, const V: usize>(job: &Job<'_>, group: usize, ahead: usize) {
    // known when compiling: of the tiles below, those of other rows are not made
    if V * S::LANES != PACK_ROWS {
        return;
    }
    let mut c = 0;
    if S::COLS >= 4 {
        while c + 4 <= job.n_cols {
            tile::<S, T, V, 4>(job, group, c, ahead);
            c += 4;
        }
    }
    if S::COLS >= 2 {
        while c + 2 <= job.n_cols {
            tile::<S, T, V, 2>(job, group, c, ahead);
            c += 2;
        }
    }
    while c < job.n_cols {
        tile::<S, T, V, 1>(job, group, c, ahead);
        c += 1;
    }
}

/// A tile of outputs and what it reads.
struct Tile<S: Lanes, const V: usize, const C: usize> {
    acc: [[S::F; C]; V],
    /// The present packed block, its scales and offsets.
    p: *const u8,
    d: [S::F; V],
    m: [S::F; V],
    sub: Sub,
    /// Where the columns start.
    x: [*const u8; C],
    at: act::PanelOffsets,
    /// Distance of prefetching, in bytes.
    ahead: usize,
}

/// A group of rows by C columns from column `c` on.
#[inline(always)]
unsafe fn tile<S: Lanes, T: Layout, const V: usize, const C: usize>(
    job: &Job<'_>,
    group: usize,
    c: usize,
    ahead: usize,
) {
    let first = job.acts.as_ptr().add(c * job.act_bytes);
    let mut t = Tile::<S, V, C> {
        acc: [[S::zero(); C]; V],
        p: job.w.as_ptr().add(group * PACK_ROWS * job.row_bytes),
        d: [S::zero(); V],
        m: [S::zero(); V],
        sub: Sub::ZERO,
        x: [first; C],
        at: act::panel_offsets(act::padded(job.k), T::GROUP),
        ahead,
    };
    for j in 0..C {
        t.x[j] = first.add(j * job.act_bytes);
    }
    for u in 0..job.k / T::BLOCK {
        T::sub(t.p, &mut t.sub);
        for v in 0..V {
            (t.d[v], t.m[v]) = T::unit::<S>(t.p, v * S::LANES);
        }
        for part in 0..T::BLOCK.div_ceil(128) {
            let at = u * (T::BLOCK / 32) + 4 * part;
            block::<S, T, V, C, 0>(&mut t, part, at);
            if T::BLOCK > 32 {
                block::<S, T, V, C, 1>(&mut t, part, at + 1);
                block::<S, T, V, C, 2>(&mut t, part, at + 2);
                block::<S, T, V, C, 3>(&mut t, part, at + 3);
            }
        }
        t.p = t.p.add(PACK_ROWS * T::BYTES);
    }
    for v in 0..V {
        for j in 0..C {
            let row = group * PACK_ROWS + v * S::LANES;
            S::store(job.y.add((c + j) * job.stride + row), t.acc[v][j]);
        }
    }
}

/// 32 values of k, the `at`-th of the columns, the ones from `128 part + 32 B` on of the block: in the
/// order in which `panel::micro` adds.
#[inline(always)]
unsafe fn block<S: Lanes, T: Layout, const V: usize, const C: usize, const B: usize>(
    t: &mut Tile<S, V, C>,
    part: usize,
    at: usize,
) {
    ask_ahead::<S, T, V, C>(t, 4 * part + B);
    let parts = 32 / T::GROUP;
    let mut f = [[S::zero(); C]; V];
    for h in 0..parts {
        let n = sums::<S, T, V, C, B>(t, part, at, h);
        let g = (4 * part + B) * parts + h;
        for v in 0..V {
            let d = T::scale::<S>(t.p, &t.sub, t.d[v], g, v * S::LANES);
            for j in 0..C {
                f[v][j] = match h {
                    0 => S::mul(n[v][j], d),
                    _ => S::fma(n[v][j], d, f[v][j]),
                };
            }
        }
    }
    for j in 0..C {
        let scale = t.x[j].add(t.at.scales + 4 * at).cast::<f32>();
        let scale = S::splat(scale.read_unaligned());
        for v in 0..V {
            t.acc[v][j] = S::fma(f[v][j], scale, t.acc[v][j]);
        }
    }
    if T::MINS {
        for h in 0..parts {
            let g = (4 * part + B) * parts + h;
            for v in 0..V {
                let m = T::min::<S>(&t.sub, t.m[v], g, v * S::LANES);
                for j in 0..C {
                    let sum = t.x[j].add(t.at.sums + 4 * (at * parts + h)).cast::<f32>();
                    t.acc[v][j] = S::fma(m, S::splat(sum.read_unaligned()), t.acc[v][j]);
                }
            }
        }
    }
}

/// Asks for as many bytes ahead as 32 values of the rows take: spread over the work, so that the lines
/// come as evenly as they are used.
#[inline(always)]
unsafe fn ask_ahead<S: Lanes, T: Layout, const V: usize, const C: usize>(
    t: &Tile<S, V, C>,
    b: usize,
) {
    let bytes = PACK_ROWS * T::BYTES / (T::BLOCK / 32);
    let mut line = (b * bytes).next_multiple_of(64);
    while line < (b + 1) * bytes {
        S::prefetch(t.p.wrapping_add(t.ahead + line));
        line += 64;
    }
}

/// The integer sums of part `h` of 32 values, as floats.
#[inline(always)]
unsafe fn sums<S: Lanes, T: Layout, const V: usize, const C: usize, const B: usize>(
    t: &Tile<S, V, C>,
    part: usize,
    at: usize,
    h: usize,
) -> [[S::F; C]; V] {
    let quads = T::GROUP / 4;
    let mut n = [[S::zero_n(); C]; V];
    if !T::MINS {
        for j in 0..C {
            let nsum = t.x[j].add(t.at.nsums + 4 * (at * (32 / T::GROUP) + h));
            let start = S::start(nsum, T::OFFSET.trailing_zeros());
            for n in &mut n {
                n[j] = start;
            }
        }
    }
    // two chains of additions where there are few: the next one need not wait for the last
    let mut second = [[S::zero_n(); C]; V];
    let two = V * C < 4;
    for i in 0..quads {
        for v in 0..V {
            let q = T::quad::<S, B>(t.p, part, h * quads + i, v * S::LANES);
            for j in 0..C {
                let x = S::splat_q(t.x[j].add(act::HEADER + 32 * at + T::GROUP * h + 4 * i));
                let chain = if two && i % 2 == 1 { &mut second } else { &mut n };
                chain[v][j] = S::dp(chain[v][j], q, x, T::MAX, T::OFFSET);
            }
        }
    }
    let mut out = [[S::zero(); C]; V];
    for v in 0..V {
        for j in 0..C {
            let all = if two { S::add_n(n[v][j], second[v][j]) } else { n[v][j] };
            out[v][j] = S::float(all);
        }
    }
    out
}

/// [`fill`] of a type on a row.
pub(crate) type Fill = unsafe fn(&Job<'_>, usize, usize, usize, usize, Slab);

/// Expands span `s`, of which `values` values are there, of panel rows `r .. r + valid` to the slab.
/// Rows of the slab past the last stay as they are.
///
/// # Safety
/// As [`rows`]; the slab is that of a panel of `S::LANES * S::PANEL` rows.
#[inline(always)]
pub(crate) unsafe fn fill<S: Lanes, T: Layout>(
    job: &Job<'_>,
    r: usize,
    valid: usize,
    s: usize,
    values: usize,
    slab: Slab,
) {
    let rows = S::LANES * S::PANEL;
    let mut sub = Sub::ZERO;
    let mut lane = 0;
    while lane < valid {
        let row = r + lane;
        let group = job.w.as_ptr().add(row / PACK_ROWS * PACK_ROWS * job.row_bytes);
        for u in 0..values / T::BLOCK {
            let block = (s * (SPAN / T::BLOCK) + u) * PACK_ROWS * T::BYTES;
            let p = group.add(block);
            let mut line = 0;
            while row.is_multiple_of(PACK_ROWS) && line < PACK_ROWS * T::BYTES {
                S::prefetch(p.wrapping_add(PACK_ROWS * T::BYTES + line));
                line += 64;
            }
            let to = Expand { slab, rows, lane, at: u * T::BLOCK, r: row % PACK_ROWS };
            T::sub(p, &mut sub);
            expand::<S, T>(p, &sub, to);
        }
        lane += S::LANES;
    }
}

/// Where a packed block goes in the slab.
#[derive(Clone, Copy)]
struct Expand {
    slab: Slab,
    /// Rows of the slab.
    rows: usize,
    /// First row in the slab.
    lane: usize,
    /// First value of k in the span.
    at: usize,
    /// First row in the packed block.
    r: usize,
}

/// Codes, scales and offsets of one packed block, a vector of rows.
#[inline(always)]
unsafe fn expand<S: Lanes, T: Layout>(p: *const u8, sub: &Sub, to: Expand) {
    let (d, m) = T::unit::<S>(p, to.r);
    for g in 0..T::BLOCK / T::GROUP {
        let at = (to.at / T::GROUP + g) * to.rows + to.lane;
        S::store(to.slab.d.add(at), T::scale::<S>(p, sub, d, g, to.r));
        if T::MINS {
            S::store(to.slab.m.add(at), T::min::<S>(sub, m, g, to.r));
        }
    }
    for part in 0..T::BLOCK.div_ceil(128) {
        codes::<S, T, 0>(p, part, to);
        if T::BLOCK > 32 {
            codes::<S, T, 1>(p, part, to);
            codes::<S, T, 2>(p, part, to);
            codes::<S, T, 3>(p, part, to);
        }
    }
}

/// The codes of 32 values of k.
#[inline(always)]
unsafe fn codes<S: Lanes, T: Layout, const B: usize>(p: *const u8, part: usize, to: Expand) {
    let dst = to.slab.q.add(4 * to.lane);
    for i in (0..8).step_by(2) {
        let quad = to.at / 4 + 32 * part + 8 * B + i;
        let first = T::quad::<S, B>(p, part, i, to.r);
        let (first, second) = S::in_panel(first, T::quad::<S, B>(p, part, i + 1, to.r));
        S::store_q(dst.add(4 * quad * to.rows), first);
        S::store_q(dst.add(4 * (quad + 1) * to.rows), second);
    }
}

/// Many columns: panels of rows are expanded to a slab in the first-level cache.
///
/// # Safety
/// As [`rows`]; `codes` are the same type's on the same row, `fill` is [`fill`] of both, and
/// `scratch` is valid for [`scratch_bytes`](crate::panel::scratch_bytes).
#[inline(always)]
pub(crate) unsafe fn panel<S: Lanes>(job: &Job<'_>, codes: &Codes, fill: Fill, scratch: *mut u8) {
    crate::panel::panels::<S>(job, scratch, |r, valid, s, values, slab| {
        fill(job, r, valid, s, values, slab);
        (codes.multiply)(job, codes, s, values, slab);
    });
}
