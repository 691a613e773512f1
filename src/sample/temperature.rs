//! Temperature: logits are divided by it (D. Ackley, G. Hinton, T. Sejnowski, "A Learning Algorithm for
//! Boltzmann Machines", 1985), and dynamic temperature, which chooses it by the entropy of each step
//! (S. Zhang et al., "EDT: Improving Large Language Models' Generation by Entropy-based Dynamic Temperature
//! Sampling", 2024, in the form that kalomaze gave it for llama.cpp):
//! `t = lo + (hi - lo) * (H / H_max)^exponent`, `lo, hi = temperature -+ range`, `H_max = ln(candidates)`.

use super::greedy::Greedy;
use super::options::number;
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage, math};

/// Below this the best token is as good as certain (a lead of 0.1 is a factor of e^100), and dividing by it
/// could leave the range of floats.
const GREEDY_BELOW: f32 = 1e-3;
/// Above this all logits of a model are equal.
const HIGHEST: f32 = 1e6;

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "temperature",
    aliases: &["temp"],
    doc: "Divides the logits: below 1 sharper, above 1 flatter; 0 takes the best token.",
    source: "Ackley, Hinton, Sejnowski 1985; dynamic: Zhang et al. 2024, arXiv:2403.14541",
    place: Place::Ordered,
    flags: &[
        number!(
            temperature,
            "temp",
            "a number from 0 to 1000000",
            |t: f32| (0.0..=HIGHEST).contains(&t),
            "Temperature; 0 = always the most probable token, as diffusion models do by default"
        ),
        number!(
            dynatemp_range,
            "dynatemp-range",
            "a number from 0 to 1000000",
            |r: f32| (0.0..=HIGHEST).contains(&r),
            "Let the temperature move this far up and down with the entropy; 0 = off"
        ),
        number!(
            dynatemp_exponent,
            "dynatemp-exp",
            "a number from 0 to 1000",
            |e: f32| (0.0..=1000.0).contains(&e),
            "Exponent of the entropy in the dynamic temperature"
        ),
    ],
    build: |options, _| {
        let t = options.temperature;
        let range = options.dynatemp_range;
        Ok(if range > 0.0 {
            let exponent = f64::from(options.dynatemp_exponent);
            Some(Box::new(Dynamic { lo: (t - range).max(0.0), hi: t + range, exponent }))
        } else if t < GREEDY_BELOW {
            Some(Box::new(Greedy))
        } else if t == 1.0 {
            None
        } else {
            Some(Box::new(Fixed { t }))
        })
    },
};

#[derive(Clone)]
struct Fixed {
    t: f32,
}

impl Stage for Fixed {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        candidates.divide(self.t);
    }
}

#[derive(Clone)]
struct Dynamic {
    lo: f32,
    hi: f32,
    exponent: f64,
}

impl Stage for Dynamic {
    fn apply(&mut self, candidates: &mut Candidates<'_>, rng: &mut Rng) {
        let entropy = super::entropy(candidates);
        let n = candidates.list().len();
        if n < 2 {
            return;
        }
        let share = (entropy / math::ln(n as f64)).clamp(0.0, 1.0);
        let t = self.lo + (self.hi - self.lo) * math::pow(share, self.exponent) as f32;
        if t < GREEDY_BELOW {
            Greedy.apply(candidates, rng);
        } else {
            candidates.divide(t);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, logits_of, probabilities};

    fn close(a: &[f32], b: &[f32]) {
        assert!(
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-5),
            "{a:?} {b:?}"
        );
    }

    #[test]
    fn divides_the_logits() {
        // Temperature 1/2 squares the probabilities.
        let p = probabilities(
            &mut chain("temperature", |o| o.temperature(0.5)),
            &logits_of(&[0.75, 0.25]),
        );
        close(&p, &[0.9, 0.1]);
        let p = probabilities(
            &mut chain("temperature", |o| o.temperature(1.0)),
            &logits_of(&[0.75, 0.25]),
        );
        close(&p, &[0.75, 0.25]);
        let tiny =
            probabilities(&mut chain("temperature", |o| o.temperature(1e-30)), &[1e30, 9e29]);
        close(&tiny, &[1.0]);
    }

    #[test]
    fn dynamic_temperature_follows_the_entropy() {
        let dynamic = |lo_hi: (f32, f32), exponent| {
            let (t, range) = ((lo_hi.0 + lo_hi.1) / 2.0, (lo_hi.1 - lo_hi.0) / 2.0);
            chain("temperature", |o| {
                o.temperature(t).dynatemp_range(range).dynatemp_exponent(exponent)
            })
        };
        // All equal: entropy is at its maximum, the temperature at its upper end, the result flat.
        close(&probabilities(&mut dynamic((0.5, 1.5), 1.0), &[2.0; 4]), &[0.25; 4]);
        // H(0.75, 0.25) / ln 2 = 0.811278: t = 0.5 + 0.811278 = 1.311278.
        let p = probabilities(&mut dynamic((0.5, 1.5), 1.0), &logits_of(&[0.75, 0.25]));
        let odds = 3.0f32.powf(1.0 / 1.311_278);
        close(&p, &[odds / (1.0 + odds), 1.0 / (1.0 + odds)]);
        // An exponent of 0 always gives the upper end.
        let p = probabilities(&mut dynamic((0.5, 1.5), 0.0), &logits_of(&[0.75, 0.25]));
        let odds = 3.0f32.powf(1.0 / 1.5);
        close(&p, &[odds / (1.0 + odds), 1.0 / (1.0 + odds)]);
        // Certainty gives the lower end, which may be 0.
        close(&probabilities(&mut dynamic((0.0, 1.0), 1.0), &[200.0, 0.0]), &[1.0]);
    }
}
