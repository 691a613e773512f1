//! The NEON row with `smmla`: two rows of eight signed bytes times two columns of eight, added to the
//! four sums. Few columns go through `sdot`, as in `dotprod`. The instruction is written out, its
//! intrinsic is not stable.
//!
//! Panels hold rows in pairs: of the four vectors that stand for four rows and 16 values of k, the
//! first has values 0..8 of rows 0 and 1, the second those of rows 2 and 3, the other two values
//! 8..16.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Simd` covers every body")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::dotprod::Sdot;
use super::neon::{Arm, Products, signed};

/// Products by `smmla`, by `sdot` for few columns.
#[derive(Clone, Copy)]
pub(crate) struct Smmla;

super::entries!(Arm<Smmla>, crate::act::quantize, "neon,dotprod,i8mm");
super::packed_entries!(Arm<Smmla>, "neon,dotprod,i8mm");

/// `acc` plus the sums of eight products: rows 0 and 1 of `w` with column 0 and 1 of `x`, the sums of
/// row 0 first.
#[inline]
#[target_feature(enable = "i8mm")]
unsafe fn smmla(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    asm!("smmla {acc:v}.4s, {w:v}.16b, {x:v}.16b",
        acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
        options(pure, nomem, nostack, preserves_flags));
    acc
}

/// Halves 0 of both vectors, and halves 1.
#[inline(always)]
unsafe fn halves(a: uint8x16_t, b: uint8x16_t) -> (uint8x16_t, uint8x16_t) {
    let (a, b) = (vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b));
    (vreinterpretq_u8_u64(vzip1q_u64(a, b)), vreinterpretq_u8_u64(vzip2q_u64(a, b)))
}

impl Products for Smmla {
    const PANEL_COLS: (usize, usize, usize) = (6, 4, 6);
    const NARROW: bool = false;

    #[inline(always)]
    unsafe fn transpose(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        let (first, second) = (halves(rows[0], rows[1]), halves(rows[2], rows[3]));
        [first.0, second.0, first.1, second.1]
    }

    #[inline(always)]
    unsafe fn in_panel(first: uint8x16_t, second: uint8x16_t) -> (uint8x16_t, uint8x16_t) {
        let (a, b) = (vreinterpretq_u32_u8(first), vreinterpretq_u32_u8(second));
        (vreinterpretq_u8_u32(vzip1q_u32(a, b)), vreinterpretq_u8_u32(vzip2q_u32(a, b)))
    }

    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        Sdot::dot(acc, w, x)
    }

    #[inline(always)]
    unsafe fn panel<const V: usize, const C: usize>(
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        _: u8,
        offset: u8,
    ) -> [[int32x4_t; C]; V] {
        // Element i of a tile's row is for columns 2 i and 2 i + 1; a single column stands twice.
        let pairs = C.div_ceil(2);
        let mut upper = [[vdupq_n_s32(0); C]; V];
        let mut lower = [[vdupq_n_s32(0); C]; V];
        // Groups are of 16 or 32 values: quads come in fours.
        for j in (0..quads).step_by(4) {
            let mut values = [(vdupq_n_u8(0), vdupq_n_u8(0)); C];
            for i in 0..pairs {
                let (a, b) = (x[2 * i], x[(2 * i + 1).min(C - 1)]);
                values[i] = halves(vld1q_u8(a.add(4 * j)), vld1q_u8(b.add(4 * j)));
            }
            for half in 0..2 {
                let w = w.add((j + 2 * half) * stride);
                for v in 0..V {
                    let rows_01 = signed(vld1q_u8(w.add(16 * v)), offset);
                    let rows_23 = signed(vld1q_u8(w.add(stride + 16 * v)), offset);
                    for i in 0..pairs {
                        let x = if half == 0 { values[i].0 } else { values[i].1 };
                        let x = vreinterpretq_s8_u8(x);
                        upper[v][i] = smmla(upper[v][i], rows_01, x);
                        lower[v][i] = smmla(lower[v][i], rows_23, x);
                    }
                }
            }
        }
        let mut out = [[vdupq_n_s32(0); C]; V];
        for v in 0..V {
            for c in 0..C {
                let (a, b) = (upper[v][c / 2], lower[v][c / 2]);
                out[v][c] = if c % 2 == 0 { vuzp1q_s32(a, b) } else { vuzp2q_s32(a, b) };
            }
        }
        out
    }
}
