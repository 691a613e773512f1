//! Loops that show what the machine can do, for benchmarks to measure kernels against: reading
//! memory, and integer products with all operands in registers.

use super::Isa;

/// Operations (a multiplication and an addition count as two) of one [`int8_peak`] of `rounds`.
pub fn int8_operations(isa: Isa, rounds: usize) -> usize {
    let lanes = match isa {
        // tiles, four of 16 by 16 sums of 32 products
        Isa::Amx => return rounds * 4 * 16 * 16 * 32 * 2,
        Isa::Avx512 => 16,
        Isa::Avx2 | Isa::AvxVnni => 8,
        Isa::Scalar | Isa::Neon | Isa::Dotprod | Isa::I8mm => 0,
    };
    rounds * CHAINS * lanes * 4 * 2
}

/// Independent accumulators: enough to cover the latency of the instructions.
const CHAINS: usize = 12;

/// Runs `rounds` of register-only int8 (with tiles: bfloat16) products on a row; the result only keeps the work alive.
/// Does nothing (0) on rows for which [`int8_operations`] is zero.
pub fn int8_peak(isa: Isa, rounds: usize) -> i32 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the row is available.
        Isa::Amx if isa.is_available() => unsafe { super::amx::peak(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the row is available.
        Isa::Avx512 if isa.is_available() => unsafe { x86::peak_512(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the row is available.
        Isa::AvxVnni if isa.is_available() => unsafe { x86::peak_vnni(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the row is available.
        Isa::Avx2 if isa.is_available() => unsafe { x86::peak_256(rounds) },
        _ => {
            let _ = rounds;
            0
        }
    }
}

/// Reads all whole cache lines of `bytes` in order, prefetching `ahead` bytes, and returns a
/// checksum that keeps the work alive.
pub fn read(bytes: &[u8], ahead: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if Isa::Avx2.is_available() {
        // SAFETY: the row is available.
        return unsafe { x86::read(bytes, ahead) };
    }
    let _ = ahead;
    let words = bytes.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w));
    words.fold(0, |a, w| a ^ w)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::CHAINS;

    /// # Safety
    /// The machine has AVX-512 VNNI.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn peak_512(rounds: usize) -> i32 {
        let mut acc = [_mm512_setzero_si512(); CHAINS];
        let u = std::hint::black_box(_mm512_set1_epi8(3));
        let x = std::hint::black_box(_mm512_set1_epi8(-2));
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = _mm512_dpbusd_epi32(*acc, u, x);
            }
        }
        acc.into_iter().fold(0, |sum, acc| sum ^ _mm512_reduce_add_epi32(acc))
    }

    /// # Safety
    /// The machine has AVX-VNNI.
    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) unsafe fn peak_vnni(rounds: usize) -> i32 {
        let mut acc = [_mm256_setzero_si256(); CHAINS];
        let u = std::hint::black_box(_mm256_set1_epi8(3));
        let x = std::hint::black_box(_mm256_set1_epi8(-2));
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = _mm256_dpbusd_avx_epi32(*acc, u, x);
            }
        }
        acc.into_iter().fold(0, |sum, acc| sum ^ _mm256_extract_epi32::<0>(acc))
    }

    /// # Safety
    /// The machine has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn peak_256(rounds: usize) -> i32 {
        let mut acc = [_mm256_setzero_si256(); CHAINS];
        let u = std::hint::black_box(_mm256_set1_epi8(3));
        let one = std::hint::black_box(_mm256_set1_epi16(1));
        for _ in 0..rounds {
            for acc in &mut acc {
                // the accumulator takes part, or the product would be computed only once
                let n = _mm256_madd_epi16(_mm256_maddubs_epi16(u, *acc), one);
                *acc = _mm256_add_epi32(*acc, n);
            }
        }
        acc.into_iter().fold(0, |sum, acc| sum ^ _mm256_extract_epi32::<0>(acc))
    }

    /// # Safety
    /// The machine has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn read(bytes: &[u8], ahead: usize) -> u64 {
        let mut acc = [_mm256_setzero_si256(); 4];
        for line in bytes.as_chunks::<128>().0 {
            let p = line.as_ptr();
            _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(ahead).cast());
            _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(ahead + 64).cast());
            for (i, acc) in acc.iter_mut().enumerate() {
                // SAFETY: 32 bytes inside the line.
                let v = unsafe { _mm256_loadu_si256(p.add(32 * i).cast()) };
                *acc = _mm256_xor_si256(*acc, v);
            }
        }
        let all =
            _mm256_xor_si256(_mm256_xor_si256(acc[0], acc[1]), _mm256_xor_si256(acc[2], acc[3]));
        _mm256_extract_epi64::<0>(all) as u64
    }
}
