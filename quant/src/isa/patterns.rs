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
