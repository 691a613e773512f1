//! Spans of 256 values as bytes: what a tensor type is to the drivers that do not unpack in
//! registers, and the one of them for few columns.
//!
//! The drivers here and in `panel` are compiled once per instruction set row and shape of the codes,
//! not once per type: a type comes in by [`Codes::expand`], a function that writes the codes of one
//! span to memory in the first-level cache. For panels that is no loss, since rows are put into
//! lanes from there; for few columns it costs a store and a load per vector, which types that are
//! unpacked in one or two operations avoid (`tile`).
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "driver code below one checked wrapper, see `Job`; contracts are on the functions"
)]

use std::mem::MaybeUninit;

use crate::isa::Simd;
use crate::panel::Slab;
use crate::table::Entries;
use crate::tile::{Ahead, Columns, Head, Job, MAX_COLS, MAX_SPAN_BYTES, SPAN, Unpack, dots};

/// A tensor type as spans of small unsigned codes with scales and offsets.
///
/// # Safety
/// Of the function: `p` is valid for a span of blocks, `codes` for writes of [`SPAN`] bytes, plus
/// the contract of [`Simd`].
pub(crate) trait Span: 'static {
    /// Values per block.
    const BLOCK: usize;
    /// Bytes per block.
    const BYTES: usize;
    /// Values per scale: 16 or 32.
    const GROUP: usize;
    /// Whether groups have an offset `m`; then `OFFSET` is 0, else it is not.
    const MINS: bool;
    /// What is taken off each code: 0 or a power of two.
    const OFFSET: u8;
    /// Largest code: below 32 where there is no offset, else below twice the offset, so that what is
    /// left is at most as large as the offset.
    const MAX: u8;

    /// Writes the codes of the span at `p`, in order, and its scales and offsets.
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head);
}

impl<U: Unpack> Span for U {
    const BLOCK: usize = U::BLOCK;
    const BYTES: usize = U::BYTES;
    const GROUP: usize = U::GROUP;
    const MINS: bool = U::MINS;
    const OFFSET: u8 = U::OFFSET;
    const MAX: u8 = U::MAX;

    #[inline(always)]
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head) {
        U::head::<S>(p, head);
        // four at a time, so that what depends on v's low bits is known when compiling
        for i in 0..SPAN / (16 * S::LANES) {
            for j in 0..4 {
                let v = 4 * i + j;
                S::store_q(codes.add(4 * S::LANES * v), U::vector::<S>(p, v));
            }
        }
    }
}

/// Expands `n` spans at `p`.
///
/// # Safety
/// That of [`Span::expand`] for each span, code and head.
#[inline(always)]
pub(crate) unsafe fn expand<S: Simd, T: Span>(
    p: *const u8,
    n: usize,
    codes: *mut Bytes,
    head: *mut Head,
) {
    for i in 0..n {
        let p = p.add(i * (SPAN / T::BLOCK * T::BYTES));
        T::expand::<S>(p, codes.add(i).cast(), &mut *head.add(i));
    }
}

/// A tensor type on one row of the table, as the shared drivers take it.
pub(crate) struct Codes {
    /// Values per block.
    pub(crate) block: usize,
    /// Bytes per block.
    pub(crate) bytes: usize,
    /// Bytes per span.
    pub(crate) span_bytes: usize,
    /// Values per scale.
    pub(crate) group: usize,
    /// Whether groups have an offset `m`.
    pub(crate) mins: bool,
    /// What is taken off each code.
    pub(crate) offset: u8,
    /// [`expand`].
    pub(crate) expand: unsafe fn(*const u8, usize, *mut Bytes, *mut Head),
    /// [`crate::panel::multiply`] for the shape of the codes.
    pub(crate) multiply: unsafe fn(&Job<'_>, &Self, usize, usize, Slab),
}

impl Codes {
    /// The type T on the row R.
    pub(crate) const fn new<R: Entries, T: Span>() -> Self {
        assert!(T::MINS == (T::OFFSET == 0));
        assert!(T::MINS || T::OFFSET.is_power_of_two());
        assert!(if T::MINS { T::MAX < 32 } else { T::MAX / 2 < T::OFFSET });
        assert!(SPAN / T::BLOCK * T::BYTES <= MAX_SPAN_BYTES);
        Self {
            block: T::BLOCK,
            bytes: T::BYTES,
            span_bytes: SPAN / T::BLOCK * T::BYTES,
            group: T::GROUP,
            mins: T::MINS,
            offset: T::OFFSET,
            expand: R::expand::<T>,
            multiply: multiply::<R>(T::GROUP, T::OFFSET, T::MAX),
        }
    }

    /// The span at `p` if it is whole, else a copy of its first `values` values, padded with zeros.
    #[inline(always)]
    pub(crate) unsafe fn whole(
        &self,
        p: *const u8,
        values: usize,
        copy: &mut [u8; MAX_SPAN_BYTES],
    ) -> *const u8 {
        if values >= SPAN {
            return p;
        }
        let bytes = values / self.block * self.bytes;
        *copy = [0; MAX_SPAN_BYTES];
        std::ptr::copy_nonoverlapping(p, copy.as_mut_ptr(), bytes);
        copy.as_ptr()
    }
}

/// The multiplication of a slab whose codes have this shape. Only where it decides how products may
/// be added is the largest code a part of the shape, and then as the largest for the offset.
const fn multiply<R: Entries>(
    group: usize,
    offset: u8,
    max: u8,
) -> unsafe fn(&Job<'_>, &Codes, usize, usize, Slab) {
    match (group, offset, R::NARROW) {
        (32, 0, true) if max < 16 => R::multiply::<32, true, 15>,
        (32, 0, _) => R::multiply::<32, true, 31>,
        (_, 0, true) if max < 16 => R::multiply::<16, true, 15>,
        (_, 0, _) => R::multiply::<16, true, 31>,
        (32, _, false) => R::multiply::<32, false, 255>,
        (_, _, false) => R::multiply::<16, false, 255>,
        (32, 8, true) => R::multiply::<32, false, 15>,
        (32, 16, true) => R::multiply::<32, false, 31>,
        (32, 32, true) => R::multiply::<32, false, 63>,
        (32, 64, true) => R::multiply::<32, false, 127>,
        (32, 128, true) => R::multiply::<32, false, 255>,
        (_, 4, true) => R::multiply::<16, false, 7>,
        (_, 8, true) => R::multiply::<16, false, 15>,
        (_, 16, true) => R::multiply::<16, false, 31>,
        (_, 32, true) => R::multiply::<16, false, 63>,
        (_, 64, true) => R::multiply::<16, false, 127>,
        (16, 128, true) => R::multiply::<16, false, 255>,
        _ => panic!("no multiplication for codes of this offset"),
    }
}

/// The codes of one span, on a cache line boundary.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Bytes {
    _codes: [u8; SPAN],
}

/// Most spans of a row that are expanded before they are multiplied: enough to make the call and
/// what it sets up cheap, few enough to stay in the first-level cache.
const BATCH: usize = 8;

/// Expanded spans of R rows.
struct Batch<const R: usize> {
    bytes: [[Bytes; BATCH]; R],
    head: [[Head; BATCH]; R],
}

/// Codes of the types that come this way are below 128, and their offsets.
const MAX: u8 = 127;

/// All outputs of a job of at most [`MAX_COLS`] columns, for a type without offsets `m`.
///
/// A row's spans are expanded once and multiplied with all columns. Each output has its own
/// accumulator and sees the same operations in the same order whatever is computed beside it.
///
/// # Safety
/// The job's invariants hold (columns prepared for [`Regime::Rows`](crate::Regime)), `codes` is of
/// the same row of the table, its groups are of `GROUP` values and its codes below 128, and the
/// contract of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd, const GROUP: usize>(job: &Job<'_>, codes: &Codes) {
    // so that the loops need not ask
    std::hint::assert_unchecked(codes.offset != 0 && codes.offset < 128);
    let mut r = 0;
    if S::TILE.1 == 2 {
        while r + 2 <= job.n_rows {
            step::<S, GROUP, 2>(job, codes, r);
            r += 2;
        }
    }
    while r < job.n_rows {
        step::<S, GROUP, 1>(job, codes, r);
        r += 1;
    }
}

/// R rows by all columns.
#[inline(always)]
unsafe fn step<S: Simd, const GROUP: usize, const R: usize>(
    job: &Job<'_>,
    codes: &Codes,
    r: usize,
) {
    let ahead = Ahead::new(job.row_bytes, R);
    let w = job.w.as_ptr().add(r * job.row_bytes);
    let mut acc = [[S::zero(); MAX_COLS]; R];
    let mut batch = MaybeUninit::<Batch<R>>::uninit();
    let batch = batch.as_mut_ptr();
    let mut copy = [0; MAX_SPAN_BYTES];
    let mut s = 0;
    while s < job.k.div_ceil(SPAN) {
        // whole spans, or at last the one that is not
        let n = (job.k / SPAN - s).clamp(1, BATCH);
        let at = s * codes.span_bytes;
        ahead.prefetch::<S>(w, R * at, R * n * codes.span_bytes);
        for i in 0..R {
            let p = codes.whole(w.add(i * job.row_bytes + at), job.k - s * SPAN, &mut copy);
            let (bytes, head) = (&raw mut (*batch).bytes[i], &raw mut (*batch).head[i]);
            (codes.expand)(p, n, bytes.cast(), head.cast());
        }
        let mut c = 0;
        if S::TILE.2 == 4 {
            while c + 4 <= job.n_cols {
                columns::<S, GROUP, R, 4>(job, codes, s, n, c, batch, &mut acc);
                c += 4;
            }
        }
        while c < job.n_cols {
            columns::<S, GROUP, R, 1>(job, codes, s, n, c, batch, &mut acc);
            c += 1;
        }
        s += n;
    }
    for i in 0..R {
        for c in 0..job.n_cols {
            *job.y.add(c * job.stride + r + i) = S::sum(acc[i][c]);
        }
    }
}

/// Spans `s .. s + n` of R rows by C columns from column `c` on.
#[inline(always)]
unsafe fn columns<S: Simd, const GROUP: usize, const R: usize, const C: usize>(
    job: &Job<'_>,
    codes: &Codes,
    s: usize,
    n: usize,
    c: usize,
    batch: *const Batch<R>,
    all: &mut [[S::F; MAX_COLS]; R],
) {
    let mut x = Columns::new(job, c);
    x.q = x.q.add(s * SPAN);
    let mut acc = [[S::zero(); C]; R];
    for i in 0..R {
        acc[i].copy_from_slice(&all[i][c..c + C]);
    }
    for b in 0..n {
        // four at a time, so that what depends on v's low bits is known when compiling
        for i in 0..SPAN / (16 * S::LANES) {
            for j in 0..4 {
                let v = 4 * i + j;
                let mut q = [S::load_q(x.q); R];
                let mut d = [S::zero(); R];
                for i in 0..R {
                    let bytes: *const u8 = (&raw const (*batch).bytes[i][b]).cast();
                    q[i] = S::load_q(bytes.add(4 * S::LANES * v));
                    let head: *const f32 = (&raw const (*batch).head[i][b].d).cast();
                    d[i] = S::spread(head, v, GROUP);
                }
                dots::<S, R, C>(&q, &d, &x, v, MAX, codes.offset, &mut acc);
            }
        }
        x.q = x.q.add(SPAN);
    }
    for i in 0..R {
        all[i][c..c + C].copy_from_slice(&acc[i]);
    }
}
