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

/// The 4 floats from `at` on.
#[inline(always)]
fn quad(src: &[f32], at: usize) -> [f32; 4] {
    [src[at], src[at + 1], src[at + 2], src[at + 3]]
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

/// The body for one architecture: `$gather` loads the same 4 columns of all rows, so that row
/// 4k + i stands in 128-bit lane k of register i; a 4x4 transposition within the lanes then
/// leaves each column whole and in order.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! transpose_quads {
    ($src:ident, $stride:ident, $quads:ident, $dst:ident, $dst_stride:ident,
     $gather:expr, $lo:expr, $hi:expr, $lo2:expr, $hi2:expr) => {
        for j in 0..$quads {
            let a = [0, 1, 2, 3].map(|i| $gather($src, i * $stride + 4 * j));
            let (t0, t1) = ($lo(a[0], a[1]), $hi(a[0], a[1]));
            let (t2, t3) = ($lo(a[2], a[3]), $hi(a[2], a[3]));
            let columns = [$lo2(t0, t2), $hi2(t0, t2), $lo2(t1, t3), $hi2(t1, t3)];
            for (c, column) in columns.into_iter().enumerate() {
                $dst[(4 * j + c) * $dst_stride] = pulp::cast!(column);
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, quad};
    use core::arch::x86_64::{__m128, __m256, __m256d, __m512, __m512d};
    use pulp::cast;
    use pulp::x86::{V3, V4};

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
            let avx = self.avx;
            let m = |at| -> __m128 { cast!(quad(src, at)) };
            let gather = |_: &[f32], at: usize| -> __m256 {
                let low = avx._mm256_castps128_ps256(m(at));
                avx._mm256_insertf128_ps::<1>(low, m(at + 4 * stride))
            };
            let lo = |a: __m256, b: __m256| -> __m256d { cast!(avx._mm256_unpacklo_ps(a, b)) };
            let hi = |a: __m256, b: __m256| -> __m256d { cast!(avx._mm256_unpackhi_ps(a, b)) };
            let lo2 = |a, b| avx._mm256_unpacklo_pd(a, b);
            let hi2 = |a, b| avx._mm256_unpackhi_pd(a, b);
            transpose_quads!(
                src, stride, quads, dst, dst_stride, gather, lo, hi, lo2, hi2
            );
        }
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
            let avx = self.avx512f;
            let m = |at| -> __m128 { cast!(quad(src, at)) };
            let gather = |_: &[f32], at: usize| -> __m512 {
                let v = avx._mm512_castps128_ps512(m(at));
                let v = avx._mm512_insertf32x4::<1>(v, m(at + 4 * stride));
                let v = avx._mm512_insertf32x4::<2>(v, m(at + 8 * stride));
                avx._mm512_insertf32x4::<3>(v, m(at + 12 * stride))
            };
            let lo = |a: __m512, b: __m512| -> __m512d { cast!(avx._mm512_unpacklo_ps(a, b)) };
            let hi = |a: __m512, b: __m512| -> __m512d { cast!(avx._mm512_unpackhi_ps(a, b)) };
            let lo2 = |a, b| avx._mm512_unpacklo_pd(a, b);
            let hi2 = |a, b| avx._mm512_unpackhi_pd(a, b);
            transpose_quads!(
                src, stride, quads, dst, dst_stride, gather, lo, hi, lo2, hi2
            );
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{Lanes, quad};
    use core::arch::aarch64::{float32x4_t, float64x2_t};
    use pulp::aarch64::Neon;
    use pulp::cast;

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
            let neon = self.neon;
            let gather = |_: &[f32], at: usize| -> float32x4_t { cast!(quad(src, at)) };
            let lo = |a, b| -> float64x2_t { cast!(neon.vzip1q_f32(a, b)) };
            let hi = |a, b| -> float64x2_t { cast!(neon.vzip2q_f32(a, b)) };
            let lo2 = |a, b| neon.vzip1q_f64(a, b);
            let hi2 = |a, b| neon.vzip2q_f64(a, b);
            transpose_quads!(
                src, stride, quads, dst, dst_stride, gather, lo, hi, lo2, hi2
            );
        }
    }
}
