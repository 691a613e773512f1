//! The one thing that pulp's `Simd` lacks here: transposing a square block of registers.

use pulp::Simd;

/// A SIMD token that can transpose a block of as many rows as it has f32 lanes.
pub(crate) trait Lanes: Simd {
    /// `src` holds F32_LANES rows, `stride` floats apart, of which the first `4 * quads` columns
    /// (a multiple of 4) are read: column c becomes the register `dst[c * dst_stride]`, lane r
    /// from row r.
    fn transpose(
        self,
        src: &[f32],
        stride: usize,
        quads: usize,
        dst: &mut [Self::f32s],
        dst_stride: usize,
    );
}

/// The 4 floats from `at` on, as one load.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn quad(src: &[f32], at: usize) -> [f32; 4] {
    *src[at..].first_chunk().expect("4 columns of every row")
}

impl Lanes for pulp::Scalar {
    #[inline(always)]
    fn transpose(
        self,
        src: &[f32],
        _stride: usize,
        quads: usize,
        dst: &mut [f32],
        dst_stride: usize,
    ) {
        for (c, &x) in src[..4 * quads].iter().enumerate() {
            dst[c * dst_stride] = x;
        }
    }
}

/// Transposes 4x4 blocks within 128-bit lanes: register i of `a` holds, in lane k, 4 columns of
/// row 4k + i; register c of the result holds column c of all rows, in order.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! transpose_in_lanes {
    ($a:ident, $lo:path, $hi:path, $lo2:path, $hi2:path, $token:expr) => {{
        use pulp::cast;
        let (t0, t1) = (
            cast!($lo($token, $a[0], $a[1])),
            cast!($hi($token, $a[0], $a[1])),
        );
        let (t2, t3) = (
            cast!($lo($token, $a[2], $a[3])),
            cast!($hi($token, $a[2], $a[3])),
        );
        [
            cast!($lo2($token, t0, t2)),
            cast!($hi2($token, t0, t2)),
            cast!($lo2($token, t1, t3)),
            cast!($hi2($token, t1, t3)),
        ]
    }};
}

// No closures and no `map` below: what the compiler leaves out of line loses the instruction set.

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, quad};
    use core::arch::x86_64::{__m128, __m256, __m512};
    use pulp::cast;
    use pulp::core_arch::x86::{Avx, Avx512f};
    use pulp::x86::{V3, V4};

    /// 4 columns of rows i and i + 4.
    #[inline(always)]
    fn gather256(avx: Avx, src: &[f32], at: usize, stride: usize) -> __m256 {
        let (a, b): (__m128, __m128) = (cast!(quad(src, at)), cast!(quad(src, at + 4 * stride)));
        avx._mm256_insertf128_ps::<1>(avx._mm256_castps128_ps256(a), b)
    }

    impl Lanes for V3 {
        #[inline(always)]
        fn transpose(
            self,
            src: &[f32],
            stride: usize,
            quads: usize,
            dst: &mut [Self::f32s],
            dst_stride: usize,
        ) {
            for j in 0..quads {
                let a = [
                    gather256(self.avx, src, 4 * j, stride),
                    gather256(self.avx, src, 4 * j + stride, stride),
                    gather256(self.avx, src, 4 * j + 2 * stride, stride),
                    gather256(self.avx, src, 4 * j + 3 * stride, stride),
                ];
                let columns: [Self::f32s; 4] = transpose_in_lanes!(
                    a,
                    Avx::_mm256_unpacklo_ps,
                    Avx::_mm256_unpackhi_ps,
                    Avx::_mm256_unpacklo_pd,
                    Avx::_mm256_unpackhi_pd,
                    self.avx
                );
                for c in 0..4 {
                    dst[(4 * j + c) * dst_stride] = columns[c];
                }
            }
        }
    }

    /// 4 columns of rows i, i + 4, i + 8 and i + 12.
    #[inline(always)]
    fn gather512(avx: Avx512f, src: &[f32], at: usize, stride: usize) -> __m512 {
        let (a, b): (__m128, __m128) = (cast!(quad(src, at)), cast!(quad(src, at + 4 * stride)));
        let c: __m128 = cast!(quad(src, at + 8 * stride));
        let d: __m128 = cast!(quad(src, at + 12 * stride));
        let v = avx._mm512_insertf32x4::<1>(avx._mm512_castps128_ps512(a), b);
        avx._mm512_insertf32x4::<3>(avx._mm512_insertf32x4::<2>(v, c), d)
    }

    impl Lanes for V4 {
        #[inline(always)]
        fn transpose(
            self,
            src: &[f32],
            stride: usize,
            quads: usize,
            dst: &mut [Self::f32s],
            dst_stride: usize,
        ) {
            for j in 0..quads {
                let a = [
                    gather512(self.avx512f, src, 4 * j, stride),
                    gather512(self.avx512f, src, 4 * j + stride, stride),
                    gather512(self.avx512f, src, 4 * j + 2 * stride, stride),
                    gather512(self.avx512f, src, 4 * j + 3 * stride, stride),
                ];
                let columns: [Self::f32s; 4] = transpose_in_lanes!(
                    a,
                    Avx512f::_mm512_unpacklo_ps,
                    Avx512f::_mm512_unpackhi_ps,
                    Avx512f::_mm512_unpacklo_pd,
                    Avx512f::_mm512_unpackhi_pd,
                    self.avx512f
                );
                for c in 0..4 {
                    dst[(4 * j + c) * dst_stride] = columns[c];
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{Lanes, quad};
    use core::arch::aarch64::float32x4_t;
    use pulp::aarch64::Neon;
    use pulp::cast;
    use pulp::core_arch::aarch64::Neon as Token;

    impl Lanes for Neon {
        #[inline(always)]
        fn transpose(
            self,
            src: &[f32],
            stride: usize,
            quads: usize,
            dst: &mut [Self::f32s],
            dst_stride: usize,
        ) {
            for j in 0..quads {
                let a: [float32x4_t; 4] = [
                    cast!(quad(src, 4 * j)),
                    cast!(quad(src, 4 * j + stride)),
                    cast!(quad(src, 4 * j + 2 * stride)),
                    cast!(quad(src, 4 * j + 3 * stride)),
                ];
                let columns: [Self::f32s; 4] = transpose_in_lanes!(
                    a,
                    Token::vzip1q_f32,
                    Token::vzip2q_f32,
                    Token::vzip1q_f64,
                    Token::vzip2q_f64,
                    self.neon
                );
                for c in 0..4 {
                    dst[(4 * j + c) * dst_stride] = columns[c];
                }
            }
        }
    }
}
