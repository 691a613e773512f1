//! The tensor types, a file per family: the decoder (scalar, the oracle) and the unpacker that the
//! kernels use. What a type is to the rest of the crate is one line in `table.rs`.
//!
//! Decoders follow the published order of operations with one rounding each and no fused
//! operation, so they agree to the bit with every other correct implementation. Unpackers are
//! generic over the instruction set: they only name storage patterns (see [`Simd`]).
//!
//! [`Simd`]: crate::isa::Simd

pub(crate) mod fp;
pub(crate) mod iq;
pub(crate) mod k;
pub(crate) mod q4;
pub(crate) mod q8;
pub(crate) mod random;

/// The `i`-th code of a block of 32 with low nibbles first.
pub(crate) fn nibble(q: &[u8; 16], i: usize) -> u8 {
    if i < 16 { q[i] & 15 } else { q[i - 16] >> 4 }
}
