//! Mirostat 2 (S. Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity",
//! 2021): tokens whose surprise exceeds mu are left out, and mu follows the surprise that was drawn.

use super::options::number;
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage, math};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "mirostat",
    aliases: &[],
    doc: "Mirostat 2: holds the surprise of the text near a target; replaces top-k, typical, top-p, min-p and XTC.",
    source: "Basu et al. 2021, arXiv:2007.14966",
    place: Place::Last,
    flags: &[
        number!(
            mirostat,
            "mirostat",
            "0 (off) or 2",
            |version: u32| version == 0 || version == 2,
            "2 = Mirostat 2 in place of top-k, typical, top-p, min-p and XTC; 0 = off"
        ),
        number!(
            mirostat_tau,
            "mirostat-ent",
            "a number above 0, at most 1000",
            |tau: f32| tau > 0.0 && tau <= 1000.0,
            "Mirostat's target surprise in bits"
        ),
        number!(
            mirostat_eta,
            "mirostat-lr",
            "a number from 0 to 1",
            |eta: f32| (0.0..=1.0).contains(&eta),
            "Mirostat's learning rate"
        ),
    ],
    build: |options, _| {
        let (tau, eta) = (
            f64::from(options.mirostat_tau),
            f64::from(options.mirostat_eta),
        );
        let stage = Mirostat {
            tau,
            eta,
            mu: 2.0 * tau,
        };
        Ok((options.mirostat == 2).then(|| Box::new(stage) as Box<dyn Stage>))
    },
};

#[derive(Clone)]
struct Mirostat {
    tau: f64,
    eta: f64,
    /// The largest surprise allowed, in bits; starts at twice the target.
    mu: f64,
}

impl Stage for Mirostat {
    /// Surprise over mu bits is a probability under 2^-mu, a distance below the logarithm of the sum.
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        let sum = candidates.exp_sum();
        if sum > 0.0 {
            let floor =
                f64::from(candidates.max()) + math::ln(sum) - self.mu * std::f64::consts::LN_2;
            candidates.keep_from(floor as f32);
        }
    }

    fn drawn(&mut self, p: f32) {
        let surprise = -math::ln(f64::from(p.max(f32::MIN_POSITIVE))) / std::f64::consts::LN_2;
        self.mu -= self.eta * (surprise - self.tau);
    }

    fn reset(&mut self) {
        self.mu = 2.0 * self.tau;
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, logits_of, run, tokens};

    #[test]
    fn leaves_out_what_surprises_too_much() {
        let logits = logits_of(&[0.5, 0.25, 0.125, 0.125]);
        let at = |tau| {
            let mut sampler = chain("", |o| o.mirostat(2).mirostat_tau(tau).mirostat_eta(0.0));
            tokens(&mut sampler, &logits)
        };
        assert_eq!(at(2.0), [0, 1, 2, 3], "mu 4 bits");
        assert_eq!(at(1.25), [0, 1], "mu 2.5 bits");
        assert_eq!(at(0.75), [0], "mu 1.5 bits");
        assert_eq!(
            at(0.1),
            [0],
            "the best stays even when it surprises more than mu"
        );
    }

    #[test]
    fn the_mean_surprise_comes_to_the_target() {
        // A Zipf-like distribution over 2000 tokens.
        let weights: Vec<f32> = (1..=2000).map(|i| 1.0 / i as f32).collect();
        let logits = logits_of(&weights);
        for tau in [2.0f32, 4.0] {
            let mut sampler = chain("", |o| o.mirostat(2).mirostat_tau(tau));
            let mut bits = 0.0;
            for i in 0..3000 {
                let token = run(&mut sampler, &logits);
                let p = sampler
                    .candidates()
                    .iter()
                    .find(|c| c.token == token)
                    .unwrap()
                    .p;
                if i >= 1000 {
                    bits -= p.log2() / 2000.0;
                }
            }
            assert!(
                (bits - tau).abs() < 0.15,
                "mean surprise {bits}, target {tau}"
            );
        }
    }
}
