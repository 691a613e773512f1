//! The NEON row with `sdot`: four products of signed bytes added to each lane by one instruction.
//! Its intrinsics are not stable, so the instruction is written out.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Simd` covers every body")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::neon::{Arm, Products, signed};

/// Products by `sdot`.
#[derive(Clone, Copy)]
pub(crate) struct Sdot;

super::entries!(Arm<Sdot>, crate::act::quantize, "neon,dotprod");
super::packed_entries!(Arm<Sdot>, "neon,dotprod");

/// `acc` plus, per lane, the sum of four products.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn sdot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    asm!("sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
        acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
        options(pure, nomem, nostack, preserves_flags));
    acc
}

/// As [`sdot`] with the same four bytes of `x`, number `LANE`, for every lane.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn sdot_lane<const LANE: usize>(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut acc = acc;
    asm!("sdot {acc:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
        acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x, lane = const LANE,
        options(pure, nomem, nostack, preserves_flags));
    acc
}

/// One quad of a micro-tile: quad `LANE` of the four in `x`.
#[inline]
#[target_feature(enable = "dotprod")]
unsafe fn quad<const V: usize, const C: usize, const LANE: usize>(
    acc: &mut [[int32x4_t; C]; V],
    w: *const u8,
    x: &[int8x16_t; C],
    offset: u8,
) {
    for v in 0..V {
        let w = signed(vld1q_u8(w.add(16 * v)), offset);
        for c in 0..C {
            acc[v][c] = sdot_lane::<LANE>(acc[v][c], w, x[c]);
        }
    }
}

impl Products for Sdot {
    const PANEL_COLS: (usize, usize, usize) = (6, 4, 6);
    const NARROW: bool = false;

    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        sdot(acc, w, x)
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
        let mut acc = [[vdupq_n_s32(0); C]; V];
        // Groups are of 16 or 32 values: quads come in fours, one load of x for each four.
        for j in (0..quads).step_by(4) {
            let mut values = [vdupq_n_s8(0); C];
            for c in 0..C {
                values[c] = vld1q_s8(x[c].add(4 * j).cast());
            }
            let w = w.add(j * stride);
            quad::<V, C, 0>(&mut acc, w, &values, offset);
            quad::<V, C, 1>(&mut acc, w.add(stride), &values, offset);
            quad::<V, C, 2>(&mut acc, w.add(2 * stride), &values, offset);
            quad::<V, C, 3>(&mut acc, w.add(3 * stride), &values, offset);
        }
        acc
    }
}
