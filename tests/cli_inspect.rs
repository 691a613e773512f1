//! `pumice inspect`, as a program.

mod common;

use pumice::formats::{self, gguf::GgufWriter};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn inspect(file: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pumice"));
    command.arg("inspect").arg(file).args(flags).env_remove("PUMICE_ISA");
    command.output().unwrap()
}

fn json(file: &Path, flags: &[&str]) -> Value {
    let out = inspect(file, &[&["--json"], flags].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn text(file: &Path) -> String {
    let out = inspect(file, &[]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A file of these bytes in a folder that lives as long as the first of the pair.
fn file(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn sums_agree_with_the_file_for_every_small_model() {
    let mut n = 0;
    for entry in std::fs::read_dir(common::data().join("archs")).unwrap() {
        let path = entry.unwrap().path().join("model.gguf");
        let d = json(&path, &[]);
        let name = path.display();
        let sum = |list: &str, field: &str| -> u64 {
            d[list].as_array().unwrap().iter().map(|t| t[field].as_u64().unwrap()).sum()
        };
        assert_eq!(d["problems"], serde_json::json!([]), "{name}");
        assert_eq!(sum("tensors", "n_bytes"), d["tensor_bytes"].as_u64().unwrap(), "{name}");
        assert_eq!(sum("types", "n_bytes"), d["tensor_bytes"].as_u64().unwrap(), "{name}");
        assert_eq!(sum("types", "n_elements"), d["n_parameters"].as_u64().unwrap(), "{name}");
        let count = d["tensors"].as_array().unwrap().len() as u64;
        assert_eq!(sum("types", "n_tensors"), count, "{name}");
        let bits = sum("types", "n_bytes") as f64 * 8.0 / sum("types", "n_elements") as f64;
        assert_eq!(d["bits_per_weight"].as_f64(), Some(bits), "{name}");
        assert_eq!(d["metadata"]["general.architecture"]["value"], d["architecture"], "{name}");
        assert!(d["spec"].as_str().unwrap().starts_with("x = "), "{name}");
        assert!(sum("kernels", "n_matrices") > 0, "{name}");
        let report = text(&path);
        for part in ["bits per weight", "metadata, ", "tensors, ", "types", "memory at", "kernels"]
        {
            assert!(report.contains(part), "{name}: no {part:?} in\n{report}");
        }
        n += 1;
    }
    assert!(n > 5);
}

#[test]
fn memory_follows_the_context_and_the_cache_types() {
    let path = common::data().join("archs/llama-rope3/model.gguf");
    let state = |flags: &[&str]| json(&path, flags)["context"]["state_bytes"].as_u64().unwrap();
    let (small, large) = (state(&["-c", "512"]), state(&["-c", "1024"]));
    assert!(large > small, "{small} {large}");
    assert!(state(&["-c", "512", "-ctk", "f32", "-ctv", "f32"]) > small);
    // Far more than any machine has: figures, not a refusal.
    let d = json(&path, &["-c", "4000000000"]);
    assert!(d["context"]["total_bytes"].as_u64() > d["context"]["limit_bytes"].as_u64());
}

#[test]
fn a_forced_instruction_set_shows_in_the_kernels() {
    let d = json(&common::data().join("archs/llama-rope3/model.gguf"), &["--isa", "scalar"]);
    assert_eq!(d["context"]["isa"], "scalar");
    for k in d["kernels"].as_array().unwrap() {
        assert!(k["kernel"].as_str().unwrap().contains("scalar"), "{k}");
    }
}

#[test]
fn files_that_cannot_run_are_shown_as_far_as_they_go() {
    let bytes = GgufWriter::new().set("general.architecture", "no-such").to_bytes();
    let (_folder, path) = file(&bytes);
    let d = json(&path, &[]);
    assert_eq!(d["architecture"], "no-such");
    assert!(d["spec"].is_null() && d["context"].is_null() && d["tokenizer"].is_null());
    assert!(d["problems"].to_string().contains("no tensors"), "{}", d["problems"]);

    let data = vec![0; 16];
    let ty = formats::TensorType::F32;
    let bytes = GgufWriter::new()
        .set("general.architecture", "no-such")
        .set("hostile", "\x1b[2J")
        .tensor("a", ty, &[4], data.clone())
        .to_bytes();
    let (_folder, path) = file(&bytes);
    assert!(json(&path, &[])["problems"].to_string().contains("no-such"));
    let report = text(&path);
    assert!(report.contains("unknown model architecture") && !report.contains('\x1b'), "{report}");

    let bytes = GgufWriter::new()
        .endian(formats::Endian::Big)
        .set("general.architecture", "llama")
        .set("numbers", vec![1u16; 100])
        .tensor("a", ty, &[2, 2], data)
        .to_bytes();
    let (_folder, path) = file(&bytes);
    let d = json(&path, &[]);
    assert_eq!(d["endian"], "big");
    assert_eq!(d["tensors"][0]["shape"], serde_json::json!([2, 2]));
    let numbers = &d["metadata"]["numbers"];
    assert_eq!((&numbers["len"], &numbers["of"]), (&100.into(), &"u16".into()));
    assert_eq!(numbers["first"].as_array().unwrap().len(), 16);
}

#[test]
fn what_is_no_model_file_is_an_error_with_its_name() {
    let (_folder, path) = file(b"hello, this is no model");
    let out = inspect(&path, &["--json"]);
    let message = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0));
    assert!(message.starts_with("error: ") && message.contains("a.gguf"), "{message}");
}

#[test]
fn a_real_model_is_described() {
    let Some(path) = common::real_model(common::SMOLLM2) else { return };
    let d = json(&path, &["-c", "2048"]);
    assert_eq!(d["architecture"], "llama");
    assert_eq!(d["n_parameters"], 134_515_008);
    assert_eq!(d["tokenizer"]["n_tokens"], 49_152);
    assert_eq!(d["context"]["n_ctx"], 2048);
    // 30 layers, 3 heads of 64, keys and values of two bytes each.
    assert!(d["context"]["state_bytes"].as_u64().unwrap() >= 2048 * 30 * 3 * 64 * 2 * 2);
}
