//! Text in and out: chat templates, tokenizers, stop strings, the parts of an answer.

pub mod parse;
pub mod stop;
pub mod template;
pub mod tokenizer;

/// A stretch of prompt text and where it comes from.
///
/// Only trusted text may spell control tokens. A tokenizer joins neighbouring segments when it
/// looks for ordinary text (merging must not depend on where a segment ends), and looks for
/// control tokens inside one trusted segment at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The text.
    pub text: String,
    /// True when the template itself (or BOS/EOS) wrote it; false for text of users and tools.
    pub trusted: bool,
}
