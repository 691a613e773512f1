//! Conversions of slices: f16, bf16, and blocks of 8 or 4 bits. The same bits on every instruction set.

use super::{Vector, run, same_len};
use half::{bf16, f16};
use pulp::Simd;

/// Elements of a Q8_0 block.
pub(crate) const Q8_LEN: usize = 32;
/// Bytes of a Q8_0 block: an f16 scale and 32 signed bytes.
pub(crate) const Q8_BYTES: usize = 34;
/// Bytes of a Q4_0 block of 32 elements: an f16 scale and 16 bytes of two codes each.
pub(crate) const Q4_BYTES: usize = 18;

impl Vector {
    /// dst = src in f16: nearest even, magnitudes above 65504 (infinities too) clamped to it, so
    /// that an overflow never becomes an infinity; NaN stays NaN.
    pub fn f32_to_f16(self, src: &[f32], dst: &mut [f16]) {
        same_len(src.len(), dst.len());
        crate::isa::half::f32_to_f16(self.isa(), src, dst);
    }

    /// dst = src in f32, exactly.
    pub fn f16_to_f32(self, src: &[f16], dst: &mut [f32]) {
        same_len(src.len(), dst.len());
        crate::isa::half::f16_to_f32(self.isa(), src, dst);
    }

    /// dst = src in bf16: nearest even; NaN stays NaN. The range is that of f32, and finite values
    /// above 3.39e38 are clamped.
    pub fn f32_to_bf16(self, src: &[f32], dst: &mut [bf16]) {
        same_len(src.len(), dst.len());
        run!(self, to_bf16<'a>(src: &'a [f32], dst: &'a mut [bf16]));
    }

    /// dst = src in f32, exactly.
    pub fn bf16_to_f32(self, src: &[bf16], dst: &mut [f32]) {
        same_len(src.len(), dst.len());
        run!(self, from_bf16<'a>(src: &'a [bf16], dst: &'a mut [f32]));
    }

    /// Quantizes one row to Q8_0: per 32 elements an f16 scale d and 32 bytes q, x = d q. A row
    /// that is no multiple of 32 ends in a whole block padded with zeros: `dst` has
    /// ceil(n/32) * 34 bytes. A block with a NaN in it reads back as NaNs.
    pub fn f32_to_q8_0(self, src: &[f32], dst: &mut [u8]) {
        same_len(src.len().div_ceil(Q8_LEN) * Q8_BYTES, dst.len());
        run!(self, to_q8_0<'a>(src: &'a [f32], dst: &'a mut [u8]));
    }

    /// Reads back what [`Vector::f32_to_q8_0`] wrote; the padding is dropped.
    pub fn q8_0_to_f32(self, src: &[u8], dst: &mut [f32]) {
        same_len(dst.len().div_ceil(Q8_LEN) * Q8_BYTES, src.len());
        run!(self, from_q8_0<'a>(src: &'a [u8], dst: &'a mut [f32]));
    }

    /// Quantizes one row to Q4_0: per 32 elements an f16 scale d and 4-bit codes q, x = d (q - 8);
    /// element i of the first 16 is the low half of byte i, element 16 + i the high half. The
    /// element of largest magnitude becomes code 0, as in GGUF files. Rows that are no multiple of
    /// 32 and NaN as in [`Vector::f32_to_q8_0`]: `dst` has ceil(n/32) * 18 bytes.
    pub fn f32_to_q4_0(self, src: &[f32], dst: &mut [u8]) {
        same_len(src.len().div_ceil(Q8_LEN) * Q4_BYTES, dst.len());
        run!(self, to_q4_0<'a>(src: &'a [f32], dst: &'a mut [u8]));
    }

    /// Reads back what [`Vector::f32_to_q4_0`] wrote; the padding is dropped.
    pub fn q4_0_to_f32(self, src: &[u8], dst: &mut [f32]) {
        same_len(dst.len().div_ceil(Q8_LEN) * Q4_BYTES, src.len());
        run!(self, from_q4_0<'a>(src: &'a [u8], dst: &'a mut [f32]));
    }
}

// Plain loops without early exits: compiled once per instruction set, they vectorize.

#[inline(always)]
fn to_bf16<S: Simd>(_: S, src: &[f32], dst: &mut [bf16]) {
    const MAX: u32 = 0x7f7f; // largest finite bf16
    for (d, s) in dst.iter_mut().zip(src) {
        let bits = s.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let sign = bits >> 16 & 0x8000;
        let overflowed = rounded & 0x7fff > MAX;
        let finite = if overflowed { sign | MAX } else { rounded };
        let nan = bits >> 16 | 0x40;
        let is_finite = bits & 0x7f80_0000 != 0x7f80_0000;
        let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
        let other = if is_nan { nan } else { bits >> 16 };
        *d = bf16::from_bits(if is_finite { finite } else { other } as u16);
    }
}

#[inline(always)]
fn from_bf16<S: Simd>(_: S, src: &[bf16], dst: &mut [f32]) {
    for (d, s) in dst.iter_mut().zip(src) {
        *d = f32::from_bits(u32::from(s.to_bits()) << 16);
    }
}

#[inline(always)]
fn to_q8_0<S: Simd>(_: S, src: &[f32], dst: &mut [u8]) {
    for (x, block) in src.chunks(Q8_LEN).zip(dst.as_chunks_mut::<Q8_BYTES>().0) {
        let mut v = [0.0f32; Q8_LEN];
        v[..x.len()].copy_from_slice(x);
        // Magnitudes compared as integers order like floats, with NaN above everything.
        let max_bits = v.iter().fold(0, |m, x| u32::max(m, x.to_bits() & 0x7fff_ffff));
        let mut d = f32::from_bits(max_bits) / 127.0;
        if d > 65504.0 {
            d = 65504.0;
        }
        let d16 = f16::from_f32_const(d);
        // The scale as stored, not before rounding: the best integers for what is read back.
        let d = d16.to_f32_const();
        let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
        let (scale, q) = block.split_at_mut(2);
        scale.copy_from_slice(&d16.to_le_bytes());
        for (q, x) in q.iter_mut().zip(v) {
            // 1.5 * 2^23 rounds to the nearest integer, ties to even, in the low mantissa bits.
            let r = (x * inverse).clamp(-127.0, 127.0) + 12_582_912.0;
            *q = r.to_bits() as u8;
        }
    }
}

#[inline(always)]
fn from_q8_0<S: Simd>(_: S, src: &[u8], dst: &mut [f32]) {
    let (whole, tail) = dst.as_chunks_mut::<Q8_LEN>();
    let blocks = src.as_chunks::<Q8_BYTES>().0;
    for (x, block) in whole.iter_mut().zip(blocks) {
        *x = read_q8_0(block);
    }
    if let Some(block) = blocks.get(whole.len()) {
        tail.copy_from_slice(&read_q8_0(block)[..tail.len()]);
    }
}

#[inline(always)]
fn read_q8_0(block: &[u8; Q8_BYTES]) -> [f32; Q8_LEN] {
    let d = f16::from_le_bytes([block[0], block[1]]).to_f32_const();
    let mut x = [0.0; Q8_LEN];
    for i in 0..Q8_LEN {
        x[i] = d * f32::from(block[2 + i] as i8);
    }
    x
}

#[inline(always)]
fn to_q4_0<S: Simd>(_: S, src: &[f32], dst: &mut [u8]) {
    for (x, block) in src.chunks(Q8_LEN).zip(dst.as_chunks_mut::<Q4_BYTES>().0) {
        let mut v = [0.0f32; Q8_LEN];
        v[..x.len()].copy_from_slice(x);
        // Magnitudes as integers, NaN above everything, and the sign below them.
        let key = v.iter().fold(0, |m, x| u32::max(m, x.to_bits().rotate_left(1)));
        let d16 = f16::from_f32_const(
            (f32::from_bits(key.rotate_right(1)) / -8.0).clamp(-65504.0, 65504.0),
        );
        let d = d16.to_f32_const();
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let (scale, q) = block.split_at_mut(2);
        scale.copy_from_slice(&d16.to_le_bytes());
        let code =
            |x: f32| ((x * inverse + 8.0).clamp(0.0, 15.0) + 12_582_912.0).to_bits() as u8 & 15;
        for (i, q) in q.iter_mut().enumerate() {
            *q = code(v[i]) | code(v[i + 16]) << 4;
        }
    }
}

#[inline(always)]
fn from_q4_0<S: Simd>(_: S, src: &[u8], dst: &mut [f32]) {
    for (x, block) in dst.chunks_mut(Q8_LEN).zip(src.as_chunks::<Q4_BYTES>().0) {
        let d = f16::from_le_bytes([block[0], block[1]]).to_f32_const();
        for (i, x) in x.iter_mut().enumerate() {
            let code = block[2 + i % 16] >> (i / 16 * 4) & 15;
            *x = d * (f32::from(code) - 8.0);
        }
    }
}
