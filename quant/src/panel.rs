//! The driver for many columns: a panel of rows is unpacked to bytes in the first-level cache,
//! span by span, with rows in lanes, and multiplied with all columns.
//!
//! A slab is one span (256 k) of one panel (`P = LANES * PANEL` rows): codes as
//! `[k / 4][row][4 bytes]`, scales and offsets as `[group][row]`. Codes above [`Simd::WHOLE`] are made
//! two such planes, one after the other, see [`Simd::split`]. A micro-tile keeps `PANEL` vectors of rows
//! by [`Simd::PANEL_COLS`] columns of accumulators in registers; per group the integer sums are
//! converted once and scaled: `acc += float(n) * w_scale * x_scale`. Rows being in lanes, the row scales
//! are plain vectors, and nothing is ever summed across lanes. Float accumulators wait in the scratch
//! between slabs.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "driver code below one checked wrapper, see `Job`; contracts are on the functions"
)]

use std::mem::MaybeUninit;

use crate::act;
use crate::isa::{MAX_LANES, Simd};
use crate::span::{Bytes, Codes};
use crate::tile::{Head, Job, MAX_SPAN_BYTES, SPAN};

/// Scratch bytes per row of a panel before the accumulators: codes, room for what a row of the
/// table makes of them, scales, offsets.
const SLAB_ROW: usize = 3 * SPAN + 64 + 64;

/// Scratch that [`panel`] needs for panels of `rows` rows and `n_cols` columns.
pub(crate) const fn scratch_bytes(rows: usize, n_cols: usize) -> usize {
    // 64 more: the caller's buffer need not be aligned
    rows * SLAB_ROW + rows * 4 * n_cols + 64
}

/// The parts of the scratch.
#[derive(Clone, Copy)]
pub(crate) struct Slab {
    /// Codes, `[k / 4][P][4]`.
    pub(crate) q: *mut u8,
    /// Twice as many bytes more, after the codes.
    pub(crate) extra: *mut u8,
    /// Scales, `[group][P]`.
    pub(crate) d: *mut f32,
    /// Offsets, `[group][P]`.
    pub(crate) m: *mut f32,
    /// `[n_cols][P]`
    pub(crate) acc: *mut f32,
}

/// All outputs of a job.
///
/// # Safety
/// The job's invariants hold (columns prepared for [`Regime::Panel`](crate::Regime)), `codes` is of
/// the same row of the table, `scratch` is valid for [`scratch_bytes`], and the contract of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn panel<S: Simd>(job: &Job<'_>, codes: &Codes, scratch: *mut u8) {
    panels::<S>(job, scratch, |r, valid, s, values, slab| {
        fill::<S>(job, codes, r, valid, s, values, slab);
        (codes.multiply)(job, codes, s, values, slab);
    });
}

/// Calls `span` for every span of every panel (first row, rows that are there, span, values that are
/// there, slab), which fills the slab and multiplies it; then writes the panel's results.
///
/// # Safety
/// As [`panel`].
#[inline(always)]
pub(crate) unsafe fn panels<S: Simd>(
    job: &Job<'_>,
    scratch: *mut u8,
    span: impl Fn(usize, usize, usize, usize, Slab),
) {
    let p = S::LANES * S::PANEL;
    let q = scratch.add(scratch.align_offset(64));
    let slab = Slab {
        q,
        extra: q.add(p * SPAN),
        d: q.add(p * 3 * SPAN).cast(),
        m: q.add(p * (3 * SPAN + 64)).cast(),
        acc: q.add(p * SLAB_ROW).cast(),
    };
    let mut r = 0;
    while r < job.n_rows {
        let valid = (job.n_rows - r).min(p);
        std::ptr::write_bytes(slab.acc, 0, p * job.n_cols);
        for s in 0..job.k.div_ceil(SPAN) {
            let values = (job.k - s * SPAN).min(SPAN);
            span(r, valid, s, values, slab);
        }
        for c in 0..job.n_cols {
            let (from, to) = (slab.acc.add(c * p), job.y.add(c * job.stride + r));
            if valid < p {
                std::ptr::copy_nonoverlapping(from, to, valid);
                continue;
            }
            for v in 0..S::PANEL {
                S::store(to.add(S::LANES * v), S::load(from.add(S::LANES * v)));
            }
        }
        r += p;
    }
}

/// Unpacks span `s` of rows `r .. r + valid`; lanes without a row repeat the last one.
#[inline(always)]
unsafe fn fill<S: Simd>(
    job: &Job<'_>,
    codes: &Codes,
    r: usize,
    valid: usize,
    s: usize,
    values: usize,
    slab: Slab,
) {
    let p = S::LANES * S::PANEL;
    let mut head = Head::ZERO;
    let mut bytes = MaybeUninit::<[Bytes; MAX_LANES]>::uninit();
    let bytes: *mut Bytes = bytes.as_mut_ptr().cast();
    let mut copy = [0; MAX_SPAN_BYTES];
    for part in 0..S::PANEL {
        for lane in 0..S::LANES {
            let row = (part * S::LANES + lane).min(valid - 1);
            let at = job.w.as_ptr().add((r + row) * job.row_bytes + s * codes.span_bytes);
            let mut ahead = 0;
            while ahead < codes.span_bytes {
                S::prefetch(at.wrapping_add(codes.span_bytes + ahead));
                ahead += 64;
            }
            let at = codes.whole(at, values, &mut copy);
            (codes.expand)(at, 1, bytes.add(lane), &raw mut head);
            for g in 0..SPAN / codes.group {
                *slab.d.add(g * p + part * S::LANES + lane) = head.d[g];
                if codes.mins {
                    *slab.m.add(g * p + part * S::LANES + lane) = head.m[g];
                }
            }
        }
        for v in 0..values.div_ceil(4 * S::LANES) {
            let src = bytes.cast::<u8>().add(4 * S::LANES * v);
            let dst = slab.q.add((v * p + part) * 4 * S::LANES);
            S::transpose(src, SPAN, dst, 4 * p);
        }
    }
}

/// Multiplies span `s`, of which `values` values are there, with all columns.
///
/// # Safety
/// As [`panel`], which filled the slab; the codes have groups of `GROUP` values, offsets `m` as
/// `MINS` says, and are at most `MAX`: on rows that are [`Simd::NARROW`] the largest for the offset.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, const GROUP: usize, const MINS: bool, const MAX: u8>(
    job: &Job<'_>,
    codes: &Codes,
    s: usize,
    values: usize,
    slab: Slab,
) {
    if MAX > S::WHOLE {
        for i in 0..S::PANEL * SPAN / 4 {
            let at = slab.q.add(4 * S::LANES * i);
            let (first, second) = S::split(S::load_q(at));
            S::store_q(at, first);
            S::store_q(slab.extra.add(4 * S::LANES * i), second);
        }
    }
    let part = Part {
        s,
        groups: values.div_ceil(GROUP),
        // known when compiling where the largest code is
        shift: match (MINS, S::NARROW) {
            (true, _) => None,
            (false, true) => Some(MAX.count_ones() - 1),
            (false, false) => Some(codes.offset.trailing_zeros()),
        },
        slab,
    };
    if S::PANEL == 2 {
        columns::<S, 2, GROUP, MINS, MAX>(job, part);
    } else {
        columns::<S, 1, GROUP, MINS, MAX>(job, part);
    }
}

/// What is multiplied: span `s`, so many groups of it.
#[derive(Clone, Copy)]
struct Part {
    s: usize,
    groups: usize,
    /// The offset of the codes, see [`Simd::panel`].
    shift: Option<u32>,
    slab: Slab,
}

/// All columns in the widest micro-tiles that fit; see `tile::columns` on the conditions.
#[inline(always)]
unsafe fn columns<S: Simd, const V: usize, const GROUP: usize, const MINS: bool, const MAX: u8>(
    job: &Job<'_>,
    part: Part,
) {
    let mut c = 0;
    // known when compiling
    let most = match (GROUP, MAX > S::WHOLE) {
        (_, true) => S::PANEL_COLS.2,
        (32, _) => S::PANEL_COLS.0,
        _ => S::PANEL_COLS.1,
    };
    if most == 6 {
        while c + 6 <= job.n_cols {
            micro::<S, V, 6, GROUP, MINS, MAX>(job, c, part);
            c += 6;
        }
    }
    if most >= 4 {
        while c + 4 <= job.n_cols {
            micro::<S, V, 4, GROUP, MINS, MAX>(job, c, part);
            c += 4;
        }
    }
    if most >= 2 {
        while c + 2 <= job.n_cols {
            micro::<S, V, 2, GROUP, MINS, MAX>(job, c, part);
            c += 2;
        }
    }
    while c < job.n_cols {
        micro::<S, V, 1, GROUP, MINS, MAX>(job, c, part);
        c += 1;
    }
}

/// V vectors of rows by C columns over one slab.
#[inline(always)]
unsafe fn micro<
    S: Simd,
    const V: usize,
    const C: usize,
    const GROUP: usize,
    const MINS: bool,
    const MAX: u8,
>(
    job: &Job<'_>,
    c: usize,
    part: Part,
) {
    let p = S::LANES * V;
    let Part { s, groups, slab, .. } = part;
    let at = act::panel_offsets(act::padded(job.k), GROUP);
    let column = job.acts.as_ptr().add(c * job.act_bytes);
    let mut acc = [[S::zero(); C]; V];
    for v in 0..V {
        for j in 0..C {
            acc[v][j] = S::load(slab.acc.add((c + j) * p + v * S::LANES));
        }
    }
    // the activation scale covers 32 values: one group or two
    let parts = 32 / GROUP;
    for g in 0..groups / parts {
        let mut n = [[S::zero(); C]; V];
        for h in 0..parts {
            let here =
                partial::<S, V, C, GROUP, MAX>(column, job.act_bytes, at, part, g * parts + h);
            for v in 0..V {
                let d = S::load(slab.d.add((g * parts + h) * p + v * S::LANES));
                for j in 0..C {
                    n[v][j] = match h {
                        0 => S::mul(here[v][j], d),
                        _ => S::fma(here[v][j], d, n[v][j]),
                    };
                }
            }
        }
        for j in 0..C {
            let scale = column.add(j * job.act_bytes + at.scales + (s * (SPAN / 32) + g) * 4);
            let scale = S::splat(scale.cast::<f32>().read_unaligned());
            for v in 0..V {
                acc[v][j] = S::fma(n[v][j], scale, acc[v][j]);
            }
        }
        if MINS {
            for h in 0..parts {
                let group = g * parts + h;
                for v in 0..V {
                    let m = S::load(slab.m.add(group * p + v * S::LANES));
                    for j in 0..C {
                        let sum = at.sums + 4 * (s * (SPAN / GROUP) + group);
                        let sum = column.add(j * job.act_bytes + sum).cast::<f32>();
                        acc[v][j] = S::fma(m, S::splat(sum.read_unaligned()), acc[v][j]);
                    }
                }
            }
        }
    }
    for v in 0..V {
        for j in 0..C {
            S::store(slab.acc.add((c + j) * p + v * S::LANES), acc[v][j]);
        }
    }
}

/// The integer sums of group `g` of the span, as floats.
#[inline(always)]
unsafe fn partial<S: Simd, const V: usize, const C: usize, const GROUP: usize, const MAX: u8>(
    column: *const u8,
    act_bytes: usize,
    at: act::PanelOffsets,
    part: Part,
    g: usize,
) -> [[S::F; C]; V] {
    let p = S::LANES * V;
    let group = part.s * (SPAN / GROUP) + g;
    let mut x = [column; C];
    let mut nsum = [column; C];
    for j in 0..C {
        let column = column.add(j * act_bytes);
        x[j] = column.add(act::HEADER + group * GROUP);
        nsum[j] = column.add(at.nsums + 4 * group);
    }
    let w = part.slab.q.add(g * GROUP * p);
    S::panel::<V, C>(w, 4 * p, &x, GROUP / 4, &nsum, MAX, part.shift)
}
