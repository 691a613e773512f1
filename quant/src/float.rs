//! The driver for float weights (F32, F16, BF16) times float activations: plain fused
//! multiply-adds, lanes along k, one accumulator per output, any k.
//!
//! Every output sees the same operations in the same order for any number of columns, so here the
//! driver for few columns and the one for many are the same function; the many-column case only
//! walks rows and columns in cache-sized blocks.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "driver code below one checked wrapper, see `Job`; contracts are on the functions"
)]

use crate::act;
use crate::isa::Simd;
use crate::tile::Job;

/// Rows that stay in the second-level cache while all columns pass by.
const BLOCK_ROWS: usize = 32;

/// A float type to the driver.
///
/// # Safety
/// Of the function: `p` is valid for `L` weights, plus the contract of [`Simd`].
pub(crate) trait Weight: 'static {
    /// Bytes of a weight.
    const BYTES: usize;
    /// Reads `L` weights.
    unsafe fn load<S: Simd>(p: *const u8) -> S::F;
}

/// All outputs of a job.
///
/// # Safety
/// The job's invariants hold (columns prepared as [`ActKind::F32`](crate::ActKind)), and the
/// contract of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd, W: Weight>(job: &Job<'_>) {
    let mut r0 = 0;
    while r0 < job.n_rows {
        let r1 = (r0 + BLOCK_ROWS).min(job.n_rows);
        let mut c = 0;
        while c < job.n_cols {
            if S::TILE.2 == 4 && c + 4 <= job.n_cols {
                block::<S, W, 4>(job, r0, r1, c);
                c += 4;
            } else {
                block::<S, W, 1>(job, r0, r1, c);
                c += 1;
            }
        }
        r0 = r1;
    }
}

/// Rows `r0 .. r1` by C columns.
#[inline(always)]
unsafe fn block<S: Simd, W: Weight, const C: usize>(job: &Job<'_>, r0: usize, r1: usize, c: usize) {
    let mut r = r0;
    while r + 4 <= r1 && (S::LANES == 16 || C == 1) {
        tile::<S, W, 4, C>(job, r, c);
        r += 4;
    }
    if S::LANES < 16 && C > 1 {
        while r + 2 <= r1 {
            tile::<S, W, 2, C>(job, r, c);
            r += 2;
        }
    }
    while r < r1 {
        tile::<S, W, 1, C>(job, r, c);
        r += 1;
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, W: Weight, const R: usize, const C: usize>(
    job: &Job<'_>,
    r: usize,
    c: usize,
) {
    let w = job.w.as_ptr().add(r * job.row_bytes);
    let x = job.acts.as_ptr().add(c * job.act_bytes + act::HEADER);
    let ahead = R * job.row_bytes;
    let mut acc = [[S::zero(); C]; R];
    let whole = job.k / S::LANES;
    for v in 0..whole {
        let at = v * S::LANES;
        for i in 0..R {
            let p = w.add(i * job.row_bytes + at * W::BYTES);
            S::prefetch(p.wrapping_add(ahead));
            let weights = W::load::<S>(p);
            for j in 0..C {
                let values = S::load(x.add(j * job.act_bytes + 4 * at).cast());
                acc[i][j] = S::fma(weights, values, acc[i][j]);
            }
        }
    }
    let left = job.k - whole * S::LANES;
    if left > 0 {
        // activations are zero-padded, weights are not: finish from a zero-padded copy
        let at = whole * S::LANES;
        for i in 0..R {
            let mut copy = [0u8; 64];
            let p = w.add(i * job.row_bytes + at * W::BYTES);
            std::ptr::copy_nonoverlapping(p, copy.as_mut_ptr(), left * W::BYTES);
            let weights = W::load::<S>(copy.as_ptr());
            for j in 0..C {
                let values = S::load(x.add(j * job.act_bytes + 4 * at).cast());
                acc[i][j] = S::fma(weights, values, acc[i][j]);
            }
        }
    }
    for i in 0..R {
        for j in 0..C {
            *job.y.add((c + j) * job.stride + r + i) = S::sum(acc[i][j]);
        }
    }
}
