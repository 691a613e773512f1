//! Finding special tokens in text, in linear time, and only where they may be found.
//!
//! At each place the longest token wins; the search goes from left to right.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::vocab::{TokenType, Vocab};

/// Which tokens are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// User-defined tokens that cannot steer the model: for text that is not trusted.
    Harmless,
    /// All user-defined tokens.
    UserDefined,
    /// All special tokens.
    All,
}

/// A special token and the bytes of text where it stands.
pub(super) type Found = (std::ops::Range<usize>, u32);

/// Search automata, each built when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Finder {
    harmless: OnceLock<Automaton>,
    user_defined: OnceLock<Automaton>,
    all: OnceLock<Automaton>,
}

/// An automaton and the token of each of its patterns; `None` if there is nothing to look for.
type Automaton = Option<(AhoCorasick, Vec<u32>)>;

impl Finder {
    /// All tokens of this level in `text`, from left to right.
    pub(super) fn find(&self, vocab: &Vocab, level: Level, text: &str, found: &mut Vec<Found>) {
        self.find_in(vocab, level, text, 0..text.len(), found);
    }

    /// The same within a part of `text`.
    pub(super) fn find_in(
        &self,
        vocab: &Vocab,
        level: Level,
        text: &str,
        range: std::ops::Range<usize>,
        found: &mut Vec<Found>,
    ) {
        let cell = match level {
            Level::Harmless => &self.harmless,
            Level::UserDefined => &self.user_defined,
            Level::All => &self.all,
        };
        let Some((automaton, ids)) = cell.get_or_init(|| build(vocab, level)) else {
            return;
        };
        let start = range.start;
        found.extend(automaton.find_iter(&text[range]).map(|m| {
            let id = ids[m.pattern().as_usize()];
            (start + m.start()..start + m.end(), id)
        }));
    }
}

/// Whether tokens of this kind are looked for at `level`.
fn is_sought(kind: super::vocab::Kind, level: Level) -> bool {
    match level {
        Level::Harmless => kind.ty == TokenType::UserDefined && !kind.control && !kind.marker,
        Level::UserDefined => kind.ty == TokenType::UserDefined && !kind.control,
        Level::All => {
            kind.control
                || matches!(
                    kind.ty,
                    TokenType::UserDefined | TokenType::Control | TokenType::Unknown
                )
        }
    }
}

fn build(vocab: &Vocab, level: Level) -> Automaton {
    // Tokens that are not UTF-8 cannot stand in text.
    let is_text = |id: u32| {
        let bytes = vocab.bytes(id);
        !bytes.is_empty() && std::str::from_utf8(bytes).is_ok()
    };
    let ids: Vec<u32> = vocab
        .iter()
        .filter(|&(id, kind)| is_sought(kind, level) && is_text(id))
        .map(|(id, _)| id)
        .collect();
    if ids.is_empty() {
        return None;
    }
    let automaton = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(ids.iter().map(|&id| vocab.bytes(id)));
    // It fails only where the patterns together have more than 2^31 states; such a vocabulary
    // does not get through loading.
    automaton.ok().map(|automaton| (automaton, ids))
}
