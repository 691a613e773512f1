//! Normalisation with the file's weights.

use crate::bind::Binder;
use crate::error::Error;
use crate::spec::{self, NormKind};
use quant::Vector;
use std::sync::Arc;

/// A norm with its weight, and bias where the file has one.
#[derive(Clone)]
pub(crate) struct Norm {
    kind: NormKind,
    eps: f32,
    weight: Arc<[f32]>,
    bias: Option<Arc<[f32]>>,
}

impl Norm {
    /// Binds the tensors `PREFIX + name.weight` and `.bias`, of `n` values.
    pub(crate) fn bind(
        b: &Binder,
        prefix: &str,
        norm: &spec::Norm,
        n: usize,
    ) -> Result<Norm, Error> {
        let name = format!("{prefix}{}", norm.name);
        let bias = match norm.kind {
            NormKind::Rms => None,
            NormKind::Layer => b.opt_vector(&format!("{name}.bias"), n)?,
        };
        let weight = b.vector(&format!("{name}.weight"), n)?;
        Ok(Norm { kind: norm.kind, eps: norm.eps, weight, bias })
    }

    pub(crate) fn apply(&self, vec: Vector, x: &[f32], out: &mut [f32]) {
        match self.kind {
            NormKind::Rms => vec.rms_norm(x, Some(&self.weight), self.eps, out),
            NormKind::Layer => {
                vec.layer_norm(x, Some(&self.weight), self.bias.as_deref(), self.eps, out);
            }
        }
    }
}
