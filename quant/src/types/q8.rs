//! Blocks of 32 signed bytes: Q8_0.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unpack` covers every body")]

use crate::block::{BlockQ8_0, half};
use crate::isa::Simd;
use crate::tile::{Head, Unpack};

/// `y = q * d`.
pub(crate) fn decode_q8_0(b: &BlockQ8_0, y: &mut [f32]) {
    let d = half(b.d);
    for (y, &q) in y.iter_mut().zip(&b.q) {
        *y = f32::from(q as i8) * d;
    }
}

/// Unpacker of Q8_0: codes are the signed bytes plus 128.
pub(crate) struct Q8_0;

impl Unpack for Q8_0 {
    const BLOCK: usize = 32;
    const BYTES: usize = 34;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 128;
    const MAX: u8 = 255;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        S::halves(p, Self::BYTES, head.d.as_mut_ptr());
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::flip(S::bytes(p.add(2), Self::BYTES, v))
    }
}
