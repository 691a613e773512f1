//! Blocks of 32 nibbles that index a table of sixteen levels: IQ4_NL, MXFP4.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unpack` covers every body")]

use super::nibble;
use crate::block::{BlockIq4Nl, BlockMxfp4, half};
use crate::isa::Simd;
use crate::tile::{Head, Unpack};

/// The levels of IQ4_NL.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Twice the values of E2M1; code 8, a negative zero there, is an integer zero here.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// A table of levels as unsigned codes.
const fn raised(levels: [i8; 16], offset: i16) -> [u8; 16] {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 16 {
        codes[i] = (levels[i] as i16 + offset) as u8;
        i += 1;
    }
    codes
}

static LEVEL_CODES: [u8; 16] = raised(LEVELS, 128);
static E2M1_CODES: [u8; 16] = raised(E2M1, 16);

/// `2^(e - 128)`, exact; 0 and 1 are subnormal.
fn power(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(1 << 21),
        _ => f32::from_bits(if e == 1 { 1 << 22 } else { (u32::from(e) - 1) << 23 }),
    }
}

/// `y = level * d`.
pub(crate) fn decode_iq4_nl(b: &BlockIq4Nl, y: &mut [f32]) {
    let d = half(b.d);
    for (i, y) in y.iter_mut().enumerate() {
        *y = d * f32::from(LEVELS[usize::from(nibble(&b.q, i))]);
    }
}

/// `y = level * 2^(e - 128)`.
pub(crate) fn decode_mxfp4(b: &BlockMxfp4, y: &mut [f32]) {
    let d = power(b.e);
    for (i, y) in y.iter_mut().enumerate() {
        *y = f32::from(E2M1[usize::from(nibble(&b.q, i))]) * d;
    }
}

/// Unpacker of IQ4_NL: codes are the levels plus 128.
pub(crate) struct Iq4Nl;

impl Unpack for Iq4Nl {
    const BLOCK: usize = 32;
    const BYTES: usize = 18;
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
        S::lookup(&LEVEL_CODES, S::nibbles(p.add(2), Self::BYTES, v))
    }
}

/// Unpacker of MXFP4: codes are the doubled levels plus 16.
pub(crate) struct Mxfp4;

impl Unpack for Mxfp4 {
    const BLOCK: usize = 32;
    const BYTES: usize = 17;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 16;
    const MAX: u8 = 28;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        for b in 0..8 {
            head.d[b] = power(*p.add(b * Self::BYTES));
        }
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::lookup(&E2M1_CODES, S::nibbles(p.add(1), Self::BYTES, v))
    }
}
