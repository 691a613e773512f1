//! Tokenizers: text to token ids and back.
//!
//! A [`Tokenizer`] comes from a file's own metadata ([`Tokenizer::from_gguf`]) or from a
//! `tokenizer.json` that overrides it. The path of a text:
//!
//! 1. Special tokens are found (`split`): which ones depends on who wrote the text. Text that is
//!    not trusted never yields a token that steers the model, whatever it spells.
//! 2. What lies between them is normalized where the kind asks for it (`wordpiece`, `charsmap`) and
//!    cut into pieces by the pre-tokenizer (`pre`; byte-level BPE), or at spaces where that changes
//!    nothing (SentencePiece).
//! 3. Pieces are merged (`merge`, `engine`) to tokens of the vocabulary (`vocab`), or covered with
//!    tokens: the longest first (`wordpiece`, `rwkv`), or those that score best (`unigram`,
//!    `plamo`).
//!
//! Every part takes time linear in the text (a single piece of n symbols: n log n) and a stack of
//! fixed depth. Ordinary text is never merged into a control token: those are not in the tables
//! that merging looks into. (RWKV and PLaMo-2 know no special tokens: their published tokenizers
//! find one in any text that spells it. So do ours in a text that is encoded as a whole; never in
//! text that is not trusted.)

mod bytes;
mod cache;
mod charsmap;
mod count;
mod detok;
mod engine;
mod error;
#[cfg(feature = "tokenizer-json")]
mod json;
mod kinds;
mod load;
mod merge;
mod plamo;
mod pre;
mod rwkv;
mod special;
mod split;
#[cfg(test)]
mod tests;
mod trie;
mod unigram;
mod vocab;
mod wordpiece;

pub use detok::{Detokenizer, Show, tidy_spaces};
pub use error::TokenizerError;
pub use special::SpecialIds;
pub use vocab::TokenType;

use super::Segment;
use engine::{Bpe, Idle, Scratch, Spm};
use plamo::Plamo;
use rwkv::Rwkv;
use split::{Finder, Found, Level};
use unigram::Unigram;
use vocab::Vocab;
use wordpiece::WordPiece;

/// Whether special tokens are recognised in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Control tokens in the text are plain text; user-defined tokens count.
    Plain,
    /// All special tokens count.
    Parse,
}

/// Which tokens stand around an encoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adds {
    /// BOS in front.
    pub bos: bool,
    /// EOS at the end.
    pub eos: bool,
    /// SEP at the end.
    pub sep: bool,
}

/// What turns ordinary text into tokens.
#[derive(Debug)]
enum Engine {
    Bpe(Bpe),
    Spm(Spm),
    WordPiece(Box<WordPiece>),
    Unigram(Unigram),
    Rwkv(Rwkv),
    Plamo(Plamo),
    #[cfg(feature = "tokenizer-json")]
    Json(Box<json::Json>),
    None,
}

/// A vocabulary and the rules to use it.
#[derive(Debug)]
pub struct Tokenizer {
    kind: String,
    vocab: Vocab,
    engine: Engine,
    specials: Finder,
    idle: Idle,
    ids: SpecialIds,
    adds: Adds,
    /// Tokens that end an answer, in rising order.
    ends: Vec<u32>,
    /// A space is put before a text and after a special token.
    space_prefix: bool,
    /// Tokens after which spaces are dropped, in rising order.
    strips_after: Vec<u32>,
    /// Tokens before which spaces are dropped, in rising order.
    strips_before: Vec<u32>,
    clean_spaces: bool,
    warnings: Vec<String>,
}

impl Tokenizer {
    /// The kind, as `tokenizer.ggml.model` names it.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What a user should know about this tokenizer, such as an unknown pre-tokenizer.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Tokens of the vocabulary. A model's output may be wider (padding, which is never sampled).
    pub fn n_tokens(&self) -> usize {
        self.vocab.len()
    }

    /// Ids of special tokens.
    pub fn special(&self) -> &SpecialIds {
        &self.ids
    }

    /// The tokens that [`Tokenizer::encode`] puts around a text when asked to.
    pub fn adds(&self) -> Adds {
        self.adds
    }

    /// All tokens that end an answer, in rising order: EOS, the ends of turn and message, and
    /// tokens with well-known texts.
    pub fn eog(&self) -> &[u32] {
        &self.ends
    }

    /// Whether `id` ends an answer.
    pub fn is_eog(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Whether `id` steers the model: no text that is not trusted yields it.
    pub fn is_control(&self, id: u32) -> bool {
        let known = (id as usize) < self.vocab.len();
        known && (self.vocab.kind(id).control || self.vocab.kind(id).marker || self.is_eog(id))
    }

    /// What the vocabulary says token `id` is; `None` beyond the last one. A well-known end of turn
    /// counts as control whatever the file says.
    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        ((id as usize) < self.vocab.len()).then(|| self.vocab.kind(id).ty)
    }

    /// The bytes of token `id`: of ordinary text those that it stands for, of others their text.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        ((id as usize) < self.vocab.len()).then(|| self.vocab.bytes(id))
    }

    /// The token with exactly this text; of several, one that is special.
    pub fn id_of(&self, text: &str) -> Option<u32> {
        let bytes = text.as_bytes();
        self.vocab.other(bytes).or_else(|| self.vocab.word(bytes))
    }

    /// The pieces within which `text` is merged, as the pre-tokenizer cuts it (one piece for
    /// SentencePiece, which has none).
    pub fn pieces<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut pieces = vec![];
        match &self.engine {
            Engine::Bpe(bpe) => bpe.pre.pattern.split(text, &mut |piece| pieces.push(piece)),
            _ => pieces.push(text),
        }
        pieces
    }

    /// Whether the published decoder of this vocabulary tidies spaces ([`tidy_spaces`]); ours never
    /// does.
    pub fn publishes_tidy_text(&self) -> bool {
        self.clean_spaces
    }

    /// Tokens of `text`. With `add`, BOS, EOS and SEP are put around them as the file says, even if
    /// the text spells BOS itself; for prompts there is [`Tokenizer::encode_segments`].
    ///
    /// # Errors
    /// There is no vocabulary.
    pub fn encode(
        &self,
        text: &str,
        special: Special,
        add: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut found = vec![];
        self.specials.find(&self.vocab, level(special), text, &mut found);
        let ids = self.encode_parts(text, &found, true)?;
        Ok(if add { self.surround(ids) } else { ids })
    }

    /// The same for bytes that may not be UTF-8. SentencePiece-BPE and RWKV keep such bytes; the
    /// others see each of them as U+FFFD.
    ///
    /// # Errors
    /// There is no vocabulary.
    pub fn encode_bytes(
        &self,
        text: &[u8],
        special: Special,
        add: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let keeps_bytes = matches!(self.engine, Engine::Spm(_) | Engine::Rwkv(_));
        match std::str::from_utf8(text) {
            Ok(text) => return self.encode(text, special, add),
            Err(_) if keeps_bytes => {}
            Err(_) => return self.encode(&String::from_utf8_lossy(text), special, add),
        }
        // Special tokens are UTF-8, so they lie within the valid stretches.
        let (mut ids, mut found, mut prefix) = (vec![], vec![], self.space_prefix);
        for chunk in text.utf8_chunks() {
            found.clear();
            self.specials.find(&self.vocab, level(special), chunk.valid(), &mut found);
            self.idle.with(|work| {
                self.append_parts(chunk.valid(), &found, prefix, true, work, &mut ids)?;
                prefix &= chunk.valid().is_empty();
                match &self.engine {
                    Engine::Rwkv(rwkv) => rwkv.encode(chunk.invalid(), true, &mut ids),
                    Engine::Spm(spm) => {
                        spm.encode(&self.vocab, chunk.invalid(), prefix, work, &mut ids);
                    }
                    _ => {}
                }
                Ok::<_, TokenizerError>(())
            })?;
            prefix = false;
        }
        Ok(if add { self.surround(ids) } else { ids })
    }

    /// Tokens of a prompt made of parts that are trusted and parts that are not.
    ///
    /// Only trusted text yields tokens that steer the model, and only if one run of trusted text
    /// spells the whole token. All text between two such tokens is encoded as one, wherever
    /// segments end: pre-tokenizing, merging, user-defined tokens and SentencePiece's space are the
    /// same as if it were one string. Text that is not trusted yields user-defined tokens only if
    /// they are no markers of conversations, thoughts or tools.
    ///
    /// BOS stands in front exactly once if the file asks for it or the text spells it.
    ///
    /// # Errors
    /// There is no vocabulary.
    pub fn encode_segments(&self, segments: &[Segment]) -> Result<Vec<u32>, TokenizerError> {
        let text: String = segments.iter().map(|s| s.text.as_str()).collect();
        let mut found: Vec<Found> = vec![];
        let mut start = 0;
        for run in segments.chunk_by(|a, b| a.trusted == b.trusted) {
            let end = start + run.iter().map(|s| s.text.len()).sum::<usize>();
            if run[0].trusted {
                self.specials.find_in(&self.vocab, Level::All, &text, start..end, &mut found);
            }
            start = end;
        }
        let mut all = Vec::with_capacity(found.len());
        let mut at = 0;
        let end = (text.len()..text.len(), u32::MAX);
        for (range, id) in found.into_iter().chain([end]) {
            let gap = at..range.start;
            self.specials.find_in(&self.vocab, Level::Harmless, &text, gap, &mut all);
            at = range.end;
            all.push((range, id));
        }
        all.pop();
        let ids = self.encode_parts(&text, &all, false)?;
        Ok(self.with_one_bos(ids))
    }

    /// `ids` with BOS in front exactly once if the file asks for it or it is there already.
    fn with_one_bos(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let Some(bos) = self.ids.bos else { return ids };
        let n_bos = ids.iter().take_while(|&&id| id == bos).count();
        match n_bos {
            0 if self.adds.bos => ids.insert(0, bos),
            0 | 1 => {}
            _ => drop(ids.drain(1..n_bos)),
        }
        ids
    }

    /// `ids` with the tokens around them that the file asks for.
    fn surround(&self, ids: Vec<u32>) -> Vec<u32> {
        let [bos, eos, sep] = [
            self.ids.bos.filter(|_| self.adds.bos),
            self.ids.eos.filter(|_| self.adds.eos),
            self.ids.sep.filter(|_| self.adds.sep),
        ];
        bos.into_iter().chain(ids).chain(sep).chain(eos).collect()
    }

    /// Encodes `text`, in which the special tokens `found` stand. What lies between them is text that
    /// is encoded as a whole (`is_whole`), or may come from anyone.
    fn encode_parts(
        &self,
        text: &str,
        found: &[Found],
        is_whole: bool,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::with_capacity(text.len() / 3 + found.len());
        let prefix = self.space_prefix;
        self.idle.with(|work| self.append_parts(text, found, prefix, is_whole, work, &mut ids))?;
        Ok(ids)
    }

    /// The same, into `ids`; `prefix`: a space is put before the text.
    fn append_parts(
        &self,
        text: &str,
        found: &[Found],
        mut prefix: bool,
        is_whole: bool,
        work: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        let (mut at, mut strip) = (0, false);
        let end = (text.len()..text.len(), None);
        let found = found.iter().map(|(range, id)| (range.clone(), Some(*id)));
        let is_in =
            |list: &[u32], id: Option<u32>| id.is_some_and(|id| list.binary_search(&id).is_ok());
        for (range, id) in found.chain([end]) {
            let gap = &text[at..range.start];
            let gap = if strip { gap.trim_start() } else { gap };
            let gap = if is_in(&self.strips_before, id) { gap.trim_end() } else { gap };
            match &self.engine {
                Engine::Bpe(bpe) => bpe.encode(&self.vocab, gap, work, ids),
                Engine::Spm(spm) => spm.encode(&self.vocab, gap.as_bytes(), prefix, work, ids),
                Engine::WordPiece(pieces) => pieces.encode(&self.vocab, gap, work, ids),
                Engine::Unigram(unigram) => unigram.encode(&self.vocab, gap, prefix, work, ids),
                Engine::Rwkv(rwkv) => rwkv.encode(gap.as_bytes(), is_whole, ids),
                Engine::Plamo(plamo) => plamo.encode(gap, is_whole, work, ids),
                #[cfg(feature = "tokenizer-json")]
                Engine::Json(json) => json.encode(&self.vocab, gap, at == 0, ids)?,
                Engine::None => return Err(self.no_vocabulary()),
            }
            ids.extend(id);
            prefix = self.space_prefix;
            strip = is_in(&self.strips_after, id);
            at = range.end;
        }
        Ok(())
    }

    /// Whether token `id` has no place in text that people read.
    fn is_hidden(&self, id: u32) -> bool {
        matches!(self.vocab.kind(id).ty, TokenType::Control | TokenType::Unknown)
    }

    fn no_vocabulary(&self) -> TokenizerError {
        TokenizerError::NoVocabulary { kind: self.kind.clone() }
    }
}

/// The special tokens that are looked for in a text that is encoded as a whole.
fn level(special: Special) -> Level {
    match special {
        Special::Plain => Level::UserDefined,
        Special::Parse => Level::All,
    }
}
