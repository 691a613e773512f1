//! Log-probabilities of the model's own distribution, before any sampler.

use super::{Buffers, Candidates, SampleError, math};

/// A token with its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token's id.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// The `n` most probable tokens of `logits` `[n_vocab]`, best first; equals by id.
///
/// ```
/// let top = pumice::sample::top_logprobs(&[0.0, 2.0f32.ln(), f32::NEG_INFINITY], 2).unwrap();
/// assert_eq!((top[0].token, top[1].token), (1, 0));
/// assert!((top[0].logprob - (2.0f32 / 3.0).ln()).abs() < 1e-6);
/// ```
///
/// # Errors
/// A NaN or `+inf` among the logits; logits that are all `-inf`, or none.
pub fn top_logprobs(logits: &[f32], n: usize) -> Result<Vec<TokenLogprob>, SampleError> {
    let mut buffers = Buffers::default();
    let mut candidates = Candidates::new(logits, &mut buffers)?;
    let norm = log_sum(&candidates)?;
    candidates.keep_top(n);
    let logprob = |logit: f32| (f64::from(logit) - norm) as f32;
    Ok(candidates
        .list()
        .iter()
        .map(|c| TokenLogprob {
            token: c.token,
            logprob: logprob(c.logit),
        })
        .collect())
}

/// The log-probability of one token under `logits` `[n_vocab]`; `-inf` for a token that cannot be drawn.
///
/// # Errors
/// As [`top_logprobs`]; a token outside the vocabulary.
pub fn logprob(logits: &[f32], token: u32) -> Result<f32, SampleError> {
    let outside = SampleError::Token {
        token,
        n_vocab: logits.len(),
    };
    let logit = *logits.get(token as usize).ok_or(outside)?;
    let norm = log_sum(&Candidates::new(logits, &mut Buffers::default())?)?;
    Ok((f64::from(logit) - norm) as f32)
}

/// The logarithm of the sum of the logits' exponentials.
fn log_sum(candidates: &Candidates<'_>) -> Result<f64, SampleError> {
    let sum = candidates.exp_sum();
    if sum == 0.0 {
        return Err(SampleError::NoCandidates { after: "the model" });
    }
    Ok(f64::from(candidates.max()) + math::ln(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_double_precision() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 37 % 1000) as f32).sqrt()).collect();
        let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        for (place, top) in top_logprobs(&logits, 1000).unwrap().iter().enumerate() {
            let want = f64::from(logits[top.token as usize]) - sum.ln();
            assert!(
                (f64::from(top.logprob) - want).abs() < 1e-5,
                "place {place}"
            );
            assert_eq!(logprob(&logits, top.token).unwrap(), top.logprob);
        }
    }

    #[test]
    fn refuses_what_is_no_distribution() {
        assert!(matches!(
            top_logprobs(&[], 1),
            Err(SampleError::NoCandidates { .. })
        ));
        assert!(matches!(
            top_logprobs(&[f32::NEG_INFINITY; 3], 1),
            Err(SampleError::NoCandidates { .. })
        ));
        assert!(matches!(
            top_logprobs(&[0.0, f32::NAN], 1),
            Err(SampleError::NotFinite { token: 1, .. })
        ));
        assert!(matches!(
            logprob(&[0.0], 1),
            Err(SampleError::Token {
                token: 1,
                n_vocab: 1
            })
        ));
        assert_eq!(logprob(&[0.0, f32::NEG_INFINITY], 1), Ok(f32::NEG_INFINITY));
    }
}
