//! A `tokenizer.json` in place of a file's own vocabulary.
//!
//! The tokenizers library reads the file and encodes ordinary text. Special tokens stay our own
//! affair: they are taken out of the file before the library sees it, so what is trusted and what
//! is not is decided in one place for every kind of tokenizer. Decoding is ours too, from the bytes
//! of each token.

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
        ids.extend(encoding.get_ids().iter().copied().filter(is_text));
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
    strips_after: bool,
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
        for key in ["added_tokens", "truncation", "padding"] {
            json[key] = if key == "added_tokens" { Value::Array(vec![]) } else { Value::Null };
        }
        let spelling = json.to_string();
        let later = spelling.contains(FIRST).then(|| spelling.replace(FIRST, NEVER));
        let later = later.map(|json| from_str(&name, &json)).transpose()?;
        let first = library(&name, &json)?;

        let vocab = load_vocab(&whole, &json, &added);
        let (mut ids, adds) = special_ids(&name, &whole, &config.unwrap_or(Value::Null), &json)?;
        ids.complete(&vocab);
        let ends = ids.ends(&vocab);
        let mut strips_after: Vec<u32> =
            added.iter().filter(|a| a.strips_after).map(|a| a.id).collect();
        strips_after.sort_unstable();
        let drops_space = json["decoder"].to_string();
        let space_prefix = ["\"Strip\"", "\"Metaspace\""].iter().any(|d| drops_space.contains(d))
            && !spelling.contains(NEVER);
        let engine =
            Engine::Json(Box::new(Json { first, later, unknown: ids.unk, path: name.clone() }));
        Ok(Tokenizer {
            kind: "tokenizer.json".to_owned(),
            vocab,
            engine,
            specials: Finder::default(),
            idle: Idle::default(),
            ids,
            adds,
            ends,
            space_prefix,
            strips_after,
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
        Some(Added {
            id: u32::try_from(token["id"].as_u64()?).ok()?,
            text: token["content"].as_str()?.to_owned(),
            is_special: token["special"].as_bool().unwrap_or(false),
            strips_after: token["rstrip"].as_bool().unwrap_or(false),
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
