//! Greedy: the token with the largest logit, the lowest id among equals. What a temperature of 0 means.

use super::{Candidates, Rng, Stage};

#[derive(Clone)]
pub(super) struct Greedy;

impl Stage for Greedy {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        candidates.keep_top(1);
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, tokens};

    #[test]
    fn takes_the_first_of_the_largest() {
        let mut greedy = chain("temperature", |o| o.temperature(0.0));
        assert_eq!(tokens(&mut greedy, &[1.0, 4.0, -2.0, 4.0]), [1]);
        assert_eq!(
            tokens(
                &mut greedy,
                &[f32::NEG_INFINITY, f32::MIN, f32::NEG_INFINITY, f32::MIN]
            ),
            [1]
        );
    }
}
