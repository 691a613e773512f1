//! Models whose metadata or tensors were tampered with: an error with the place, never a panic, and
//! nothing huge is allocated on a number's word.

#[path = "../../tests/common/mod.rs"]
mod common;

use formats::{Access, Gguf, GgufWriter, Value};
use models::{Cancel, Context, ContextOptions, Error, Model, Row};
use pumice_models as models;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The golden models under `folder` whose architecture is known.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path().join("model.gguf"));
    let known = |path: &PathBuf| {
        let Ok(gguf) = Gguf::open(path, Access::Mmap) else { return false };
        models::arch::find(&gguf).is_ok()
    };
    let mut files: Vec<PathBuf> = entries.filter(|p| p.is_file()).filter(known).collect();
    files.sort();
    assert!(!files.is_empty(), "no models in {}", folder.display());
    files
}

/// The same file with one key or tensor changed.
fn changed(
    gguf: &Gguf,
    key: impl Fn(&str, &Value) -> Option<Value>,
    tensor: impl Fn(&str, &[u64]) -> Option<Vec<u64>>,
) -> Arc<Gguf> {
    let mut writer = GgufWriter::new();
    for (name, value) in gguf.metadata().iter() {
        key(name, value).into_iter().for_each(|v| {
            writer.set(name, v);
        });
    }
    for t in gguf.tensors() {
        if let Some(dims) = tensor(&t.name, &t.dims) {
            writer.tensor(&t.name, t.ty, &dims, gguf.data(t).unwrap().to_vec());
        }
    }
    Arc::new(Gguf::from_bytes(writer.build().unwrap()).unwrap())
}

/// A tensor that no architecture has.
const SURPLUS: &str = "blk.0.surplus.weight";

/// The same file with that tensor.
fn with_surplus(gguf: &Gguf) -> Arc<Gguf> {
    let mut writer = GgufWriter::new();
    for (name, value) in gguf.metadata().iter() {
        writer.set(name, value.clone());
    }
    for t in gguf.tensors() {
        writer.tensor(&t.name, t.ty, &t.dims, gguf.data(t).unwrap().to_vec());
    }
    writer.tensor(SURPLUS, formats::TensorType::F32, &[1], vec![0; 4]);
    Arc::new(Gguf::from_bytes(writer.build().unwrap()).unwrap())
}

/// Loads a model and runs three tokens.
fn run(gguf: Arc<Gguf>) -> Result<(), Error> {
    let model = Arc::new(Model::new(gguf)?);
    let options = ContextOptions {
        n_ctx: Some(8),
        n_threads: Some(1),
        isa: quant::Isa::Scalar,
        ..ContextOptions::default()
    };
    let mut context = Context::new(model, &options)?;
    let rows: Vec<Row> =
        (0..3).map(|pos| Row { token: 3 + pos as u32, seq: 0, pos, logits: pos == 2 }).collect();
    let outcome = context.step(&rows, &Cancel::new(), &mut |_, _| ());
    // A worker's panic arrives as an error, and is a panic all the same.
    assert!(!matches!(outcome, Err(Error::Worker(_))), "{outcome:?}");
    outcome
}

/// Values that a key of this type could hold instead.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::U32(_) | Value::I32(_) | Value::U64(_) => {
            [0u32, 1, 3, 7, 1 << 12, 1 << 24, u32::MAX].map(Value::U32).to_vec()
        }
        Value::F32(_) => [0.0, -1.0, 1e-30, 1e30, f32::NAN, f32::INFINITY].map(Value::F32).to_vec(),
        Value::Bool(b) => vec![Value::Bool(!b)],
        Value::Array(_) => vec![Value::U32(0), Value::U32(1), Value::U32(1 << 24)],
        _ => vec![Value::String("nonsense".into())],
    }
}

fn survives(folder: &Path) {
    for path in files(folder) {
        let gguf = Gguf::open(&path, Access::Mmap).unwrap();
        let keep = |_: &str, dims: &[u64]| Some(dims.to_vec());
        let same = |_: &str, v: &Value| Some(v.clone());
        // What does not run untouched is not a decoder, or is another test's finding.
        if run(changed(&gguf, same, keep)).is_err() {
            continue;
        }
        let arch = gguf.metadata().str("general.architecture").unwrap().unwrap();
        let prefix = format!("{arch}.");
        for (key, value) in gguf.metadata().iter().filter(|(k, _)| k.starts_with(&prefix)) {
            // What an error must not do is to stop being one: a panic ends the test here.
            for other in others(value) {
                let change = |k: &str, v: &Value| Some(if k == key { &other } else { v }.clone());
                let _ = run(changed(&gguf, change, keep));
            }
            let drop = |k: &str, v: &Value| (k != key).then(|| v.clone());
            let _ = run(changed(&gguf, drop, keep));
        }
        // One tensor too many would be maths left out.
        let surplus = with_surplus(&gguf);
        let message = run(surplus).expect_err("a surplus tensor").to_string();
        assert!(message.contains(SURPLUS), "{}: {message}", path.display());
        for t in gguf.tensors() {
            let without = |name: &str, dims: &[u64]| (name != t.name).then(|| dims.to_vec());
            if let Err(e) = run(changed(&gguf, same, without)) {
                let message = e.to_string();
                // A tensor may say that others are needed: then one of its block is named.
                let parts = if t.name.starts_with("blk.") { 2 } else { 1 };
                let block = t.name.split_inclusive('.').take(parts).collect::<String>();
                assert!(
                    message.contains(&block),
                    "{}: without {}: {message}",
                    path.display(),
                    t.name
                );
            }
            let flat = |name: &str, dims: &[u64]| {
                let all = vec![dims.iter().product()];
                Some(if name == t.name { all } else { dims.to_vec() })
            };
            if let Err(e) = run(changed(&gguf, same, flat)) {
                let message = e.to_string();
                assert!(
                    message.contains(&t.name),
                    "{}: flat {}: {message}",
                    path.display(),
                    t.name
                );
            }
        }
    }
}

#[test]
fn tampered_models_are_errors_or_run() {
    survives(&common::data().join("archs"));
}

#[test]
fn all_tampered_goldens_are_errors_or_run() {
    if let Some(folder) = common::goldens("archs") {
        survives(&folder);
    }
}

/// Sets `key` of a small copy and expects the error to name it.
#[track_caller]
fn names_the_key(case: &str, key: &str, value: u32) {
    let path = common::data().join("archs").join(case).join("model.gguf");
    let gguf = Gguf::open(&path, Access::Mmap).unwrap();
    let change = |k: &str, v: &Value| Some(if k == key { Value::U32(value) } else { v.clone() });
    let e = run(changed(&gguf, change, |_, dims| Some(dims.to_vec()))).unwrap_err();
    assert!(e.to_string().contains(key), "{key} = {value}: {e}");
}

#[test]
fn sizes_of_recurrent_bodies_are_checked_by_name() {
    for word in ["conv_kernel", "state_size", "group_count", "inner_size", "time_step_rank"] {
        for case in ["nemotron_h", "qwen35"] {
            names_the_key(case, &format!("{case}.ssm.{word}"), 0);
            names_the_key(case, &format!("{case}.ssm.{word}"), u32::MAX);
        }
    }
    names_the_key("nemotron_h", "nemotron_h.ssm.conv_kernel", 65);
    names_the_key("nemotron_h", "nemotron_h.ssm.group_count", 3);
    names_the_key("qwen35", "qwen35.ssm.time_step_rank", 7);
    names_the_key("rwkv6", "rwkv6.wkv.head_size", 0);
    names_the_key("rwkv6", "rwkv6.wkv.head_size", 5);
    names_the_key("rwkv6", "rwkv6.time_mix_extra_dim", 0);
    names_the_key("lfm2", "lfm2.shortconv.l_cache", 1);
    names_the_key("youtu", "deepseek2.attention.kv_lora_rank", 0);
    names_the_key("youtu", "deepseek2.attention.q_lora_rank", 1 << 25);
    names_the_key("youtu", "deepseek2.rope.dimension_count", 24);
}
