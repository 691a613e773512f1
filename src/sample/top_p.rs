//! Top-p, or nucleus sampling (A. Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020): the
//! smallest set of most probable tokens whose probabilities reach p together.

use super::options::number;
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "top-p",
    aliases: &["nucleus"],
    doc: "Keeps the most probable tokens that reach the probability p together.",
    source: "Holtzman et al. 2020, arXiv:1904.09751",
    place: Place::OrderedUnlessMirostat,
    flags: &[number!(
        top_p,
        "top-p",
        "a number from 0 to 1",
        |p: f32| (0.0..=1.0).contains(&p),
        "Draw from the most probable tokens that reach this probability together; 1 = off"
    )],
    build: |options, _| {
        let mass = f64::from(options.top_p);
        Ok((mass < 1.0).then(|| Box::new(TopP { mass }) as Box<dyn Stage>))
    },
};

#[derive(Clone)]
struct TopP {
    mass: f64,
}

impl Stage for TopP {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        candidates.keep_mass(self.mass);
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, logits_of, tokens};

    #[test]
    fn keeps_the_token_that_reaches_the_mass_and_none_after_it() {
        let logits = logits_of(&[0.1, 0.4, 0.2, 0.3]);
        for (p, kept) in [
            (0.0, &[1][..]),
            (0.39, &[1]),
            (0.41, &[1, 3]),
            (0.75, &[1, 3, 2]),
            (0.95, &[1, 3, 2, 0]),
        ] {
            assert_eq!(
                tokens(&mut chain("top-p", |o| o.top_p(p)), &logits),
                kept,
                "top_p {p}"
            );
        }
    }

    #[test]
    fn the_whole_vocabulary_and_a_sorted_list_give_the_same() {
        // Flat enough that the first try with few candidates falls short.
        let logits: Vec<f32> = (0..5000u32)
            .map(|i| (i * 7919 % 5000) as f32 / 2500.0)
            .collect();
        let dense = tokens(&mut chain("top-p", |o| o.top_p(0.9)), &logits);
        let listed = tokens(
            &mut chain("top-k;top-p", |o| o.top_k(4999).top_p(0.9)),
            &logits,
        );
        assert!(dense.len() > 3000, "{}", dense.len());
        assert!(dense.len().abs_diff(listed.len()) <= 1);
        assert_eq!(dense[..3000], listed[..3000]);
    }
}
