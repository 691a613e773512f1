//! Every architecture of the registry as a tiny random model: it is made from its own spec, loaded,
//! and answers alike in one piece and token by token.

#[path = "common/tiny.rs"]
mod tiny;

use formats::Gguf;
use models::Model;
use pumice::formats;
use pumice::models;
use pumice::synth::{build_tiny, tiny_names};
use std::sync::Arc;
use tiny::{ids, logits, rows};

/// Largest difference of the ways to run a text, relative to the power of the logits: they add in
/// other orders.
const MAX_NMSE: f64 = 1e-9;

fn nmse(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let power: f64 = b.iter().map(|&y| f64::from(y).powi(2)).sum();
    let error: f64 = a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
    error / power
}

/// Index of the largest of each row.
fn greedy(logits: &[f32], n_vocab: usize) -> Vec<usize> {
    let best = |row: &[f32]| (0..n_vocab).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    logits.chunks_exact(n_vocab).map(best).collect()
}

/// What is wrong with the model of this name.
fn fault(name: &str) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let model = Arc::new(Model::new(Arc::new(build_tiny(name, 0)?))?);
    let (ids, n_vocab) = (ids(), model.hparams().n_vocab);
    let runs = match (model.spec().head.logits, model.spec().is_causal()) {
        (false, _) => rows(&model, &ids)?,
        (true, true) => [logits(&model, &ids, ids.len())?, logits(&model, &ids, 1)?],
        // Each row sees all others: there is no other way than one piece.
        (true, false) => [logits(&model, &ids, ids.len())?, logits(&model, &ids, ids.len())?],
    };
    let [whole, other] = &runs;
    if whole.is_empty() || !whole.iter().all(|x| x.is_finite()) {
        return Ok(Some("no finite answer".into()));
    }
    let spread = whole.iter().map(|x| x.abs()).fold(0.0, f32::max);
    if !(0.05..1000.0).contains(&spread) {
        return Ok(Some(format!("an answer of size {spread}, which tells nothing")));
    }
    if model.spec().head.logits && greedy(whole, n_vocab) != greedy(other, n_vocab) {
        return Ok(Some("other greedy tokens one by one".into()));
    }
    let error = nmse(other, whole);
    Ok((error > MAX_NMSE).then(|| format!("the two ways to run it differ by {error:.1e}")))
}

#[test]
fn tiny_models_of_all_architectures_run() {
    let faults: Vec<String> = tiny_names()
        .filter_map(|name| match fault(name) {
            Ok(None) => None,
            Ok(Some(what)) => Some(format!("{name}: {what}")),
            Err(e) => Some(format!("{name}: {e}")),
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_table_has_the_architectures_of_the_registry_and_no_others() {
    let known = |name: &str| models::arch::ARCHS.iter().any(|a| a.name == name);
    let named: Vec<&str> = tiny_names().collect();
    for arch in models::arch::ARCHS {
        assert!(named.contains(&arch.name), "src/synth/archs.txt has no line for {}", arch.name);
    }
    for name in named {
        assert!(known(name.split('/').next().unwrap()), "{name} is of no known architecture");
    }
}

#[test]
fn the_seed_alone_decides_the_weights() {
    let tensor = |seed| {
        let gguf = build_tiny("llama", seed).unwrap();
        gguf.data(gguf.tensor("blk.1.ffn_up.weight").unwrap()).unwrap().to_vec()
    };
    assert_eq!(tensor(1), tensor(1));
    assert_ne!(tensor(1), tensor(2));
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_are_known() {
    let error = build_tiny("lama", 0).unwrap_err().to_string();
    assert!(error.contains("\"lama\"") && error.contains("llama, "), "{error}");
}

#[test]
fn a_tensor_that_no_role_asks_for_is_refused_in_a_draft() {
    let mut writer = formats::GgufWriter::new();
    writer.set("general.architecture", "llama").set("llama.block_count", 1u32);
    for (key, value) in [("embedding_length", 64u32), ("context_length", 8)] {
        writer.set(&format!("llama.{key}"), value);
    }
    writer.set("llama.attention.head_count", 4u32).set("llama.feed_forward_length", 96u32);
    writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    let draft = |extra: &str| {
        let mut file = writer.clone();
        for (name, dims) in [("token_embd.weight", [64, 5]), (extra, [1, 1])] {
            let n = 4 * dims[0] * dims[1];
            file.tensor(name, formats::TensorType::F32, &dims, vec![0; n as usize]);
        }
        let gguf = Gguf::from_bytes(file.build().unwrap()).unwrap();
        Model::new(Arc::new(gguf)).unwrap().draft()
    };
    let asked = draft("output.weight").unwrap();
    let dims = |name: &str| asked.iter().find(|(known, _)| known == name).map(|(_, d)| d.clone());
    assert_eq!(dims("output.weight"), Some(vec![64, 5]));
    assert_eq!(dims("blk.0.ffn_down.weight"), Some(vec![96, 64]));
    assert_eq!(dims("blk.0.attn_q.bias"), None);
    let error = draft("blk.0.attn_up.weight").unwrap_err().to_string();
    assert!(error.contains("blk.0.attn_up.weight"), "{error}");
}
