//! How a model that fills masks writes a text (masked diffusion): which masks are filled in which
//! step. Pure: what the model says comes in, positions and tokens go out.
//!
//! All of the answer begins as masks. It is cut into blocks, which are filled one after the other;
//! a block of m masks takes a number of steps s. In each step the model sees prompt, what is filled
//! and all masks; a token is drawn for each mask of the block, and those of which the model is
//! surest stay: ceil(m / s) of them in the first steps, floor(m / s) in the others, so that the
//! noise falls linearly. What is filled is never changed.
//!
//! That is the sampling of LLaDA (Nie et al. 2025, arXiv 2502.09992, low-confidence remasking with
//! blocks), of Dream (Ye et al. 2025, arXiv 2508.15487, by entropy) and of RND1 (Radical Numerics
//! 2025, by entropy), which differ in the measure, in the blocks, and in which row of the logits is
//! about which token ([`models::spec::Unmask`]). The mask itself is never drawn, so that the last
//! step of a block leaves none. The most probable token is what is drawn unless somebody asks for more
//! noise ([`crate::Model::sampler_options`]).

use models::spec::Sureness;

/// Tokens of an answer when nobody says how many: what the authors' examples have.
pub const DEFAULT_N_PREDICT: usize = 128;

/// How masks are to be filled; `None` = as the model's authors do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnmaskOptions {
    /// Steps for the whole answer; one for each token where nobody says. Fewer are faster and worse.
    pub steps: Option<usize>,
    /// Positions that are filled before the next ones are begun; the answer's length or more = all
    /// at once.
    pub block: Option<usize>,
}

/// Masks to be filled in each step of a block of `n`, with `steps` steps: at least one each.
pub(crate) fn schedule(n: usize, steps: usize) -> impl Iterator<Item = usize> {
    let steps = steps.clamp(1, n.max(1));
    (0..steps).map(move |i| n / steps + usize::from(i < n % steps)).filter(|&n| n > 0)
}

/// Blocks of an answer of `n` positions: their ranges and their steps, in order. Steps are shared
/// out by length.
pub(crate) fn blocks(n: usize, options: UnmaskOptions) -> Vec<(std::ops::Range<usize>, usize)> {
    let block = options.block.unwrap_or(n).clamp(1, n.max(1));
    let n_blocks = n.div_ceil(block);
    let steps = options.steps.unwrap_or(n).max(1);
    let of = |i: usize| {
        let range = i * block..n.min((i + 1) * block);
        // Rounded up, so that no block goes without a step.
        let share = (steps * range.len()).div_ceil(n.max(1)).max(1);
        (range, share)
    };
    (0..n_blocks).map(of).collect()
}

/// A token drawn for a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Draw {
    /// Where.
    pub(crate) position: usize,
    /// Which.
    pub(crate) token: u32,
    /// How sure the model is; more is surer.
    pub(crate) sureness: f64,
}

/// How sure a model with these logits is of `token`.
pub(crate) fn sureness(measure: Sureness, logits: &[f32], token: u32) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |x: f32| f64::from(x - top).exp();
    let sum: f64 = logits.iter().map(|&x| weight(x)).sum();
    match measure {
        Sureness::Probability => logits.get(token as usize).map_or(0.0, |&x| weight(x) / sum),
        // sum p log p = sum p (x - top) - log sum; what has no weight adds nothing.
        Sureness::Entropy => {
            let mean = |x: f32| if x.is_finite() { weight(x) * f64::from(x - top) } else { 0.0 };
            logits.iter().map(|&x| mean(x)).sum::<f64>() / sum - sum.ln()
        }
    }
}

/// Keeps the `n` draws of which the model is surest; of equals, the earlier positions.
pub(crate) fn surest(draws: &mut Vec<Draw>, n: usize) {
    draws.sort_by(|a, b| b.sureness.total_cmp(&a.sureness).then(a.position.cmp(&b.position)));
    draws.truncate(n);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_share_masks_out_and_the_first_ones_take_more() {
        let all = |n, steps| schedule(n, steps).collect::<Vec<_>>();
        assert_eq!(all(10, 4), [3, 3, 2, 2]);
        assert_eq!(all(3, 9), [1, 1, 1]);
        assert_eq!(all(3, 0), [3]);
        assert_eq!(all(0, 4), Vec::<usize>::new());
    }

    #[test]
    fn blocks_follow_each_other_and_have_steps_by_their_length() {
        let options = |steps, block| UnmaskOptions { steps, block };
        assert_eq!(blocks(10, options(None, None)), [(0..10, 10)]);
        assert_eq!(blocks(10, options(Some(5), Some(4))), [(0..4, 2), (4..8, 2), (8..10, 1)]);
        assert_eq!(blocks(10, options(Some(1), Some(4))), [(0..4, 1), (4..8, 1), (8..10, 1)]);
        assert_eq!(blocks(3, options(None, Some(99))), [(0..3, 3)]);
        assert_eq!(blocks(0, options(None, None)), []);
    }

    proptest! {
        #[test]
        fn every_mask_is_filled_once(
            n in 0usize..300,
            steps in prop::option::of(0usize..400),
            block in prop::option::of(0usize..400),
        ) {
            let all = blocks(n, UnmaskOptions { steps, block });
            let mut at = 0;
            for (range, steps) in all {
                prop_assert_eq!(range.start, at);
                prop_assert_eq!(schedule(range.len(), steps).sum::<usize>(), range.len());
                at = range.end;
            }
            prop_assert_eq!(at, n);
        }
    }

    #[test]
    fn sureness_is_probability_or_negative_entropy() {
        let logits = [0.25f32.ln(), 0.5f32.ln(), 0.25f32.ln(), f32::NEG_INFINITY];
        let of = |measure, token| sureness(measure, &logits, token);
        assert!((of(Sureness::Probability, 1) - 0.5).abs() < 1e-6);
        assert!((of(Sureness::Probability, 2) - 0.25).abs() < 1e-6);
        let entropy = 0.5 * 2f64.ln() + 0.5 * 4f64.ln();
        assert!((of(Sureness::Entropy, 0) + entropy).abs() < 1e-6);
    }

    #[test]
    fn the_surest_stay_and_earlier_ones_of_equals() {
        let draw = |position, sureness| Draw { position, token: 0, sureness };
        let mut draws = vec![draw(0, 0.1), draw(1, 0.7), draw(2, 0.7), draw(3, 0.9)];
        surest(&mut draws, 2);
        assert_eq!(draws.iter().map(|d| d.position).collect::<Vec<_>>(), [3, 1]);
    }
}
