//! Blocks of 256 with scales of scales: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unpack` covers every body")]

use super::{less_32, read_half, short_word, word};
use crate::block::{BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, half};
use crate::isa::Simd;
use crate::tile::{Head, Unpack};

/// Code `i` (0..256) in the 2-bit order.
fn two_bits(q: &[u8; 64], i: usize) -> u8 {
    q[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

/// Bit `i / 32` of byte `i % 32`.
fn one_bit(h: &[u8; 32], i: usize) -> u8 {
    h[i % 32] >> (i / 32) & 1
}

/// Code `i` of chunks of 32 bytes, low nibbles before high ones.
fn nibble_32(q: &[u8; 128], i: usize) -> u8 {
    let byte = q[i / 64 * 32 + i % 32];
    if i % 64 < 32 { byte & 15 } else { byte >> 4 }
}

/// Eight 6-bit scales and eight 6-bit mins of Q4_K and Q5_K, a byte each.
///
/// As two words: `lo` holds bytes 0..8 of the field, `hi` bytes 8..12. The first four of each kind
/// are the low six bits of their byte in `lo`; the last four take a nibble of `hi` and the top two
/// bits of the bytes in `lo`.
#[inline(always)]
fn six_bits(lo: u64, hi: u32) -> (u64, u64) {
    let hi = u64::from(hi);
    let first = lo & 0x3f3f_3f3f_3f3f_3f3f;
    let last = lo >> 2 & 0x3030_3030_3030_3030 | (hi | hi << 28) & 0x0f0f_0f0f_0f0f_0f0f;
    let scales = first & 0xffff_ffff | last << 32;
    let mins = first >> 32 | last & 0xffff_ffff_0000_0000;
    (scales, mins)
}

/// [`six_bits`] of the field as it is stored, as bytes.
fn six_bits_of(s: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let lo = u64::from_le_bytes([s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]]);
    let (scales, mins) = six_bits(lo, u32::from_le_bytes([s[8], s[9], s[10], s[11]]));
    (scales.to_le_bytes(), mins.to_le_bytes())
}

/// Sixteen 6-bit scales of Q3_K, 32 taken off, as two words of signed bytes.
///
/// `low` is bytes 0..8 of the field, `top` bytes 8..12: groups 4j..4j+4 have their upper bits at
/// 2j of the four bytes of `top`.
#[inline(always)]
fn six_bits_3(low: u64, top: u32) -> (u64, u64) {
    let upper = |j: u32| u64::from((top >> (2 * j) & 0x0303_0303) << 4);
    let a = low & 0x0f0f_0f0f_0f0f_0f0f | upper(0) | upper(1) << 32;
    let b = low >> 4 & 0x0f0f_0f0f_0f0f_0f0f | upper(2) | upper(3) << 32;
    (less_32(a), less_32(b))
}

/// [`six_bits_3`] of the field as it is stored.
fn six_bits_3_of(s: &[u8; 12]) -> [i8; 16] {
    let low = u64::from_le_bytes([s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]]);
    let (a, b) = six_bits_3(low, u32::from_le_bytes([s[8], s[9], s[10], s[11]]));
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    std::array::from_fn(|i| if i < 8 { a[i] as i8 } else { b[i - 8] as i8 })
}

/// `y = (d * scale) * code - (m * min)`, groups of 16.
pub(crate) fn decode_q2_k(b: &BlockQ2K, y: &mut [f32]) {
    let (d, m) = (half(b.d), half(b.m));
    for (i, y) in y.iter_mut().enumerate() {
        let s = b.s[i / 16];
        let (scale, min) = (d * f32::from(s & 15), m * f32::from(s >> 4));
        *y = scale * f32::from(two_bits(&b.q, i)) - min;
    }
}

/// `y = (d * (scale - 32)) * code`, codes -4..=3, groups of 16.
pub(crate) fn decode_q3_k(b: &BlockQ3K, y: &mut [f32]) {
    let d = half(b.d);
    let scales = six_bits_3_of(&b.s);
    for (i, y) in y.iter_mut().enumerate() {
        let code = two_bits(&b.q, i) as i8 - if one_bit(&b.h, i) == 1 { 0 } else { 4 };
        *y = d * f32::from(scales[i / 16]) * f32::from(code);
    }
}

/// `y = (d * scale) * code - (m * min)`, groups of 32.
pub(crate) fn decode_q4_k(b: &BlockQ4K, y: &mut [f32]) {
    let (d, m) = (half(b.d), half(b.m));
    let (scales, mins) = six_bits_of(&b.s);
    for (i, y) in y.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(scales[i / 32]), m * f32::from(mins[i / 32]));
        *y = scale * f32::from(nibble_32(&b.q, i)) - min;
    }
}

/// As Q4_K with a fifth bit.
pub(crate) fn decode_q5_k(b: &BlockQ5K, y: &mut [f32]) {
    let (d, m) = (half(b.d), half(b.m));
    let (scales, mins) = six_bits_of(&b.s);
    for (i, y) in y.iter_mut().enumerate() {
        let (scale, min) = (d * f32::from(scales[i / 32]), m * f32::from(mins[i / 32]));
        *y = scale * f32::from(nibble_32(&b.q, i) | one_bit(&b.h, i) << 4) - min;
    }
}

/// `y = (d * scale) * (code - 32)`, groups of 16.
pub(crate) fn decode_q6_k(b: &BlockQ6K, y: &mut [f32]) {
    let d = half(b.d);
    for (i, y) in y.iter_mut().enumerate() {
        let byte = b.q[i / 128 * 64 + i % 64];
        let low = if i % 128 < 64 { byte & 15 } else { byte >> 4 };
        let code = (low | two_bits(&b.h, i) << 4) as i8 - 32;
        *y = d * f32::from(b.s[i / 16] as i8) * f32::from(code);
    }
}

/// Scales and mins of Q4_K and Q5_K, whose blocks begin alike.
#[inline(always)]
unsafe fn head_45<S: Simd>(p: *const u8, head: &mut Head) {
    let (d, m) = (read_half::<S>(p), -read_half::<S>(p.add(2)));
    let (scales, mins) = six_bits(word(p.add(4)), short_word(p.add(12)));
    S::scale_u8(scales, d, head.d.as_mut_ptr());
    S::scale_u8(mins, m, head.m.as_mut_ptr());
}

/// Unpacker of Q2_K.
pub(crate) struct Q2K;

impl Unpack for Q2K {
    const BLOCK: usize = 256;
    const BYTES: usize = 84;
    const GROUP: usize = 16;
    const MINS: bool = true;
    const OFFSET: u8 = 0;
    const MAX: u8 = 3;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        let (d, m) = (read_half::<S>(p.add(80)), -read_half::<S>(p.add(82)));
        for i in [0, 8] {
            let s = word(p.add(i));
            S::scale_u8(s & 0x0f0f_0f0f_0f0f_0f0f, d, head.d.as_mut_ptr().add(i));
            S::scale_u8(s >> 4 & 0x0f0f_0f0f_0f0f_0f0f, m, head.m.as_mut_ptr().add(i));
        }
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::two_bits(p.add(16), v)
    }
}

/// Unpacker of Q3_K: the third bit set means that nothing is taken off, so it counts 4.
pub(crate) struct Q3K;

impl Unpack for Q3K {
    const BLOCK: usize = 256;
    const BYTES: usize = 110;
    const GROUP: usize = 16;
    const MINS: bool = false;
    const OFFSET: u8 = 4;
    const MAX: u8 = 7;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        let d = read_half::<S>(p.add(108));
        let (a, b) = six_bits_3(word(p.add(96)), short_word(p.add(104)));
        S::scale_i8(a, d, head.d.as_mut_ptr());
        S::scale_i8(b, d, head.d.as_mut_ptr().add(8));
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::or(S::two_bits(p.add(32), v), S::shl::<2>(S::one_bit(p, v)))
    }
}

/// Unpacker of Q4_K.
pub(crate) struct Q4K;

impl Unpack for Q4K {
    const BLOCK: usize = 256;
    const BYTES: usize = 144;
    const GROUP: usize = 32;
    const MINS: bool = true;
    const OFFSET: u8 = 0;
    const MAX: u8 = 15;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        head_45::<S>(p, head);
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::nibbles_32(p.add(16), v)
    }
}

/// Unpacker of Q5_K.
pub(crate) struct Q5K;

impl Unpack for Q5K {
    const BLOCK: usize = 256;
    const BYTES: usize = 176;
    const GROUP: usize = 32;
    const MINS: bool = true;
    const OFFSET: u8 = 0;
    const MAX: u8 = 31;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        head_45::<S>(p, head);
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::or(S::nibbles_32(p.add(48), v), S::shl::<4>(S::one_bit(p.add(16), v)))
    }
}

/// Unpacker of Q6_K.
pub(crate) struct Q6K;

impl Unpack for Q6K {
    const BLOCK: usize = 256;
    const BYTES: usize = 210;
    const GROUP: usize = 16;
    const MINS: bool = false;
    const OFFSET: u8 = 32;
    const MAX: u8 = 63;

    #[inline(always)]
    unsafe fn head<S: Simd>(p: *const u8, head: &mut Head) {
        let d = read_half::<S>(p.add(208));
        S::scale_i8(word(p.add(192)), d, head.d.as_mut_ptr());
        S::scale_i8(word(p.add(200)), d, head.d.as_mut_ptr().add(8));
    }
    #[inline(always)]
    unsafe fn vector<S: Simd>(p: *const u8, v: usize) -> S::Q {
        S::or(S::nibbles_64(p, v), S::shl::<4>(S::two_bits(p.add(128), v)))
    }
}
