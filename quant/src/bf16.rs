//! Panels by tiles of bfloat16: for rows of the table whose processor multiplies those faster than it
//! could scale sums of small integers.
//!
//! A slab is filled as `panel` does it. Then its weights, with their scales and offsets, are rounded to
//! bfloat16, off by 2^-9 of themselves at most, and laid out as the tiles want them: for each 16 rows
//! `[k / 2][row][2]`. Columns are prepared as bfloat16 as well, `[k]`, so they need no layout. Products
//! are exact and summed in float32.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "driver code below one checked wrapper, see `Job`; contracts are on the functions"
)]

use std::arch::x86_64::*;

use crate::Regime;
use crate::act::{self, ActKind, HEADER};
use crate::isa::Simd;
use crate::isa::amx::Config;
use crate::isa::avx512::Avx512;
use crate::panel::Slab;
use crate::span::Codes;
use crate::tile::{Job, SPAN};

/// Rows of a panel: two tiles.
const ROWS: usize = 32;
/// Columns of a block: two tiles.
const COLS: usize = 32;
/// Values of k that a step of a tile adds.
const STEP: usize = 32;
/// Bytes of a tile row of weights.
const LINE: usize = 64;
/// Bytes of a span of 16 rows of weights.
const PLANE: usize = SPAN / 2 * LINE;

const _: () = assert!(ROWS == Avx512::LANES * Avx512::PANEL);

/// Sums of a block of columns, and what is to be added to them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Columns, at most 32.
    pub(crate) columns: usize,
    /// Sums, `[columns][32]`.
    pub(crate) sum: *mut f32,
    /// Bytes from a column's sums to the next's.
    pub(crate) row: usize,
    /// Values of the first column, bfloat16.
    pub(crate) x: *const u8,
    /// Bytes from a column's values to the next's.
    pub(crate) column: usize,
    /// Weights of the first 16 rows, `[k / 2][16][2]`; those of the others are 8,192 bytes on.
    pub(crate) w: *const u8,
    /// How many times 32 values of k.
    pub(crate) steps: usize,
}

/// Tiles, from their configuration to their release: what is between are calls of one function, so that
/// a thread that waits holds none.
///
/// # Safety
/// All functions: the machine has the tiles; those of [`Tiles::add`] are configured for the block's
/// columns, and its pointers are valid for all that it says.
pub(crate) trait Tiles: Sized + 'static {
    /// No tile is configured.
    unsafe fn new() -> Self;
    /// Loads a configuration; the tiles become zero.
    unsafe fn configure(&mut self, config: &Config);
    /// Adds the products of a block to its sums.
    unsafe fn add(&mut self, block: &Block);
    /// Gives the tiles back.
    unsafe fn release(self);
}

/// Multiplies a slab with all columns; see [`crate::panel::multiply`].
///
/// # Safety
/// As [`crate::panel::multiply`], with columns made by [`prepare`]; the machine has AVX-512 BF16.
#[inline(always)]
pub(crate) unsafe fn multiply<T: Tiles, const GROUP: usize, const MINS: bool>(
    job: &Job<'_>,
    codes: &Codes,
    s: usize,
    values: usize,
    slab: Slab,
) {
    round::<GROUP, MINS>(codes.offset, values.div_ceil(GROUP), slab);
    let mut tiles = T::new();
    let mut configured = 0;
    let mut c = 0;
    while c < job.n_cols {
        let columns = (job.n_cols - c).min(COLS);
        if configured != columns {
            tiles.configure(&Config::new(columns));
            configured = columns;
        }
        tiles.add(&Block {
            columns,
            sum: slab.acc.add(c * ROWS),
            row: 4 * ROWS,
            x: job.acts.as_ptr().add(c * job.act_bytes + HEADER + 2 * SPAN * s),
            column: job.act_bytes,
            w: slab.extra,
            steps: values.div_ceil(STEP),
        });
        c += columns;
    }
    tiles.release();
}

/// The weights of a slab's first `groups` groups as bfloat16 at `slab.extra`.
#[inline(always)]
unsafe fn round<const GROUP: usize, const MINS: bool>(offset: u8, groups: usize, slab: Slab) {
    let offset = _mm512_set1_ps(f32::from(offset));
    for g in 0..groups {
        for part in 0..ROWS / 16 {
            let d = _mm512_loadu_ps(slab.d.add(g * ROWS + 16 * part));
            // what a code of 0 stands for: exact, as offsets of codes are powers of two
            let zero = match MINS {
                true => _mm512_loadu_ps(slab.m.add(g * ROWS + 16 * part)),
                false => _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(d, offset)),
            };
            for j in g * (GROUP / 4)..(g + 1) * (GROUP / 4) {
                let q = _mm512_loadu_si512(slab.q.add((j * ROWS + 16 * part) * 4).cast());
                let to = slab.extra.add(part * PLANE + 2 * j * LINE);
                _mm512_storeu_si512(
                    to.cast(),
                    pair(weight::<0>(q, d, zero), weight::<8>(q, d, zero)),
                );
                let upper = pair(weight::<16>(q, d, zero), weight::<24>(q, d, zero));
                _mm512_storeu_si512(to.add(LINE).cast(), upper);
            }
        }
    }
}

/// The weights whose codes are the byte at bit `SHIFT` of every lane.
#[inline(always)]
unsafe fn weight<const SHIFT: u32>(q: __m512i, d: __m512, zero: __m512) -> __m512 {
    let code = _mm512_and_si512(_mm512_srli_epi32::<SHIFT>(q), _mm512_set1_epi32(255));
    _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), d, zero)
}

/// In each lane `a` as bfloat16, then `b`.
#[inline(always)]
unsafe fn pair(a: __m512, b: __m512) -> __m512i {
    let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a));
    let order = [
        0u16, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27,
        12, 28, 13, 29, 14, 30, 15, 31,
    ];
    _mm512_permutexvar_epi16(_mm512_loadu_si512(order.as_ptr().cast()), both)
}

/// Writes a column as bfloat16, rounded to the nearest, ties to even, what is subnormal to zero, and
/// padded with zeros.
///
/// # Safety
/// The machine has AVX-512 F and BF16; `dst` is as long as a column of `x.len()` values.
#[inline(always)]
pub(crate) unsafe fn prepare(x: &[f32], dst: &mut [u8]) {
    act::write_header(dst, act::tag(ActKind::Q8Bf16, Regime::Panel), x.len());
    debug_assert!(dst.len() >= HEADER + 2 * act::padded(x.len()));
    for i in 0..act::padded(x.len()) / 32 {
        let mut values = [_mm512_setzero_ps(); 2];
        for (j, v) in values.iter_mut().enumerate() {
            let at = 32 * i + 16 * j;
            let n = x.len().saturating_sub(at).min(16);
            // the masked load touches only the `n` values that exist
            let mask = ((1u32 << n) - 1) as __mmask16;
            *v = _mm512_maskz_loadu_ps(mask, x.as_ptr().wrapping_add(at));
        }
        let both =
            std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(values[1], values[0]));
        _mm512_storeu_si512(dst.as_mut_ptr().add(HEADER + 64 * i).cast(), both);
    }
}
