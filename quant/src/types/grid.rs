//! Blocks of 256 whose values are points of a code book: IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S,
//! IQ3_XXS, IQ3_S.
//!
//! All are expanded in the same three steps: the indices of the points, the levels that the book
//! has for them, and one look-up of level and sign in a table of sixteen codes.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Span` covers every body")]

use super::{books, read_half, short_word, word};
use crate::block::{
    BlockIq1M, BlockIq1S, BlockIq2S, BlockIq2Xs, BlockIq2Xxs, BlockIq3S, BlockIq3Xxs, half,
};
use crate::isa::Simd;
use crate::isa::patterns::{narrowed, upper, widened};
use crate::span::Span;
use crate::tile::Head;

/// Magnitudes of the levels of the IQ2 types.
const IQ2_LEVELS: [u8; 3] = [8, 25, 43];
/// Magnitudes of the levels of IQ3_XXS.
const IQ3_XXS_LEVELS: [u8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];
/// Magnitudes of the levels of IQ3_S.
const IQ3_S_LEVELS: [u8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];

/// Codes of levels, then of their negatives at 8 and up.
const fn signed_codes<const N: usize>(levels: [u8; N], offset: u8) -> [u8; 16] {
    let mut codes = [offset; 16];
    let mut i = 0;
    while i < N {
        codes[i] = offset + levels[i];
        codes[8 + i] = offset - levels[i];
        i += 1;
    }
    codes
}

static IQ2_CODES: [u8; 16] = signed_codes(IQ2_LEVELS, 64);
static IQ3_XXS_CODES: [u8; 16] = signed_codes(IQ3_XXS_LEVELS, 64);
static IQ3_S_CODES: [u8; 16] = signed_codes(IQ3_S_LEVELS, 16);
/// Eight times -1, 0, 1 shifted by an eighth (up, then at 8 down), plus 16.
static IQ1_CODES: [u8; 16] = [9, 17, 25, 16, 16, 16, 16, 16, 7, 15, 23, 16, 16, 16, 16, 16];

// ---- decoders -----------------------------------------------------------------------------------

/// The sign byte for a 7-bit index: bit 7 makes the number of set bits even.
fn even(index: u32) -> u8 {
    let index = (index & 127) as u8;
    index | ((index.count_ones() & 1) as u8) << 7
}

/// -1 where bit `j` is set, else 1.
fn sign(signs: u8, j: usize) -> f32 {
    if signs >> j & 1 == 1 { -1.0 } else { 1.0 }
}

fn level(levels: &[u8], entry: &[u8], j: usize) -> f32 {
    f32::from(levels[usize::from(entry[j])])
}

fn u16_at(bytes: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])
}

fn u32_at(bytes: &[u8], i: usize) -> u32 {
    u32::from(u16_at(bytes, 2 * i)) | u32::from(u16_at(bytes, 2 * i + 1)) << 16
}

/// Nibble `i` of bytes that hold the low one first.
fn nibble_at(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 2] >> (i % 2 * 4) & 15
}

/// `y = db * magnitude * sign`, `db = d * (0.5 + scale) * 0.25`, groups of 32.
pub(crate) fn decode_iq2_xxs(b: &BlockIq2Xxs, y: &mut [f32]) {
    let d = half(b.d);
    for (r, y) in y.chunks_exact_mut(8).enumerate() {
        let (g, l) = (r / 4, r % 4);
        let w = u32_at(&b.q, 2 * g + 1);
        let db = d * (0.5 + (w >> 28) as f32) * 0.25;
        let entry = books::IQ2_XXS.wide[usize::from(b.q[8 * g + l])].to_le_bytes();
        for (j, y) in y.iter_mut().enumerate() {
            *y = db * level(&IQ2_LEVELS, &entry, j) * sign(even(w >> (7 * l)), j);
        }
    }
}

/// As IQ2_XXS, groups of 16.
pub(crate) fn decode_iq2_xs(b: &BlockIq2Xs, y: &mut [f32]) {
    let d = half(b.d);
    for (r, y) in y.chunks_exact_mut(8).enumerate() {
        let w = u16_at(&b.q, r);
        let db = d * (0.5 + f32::from(nibble_at(&b.s, r / 2))) * 0.25;
        let entry = books::IQ2_XS.wide[usize::from(w & 511)].to_le_bytes();
        for (j, y) in y.iter_mut().enumerate() {
            *y = db * level(&IQ2_LEVELS, &entry, j) * sign(even(u32::from(w >> 9)), j);
        }
    }
}

/// As IQ2_XS, with all eight signs stored.
pub(crate) fn decode_iq2_s(b: &BlockIq2S, y: &mut [f32]) {
    let d = half(b.d);
    for (r, y) in y.chunks_exact_mut(8).enumerate() {
        let (g, l) = (r / 4, r % 4);
        let index = usize::from(b.q[r]) | usize::from(b.h[g] >> (2 * l) & 3) << 8;
        let db = d * (0.5 + f32::from(nibble_at(&b.s, r / 2))) * 0.25;
        let entry = books::IQ2_S.wide[index].to_le_bytes();
        for (j, y) in y.iter_mut().enumerate() {
            *y = db * level(&IQ2_LEVELS, &entry, j) * sign(b.signs[r], j);
        }
    }
}

/// `y = db * magnitude * sign`, `db = d * (0.5 + scale) * 0.5`, groups of 32.
pub(crate) fn decode_iq3_xxs(b: &BlockIq3Xxs, y: &mut [f32]) {
    let d = half(b.d);
    for (k, y) in y.chunks_exact_mut(4).enumerate() {
        let (g, l) = (k / 8, k % 8 / 2);
        let w = u32_at(&b.w, g);
        let db = d * (0.5 + (w >> 28) as f32) * 0.5;
        let entry = books::IQ3_XXS.wide[usize::from(b.q[k])].to_le_bytes();
        let signs = even(w >> (7 * l)) >> (k % 2 * 4);
        for (j, y) in y.iter_mut().enumerate() {
            *y = db * level(&IQ3_XXS_LEVELS, &entry, j) * sign(signs, j);
        }
    }
}

/// `y = db * magnitude * sign`, `db = d * (1 + 2 * scale)`, groups of 32.
pub(crate) fn decode_iq3_s(b: &BlockIq3S, y: &mut [f32]) {
    let d = half(b.d);
    for (k, y) in y.chunks_exact_mut(4).enumerate() {
        let g = k / 8;
        let index = usize::from(b.q[k]) | usize::from(b.h[g] >> (k % 8) & 1) << 8;
        let db = d * f32::from(1 + 2 * nibble_at(&b.s, g));
        let entry = books::IQ3_S.wide[index].to_le_bytes();
        let signs = b.signs[k / 2] >> (k % 2 * 4);
        for (j, y) in y.iter_mut().enumerate() {
            *y = db * level(&IQ3_S_LEVELS, &entry, j) * sign(signs, j);
        }
    }
}

/// One run of the IQ1 types: `y = dl * (value + delta)`, `dl = d * (2 * scale + 1)`.
fn decode_iq1(d: f32, scale: u16, index: usize, down: bool, y: &mut [f32]) {
    let dl = d * f32::from(2 * scale + 1);
    let delta = if down { -0.125 } else { 0.125 };
    let entry = books::IQ1.wide[index].to_le_bytes();
    for (y, level) in y.iter_mut().zip(entry) {
        *y = dl * ((f32::from(level) - 1.0) + delta);
    }
}

/// Groups of 32 share scale and shift.
pub(crate) fn decode_iq1_s(b: &BlockIq1S, y: &mut [f32]) {
    let d = half(b.d);
    for (r, y) in y.chunks_exact_mut(8).enumerate() {
        let w = u16_at(&b.h, r / 4);
        let index = usize::from(b.q[r]) | usize::from(w >> (r % 4 * 3) & 7) << 8;
        decode_iq1(d, w >> 12 & 7, index, w >> 15 == 1, y);
    }
}

/// Two runs share a scale, each has its own shift.
pub(crate) fn decode_iq1_m(b: &BlockIq1M, y: &mut [f32]) {
    let words: [u16; 4] = std::array::from_fn(|i| u16_at(&b.s, i));
    let d = half(half_iq1_m(u64::from_le_bytes(b.s)).to_le_bytes());
    for (r, y) in y.chunks_exact_mut(8).enumerate() {
        let n = nibble_at(&b.h, r);
        let index = usize::from(b.q[r]) | usize::from(n & 7) << 8;
        let scale = words[r / 8] >> (r / 2 % 4 * 3) & 7;
        decode_iq1(d, scale, index, n & 8 != 0, y);
    }
}

/// The float16 in the top nibbles of the four 16-bit numbers of an IQ1_M block.
#[inline(always)]
fn half_iq1_m(s: u64) -> u16 {
    (s >> 12 & 0x000f | s >> 24 & 0x00f0 | s >> 36 & 0x0f00 | s >> 48 & 0xf000) as u16
}

// ---- kernels ------------------------------------------------------------------------------------
//
// Plain loops over words that compilers turn into vectors of the row's width. No `map` or `from_fn`
// of arrays: those are not always inlined, and then compiled without the row's instructions.

/// `2 n + 1` for eight nibbles n, a byte each.
#[inline(always)]
fn odd(nibbles: u64) -> u64 {
    (nibbles << 1) + 0x0101_0101_0101_0101
}

/// Sixteen scales `d * (2 n + 1)` of nibbles n, low ones first.
#[inline(always)]
unsafe fn scales_16<S: Simd>(s: u64, d: f32, head: &mut Head) {
    for (i, half) in [s as u32, (s >> 32) as u32].into_iter().enumerate() {
        S::scale_u8(odd(spread_nibbles(half)), d, head.d.as_mut_ptr().add(8 * i));
    }
}

/// Eight scales `d * (2 n + 1)` of the top nibbles n of 32-bit numbers.
#[inline(always)]
unsafe fn scales_top<S: Simd>(w: &[u32; 8], d: f32, head: &mut Head) {
    let mut n = 0;
    for g in 0..8 {
        n |= u64::from(w[g] >> 28) << (8 * g);
    }
    S::scale_u8(odd(n), d, head.d.as_mut_ptr());
}

/// Nibble `i` as byte `i`.
#[inline(always)]
fn spread_nibbles(x: u32) -> u64 {
    let x = u64::from(x);
    let x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    let x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f
}

/// Unpacker of IQ2_XXS.
pub(crate) struct Iq2Xxs;

impl Span for Iq2Xxs {
    const BLOCK: usize = 256;
    const BYTES: usize = 66;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 64;
    const MAX: u8 = 107;

    #[inline(always)]
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head) {
        let mut index = [0; 8];
        let mut w = [0; 8];
        for g in 0..8 {
            let group = word(p.add(2 + 8 * g));
            index[g] = widened(p.add(2 + 8 * g));
            w[g] = (group >> 32) as u32;
        }
        S::points8(&books::IQ2_XXS, &index, &S::signs_28(&w), &IQ2_CODES, codes);
        scales_top::<S>(&w, read_half::<S>(p) * 0.125, head);
    }
}

/// Unpacker of IQ2_XS.
pub(crate) struct Iq2Xs;

impl Span for Iq2Xs {
    const BLOCK: usize = 256;
    const BYTES: usize = 74;
    const GROUP: usize = 16;
    const MINS: bool = false;
    const OFFSET: u8 = 64;
    const MAX: u8 = 107;

    #[inline(always)]
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head) {
        let mut words = [0; 8];
        for g in 0..8 {
            words[g] = word(p.add(2 + 8 * g));
        }
        // the book takes as many low bits as it has
        S::points8(&books::IQ2_XS, &words, &S::signs_16(&words), &IQ2_CODES, codes);
        scales_16::<S>(word(p.add(66)), read_half::<S>(p) * 0.125, head);
    }
}

/// Unpacker of IQ2_S.
pub(crate) struct Iq2S;

impl Span for Iq2S {
    const BLOCK: usize = 256;
    const BYTES: usize = 82;
    const GROUP: usize = 16;
    const MINS: bool = false;
    const OFFSET: u8 = 64;
    const MAX: u8 = 107;

    #[inline(always)]
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head) {
        let index = S::indices(p.add(2), p.add(66), 1, 2);
        let signs = p.add(34).cast::<[u8; 32]>().read_unaligned();
        S::points8(&books::IQ2_S, &index, &signs, &IQ2_CODES, codes);
        scales_16::<S>(word(p.add(74)), read_half::<S>(p) * 0.125, head);
    }
}

/// Unpacker of IQ3_XXS.
pub(crate) struct Iq3Xxs;

impl Span for Iq3Xxs {
    const BLOCK: usize = 256;
    const BYTES: usize = 98;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 64;
    const MAX: u8 = 126;

    #[inline(always)]
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head) {
        let mut index = [0; 16];
        for i in 0..16 {
            index[i] = widened(p.add(2 + 4 * i));
        }
        let mut w = [0; 8];
        for g in 0..8 {
            w[g] = short_word(p.add(66 + 4 * g));
        }
        S::points4(&books::IQ3_XXS, &index, &S::signs_28(&w), &IQ3_XXS_CODES, codes);
        scales_top::<S>(&w, read_half::<S>(p) * 0.25, head);
    }
}

/// Unpacker of IQ3_S.
pub(crate) struct Iq3S;

impl Span for Iq3S {
    const BLOCK: usize = 256;
    const BYTES: usize = 110;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 16;
    const MAX: u8 = 31;

    #[inline(always)]
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head) {
        let mut index = [0; 16];
        let high = word(p.add(66));
        for i in 0..16 {
            index[i] = widened(p.add(2 + 4 * i)) | upper(high >> (4 * i) & 15, 1);
        }
        let signs = p.add(74).cast::<[u8; 32]>().read_unaligned();
        S::points4(&books::IQ3_S, &index, &signs, &IQ3_S_CODES, codes);
        let scales = odd(spread_nibbles(short_word(p.add(106))));
        S::scale_u8(scales, read_half::<S>(p), head.d.as_mut_ptr());
    }
}

/// Unpacker of IQ1_S: codes are eight times the values with their shift, with an eighth of the scale.
pub(crate) struct Iq1S;

impl Span for Iq1S {
    const BLOCK: usize = 256;
    const BYTES: usize = 50;
    const GROUP: usize = 32;
    const MINS: bool = false;
    const OFFSET: u8 = 16;
    const MAX: u8 = 25;

    #[inline(always)]
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head) {
        let index = S::indices(p.add(2), p.add(34), 2, 3);
        let mut down = [0; 32];
        for g in 0..8 {
            let sign = *p.add(35 + 2 * g) as i8 >> 7;
            down[4 * g..4 * g + 4].fill(sign as u8);
        }
        S::points8(&books::IQ1, &index, &down, &IQ1_CODES, codes);
        // bits 4 to 6 of every other byte, from two words, twice and one more
        let odd_bytes = 0x00ff_00ff_00ff_00ff;
        let first = narrowed(word(p.add(34)) >> 8 & odd_bytes);
        let last = narrowed(word(p.add(42)) >> 8 & odd_bytes);
        let n = (u64::from(first) | u64::from(last) << 32) >> 4 & 0x0707_0707_0707_0707;
        S::scale_u8(odd(n), read_half::<S>(p) * 0.125, head.d.as_mut_ptr());
    }
}

/// Unpacker of IQ1_M, codes as of IQ1_S.
pub(crate) struct Iq1M;

impl Span for Iq1M {
    const BLOCK: usize = 256;
    const BYTES: usize = 56;
    const GROUP: usize = 16;
    const MINS: bool = false;
    const OFFSET: u8 = 16;
    const MAX: u8 = 25;

    #[inline(always)]
    unsafe fn expand<S: Simd>(p: *const u8, codes: *mut u8, head: &mut Head) {
        // a nibble for each run: three bits of index, then the shift's sign
        let index = S::indices(p, p.add(32), 2, 4);
        S::points8(&books::IQ1, &index, &S::twelfths(&index), &IQ1_CODES, codes);
        let s = word(p.add(48));
        let d = S::half(half_iq1_m(s)) * 0.125;
        for i in 0..2 {
            // two 16-bit numbers of four scales each: spread them as 16 bits to a byte
            let s = s >> (32 * i);
            let s = (s & 0x0fff) | (s & 0x0fff_0000) << 16;
            let s = (s | s << 10) & 0x003f_003f_003f_003f;
            let s = (s | s << 5) & 0x0707_0707_0707_0707;
            S::scale_u8(odd(s), d, head.d.as_mut_ptr().add(8 * i));
        }
    }
}
