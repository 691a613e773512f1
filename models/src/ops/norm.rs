//! Normalisation with the file's weights.

use crate::bind::Binder;
use crate::error::Error;
use crate::spec::{self, NormKind};
use quant::Vector;
use std::sync::Arc;

/// A norm with its weight and bias, where it has them.
#[derive(Clone)]
pub(crate) struct Norm {
    kind: NormKind,
    eps: f32,
    weight: Option<Arc<[f32]>>,
    bias: Option<Arc<[f32]>>,
}

impl Norm {
    /// Binds the tensors `PREFIX + name.weight` and `.bias`, of `n` values. A name that is a whole
    /// tensor's (`ffn_gate_inp.scale`) is taken as it is.
    pub(crate) fn bind(
        b: &Binder,
        prefix: &str,
        norm: &spec::Norm,
        n: usize,
    ) -> Result<Norm, Error> {
        let Some(name) = norm.name else { return Ok(Norm::bare(norm.kind, norm.eps)) };
        let name = format!("{prefix}{name}");
        let bias = match norm.kind {
            NormKind::Rms => None,
            NormKind::Layer => b.opt_vector(&format!("{name}.bias"), n)?,
        };
        let weight = if b.has(&name) { name } else { name + ".weight" };
        let weight = Some(b.vector(&weight, n)?);
        Ok(Norm { kind: norm.kind, eps: norm.eps, weight, bias })
    }

    /// A norm without weight.
    pub(crate) fn bare(kind: NormKind, eps: f32) -> Norm {
        Norm { kind, eps, weight: None, bias: None }
    }

    /// A norm of `n_part` values with a weight of its own for each of `n_parts` parts; the tensor
    /// is [n_parts, n_part].
    pub(crate) fn bind_parts(
        b: &Binder,
        name: &str,
        (kind, eps): (NormKind, f32),
        (n_parts, n_part): (usize, usize),
    ) -> Result<Norm, Error> {
        let full = format!("{name}.weight");
        let dims = [n_part as u64, n_parts as u64];
        let weight = b.table(&full, &dims)?;
        let bias = b.floats(&format!("{name}.bias"), &dims)?;
        Ok(Norm { kind, eps, weight: Some(weight), bias })
    }

    pub(crate) fn apply(&self, vec: Vector, x: &[f32], out: &mut [f32]) {
        self.apply_with(vec, self.weight.as_deref(), self.bias.as_deref(), x, out);
    }

    /// As [`Norm::apply`], with the weight of part `i` (see [`Norm::bind_parts`]).
    pub(crate) fn apply_part(&self, vec: Vector, i: usize, x: &[f32], out: &mut [f32]) {
        let part = i * x.len()..(i + 1) * x.len();
        let weight = self.weight.as_ref().map(|w| &w[part.clone()]);
        let bias = self.bias.as_ref().map(|b| &b[part]);
        self.apply_with(vec, weight, bias, x, out);
    }

    fn apply_with(
        &self,
        vec: Vector,
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
        x: &[f32],
        out: &mut [f32],
    ) {
        match self.kind {
            NormKind::Rms => vec.rms_norm(x, weight, self.eps, out),
            NormKind::Layer => vec.layer_norm(x, weight, bias, self.eps, out),
        }
    }
}
