//! `pumice convert`: checkpoints become models that agree with their published values.

mod common;

use pumice::convert::convert;
use pumice::{EmbedOptions, Embedder, Model, TextTokens, formats::Gguf, text_tokens};
use std::path::Path;

/// all-MiniLM-L6-v2, as its package carries it.
const MINILM: &str = "all-MiniLM-L6-v2";

#[test]
fn minilm_agrees_with_its_golden_vectors() {
    let (Some(goldens), Some(models)) = (common::goldens("models"), common::models_folder()) else {
        return;
    };
    if !models.join(MINILM).is_dir() {
        eprintln!("skipped: {} has no {MINILM}", models.display());
        return;
    }
    let golden = std::fs::read(goldens.join("minilm-embeddings.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_slice(&golden).unwrap();
    let texts: Vec<String> = serde_json::from_value(golden["sentences"].clone()).unwrap();
    let ids: Vec<Vec<u32>> = serde_json::from_value(golden["token_ids"].clone()).unwrap();
    let vectors: Vec<Vec<f32>> = serde_json::from_value(golden["embeddings"].clone()).unwrap();
    let converted = convert(&models.join(MINILM)).unwrap();
    assert_eq!(
        converted.dropped,
        ["embeddings.position_ids", "pooler.dense.bias", "pooler.dense.weight"]
    );
    let model = Model::from_gguf(Gguf::from_bytes(converted.bytes).unwrap()).unwrap();
    let most = golden["max_tokens"].as_u64().unwrap() as usize;
    for (text, ids) in texts.iter().zip(&ids) {
        let mut found = text_tokens(&model, text).unwrap().ids;
        if found.len() > most {
            found.drain(most - 1..found.len() - 1);
        }
        assert_eq!(&found, ids, "{text:?}");
    }
    let options = EmbedOptions { truncate: Some(most), ..EmbedOptions::default() };
    let mut embedder = Embedder::new(&model, &options).unwrap();
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = embedder.embed(&all).unwrap();
    let tokens = |ids: &Vec<u32>| embedder.embed_tokens(vec![TextTokens::from(ids.clone())]);
    let alone: Vec<Vec<f32>> = ids.iter().map(tokens).map(|v| v.unwrap().remove(0)).collect();
    for (how, found) in [("together", together), ("alone", alone)] {
        let pairs = found.iter().flatten().zip(vectors.iter().flatten());
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{MINILM}: {} texts {how}, largest error of a component {worst:.1e}", texts.len());
        assert!(worst <= 5e-6, "{how}: {worst:e}");
    }
}

/// A checkpoint of one layer and 4 values a row; `change` edits its files.
fn checkpoint(folder: &Path, scores: bool, change: impl Fn(&mut serde_json::Value)) {
    let mut config = serde_json::json!({
        "model_type": "bert", "hidden_act": "gelu", "num_hidden_layers": 1, "hidden_size": 4,
        "intermediate_size": 6, "num_attention_heads": 2, "max_position_embeddings": 8,
        "vocab_size": 7, "type_vocab_size": 2, "layer_norm_eps": 1e-12
    });
    change(&mut config);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[unused0]\na\n##b\n")
        .unwrap();
    let prefix = if scores { "bert." } else { "" };
    let layer = format!("{prefix}encoder.layer.0");
    let mut tensors = vec![
        (format!("{prefix}embeddings.word_embeddings.weight"), vec![7, 4]),
        (format!("{prefix}embeddings.position_embeddings.weight"), vec![8, 4]),
        (format!("{prefix}embeddings.token_type_embeddings.weight"), vec![2, 4]),
    ];
    let mut pair = |name: String, rows: u64, cols: Option<u64>| {
        tensors.push((format!("{name}.bias"), vec![rows]));
        tensors.push((format!("{name}.weight"), [rows].into_iter().chain(cols).collect()));
    };
    pair(format!("{prefix}embeddings.LayerNorm"), 4, None);
    for name in ["self.query", "self.key", "self.value", "output.dense"] {
        pair(format!("{layer}.attention.{name}"), 4, Some(4));
    }
    pair(format!("{layer}.attention.output.LayerNorm"), 4, None);
    pair(format!("{layer}.intermediate.dense"), 6, Some(4));
    pair(format!("{layer}.output.dense"), 4, Some(6));
    pair(format!("{layer}.output.LayerNorm"), 4, None);
    if scores {
        pair("bert.pooler.dense".into(), 4, Some(4));
        pair("classifier".into(), 1, Some(4));
    }
    std::fs::write(folder.join("model.safetensors"), safetensors(&tensors)).unwrap();
}

/// A file of F32 tensors with some values.
fn safetensors(tensors: &[(String, Vec<u64>)]) -> Vec<u8> {
    let (mut table, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in tensors {
        let start = data.len();
        let n = shape.iter().product::<u64>();
        (0..n).for_each(|i| {
            data.extend_from_slice(&(((i * 7 + 3) % 11) as f32 / 11.0).to_le_bytes())
        });
        let offsets = [start, data.len()];
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
        table.insert(name.clone(), entry);
    }
    let table = serde_json::Value::Object(table).to_string();
    [&(table.len() as u64).to_le_bytes(), table.as_bytes(), &data].concat()
}

#[test]
fn a_small_checkpoint_becomes_a_model_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path(), false, |_| ());
    let converted = convert(folder.path()).unwrap();
    assert!(converted.dropped.is_empty());
    let model = Model::from_gguf(Gguf::from_bytes(converted.bytes).unwrap()).unwrap();
    assert_eq!(text_tokens(&model, "Ab a x").unwrap().ids, [2, 5, 6, 5, 1, 3]);
    let mut embedder = Embedder::new(&model, &EmbedOptions::default()).unwrap();
    let v = embedder.embed(&["ab"]).unwrap().remove(0);
    assert!((v.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5, "{v:?}");
}

#[test]
fn a_cross_encoder_keeps_its_dense_layer() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path(), true, |_| ());
    let converted = convert(folder.path()).unwrap();
    assert!(converted.dropped.is_empty(), "{:?}", converted.dropped);
    let gguf = Gguf::from_bytes(converted.bytes).unwrap();
    for name in ["cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"] {
        assert!(gguf.tensor(name).is_some(), "{name}");
    }
    let model = Model::from_gguf(gguf).unwrap();
    let scores = Embedder::new(&model, &EmbedOptions::default()).unwrap().rerank("a", &["a", "ab"]);
    assert_eq!(scores.unwrap().len(), 2);
}

#[test]
fn checkpoints_that_cannot_be_converted_are_refused_with_the_reason() {
    let refused = |scores, change: &dyn Fn(&mut serde_json::Value), spoil: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        checkpoint(folder.path(), scores, change);
        spoil(folder.path());
        convert(folder.path()).unwrap_err().to_string()
    };
    let set = |key: &'static str, value: serde_json::Value| {
        refused(false, &move |c: &mut serde_json::Value| c[key] = value.clone(), &|_| ())
    };
    let e = set("model_type", "llama".into());
    assert_eq!(e, r#"config.json: model_type is "llama"; expected "bert""#);
    let e = set("hidden_act", "relu".into());
    assert_eq!(e, r#"config.json: hidden_act is "relu"; expected "gelu""#);
    let e = set("position_embedding_type", "relative_key".into());
    assert!(e.contains("position_embedding_type") && e.contains("absolute"), "{e}");
    let e = set("hidden_size", (-1).into());
    assert!(e.contains("hidden_size is -1; expected a number"), "{e}");
    let e = set("hidden_size", 8.into());
    assert!(e.contains("token_embd.weight"), "{e}");
    let e = set("num_hidden_layers", 2.into());
    assert!(e.contains(r#""encoder.layer.1.attention.self.query.weight" is missing"#), "{e}");
    let e = set("num_hidden_layers", 0.into());
    assert!(e.contains("no place in the model, first \"encoder.layer.0"), "{e}");
    let e = set("vocab_size", 6.into());
    assert!(e.contains("vocab_size is 6; expected the 7 lines"), "{e}");
    let gone = |file: &'static str| {
        refused(false, &|_| (), &move |folder| std::fs::remove_file(folder.join(file)).unwrap())
    };
    for file in ["config.json", "vocab.txt", "model.safetensors"] {
        let e = gone(file);
        assert!(e.starts_with(&format!("{file}: not in the folder")), "{e}");
    }
    let e = refused(false, &|_| (), &|f| std::fs::write(f.join("config.json"), "{").unwrap());
    assert!(e.starts_with("config.json: EOF"), "{e}");
    let e = refused(false, &|_| (), &|f| {
        let bytes = std::fs::read(f.join("model.safetensors")).unwrap();
        std::fs::write(f.join("model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
    });
    assert!(e.contains("model.safetensors") && e.contains("the end of the file"), "{e}");
}
