//! Helpers of the samplers' tests.

use super::{Sampler, SamplerOptions};

/// A chain of `order` alone: temperature 1 and a fixed seed unless `set` says otherwise.
pub(super) fn chain(order: &str, set: impl FnOnce(SamplerOptions) -> SamplerOptions) -> Sampler {
    let options = SamplerOptions::default()
        .samplers(order.parse().unwrap())
        .temperature(1.0)
        .seed(Some(1));
    Sampler::new(&set(options), 1 << 20)
        .map(|s| Sampler {
            n_vocab: usize::MAX,
            ..s
        })
        .unwrap()
}

/// The candidates' tokens, in the order of the list.
pub(super) fn tokens(sampler: &mut Sampler, logits: &[f32]) -> Vec<u32> {
    run(sampler, logits);
    sampler.candidates().iter().map(|c| c.token).collect()
}

/// The candidates' probabilities, in the order of the list.
pub(super) fn probabilities(sampler: &mut Sampler, logits: &[f32]) -> Vec<f32> {
    run(sampler, logits);
    sampler.candidates().iter().map(|c| c.p).collect()
}

/// The logits `[logits.len()]` after the chain; `-inf` for tokens that are gone.
pub(super) fn logits(sampler: &mut Sampler, logits: &[f32]) -> Vec<f32> {
    run(sampler, logits);
    let mut after = vec![f32::NEG_INFINITY; logits.len()];
    sampler
        .candidates()
        .iter()
        .for_each(|c| after[c.token as usize] = c.logit);
    after
}

/// One step over `logits`, which are the whole vocabulary.
pub(super) fn run(sampler: &mut Sampler, logits: &[f32]) -> u32 {
    sampler.n_vocab = logits.len();
    sampler.sample(logits).unwrap()
}

pub(super) fn accept(sampler: &mut Sampler, text: &[u32]) {
    text.iter().for_each(|&token| sampler.accept(token));
}

/// Logits that give these probabilities, up to a factor.
pub(super) fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}
