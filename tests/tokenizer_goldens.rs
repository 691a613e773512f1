//! Tokenizers against the goldens: every case of every vocabulary of the supported kinds, both
//! ways, and every pre-tokenizer pattern.
//!
//! The full sets are looked for in `PUMICE_GOLDENS` (a folder) and the vocabularies of real models
//! in `PUMICE_TEST_MODELS`; what is absent is skipped, with a line that says so. A small copy in
//! tests/data is always run.

use std::io::Read;
use std::path::{Path, PathBuf};

use formats::{Access, Gguf, GgufWriter, Strings, Value};
use pumice::text::tokenizer::{Detokenizer, Show, Special, TokenType, Tokenizer, tidy_spaces};
use serde_json::Value as Json;

/// Kinds that are supported.
const KINDS: [&str; 7] = ["gpt2", "llama", "gemma4", "bert", "t5", "rwkv", "plamo2"];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer")
}

fn folder(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|f| f.is_dir());
    if folder.is_none() {
        println!("skipped: {variable} names no folder");
    }
    folder
}

fn read_json(path: &Path) -> Json {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

fn gunzip(path: &Path) -> Gguf {
    let mut bytes = vec![];
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    Gguf::from_bytes(bytes).unwrap()
}

/// A copy of `file`'s metadata with the values of `set` in place of its own.
fn with_values(file: &Gguf, set: &Json) -> Gguf {
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.set(key, value.clone());
    }
    for (key, value) in set.as_object().unwrap() {
        writer.set(key, Value::String(value.as_str().unwrap().to_owned()));
    }
    Gguf::from_bytes(writer.to_bytes()).unwrap()
}

fn bytes_of(case: &Json, name: &str) -> Option<Vec<u8>> {
    if let Some(text) = case[name].as_str() {
        return Some(text.as_bytes().to_vec());
    }
    let hex = case[format!("{name}_hex")].as_str()?;
    Some(
        (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect(),
    )
}

fn ids_of(case: &Json, name: &str) -> Option<Vec<u32>> {
    let ids = case[name].as_array()?;
    Some(ids.iter().map(|id| id.as_u64().unwrap() as u32).collect())
}

/// Compares and remembers what differs, so that one run shows everything.
#[derive(Default)]
struct Report {
    checked: usize,
    failures: Vec<String>,
}

impl Report {
    fn check(&mut self, ok: bool, what: impl FnOnce() -> String) {
        self.checked += 1;
        if !ok {
            self.failures.push(what());
        }
    }

    fn finish(self, name: &str, least: usize) {
        println!("{name}: {} checks, {} failures", self.checked, self.failures.len());
        for failure in self.failures.iter().take(40) {
            println!("  {failure}");
        }
        assert!(self.failures.is_empty(), "{name}: {} failures", self.failures.len());
        assert!(self.checked >= least, "{name}: only {} checks", self.checked);
    }
}

/// Text that the detokenizer gives when it gets one id at a time.
fn streamed(tokenizer: &Tokenizer, ids: &[u32], show: Show) -> String {
    let mut detokenizer = Detokenizer::new(show);
    let mut text = String::new();
    for &id in ids {
        text.push_str(detokenizer.push(tokenizer, id).unwrap());
    }
    text + detokenizer.finish()
}

/// All that the goldens say about one vocabulary.
fn check_vocabulary(golden: &Json, tokenizer: &Tokenizer, report: &mut Report) {
    check_facts(golden, tokenizer, report);
    let wrap = |name| ids_of(&golden["wrap"], name).unwrap();
    let (prefix, suffix) = (wrap("prefix"), wrap("suffix"));
    for case in golden["cases"].as_array().unwrap() {
        let text = bytes_of(case, "text").unwrap();
        let shown = String::from_utf8_lossy(&text).into_owned();
        let plain = tokenizer.encode_bytes(&text, Special::Plain, false).unwrap();
        let special = tokenizer.encode_bytes(&text, Special::Parse, true).unwrap();
        if case["must_not_crash"] == true || case["invalid_utf8"] == true {
            // Only required not to fail; the ids must still be a vocabulary's.
            report.check(tokenizer.decode(&special, Show::All).is_ok(), || shown);
            continue;
        }
        let ids = ids_of(case, "ids").unwrap();
        let accepted = [Some(ids.clone()), ids_of(case, "alt_ids")];
        report.check(accepted.contains(&Some(plain.clone())), || {
            format!("ids of {shown:?}: {plain:?}, expected {ids:?}")
        });
        let wrapped = [prefix.clone(), ids.clone(), suffix.clone()].concat();
        let ids_special = ids_of(case, "ids_special").unwrap_or(wrapped);
        let alt = ids_of(case, "alt_ids").map(|ids| [prefix.clone(), ids, suffix.clone()].concat());
        let alt = ids_of(case, "alt_ids_special").or(alt);
        let accepted = [Some(ids_special.clone()), alt];
        report.check(accepted.contains(&Some(special.clone())), || {
            format!("special ids of {shown:?}: {special:?}, expected {ids_special:?}")
        });
        check_text(case, tokenizer, (&prefix, &suffix), &ids, &ids_special, report);
    }
}

/// Ids back to text. Where the published decoder tidies spaces, our text is its `pieces`, and is
/// tidied here to compare with its `detok` too.
fn check_text(
    case: &Json,
    tokenizer: &Tokenizer,
    (prefix, suffix): (&[u32], &[u32]),
    ids: &[u32],
    ids_special: &[u32],
    report: &mut Report,
) {
    let text = bytes_of(case, "text").unwrap();
    let pieces = bytes_of(case, "pieces");
    let detok = bytes_of(case, "detok").unwrap_or(text);
    let mut ours = tokenizer.decode_bytes(ids, Show::Text).unwrap();
    let lossy = String::from_utf8_lossy(&ours).into_owned();
    report.check(streamed(tokenizer, ids, Show::Text) == lossy, || format!("stream of {ids:?}"));
    let bare: Vec<u8> =
        ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).copied().collect();
    let expected_bare = pieces.as_ref().unwrap_or(&detok);
    report
        .check(&bare == expected_bare, || format!("pieces of {ids:?}: {bare:?} {expected_bare:?}"));
    if tokenizer.publishes_tidy_text() && pieces.is_some() {
        let is_shown = |id: &u32| {
            let ty = tokenizer.token_type(*id).unwrap();
            !matches!(ty, TokenType::Control | TokenType::Unknown)
        };
        let shown = ids.iter().filter(|id| is_shown(id));
        let shown: Vec<u8> =
            shown.flat_map(|&id| tokenizer.token_bytes(id).unwrap()).copied().collect();
        report.check(ours == shown, || format!("spaces of {ids:?} changed"));
        ours = tidy_spaces(&lossy).into_bytes();
    }
    report.check(ours == detok, || {
        format!("text of {ids:?}: {lossy:?}, expected {:?}", String::from_utf8_lossy(&detok))
    });

    let shown = tokenizer.decode_bytes(ids_special, Show::All).unwrap();
    let pieces_of = |ids: &[u32]| -> Vec<u8> {
        ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).copied().collect()
    };
    let expected = bytes_of(case, "detok_special")
        .unwrap_or_else(|| [pieces_of(prefix), detok.clone(), pieces_of(suffix)].concat());
    let tidy = match tokenizer.publishes_tidy_text() {
        true => tidy_spaces(&String::from_utf8_lossy(&shown)).into_bytes(),
        false => shown.clone(),
    };
    report.check(shown == expected || tidy == expected, || {
        let [shown, expected] =
            [&shown, &expected].map(|b| String::from_utf8_lossy(b).into_owned());
        format!("special text of {ids_special:?}: {shown:?}, expected {expected:?}")
    });
}

fn check_facts(golden: &Json, tokenizer: &Tokenizer, report: &mut Report) {
    let facts = &golden["facts"];
    let special = tokenizer.special();
    report.check(facts["n_tokens"] == tokenizer.n_tokens(), || "n_tokens".to_owned());
    for (name, ours) in [
        ("bos", special.bos),
        ("eos", special.eos),
        ("eot", special.eot),
        ("sep", special.sep),
        ("nl", special.nl),
        ("pad", special.pad),
        ("mask", special.mask),
        ("fim_pre", special.fim_pre),
        ("fim_suf", special.fim_suf),
        ("fim_mid", special.fim_mid),
        ("fim_pad", special.fim_pad),
        ("fim_rep", special.fim_rep),
        ("fim_sep", special.fim_sep),
    ] {
        let expected = facts[name].as_i64().unwrap();
        // The goldens name what a line break is encoded to, even where that is none (or unknown).
        let is_break = |id: i64| tokenizer.token_bytes(id as u32) == Some(b"\n");
        let is_none = name == "nl" && ours.is_none() && !is_break(expected);
        let ours = ours.map_or(-1, i64::from);
        report
            .check(ours == expected || is_none, || format!("{name}: {ours}, expected {expected}"));
    }
    let adds = tokenizer.adds();
    for (name, ours) in [("add_bos", adds.bos), ("add_eos", adds.eos), ("add_sep", adds.sep)] {
        report.check(facts[name] == ours, || format!("{name}: {ours}"));
    }
    let all = ids_of(facts, "eog").unwrap();
    let by_text = ids_of(facts, "eog_by_text").unwrap();
    let ours = tokenizer.eog();
    let complete = all.iter().all(|id| ours.contains(id) || by_text.contains(id));
    let exact = ours.iter().all(|id| all.contains(id));
    report.check(complete && exact, || {
        format!("eog: {ours:?}, expected {all:?} or less {by_text:?}")
    });
}

/// The goldens' file of cases and, in the same folder, its vocabulary.
fn check_file(path: &Path, models: Option<&Path>) {
    let golden = read_json(path);
    let name = golden["name"].as_str().unwrap().to_owned();
    if !KINDS.contains(&golden["tokenizer_model"].as_str().unwrap()) {
        return;
    }
    let vocab = golden["vocab"].as_str().unwrap();
    let file = if golden["vocab_in_model"] == true {
        let path = models.map(|m| m.join(vocab)).filter(|p| p.is_file());
        let Some(path) = path else {
            println!("skipped: {name}, as {vocab} is not in PUMICE_TEST_MODELS");
            return;
        };
        Gguf::open(&path, Access::Mmap).unwrap()
    } else {
        gunzip(&path.with_file_name(vocab))
    };
    let file = if golden["set"].is_object() { with_values(&file, &golden["set"]) } else { file };
    let tokenizer = Tokenizer::from_gguf(&file).unwrap();
    assert_eq!(tokenizer.warnings(), [""; 0], "{name}");
    let mut report = Report::default();
    check_vocabulary(&golden, &tokenizer, &mut report);
    report.finish(&name, 500);
}

#[test]
fn the_small_vocabularies() {
    for name in ["llama-spm", "tiny-bert", "tiny-t5", "tiny-rwkv", "tiny-plamo2"] {
        check_file(&data().join(format!("{name}.json")), None);
    }
}

#[test]
fn every_pre_tokenizer_on_the_small_set() {
    let mut report = Report::default();
    for (pattern, cases) in read_json(&data().join("splits.json")).as_object().unwrap() {
        let mut writer = GgufWriter::new();
        writer.set("tokenizer.ggml.model", "gpt2");
        writer.set("tokenizer.ggml.pre", cases["pre"].as_str().unwrap());
        writer.set("tokenizer.ggml.tokens", Strings::from_iter(["a"]));
        writer.set("tokenizer.ggml.merges", Strings::from_iter([""; 0]));
        let file = Gguf::from_bytes(writer.to_bytes()).unwrap();
        let tokenizer = Tokenizer::from_gguf(&file).unwrap();
        for splits in cases["splits"].as_array().unwrap() {
            let splits: Vec<_> =
                splits.as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
            let text = splits.concat();
            let ours = tokenizer.pieces(&text);
            report.check(ours == splits, || format!("{pattern}: {ours:?}, expected {splits:?}"));
        }
    }
    report.finish("pieces", 1500);
}

#[test]
fn every_vocabulary_of_the_goldens() {
    let (Some(goldens), models) = (folder("PUMICE_GOLDENS"), folder("PUMICE_TEST_MODELS")) else {
        return;
    };
    let mut paths: Vec<_> = std::fs::read_dir(goldens.join("tokenizers"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .filter(|path| !path.ends_with("pretokenizers.json"))
        .collect();
    paths.sort();
    assert!(paths.len() > 10);
    let failed: Vec<_> = paths
        .iter()
        .filter(|path| std::panic::catch_unwind(|| check_file(path, models.as_deref())).is_err())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_pre_tokenizer_of_the_goldens() {
    let Some(goldens) = folder("PUMICE_GOLDENS") else {
        return;
    };
    let folder = goldens.join("tokenizers");
    let vocabulary = gunzip(&folder.join("gpt-2.gguf.gz"));
    let mut report = Report::default();
    let mut n_files = 0;
    for entry in std::fs::read_dir(folder.join("pretok")).unwrap() {
        let golden = read_json(&entry.unwrap().path());
        let name = golden["pattern"].as_str().unwrap();
        let tokenizer = Tokenizer::from_gguf(&with_values(&vocabulary, &golden["set"])).unwrap();
        assert_eq!(tokenizer.warnings(), [""; 0], "{name}");
        n_files += 1;
        for case in golden["cases"].as_array().unwrap() {
            let splits = case["splits"].as_array().unwrap();
            let splits: Vec<_> = splits.iter().map(|s| s.as_str().unwrap()).collect();
            let text = case["text"].as_str().map_or(splits.concat(), str::to_owned);
            let ours = tokenizer.pieces(&text);
            report.check(ours == splits, || format!("{name}: {ours:?}, expected {splits:?}"));
            let ids = tokenizer.encode(&text, Special::Plain, false).unwrap();
            report.check(Some(&ids) == ids_of(case, "ids").as_ref(), || {
                format!("{name}: {text:?} {ids:?}, expected {}", case["ids"])
            });
        }
    }
    assert!(n_files >= 29);
    report.finish("pre-tokenizers", 9000);
}
