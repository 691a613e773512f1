//! Nibbles that index a table of sixteen levels: IQ4_NL, IQ4_XS, MXFP4, NVFP4.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unpack` covers every body")]

use super::{less_32, nibble, read_half, short_word};
use crate::block::{BlockIq4Nl, BlockIq4Xs, BlockMxfp4, BlockNvfp4, half};
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

/// [`LEVELS`] plus 128.
pub(crate) static LEVEL_CODES: [u8; 16] = raised(LEVELS, 128);
/// [`E2M1`] plus 16.
pub(crate) static E2M1_CODES: [u8; 16] = raised(E2M1, 16);

/// `2^(e - 128)`, exact; 0 and 1 are subnormal.
fn power(e: u8) -> f32 {
    match e {
        0 => f32::from_bits(1 << 21),
        _ => f32::from_bits(if e == 1 { 1 << 22 } else { (u32::from(e) - 1) << 23 }),
    }
}

/// Half the value of an unsigned E4M3 for all bytes; the top bit means nothing, and 0x7f is zero.
static HALF_E4M3: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut s = 0;
    while s < 256 {
        let (e, m) = ((s >> 3 & 15) as u32, (s & 7) as u32);
        values[s] = match e {
            0 => m as f32 / 1024.0,
            _ => f32::from_bits((e + 119) << 23 | m << 20),
        };
        s += 1;
    }
    values[0x7f] = 0.0;
    values
};

/// The eight scales of IQ4_XS as signed bytes, from their low nibbles and their upper two bits.
#[inline(always)]
fn scales_iq4_xs(low: u32, high: u16) -> u64 {
    // nibble i to byte i, and bits 2 i to byte i
    let low = u64::from(low);
    let low = (low | low << 16) & 0x0000_ffff_0000_ffff;
    let low = (low | low << 8) & 0x00ff_00ff_00ff_00ff;
    let low = (low | low << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let high = u64::from(high);
    let high = (high | high << 24) & 0x0000_00ff_0000_00ff;
    let high = (high | high << 12) & 0x000f_000f_000f_000f;
    let high = (high | high << 6) & 0x0303_0303_0303_0303;
    less_32(low | high << 4)
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

/// `y = (d * (scale - 32)) * level`, groups of 32.
pub(crate) fn decode_iq4_xs(b: &BlockIq4Xs, y: &mut [f32]) {
    let d = half(b.d);
    let scales = scales_iq4_xs(u32::from_le_bytes(b.s), u16::from_le_bytes(b.h)).to_le_bytes();
    let groups = b.q.as_chunks::<16>().0;
    for (i, y) in y.iter_mut().enumerate() {
        let level = LEVELS[usize::from(nibble(&groups[i / 32], i % 32))];
        *y = d * f32::from(scales[i / 32] as i8) * f32::from(level);
    }
}

/// `y = level * scale`, groups of 16.
pub(crate) fn decode_nvfp4(b: &BlockNvfp4, y: &mut [f32]) {
    for (i, y) in y.iter_mut().enumerate() {
        let byte = b.q[i / 16 * 8 + i % 8];
        let code = if i % 16 < 8 { byte & 15 } else { byte >> 4 };
        *y = f32::from(E2M1[usize::from(code)]) * HALF_E4M3[usize::from(b.s[i / 16])];
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
        let mut exponents = 0;
        for b in 0..8 {
            exponents |= u64::from(*p.add(b * Self::BYTES)) << (8 * b);
        }
        S::powers(exponents, head.d.as_mut_ptr());
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::lookup(&E2M1_CODES, S::nibbles(p.add(1), Self::BYTES, v))
    }
}

/// Unpacker of IQ4_XS: codes are the levels plus 128.
pub(crate) struct Iq4Xs;

impl Unpack for Iq4Xs {
    const BLOCK: usize = 256;
    const BYTES: usize = 136;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 128;
    const MAX: u8 = 255;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        // the upper bits of the scales stand between the scale and the lower bits
        let high = (short_word(p) >> 16) as u16;
        let scales = scales_iq4_xs(short_word(p.add(4)), high);
        S::scale_i8(scales, read_half::<S>(p), head.d.as_mut_ptr());
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::lookup(&LEVEL_CODES, S::nibbles(p.add(8), 16, v))
    }
}

/// Unpacker of NVFP4: codes are the doubled levels plus 16.
pub(crate) struct Nvfp4;

impl Unpack for Nvfp4 {
    const BLOCK: usize = 64;
    const BYTES: usize = 36;
    const GROUP: usize = 16;
    const MINS: bool = false;
    const OFFSET: u8 = 16;
    const MAX: u8 = 28;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        for g in 0..16 {
            let s = *p.add(g / 4 * Self::BYTES + g % 4);
            head.d[g] = HALF_E4M3[usize::from(s)];
        }
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::lookup(&E2M1_CODES, S::nibbles_8(p.add(4), Self::BYTES, v))
    }
}
