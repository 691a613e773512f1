//! Asking for memory ahead of use. Never changes a result.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How far ahead of the weights being used the kernels for few columns ask for the next ones, in
/// bytes, unless somebody measured what this machine likes.
pub const DEFAULT_DISTANCE: usize = 3 << 10;

static DISTANCE: AtomicUsize = AtomicUsize::new(DEFAULT_DISTANCE);

/// Sets the distance of all kernels from their next call on, in bytes; speed alone depends on it.
pub fn set_distance(bytes: usize) {
    DISTANCE.store(bytes, Ordering::Relaxed);
}

/// The distance in use, in bytes.
pub fn distance() -> usize {
    DISTANCE.load(Ordering::Relaxed)
}

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Asks for the cache lines of `bytes` to be brought into the second-level cache. Not the first:
/// there, waiting prefetches take the few slots that the loads of the running work need (decode
/// attention from memory on Zen 4: 104 us without, 94 us into the first level, 57 us into the
/// second).
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8]) {
    (0..bytes.len()).step_by(LINE).for_each(|at| prefetch_line(&bytes[at]));
}

/// As [`prefetch`], the line at `p`; any address is fine.
#[inline(always)]
pub(crate) fn prefetch_line(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction is part of SSE, which x86-64 always has; it only hints, and faults at no
    // address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint, which faults at no address; no register but the input is touched.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}]", in(reg) p,
            options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
}
