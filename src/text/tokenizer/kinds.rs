//! Loading the kinds of vocabularies that have no merges: WordPiece, Unigram, RWKV, PLaMo-2.

use formats::{Array, Metadata};

use super::charsmap::CharsMap;
use super::engine::unescape;
use super::load::{LOWERCASE, Ways, byte_tokens, load_scores, load_vocab};
use super::plamo::Plamo;
use super::rwkv::{self, Rwkv};
use super::special::SpecialIds;
use super::trie::Trie;
use super::unigram::Unigram;
use super::vocab::Vocab;
use super::wordpiece::{Classes, WordPiece};
use super::{Adds, Engine, Tokenizer, TokenizerError};

const CHARS: &str = "tokenizer.ggml.precompiled_charsmap";
/// A longer token makes finding the longest one at each place of a text too slow; published ones
/// have a few hundred bytes at most.
const MAX_TOKEN_BYTES: usize = 1 << 12;

/// Which tokens the file puts around a text; `usual` is what it leaves out.
fn adds(meta: &Metadata, usual: Adds) -> Result<Adds, TokenizerError> {
    Ok(Adds {
        bos: meta.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(usual.bos),
        eos: meta.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(usual.eos),
        sep: meta.bool("tokenizer.ggml.add_sep_token")?.unwrap_or(usual.sep),
    })
}

/// Refuses vocabularies in which a search for tokens would not be linear in the text.
fn check_lengths(vocab: &Vocab) -> Result<(), TokenizerError> {
    let longest = vocab.iter().max_by_key(|&(id, _)| vocab.bytes(id).len());
    match longest.map(|(id, _)| (id, vocab.bytes(id).len())) {
        Some((id, found)) if found > MAX_TOKEN_BYTES => Err(TokenizerError::TokenLength {
            index: id as usize,
            found,
            expected: MAX_TOKEN_BYTES,
        }),
        _ => Ok(()),
    }
}

/// Tokens that text of this kind is cut into: ordinary ones that are UTF-8.
fn is_text(vocab: &Vocab, id: u32) -> bool {
    vocab.kind(id).is_word() && std::str::from_utf8(vocab.bytes(id)).is_ok()
}

pub(super) fn load_wordpiece(meta: &Metadata) -> Result<Tokenizer, TokenizerError> {
    // The places of the first published vocabulary, which files leave out.
    let first = SpecialIds {
        bos: Some(101),
        unk: Some(100),
        sep: Some(102),
        pad: Some(0),
        mask: Some(103),
        ..SpecialIds::default()
    };
    let (vocab, ids) = load_vocab(meta, first, unescape)?;
    check_lengths(&vocab)?;
    let lowers = meta.bool(LOWERCASE)?.unwrap_or(true);
    let strips_accents = meta.bool("tokenizer.ggml.normalizer.strip_accents")?.unwrap_or(lowers);
    let engine = WordPiece {
        trie: Trie::new(&vocab, |id| is_text(&vocab, id)),
        unknown: ids.unk,
        lowers,
        strips_accents,
        classes: Classes::new(),
    };
    let adds = adds(meta, Adds { bos: true, eos: false, sep: true })?;
    let ways = Ways { adds, clean_spaces: true, space_prefix: false, warnings: vec![] };
    Tokenizer::assemble(meta, "bert", vocab, Engine::WordPiece(Box::new(engine)), ids, ways)
}

pub(super) fn load_unigram(meta: &Metadata) -> Result<Tokenizer, TokenizerError> {
    let first = SpecialIds { eos: Some(1), unk: Some(2), pad: Some(0), ..SpecialIds::default() };
    let (vocab, ids) = load_vocab(meta, first, unescape)?;
    check_lengths(&vocab)?;
    let scores = load_scores(meta, &vocab)?;
    let trims_spaces = meta.bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false);
    let bytes = byte_tokens(&vocab);
    let chars = load_chars(meta)?;
    let engine = Unigram::new(&vocab, scores, ids.unk, bytes, chars, trims_spaces);
    let adds = adds(meta, Adds { bos: false, eos: true, sep: false })?;
    let space_prefix = meta.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let ways = Ways { adds, clean_spaces: false, space_prefix, warnings: vec![] };
    Tokenizer::assemble(meta, "t5", vocab, Engine::Unigram(engine), ids, ways)
}

/// The map of characters, which files hold as bytes, signed or not.
fn load_chars(meta: &Metadata) -> Result<Option<CharsMap>, TokenizerError> {
    let bytes = match meta.array(CHARS)? {
        None => return Ok(None),
        Some(Array::U8(bytes)) => bytes.clone(),
        Some(Array::I8(bytes)) => bytes.iter().map(|&b| b as u8).collect(),
        Some(other) => {
            return Err(TokenizerError::CharsMap {
                found: format!("an array of {:?}", other.element_type()),
            });
        }
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    let found =
        || TokenizerError::CharsMap { found: format!("{} bytes that are none", bytes.len()) };
    CharsMap::new(&bytes).map(Some).ok_or_else(found)
}

pub(super) fn load_rwkv(meta: &Metadata) -> Result<Tokenizer, TokenizerError> {
    let (vocab, ids) = load_vocab(meta, SpecialIds::default(), rwkv::unspell)?;
    check_lengths(&vocab)?;
    let is_harmless = |id: u32| !vocab.kind(id).control && !vocab.kind(id).marker;
    let engine = Engine::Rwkv(Rwkv {
        all: Trie::new(&vocab, |_| true),
        harmless: Trie::new(&vocab, is_harmless),
        unknown: ids.unk,
    });
    let adds = adds(meta, Adds::default())?;
    let ways = Ways { adds, clean_spaces: false, space_prefix: false, warnings: vec![] };
    Tokenizer::assemble(meta, "rwkv", vocab, engine, ids, ways)
}

pub(super) fn load_plamo(meta: &Metadata) -> Result<Tokenizer, TokenizerError> {
    let first = SpecialIds {
        bos: Some(1),
        eos: Some(2),
        unk: Some(0),
        pad: Some(3),
        ..SpecialIds::default()
    };
    let literally = |text: &[u8], out: &mut Vec<u8>| out.extend_from_slice(text);
    let (vocab, ids) = load_vocab(meta, first, literally)?;
    check_lengths(&vocab)?;
    let scores = meta.f32_array("tokenizer.ggml.scores")?;
    let scores = scores.ok_or(TokenizerError::Missing {
        key: "tokenizer.ggml.scores",
        expected: "an array of one float per token",
    })?;
    super::load::check_length("tokenizer.ggml.scores", scores.len(), vocab.len())?;
    let bytes = byte_tokens(&vocab);
    if let Some(byte) = bytes.iter().position(|&id| id == super::merge::NONE) {
        return Err(TokenizerError::ByteToken { byte: byte as u8 });
    }
    let engine = Engine::Plamo(Plamo::new(&vocab, &scores, bytes));
    let adds = adds(meta, Adds::default())?;
    let ways = Ways { adds, clean_spaces: false, space_prefix: false, warnings: vec![] };
    Tokenizer::assemble(meta, "plamo2", vocab, engine, ids, ways)
}
