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
        Ok((mass < 1.0).then(|| {
            Box::new(Typical {
                mass,
                ranked: Vec::new(),
            }) as Box<dyn Stage>
        }))
    },
};

#[derive(Clone)]
struct Typical {
    mass: f64,
    /// (distance from the entropy in nats, place in the list)
    ranked: Vec<(f64, usize)>,
}

impl Stage for Typical {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        let entropy = super::entropy(candidates);
        let list = candidates.softmax();
        self.ranked.clear();
        let distance = |p: f32| {
            if p < f32::MIN_POSITIVE {
                f64::INFINITY
            } else {
                (-math::ln(p.into()) - entropy).abs()
            }
        };
        self.ranked
            .extend(list.iter().enumerate().map(|(i, c)| (distance(c.p), i)));
        self.ranked
            .sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut sum = 0.0;
        let reached = self.ranked.iter().position(|&(_, i)| {
            sum += f64::from(list[i].p);
            sum > self.mass
        });
        let keep = reached.map_or(list.len(), |last| last + 1);
        // What is left out loses its place by a negative probability, which no other candidate has.
        for &(_, i) in &self.ranked[keep..] {
            list[i].p = -1.0;
        }
        list.retain(|c| c.p >= 0.0);
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
        assert_eq!(
            tokens(&mut chain("typical", |o| o.typical_p(0.95)), &[1.0; 10]).len(),
            10
        );
    }
}
