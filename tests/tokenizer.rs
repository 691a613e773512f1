//! Tokenizers on vocabularies made up here: what is refused, what is trusted, how text streams.

use formats::{Gguf, GgufWriter, Strings, Value};
use proptest::prelude::*;
use pumice::text::Segment;
use pumice::text::tokenizer::{Detokenizer, Show, Special, TokenType, Tokenizer, TokenizerError};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// How byte-level vocabularies spell a byte.
fn spelling(byte: u8) -> char {
    let itself = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    if itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !itself(b)).count() as u32;
    char::from_u32(256 + before).unwrap()
}

/// A vocabulary under construction.
struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i32>,
    scores: Vec<f32>,
    merges: Vec<String>,
    writer: GgufWriter,
}

impl Vocabulary {
    /// Byte-level: the 256 bytes, then control tokens, then a user-defined one, then some merges.
    fn bpe() -> Vocabulary {
        let mut v = Vocabulary::new("gpt2");
        (0..=255u8).for_each(|b| v.push(&spelling(b).to_string(), NORMAL));
        for control in ["<|bos|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"] {
            v.push(control, CONTROL);
        }
        for user_defined in ["<table>", "<think>", "<|tool|>"] {
            v.push(user_defined, USER_DEFINED);
        }
        for merge in ["h e", "l l", "he ll", "hell o", "Ġ hello", "Ġ w", "< |", "| >", "i m"] {
            v.merge(merge);
        }
        v.writer.set("tokenizer.ggml.pre", "gpt-2");
        v.writer.set("tokenizer.ggml.bos_token_id", 256u32);
        v.writer.set("tokenizer.ggml.eos_token_id", 259u32);
        v
    }

    /// SentencePiece: unknown, BOS, EOS, the 256 bytes, some words.
    fn spm() -> Vocabulary {
        let mut v = Vocabulary::new("llama");
        v.push("<unk>", UNKNOWN);
        v.push("<s>", CONTROL);
        v.push("</s>", CONTROL);
        (0..=255u8).for_each(|b| v.push(&format!("<0x{b:02X}>"), BYTE));
        for word in
            ["▁", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello", "▁▁", "w", "▁w"]
        {
            v.push(word, NORMAL);
        }
        v.push("<|im_end|>", CONTROL);
        v.push("<table>", USER_DEFINED);
        v
    }

    fn new(model: &str) -> Vocabulary {
        let mut writer = GgufWriter::new();
        writer.set("tokenizer.ggml.model", model);
        let (tokens, types, scores, merges) = (vec![], vec![], vec![], vec![]);
        Vocabulary { tokens, types, scores, merges, writer }
    }

    fn push(&mut self, token: &str, ty: i32) {
        self.tokens.push(token.to_owned());
        self.types.push(ty);
        // Longer words first, as trained vocabularies have it at their start.
        self.scores.push(token.chars().count() as f32);
    }

    fn merge(&mut self, merge: &str) {
        self.push(&merge.replace(' ', ""), NORMAL);
        self.merges.push(merge.to_owned());
    }

    fn file(&self) -> Gguf {
        let mut writer = GgufWriter::new();
        writer.set("tokenizer.ggml.tokens", Strings::from_iter(&self.tokens));
        writer.set(
            "tokenizer.ggml.token_type",
            Value::Array(formats::Array::I32(self.types.clone())),
        );
        if self.merges.is_empty() {
            let scores = formats::Array::F32(self.scores.clone());
            writer.set("tokenizer.ggml.scores", Value::Array(scores));
        } else {
            writer.set("tokenizer.ggml.merges", Strings::from_iter(&self.merges));
        }
        let set = Gguf::from_bytes(self.writer.to_bytes()).unwrap();
        for (key, value) in set.metadata().iter() {
            writer.set(key, value.clone());
        }
        Gguf::from_bytes(writer.to_bytes()).unwrap()
    }

    fn load(&self) -> Tokenizer {
        Tokenizer::from_gguf(&self.file()).unwrap()
    }

    /// The message of the error that the vocabulary gives.
    fn refusal(&self) -> (TokenizerError, String) {
        let error = Tokenizer::from_gguf(&self.file()).unwrap_err();
        let text = error.to_string();
        (error, text)
    }

    fn id(&self, token: &str) -> u32 {
        self.tokens.iter().position(|t| t == token).unwrap() as u32
    }
}

fn trusted(text: &str) -> Segment {
    Segment { text: text.to_owned(), trusted: true }
}

fn untrusted(text: &str) -> Segment {
    Segment { text: text.to_owned(), trusted: false }
}

fn n_controls(tokenizer: &Tokenizer, ids: &[u32]) -> usize {
    ids.iter().filter(|&&id| tokenizer.is_control(id)).count()
}

#[test]
fn words_merge_and_come_back() {
    let v = Vocabulary::bpe();
    let t = v.load();
    let ids = t.encode("hello hello", Special::Plain, false).unwrap();
    assert_eq!(ids, [v.id("hello"), v.id("Ġhello")]);
    assert_eq!(t.decode(&ids, Show::Text).unwrap(), "hello hello");
    // Of merges that score the same the leftmost is made; what no token spells becomes bytes.
    let v = Vocabulary::spm();
    let t = v.load();
    let ids = t.encode("hello  w€", Special::Plain, true).unwrap();
    let bytes = [3 + 0xe2, 3 + 0x82, 3 + 0xac];
    assert_eq!(ids, [[1, v.id("▁hello"), v.id("▁▁"), v.id("w")].as_slice(), &bytes].concat());
    assert_eq!(t.decode(&ids, Show::Text).unwrap(), "hello  w€");
    assert_eq!(t.decode(&ids, Show::All).unwrap(), "<s> hello  w€");
}

#[test]
fn text_that_spells_control_tokens_gives_none() {
    for v in [Vocabulary::bpe(), Vocabulary::spm()] {
        let t = v.load();
        for text in ["<|im_end|>", "a<|im_end|>b", "<|im_end|><|im_end|>", "<s></s><|bos|>"] {
            assert_eq!(n_controls(&t, &t.encode(text, Special::Plain, false).unwrap()), 0);
            let ids = t.encode_segments(&[trusted("<|im_end|>"), untrusted(text)]).unwrap();
            let n_bos = usize::from(t.adds().bos);
            assert_eq!(n_controls(&t, &ids), 1 + n_bos, "{text}");
            let text_of = |ids: &[u32]| t.decode(ids, Show::All).unwrap();
            assert!(text_of(&ids).ends_with(text), "{:?}", text_of(&ids));
        }
    }
}

#[test]
fn a_control_token_across_a_border_is_text() {
    let v = Vocabulary::bpe();
    let t = v.load();
    let spelled = "<|im_end|>";
    for at in 1..spelled.len() {
        let (front, back) = spelled.split_at(at);
        for segments in [
            [trusted(front), untrusted(back)],
            [untrusted(front), trusted(back)],
            [untrusted(front), untrusted(back)],
        ] {
            let ids = t.encode_segments(&segments).unwrap();
            assert_eq!(n_controls(&t, &ids), 0, "{segments:?}");
            // Encoded as one text all the same.
            assert_eq!(ids, t.encode(spelled, Special::Plain, false).unwrap());
        }
        let ids = t.encode_segments(&[trusted(front), trusted(back)]).unwrap();
        assert_eq!(ids, [v.id(spelled)]);
    }
}

#[test]
fn markers_of_untrusted_text_are_text_and_tags_are_tokens() {
    let v = Vocabulary::bpe();
    let t = v.load();
    for marker in ["<think>", "<|tool|>"] {
        let id = v.id(marker);
        assert!(t.is_control(id));
        assert_eq!(t.encode_segments(&[trusted(marker)]).unwrap(), [id]);
        assert!(!t.encode_segments(&[untrusted(marker)]).unwrap().contains(&id));
        assert_eq!(t.encode(marker, Special::Plain, false).unwrap(), [id]);
    }
    let table = v.id("<table>");
    assert!(!t.is_control(table));
    assert_eq!(t.encode_segments(&[untrusted("<ta"), trusted("ble>")]).unwrap(), [table]);
}

#[test]
fn ends_of_turns_are_control_whatever_the_file_says() {
    let mut v = Vocabulary::bpe();
    for ty in [NORMAL, USER_DEFINED] {
        let id = v.id("<|im_end|>");
        v.types[id as usize] = ty;
        let t = v.load();
        assert_eq!(t.token_type(id), Some(TokenType::Control));
        assert!(t.is_eog(id));
        assert!(!t.encode("<|im_end|>", Special::Plain, false).unwrap().contains(&id));
        assert_eq!(t.encode("<|im_end|>", Special::Parse, false).unwrap(), [id]);
    }
    assert_eq!(v.load().eog(), [v.id("<|im_end|>"), v.id("<|endoftext|>")]);
}

#[test]
fn the_end_of_thoughts_is_not_that_of_the_answer() {
    for pair in [["<|return|>", "<|call|>"], ["<|flush|>", "<|calls|>"]] {
        let mut v = Vocabulary::bpe();
        let other = v.id("<|im_end|>") as usize;
        v.tokens[other] = "<|im_e|>".into();
        v.push("<|end|>", CONTROL);
        let end = v.id("<|end|>");
        v.push(pair[0], CONTROL);
        assert!(v.load().is_eog(end), "{}", pair[0]);
        v.push(pair[1], CONTROL);
        let t = v.load();
        assert_eq!(t.eog(), [v.id("<|endoftext|>"), v.id(pair[0]), v.id(pair[1])]);
        v.writer.set("tokenizer.ggml.eos_token_id", end);
        assert!(v.load().is_eog(end), "the file says so");
    }
}

#[test]
fn named_tokens_of_files_without_types_are_control() {
    let v = Vocabulary::bpe();
    let mut writer = GgufWriter::new();
    for (key, value) in v.file().metadata().iter().filter(|(key, _)| !key.ends_with("_type")) {
        writer.set(key, value.clone());
    }
    let t = Tokenizer::from_gguf(&Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap();
    let bos = v.id("<|bos|>");
    assert!(t.is_control(bos));
    assert!(!t.encode("<|bos|>", Special::Plain, false).unwrap().contains(&bos));
    assert_eq!(t.encode("<|bos|>", Special::Parse, false).unwrap(), [bos]);
}

#[test]
fn merges_into_control_tokens_are_not_made() {
    let mut v = Vocabulary::bpe();
    for merge in ["<| im", "<|im _", "<|im_ x", "<|im_x |>"] {
        v.merge(merge);
    }
    let id = v.id("<|im_x|>");
    v.types[id as usize] = CONTROL;
    let t = v.load();
    let ids = t.encode("<|im_x|>", Special::Plain, false).unwrap();
    assert!(!ids.contains(&id), "{ids:?}");
    assert_eq!(t.decode(&ids, Show::Text).unwrap(), "<|im_x|>");
}

#[test]
fn bos_stands_in_front_exactly_once() {
    for add_bos in [true, false] {
        let mut v = Vocabulary::bpe();
        v.writer.set("tokenizer.ggml.add_bos_token", Value::Bool(add_bos));
        let t = v.load();
        let bos = v.id("<|bos|>");
        let count = |segments: &[Segment]| {
            let ids = t.encode_segments(segments).unwrap();
            let n_bos = ids.iter().filter(|&&id| id == bos).count();
            assert!(n_bos == 0 || ids[0] == bos);
            n_bos
        };
        assert_eq!(count(&[trusted("<|bos|>"), untrusted("hello")]), 1);
        assert_eq!(count(&[trusted("<|bos|><|bos|>hello")]), 1);
        assert_eq!(count(&[untrusted("hello")]), usize::from(add_bos));
        assert_eq!(count(&[untrusted("<|bos|>hello")]), usize::from(add_bos));
        assert_eq!(count(&[]), usize::from(add_bos));
    }
}

#[test]
fn segments_do_not_change_how_text_is_cut() {
    for v in [Vocabulary::bpe(), Vocabulary::spm()] {
        let t = v.load();
        let text = "hello  hello whello <table> hell";
        let whole = t.encode_segments(&[untrusted(text)]).unwrap();
        for at in 1..text.len() {
            let (front, back) = text.split_at(at);
            for segments in [
                [untrusted(front), untrusted(back)],
                [trusted(front), untrusted(back)],
                [untrusted(front), trusted(back)],
            ] {
                assert_eq!(t.encode_segments(&segments).unwrap(), whole, "{segments:?}");
            }
        }
    }
}

#[test]
fn text_comes_out_in_whole_characters() {
    let v = Vocabulary::spm();
    let t = v.load();
    let mut d = Detokenizer::new(Show::Text);
    let mut push = |byte: u32| d.push(&t, 3 + byte).unwrap().to_owned();
    assert_eq!([0xe2, 0x82, 0xac].map(&mut push), ["", "", "€"]);
    // A character that never ends is known to be none when the next byte comes.
    assert_eq!([0xe2, 0x82, 0x41].map(&mut push), ["", "", "\u{fffd}A"]);
    assert_eq!(
        [0xff, 0xf4, 0x90, 0x80].map(&mut push),
        ["\u{fffd}", "", "\u{fffd}\u{fffd}", "\u{fffd}"]
    );
    assert_eq!(push(0xc3), "");
    assert_eq!(d.finish(), "\u{fffd}");
    assert_eq!(d.finish(), "");
    // The space before a text is dropped once, and kept where text goes on.
    let hello = v.id("▁hello");
    assert_eq!(d.push(&t, hello).unwrap(), "hello");
    assert_eq!(d.push(&t, hello).unwrap(), " hello");
    assert_eq!(Detokenizer::continuing(Show::Text).push(&t, hello).unwrap(), " hello");
    assert!(matches!(d.push(&t, 1 << 20), Err(TokenizerError::UnknownId { .. })));
}

proptest! {
    #[test]
    fn streams_are_the_whole_text(ids in prop::collection::vec(0u32..270, 0..60), all: bool) {
        let show = if all { Show::All } else { Show::Text };
        for t in [Vocabulary::bpe().load(), Vocabulary::spm().load()] {
            let mut d = Detokenizer::new(show);
            let mut text = String::new();
            for &id in &ids {
                text.push_str(d.push(&t, id).unwrap());
            }
            text.push_str(d.finish());
            prop_assert_eq!(text, t.decode(&ids, show).unwrap());
        }
    }

    #[test]
    fn any_bytes_can_be_encoded(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let t = Vocabulary::spm().load();
        let ids = t.encode_bytes(&bytes, Special::Parse, false).unwrap();
        // SentencePiece keeps every byte (and reads U+2581 as the space that it spells).
        if !bytes.windows(3).any(|w| w == "▁".as_bytes()) {
            prop_assert_eq!(t.decode_bytes(&ids, Show::All).unwrap(), bytes.clone());
        }
        let t = Vocabulary::bpe().load();
        let ids = t.encode_bytes(&bytes, Special::Plain, false).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        prop_assert_eq!(t.decode(&ids, Show::Text).unwrap(), text);
    }
}

#[test]
fn bytes_that_end_other_tokenizers() {
    for v in [Vocabulary::bpe(), Vocabulary::spm()] {
        let ids = v.load().encode_bytes(b"\xf4\x90\x80\x80", Special::Parse, true).unwrap();
        assert!(!ids.is_empty());
    }
}

#[test]
fn a_megabyte_of_anything_comes_back() {
    for v in [Vocabulary::bpe(), Vocabulary::spm()] {
        let t = v.load();
        for unit in ["l", " ", "7", "\u{301}", " \n", "<|im_", "<", "hello", "▁"] {
            let text = unit.repeat((1 << 20) / unit.len());
            let ids = t.encode(&text, Special::Parse, false).unwrap();
            let expected = text.replace('▁', if t.kind() == "llama" { " " } else { "▁" });
            assert_eq!(t.decode(&ids, Show::All).unwrap(), expected);
        }
    }
}

#[test]
fn an_unknown_pre_tokenizer_is_a_warning_that_names_it() {
    let mut v = Vocabulary::bpe();
    v.writer.set("tokenizer.ggml.pre", "brand-new");
    let t = v.load();
    assert_eq!(t.warnings().len(), 1);
    assert!(t.warnings()[0].contains("brand-new") && t.warnings()[0].contains("default"));
    assert!(Vocabulary::bpe().load().warnings().is_empty());
}

#[test]
fn files_without_a_vocabulary_say_so_when_asked() {
    for kind in [Some("none"), Some("no_vocab"), None] {
        let mut writer = GgufWriter::new();
        if let Some(kind) = kind {
            writer.set("tokenizer.ggml.model", kind);
        }
        let t = Tokenizer::from_gguf(&Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap();
        let error = t.encode("a", Special::Plain, true).unwrap_err();
        assert!(matches!(error, TokenizerError::NoVocabulary { .. }));
        assert!(error.to_string().contains(kind.unwrap_or("none")), "{error}");
        assert!(t.encode_segments(&[]).is_err() && t.decode(&[0], Show::Text).is_err());
        assert_eq!((t.n_tokens(), t.eog()), (0, [].as_slice()));
    }
    for kind in ["hybriddna", "other"] {
        let (error, text) = Vocabulary::new(kind).refusal();
        assert!(matches!(error, TokenizerError::UnsupportedKind { .. }));
        assert!(text.contains(kind) && text.contains("gpt2"), "{text}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    // Arrays of different lengths.
    let mut v = Vocabulary::spm();
    v.types.pop();
    let (error, text) = v.refusal();
    assert!(
        matches!(error, TokenizerError::Length { key: "tokenizer.ggml.token_type", .. }),
        "{text}"
    );
    let mut v = Vocabulary::spm();
    v.scores.push(0.0);
    let (error, text) = v.refusal();
    assert!(matches!(error, TokenizerError::Length { key: "tokenizer.ggml.scores", .. }), "{text}");
    let n_tokens = v.tokens.len();
    assert!(text.contains(&n_tokens.to_string()) && text.contains(&(n_tokens + 1).to_string()));
    // No tokens.
    let mut v = Vocabulary::spm();
    (v.tokens, v.types, v.scores) = (vec![], vec![], vec![]);
    assert!(matches!(v.refusal().0, TokenizerError::Length { key: "tokenizer.ggml.tokens", .. }));
    // Types and scores that are none.
    let mut v = Vocabulary::spm();
    v.types[5] = 7;
    assert!(matches!(v.refusal().0, TokenizerError::TokenType { index: 5, found: 7 }));
    let mut v = Vocabulary::spm();
    v.scores[9] = f32::NAN;
    assert!(matches!(v.refusal().0, TokenizerError::Score { index: 9 }));
}

#[test]
fn special_ids_outside_the_vocabulary_are_refused() {
    for key in ["bos", "eos", "eot", "eom", "unknown", "padding", "fim_pre", "mask"] {
        let mut v = Vocabulary::bpe();
        let key = format!("tokenizer.ggml.{key}_token_id");
        v.writer.set(&key, v.tokens.len() as u32);
        let (error, text) = v.refusal();
        assert!(matches!(error, TokenizerError::SpecialId { .. }), "{text}");
        assert!(text.contains(&key), "{text}");
        // -1, as files write it, says that there is none.
        v.writer.set(&key, u32::MAX);
        assert!(Tokenizer::from_gguf(&v.file()).is_ok());
        v.writer.set(&key, Value::I32(-1));
        assert!(Tokenizer::from_gguf(&v.file()).is_ok());
        v.writer.set(&key, "one");
        assert!(matches!(v.refusal().0, TokenizerError::File(_)));
    }
}

#[test]
fn merges_that_are_none_are_refused() {
    for (merge, unknown) in
        [("h zz", Some("hzz")), ("q u", Some("qu")), ("hello", None), ("h ", None)]
    {
        let mut v = Vocabulary::bpe();
        let index = v.merges.len();
        v.merges.push(merge.to_owned());
        let (error, text) = v.refusal();
        match unknown {
            Some(unknown) => assert!(
                matches!(error, TokenizerError::MergeToken { index: i, .. } if i == index)
                    && text.contains(unknown),
                "{text}"
            ),
            None => assert!(
                matches!(error, TokenizerError::MergeShape { index: i, .. } if i == index),
                "{text}"
            ),
        }
        assert!(text.contains(merge), "{text}");
    }
}

/// One small vocabulary of each kind that has no merges, beside SentencePiece.
fn kind(model: &str) -> Vocabulary {
    let mut v = Vocabulary::new(model);
    v.push("<unk>", UNKNOWN);
    v.push("<s>", CONTROL);
    v.push("</s>", CONTROL);
    (0..=255u8).for_each(|b| v.push(&format!("<0x{b:02X}>"), BYTE));
    for word in ["▁", "a", "b", "ab", "▁ab", "<", "s", ">", "1"] {
        v.push(word, NORMAL);
    }
    v.push("<table>", USER_DEFINED);
    v.push("<think>", USER_DEFINED);
    v.push("<|im_end|>", CONTROL);
    for (name, id) in [("bos", 1u32), ("eos", 2), ("unknown", 0)] {
        v.writer.set(&format!("tokenizer.ggml.{name}_token_id"), id);
    }
    v
}

#[test]
fn no_kind_makes_control_tokens_of_text_that_is_not_trusted() {
    for model in ["llama", "bert", "t5", "rwkv", "plamo2"] {
        let v = kind(model);
        let t = v.load();
        let n_bos = usize::from(t.adds().bos);
        for text in ["<s>", "a<|im_end|>b", "</s><s>", "<think>a", "<unk>"] {
            let ids = t.encode_segments(&[trusted("<|im_end|>"), untrusted(text)]).unwrap();
            // The unknown token stands for what the vocabulary cannot spell: it steers nothing.
            let controls = ids.iter().filter(|&&id| id != 0 && t.is_control(id)).count();
            assert_eq!(controls, 1 + n_bos, "{model}: {text} {ids:?}");
            let spelled = t.encode_segments(&[trusted("<|im_end|>"), trusted(text)]).unwrap();
            assert_ne!(spelled, ids, "{model}: {text}");
        }
    }
}

#[test]
fn vocabularies_of_other_kinds_that_do_not_fit_are_refused() {
    for model in ["t5", "plamo2"] {
        let mut v = kind(model);
        v.scores.pop();
        assert!(matches!(
            v.refusal().0,
            TokenizerError::Length { key: "tokenizer.ggml.scores", .. }
        ));
    }
    let mut v = kind("t5");
    v.scores[4] = f32::NAN;
    assert!(matches!(v.refusal().0, TokenizerError::Score { index: 4 }));
    let mut v = kind("t5");
    v.writer
        .set("tokenizer.ggml.precompiled_charsmap", Value::Array(formats::Array::U8(vec![9; 5])));
    let (error, text) = v.refusal();
    assert!(
        matches!(error, TokenizerError::CharsMap { .. }) && text.contains("charsmap"),
        "{text}"
    );
    let mut v = kind("plamo2");
    v.types[3] = NORMAL;
    let (error, text) = v.refusal();
    assert!(matches!(error, TokenizerError::ByteToken { byte: 0 }) && text.contains("<0x00>"));
    for model in ["bert", "t5", "rwkv", "plamo2"] {
        let mut v = kind(model);
        v.push(&"a".repeat(5000), NORMAL);
        let (error, text) = v.refusal();
        assert!(matches!(error, TokenizerError::TokenLength { found: 5000, .. }), "{text}");
    }
}

#[test]
fn spaces_are_added_and_trimmed_as_the_file_says() {
    for (prefix, trims, text, expected) in [
        (true, true, "  ab  ab ", " ab ab"),
        (true, false, " ab ", "  ab "),
        (false, false, " ab  ", " ab  "),
        (false, true, " ab  a ", "ab a"),
        (true, true, "   ", ""),
    ] {
        let mut v = kind("t5");
        v.writer.set("tokenizer.ggml.add_space_prefix", Value::Bool(prefix));
        v.writer.set("tokenizer.ggml.remove_extra_whitespaces", Value::Bool(trims));
        let t = v.load();
        let ids = t.encode(text, Special::Plain, false).unwrap();
        let spelled: Vec<u8> =
            ids.iter().flat_map(|&id| t.token_bytes(id).unwrap()).copied().collect();
        assert_eq!(String::from_utf8(spelled).unwrap(), expected);
        // Text that no token spells is its bytes.
        let ids = t.encode("é", Special::Plain, false).unwrap();
        assert_eq!(ids[ids.len() - 2..], [3 + 0xc3, 3 + 0xa9]);
    }
}

#[test]
fn letters_are_lowered_and_accents_kept_as_the_file_says() {
    for (lowers, strips, expected) in
        [(None, None, "ab"), (Some(false), None, "<unk>"), (Some(true), Some(false), "<unk>")]
    {
        let mut v = kind("bert");
        let flags = [("lowercase", lowers), ("strip_accents", strips)];
        for (name, flag) in flags.iter().filter_map(|(name, flag)| Some((name, (*flag)?))) {
            v.writer.set(&format!("tokenizer.ggml.normalizer.{name}"), Value::Bool(flag));
        }
        let t = v.load();
        let ids = t.encode("ÁB", Special::Plain, false).unwrap();
        assert_eq!(t.decode(&ids, Show::All).unwrap().trim(), expected);
    }
}

#[test]
fn white_space_vocabularies_drop_spaces_and_know_characters() {
    let mut v = Vocabulary::new("whitespace");
    for token in ["<unk>", "中", "文", "a"] {
        v.push(token, if token == "<unk>" { UNKNOWN } else { NORMAL });
    }
    v.merge("中 文");
    v.writer.set("tokenizer.ggml.unknown_token_id", 0u32);
    v.writer.set("tokenizer.ggml.normalizer.lowercase", Value::Bool(true));
    let t = v.load();
    let ids = t.encode(" 中文 A\n文é", Special::Plain, false).unwrap();
    assert_eq!(ids, [v.id("中文"), v.id("a"), v.id("文"), 0]);
}

#[test]
fn missing_arrays_are_named() {
    let mut writer = GgufWriter::new();
    writer.set("tokenizer.ggml.model", "llama");
    let refusal = |writer: &GgufWriter| {
        Tokenizer::from_gguf(&Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap_err().to_string()
    };
    assert!(refusal(&writer).starts_with("tokenizer.ggml.tokens is missing"));
    writer.set("tokenizer.ggml.tokens", Strings::from_iter(["<unk>"]));
    assert!(refusal(&writer).starts_with("tokenizer.ggml.scores is missing"));
    writer.set("tokenizer.ggml.model", "gpt2");
    assert!(refusal(&writer).starts_with("tokenizer.ggml.merges is missing"));
    writer.set("tokenizer.ggml.tokens", 3u32);
    assert!(refusal(&writer).contains("tokenizer.ggml.tokens"));
}
