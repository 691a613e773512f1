//! Words for what becomes of final rows: logits, embeddings, scores.

use super::Norm;

/// What becomes of the final rows of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Whether there are logits: the output matrix (`output.weight`, else the tied
    /// `token_embd.weight`, with an optional bias) and what follows it. A model without them turns
    /// whole texts into vectors.
    pub logits: bool,
    /// Factor on the logits.
    pub scale: f32,
    /// `cap * tanh(logit / cap)`.
    pub softcap: Option<f32>,
    /// How the rows become one vector, when embeddings are asked for.
    pub pooling: Pooling,
    /// Square or oblong matrices that the pooled vector goes through, one after another; their
    /// tensors' base names.
    pub dense: Vec<&'static str>,
    /// What turns a vector into scores.
    pub classifier: Option<Classifier>,
}

/// How the final rows of a sequence become its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// They do not: every row stands for its token.
    None,
    /// Their mean.
    Mean,
    /// The first.
    Cls,
    /// The last.
    Last,
    /// The classifier's scores.
    Rank,
}

impl Pooling {
    /// All of them, in the order of their GGUF numbers.
    pub const ALL: [Pooling; 5] =
        [Pooling::None, Pooling::Mean, Pooling::Cls, Pooling::Last, Pooling::Rank];

    /// The name that people use.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::None => "none",
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
            Pooling::Rank => "rank",
        }
    }
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Pooling {
    type Err = String;

    fn from_str(name: &str) -> Result<Pooling, String> {
        let known = || Pooling::ALL.map(Pooling::name).join(", ");
        let found = Pooling::ALL.into_iter().find(|p| p.name() == name);
        found.ok_or_else(|| format!("unknown pooling {name:?}; known are {}", known()))
    }
}

/// `output(norm(act(dense(v))))` of a vector v. Tensors: `cls` (dense, where the file has it) and
/// `cls.output`, each with an optional bias; a file with `cls` alone has the output there.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// Scores.
    pub n_out: usize,
    /// The vector that is looked at; not [`Pooling::None`] or [`Pooling::Rank`].
    pub from: Pooling,
    /// Activation after the dense matrix.
    pub act: Squash,
    /// Norm after that.
    pub norm: Option<Norm>,
    /// Softmax over the scores.
    pub softmax: bool,
}

/// Activations of a [`Classifier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    /// Hyperbolic tangent.
    Tanh,
    /// x/2 * (1 + erf(x / sqrt 2)).
    Gelu,
}
