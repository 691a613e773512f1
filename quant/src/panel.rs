//! The driver for many columns: a panel of rows is unpacked to bytes in the first-level cache,
//! span by span, with rows in lanes, and multiplied with all columns.
//!
//! A slab is one span (256 k) of one panel (`P = LANES * PANEL` rows): codes as
//! `[k / 4][row][4 bytes]`, scales and offsets as `[group][row]`. A micro-tile keeps
//! `PANEL` vectors of rows by [`Simd::PANEL_COLS`] columns of accumulators in registers; per group
//! the integer sums are converted once and scaled: `acc += float(n) * w_scale * x_scale`. Rows
//! being in lanes, the row scales are plain vectors, and nothing is ever summed across lanes.
//! Float accumulators wait in the scratch between slabs.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "driver code below one checked wrapper, see `Job`; contracts are on the functions"
)]

use crate::act;
use crate::isa::{MAX_Q, Simd};
use crate::tile::{Head, Job, MAX_SPAN_BYTES, SPAN, Unpack};

/// Scratch bytes per row of a panel before the accumulators: codes, scales, offsets.
const SLAB_ROW: usize = SPAN + 64 + 64;

/// Scratch that [`panel`] needs for panels of `rows` rows and `n_cols` columns.
pub(crate) const fn scratch_bytes(rows: usize, n_cols: usize) -> usize {
    // 64 more: the caller's buffer need not be aligned
    rows * SLAB_ROW + rows * 4 * n_cols + 64
}

/// The parts of the scratch.
#[derive(Clone, Copy)]
struct Slab {
    q: *mut u8,
    d: *mut f32,
    m: *mut f32,
    /// `[n_cols][P]`
    acc: *mut f32,
}

/// All outputs of a job.
///
/// # Safety
/// The job's invariants hold (columns prepared for [`Regime::Panel`](crate::Regime)), `scratch`
/// is valid for [`scratch_bytes`], and the contract of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn panel<S: Simd, U: Unpack>(job: &Job<'_>, scratch: *mut u8) {
    let p = S::LANES * S::PANEL;
    let q = scratch.add(scratch.align_offset(64));
    let slab = Slab {
        q,
        d: q.add(p * SPAN).cast(),
        m: q.add(p * (SPAN + 64)).cast(),
        acc: q.add(p * SLAB_ROW).cast(),
    };
    let mut r = 0;
    while r < job.n_rows {
        let valid = (job.n_rows - r).min(p);
        std::ptr::write_bytes(slab.acc, 0, p * job.n_cols);
        for s in 0..job.k.div_ceil(SPAN) {
            let values = (job.k - s * SPAN).min(SPAN);
            fill::<S, U>(job, r, valid, s, values, slab);
            multiply::<S, U>(job, s, values, slab);
        }
        for c in 0..job.n_cols {
            let from = slab.acc.add(c * p);
            std::ptr::copy_nonoverlapping(from, job.y.add(c * job.stride + r), valid);
        }
        r += p;
    }
}

/// Unpacks span `s` of rows `r .. r + valid`; lanes without a row repeat the last one.
#[inline(always)]
unsafe fn fill<S: Simd, U: Unpack>(
    job: &Job<'_>,
    r: usize,
    valid: usize,
    s: usize,
    values: usize,
    slab: Slab,
) {
    let p = S::LANES * S::PANEL;
    for part in 0..S::PANEL {
        let mut rows = [std::ptr::null::<u8>(); 16];
        // a short last span is read from zero-padded copies
        let mut copy = [[0u8; MAX_SPAN_BYTES]; 16];
        for lane in 0..S::LANES {
            let row = (part * S::LANES + lane).min(valid - 1);
            let at = (r + row) * job.row_bytes + s * U::SPAN_BYTES;
            rows[lane] = job.w.as_ptr().add(at);
            if values < SPAN {
                let bytes = values / U::BLOCK * U::BYTES;
                std::ptr::copy_nonoverlapping(rows[lane], copy[lane].as_mut_ptr(), bytes);
                rows[lane] = copy[lane].as_ptr();
            } else {
                let mut ahead = 0;
                while ahead < U::SPAN_BYTES {
                    S::prefetch(rows[lane].wrapping_add(U::SPAN_BYTES + ahead));
                    ahead += 64;
                }
            }
            let mut head = Head::ZERO;
            U::head::<S>(rows[lane], &mut head);
            for g in 0..SPAN / U::GROUP {
                *slab.d.add(g * p + part * S::LANES + lane) = head.d[g];
                if U::MINS {
                    *slab.m.add(g * p + part * S::LANES + lane) = head.m[g];
                }
            }
        }
        for v in 0..values.div_ceil(4 * S::LANES) {
            let mut bytes = [0u8; 16 * MAX_Q];
            for lane in 0..S::LANES {
                let q = U::vector::<S>(rows[lane], v);
                S::store_q(bytes.as_mut_ptr().add(4 * S::LANES * lane), q);
            }
            let dst = slab.q.add((v * p + part) * 4 * S::LANES);
            S::transpose(bytes.as_ptr(), dst, 4 * p);
        }
    }
}

/// Multiplies the slab with all columns.
#[inline(always)]
unsafe fn multiply<S: Simd, U: Unpack>(job: &Job<'_>, s: usize, values: usize, slab: Slab) {
    let groups = values.div_ceil(U::GROUP);
    if S::PANEL == 2 {
        columns::<S, U, 2>(job, s, groups, slab);
    } else {
        columns::<S, U, 1>(job, s, groups, slab);
    }
}

/// All columns in the widest micro-tiles that fit; see `tile::columns` on the conditions.
#[inline(always)]
unsafe fn columns<S: Simd, U: Unpack, const V: usize>(
    job: &Job<'_>,
    s: usize,
    groups: usize,
    slab: Slab,
) {
    let mut c = 0;
    if S::PANEL_COLS == 6 {
        while c + 6 <= job.n_cols {
            micro::<S, U, V, 6>(job, c, s, groups, slab);
            c += 6;
        }
    }
    if S::PANEL_COLS >= 4 {
        while c + 4 <= job.n_cols {
            micro::<S, U, V, 4>(job, c, s, groups, slab);
            c += 4;
        }
    }
    if S::PANEL_COLS >= 2 {
        while c + 2 <= job.n_cols {
            micro::<S, U, V, 2>(job, c, s, groups, slab);
            c += 2;
        }
    }
    while c < job.n_cols {
        micro::<S, U, V, 1>(job, c, s, groups, slab);
        c += 1;
    }
}

/// V vectors of rows by C columns over one slab.
#[inline(always)]
unsafe fn micro<S: Simd, U: Unpack, const V: usize, const C: usize>(
    job: &Job<'_>,
    c: usize,
    s: usize,
    groups: usize,
    slab: Slab,
) {
    let p = S::LANES * V;
    let at = act::panel_offsets(act::padded(job.k), U::GROUP);
    let column = job.acts.as_ptr().add(c * job.act_bytes);
    let mut acc = [[S::zero(); C]; V];
    for v in 0..V {
        for j in 0..C {
            acc[v][j] = S::load(slab.acc.add((c + j) * p + v * S::LANES));
        }
    }
    for g in 0..groups {
        let group = s * (SPAN / U::GROUP) + g;
        let mut x = [column; C];
        let mut nsum = [0i32; C];
        for j in 0..C {
            let column = column.add(j * job.act_bytes);
            x[j] = column.add(act::HEADER + group * U::GROUP);
            if U::OFFSET > 0 {
                nsum[j] = column.add(at.nsums + 4 * group).cast::<i32>().read_unaligned();
            }
        }
        let w = slab.q.add(g * U::GROUP * p);
        let quads = U::GROUP / 4;
        let n = S::panel::<V, C>(w, 4 * p, &x, quads, &nsum, U::MAX, U::OFFSET);
        for v in 0..V {
            let d = S::load(slab.d.add(g * p + v * S::LANES));
            for j in 0..C {
                let column = column.add(j * job.act_bytes);
                let scale = column.add(at.scales + group * U::GROUP / 32 * 4);
                let scale = S::splat(scale.cast::<f32>().read_unaligned());
                acc[v][j] = S::fma(S::mul(n[v][j], d), scale, acc[v][j]);
            }
            if U::MINS {
                let m = S::load(slab.m.add(g * p + v * S::LANES));
                for j in 0..C {
                    let sum = column.add(j * job.act_bytes + at.sums + 4 * group);
                    let sum = S::splat(sum.cast::<f32>().read_unaligned());
                    acc[v][j] = S::fma(m, sum, acc[v][j]);
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
