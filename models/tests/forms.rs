//! Files that store the same model in another form: older converters packed, split or left out what
//! newer ones do not. A rewritten golden model must give the logits of the original.

#[path = "../../tests/common/mod.rs"]
mod common;

use formats::{Access, Gguf, GgufWriter, TensorInfo, TensorType, Value};
use models::{Cancel, Context, ContextOptions, Model, Row};
use pumice_models as models;
use quant::KvType;
use std::sync::Arc;

/// A tensor of a file that is being rewritten.
struct Tensor {
    name: String,
    ty: TensorType,
    dims: Vec<u64>,
    data: Vec<u8>,
}

/// Rewrites the tensors of a golden model and its metadata.
fn rewritten(
    gguf: &Gguf,
    key: impl Fn(&str, &Value) -> Option<Value>,
    tensors: impl Fn(&TensorInfo, Vec<u8>) -> Vec<Tensor>,
) -> Arc<Gguf> {
    let mut writer = GgufWriter::new();
    for (name, value) in gguf.metadata().iter() {
        if let Some(value) = key(name, value) {
            writer.set(name, value);
        }
    }
    for t in gguf.tensors() {
        for t in tensors(t, gguf.data(t).unwrap().to_vec()) {
            writer.tensor(&t.name, t.ty, &t.dims, t.data);
        }
    }
    Arc::new(Gguf::from_bytes(writer.build().unwrap()).unwrap())
}

/// The tensor as it was.
fn same(t: &TensorInfo, data: Vec<u8>) -> Vec<Tensor> {
    vec![Tensor { name: t.name.clone(), ty: t.ty, dims: t.dims.clone(), data }]
}

/// Logits of 20 tokens in pieces of 7.
fn logits(gguf: Arc<Gguf>) -> Vec<f32> {
    let model = Arc::new(Model::new(gguf).unwrap());
    let options = ContextOptions {
        n_ctx: Some(32),
        type_k: KvType::F32,
        type_v: KvType::F32,
        n_threads: Some(2),
        ..ContextOptions::default()
    };
    let mut context = Context::new(model, &options).unwrap();
    let rows: Vec<Row> =
        (0..20).map(|pos| Row { token: 5 + 5 * pos as u32, seq: 0, pos, logits: true }).collect();
    let mut out = Vec::new();
    for part in rows.chunks(7) {
        context.step(part, &Cancel::new(), &mut |_, l| out.extend_from_slice(l)).unwrap();
    }
    out
}

#[track_caller]
fn agree(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let size: f64 = b.iter().map(|&b| square(f64::from(b))).sum();
    assert!(error <= 1e-10 * size, "{error:e} of {size:e}");
}

/// A golden model of the full set, which may be absent.
fn golden(case: &str) -> Option<Gguf> {
    let path = common::goldens("archs")?.join(case).join("model.gguf");
    Some(Gguf::open(&path, Access::Mmap).unwrap())
}

fn small(case: &str) -> Gguf {
    let path = common::data().join("archs").join(case).join("model.gguf");
    Gguf::open(&path, Access::Mmap).unwrap()
}

fn keep(_: &str, value: &Value) -> Option<Value> {
    Some(value.clone())
}

/// Files from before absorbed latent attention: `attn_kv_b` instead of `attn_k_b` and `attn_v_b`,
/// and the sizes of full heads in the keys.
#[test]
fn expanded_latent_attention_gives_what_absorbed_gives() {
    let gguf = small("youtu");
    let old_key = |name: &str, value: &Value| match name.strip_prefix("deepseek2.attention.") {
        Some("key_length_mla" | "value_length_mla") => None,
        Some("key_length") => Some(Value::U32(24)),
        Some("value_length") => Some(Value::U32(16)),
        Some("head_count_kv") => Some(Value::U32(4)),
        _ => Some(value.clone()),
    };
    // Two bytes an element. k_b is [heads, rank, nope], v_b [heads, value, rank].
    let (heads, rank, nope, value) = (4, 32, 16, 16);
    let old = rewritten(&gguf, old_key, |t, data| {
        let Some(prefix) = t.name.strip_suffix("attn_k_b.weight") else {
            return if t.name.ends_with("attn_v_b.weight") { vec![] } else { same(t, data) };
        };
        let v_b = gguf.data(gguf.tensor(&format!("{prefix}attn_v_b.weight")).unwrap()).unwrap();
        let mut kv_b = Vec::new();
        for head in 0..heads {
            for row in 0..nope {
                for column in 0..rank {
                    let at = 2 * ((head * rank + column) * nope + row);
                    kv_b.extend_from_slice(&data[at..at + 2]);
                }
            }
            kv_b.extend_from_slice(&v_b[2 * head * value * rank..2 * (head + 1) * value * rank]);
        }
        let dims = vec![rank as u64, (heads * (nope + value)) as u64];
        vec![Tensor { name: format!("{prefix}attn_kv_b.weight"), ty: t.ty, dims, data: kv_b }]
    });
    agree(&logits(old), &logits(Arc::new(gguf)));
}

/// The first Qwen3-Next files: one `ssm_in` by key head for queries, keys, values and gates.
#[test]
fn packed_inputs_of_the_delta_rule_give_what_split_ones_give() {
    let Some(gguf) = golden("qwen3next") else { return };
    // Four bytes an element, rows of 32: 2 key heads of 16, 4 value heads of 16.
    let row = 4 * 32;
    let old = rewritten(&gguf, keep, |t, data| {
        let Some(prefix) = t.name.strip_suffix("attn_qkv.weight") else {
            let gate = t.name.ends_with("attn_gate.weight");
            return if gate { vec![] } else { same(t, data) };
        };
        let z = gguf.data(gguf.tensor(&format!("{prefix}attn_gate.weight")).unwrap()).unwrap();
        let mut all = Vec::new();
        for head in 0..2 {
            for (from, first, n) in
                [(&data[..], 0, 16), (&data, 32, 16), (&data, 64, 32), (z, 0, 32)]
            {
                let first = first + head * n;
                all.extend_from_slice(&from[first * row..(first + n) * row]);
            }
        }
        let name = format!("{prefix}ssm_in.weight");
        vec![Tensor { name, ty: t.ty, dims: vec![32, 192], data: all }]
    });
    agree(&logits(old), &logits(Arc::new(gguf)));
}

/// Older RWKV 6 files: a tensor for each lean.
#[test]
fn leans_of_their_own_give_what_fused_ones_give() {
    let gguf = small("rwkv6");
    let old = rewritten(&gguf, keep, |t, data| {
        let Some(prefix) = t.name.strip_suffix("lerp_fused.weight") else { return same(t, data) };
        let parts = ["w", "k", "v", "r", "g"].iter().zip(data.chunks_exact(data.len() / 5));
        let part = |(part, data): (&&str, &[u8])| Tensor {
            name: format!("{prefix}lerp_{part}.weight"),
            ty: t.ty,
            dims: vec![t.dims[0], 1, 1],
            data: data.to_vec(),
        };
        parts.map(part).collect()
    });
    agree(&logits(old), &logits(Arc::new(gguf)));
}

/// A bank's tensor as the first files of Mixtral had it: a tensor for each expert, in mixed order.
fn one_by_one(t: &TensorInfo, data: Vec<u8>) -> Vec<Tensor> {
    let Some(name) = t.name.strip_suffix("_exps.weight") else { return same(t, data) };
    let n = t.dims[2] as usize;
    let parts = data.chunks_exact(data.len() / n).enumerate().rev();
    let part = |(i, data): (usize, &[u8])| Tensor {
        name: format!("{name}.{i}.weight"),
        ty: t.ty,
        dims: t.dims[..2].to_vec(),
        data: data.to_vec(),
    };
    parts.map(part).collect()
}

#[test]
fn experts_stored_one_by_one_give_what_a_bank_gives() {
    let gguf = small("qwen3moe-fused");
    let old = rewritten(&gguf, keep, one_by_one);
    assert!(old.tensor("blk.0.ffn_gate.3.weight").is_some());
    let (old, new) = (logits(old), logits(Arc::new(gguf)));
    assert!(old == new, "the same weights, other bits");
}

#[test]
fn experts_stored_one_by_one_must_be_complete_and_alike() {
    let gguf = small("qwen3moe-fused");
    let fails = |tensors: &dyn Fn(&TensorInfo, Vec<u8>) -> Vec<Tensor>| {
        let model = Arc::new(Model::new(rewritten(&gguf, keep, tensors)).unwrap());
        let options = ContextOptions { n_ctx: Some(8), ..ContextOptions::default() };
        Context::new(model, &options).map(|_| ()).unwrap_err().to_string()
    };
    let without = |name: &'static str| {
        move |t: &TensorInfo, data: Vec<u8>| -> Vec<Tensor> {
            one_by_one(t, data).into_iter().filter(|t| t.name != name).collect()
        }
    };
    for name in ["blk.1.ffn_up.2.weight", "blk.0.ffn_down.3.weight"] {
        let message = fails(&without(name));
        assert!(message.contains(name) && message.contains("missing"), "{message}");
    }
    let message = fails(&|t, data| {
        let mut all = one_by_one(t, data);
        for t in all.iter_mut().filter(|t| t.name == "blk.0.ffn_up.1.weight") {
            t.ty = TensorType::BF16;
        }
        all
    });
    assert!(message.contains("blk.0.ffn_up.1.weight") && message.contains("BF16"), "{message}");
    let message = fails(&|t, data| {
        let mut all = one_by_one(t, data);
        all.iter_mut().filter(|t| t.name == "blk.0.ffn_up.1.weight").for_each(|t| {
            t.dims.reverse();
        });
        all
    });
    assert!(message.contains("blk.0.ffn_up.1.weight") && message.contains("shape"), "{message}");
}
