//! The draw that ends a step, and the options of the chain itself: the seed and the order.
//!
//! One number of `[0, 1)` is taken per token, scaled to the sum of the probabilities, and the first candidate
//! at which the running sum exceeds it is drawn.

use super::options::Flag;
use super::table::{Place, SamplerKind};
use super::{Candidate, Rng};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "draw",
    aliases: &[],
    doc: "Draws a token by its probability.",
    source: "ChaCha8 (Bernstein 2008), seeded by rand_core's seed_from_u64",
    place: Place::Chain,
    flags: &[
        Flag {
            field: "seed",
            long: "seed",
            short: Some('s'),
            value_name: "N",
            help: "Seed of the random numbers; -1 = a random one, which is shown with the timings",
            expected: "a whole number from 0, or -1",
            repeats: false,
            get: |o| o.seed.iter().map(u64::to_string).collect(),
            set: |o, values| {
                let text = values.last()?.trim();
                o.seed = if text == "-1" {
                    None
                } else {
                    Some(text.parse().ok()?)
                };
                Some(())
            },
            valid: |_| true,
        },
        Flag {
            field: "samplers",
            long: "samplers",
            short: None,
            value_name: "NAMES",
            help: "The samplers in the order in which they run, with ; between them",
            expected: "names with ; between them, each once, out of these",
            repeats: false,
            get: |o| vec![o.samplers.to_string()],
            set: |o, values| {
                o.samplers = values.last()?.parse().ok()?;
                Some(())
            },
            valid: |_| true,
        },
    ],
    build: |_, _| Ok(None),
};

/// Draws a place of the list; `None` only when the list is empty.
pub(super) fn draw(list: &[Candidate], rng: &mut Rng) -> Option<usize> {
    let total: f64 = list.iter().map(|c| f64::from(c.p)).sum();
    let target = rng.unit() * total;
    let mut sum = 0.0;
    let place = list.iter().position(|c| {
        sum += f64::from(c.p);
        sum > target
    });
    place.or(list.len().checked_sub(1))
}
