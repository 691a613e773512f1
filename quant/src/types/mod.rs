//! The tensor types, a file per family: the decoder (scalar, the oracle) and the unpacker that the
//! kernels use. What a type is to the rest of the crate is one line in `table.rs`.
//!
//! Decoders follow the published order of operations with one rounding each and no fused
//! operation, so they agree to the bit with every other correct implementation. Unpackers are
//! generic over the instruction set: they only name storage patterns (see [`Simd`]).
//!
//! [`Simd`]: crate::isa::Simd

#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Unpack` covers every body")]

pub(crate) mod books;
pub(crate) mod fp;
pub(crate) mod grid;
pub(crate) mod iq;
pub(crate) mod k;
pub(crate) mod q4;
pub(crate) mod q8;
pub(crate) mod random;
pub(crate) mod small;

use crate::isa::Simd;

/// The `i`-th code of a block of 32 with low nibbles first.
pub(crate) fn nibble(q: &[u8; 16], i: usize) -> u8 {
    if i < 16 { q[i] & 15 } else { q[i - 16] >> 4 }
}

/// Bytes below 64 minus 32, as signed bytes.
#[inline(always)]
fn less_32(x: u64) -> u64 {
    // borrows stay inside the bytes: set the top bits, take off, flip them
    ((x | 0x8080_8080_8080_8080) - 0x2020_2020_2020_2020) ^ 0x8080_8080_8080_8080
}

/// # Safety
/// `p` is valid for 8 bytes.
#[inline(always)]
unsafe fn word(p: *const u8) -> u64 {
    u64::from_le_bytes(p.cast::<[u8; 8]>().read_unaligned())
}

/// # Safety
/// `p` is valid for 4 bytes.
#[inline(always)]
unsafe fn short_word(p: *const u8) -> u32 {
    u32::from_le_bytes(p.cast::<[u8; 4]>().read_unaligned())
}

/// The float16 at `p`.
///
/// # Safety
/// `p` is valid for 2 bytes, plus the contract of [`Simd`].
#[inline(always)]
unsafe fn read_half<S: Simd>(p: *const u8) -> f32 {
    S::half(u16::from_le_bytes(p.cast::<[u8; 2]>().read_unaligned()))
}
