//! Turning 16 rows into columns: what attention does with keys, so that positions lie in lanes.
//!
//! From f32, 4 columns at a time: the same 4 columns of all rows are gathered so that row 4k + i
//! stands in 128-bit lane k of register i, and transposed within the lanes. From 16-bit floats,
//! 8 columns at a time: half the loads and shuffles, and the conversion comes last, on whole
//! columns.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "bodies of intrinsics and pointer steps under the contract of their module"
)]

use super::Isa;

/// Rows of one call.
pub(crate) const ROWS: usize = 16;

/// What the bits of 16-bit rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

/// Where to read and write, checked: 16 rows of `n_cols` at `src`, `stride` elements apart; column
/// c goes to `dst[c * dst_stride..][..16]`.
#[derive(Clone, Copy)]
struct Job<T> {
    src: *const T,
    stride: usize,
    n_cols: usize,
    dst: *mut f32,
    dst_stride: usize,
}

impl<T> Job<T> {
    fn new(src: &[T], stride: usize, n_cols: usize, dst: &mut [f32], dst_stride: usize) -> Job<T> {
        assert!(n_cols <= stride && src.len() >= (ROWS - 1) * stride + n_cols);
        assert!(n_cols == 0 || dst.len() >= (n_cols - 1) * dst_stride + ROWS);
        Job { src: src.as_ptr(), stride, n_cols, dst: dst.as_mut_ptr(), dst_stride }
    }
}

/// Transposes 16 rows of f32; `n_cols` is a multiple of 4. `isa` must be available.
pub(crate) fn transpose_f32(
    isa: Isa,
    src: &[f32],
    stride: usize,
    n_cols: usize,
    dst: &mut [f32],
    dst_stride: usize,
) {
    assert!(n_cols.is_multiple_of(4));
    let job = Job::new(src, stride, n_cols, dst, dst_stride);
    match isa.base() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the job has been checked; the row has AVX-512 F.
        Isa::Avx512 => unsafe { x86::f32_avx512(job) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the job has been checked; the row has AVX.
        Isa::Avx2 => unsafe { x86::f32_avx2(job) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the job has been checked; NEON is part of the target.
        Isa::Neon => unsafe { aarch64::f32_neon(job) },
        _ => {
            for c in 0..n_cols {
                for r in 0..ROWS {
                    dst[c * dst_stride + r] = src[r * stride + c];
                }
            }
        }
    }
}

/// Transposes 16 rows of 16-bit floats to f32; false, and nothing done, where this instruction set
/// or shape has no special way. `isa` must be available.
pub(crate) fn transpose_half(
    isa: Isa,
    half: Half,
    src: &[u16],
    stride: usize,
    dst: &mut [f32],
    dst_stride: usize,
) -> bool {
    if !stride.is_multiple_of(8) {
        return false;
    }
    #[cfg(target_arch = "x86_64")]
    if matches!(isa.base(), Isa::Avx2 | Isa::Avx512) {
        let job = Job::new(src, stride, stride, dst, dst_stride);
        match (isa.base(), half) {
            // SAFETY: the job has been checked; the row has AVX-512 F and AVX2.
            (Isa::Avx512, Half::F16) => unsafe { x86::f16_avx512(job) },
            // SAFETY: the job has been checked; the row has AVX2 and F16C.
            (_, Half::F16) => unsafe { x86::f16_avx2(job) },
            // SAFETY: the job has been checked; both rows have AVX2.
            (_, Half::Bf16) => unsafe { x86::bf16_avx2(job) },
        }
        return true;
    }
    let _ = (isa, half, src, dst, dst_stride);
    false
}

/// Functions with jobs that are checked; each needs what its `target_feature` says.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Job;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn f32_avx512(job: Job<f32>) {
        for j in (0..job.n_cols).step_by(4) {
            let mut a = [_mm512_setzero_ps(); 4];
            for (i, a) in a.iter_mut().enumerate() {
                let p = job.src.add(i * job.stride + j);
                let v = _mm512_castps128_ps512(_mm_loadu_ps(p));
                let v = _mm512_insertf32x4::<1>(v, _mm_loadu_ps(p.add(4 * job.stride)));
                let v = _mm512_insertf32x4::<2>(v, _mm_loadu_ps(p.add(8 * job.stride)));
                *a = _mm512_insertf32x4::<3>(v, _mm_loadu_ps(p.add(12 * job.stride)));
            }
            let t0 = _mm512_castps_pd(_mm512_unpacklo_ps(a[0], a[1]));
            let t1 = _mm512_castps_pd(_mm512_unpackhi_ps(a[0], a[1]));
            let t2 = _mm512_castps_pd(_mm512_unpacklo_ps(a[2], a[3]));
            let t3 = _mm512_castps_pd(_mm512_unpackhi_ps(a[2], a[3]));
            let columns = [
                _mm512_unpacklo_pd(t0, t2),
                _mm512_unpackhi_pd(t0, t2),
                _mm512_unpacklo_pd(t1, t3),
                _mm512_unpackhi_pd(t1, t3),
            ];
            for (c, column) in columns.into_iter().enumerate() {
                let dst = job.dst.add((j + c) * job.dst_stride);
                _mm512_storeu_ps(dst, _mm512_castpd_ps(column));
            }
        }
    }

    #[target_feature(enable = "avx")]
    pub(super) unsafe fn f32_avx2(job: Job<f32>) {
        for half in 0..2 {
            let src = job.src.add(8 * half * job.stride);
            for j in (0..job.n_cols).step_by(4) {
                let mut a = [_mm256_setzero_ps(); 4];
                for (i, a) in a.iter_mut().enumerate() {
                    let p = src.add(i * job.stride + j);
                    let v = _mm256_castps128_ps256(_mm_loadu_ps(p));
                    *a = _mm256_insertf128_ps::<1>(v, _mm_loadu_ps(p.add(4 * job.stride)));
                }
                let t0 = _mm256_castps_pd(_mm256_unpacklo_ps(a[0], a[1]));
                let t1 = _mm256_castps_pd(_mm256_unpackhi_ps(a[0], a[1]));
                let t2 = _mm256_castps_pd(_mm256_unpacklo_ps(a[2], a[3]));
                let t3 = _mm256_castps_pd(_mm256_unpackhi_ps(a[2], a[3]));
                let columns = [
                    _mm256_unpacklo_pd(t0, t2),
                    _mm256_unpackhi_pd(t0, t2),
                    _mm256_unpacklo_pd(t1, t3),
                    _mm256_unpackhi_pd(t1, t3),
                ];
                for (c, column) in columns.into_iter().enumerate() {
                    let dst = job.dst.add((j + c) * job.dst_stride + 8 * half);
                    _mm256_storeu_ps(dst, _mm256_castpd_ps(column));
                }
            }
        }
    }

    /// Columns j to j + 8 as 16-bit numbers of 16 rows each, in order.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn columns(job: Job<u16>, j: usize) -> [__m256i; 8] {
        // Row i beside row i + 8; three rounds of interleaving within the 128-bit lanes follow.
        let mut a = [_mm256_setzero_si256(); 8];
        for (i, a) in a.iter_mut().enumerate() {
            let p = job.src.add(i * job.stride + j);
            let lo = _mm256_castsi128_si256(_mm_loadu_si128(p.cast()));
            *a = _mm256_inserti128_si256::<1>(lo, _mm_loadu_si128(p.add(8 * job.stride).cast()));
        }
        let mut b = a;
        for i in 0..4 {
            b[2 * i] = _mm256_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
            b[2 * i + 1] = _mm256_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
        }
        for i in 0..2 {
            a[4 * i] = _mm256_unpacklo_epi32(b[4 * i], b[4 * i + 2]);
            a[4 * i + 1] = _mm256_unpackhi_epi32(b[4 * i], b[4 * i + 2]);
            a[4 * i + 2] = _mm256_unpacklo_epi32(b[4 * i + 1], b[4 * i + 3]);
            a[4 * i + 3] = _mm256_unpackhi_epi32(b[4 * i + 1], b[4 * i + 3]);
        }
        for i in 0..4 {
            b[2 * i] = _mm256_unpacklo_epi64(a[i], a[4 + i]);
            b[2 * i + 1] = _mm256_unpackhi_epi64(a[i], a[4 + i]);
        }
        b
    }

    #[target_feature(enable = "avx512f,avx2")]
    pub(super) unsafe fn f16_avx512(job: Job<u16>) {
        for j in (0..job.n_cols).step_by(8) {
            for (c, column) in columns(job, j).into_iter().enumerate() {
                let dst = job.dst.add((j + c) * job.dst_stride);
                _mm512_storeu_ps(dst, _mm512_cvtph_ps(column));
            }
        }
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn f16_avx2(job: Job<u16>) {
        for j in (0..job.n_cols).step_by(8) {
            for (c, column) in columns(job, j).into_iter().enumerate() {
                let dst = job.dst.add((j + c) * job.dst_stride);
                _mm256_storeu_ps(dst, _mm256_cvtph_ps(_mm256_castsi256_si128(column)));
                let upper = _mm256_extracti128_si256::<1>(column);
                _mm256_storeu_ps(dst.add(8), _mm256_cvtph_ps(upper));
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn bf16_avx2(job: Job<u16>) {
        for j in (0..job.n_cols).step_by(8) {
            for (c, column) in columns(job, j).into_iter().enumerate() {
                let dst = job.dst.add((j + c) * job.dst_stride);
                let halves =
                    [_mm256_castsi256_si128(column), _mm256_extracti128_si256::<1>(column)];
                for (k, half) in halves.into_iter().enumerate() {
                    let wide = _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half));
                    _mm256_storeu_ps(dst.add(8 * k), _mm256_castsi256_ps(wide));
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{Job, ROWS};
    use std::arch::aarch64::*;

    /// The job has been checked.
    pub(super) unsafe fn f32_neon(job: Job<f32>) {
        for r in (0..ROWS).step_by(4) {
            for j in (0..job.n_cols).step_by(4) {
                let p = job.src.add(r * job.stride + j);
                let (a, b) = (vld1q_f32(p), vld1q_f32(p.add(job.stride)));
                let (c, d) = (vld1q_f32(p.add(2 * job.stride)), vld1q_f32(p.add(3 * job.stride)));
                let t0 = vreinterpretq_f64_f32(vzip1q_f32(a, b));
                let t1 = vreinterpretq_f64_f32(vzip2q_f32(a, b));
                let t2 = vreinterpretq_f64_f32(vzip1q_f32(c, d));
                let t3 = vreinterpretq_f64_f32(vzip2q_f32(c, d));
                let columns = [
                    vzip1q_f64(t0, t2),
                    vzip2q_f64(t0, t2),
                    vzip1q_f64(t1, t3),
                    vzip2q_f64(t1, t3),
                ];
                for (c, column) in columns.into_iter().enumerate() {
                    let dst = job.dst.add((j + c) * job.dst_stride + r);
                    vst1q_f32(dst, vreinterpretq_f32_f64(column));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_transposes_alike() {
        let (stride, dst_stride) = (40, 64);
        let src: Vec<u16> = (0..ROWS * stride).map(|i| (i * 37 % 0x7800) as u16).collect();
        let wide: Vec<f32> = src.iter().map(|&b| half::f16::from_bits(b).to_f32_const()).collect();
        let shifted: Vec<f32> = src.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).collect();
        for isa in Isa::available() {
            let mut dst = vec![-1.0; stride * dst_stride];
            let check = |dst: &[f32], want: &[f32], n_cols: usize, what: &str| {
                for (i, &x) in dst.iter().enumerate() {
                    let (c, r) = (i / dst_stride, i % dst_stride);
                    let inside = c < n_cols && r < ROWS;
                    let want = if inside { want[r * stride + c] } else { -1.0 };
                    assert_eq!(x, want, "{isa:?} {what} row {r} column {c}");
                }
            };
            transpose_f32(isa, &wide, stride, 36, &mut dst, dst_stride);
            check(&dst, &wide, 36, "f32");
            for (kind, want) in [(Half::F16, &wide), (Half::Bf16, &shifted)] {
                dst.fill(-1.0);
                if transpose_half(isa, kind, &src, stride, &mut dst, dst_stride) {
                    check(&dst, want, stride, "half");
                }
            }
        }
    }
}
