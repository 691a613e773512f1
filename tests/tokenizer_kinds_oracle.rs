//! WordPiece and Unigram against the tokenizers library, on random text over small vocabularies;
//! with those of the goldens where `PUMICE_GOLDENS` names their folder.

use std::io::Read;
use std::path::Path;

use formats::{Gguf, GgufWriter, Value};
use pumice::text::tokenizer::{Special, Tokenizer};
use serde_json::{Value as Json, json};

fn open(path: &Path) -> Gguf {
    let mut bytes = vec![];
    let file = std::fs::File::open(path).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    Gguf::from_bytes(bytes).unwrap()
}

/// Small vocabularies of this repository, and larger ones where they are at hand.
fn vocabularies(small: &str, large: &str) -> Vec<Gguf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer");
    let mut files = vec![open(&data.join(format!("{small}.gguf.gz")))];
    match std::env::var_os("PUMICE_GOLDENS") {
        Some(goldens) => {
            files.push(open(&Path::new(&goldens).join(format!("tokenizers/{large}.gguf.gz"))));
        }
        None => println!("skipped: {large}, as PUMICE_GOLDENS names no folder"),
    }
    files
}

fn tokens(file: &Gguf) -> Vec<String> {
    let tokens = file.metadata().strings("tokenizer.ggml.tokens").unwrap().unwrap();
    tokens.iter().map(|t| t.unwrap().to_owned()).collect()
}

fn library(normalizer: Json, pre_tokenizer: Json, model: Json) -> tokenizers::Tokenizer {
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": null, "model": model
    });
    tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap()
}

/// Words of the vocabulary and all kinds of characters.
fn text(seed: &mut u32, words: &[String]) -> String {
    const PARTS: &[&str] = &[
        " ", "  ", "\n", "\t", "\u{a0}", "\u{3000}", "the", "The", "É", "é", "e\u{301}", "ñ", "ǅ",
        "ß", "İ", "中", "文", "한국", "ก", "🙂", "\u{200d}", "\u{0}", "\u{feff}", ".", ",", "'",
        "!", "$", "+", "<", "—", "…", "，", "1", "23", "½", "²", "ﬁ", "x", "Zz", "_", "a", "b",
        "ing", "[", "]", "\u{fffd}",
    ];
    let mut next = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 8) as usize
    };
    let mut text = String::new();
    for _ in 0..next() % 20 {
        match next() % 4 {
            0 => text.push_str(words[next() % words.len()].trim_start_matches('▁')),
            // The library's tables of characters are those of an old Unicode.
            1 => text.push(char::from_u32((next() % 0x530) as u32).unwrap_or('a')),
            _ => text.push_str(PARTS[next() % PARTS.len()]),
        }
    }
    text
}

fn compare(ours: &Tokenizer, library: &tokenizers::Tokenizer, words: &[String], n_texts: usize) {
    let mut seed = 11;
    for _ in 0..n_texts {
        let text = text(&mut seed, words);
        let ids = ours.encode(&text, Special::Plain, false).unwrap();
        let expected = library.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
        assert_eq!(ids, expected, "{text:?}");
    }
}

#[test]
fn word_pieces() {
    for file in vocabularies("tiny-bert", "bert-bge") {
        let tokens = tokens(&file);
        let is_special = |t: &str| t.starts_with('[') && t.ends_with(']');
        let spelled = |t: &String| match t.strip_prefix('▁') {
            Some(word) => word.to_owned(),
            None if is_special(t) => t.clone(),
            None => format!("##{t}"),
        };
        let vocab: serde_json::Map<String, Json> =
            tokens.iter().enumerate().map(|(id, t)| (spelled(t), json!(id))).collect();
        let library = library(
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                   "strip_accents": null, "lowercase": true}),
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": vocab}),
        );
        let ours = Tokenizer::from_gguf(&file).unwrap();
        let words: Vec<String> = tokens.into_iter().filter(|t| !is_special(t)).collect();
        compare(&ours, &library, &words, 3000);
    }
}

#[test]
fn unigrams() {
    for file in vocabularies("tiny-t5", "nomic-bert-moe") {
        let tokens = tokens(&file);
        let scores = file.metadata().f32_array("tokenizer.ggml.scores").unwrap().unwrap();
        let types = file.metadata().i32_array("tokenizer.ggml.token_type").unwrap().unwrap();
        let unknown = file.metadata().u64("tokenizer.ggml.unknown_token_id").unwrap().unwrap();
        let vocab: Vec<Json> = tokens.iter().zip(&scores).map(|(t, s)| json!([t, s])).collect();
        let library = library(
            json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
            Json::Null,
            json!({"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": false}),
        );
        // The segmentation alone: text as it is.
        let mut writer = GgufWriter::new();
        for (key, value) in file.metadata().iter() {
            writer.set(key, value.clone());
        }
        writer.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
        writer.set("tokenizer.ggml.remove_extra_whitespaces", Value::Bool(false));
        let bytes = Value::Array(formats::Array::U8(vec![]));
        writer.set("tokenizer.ggml.precompiled_charsmap", bytes);
        let ours = Tokenizer::from_gguf(&Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap();
        let words: Vec<String> =
            tokens.into_iter().zip(types).filter(|(_, ty)| *ty == 1).map(|(t, _)| t).collect();
        compare(&ours, &library, &words, 3000);
    }
}
