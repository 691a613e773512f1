//! Tokens back to text, whole or one by one.
//!
//! Text comes out as the tokens spell it: spaces are never "cleaned up" (published decoders
//! remove those before punctuation, which changes code and cannot be done while streaming).

use super::{Engine, Tokenizer, TokenizerError};

/// Whether tokens that steer the model are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Text only.
    Text,
    /// The texts of control tokens too (`<|im_end|>`).
    All,
}

/// Turns tokens into text as they come. Hands out whole characters only: the bytes of one that is
/// not complete wait for the next token.
///
/// Bytes that cannot belong to any character become U+FFFD as soon as that is known, those of a
/// character that never ended by [`Detokenizer::finish`]; together the pieces are what
/// [`Tokenizer::decode`] gives.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    show: Show,
    /// Nothing has come out yet: the space that the tokenizer put in front is to be dropped.
    at_start: bool,
    /// At most 3 bytes of a character that is not complete, plus what one token adds.
    pending: Vec<u8>,
    text: String,
}

impl Detokenizer {
    /// For the start of a text: the space that SentencePiece puts before a text is dropped.
    pub fn new(show: Show) -> Detokenizer {
        Detokenizer { show, at_start: true, pending: vec![], text: String::new() }
    }

    /// For text that goes on after other text: every space is kept.
    pub fn continuing(show: Show) -> Detokenizer {
        Detokenizer { at_start: false, ..Detokenizer::new(show) }
    }

    /// From now on shows this much.
    pub fn show(&mut self, show: Show) {
        self.show = show;
    }

    /// Takes the next token; returns the text that is now certain, often none.
    ///
    /// # Errors
    /// The id is outside the vocabulary, or there is none.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<&str, TokenizerError> {
        self.text.clear();
        let piece = tokenizer.piece(id, self.show)?;
        let piece = strip_start(tokenizer, &mut self.at_start, piece);
        self.pending.extend_from_slice(piece);
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            self.text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            let is_last = done + invalid.len() == self.pending.len();
            if is_last && may_go_on(invalid) {
                break;
            }
            self.text.push(char::REPLACEMENT_CHARACTER);
            done += invalid.len();
        }
        self.pending.drain(..done);
        Ok(&self.text)
    }

    /// Ends the text: U+FFFD if a character was left incomplete. The next text can begin.
    pub fn finish(&mut self) -> &'static str {
        self.at_start = true;
        let truncated = !self.pending.is_empty();
        self.pending.clear();
        if truncated { "\u{fffd}" } else { "" }
    }
}

/// Whether more bytes could make a character of these, which are none yet.
fn may_go_on(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

/// The piece without the space that stands before a text, if the text starts here.
fn strip_start<'p>(tokenizer: &Tokenizer, at_start: &mut bool, piece: &'p [u8]) -> &'p [u8] {
    if !*at_start || piece.is_empty() {
        return piece;
    }
    *at_start = false;
    match piece.strip_prefix(b" ") {
        Some(rest) if tokenizer.space_prefix => rest,
        _ => piece,
    }
}

impl Tokenizer {
    /// The bytes that token `id` adds to a text.
    fn piece(&self, id: u32, show: Show) -> Result<&[u8], TokenizerError> {
        if matches!(self.engine, Engine::None) {
            return Err(self.no_vocabulary());
        }
        let n_tokens = self.vocab.len();
        if id as usize >= n_tokens {
            return Err(TokenizerError::UnknownId { found: id, n_tokens });
        }
        let hidden = show == Show::Text && self.is_hidden(id);
        Ok(if hidden { &[] } else { self.vocab.bytes(id) })
    }

    /// The bytes that `ids` spell, without the space that SentencePiece puts before a text.
    ///
    /// # Errors
    /// An id is outside the vocabulary, or there is none.
    pub fn decode_bytes(&self, ids: &[u32], show: Show) -> Result<Vec<u8>, TokenizerError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        let mut at_start = true;
        for &id in ids {
            let piece = self.piece(id, show)?;
            bytes.extend_from_slice(strip_start(self, &mut at_start, piece));
        }
        Ok(bytes)
    }

    /// The text that `ids` spell; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// An id is outside the vocabulary, or there is none.
    pub fn decode(&self, ids: &[u32], show: Show) -> Result<String, TokenizerError> {
        let bytes = self.decode_bytes(ids, show)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// `text` as published decoders with `clean_up_tokenization_spaces` show it: no space before
/// `. , ! ?`, none around a lone apostrophe, none before `'s 'm 've 're n't` and the like.
///
/// Not used when text is generated; it exists to compare with such decoders.
pub fn tidy_spaces(text: &str) -> String {
    let mut tidy = text.to_owned();
    for (from, to) in [
        (" ?", "?"),
        (" !", "!"),
        (" .", "."),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ] {
        tidy = tidy.replace(from, to);
    }
    tidy
}
