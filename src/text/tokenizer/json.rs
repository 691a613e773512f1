//! A `tokenizer.json` in place of a file's own vocabulary.
//!
//! The tokenizers library reads the file and encodes ordinary text. Special tokens stay our own
//! affair: they are taken out of the file before the library sees it, so what is trusted and what
//! is not is decided in one place for every kind of tokenizer. What the file says about a token's
//! surroundings (`lstrip`, `rstrip`, `single_word`) is honoured here. Only user-defined tokens
//! that are looked for in normalized text stay with the library, which alone can normalize.
//! Decoding is ours too, from the bytes of each token.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::engine::{Idle, unescape};
use super::special::{self, SpecialIds};
use super::split::Finder;
use super::vocab::{TokenType, Vocab};
use super::{Adds, Engine, Tokenizer, TokenizerError, bytes, load};

/// The library's tokenizer without its special tokens.
#[derive(Debug)]
pub(super) struct Json {
    first: tokenizers::Tokenizer,
    /// For text after a special token, where the file treats that differently.
    later: Option<tokenizers::Tokenizer>,
    unknown: Option<u32>,
    /// Ids of the user-defined tokens that the library finds: its own and the file's.
    renumbered: HashMap<u32, u32>,
    path: String,
}

impl Json {
    /// Appends the tokens of `text`; `is_first`: nothing stands before it.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &str,
        is_first: bool,
        ids: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        let library = self.later.as_ref().filter(|_| !is_first).unwrap_or(&self.first);
        let encoding = library.encode_fast(text, false).map_err(|e| error(&self.path, e))?;
        // Ordinary text makes no control tokens, but for the one that stands for unknown text.
        let is_text = |id: &u32| {
            let known = (*id as usize) < vocab.len();
            Some(*id) == self.unknown || known && !vocab.kind(*id).control
        };
        let own = encoding.get_ids().iter().map(|id| *self.renumbered.get(id).unwrap_or(id));
        ids.extend(own.filter(is_text));
        Ok(())
    }
}

fn error(path: &str, found: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Json { path: path.to_owned(), found: found.to_string() }
}

/// What a file says about one added token.
struct Added {
    id: u32,
    text: String,
    is_special: bool,
    strips_before: bool,
    strips_after: bool,
    is_single_word: bool,
    /// Looked for in normalized text.
    is_normalized: bool,
    /// As the file has it.
    json: Value,
}

impl Added {
    /// Whether the library looks for this token: its text differs once it is normalized, and it
    /// steers nothing.
    fn is_left_to_library(&self, has_normalizer: bool) -> bool {
        let kind = special::classify(self.text.as_bytes(), TokenType::UserDefined);
        has_normalizer && self.is_normalized && !self.is_special && !kind.control && !kind.marker
    }
}

impl Tokenizer {
    /// The tokenizer of a `tokenizer.json`. The names of special tokens are taken from a
    /// `tokenizer_config.json` beside it, where there is one, or else from well-known texts.
    ///
    /// # Errors
    /// The file cannot be read, or the tokenizers library cannot use it.
    pub fn from_tokenizer_json(path: &Path) -> Result<Tokenizer, TokenizerError> {
        let name = path.display().to_string();
        let text = std::fs::read(path).map_err(|e| error(&name, e))?;
        let mut json: Value = serde_json::from_slice(&text).map_err(|e| error(&name, e))?;
        let config = std::fs::read(path.with_file_name("tokenizer_config.json")).ok();
        let config = config.and_then(|text| serde_json::from_slice(&text).ok());
        let added = added_tokens(&json);
        let whole = library(&name, &json)?;
        let has_normalizer = !json["normalizer"].is_null();
        let (left, ours): (Vec<&Added>, Vec<&Added>) =
            added.iter().partition(|a| a.is_left_to_library(has_normalizer));
        json["added_tokens"] = left.iter().map(|a| a.json.clone()).collect();
        (json["truncation"], json["padding"]) = (Value::Null, Value::Null);
        let spelling = json.to_string();
        let later = spelling.contains(FIRST).then(|| spelling.replace(FIRST, NEVER));
        let later = later.map(|json| from_str(&name, &json)).transpose()?;
        let first = library(&name, &json)?;

        let vocab = load_vocab(&whole, &json, &added);
        let (mut ids, adds) = special_ids(&name, &whole, &config.unwrap_or(Value::Null), &json)?;
        ids.complete(&vocab);
        let ends = ids.ends(&vocab);
        let with = |is: fn(&Added) -> bool| {
            let mut ids: Vec<u32> = ours.iter().filter(|a| is(a)).map(|a| a.id).collect();
            ids.sort_unstable();
            ids
        };
        let left_out: Vec<u32> = left.iter().map(|a| a.id).collect();
        let numbers = left.iter().filter_map(|a| Some((first.token_to_id(&a.text)?, a.id)));
        let renumbered = numbers.collect();
        let drops_space = json["decoder"].to_string();
        let space_prefix = ["\"Strip\"", "\"Metaspace\""].iter().any(|d| drops_space.contains(d))
            && !spelling.contains(NEVER);
        let engine =
            Engine::Json(Box::new(Json { first, later, unknown: ids.unk, renumbered, path: name }));
        Ok(Tokenizer {
            kind: "tokenizer.json".to_owned(),
            vocab,
            engine,
            specials: Finder::new(with(|a| a.is_single_word), left_out),
            idle: Idle::default(),
            ids,
            adds,
            ends,
            space_prefix,
            strips_after: with(|a| a.strips_after),
            strips_before: with(|a| a.strips_before),
            clean_spaces: false,
            warnings: vec![],
        })
    }
}

/// Where spaces are put in front of text.
const FIRST: &str = "\"prepend_scheme\":\"first\"";
const NEVER: &str = "\"prepend_scheme\":\"never\"";

fn library(name: &str, json: &Value) -> Result<tokenizers::Tokenizer, TokenizerError> {
    from_str(name, &json.to_string())
}

fn from_str(name: &str, json: &str) -> Result<tokenizers::Tokenizer, TokenizerError> {
    tokenizers::Tokenizer::from_bytes(json).map_err(|e| error(name, e))
}

fn added_tokens(json: &Value) -> Vec<Added> {
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let read = |token: &Value| {
        let is = |flag: &str| token[flag].as_bool().unwrap_or(false);
        Some(Added {
            id: u32::try_from(token["id"].as_u64()?).ok()?,
            text: token["content"].as_str()?.to_owned(),
            is_special: is("special"),
            strips_before: is("lstrip"),
            strips_after: is("rstrip"),
            is_single_word: is("single_word"),
            is_normalized: is("normalized"),
            json: token.clone(),
        })
    };
    added.filter_map(read).filter(|a| (a.id as usize) < load::MAX_TOKENS).collect()
}

/// All tokens as bytes: byte-level spelling, or U+2581 and `<0x41>`, as the file's parts say.
fn load_vocab(library: &tokenizers::Tokenizer, json: &Value, added: &[Added]) -> Vocab {
    let is_byte_level = ["decoder", "pre_tokenizer"]
        .iter()
        .any(|part| json[part].to_string().contains("\"ByteLevel\""));
    let words = library.get_vocab(true);
    let in_range = words.iter().filter(|(_, id)| (**id as usize) < load::MAX_TOKENS);
    let by_id: HashMap<u32, &str> = in_range.map(|(text, &id)| (id, text.as_str())).collect();
    let added: HashMap<u32, &Added> = added.iter().map(|a| (a.id, a)).collect();
    let n_tokens = by_id.keys().chain(added.keys()).max().map_or(0, |max| *max as usize + 1);
    let mut vocab = Vocab::with_capacity(n_tokens, n_tokens * 8);
    for id in 0..n_tokens as u32 {
        if let Some(added) = added.get(&id) {
            let ty = if added.is_special { TokenType::Control } else { TokenType::UserDefined };
            let text = added.text.as_bytes();
            vocab.push(special::classify(text, ty), |out| out.extend_from_slice(text));
            continue;
        }
        let text = by_id.get(&id).copied().unwrap_or_default().as_bytes();
        let byte = load::byte_of(text).filter(|_| !is_byte_level);
        let ty = match byte {
            Some(_) => TokenType::Byte,
            None if text.is_empty() => TokenType::Unused,
            None => TokenType::Normal,
        };
        let kind = special::classify(text, ty);
        vocab.push(kind, |out| match byte {
            Some(byte) => out.push(byte),
            None if kind.ty == TokenType::Control => out.extend_from_slice(text),
            None if is_byte_level => bytes::unspell(text, out),
            None => unescape(text, out),
        });
    }
    vocab.index();
    vocab
}

/// Special ids by their names in `config`, and the tokens that the file puts around a text.
fn special_ids(
    name: &str,
    library: &tokenizers::Tokenizer,
    config: &Value,
    json: &Value,
) -> Result<(SpecialIds, Adds), TokenizerError> {
    let named = |key: &str| {
        let token = &config[key];
        let text = token.as_str().or_else(|| token["content"].as_str())?;
        library.token_to_id(text)
    };
    let encode = |special: bool| {
        let encoding = library.encode_fast("a", special).map_err(|e| error(name, e))?;
        Ok::<_, TokenizerError>(encoding.get_ids().to_vec())
    };
    let (bare, wrapped) = (encode(false)?, encode(true)?);
    let at = wrapped.windows(bare.len().max(1)).position(|w| w == bare).unwrap_or(0);
    let before = wrapped[..at].first().copied();
    let after = wrapped.get(at + bare.len()).copied();
    let unk = json["model"]["unk_token"].as_str().and_then(|text| library.token_to_id(text));
    let ids = SpecialIds {
        bos: named("bos_token").or(before),
        eos: named("eos_token").or(after),
        unk: named("unk_token").or(unk),
        sep: named("sep_token"),
        pad: named("pad_token"),
        mask: named("mask_token"),
        ..SpecialIds::default()
    };
    let adds = Adds {
        bos: before.is_some() && before == ids.bos,
        eos: after.is_some() && after == ids.eos,
        sep: after.is_some() && after == ids.sep && after != ids.eos,
    };
    Ok((ids, adds))
}
