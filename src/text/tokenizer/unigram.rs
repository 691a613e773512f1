//! Unigram (`tokenizer.ggml.model` = `t5`): the segmentation whose tokens have the highest sum of
//! scores (Viterbi), after the text was normalized as SentencePiece does it.
//!
//! A character that no token spells is its bytes, where the vocabulary has bytes, or else unknown:
//! 10 worse than the worst token, and a row of them is one token. User-defined tokens score 0.

use super::charsmap::CharsMap;
use super::engine::{Bridges, ByteIds, Scratch, cached, unescape};
use super::merge::NONE;
use super::plamo::is_char_start;
use super::trie::Trie;
use super::vocab::{TokenType, Vocab};

/// How much worse than the worst token an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The tokens by their beginnings, their scores, and how text is normalized.
#[derive(Debug)]
pub(super) struct Unigram {
    trie: Trie,
    scores: Vec<f32>,
    unknown_score: f64,
    unknown: Option<u32>,
    /// The fallback tokens, where every byte has one.
    byte_ids: Option<ByteIds>,
    bridges: Bridges,
    chars: Option<CharsMap>,
    /// Spaces in front and at the end are dropped, several become one.
    trims_spaces: bool,
}

/// The best way from the start of a word to a place in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    score: f64,
    /// The last token of that way, or [`NONE`] for an unknown character, and where it starts.
    id: u32,
    start: u32,
}

impl Unigram {
    /// `scores` has one number for each token.
    pub(super) fn new(
        vocab: &Vocab,
        mut scores: Vec<f32>,
        unknown: Option<u32>,
        byte_ids: ByteIds,
        chars: Option<CharsMap>,
        trims_spaces: bool,
    ) -> Unigram {
        let is_piece = |id: u32| {
            let kind = vocab.kind(id);
            let is_text = std::str::from_utf8(vocab.bytes(id)).is_ok();
            let ty = matches!(kind.ty, TokenType::Normal | TokenType::UserDefined);
            is_text && ty && !kind.control && !kind.marker
        };
        let mut worst = f64::INFINITY;
        for (id, kind) in vocab.iter() {
            let score = &mut scores[id as usize];
            if kind.ty == TokenType::UserDefined {
                *score = 0.0;
            } else if kind.ty == TokenType::Normal {
                worst = worst.min(f64::from(*score));
            }
        }
        let worst = if worst.is_finite() { worst } else { 0.0 };
        Unigram {
            trie: Trie::new(vocab, is_piece),
            scores,
            unknown_score: worst - UNKNOWN_PENALTY,
            unknown,
            byte_ids: (!byte_ids.contains(&NONE)).then_some(byte_ids),
            bridges: Bridges::new(vocab),
            chars,
            trims_spaces,
        }
    }

    /// Appends the tokens of `text`; with `prefix`, a space stands before it.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        prefix: bool,
        work: &mut Scratch,
        ids: &mut Vec<u32>,
    ) {
        let text = self.normalize(text, prefix);
        let first = ids.len();
        self.bridges.split(&text, |word| {
            let start = ids.len();
            cached(vocab, word, work, ids, |work, ids| self.word(word, &mut work.steps, ids));
            // A row of unknown characters is one token also where it was cut into words.
            let is_unknown = |id: Option<&u32>| id.is_some() && id == self.unknown.as_ref();
            let joins = start > first && self.byte_ids.is_none();
            if joins && is_unknown(ids.get(start - 1)) && is_unknown(ids.get(start)) {
                ids.remove(start);
            }
        });
    }

    /// The text with its characters mapped and spaces as SentencePiece leaves them.
    fn normalize(&self, text: &str, prefix: bool) -> Vec<u8> {
        let mapped = self.chars.as_ref().map(|chars| chars.map(text));
        let text = mapped.as_deref().unwrap_or(text);
        let mut out = Vec::with_capacity(text.len() + 1);
        let add = |part: &str, out: &mut Vec<u8>| unescape(part.as_bytes(), out);
        if !self.trims_spaces {
            if prefix && !text.is_empty() {
                out.push(b' ');
            }
            add(text, &mut out);
            return out;
        }
        let words = text.split(' ').filter(|word| !word.is_empty());
        for (i, word) in words.enumerate() {
            if i > 0 || prefix {
                out.push(b' ');
            }
            add(word, &mut out);
        }
        out
    }

    /// Appends the tokens of one word: text that no token goes beyond.
    fn word(&self, word: &[u8], steps: &mut Vec<Step>, ids: &mut Vec<u32>) {
        let unset = Step { score: f64::NEG_INFINITY, id: NONE, start: 0 };
        steps.clear();
        steps.resize(word.len() + 1, unset);
        steps[0].score = 0.0;
        for at in 0..word.len() {
            if !is_char_start(word[at]) {
                continue;
            }
            let after = word[at + 1..].iter().position(|&b| is_char_start(b));
            let char_len = after.map_or(word.len() - at, |n| n + 1);
            let before = steps[at].score;
            let mut spells_char = false;
            let mut reach = |len: usize, id: u32, score: f64| {
                let step = &mut steps[at + len];
                if before + score > step.score {
                    *step = Step { score: before + score, id, start: at as u32 };
                }
            };
            self.trie.prefixes(&word[at..], |len, id| {
                spells_char |= len == char_len;
                reach(len, id, f64::from(self.scores[id as usize]));
            });
            if !spells_char {
                reach(char_len, NONE, self.unknown_score);
            }
        }
        self.walk_back(word, steps, ids);
    }

    /// Appends the tokens of the best way to the end of `word`.
    fn walk_back(&self, word: &[u8], steps: &[Step], ids: &mut Vec<u32>) {
        let first = ids.len();
        let (mut end, mut was_unknown) = (word.len(), false);
        while end > 0 {
            let Step { id, start, .. } = steps[end];
            let start = start as usize;
            match (id, &self.byte_ids) {
                (NONE, Some(byte_ids)) => {
                    ids.extend(word[start..end].iter().rev().map(|&b| byte_ids[usize::from(b)]));
                }
                (NONE, None) if was_unknown => {}
                (NONE, None) => ids.extend(self.unknown),
                (id, _) => ids.push(id),
            }
            was_unknown = id == NONE;
            end = start;
        }
        ids[first..].reverse();
    }
}
