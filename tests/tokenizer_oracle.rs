//! Our byte-level BPE against the tokenizers library, on random text: the same vocabulary once as
//! GGUF metadata and once as the `tokenizer.json` that the library reads.
//!
//! A small vocabulary is trained here; those of the goldens are used where `PUMICE_GOLDENS` names
//! their folder.
#![cfg(feature = "tokenizer-json")]

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use formats::{Array, Gguf, GgufWriter, Strings, Value};
use pumice::text::Segment;
use pumice::text::tokenizer::{Show, Special, Tokenizer, TokenizerError};
use serde_json::{Value as Json, json};

const PUBLISHED: &str = include_str!("data/tokenizer/pretokenizers.json");

/// `tokenizer.json` of a byte-level vocabulary.
fn to_json(file: &Gguf) -> Json {
    let meta = file.metadata();
    let published: Json = serde_json::from_str(PUBLISHED).unwrap();
    let name = meta.str("tokenizer.ggml.pre").unwrap().unwrap();
    let flags = &published["names"][name];
    let steps = published["patterns"][flags["pattern"].as_str().unwrap()]["steps"].clone();
    let split = |regex: &Json| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let mut pre: Vec<Json> = steps.as_array().unwrap().iter().map(split).collect();
    pre.push(byte_level.clone());
    let tokens = meta.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    let types = meta.i32_array("tokenizer.ggml.token_type").unwrap().unwrap();
    let vocab: serde_json::Map<String, Json> =
        tokens.iter().enumerate().map(|(id, t)| (t.unwrap().to_owned(), json!(id))).collect();
    let added: Vec<Json> = (0..tokens.len())
        .filter(|&id| types[id] == 3 || types[id] == 4)
        .map(|id| {
            json!({"id": id, "content": tokens.get(id), "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": types[id] == 3})
        })
        .collect();
    let merges = meta.strings("tokenizer.ggml.merges").unwrap().unwrap();
    let merges: Vec<&str> = merges.iter().map(Option::unwrap).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": {"type": "Sequence", "pretokenizers": pre},
        "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "byte_fallback": false, "ignore_merges": flags["ignore_merges"],
                  "vocab": vocab, "merges": merges}
    })
}

/// How byte-level vocabularies spell a byte.
fn spelling(byte: u8) -> char {
    let itself = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    if itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !itself(b)).count() as u32;
    char::from_u32(256 + before).unwrap()
}

/// A vocabulary of 256 bytes, some special tokens and the `n` most common merges of this file.
fn trained(pre: &str, n: usize) -> Gguf {
    let mut tokens: Vec<String> = (0..=255u8).map(|b| spelling(b).to_string()).collect();
    let mut types = vec![1; 256];
    for (token, ty) in [("<|im_start|>", 3), ("<|im_end|>", 3), ("<|im|>", 3), ("<table>", 4)] {
        tokens.push(token.to_owned());
        types.push(ty);
    }
    let text = include_str!("tokenizer_oracle.rs");
    let mut words: Vec<Vec<String>> = text
        .split_inclusive(' ')
        .map(|word| word.bytes().map(|b| spelling(b).to_string()).collect())
        .collect();
    let mut merges = vec![];
    while merges.len() < n {
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *counts.entry((&pair[0], &pair[1])).or_default() += 1;
        }
        let best = counts.into_iter().max_by_key(|&(pair, count)| (count, pair)).unwrap().0;
        let (left, right) = (best.0.to_owned(), best.1.to_owned());
        let merged = format!("{left}{right}");
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if word[at] == left && word[at + 1] == right {
                    word[at].clone_from(&merged);
                    word.remove(at + 1);
                }
                at += 1;
            }
        }
        merges.push(format!("{left} {right}"));
        if !tokens.contains(&merged) {
            tokens.push(merged);
            types.push(1);
        }
    }
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "gpt2");
    writer.set("tokenizer.ggml.pre", pre);
    writer.set("tokenizer.ggml.tokens", Strings::from_iter(&tokens));
    writer.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    writer.set("tokenizer.ggml.merges", Strings::from_iter(&merges));
    Gguf::from_bytes(writer.to_bytes()).unwrap()
}

/// Random text of words, code, scripts, spaces and the special tokens of the vocabulary.
fn text(seed: &mut u32, specials: &[String]) -> String {
    const PARTS: &[&str] = &[
        "the",
        " of",
        "Hello",
        " world",
        "fn main() {",
        "\n    ",
        "\n\n",
        "  ",
        " ",
        "\t",
        "1234",
        "5",
        " 67",
        "it's",
        "I'LL",
        "'ſ",
        "é",
        "naïve",
        "中文",
        "日本語",
        "한국어",
        "ภาษา",
        "नमस्ते",
        "Привет",
        "😀",
        "👨\u{200d}👩",
        "...",
        "!?",
        "==",
        "<|im",
        "|>",
        "\r\n",
        "\u{a0}",
        "\u{301}",
        "²",
        "x",
        "Y",
        "_",
        "/",
        "</s>",
        "tokenizer",
        "INTERNATIONALIZATION",
    ];
    let mut next = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 8) as usize
    };
    let mut text = String::new();
    for _ in 0..next() % 24 {
        match next() % 12 {
            0 if !specials.is_empty() => text.push_str(&specials[next() % specials.len()]),
            1 => text.push(char::from_u32((next() % 0x3000) as u32).unwrap_or('a')),
            _ => text.push_str(PARTS[next() % PARTS.len()]),
        }
    }
    text
}

/// Ours, the library, and the library behind our own handling of special tokens agree.
fn compare(file: &Gguf, n_texts: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, to_json(file).to_string()).unwrap();
    let ours = Tokenizer::from_gguf(file).unwrap();
    let library = tokenizers::Tokenizer::from_file(&path).unwrap();
    let behind = Tokenizer::from_tokenizer_json(&path).unwrap();
    let specials: Vec<String> = (0..ours.n_tokens() as u32)
        .filter(|&id| ours.is_control(id))
        .map(|id| String::from_utf8(ours.token_bytes(id).unwrap().to_vec()).unwrap())
        .collect();
    assert!(!specials.is_empty());
    assert_eq!(behind.n_tokens(), ours.n_tokens());
    let mut seed = 3;
    for _ in 0..n_texts {
        let text = text(&mut seed, &specials);
        let ids = ours.encode(&text, Special::Parse, false).unwrap();
        let expected = library.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
        assert_eq!(ids, expected, "{text:?}");
        assert_eq!(behind.encode(&text, Special::Parse, false).unwrap(), ids, "{text:?}");
        let plain = ours.encode(&text, Special::Plain, false).unwrap();
        assert_eq!(behind.encode(&text, Special::Plain, false).unwrap(), plain, "{text:?}");
        let untrusted = [Segment { text: text.clone(), trusted: false }];
        let safe = behind.encode_segments(&untrusted).unwrap();
        assert!(!safe.iter().any(|&id| behind.is_control(id)), "{text:?}");
        assert_eq!(behind.decode(&ids, Show::All).unwrap(), ours.decode(&ids, Show::All).unwrap());
    }
}

#[test]
fn a_trained_vocabulary() {
    for pre in
        ["gpt-2", "llama-bpe", "qwen2", "smollm", "gpt-4o", "deepseek-v3", "tekken", "falcon"]
    {
        compare(&trained(pre, 150), 300);
    }
}

#[test]
fn the_vocabularies_of_the_goldens() {
    let Some(goldens) = std::env::var_os("PUMICE_GOLDENS") else {
        println!("skipped: PUMICE_GOLDENS names no folder");
        return;
    };
    for name in ["gpt-2", "llama-bpe", "qwen2", "starcoder"] {
        let path = Path::new(&goldens).join(format!("tokenizers/{name}.gguf.gz"));
        let (mut bytes, file) = (vec![], std::fs::File::open(path).unwrap());
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        let file = Gguf::from_bytes(bytes).unwrap();
        compare(&file, 400);
    }
}

#[test]
fn what_a_tokenizer_json_adds() {
    let mut json = to_json(&trained("gpt-2", 20));
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<|im_start|>":
            {"id": "<|im_start|>", "ids": [256], "tokens": ["<|im_start|>"]}}
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let t = Tokenizer::from_tokenizer_json(&path).unwrap();
    assert_eq!((t.special().bos, t.adds().bos, t.adds().eos), (Some(256), true, false));
    assert_eq!(t.encode("", Special::Parse, true).unwrap(), [256]);
    assert!(t.is_eog(257) && t.is_control(257));
    let config = json!({"bos_token": "<|im|>", "eos_token": {"content": "<table>"}});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let t = Tokenizer::from_tokenizer_json(&path).unwrap();
    assert_eq!((t.special().bos, t.special().eos), (Some(258), Some(259)));
}

#[test]
fn added_tokens_keep_what_the_file_says_of_their_surroundings() {
    let mut json = to_json(&trained("gpt-2", 60));
    json["normalizer"] = json!({"type": "Lowercase"});
    let n = 256 + 4 + 60;
    let added = |id: usize, content: &str, flags: &[&str]| {
        let mut token = json!({"id": id, "content": content});
        for flag in ["lstrip", "rstrip", "single_word", "normalized", "special"] {
            token[flag] = json!(flags.contains(&flag));
        }
        token
    };
    json["added_tokens"] = json!([
        added(256, "<|im_start|>", &["special", "lstrip"]),
        added(257, "<|im_end|>", &["special", "rstrip"]),
        added(258, "<|im|>", &["special", "single_word"]),
        added(259, "<table>", &["normalized", "lstrip", "rstrip"]),
        added(n, "Tab", &["normalized", "single_word"]),
        added(n + 1, "[X]", &["single_word", "lstrip", "rstrip"]),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let library = tokenizers::Tokenizer::from_file(&path).unwrap();
    let ours = Tokenizer::from_tokenizer_json(&path).unwrap();
    assert_eq!(ours.id_of("[X]"), Some(n as u32 + 1));
    let words = ["<|im_start|>", "<|im_end|>", "<|im|>", "<table>", "<TABLE>", "Tab", "TAB", "[X]"];
    let words = words.map(str::to_owned);
    let (mut seed, mut n_found) = (5, 0);
    for _ in 0..3000 {
        let text = text(&mut seed, &words);
        let text = text.replace('Y', "[X]").replace('/', " tab ");
        let ids = ours.encode(&text, Special::Parse, false).unwrap();
        let expected = library.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
        assert_eq!(ids, expected, "{text:?}");
        n_found += ids.iter().filter(|&&id| id >= n as u32).count();
    }
    assert!(n_found > 500);
}

#[test]
fn files_that_are_no_tokenizer_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for text in [None, Some("{"), Some("{}"), Some("[1]"), Some("\u{1}")] {
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let error = Tokenizer::from_tokenizer_json(&path).unwrap_err();
        assert!(matches!(error, TokenizerError::Json { .. }));
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}
