//! A tokenizer from GGUF metadata.

use formats::{Array, Gguf, Metadata, Strings};

use super::engine::{Bpe, Bridges, ByteIds, Idle, Merge, Merges, Spm, rank_of_score, unescape};
use super::merge::NONE;
use super::pre::{self, Pre};
use super::special::{self, SpecialIds};
use super::split::Finder;
use super::vocab::{TokenType, Vocab};
use super::{Adds, Engine, Tokenizer, TokenizerError, bytes};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
pub(super) const LOWERCASE: &str = "tokenizer.ggml.normalizer.lowercase";

/// More tokens than any model has; ids stay well below the values with a meaning of their own.
pub(super) const MAX_TOKENS: usize = 1 << 24;
/// Longest vocabulary in bytes.
const MAX_BYTES: usize = 1 << 31;
/// A thread is worth starting for this many merges.
const MERGES_PER_THREAD: usize = 32 << 10;
const MAX_LOAD_THREADS: usize = 4;

impl Tokenizer {
    /// The tokenizer that a file's metadata describe.
    ///
    /// A file whose kind is `none` or `no_vocab`, or that names no kind, gives a tokenizer that
    /// answers every request with [`TokenizerError::NoVocabulary`]: such files can be run on ids.
    ///
    /// # Errors
    /// The kind is not supported; a key is missing, has the wrong type, or holds what does not fit
    /// the rest of the vocabulary.
    pub fn from_gguf(file: &Gguf) -> Result<Tokenizer, TokenizerError> {
        let meta = file.metadata();
        let kind = meta.str(MODEL)?.unwrap_or("none");
        match kind {
            "gpt2" | "gemma4" | "whitespace" => load_bpe(meta, kind),
            "llama" => load_spm(meta),
            "bert" => super::kinds::load_wordpiece(meta),
            "t5" => super::kinds::load_unigram(meta),
            "rwkv" => super::kinds::load_rwkv(meta),
            "plamo2" => super::kinds::load_plamo(meta),
            "none" | "no_vocab" | "" => Ok(Tokenizer::without_vocabulary(kind)),
            other => Err(TokenizerError::UnsupportedKind { kind: other.to_owned() }),
        }
    }

    /// A `tokenizer.json` needs the feature `tokenizer-json`, which this build lacks.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "tokenizer-json"))]
    pub fn from_tokenizer_json(path: &std::path::Path) -> Result<Tokenizer, TokenizerError> {
        let found = "this build lacks the feature tokenizer-json".to_owned();
        Err(TokenizerError::Json { path: path.display().to_string(), found })
    }

    fn without_vocabulary(kind: &str) -> Tokenizer {
        let mut vocab = Vocab::with_capacity(0, 0);
        vocab.index();
        let kind = if kind.is_empty() { "none" } else { kind };
        Tokenizer {
            kind: kind.to_owned(),
            vocab,
            engine: Engine::None,
            specials: Finder::default(),
            idle: Idle::default(),
            ids: SpecialIds::default(),
            adds: Adds::default(),
            ends: vec![],
            space_prefix: false,
            strips_after: vec![],
            strips_before: vec![],
            clean_spaces: false,
            warnings: vec![],
        }
    }
}

/// Byte-level BPE, or BPE over characters where the pre-tokenizer says so.
fn load_bpe(meta: &Metadata, kind: &str) -> Result<Tokenizer, TokenizerError> {
    let mut warnings = vec![];
    let default_name = if kind == "gpt2" { "" } else { kind };
    let pre = find_pre(meta.str(PRE)?.unwrap_or(default_name), &mut warnings);
    let over_chars = pre.is_over_chars();
    let escapes = pre.escape_spaces();
    let spell = match (escapes, over_chars) {
        (true, _) => unescape,
        (false, true) => literally,
        (false, false) => bytes::unspell,
    };
    let (vocab, ids) = load_vocab(meta, SpecialIds::default(), spell)?;
    let merges = meta
        .strings(MERGES)?
        .ok_or(TokenizerError::Missing { key: MERGES, expected: "an array of pairs of tokens" })?;
    let merges = load_merges(merges, &vocab, spell)?;
    let byte_ids = match over_chars {
        true => byte_tokens(&vocab),
        false => {
            let mut ids = Box::new([NONE; 256]);
            for byte in 0..=255u8 {
                let word = vocab.word(&[byte]).or_else(|| user_defined(&vocab, &[byte]));
                ids[usize::from(byte)] = word.unwrap_or(NONE);
            }
            ids
        }
    };
    let adds = Adds {
        bos: pre.force_bos() || meta.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(pre.add_bos()),
        eos: meta.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
        sep: meta.bool("tokenizer.ggml.add_sep_token")?.unwrap_or(pre.add_sep()),
    };
    let bridges = Bridges::new(&vocab);
    let clean_spaces = pre.clean_spaces();
    let lowers = meta.bool(LOWERCASE)?.unwrap_or(false);
    let unknown = ids.unk;
    let engine = Engine::Bpe(Bpe { pre, merges, byte_ids, bridges, unknown, lowers });
    let ways = Ways { adds, clean_spaces, space_prefix: false, warnings };
    Tokenizer::assemble(meta, kind, vocab, engine, ids, ways)
}

/// A token that is spelled as it is.
fn literally(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text);
}

/// SentencePiece-BPE.
fn load_spm(meta: &Metadata) -> Result<Tokenizer, TokenizerError> {
    // Ids that files of this kind leave out because the first library had them so.
    let first = SpecialIds { bos: Some(1), eos: Some(2), unk: Some(0), ..SpecialIds::default() };
    let (vocab, ids) = load_vocab(meta, first, unescape)?;
    let scores = load_scores(meta, &vocab)?;
    let adds = Adds {
        bos: meta.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(true),
        eos: meta.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
        sep: meta.bool("tokenizer.ggml.add_sep_token")?.unwrap_or(false),
    };
    let engine = Engine::Spm(Spm {
        ranks: scores.iter().map(|&score| rank_of_score(score)).collect(),
        byte_ids: byte_tokens(&vocab),
        unknown: ids.unk,
        bridges: Bridges::new(&vocab),
    });
    let space_prefix = meta.bool(SPACE_PREFIX)?.unwrap_or(true);
    let ways = Ways { adds, clean_spaces: false, space_prefix, warnings: vec![] };
    Tokenizer::assemble(meta, "llama", vocab, engine, ids, ways)
}

/// The score of each token.
pub(super) fn load_scores(meta: &Metadata, vocab: &Vocab) -> Result<Vec<f32>, TokenizerError> {
    let scores = meta.f32_array(SCORES)?.ok_or(TokenizerError::Missing {
        key: SCORES,
        expected: "an array of one float per token",
    })?;
    check_length(SCORES, scores.len(), vocab.len())?;
    match scores.iter().position(|score| score.is_nan()) {
        Some(index) => Err(TokenizerError::Score { index }),
        None => Ok(scores),
    }
}

/// How a kind of tokenizer goes about its texts.
pub(super) struct Ways {
    pub(super) adds: Adds,
    /// The published decoder tidies spaces.
    pub(super) clean_spaces: bool,
    /// A space is put before a text.
    pub(super) space_prefix: bool,
    pub(super) warnings: Vec<String>,
}

impl Tokenizer {
    /// What all kinds have in common.
    pub(super) fn assemble(
        meta: &Metadata,
        kind: &str,
        vocab: Vocab,
        engine: Engine,
        mut ids: SpecialIds,
        ways: Ways,
    ) -> Result<Tokenizer, TokenizerError> {
        ids.complete(&vocab);
        let is_spm = matches!(engine, Engine::Spm(_));
        ids.nl = match &engine {
            Engine::Spm(spm) => Some(spm.byte_ids[usize::from(b'\n')]).filter(|&id| id != NONE),
            _ => vocab.word(b"\n"),
        };
        ids.nl = ids.nl.or_else(|| vocab.word(b"\n")).or_else(|| vocab.other(b"\n"));
        let ends = ids.ends(&vocab);
        let Ways { adds, clean_spaces, space_prefix, warnings } = ways;
        let strips_after = match meta.str("general.name")? {
            Some(name) if is_spm => strips_after(name, &vocab),
            _ => vec![],
        };
        Ok(Tokenizer {
            kind: kind.to_owned(),
            vocab,
            engine,
            specials: Finder::default(),
            idle: Idle::default(),
            ids,
            adds,
            ends,
            space_prefix,
            strips_after,
            strips_before: vec![],
            clean_spaces,
            warnings,
        })
    }
}

/// Tokens after which spaces are dropped.
///
/// Phi-3's tokenizer strips the text after its special tokens (all but three), which GGUF has no
/// key for; the model's name is all that tells.
fn strips_after(model_name: &str, vocab: &Vocab) -> Vec<u32> {
    let name = model_name.to_lowercase();
    if !name.contains("phi3") && !name.contains("phi-3") {
        return vec![];
    }
    let keeps: [&[u8]; 3] = [b"<unk>", b"<s>", b"<|endoftext|>"];
    let special =
        vocab.iter().filter(|(_, kind)| kind.control || kind.ty == TokenType::UserDefined);
    special.map(|(id, _)| id).filter(|&id| !keeps.contains(&vocab.bytes(id))).collect()
}

/// The pre-tokenizer of this name, or a guess with a warning.
fn find_pre(name: &str, warnings: &mut Vec<String>) -> Pre {
    pre::pre(name).unwrap_or_else(|| {
        warnings.push(format!(
            "tokenizer.ggml.pre is \"{name}\", a pre-tokenizer that this version does not know; \
             \"default\" is used instead, so text may be cut into other tokens than those the \
             model was trained on, and answers may be worse"
        ));
        pre::pre("default").expect("the table has a default")
    })
}

/// Tokens and their types, and the special ids that metadata name. `defaults` are the ids that files
/// of a kind leave out; `spell` writes the bytes of ordinary text.
pub(super) fn load_vocab(
    meta: &Metadata,
    defaults: SpecialIds,
    spell: impl Fn(&[u8], &mut Vec<u8>),
) -> Result<(Vocab, SpecialIds), TokenizerError> {
    let tokens = meta
        .strings(TOKENS)?
        .ok_or(TokenizerError::Missing { key: TOKENS, expected: "an array of strings" })?;
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        let expected = format!("1 to {MAX_TOKENS}");
        return Err(TokenizerError::Length { key: TOKENS, found: tokens.len(), expected });
    }
    if tokens.total_bytes() >= MAX_BYTES {
        let (found, expected) = (tokens.total_bytes(), MAX_BYTES);
        return Err(TokenizerError::TooLong { found, expected });
    }
    let types = token_types(meta, tokens.len())?;
    let ids = special_ids(meta, tokens.len(), defaults)?;
    // Old files have no types: what they name must still not be made from ordinary text.
    let named = [ids.bos, ids.eos, ids.eot, ids.eom];
    let untyped = |index: usize| match named.contains(&Some(index as u32)) {
        true => TokenType::Control,
        false => TokenType::Normal,
    };
    let mut vocab = Vocab::with_capacity(tokens.len(), tokens.total_bytes());
    for (index, text) in tokens.iter_bytes().enumerate() {
        let ty = types.get(index).copied().unwrap_or_else(|| untyped(index));
        let kind = special::classify(text, ty);
        vocab.push(kind, |out| match kind.ty {
            TokenType::Byte => match byte_of(text) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(text),
            },
            TokenType::Normal | TokenType::Unused => spell(text, out),
            _ => out.extend_from_slice(text),
        });
    }
    vocab.index();
    Ok((vocab, ids))
}

/// Types of all tokens; empty if the file does not say.
fn token_types(meta: &Metadata, n_tokens: usize) -> Result<Vec<TokenType>, TokenizerError> {
    let Some(array) = meta.array(TYPES)? else {
        return Ok(vec![]);
    };
    check_length(TYPES, array.len(), n_tokens)?;
    let convert = |(index, found): (usize, i64)| {
        TokenType::from_id(found).ok_or(TokenizerError::TokenType { index, found })
    };
    match array {
        Array::I32(types) => types.iter().map(|&t| i64::from(t)).enumerate().map(convert).collect(),
        _ => {
            let types = meta.i32_array(TYPES)?.unwrap_or_default();
            types.into_iter().map(i64::from).enumerate().map(convert).collect()
        }
    }
}

pub(super) fn check_length(
    key: &'static str,
    found: usize,
    n_tokens: usize,
) -> Result<(), TokenizerError> {
    if found == n_tokens {
        return Ok(());
    }
    let expected = format!("{n_tokens}, one for each of {TOKENS}");
    Err(TokenizerError::Length { key, found, expected })
}

/// `<0x41>` is the byte 0x41.
pub(super) fn byte_of(text: &[u8]) -> Option<u8> {
    let hex = text.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let hex = std::str::from_utf8(hex).ok().filter(|hex| hex.len() == 2)?;
    u8::from_str_radix(hex, 16).ok()
}

/// The tokens of type byte.
pub(super) fn byte_tokens(vocab: &Vocab) -> ByteIds {
    let mut ids = Box::new([NONE; 256]);
    for (id, kind) in vocab.iter() {
        if kind.ty == TokenType::Byte
            && let &[byte] = vocab.bytes(id)
            && ids[usize::from(byte)] == NONE
        {
            ids[usize::from(byte)] = id;
        }
    }
    ids
}

/// A user-defined token with this text that merges may speak of where no ordinary one has it.
fn user_defined(vocab: &Vocab, bytes: &[u8]) -> Option<u32> {
    vocab.other(bytes).filter(|&id| {
        let kind = vocab.kind(id);
        kind.ty == TokenType::UserDefined && !kind.control && !kind.marker
    })
}

/// Resolves the merge list to ids. A merge of or into a token that steers the model has [`NONE`] in
/// its place: such tokens are never made from ordinary text.
fn load_merges(
    merges: &Strings,
    vocab: &Vocab,
    spell: fn(&[u8], &mut Vec<u8>),
) -> Result<Merges, TokenizerError> {
    // Nearly all the time of loading goes into looking up three tokens per merge, so a few threads
    // share that.
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let n_threads = (merges.len() / MERGES_PER_THREAD).clamp(1, cores.min(MAX_LOAD_THREADS));
    let part = |i: usize| merges.len() * i / n_threads..merges.len() * (i + 1) / n_threads;
    let resolve = |i: usize| -> Result<Vec<Merge>, TokenizerError> {
        let (mut pair, mut near) = (Vec::new(), 0);
        part(i).map(|at| resolve_merge(merges, at, vocab, spell, &mut pair, &mut near)).collect()
    };
    let resolve = &resolve;
    let resolved: Vec<Result<Vec<Merge>, TokenizerError>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads).map(|i| scope.spawn(move || resolve(i))).collect();
        let first = resolve(0);
        let join = |t: std::thread::ScopedJoinHandle<'_, _>| {
            t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        std::iter::once(first).chain(others.into_iter().map(join)).collect()
    });
    let mut list = Vec::with_capacity(merges.len());
    for part in resolved {
        list.append(&mut part?);
    }
    Ok(Merges::new(list))
}

/// Merge `index` as ids. `pair` is a buffer; `near` is the token that the merge before made: lists
/// are in the order of the vocabulary, so the next is most often this one or its neighbour.
fn resolve_merge(
    merges: &Strings,
    index: usize,
    vocab: &Vocab,
    spell: fn(&[u8], &mut Vec<u8>),
    pair: &mut Vec<u8>,
    near: &mut u32,
) -> Result<Merge, TokenizerError> {
    let text = merges.get_bytes(index).unwrap_or_default();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // The first word may itself begin with a space.
    let cut = text.iter().skip(1).position(|&b| b == b' ').map(|at| at + 1);
    let Some(cut) = cut.filter(|&cut| cut + 1 < text.len()) else {
        return Err(TokenizerError::MergeShape { index, found: shown(text) });
    };
    pair.clear();
    spell(&text[..cut], pair);
    let middle = pair.len();
    spell(&text[cut + 1..], pair);
    let find = |word: Option<u32>, part: &[u8]| {
        let found = word.or_else(|| user_defined(vocab, part));
        found.or_else(|| vocab.other(part).map(|_| NONE)).ok_or_else(|| {
            let (found, unknown) = (shown(text), shown(part));
            TokenizerError::MergeToken { index, found, unknown }
        })
    };
    let (left, right) = pair.split_at(middle);
    let merged = find(vocab.word_near(*near, pair), pair)?;
    *near = merged;
    Ok([find(vocab.word(left), left)?, find(vocab.word(right), right)?, merged])
}

/// The special ids that metadata name, or else `defaults`.
fn special_ids(
    meta: &Metadata,
    n_tokens: usize,
    defaults: SpecialIds,
) -> Result<SpecialIds, TokenizerError> {
    let named = |name: &str| -> Result<Option<u32>, TokenizerError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        // -1, also as an unsigned number, says that there is none.
        let none = meta.get(&key).and_then(|v| v.as_integer());
        if matches!(none, Some(-1) | Some(0xffff_ffff)) {
            return Ok(None);
        }
        match meta.u64(&key)? {
            None => Ok(None),
            Some(id) if id < n_tokens as u64 => Ok(Some(id as u32)),
            Some(found) => Err(TokenizerError::SpecialId { key, found, n_tokens }),
        }
    };
    let either = |new: &str, old: &str| Ok::<_, TokenizerError>(named(new)?.or(named(old)?));
    let usual = |id: Option<u32>| id.filter(|&id| (id as usize) < n_tokens);
    Ok(SpecialIds {
        bos: named("bos")?.or(named("cls")?).or(usual(defaults.bos)),
        eos: named("eos")?.or(usual(defaults.eos)),
        eot: named("eot")?,
        eom: named("eom")?,
        unk: named("unknown")?.or(usual(defaults.unk)),
        // Spelled like this in files.
        sep: either("seperator", "separator")?.or(usual(defaults.sep)),
        pad: named("padding")?.or(usual(defaults.pad)),
        mask: named("mask")?.or(usual(defaults.mask)),
        nl: None,
        fim_pre: either("fim_pre", "prefix")?,
        fim_suf: either("fim_suf", "suffix")?,
        fim_mid: either("fim_mid", "middle")?,
        fim_pad: named("fim_pad")?,
        fim_rep: named("fim_rep")?,
        fim_sep: named("fim_sep")?,
    })
}
