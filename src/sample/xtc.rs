//! XTC, "exclude top choices" (P. E. Weidmann, pull request 6335 of text-generation-webui, 2024): with some
//! chance, of all tokens that reach the threshold only the least probable one stays.

use super::options::number;
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "xtc",
    aliases: &[],
    doc: "With some chance, removes all top choices but the least probable of them.",
    source: "P. E. Weidmann 2024, text-generation-webui pull request 6335",
    place: Place::OrderedUnlessMirostat,
    flags: &[
        number!(
            xtc_probability,
            "xtc-probability",
            "a number from 0 to 1",
            |p: f32| (0.0..=1.0).contains(&p),
            "Chance that the top choices are removed; 0 = off"
        ),
        number!(
            xtc_threshold,
            "xtc-threshold",
            "a number from 0 to 1",
            |p: f32| (0.0..=1.0).contains(&p),
            "Probability from which a token is a top choice; above 0.5 = off"
        ),
    ],
    build: |options, _| {
        let xtc = Xtc {
            probability: f64::from(options.xtc_probability),
            threshold: options.xtc_threshold,
        };
        // Two tokens cannot both have more than one half.
        let on = xtc.probability > 0.0 && xtc.threshold <= 0.5;
        Ok(on.then(|| Box::new(xtc) as Box<dyn Stage>))
    },
};

#[derive(Clone)]
struct Xtc {
    probability: f64,
    threshold: f32,
}

impl Stage for Xtc {
    /// Takes one random number for each token, whether it acts or not.
    fn apply(&mut self, candidates: &mut Candidates<'_>, rng: &mut Rng) {
        if rng.unit() >= self.probability {
            return;
        }
        let list = candidates.softmax();
        let choices = list.iter().take_while(|c| c.p >= self.threshold).count();
        if choices > 1 {
            candidates.drop_first(choices - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, logits_of, tokens};

    #[test]
    fn only_the_least_top_choice_stays() {
        let logits = logits_of(&[0.1, 0.4, 0.3, 0.2]);
        let at = |t| {
            tokens(
                &mut chain("xtc", |o| o.xtc_probability(1.0).xtc_threshold(t)),
                &logits,
            )
        };
        assert_eq!(at(0.15), [3, 0]);
        assert_eq!(at(0.25), [2, 3, 0]);
        assert_eq!(at(0.35), [1, 2, 3, 0], "a single top choice is not removed");
        assert_eq!(at(0.45), [1, 2, 3, 0], "nor is anything when there is none");
        assert_eq!(
            at(0.0),
            [0],
            "with a threshold of 0 the least probable of all stays"
        );
    }

    #[test]
    fn acts_as_often_as_asked() {
        let logits = logits_of(&[0.5, 0.5]);
        let mut sampler = chain("xtc", |o| o.xtc_probability(0.25).xtc_threshold(0.1));
        let acted = (0..4000)
            .filter(|_| tokens(&mut sampler, &logits).len() == 1)
            .count();
        // 1000 expected, standard deviation 27.
        assert!((890..1110).contains(&acted), "{acted}");
    }
}
