//! The random numbers of a sampler: ChaCha with 8 rounds (D. J. Bernstein, "ChaCha, a variant of Salsa20",
//! 2008), keyed by `rand_core`'s `seed_from_u64`. One seed gives one text on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A seeded stream of numbers. A clone goes on with the same numbers.
#[derive(Clone)]
pub(super) struct Rng {
    seed: u64,
    stream: ChaCha8Rng,
}

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng {
            seed,
            stream: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// A seed that nobody chose. It has 32 bits, so that it is short enough to be typed again.
    pub(super) fn random_seed() -> u64 {
        u64::from(rand::random::<u32>())
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Goes back to the first number.
    pub(super) fn restart(&mut self) {
        *self = Rng::new(self.seed);
    }

    /// The next number of `[0, 1)`: the upper 53 bits of one 64-bit output.
    pub(super) fn unit(&mut self) -> f64 {
        (self.stream.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}
