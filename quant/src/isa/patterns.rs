//! The storage patterns in plain Rust, one value at a time: the definition that the vector rows'
//! own versions are tested against, and the fallback of rows that have none.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "one contract: `p` is valid for the whole span that the pattern addresses"
)]

use super::{MAX_Q, Simd};

/// Collects vector `v` of a span from a function of the value's index in the span.
///
/// # Safety
/// That of [`Simd::load_q`]; the buffer holds the widest vector.
#[inline(always)]
pub(crate) unsafe fn gather<S: Simd>(v: usize, value: impl Fn(usize) -> u8) -> S::Q {
    let mut bytes = [0u8; MAX_Q];
    let n = 4 * S::LANES;
    for (j, byte) in bytes[..n].iter_mut().enumerate() {
        *byte = value(n * v + j);
    }
    S::load_q(bytes.as_ptr())
}

/// Low nibble for `high == false`, else the high one.
fn pick(byte: u8, high: bool) -> u8 {
    if high { byte >> 4 } else { byte & 15 }
}

/// See [`Simd::nibbles`].
#[inline(always)]
pub(crate) unsafe fn nibble(p: *const u8, stride: usize, i: usize) -> u8 {
    pick(*p.add(i / 32 * stride + i % 16), i % 32 >= 16)
}

/// See [`Simd::bits`].
#[inline(always)]
pub(crate) unsafe fn bit(p: *const u8, stride: usize, i: usize) -> u8 {
    *p.add(i / 32 * stride + i % 32 / 8) >> (i % 8) & 1
}

/// See [`Simd::nibbles_8`].
#[inline(always)]
pub(crate) unsafe fn nibble_8(p: *const u8, stride: usize, i: usize) -> u8 {
    pick(*p.add(i / 64 * stride + i % 64 / 16 * 8 + i % 8), i % 16 >= 8)
}

/// See [`Simd::quarters`].
#[inline(always)]
pub(crate) unsafe fn quarter(p: *const u8, stride: usize, i: usize) -> u8 {
    *p.add(i / 64 * stride + i % 64 / 4) >> (i % 4 * 2) & 3
}

/// See [`Simd::nibbles_32`].
#[inline(always)]
pub(crate) unsafe fn nibble_32(p: *const u8, i: usize) -> u8 {
    pick(*p.add(i / 64 * 32 + i % 32), i % 64 >= 32)
}

/// See [`Simd::nibbles_64`].
#[inline(always)]
pub(crate) unsafe fn nibble_64(p: *const u8, i: usize) -> u8 {
    pick(*p.add(i / 128 * 64 + i % 64), i % 128 >= 64)
}

/// See [`Simd::two_bits`].
#[inline(always)]
pub(crate) unsafe fn two_bit(p: *const u8, i: usize) -> u8 {
    *p.add(i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3
}

/// See [`Simd::one_bit`].
#[inline(always)]
pub(crate) unsafe fn one_bit(p: *const u8, i: usize) -> u8 {
    *p.add(i % 32) >> (i / 32) & 1
}

/// See [`Simd::thirds`], without the 7.
#[inline(always)]
pub(crate) unsafe fn third(p: *const u8, i: usize) -> u8 {
    let (byte, n) = match i {
        0..160 => (i % 32, i / 32),
        160..240 => (32 + i % 16, (i - 160) / 16),
        _ => (48 + i % 4, (i - 240) / 4),
    };
    // bytes are fractions of 256: three times one passes 256 from 86 on, and 512 from 171 on
    let rest = (*p.add(byte)).wrapping_mul([1, 3, 9, 27, 81][n]);
    u8::from(rest > 85) + u8::from(rest > 170)
}

/// Looks up the levels of a span at `codes`, 8 added where the flag is set, in place.
#[inline(always)]
pub(crate) unsafe fn flagged<S: Simd>(flags: &[u8; 32], table: &'static [u8; 16], codes: *mut u8) {
    for v in 0..256 / (4 * S::LANES) {
        let at = codes.add(4 * S::LANES * v);
        let q = S::or(S::load_q(at), S::bits(flags.as_ptr(), 4, v, 8));
        S::store_q(at, S::lookup(table, q));
    }
}

/// Four bytes as four 16-bit numbers.
///
/// # Safety
/// `p` is valid for 4 bytes.
#[inline(always)]
pub(crate) unsafe fn widened(p: *const u8) -> u64 {
    let x = u64::from(u32::from_le_bytes(p.cast::<[u8; 4]>().read_unaligned()));
    let x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    (x | x << 8) & 0x00ff_00ff_00ff_00ff
}

/// Four 16-bit numbers below 256 as four bytes.
#[inline(always)]
pub(crate) fn narrowed(x: u64) -> u32 {
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// The upper bits of four indices, as 16-bit numbers: fields of `bits` bits, the first the lowest.
#[inline(always)]
pub(crate) fn upper(fields: u64, bits: u32) -> u64 {
    let step = 16 - bits;
    let spread = fields | fields << step | fields << (2 * step) | fields << (3 * step);
    (spread & (0x0001_0001_0001_0001 * ((1 << bits) - 1))) << 8
}

/// Bytes (or wider numbers) of seven bits with the eighth that makes the number of set bits even.
macro_rules! evened {
    ($x:expr, $ones:expr) => {{
        let x = $x;
        let p = x ^ x >> 4;
        let p = p ^ p >> 2;
        let p = p ^ p >> 1;
        x | (p & $ones) << 7
    }};
}

/// Four sign bytes from the four 7-bit indices in the low 28 bits.
#[inline(always)]
pub(crate) fn signs_28(w: u32) -> u32 {
    let bytes = w & 0x7f | (w & 0x3f80) << 1 | (w & 0x1f_c000) << 2 | (w & 0x0fe0_0000) << 3;
    evened!(bytes, 0x0101_0101)
}

/// Four sign bytes from the 7-bit indices at the top of four 16-bit numbers.
#[inline(always)]
pub(crate) fn signs_16(x: u64) -> u32 {
    narrowed(evened!(x >> 9 & 0x007f_007f_007f_007f, 0x0001_0001_0001_0001))
}

/// Expands the mins of a span to one per group of 16.
///
/// # Safety
/// `m` is valid for 8 floats (`group` 32) or 16 (`group` 16).
#[inline(always)]
pub(crate) unsafe fn mins_16(m: *const f32, group: usize) -> [f32; 16] {
    let mut all = [0f32; 16];
    for (i, x) in all.iter_mut().enumerate() {
        *x = *m.add(i * 16 / group);
    }
    all
}
