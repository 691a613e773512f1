//! Half-precision conversion of slices: F16C, AVX-512 and NEON instructions, or portable code.
//! All give the same bits: round to nearest even, finite overflow clamped, NaN kept.

use super::Isa;
use half::f16;

/// Largest finite f16; larger magnitudes, infinities too, are clamped to it.
const F16_MAX: f32 = 65504.0;

/// dst = src in f16, clamped to +-65504; NaN stays NaN. `isa` must be available.
pub(crate) fn f32_to_f16(isa: Isa, src: &[f32], dst: &mut [f16]) {
    assert_eq!(src.len(), dst.len());
    let done = match isa.base() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every Avx2 row has AVX and F16C; Vector::new checked availability.
        Isa::Avx2 | Isa::Avx512 => unsafe { x86::f32_to_f16(src, dst) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => aarch64::f32_to_f16(src, dst),
        _ => 0,
    };
    for (d, &s) in dst[done..].iter_mut().zip(&src[done..]) {
        // Not `clamp` and not `min`/`max` alone: a NaN must come through.
        let s = if s > F16_MAX { F16_MAX } else { s };
        let s = if s < -F16_MAX { -F16_MAX } else { s };
        *d = f16::from_f32_const(s);
    }
}

/// dst = src in f32, exactly. `isa` must be available.
pub(crate) fn f16_to_f32(isa: Isa, src: &[f16], dst: &mut [f32]) {
    assert_eq!(src.len(), dst.len());
    let done = match isa.base() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the row has AVX-512 F; Vector::new checked availability.
        Isa::Avx512 => unsafe { x86::f16_to_f32_wide(src, dst) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the row has AVX and F16C; Vector::new checked availability.
        Isa::Avx2 => unsafe { x86::f16_to_f32(src, dst) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => aarch64::f16_to_f32(src, dst),
        _ => 0,
    };
    for (d, s) in dst[done..].iter_mut().zip(&src[done..]) {
        *d = s.to_f32_const();
    }
}

/// Whether [`load`] gives vectors of `lanes` f32 on this row.
pub(crate) fn has_load(isa: Isa, lanes: usize) -> bool {
    match isa.base() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => lanes == 8,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => lanes == 16,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => lanes == 4,
        _ => {
            let _ = lanes;
            false
        }
    }
}

/// The numbers of `src`, as many as V has lanes, as f32, exactly. With the instructions of the row
/// for which [`has_load`] said yes, inlined into code of that row; elsewhere portable code.
#[inline(always)]
pub(crate) fn load<V: bytemuck::Pod>(src: &[f16]) -> V {
    #[cfg(target_arch = "x86_64")]
    {
        if let Ok(src) = <&[f16; 16]>::try_from(src) {
            // SAFETY: a caller with 16 lanes runs on the AVX-512 row.
            return bytemuck::cast(unsafe { x86::load16(src) });
        }
        if let Ok(src) = <&[f16; 8]>::try_from(src) {
            // SAFETY: a caller with 8 lanes runs on a row with AVX and F16C.
            return bytemuck::cast(unsafe { x86::load8(src) });
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Ok(src) = <&[f16; 4]>::try_from(src) {
        return bytemuck::cast(aarch64::load4(src));
    }
    let mut out = V::zeroed();
    let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut out));
    lanes.iter_mut().zip(src).for_each(|(d, s)| *d = s.to_f32_const());
    out
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{F16_MAX, f16};
    use std::arch::x86_64::*;

    /// 16 numbers.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F.
    #[inline(always)]
    pub(super) unsafe fn load16(src: &[f16; 16]) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: both arrays are as long as a register; any alignment is taken.
        unsafe {
            let v = _mm512_cvtph_ps(_mm256_loadu_si256(src.as_ptr().cast()));
            _mm512_storeu_ps(out.as_mut_ptr(), v);
        }
        out
    }

    /// 8 numbers.
    ///
    /// # Safety
    /// The CPU must have AVX and F16C.
    #[inline(always)]
    pub(super) unsafe fn load8(src: &[f16; 8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        // SAFETY: both arrays are as long as a register; any alignment is taken.
        unsafe {
            let v = _mm256_cvtph_ps(_mm_loadu_si128(src.as_ptr().cast()));
            _mm256_storeu_ps(out.as_mut_ptr(), v);
        }
        out
    }

    /// Converts whole groups of 8 and returns how many elements that was.
    ///
    /// # Safety
    /// The CPU must have AVX and F16C.
    #[target_feature(enable = "avx,f16c")]
    pub(super) unsafe fn f32_to_f16(src: &[f32], dst: &mut [f16]) -> usize {
        let (hi, lo) = (_mm256_set1_ps(F16_MAX), _mm256_set1_ps(-F16_MAX));
        let (src, dst) = (src.as_chunks::<8>().0, dst.as_chunks_mut::<8>().0);
        for (s, d) in src.iter().zip(dst.iter_mut()) {
            // SAFETY: s is 8 f32 and d 8 f16 long; both instructions take any alignment.
            unsafe {
                // min and max return their second operand when one is NaN.
                let v = _mm256_min_ps(hi, _mm256_loadu_ps(s.as_ptr()));
                let v = _mm256_max_ps(lo, v);
                let h = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
                _mm_storeu_si128(d.as_mut_ptr().cast(), h);
            }
        }
        8 * src.len()
    }

    /// Converts whole groups of 16 and returns how many elements that was.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn f16_to_f32_wide(src: &[f16], dst: &mut [f32]) -> usize {
        let (src, dst) = (src.as_chunks::<16>().0, dst.as_chunks_mut::<16>().0);
        for (s, d) in src.iter().zip(dst.iter_mut()) {
            // SAFETY: s is 16 f16 and d 16 f32 long; both instructions take any alignment.
            unsafe {
                let h = _mm256_loadu_si256(s.as_ptr().cast());
                _mm512_storeu_ps(d.as_mut_ptr(), _mm512_cvtph_ps(h));
            }
        }
        16 * src.len()
    }

    /// Converts whole groups of 8 and returns how many elements that was.
    ///
    /// # Safety
    /// The CPU must have AVX and F16C.
    #[target_feature(enable = "avx,f16c")]
    pub(super) unsafe fn f16_to_f32(src: &[f16], dst: &mut [f32]) -> usize {
        let (src, dst) = (src.as_chunks::<8>().0, dst.as_chunks_mut::<8>().0);
        for (s, d) in src.iter().zip(dst.iter_mut()) {
            // SAFETY: s is 8 f16 and d 8 f32 long; both instructions take any alignment.
            unsafe {
                let h = _mm_loadu_si128(s.as_ptr().cast());
                _mm256_storeu_ps(d.as_mut_ptr(), _mm256_cvtph_ps(h));
            }
        }
        8 * src.len()
    }
}

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::{F16_MAX, f16};
    use std::arch::aarch64::*;
    use std::arch::asm;

    /// 4 numbers.
    #[inline(always)]
    pub(super) fn load4(src: &[f16; 4]) -> [f32; 4] {
        let mut out = [0.0; 4];
        // SAFETY: NEON is part of the target; both arrays are as long as a register. The assembly
        // reads and writes registers only.
        unsafe {
            let h = vld1_u16(src.as_ptr().cast());
            let v: float32x4_t;
            asm!("fcvtl {v:v}.4s, {h:v}.4h", v = out(vreg) v, h = in(vreg) h,
                options(pure, nomem, nostack, preserves_flags));
            vst1q_f32(out.as_mut_ptr(), v);
        }
        out
    }

    /// Converts whole groups of 4 and returns how many elements that was.
    pub(super) fn f32_to_f16(src: &[f32], dst: &mut [f16]) -> usize {
        let (src, dst) = (src.as_chunks::<4>().0, dst.as_chunks_mut::<4>().0);
        for (s, d) in src.iter().zip(dst.iter_mut()) {
            // SAFETY: NEON is part of the target; s is 4 f32 and d 4 f16 long. fmin and fmax
            // keep a NaN. The assembly reads and writes registers only.
            unsafe {
                let v = vminq_f32(vld1q_f32(s.as_ptr()), vdupq_n_f32(F16_MAX));
                let v = vmaxq_f32(v, vdupq_n_f32(-F16_MAX));
                let h: uint16x4_t;
                asm!("fcvtn {h:v}.4h, {v:v}.4s", h = out(vreg) h, v = in(vreg) v,
                    options(pure, nomem, nostack, preserves_flags));
                vst1_u16(d.as_mut_ptr().cast(), h);
            }
        }
        4 * src.len()
    }

    /// Converts whole groups of 4 and returns how many elements that was.
    pub(super) fn f16_to_f32(src: &[f16], dst: &mut [f32]) -> usize {
        let (src, dst) = (src.as_chunks::<4>().0, dst.as_chunks_mut::<4>().0);
        for (s, d) in src.iter().zip(dst.iter_mut()) {
            // SAFETY: NEON is part of the target; s is 4 f16 and d 4 f32 long. The assembly
            // reads and writes registers only.
            unsafe {
                let h = vld1_u16(s.as_ptr().cast());
                let v: float32x4_t;
                asm!("fcvtl {v:v}.4s, {h:v}.4h", v = out(vreg) v, h = in(vreg) h,
                    options(pure, nomem, nostack, preserves_flags));
                vst1q_f32(d.as_mut_ptr(), v);
            }
        }
        4 * src.len()
    }
}
