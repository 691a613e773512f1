//! Short constructors, so that a spec reads as its architecture's formula.

use super::{Body, Branch, Ffn, Layer, Moe, Norm, Score, Stage};

/// A branch with a norm before its body.
pub fn pre(norm: Norm, body: Body) -> Branch {
    Branch { norm: Some(norm), body, norm_out: None, scale: 1.0 }
}

impl Branch {
    /// The same branch with a norm after its body.
    #[must_use]
    pub fn post(self, norm: Norm) -> Branch {
        Branch { norm_out: Some(norm), ..self }
    }
}

/// A layer of stages of one branch each.
pub fn seq(branches: impl IntoIterator<Item = Branch>) -> Layer {
    Layer { stages: branches.into_iter().map(|b| Stage { branches: vec![b] }).collect() }
}

/// A layer of one stage whose branches run on the same input.
pub fn par(branches: impl IntoIterator<Item = Branch>) -> Layer {
    Layer { stages: vec![Stage { branches: branches.into_iter().collect() }] }
}

/// A mixture with softmax weights, renormalised.
pub fn moe(n_expert: usize, n_expert_used: usize, ffn: Ffn) -> Moe {
    Moe { n_expert, n_expert_used, ffn, score: Score::Softmax, renorm: true, scale: 1.0 }
}
