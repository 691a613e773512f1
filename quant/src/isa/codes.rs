//! Small integers of the key/value cache as vectors of f32, exactly. For code that runs on the row
//! for which [`super::half::has_load`] said yes; elsewhere portable code. The same numbers on all.

/// Signed bytes, as many as V has lanes.
#[inline(always)]
pub(crate) fn bytes<V: bytemuck::Pod>(src: &[u8]) -> V {
    #[cfg(target_arch = "x86_64")]
    {
        if let Ok(src) = <&[u8; 16]>::try_from(src) {
            // SAFETY: a caller with 16 lanes runs on the AVX-512 row.
            return bytemuck::cast(unsafe { x86::bytes16(src) });
        }
        if let Ok(src) = <&[u8; 8]>::try_from(src) {
            // SAFETY: a caller with 8 lanes runs on a row with AVX2.
            return bytemuck::cast(unsafe { x86::bytes8(src) });
        }
    }
    each(src, |byte| f32::from(byte as i8))
}

/// The low (`shift` 0) or high (`shift` 4) halves of bytes, less 8; as many as V has lanes.
#[inline(always)]
pub(crate) fn nibbles<V: bytemuck::Pod>(src: &[u8], shift: u32) -> V {
    #[cfg(target_arch = "x86_64")]
    {
        if let Ok(src) = <&[u8; 16]>::try_from(src) {
            // SAFETY: a caller with 16 lanes runs on the AVX-512 row.
            return bytemuck::cast(unsafe { x86::nibbles16(src, shift) });
        }
        if let Ok(src) = <&[u8; 8]>::try_from(src) {
            // SAFETY: a caller with 8 lanes runs on a row with AVX2.
            return bytemuck::cast(unsafe { x86::nibbles8(src, shift) });
        }
    }
    each(src, |byte| f32::from(byte >> shift & 15) - 8.0)
}

#[inline(always)]
fn each<V: bytemuck::Pod>(src: &[u8], f: impl Fn(u8) -> f32) -> V {
    let mut out = V::zeroed();
    let lanes: &mut [f32] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut out));
    lanes.iter_mut().zip(src).for_each(|(d, &s)| *d = f(s));
    out
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// 16 signed bytes.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F.
    #[inline(always)]
    pub(super) unsafe fn bytes16(src: &[u8; 16]) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: both arrays are as long as a register; any alignment is taken.
        unsafe {
            let v = _mm512_cvtepi8_epi32(_mm_loadu_si128(src.as_ptr().cast()));
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_cvtepi32_ps(v));
        }
        out
    }

    /// 8 signed bytes.
    ///
    /// # Safety
    /// The CPU must have AVX2.
    #[inline(always)]
    pub(super) unsafe fn bytes8(src: &[u8; 8]) -> [f32; 8] {
        let mut out = [0.0; 8];
        // SAFETY: the load reads 8 bytes, the array is as long as a register; any alignment is taken.
        unsafe {
            let v = _mm256_cvtepi8_epi32(_mm_loadl_epi64(src.as_ptr().cast()));
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtepi32_ps(v));
        }
        out
    }

    /// 16 halves of bytes, less 8.
    ///
    /// # Safety
    /// The CPU must have AVX-512 F.
    #[inline(always)]
    pub(super) unsafe fn nibbles16(src: &[u8; 16], shift: u32) -> [f32; 16] {
        let mut out = [0.0; 16];
        // SAFETY: both arrays are as long as a register; any alignment is taken.
        unsafe {
            let levels = _mm512_setr_ps(
                -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0,
                7.0,
            );
            let v = _mm512_cvtepu8_epi32(_mm_loadu_si128(src.as_ptr().cast()));
            // The look-up takes the low four bits of each lane, whatever stands above them.
            let v = _mm512_srl_epi32(v, _mm_cvtsi32_si128(shift as i32));
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_permutexvar_ps(v, levels));
        }
        out
    }

    /// 8 halves of bytes, less 8.
    ///
    /// # Safety
    /// The CPU must have AVX2.
    #[inline(always)]
    pub(super) unsafe fn nibbles8(src: &[u8; 8], shift: u32) -> [f32; 8] {
        let mut out = [0.0; 8];
        // SAFETY: the load reads 8 bytes, the array is as long as a register; any alignment is taken.
        unsafe {
            let v = _mm256_cvtepu8_epi32(_mm_loadl_epi64(src.as_ptr().cast()));
            let v = _mm256_srl_epi32(v, _mm_cvtsi32_si128(shift as i32));
            let v = _mm256_and_si256(v, _mm256_set1_epi32(15));
            let v = _mm256_sub_epi32(v, _mm256_set1_epi32(8));
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtepi32_ps(v));
        }
        out
    }
}
