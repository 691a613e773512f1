//! Plain floats: F32, F16, BF16.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Weight` covers every body")]

use crate::float::Weight;
use crate::isa::Simd;

/// Little-endian floats as they are.
pub(crate) fn decode_f32(src: &[u8; 4]) -> f32 {
    f32::from_le_bytes(*src)
}

/// Half precision, subnormals included.
pub(crate) fn decode_f16(src: &[u8; 2]) -> f32 {
    crate::block::half(*src)
}

/// The upper half of a float32.
pub(crate) fn decode_bf16(src: &[u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(*src)) << 16)
}

/// float32 weights.
pub(crate) struct F32;

impl Weight for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        S::load(p.cast())
    }
}

/// float16 weights.
pub(crate) struct F16;

impl Weight for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        S::load_f16(p)
    }
}

/// bfloat16 weights.
pub(crate) struct Bf16;

impl Weight for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::F {
        S::load_bf16(p)
    }
}
