//! Short constructors, so that a spec reads as its architecture's formula.

use super::{Body, Branch, Ffn, Layer, Moe, Norm, NormKind, Read, Router, Score, Stage};

/// A branch with a norm before its body.
pub fn pre(norm: Norm, body: Body) -> Branch {
    Branch { norm: Some(norm), ..raw(body) }
}

/// A branch that reads the stream as it is.
pub fn raw(body: Body) -> Branch {
    Branch { read: Read::Stream, norm: None, body, norm_out: None, scale: 1.0 }
}

/// A norm without weight.
pub fn bare(kind: NormKind, eps: f32) -> Norm {
    Norm { kind, eps, name: None }
}

impl Branch {
    /// The same branch with a norm after its body.
    #[must_use]
    pub fn post(self, norm: Norm) -> Branch {
        Branch { norm_out: Some(norm), ..self }
    }

    /// The same branch with a factor on its result.
    #[must_use]
    pub fn times(self, scale: f32) -> Branch {
        Branch { scale, ..self }
    }
}

/// A stage that adds the sum of its branches to the stream.
pub fn stage(branches: impl IntoIterator<Item = Branch>) -> Stage {
    Stage {
        branches: branches.into_iter().collect(),
        norm_out: None,
        scale: 1.0,
        factor: 1.0,
        factor_name: None,
        norm_after: None,
    }
}

impl Stage {
    /// The same stage with a norm of the stream after it.
    #[must_use]
    pub fn then(self, norm: Norm) -> Stage {
        Stage { norm_after: Some(norm), ..self }
    }
}

/// A layer of stages of one branch each.
pub fn seq(branches: impl IntoIterator<Item = Branch>) -> Layer {
    Layer { stages: branches.into_iter().map(|b| stage([b])).collect() }
}

/// A layer of one stage whose branches run on the same input.
pub fn par(branches: impl IntoIterator<Item = Branch>) -> Layer {
    Layer { stages: vec![stage(branches)] }
}

/// A mixture with softmax weights, renormalised.
pub fn moe(n_expert: usize, n_expert_used: usize, ffn: Ffn) -> Moe {
    Moe {
        n_expert,
        n_expert_used,
        ffn,
        router: Router { read: Read::Stream, norm: None, scale: 1.0 },
        score: Score::Softmax,
        groups: None,
        renorm: true,
        scale: 1.0,
        weigh_input: false,
        shared: None,
        adjugate: None,
    }
}
