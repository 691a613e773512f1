//! Element types of the key/value cache: how one head's row of one position is stored.

use crate::vector::{Q4_BYTES, Q8_BYTES, Q8_LEN};
use crate::{Error, Vector};
use std::fmt;
use std::str::FromStr;

/// How keys or values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvType {
    /// As computed.
    F32,
    /// Half precision, clamped to +-65504.
    #[default]
    F16,
    /// The range of f32 with 8 bits of precision.
    BF16,
    /// Blocks of 32: an f16 scale and 32 signed bytes; a shorter last block is padded with zeros.
    Q8_0,
    /// Blocks of 32: an f16 scale and 32 codes of 4 bits; padded as Q8_0.
    Q4_0,
}

impl KvType {
    /// All of them.
    pub const ALL: [KvType; 5] =
        [KvType::F32, KvType::F16, KvType::BF16, KvType::Q8_0, KvType::Q4_0];

    /// The name that flags take and messages show.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::BF16 => "bf16",
            KvType::Q8_0 => "q8_0",
            KvType::Q4_0 => "q4_0",
        }
    }

    /// Bytes of a row of `head_dim` elements.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            KvType::F32 => 4 * head_dim,
            KvType::F16 | KvType::BF16 => 2 * head_dim,
            KvType::Q8_0 => head_dim.div_ceil(Q8_LEN) * Q8_BYTES,
            KvType::Q4_0 => head_dim.div_ceil(Q8_LEN) * Q4_BYTES,
        }
    }

    /// Stores one row: `src` is `[head_dim]`, `dst` [`KvType::row_bytes`] long.
    ///
    /// # Panics
    /// If the lengths do not fit, or `dst` is not aligned to 4 bytes (F32) or 2 (F16, BF16).
    pub fn encode(self, vector: Vector, src: &[f32], dst: &mut [u8]) {
        match self {
            KvType::F32 => vector.copy(src, bytemuck::cast_slice_mut(dst)),
            KvType::F16 => vector.f32_to_f16(src, bytemuck::cast_slice_mut(dst)),
            KvType::BF16 => vector.f32_to_bf16(src, bytemuck::cast_slice_mut(dst)),
            KvType::Q8_0 => vector.f32_to_q8_0(src, dst),
            KvType::Q4_0 => vector.f32_to_q4_0(src, dst),
        }
    }

    /// Reads one row back: `src` is [`KvType::row_bytes`] long, `dst` `[head_dim]`.
    ///
    /// # Panics
    /// As [`KvType::encode`].
    pub fn decode(self, vector: Vector, src: &[u8], dst: &mut [f32]) {
        match self {
            KvType::F32 => vector.copy(bytemuck::cast_slice(src), dst),
            KvType::F16 => vector.f16_to_f32(bytemuck::cast_slice(src), dst),
            KvType::BF16 => vector.bf16_to_f32(bytemuck::cast_slice(src), dst),
            KvType::Q8_0 => vector.q8_0_to_f32(src, dst),
            KvType::Q4_0 => vector.q4_0_to_f32(src, dst),
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KvType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = KvType::ALL.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::UnknownKvType {
            name: name.to_owned(),
            known: KvType::ALL.map(KvType::name).join(" "),
        })
    }
}
