//! The stored layouts of the tensor types, as plain-data structs, and the one checked cast
//! from file bytes to them.
//!
//! Every field is a byte or an array of bytes, so a block has alignment 1 and any byte string of
//! the right length is a valid value; half-precision numbers are kept as their two bytes and read
//! with [`half()`]. The size assertions at the end tie each struct to the published type table.

use bytemuck::{Pod, Zeroable};
use formats::TensorType;

use crate::Error;

macro_rules! blocks {
    ($($(#[$doc:meta])* $name:ident [$bytes:literal bytes, $len:literal values, $ty:ident] {
        $($(#[$fdoc:meta])* $field:ident: $t:ty),* $(,)?
    })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Pod, Zeroable)]
        pub struct $name { $($(#[$fdoc])* pub $field: $t),* }
        const _: () = assert!(size_of::<$name>() == $bytes && align_of::<$name>() == 1);
        impl Block for $name {
            const LEN: usize = $len;
            const TYPE: TensorType = TensorType::$ty;
        }
    )*};
}

/// A stored block: plain bytes that decode to [`Block::LEN`] values.
pub trait Block: Pod {
    /// Values per block.
    const LEN: usize;
    /// The tensor type that stores such blocks.
    const TYPE: TensorType;
}

blocks! {
    /// 32 values: `(nibble - 8) * d`.
    BlockQ4_0 [18 bytes, 32 values, Q4_0] {
        /// Scale, float16.
        d: [u8; 2],
        /// Low nibbles are values 0..16, high nibbles 16..32.
        q: [u8; 16],
    }
    /// 32 values: `nibble * d + m`.
    BlockQ4_1 [20 bytes, 32 values, Q4_1] {
        /// Scale, float16.
        d: [u8; 2],
        /// Offset, float16.
        m: [u8; 2],
        /// Low nibbles are values 0..16, high nibbles 16..32.
        q: [u8; 16],
    }
    /// 32 values: `(5 bits - 16) * d`.
    BlockQ5_0 [22 bytes, 32 values, Q5_0] {
        /// Scale, float16.
        d: [u8; 2],
        /// Bit `j` is the fifth bit of value `j`.
        h: [u8; 4],
        /// Low nibbles are values 0..16, high nibbles 16..32.
        q: [u8; 16],
    }
    /// 32 values: `5 bits * d + m`.
    BlockQ5_1 [24 bytes, 32 values, Q5_1] {
        /// Scale, float16.
        d: [u8; 2],
        /// Offset, float16.
        m: [u8; 2],
        /// Bit `j` is the fifth bit of value `j`.
        h: [u8; 4],
        /// Low nibbles are values 0..16, high nibbles 16..32.
        q: [u8; 16],
    }
    /// 32 values: signed byte times `d`.
    BlockQ8_0 [34 bytes, 32 values, Q8_0] {
        /// Scale, float16.
        d: [u8; 2],
        /// Signed bytes, in order.
        q: [u8; 32],
    }
    /// 32 values: sixteen levels from a table times `d`.
    BlockIq4Nl [18 bytes, 32 values, IQ4NL] {
        /// Scale, float16.
        d: [u8; 2],
        /// Low nibbles are values 0..16, high nibbles 16..32.
        q: [u8; 16],
    }
    /// 32 values: E2M1 levels times a power of two.
    BlockMxfp4 [17 bytes, 32 values, MXFP4] {
        /// Exponent: the scale of the doubled levels is `2^(e - 128)`.
        e: u8,
        /// Low nibbles are values 0..16, high nibbles 16..32.
        q: [u8; 16],
    }
    /// 256 values in 16 groups: `d * scale * code - m * min`, 2-bit codes.
    BlockQ2K [84 bytes, 256 values, Q2K] {
        /// Per group of 16: low nibble scale, high nibble min.
        s: [u8; 16],
        /// Codes in the 2-bit order.
        q: [u8; 64],
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Scale of the mins, float16.
        m: [u8; 2],
    }
    /// 256 values in 16 groups: `d * (scale - 32) * code`, codes -4..=3.
    BlockQ3K [110 bytes, 256 values, Q3K] {
        /// Bit `k` of byte `l`: 4 is not subtracted from value `32k + l`.
        h: [u8; 32],
        /// Low two bits of the codes, in the 2-bit order.
        q: [u8; 64],
        /// Sixteen packed 6-bit scales.
        s: [u8; 12],
        /// Scale of the scales, float16.
        d: [u8; 2],
    }
    /// 256 values in 8 groups: `d * scale * code - m * min`, 4-bit codes.
    BlockQ4K [144 bytes, 256 values, Q4K] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Scale of the mins, float16.
        m: [u8; 2],
        /// Eight packed 6-bit scales and eight packed 6-bit mins.
        s: [u8; 12],
        /// Chunks of 32 bytes: low nibbles group `2c`, high nibbles group `2c + 1`.
        q: [u8; 128],
    }
    /// 256 values in 8 groups: `d * scale * code - m * min`, 5-bit codes.
    BlockQ5K [176 bytes, 256 values, Q5K] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Scale of the mins, float16.
        m: [u8; 2],
        /// Eight packed 6-bit scales and eight packed 6-bit mins.
        s: [u8; 12],
        /// Bit `g` of byte `l` is the fifth bit of value `l` of group `g`.
        h: [u8; 32],
        /// Chunks of 32 bytes: low nibbles group `2c`, high nibbles group `2c + 1`.
        q: [u8; 128],
    }
    /// 256 values in 16 groups: `d * scale * (code - 32)`, 6-bit codes.
    BlockQ6K [210 bytes, 256 values, Q6K] {
        /// Low nibbles of the codes, two halves of 64 bytes.
        q: [u8; 128],
        /// Upper two bits of the codes, in the 2-bit order.
        h: [u8; 64],
        /// Signed scales, one per group.
        s: [u8; 16],
        /// Scale of the scales, float16.
        d: [u8; 2],
    }
    /// 256 values in 8 groups: `d * (scale - 32)` times one of sixteen levels.
    BlockIq4Xs [136 bytes, 256 values, IQ4XS] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Bits `2 g` and up: the upper two bits of scale `g`.
        h: [u8; 2],
        /// Low four bits of the scales, a nibble each.
        s: [u8; 4],
        /// Per group 16 bytes: low nibbles are values 0..16, high nibbles 16..32.
        q: [u8; 128],
    }
    /// 256 values in 8 groups of 4 runs of 8: points of a book of 256, signs, a scale.
    BlockIq2Xxs [66 bytes, 256 values, IQ2XXS] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Per group 8 bytes: four indices, then a 32-bit number of four 7-bit signs and a scale.
        q: [u8; 64],
    }
    /// 256 values in 32 runs of 8: points of a book of 512, signs; a scale per 16 values.
    BlockIq2Xs [74 bytes, 256 values, IQ2XS] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Per run a 16-bit number: 9 bits of index, 7 of signs.
        q: [u8; 64],
        /// Scales, a nibble each.
        s: [u8; 8],
    }
    /// 256 values in 32 runs of 8: points of a book of 1,024, signs; a scale per 16 values.
    BlockIq2S [82 bytes, 256 values, IQ2S] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Low eight bits of the indices.
        q: [u8; 32],
        /// Bit `j` of byte `r`: value `j` of run `r` is negative.
        signs: [u8; 32],
        /// Upper two bits of the indices.
        h: [u8; 8],
        /// Scales, a nibble each.
        s: [u8; 8],
    }
    /// 256 values in 64 fours: points of a book of 256; signs and a scale per group of 32.
    BlockIq3Xxs [98 bytes, 256 values, IQ3XXS] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Indices.
        q: [u8; 64],
        /// Per group a 32-bit number of four 7-bit signs and a scale.
        w: [u8; 32],
    }
    /// 256 values in 64 fours: points of a book of 512, signs; a scale per group of 32.
    BlockIq3S [110 bytes, 256 values, IQ3S] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Low eight bits of the indices.
        q: [u8; 64],
        /// Bit `k` of byte `g`: the ninth bit of index `8 g + k`.
        h: [u8; 8],
        /// Bit `j` of byte `r`: value `j` of run `r` is negative.
        signs: [u8; 32],
        /// Scales, a nibble each.
        s: [u8; 4],
    }
    /// 256 values in 32 runs of 8: points of a book of 2,048; a scale and a shift per group of 32.
    BlockIq1S [50 bytes, 256 values, IQ1S] {
        /// Scale of the scales, float16.
        d: [u8; 2],
        /// Low eight bits of the indices.
        q: [u8; 32],
        /// Per group a 16-bit number: four times 3 bits of index, 3 of scale, the shift's sign.
        h: [u8; 16],
    }
    /// 256 values in 32 runs of 8: points of a book of 2,048; a shift per run, a scale per 16 values.
    BlockIq1M [56 bytes, 256 values, IQ1M] {
        /// Low eight bits of the indices.
        q: [u8; 32],
        /// Per run a nibble: 3 bits of index, the shift's sign.
        h: [u8; 16],
        /// Four 16-bit numbers: 12 bits are four scales, the upper 4 a part of the float16 scale.
        s: [u8; 8],
    }
    /// 256 ternary values, five to a byte.
    BlockTq1_0 [54 bytes, 256 values, TQ1_0] {
        /// 240 values, as fractions in base three.
        q: [u8; 48],
        /// The last 16 values.
        h: [u8; 4],
        /// Scale, float16.
        d: [u8; 2],
    }
    /// 256 ternary values, four to a byte: `(code - 1) * d`.
    BlockTq2_0 [66 bytes, 256 values, TQ2_0] {
        /// Codes in the 2-bit order.
        q: [u8; 64],
        /// Scale, float16.
        d: [u8; 2],
    }
    /// 64 values in 4 groups of 16: E2M1 levels times a small float.
    BlockNvfp4 [36 bytes, 64 values, NVFP4] {
        /// Scales: unsigned E4M3, one per group.
        s: [u8; 4],
        /// Per group 8 bytes: low nibbles are values 0..8, high nibbles 8..16.
        q: [u8; 32],
    }
    /// 128 values, a bit each: `d` or `-d`.
    BlockQ1_0 [18 bytes, 128 values, Q1_0] {
        /// Scale, float16.
        d: [u8; 2],
        /// Bits in order; 1 is positive.
        q: [u8; 16],
    }
    /// 64 values: `(code - 1) * d`, 2-bit codes.
    BlockQ2_0 [18 bytes, 64 values, Q2_0] {
        /// Scale, float16.
        d: [u8; 2],
        /// Codes in order, four to a byte.
        q: [u8; 16],
    }
}

/// Views `src` as whole blocks; `None` when the length is no multiple of the block's bytes.
///
/// Safe because a [`Block`] is plain data of alignment 1.
pub fn cast<B: Block>(src: &[u8]) -> Option<&[B]> {
    bytemuck::try_cast_slice(src).ok()
}

/// [`cast`] for a decode of `n` values.
///
/// # Errors
/// When `n` is no multiple of the block or `src` does not hold exactly the blocks of `n` values.
pub fn cast_exact<B: Block>(src: &[u8], n: usize) -> Result<&[B], Error> {
    if !n.is_multiple_of(B::LEN) {
        return Err(Error::BlockMultiple { ty: B::TYPE, n, block: B::LEN });
    }
    let expected = n / B::LEN * size_of::<B>();
    match cast::<B>(src) {
        Some(blocks) if src.len() == expected => Ok(blocks),
        _ => Err(Error::BlockBytes { ty: B::TYPE, n, expected, found: src.len() }),
    }
}

/// The float32 value of a stored float16, subnormals included; bit for bit the same everywhere.
pub fn half(bytes: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(bytes).to_f32_const()
}
