//! Min-p (M. Nguyen et al., "Turning Up the Heat: Min-p Sampling for Creative and Coherent LLM Outputs", 2024):
//! tokens with at least a share of the best token's probability.

use super::options::number;
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage, math};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "min-p",
    aliases: &[],
    doc: "Keeps the tokens that have at least this share of the best token's probability.",
    source: "Nguyen et al. 2024, arXiv:2407.01082",
    place: Place::OrderedUnlessMirostat,
    flags: &[number!(
        min_p,
        "min-p",
        "a number from 0 to 1",
        |p: f32| (0.0..=1.0).contains(&p),
        "Draw from tokens with at least this share of the best one's probability; 0 = off"
    )],
    build: |options, _| {
        // Below the smallest normal float the logarithm has no meaning, and no token has that probability.
        let on = options.min_p >= f32::MIN_POSITIVE;
        let distance = if on {
            math::ln(f64::from(options.min_p)) as f32
        } else {
            0.0
        };
        Ok(on.then(|| Box::new(MinP { distance }) as Box<dyn Stage>))
    },
};

/// A share of the best probability is a distance below the best logit: no softmax is needed.
#[derive(Clone)]
struct MinP {
    distance: f32,
}

impl Stage for MinP {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        candidates.keep_from(candidates.max() + self.distance);
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, logits_of, tokens};

    #[test]
    fn keeps_a_share_of_the_best() {
        let logits = logits_of(&[0.04, 0.5, 0.06, 0.4]);
        for order in ["min-p", "top-k;min-p"] {
            let at = |p| {
                let mut kept = tokens(&mut chain(order, |o| o.top_k(4).min_p(p)), &logits);
                kept.sort_unstable();
                kept
            };
            assert_eq!(at(0.1), [1, 2, 3], "{order}");
            assert_eq!(at(0.7), [1, 3], "{order}");
            assert_eq!(at(1.0), [1], "{order}");
            assert_eq!(at(0.0), [0, 1, 2, 3], "{order}");
        }
    }

    #[test]
    fn ties_with_the_best_all_stay() {
        assert_eq!(
            tokens(&mut chain("min-p", |o| o.min_p(1.0)), &[3.0, 3.0, 2.0]),
            [0, 1]
        );
    }
}
