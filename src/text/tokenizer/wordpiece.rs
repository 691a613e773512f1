//! WordPiece (`tokenizer.ggml.model` = `bert`).
//!
//! Text is normalized as BERT's published code does it: control characters vanish, every white
//! space is a space, Chinese characters stand alone, accents are stripped and letters lowered.
//! Words end at spaces; punctuation stands alone. Each word is cut from its start into the longest
//! tokens; a word that cannot be cut is the unknown token.
//!
//! Tokens that begin a word are spelled with a space in front here (U+2581 in files), all others
//! go on inside one.

use unicode_normalization::UnicodeNormalization;

use super::engine::{Scratch, cached};
use super::pre::Set;
use super::trie::Trie;
use super::vocab::Vocab;

/// A longer word is unknown, as in the published code.
const MAX_WORD_CHARS: usize = 100;

/// The tokens by their beginnings, and how text is normalized.
#[derive(Debug)]
pub(super) struct WordPiece {
    pub(super) trie: Trie,
    pub(super) unknown: Option<u32>,
    /// Letters become lower case.
    pub(super) lowers: bool,
    /// Accents are taken off.
    pub(super) strips_accents: bool,
    pub(super) classes: Classes,
}

/// Kinds of characters.
#[derive(Debug)]
pub(super) struct Classes {
    space: Set,
    /// What has no place in text: control, format and private characters.
    control: Set,
    /// Stands alone: Unicode's punctuation, and all that ASCII has.
    punctuation: Set,
    /// Chinese characters, which stand alone too.
    chinese: Set,
    /// Accents and other marks that take no room.
    mark: Set,
}

impl Classes {
    pub(super) fn new() -> Classes {
        Classes {
            space: Set::new(r"\s"),
            control: Set::new(r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}]"),
            punctuation: Set::new(r"[\p{P}!-/:-@\[-`{-~]"),
            chinese: Set::new(concat!(
                r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}",
                r"\x{2B740}-\x{2B81F}\x{2B820}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]"
            )),
            mark: Set::new(r"\p{Mn}"),
        }
    }
}

impl WordPiece {
    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, work: &mut Scratch, ids: &mut Vec<u32>) {
        let text = self.normalize(text);
        let (mut start, mut word) = (0, String::new());
        let mut take = |text: &str| {
            if text.is_empty() {
                return;
            }
            word.clear();
            word.push(' ');
            word.push_str(text);
            cached(vocab, word.as_bytes(), work, ids, |_, ids| self.word(&word, ids));
        };
        for (at, c) in text.char_indices() {
            let alone = self.classes.punctuation.has(c) || self.classes.chinese.has(c);
            if alone || c == ' ' {
                let end = at + c.len_utf8();
                take(&text[start..at]);
                take(if alone { &text[at..end] } else { "" });
                start = end;
            }
        }
        take(&text[start..]);
    }

    /// Appends the tokens of one word, which has a space in front.
    fn word(&self, word: &str, ids: &mut Vec<u32>) {
        let start = ids.len();
        let is_long = word.chars().nth(MAX_WORD_CHARS + 1).is_some();
        let mut rest = if is_long { "" } else { word };
        while let Some((len, id)) = self.trie.longest(rest.as_bytes()) {
            ids.push(id);
            // Tokens that are not UTF-8 are not in the trie, so this is the end of a character.
            rest = &rest[len..];
        }
        if is_long || !rest.is_empty() {
            ids.truncate(start);
            ids.extend(self.unknown);
        }
    }

    /// The text as the words are looked up in it.
    fn normalize(&self, text: &str) -> String {
        let kinds = &self.classes;
        let mut clean = String::with_capacity(text.len() + text.len() / 8);
        for c in text.chars() {
            match c {
                '\t' | '\n' | '\r' => clean.push(' '),
                _ if kinds.control.has(c) => {}
                _ if kinds.space.has(c) => clean.push(' '),
                _ if kinds.chinese.has(c) => clean.extend([' ', c, ' ']),
                _ => clean.push(c),
            }
        }
        if self.strips_accents && !clean.is_ascii() {
            clean = clean.nfd().filter(|&c| !kinds.mark.has(c)).collect();
        }
        if self.lowers {
            clean = clean.chars().flat_map(char::to_lowercase).collect();
        }
        clean
    }
}
