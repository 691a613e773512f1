//! Finding special tokens in text, in linear time, and only where they may be found.
//!
//! At each place the longest token wins; the search goes from left to right.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::pre::Set;
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

/// Search automata, each built when it is first needed, and what a vocabulary says about tokens
/// beyond their text.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// Tokens that count only where no letter or digit stands beside them.
    single_words: Option<(Vec<u32>, Set)>,
    /// Tokens that something else finds.
    left_out: Vec<u32>,
    harmless: OnceLock<Automaton>,
    user_defined: OnceLock<Automaton>,
    all: OnceLock<Automaton>,
}

/// An automaton and the token of each of its patterns; `None` if there is nothing to look for.
type Automaton = Option<(AhoCorasick, Vec<u32>)>;

impl Finder {
    /// A finder that takes `single_words` only as whole words and never looks for `left_out`.
    #[cfg(feature = "tokenizer-json")]
    pub(super) fn new(single_words: Vec<u32>, left_out: Vec<u32>) -> Finder {
        let single_words = (!single_words.is_empty()).then(|| (single_words, Set::new(r"\w")));
        Finder { single_words, left_out, ..Finder::default() }
    }

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
        let Some((automaton, ids)) = cell.get_or_init(|| self.build(vocab, level)) else {
            return;
        };
        let start = range.start;
        let places = automaton.find_iter(&text[range]).map(|m| {
            let id = ids[m.pattern().as_usize()];
            (start + m.start()..start + m.end(), id)
        });
        found.extend(places.filter(|(place, id)| self.may_stand(*id, text, place)));
    }

    /// Whether token `id` counts at this place of `text`.
    fn may_stand(&self, id: u32, text: &str, place: &std::ops::Range<usize>) -> bool {
        let Some((_, word)) = self.single_words.as_ref().filter(|(ids, _)| ids.contains(&id))
        else {
            return true;
        };
        let before = text[..place.start].chars().next_back();
        let after = text[place.end..].chars().next();
        ![before, after].into_iter().flatten().any(|c| word.has(c))
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

impl Finder {
    fn build(&self, vocab: &Vocab, level: Level) -> Automaton {
        // Tokens that are not UTF-8 cannot stand in text.
        let is_text = |id: u32| {
            let bytes = vocab.bytes(id);
            !bytes.is_empty() && std::str::from_utf8(bytes).is_ok()
        };
        let ids: Vec<u32> = vocab
            .iter()
            .filter(|&(id, kind)| is_sought(kind, level) && is_text(id))
            .map(|(id, _)| id)
            .filter(|id| !self.left_out.contains(id))
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
}
