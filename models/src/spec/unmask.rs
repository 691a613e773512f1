//! Models that fill masks instead of drawing token after token (masked diffusion).

/// How such a model writes a text: all of it begins as masks, and step by step those are filled of
/// which the model is surest. LLaDA (Nie et al. 2025, arXiv 2502.09992), Dream (Ye et al. 2025,
/// arXiv 2508.15487), RND1 (Radical Numerics 2025).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unmask {
    /// Row i of the logits is about token i + 1, as of a model that once drew token after token;
    /// else about token i itself.
    pub shifted: bool,
    /// What the model is said to be sure of.
    pub sureness: Sureness,
    /// Positions that are filled before the next ones are begun; `None` = all at once.
    pub block: Option<usize>,
}

/// Measures of how sure a model is of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sureness {
    /// The probability of the token drawn.
    Probability,
    /// How little the whole distribution is spread: its negative entropy.
    Entropy,
}
