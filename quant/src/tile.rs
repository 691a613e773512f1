//! The driver for few columns: weights are unpacked in registers, once for up to four columns,
//! and multiplied there; lanes run along k.
//!
//! A row is worked through in *spans* of 256 values. Per span the unpacker fills a [`Head`] (scales
//! and offsets as floats) and yields the codes vector by vector; then, per vector,
//! `acc += float(dot(codes, x)) * x_scale * w_scale`, all three lane-wise. Offsets are added per
//! span as `m * sum(x)`. Each output has its own accumulator and sees the same operations in the
//! same order whatever the tile's shape is, so a result depends on its row and its column alone.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "driver code below one checked wrapper, see `Job`; contracts are on the functions"
)]

use crate::act;
use crate::isa::{Simd, prefetch};

/// Values of one span.
pub(crate) const SPAN: usize = 256;
/// Bytes of the widest span (Q8_0).
pub(crate) const MAX_SPAN_BYTES: usize = 8 * 34;
/// Columns up to which a step is taken in one call.
pub(crate) const MAX_COLS: usize = 16;
/// Rows up to this many bytes are read two at a time: then both share the loads of activations.
/// Longer ones are read alone, since several distant streams at once cost memory bandwidth.
const SHORT_ROW: usize = 1536;

/// Scales and offsets of one span: `w = d * (code - OFFSET) + m`; 8 entries are used by types with
/// groups of 32 values, 16 by those with groups of 16.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Head {
    /// Scale of each group.
    pub(crate) d: [f32; 16],
    /// Offset of each group; unused where the type has none.
    pub(crate) m: [f32; 16],
}

impl Head {
    /// All zero.
    pub(crate) const ZERO: Self = Self { d: [0.0; 16], m: [0.0; 16] };
}

/// A tensor type to the driver: everything quantized is groups of small unsigned codes with a
/// scale and an offset. What holds of the constants is said at [`Span`](crate::span::Span), which
/// every such type is as well.
///
/// # Safety
/// Of the functions: `p` is valid for [`Unpack::SPAN_BYTES`] bytes, plus the contract of [`Simd`].
pub(crate) trait Unpack: 'static {
    /// Values per block.
    const BLOCK: usize;
    /// Bytes per block.
    const BYTES: usize;
    /// Values per scale: 16 or 32.
    const GROUP: usize;
    /// Whether groups have an offset `m`.
    const MINS: bool;
    /// What is taken off each code: 0 or a power of two.
    const OFFSET: u8;
    /// Largest code.
    const MAX: u8;
    /// Bytes of a span.
    const SPAN_BYTES: usize = SPAN / Self::BLOCK * Self::BYTES;

    /// Fills the scales, and the offsets if there are any, of the span at `p`.
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head);
    /// The codes of values `4 L v .. 4 L (v + 1)` of the span at `p`.
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q;
}

/// One checked piece of work: rows times columns.
///
/// Invariants (the wrappers in `table.rs` check them): `w` holds `n_rows` rows of `row_bytes`
/// bytes, `acts` holds `n_cols` columns of `act_bytes` bytes prepared for the driver that is
/// called with `k` values, and `y` may be written at `c * stride + r` for all rows and columns.
pub(crate) struct Job<'a> {
    /// Weights, `[n_rows, k]`.
    pub(crate) w: &'a [u8],
    /// Bytes of a row.
    pub(crate) row_bytes: usize,
    /// Values of a row.
    pub(crate) k: usize,
    /// Rows.
    pub(crate) n_rows: usize,
    /// Prepared columns.
    pub(crate) acts: &'a [u8],
    /// Bytes of a column.
    pub(crate) act_bytes: usize,
    /// Columns.
    pub(crate) n_cols: usize,
    /// First output.
    pub(crate) y: *mut f32,
    /// Outputs between columns.
    pub(crate) stride: usize,
}

/// Prefetching while a tile of rows is read.
///
/// Rows of a tile lie side by side, so a tile is one run of memory, read at several places at
/// once. Lines are asked for in the order of memory nevertheless, as the memory likes it: each
/// step asks for as many bytes as it uses, at a distance that puts the start of the next tile's
/// last row [`prefetch::distance`] bytes before its use.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    distance: usize,
}

impl Ahead {
    /// For tiles of `rows` rows.
    pub(crate) fn new(row_bytes: usize, rows: usize) -> Self {
        Self { distance: prefetch::distance() + (rows - 1) * row_bytes }
    }

    /// Asks for the lines that `bytes` used at `pos` bytes into the tile at `w` stand for.
    #[inline(always)]
    pub(crate) unsafe fn prefetch<S: Simd>(self, w: *const u8, pos: usize, bytes: usize) {
        let p = w.wrapping_add(self.distance + pos);
        let mut at = 0;
        while at < bytes {
            S::prefetch(p.wrapping_add(at));
            at += 64;
        }
    }
}

/// The columns of a tile.
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// Values of the first column's present span.
    pub(crate) q: *const u8,
    /// Bytes between columns.
    stride: usize,
    /// Bytes from values to their scales: both advance alike.
    scales: usize,
    /// Bytes from values to their sums.
    sums: usize,
}

impl Columns {
    /// From column `c` on, at the first span.
    #[inline(always)]
    pub(crate) unsafe fn new(job: &Job<'_>, c: usize) -> Self {
        let (scales, sums) = act::rows_offsets(act::padded(job.k));
        Self {
            q: job.acts.as_ptr().add(c * job.act_bytes + act::HEADER),
            stride: job.act_bytes,
            scales: scales - act::HEADER,
            sums: sums - act::HEADER,
        }
    }
}

/// All outputs of a job, in the largest tiles that the row of the table likes.
///
/// # Safety
/// The job's invariants hold (columns prepared for [`Regime::Rows`](crate::Regime)), and the
/// contract of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd, U: Unpack>(job: &Job<'_>) {
    let one = if job.row_bytes <= SHORT_ROW { S::TILE.0 } else { 1 };
    let step = if job.n_cols == 1 { one } else { S::TILE.1 };
    let ahead = Ahead::new(job.row_bytes, step);
    let mut r = 0;
    while r < job.n_rows {
        let left = job.n_rows - r;
        r += columns::<S, U>(job, r, ahead, step.min(left));
    }
}

/// One or two rows by all columns; returns how many rows. The conditions on constants come first and
/// stand alone, so that tiles which a row of the table does not use are not even compiled; and each
/// tile is named once, since each place is a copy.
#[inline(always)]
unsafe fn columns<S: Simd, U: Unpack>(job: &Job<'_>, r: usize, ahead: Ahead, rows: usize) -> usize {
    let mut c = 0;
    if S::TILE.0 == 2 && rows == 2 {
        if S::TILE.1 == 2 {
            while c + 4 <= job.n_cols {
                tile::<S, U, 2, 4>(job, r, c, ahead);
                c += 4;
            }
            if c + 2 <= job.n_cols {
                tile::<S, U, 2, 2>(job, r, c, ahead);
                c += 2;
            }
        }
        if c < job.n_cols {
            tile::<S, U, 2, 1>(job, r, c, ahead);
        }
        return 2;
    }
    if S::TILE.1 == 1 && S::TILE.2 == 4 {
        while c + 4 <= job.n_cols {
            tile::<S, U, 1, 4>(job, r, c, ahead);
            c += 4;
        }
    }
    while c < job.n_cols {
        tile::<S, U, 1, 1>(job, r, c, ahead);
        c += 1;
    }
    1
}

/// R rows by C columns from row `r` and column `c` on.
#[inline(always)]
unsafe fn tile<S: Simd, U: Unpack, const R: usize, const C: usize>(
    job: &Job<'_>,
    r: usize,
    c: usize,
    ahead: Ahead,
) {
    let mut x = Columns::new(job, c);
    let w = job.w.as_ptr().add(r * job.row_bytes);
    let mut p: [*const u8; R] = [w; R];
    for (i, p) in p.iter_mut().enumerate() {
        *p = w.add(i * job.row_bytes);
    }
    let mut acc = [[S::zero(); C]; R];
    let mut head = [Head::ZERO; R];
    for s in 0..job.k / SPAN {
        ahead.prefetch::<S>(w, s * R * U::SPAN_BYTES, R * U::SPAN_BYTES);
        for i in 0..R {
            U::head::<S>(p[i], &mut head[i]);
        }
        // four at a time, so that what depends on v's low bits is known when compiling
        for i in 0..SPAN / (16 * S::LANES) {
            for j in 0..4 {
                vector::<S, U, R, C>(&p, &head, &x, 4 * i + j, &mut acc);
            }
        }
        offsets::<S, U, R, C>(&head, &x, &mut acc);
        x.q = x.q.add(SPAN);
        // scales advance by as many bytes as values do, sums by a quarter
        x.sums -= SPAN - SPAN / 4;
        for p in &mut p {
            *p = p.add(U::SPAN_BYTES);
        }
    }
    if U::BLOCK < SPAN && !job.k.is_multiple_of(SPAN) {
        let pos = R * (job.k / SPAN * U::SPAN_BYTES);
        ahead.prefetch::<S>(w, pos, R * job.row_bytes - pos);
        rest::<S, U, R, C>(job.k % SPAN, &p, &x, &mut acc);
    }
    for i in 0..R {
        for j in 0..C {
            *job.y.add((c + j) * job.stride + r + i) = S::sum(acc[i][j]);
        }
    }
}

/// The blocks after the last whole span, from a zero-padded copy.
#[inline(always)]
unsafe fn rest<S: Simd, U: Unpack, const R: usize, const C: usize>(
    values: usize,
    p: &[*const u8; R],
    x: &Columns,
    acc: &mut [[S::F; C]; R],
) {
    let mut copy = [[0u8; MAX_SPAN_BYTES]; R];
    let mut head = [Head::ZERO; R];
    let mut q: [*const u8; R] = *p;
    for i in 0..R {
        let bytes = values / U::BLOCK * U::BYTES;
        std::ptr::copy_nonoverlapping(p[i], copy[i].as_mut_ptr(), bytes);
        q[i] = copy[i].as_ptr();
        U::head::<S>(q[i], &mut head[i]);
    }
    for v in 0..values.div_ceil(4 * S::LANES) {
        vector::<S, U, R, C>(&q, &head, x, v, acc);
    }
    offsets::<S, U, R, C>(&head, x, acc);
}

/// Vector `v` of the span: codes times activations, scaled, added.
#[inline(always)]
unsafe fn vector<S: Simd, U: Unpack, const R: usize, const C: usize>(
    p: &[*const u8; R],
    head: &[Head; R],
    x: &Columns,
    v: usize,
    acc: &mut [[S::F; C]; R],
) {
    let mut q = [S::load_q(x.q); R];
    let mut d = [S::zero(); R];
    for i in 0..R {
        q[i] = U::vector::<S>(p[i], v);
        d[i] = S::spread(head[i].d.as_ptr(), v, U::GROUP);
    }
    dots::<S, R, C>(&q, &d, x, v, U::MAX, U::OFFSET, acc);
}

/// Adds codes `q` times vector `v` of the columns' span, scaled by `d` and by the columns' scales.
#[inline(always)]
pub(crate) unsafe fn dots<S: Simd, const R: usize, const C: usize>(
    q: &[S::Q; R],
    d: &[S::F; R],
    x: &Columns,
    v: usize,
    max: u8,
    offset: u8,
    acc: &mut [[S::F; C]; R],
) {
    for j in 0..C {
        let column = x.q.add(j * x.stride + 4 * S::LANES * v);
        let values = S::load_q(column);
        let scale = S::load(column.add(x.scales).cast());
        let bias = S::bias(values, offset);
        for i in 0..R {
            let n = S::dot(q[i], values, bias, max, offset);
            acc[i][j] = S::fma(S::mul(n, scale), d[i], acc[i][j]);
        }
    }
}

/// The offsets of the span, where the type has any.
#[inline(always)]
unsafe fn offsets<S: Simd, U: Unpack, const R: usize, const C: usize>(
    head: &[Head; R],
    x: &Columns,
    acc: &mut [[S::F; C]; R],
) {
    if !U::MINS {
        return;
    }
    for j in 0..C {
        let sums = x.q.add(j * x.stride + x.sums).cast();
        for i in 0..R {
            acc[i][j] = S::mins(acc[i][j], head[i].m.as_ptr(), sums, U::GROUP);
        }
    }
}
