//! What the tests of the ops share: seeded numbers and a comparison with f64.

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// `n` numbers from `low` to `high`.
    pub(crate) fn floats(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) >> 40
        };
        (0..n).map(|_| low + (high - low) * next() as f32 / (1u64 << 24) as f32).collect()
    }
}

/// Panics unless the squared error is below 1e-11 of the square of what was wanted.
#[track_caller]
pub(crate) fn close(got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let error: f64 = got.iter().zip(want).map(|(&g, w)| (f64::from(g) - w).powi(2)).sum();
    let size: f64 = want.iter().map(|w| w * w).sum();
    assert!(error <= 1e-11 * size, "{error:e} of {size:e}: {got:?}, expected {want:?}");
}
