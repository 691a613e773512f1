//! One and two bits a weight, and ternary: Q1_0, Q2_0, TQ1_0, TQ2_0.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unpack` covers every body")]

use super::read_half;
use crate::block::{BlockQ1_0, BlockQ2_0, BlockTq1_0, BlockTq2_0, half};
use crate::isa::Simd;
use crate::tile::{Head, Unpack};

/// `y = d` where the bit is set, else `-d`.
pub(crate) fn decode_q1_0(b: &BlockQ1_0, y: &mut [f32]) {
    let d = half(b.d);
    for (i, y) in y.iter_mut().enumerate() {
        *y = if b.q[i / 8] >> (i % 8) & 1 == 1 { d } else { -d };
    }
}

/// `y = (code - 1) * d`.
pub(crate) fn decode_q2_0(b: &BlockQ2_0, y: &mut [f32]) {
    let d = half(b.d);
    for (i, y) in y.iter_mut().enumerate() {
        let code = b.q[i / 4] >> (i % 4 * 2) & 3;
        *y = (f32::from(code) - 1.0) * d;
    }
}

/// Digit `n` of a byte that is a fraction of 256 in base three.
fn digit(byte: u8, n: usize) -> u8 {
    let rest = byte.wrapping_mul([1, 3, 9, 27, 81][n]);
    ((u16::from(rest) * 3) >> 8) as u8
}

/// `y = (digit - 1) * d`.
pub(crate) fn decode_tq1_0(b: &BlockTq1_0, y: &mut [f32]) {
    let d = half(b.d);
    for (i, y) in y.iter_mut().enumerate() {
        let code = match i {
            0..160 => digit(b.q[i % 32], i / 32),
            160..240 => digit(b.q[32 + i % 16], (i - 160) / 16),
            _ => digit(b.h[i % 4], (i - 240) / 4),
        };
        *y = (f32::from(code) - 1.0) * d;
    }
}

/// `y = (code - 1) * d`.
pub(crate) fn decode_tq2_0(b: &BlockTq2_0, y: &mut [f32]) {
    let d = half(b.d);
    for (i, y) in y.iter_mut().enumerate() {
        let code = b.q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        *y = (f32::from(code) - 1.0) * d;
    }
}

/// Codes of a bit: -1 and 1, plus 8.
static SIGN_CODES: [u8; 16] = [7, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8];
/// Codes of two bits: -1, 0, 1, 2, plus 8.
static TWO_BIT_CODES: [u8; 16] = [7, 8, 9, 10, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8];

/// Unpacker of Q1_0.
pub(crate) struct Q1_0;

impl Unpack for Q1_0 {
    const BLOCK: usize = 128;
    const BYTES: usize = 18;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 8;
    const MAX: u8 = 9;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        for b in 0..2 {
            let d = read_half::<S>(p.add(b * Self::BYTES));
            head.d[4 * b..4 * b + 4].fill(d);
        }
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        let per_block = Self::BLOCK / (4 * S::LANES);
        let p = p.add(v / per_block * Self::BYTES + 2);
        S::lookup(&SIGN_CODES, S::bits(p, 4, v % per_block, 1))
    }
}

/// Unpacker of Q2_0.
pub(crate) struct Q2_0;

impl Unpack for Q2_0 {
    const BLOCK: usize = 64;
    const BYTES: usize = 18;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 8;
    const MAX: u8 = 10;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        for b in 0..4 {
            let d = read_half::<S>(p.add(b * Self::BYTES));
            head.d[2 * b..2 * b + 2].fill(d);
        }
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::lookup(&TWO_BIT_CODES, S::quarters(p.add(2), Self::BYTES, v))
    }
}

/// Unpacker of TQ2_0.
pub(crate) struct Tq2_0;

impl Unpack for Tq2_0 {
    const BLOCK: usize = 256;
    const BYTES: usize = 66;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 8;
    const MAX: u8 = 10;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        head.d[..8].fill(read_half::<S>(p.add(64)));
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::lookup(&TWO_BIT_CODES, S::two_bits(p, v))
    }
}

/// Unpacker of TQ1_0.
pub(crate) struct Tq1_0;

impl Unpack for Tq1_0 {
    const BLOCK: usize = 256;
    const BYTES: usize = 54;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 8;
    const MAX: u8 = 9;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        head.d[..8].fill(read_half::<S>(p.add(52)));
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::thirds(p, v)
    }
}
