//! What can be wrong with a vocabulary.

/// An error of loading or using a tokenizer. Each variant says what was found and what was
/// expected, and names the metadata key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key of the file has the wrong type.
    #[error(transparent)]
    File(#[from] formats::Error),
    /// A key is missing.
    #[error("{key} is missing; expected {expected}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// The file has another kind of tokenizer.
    #[error(
        "tokenizer.ggml.model is \"{kind}\", which is not supported; expected one of {}",
        KINDS.join(", ")
    )]
    UnsupportedKind {
        /// The kind that the file names.
        kind: String,
    },
    /// The file has no vocabulary: it works with token ids only.
    #[error(
        "this file has no vocabulary (tokenizer.ggml.model is \"{kind}\"); only token ids can be \
         used with it, or a vocabulary from --tokenizer tokenizer.json"
    )]
    NoVocabulary {
        /// The kind that the file names, "none" where it names none.
        kind: String,
    },
    /// Arrays of one entry per token differ in length, or there are too few or too many tokens.
    #[error("{key} has {found} entries; expected {expected}")]
    Length {
        /// The key.
        key: &'static str,
        /// Its number of entries.
        found: usize,
        /// The number, or range of numbers, that it should have.
        expected: String,
    },
    /// The tokens together are too long.
    #[error(
        "the tokens of tokenizer.ggml.tokens hold {found} bytes together; expected fewer than {expected}"
    )]
    TooLong {
        /// Bytes of all tokens.
        found: usize,
        /// The limit.
        expected: usize,
    },
    /// A token has an unknown type.
    #[error("tokenizer.ggml.token_type[{index}] is {found}; expected 1 to 6")]
    TokenType {
        /// The token.
        index: usize,
        /// The number.
        found: i64,
    },
    /// A score is no number.
    #[error("tokenizer.ggml.scores[{index}] is NaN; expected a number")]
    Score {
        /// The token.
        index: usize,
    },
    /// A token is longer than any that is published.
    #[error("tokenizer.ggml.tokens[{index}] has {found} bytes; expected {expected} at most")]
    TokenLength {
        /// The token.
        index: usize,
        /// Its bytes.
        found: usize,
        /// The limit.
        expected: usize,
    },
    /// A vocabulary that falls back to bytes lacks one.
    #[error("tokenizer.ggml.tokens has no token <0x{byte:02X}>; expected one for each byte")]
    ByteToken {
        /// The byte.
        byte: u8,
    },
    /// The map of characters is none.
    #[error(
        "tokenizer.ggml.precompiled_charsmap is {found}; expected bytes: a size, a double-array \
         trie of that size, replacements"
    )]
    CharsMap {
        /// What is there.
        found: String,
    },
    /// A special token's id lies outside the vocabulary.
    #[error("{key} is {found}; expected an id below {n_tokens}, the number of tokens")]
    SpecialId {
        /// The key.
        key: String,
        /// The id.
        found: u64,
        /// Tokens of the vocabulary.
        n_tokens: usize,
    },
    /// A merge is no pair of words.
    #[error(
        "tokenizer.ggml.merges[{index}] is \"{found}\"; expected two tokens with one space between"
    )]
    MergeShape {
        /// The merge.
        index: usize,
        /// Its text.
        found: String,
    },
    /// A merge names a token that does not exist.
    #[error(
        "tokenizer.ggml.merges[{index}] is \"{found}\"; expected tokens of the vocabulary, which \"{unknown}\" is not"
    )]
    MergeToken {
        /// The merge.
        index: usize,
        /// Its text.
        found: String,
        /// The part, or the whole, that is no token.
        unknown: String,
    },
    /// A token id lies outside the vocabulary.
    #[error("token id {found}; expected one below {n_tokens}, the number of tokens")]
    UnknownId {
        /// The id.
        found: u32,
        /// Tokens of the vocabulary.
        n_tokens: usize,
    },
    /// A tokenizer.json cannot be read or used.
    #[error("{path}: {found}; expected a tokenizer.json of the tokenizers library")]
    Json {
        /// The file.
        path: String,
        /// What is wrong.
        found: String,
    },
}

/// The kinds of tokenizer that are supported, as `tokenizer.ggml.model` names them.
pub(super) const KINDS: &[&str] =
    &["gpt2", "llama", "gemma4", "bert", "t5", "rwkv", "plamo2", "whitespace"];
