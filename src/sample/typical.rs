//! Locally typical sampling (C. Meister et al., "Locally Typical Sampling", 2022): the tokens whose surprise is
//! nearest to the entropy, until they reach the mass together.

use super::options::number;
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage, math};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "typical",
    aliases: &["typ-p", "typical-p"],
    doc: "Keeps the tokens whose surprise is nearest to the expected one.",
    source: "Meister et al. 2022, arXiv:2202.00666",
    place: Place::OrderedUnlessMirostat,
    flags: &[number!(
        typical_p,
        "typical",
        "a number from 0 to 1",
        |p: f32| (0.0..=1.0).contains(&p),
        "Draw from the most typical tokens that reach this probability together; 1 = off"
    )],
    build: |options, _| {
        let mass = f64::from(options.typical_p);
        Ok((mass < 1.0).then(|| Box::new(Typical { mass }) as Box<dyn Stage>))
    },
};

#[derive(Clone)]
struct Typical {
    mass: f64,
}

impl Stage for Typical {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        let entropy = super::entropy(candidates);
        // Surprise is ln(sum of e^(logit - max)) - (logit - max): of logits, a distance from one of them.
        let typical = f64::from(candidates.max()) + math::ln(candidates.exp_sum()) - entropy;
        candidates.keep_nearest(self.mass, |logit| {
            let distance = (f64::from(logit) - typical).abs() as f32;
            if logit > f32::NEG_INFINITY { distance } else { f32::INFINITY }
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, logits_of, tokens};

    #[test]
    fn prefers_typical_tokens_over_the_most_probable_one() {
        // Entropy 1.350 nats; distances from it: 0.5 -> 0.657, 0.15 -> 0.547, 0.05 -> 1.646.
        let logits = logits_of(&[0.5, 0.15, 0.15, 0.15, 0.05]);
        let at = |p| tokens(&mut chain("typical", |o| o.typical_p(p)), &logits);
        assert_eq!(at(0.0), [1]);
        assert_eq!(at(0.2), [1, 2]);
        assert_eq!(at(0.35), [1, 2, 3]);
        assert_eq!(at(0.6), [0, 1, 2, 3]);
        assert_eq!(at(0.96), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_flat_distribution_loses_nothing_it_needs() {
        assert_eq!(tokens(&mut chain("typical", |o| o.typical_p(0.95)), &[1.0; 10]).len(), 10);
    }
}
