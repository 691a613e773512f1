//! The AVX-VNNI row: the AVX2 row with `vpdpbusd` on 256 bits, for processors that have the
//! instruction but no AVX-512.
//!
//! AVX-VNNI spells the instruction with a VEX prefix, AVX-512 VL with an EVEX prefix; it does the
//! same. All code here is generic over the spelling ([`Spelling`]), so machines with AVX-512 test all
//! of it but for the prefix (`StandIn::AvxVnni`).
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Simd` covers every body")]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::avx2::Ymm;
use super::pairs::{Products, now};

/// `vpdpbusd` as one of the two extensions spells it.
///
/// # Safety
/// That of [`super::Simd`].
pub(crate) trait Spelling: Copy + 'static {
    /// Adds, per lane, the sum of four products of unsigned `u` and signed `x`; nothing saturates.
    unsafe fn dpbusd(acc: __m256i, u: __m256i, x: __m256i) -> __m256i;
}

/// The spelling of AVX-VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Vex;

impl Spelling for Vex {
    #[inline(always)]
    unsafe fn dpbusd(acc: __m256i, u: __m256i, x: __m256i) -> __m256i {
        _mm256_dpbusd_avx_epi32(acc, u, x)
    }
}

/// Products in one step.
#[derive(Clone, Copy)]
pub(crate) struct Whole<S>(PhantomData<S>);

super::entries!(Ymm<Whole<Vex>>, crate::act::quantize, "avx2,fma,f16c,avxvnni");
super::packed_entries!(Ymm<Whole<Vex>>, "avx2,fma,f16c,avxvnni");

impl<S: Spelling> Products for Whole<S> {
    const PANEL_COLS: (usize, usize, usize) = (4, 2, 4);
    const NARROW: bool = false;
    const WHOLE: u8 = 255;

    #[inline(always)]
    unsafe fn dp(acc: __m256i, u: __m256i, x: __m256i, _: u8) -> __m256i {
        S::dpbusd(acc, u, x)
    }
    #[inline(always)]
    unsafe fn bias(x: __m256i, offset: u8) -> __m256i {
        let zero = _mm256_setzero_si256();
        if offset == 0 {
            return zero;
        }
        _mm256_sub_epi32(zero, S::dpbusd(zero, _mm256_set1_epi8(offset as i8), x))
    }
    #[inline(always)]
    unsafe fn dot(u: __m256i, x: __m256i, bias: __m256i, _: u8, _: u8) -> __m256i {
        S::dpbusd(bias, u, x)
    }
    #[inline(always)]
    unsafe fn panel<const V: usize, const C: usize>(
        acc: [[__m256i; C]; V],
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        _: u8,
    ) -> [[__m256i; C]; V] {
        let mut acc = acc;
        for j in 0..quads {
            let mut u = [_mm256_setzero_si256(); V];
            for v in 0..V {
                u[v] = _mm256_loadu_si256(w.add(j * stride + 32 * v).cast());
            }
            for c in 0..C {
                let x = _mm256_set1_epi32(x[c].add(4 * j).cast::<i32>().read_unaligned());
                for v in 0..V {
                    acc[v][c] = now(S::dpbusd(acc[v][c], u[v], x));
                }
            }
        }
        acc
    }
}

/// The row in the other spelling.
#[cfg(test)]
pub(crate) mod stand_in {
    use std::arch::x86_64::*;

    use super::super::avx2::Ymm;
    use super::{Spelling, Whole};

    /// The spelling of AVX-512 VL.
    #[derive(Clone, Copy)]
    pub(crate) struct Evex;

    impl Spelling for Evex {
        #[inline(always)]
        unsafe fn dpbusd(acc: __m256i, u: __m256i, x: __m256i) -> __m256i {
            _mm256_dpbusd_epi32(acc, u, x)
        }
    }

    super::super::entries!(
        Ymm<Whole<Evex>>,
        crate::act::quantize,
        "avx2,fma,f16c,avx512f,avx512vl,avx512vnni"
    );
    super::super::packed_entries!(Ymm<Whole<Evex>>, "avx2,fma,f16c,avx512f,avx512vl,avx512vnni");
}
