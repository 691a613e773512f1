//! Blocks of 32 with 4 or 5 bits a weight: Q4_0, Q4_1, Q5_0, Q5_1.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unpack` covers every body")]

use super::nibble;
use crate::block::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, half};
use crate::isa::Simd;
use crate::tile::{Head, Unpack};

/// `y = (code - 8) * d`.
pub(crate) fn decode_q4_0(b: &BlockQ4_0, y: &mut [f32]) {
    let d = half(b.d);
    for (i, y) in y.iter_mut().enumerate() {
        *y = (f32::from(nibble(&b.q, i)) - 8.0) * d;
    }
}

/// `y = code * d + m`.
pub(crate) fn decode_q4_1(b: &BlockQ4_1, y: &mut [f32]) {
    let (d, m) = (half(b.d), half(b.m));
    for (i, y) in y.iter_mut().enumerate() {
        *y = f32::from(nibble(&b.q, i)) * d + m;
    }
}

fn five(q: &[u8; 16], h: [u8; 4], i: usize) -> f32 {
    let high = (u32::from_le_bytes(h) >> i & 1) as u8;
    f32::from(nibble(q, i) | high << 4)
}

/// `y = (code - 16) * d`.
pub(crate) fn decode_q5_0(b: &BlockQ5_0, y: &mut [f32]) {
    let d = half(b.d);
    for (i, y) in y.iter_mut().enumerate() {
        *y = (five(&b.q, b.h, i) - 16.0) * d;
    }
}

/// `y = code * d + m`.
pub(crate) fn decode_q5_1(b: &BlockQ5_1, y: &mut [f32]) {
    let (d, m) = (half(b.d), half(b.m));
    for (i, y) in y.iter_mut().enumerate() {
        *y = five(&b.q, b.h, i) * d + m;
    }
}

/// Unpacker of Q4_0.
pub(crate) struct Q4_0;

impl Unpack for Q4_0 {
    const BLOCK: usize = 32;
    const BYTES: usize = 18;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 8;
    const MAX: u8 = 15;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        S::halves(p, Self::BYTES, head.d.as_mut_ptr());
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::nibbles(p.add(2), Self::BYTES, v)
    }
}

/// Unpacker of Q4_1.
pub(crate) struct Q4_1;

impl Unpack for Q4_1 {
    const BLOCK: usize = 32;
    const BYTES: usize = 20;
    const GROUP: usize = 32;
    const MINS: bool = true;
    const OFFSET: u8 = 0;
    const MAX: u8 = 15;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        S::half_pairs(p, Self::BYTES, head.d.as_mut_ptr(), head.m.as_mut_ptr());
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::nibbles(p.add(4), Self::BYTES, v)
    }
}

/// Unpacker of Q5_0.
pub(crate) struct Q5_0;

impl Unpack for Q5_0 {
    const BLOCK: usize = 32;
    const BYTES: usize = 22;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 16;
    const MAX: u8 = 31;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        S::halves(p, Self::BYTES, head.d.as_mut_ptr());
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        let low = S::nibbles(p.add(6), Self::BYTES, v);
        S::or(low, S::bits(p.add(2), Self::BYTES, v, 16))
    }
}

/// Unpacker of Q5_1.
pub(crate) struct Q5_1;

impl Unpack for Q5_1 {
    const BLOCK: usize = 32;
    const BYTES: usize = 24;
    const GROUP: usize = 32;
    const MINS: bool = true;
    const OFFSET: u8 = 0;
    const MAX: u8 = 31;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        S::half_pairs(p, Self::BYTES, head.d.as_mut_ptr(), head.m.as_mut_ptr());
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        let low = S::nibbles(p.add(8), Self::BYTES, v);
        S::or(low, S::bits(p.add(4), Self::BYTES, v, 16))
    }
}
