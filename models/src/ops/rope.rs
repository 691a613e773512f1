//! Rotary frequencies and their tables of cos and sin.
//!
//! Formulas: Su et al. 2021 (rotation), Chen et al. 2023 (linear), Peng et al. 2023 (YaRN),
//! Ding et al. 2024 (LongRoPE); Llama 3.1's divisors come ready in the file.

use crate::bind::Binder;
use crate::error::Error;
use crate::spec::{Rope, RopeScaling};

/// Angles per position of one rotation: pair i turns by `pos * freqs[i]`, cos and sin are
/// multiplied by `scale`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RopeTable {
    freqs: Vec<f64>,
    scale: f64,
}

impl RopeTable {
    /// Works the frequencies out for a session with a context of `n_ctx` positions.
    pub(crate) fn bind(b: &Binder, rope: &Rope, n_ctx: usize) -> Result<RopeTable, Error> {
        let half = rope.n_rot / 2;
        let base = f64::from(rope.base);
        let plain = |i: usize| base.powf(-2.0 * i as f64 / rope.n_rot as f64);
        let divisors = match rope.scaling {
            RopeScaling::Freqs => b.opt_vector("rope_freqs.weight", half)?,
            RopeScaling::Long { n_ctx_orig, .. } => {
                let long = b.opt_vector("rope_factors_long.weight", half)?;
                let short = b.opt_vector("rope_factors_short.weight", half)?;
                if n_ctx > n_ctx_orig { long } else { short }
            }
            _ => None,
        };
        let mut scale = 1.0;
        let mut freqs: Vec<f64> = (0..half).map(plain).collect();
        if let Some(d) = &divisors {
            freqs.iter_mut().zip(d.iter()).for_each(|(f, &d)| *f /= f64::from(d));
        }
        match rope.scaling {
            RopeScaling::None | RopeScaling::Freqs => {}
            RopeScaling::Linear { factor } => {
                freqs.iter_mut().for_each(|f| *f /= f64::from(factor));
            }
            RopeScaling::Long { attn_factor, .. } if divisors.is_some() => {
                scale = f64::from(attn_factor);
            }
            RopeScaling::Long { .. } => {}
            RopeScaling::Yarn { factor, n_ctx_orig, beta_fast, beta_slow, magnitude } => {
                let factor = f64::from(factor);
                // Index of the pair that makes `turns` turns within the original context.
                let index = |turns: f32| {
                    let turns = f64::from(turns) * std::f64::consts::TAU;
                    rope.n_rot as f64 * (n_ctx_orig as f64 / turns).ln() / (2.0 * base.ln())
                };
                let low = index(beta_fast).floor().max(0.0);
                let high = index(beta_slow).ceil().min(rope.n_rot as f64 - 1.0);
                for (i, f) in freqs.iter_mut().enumerate() {
                    let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    *f = *f / factor * ramp + *f * (1.0 - ramp);
                }
                scale = f64::from(magnitude);
            }
        }
        Ok(RopeTable { freqs, scale })
    }

    /// Values that are rotated.
    pub(crate) fn n_rot(&self) -> usize {
        2 * self.freqs.len()
    }

    /// Writes the cosines, then the sines, of position `pos`.
    pub(crate) fn fill(&self, pos: usize, out: &mut [f32]) {
        let (cos, sin) = out[..self.n_rot()].split_at_mut(self.freqs.len());
        for ((f, c), s) in self.freqs.iter().zip(cos).zip(sin) {
            let angle = pos as f64 * f;
            *c = (angle.cos() * self.scale) as f32;
            *s = (angle.sin() * self.scale) as f32;
        }
    }
}
