//! BERT (Devlin et al. 2018) with a WordPiece vocabulary: sentence encoders and cross-encoders.

use super::ConvertError;
use super::folder::{Folder, Json, Tensors};
use crate::error::Error;
use formats::{Array, GgufWriter, Strings, TensorType};
use serde_json::Value;

/// Tensors of a layer: the checkpoint's name, the file's.
const LAYER: &[(&str, &str)] = &[
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

/// What the numbers of `pooling_type` mean.
const MEAN: u32 = 1;
const CLS: u32 = 2;
const RANK: u32 = 4;

/// Numbers of `token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

/// Special tokens: the key of their text, its usual value, the key of their id in the file.
const SPECIAL: &[(&str, &str, &str)] = &[
    ("cls_token", "[CLS]", "bos"),
    ("unk_token", "[UNK]", "unknown"),
    // Spelled like this in files.
    ("sep_token", "[SEP]", "seperator"),
    ("pad_token", "[PAD]", "padding"),
    ("mask_token", "[MASK]", "mask"),
];

/// The file of a checkpoint, and the names of the tensors that have no place in it.
pub(super) fn convert(folder: &Folder, config: &Json) -> Result<(GgufWriter, Vec<String>), Error> {
    let mut tensors = folder.tensors()?;
    let prefix = if tensors.has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
    let scores = tensors.has("classifier.weight");
    let mut writer = GgufWriter::new();
    let words = format!("{prefix}embeddings.word_embeddings.weight");
    let file_type: u32 = match tensors.ty(&words)? {
        TensorType::F16 => 1,
        TensorType::BF16 => 32,
        _ => 0,
    };
    writer.set("general.architecture", "bert").set("general.name", folder.name());
    writer.set("general.file_type", file_type);
    sizes(config, &mut writer)?;
    writer.set("bert.pooling_type", pooling(folder, scores)?);
    if scores {
        let labels: Strings = labels(config)?.iter().collect();
        writer.set("bert.classifier.output_labels", labels);
    }
    vocabulary(folder, config, &mut writer)?;
    let dropped = copy(config, prefix, scores, &mut tensors, &mut writer)?;
    Ok((writer, dropped))
}

fn sizes(config: &Json, writer: &mut GgufWriter) -> Result<(), ConvertError> {
    // Other activations and positions have the same tensors and other results.
    if config.str("hidden_act")? != Some("gelu") {
        return Err(config.bad("hidden_act", "\"gelu\""));
    }
    if config.str("position_embedding_type")?.is_some_and(|kind| kind != "absolute") {
        return Err(config.bad("position_embedding_type", "\"absolute\""));
    }
    for (key, word) in [
        ("num_hidden_layers", "block_count"),
        ("max_position_embeddings", "context_length"),
        ("hidden_size", "embedding_length"),
        ("intermediate_size", "feed_forward_length"),
        ("num_attention_heads", "attention.head_count"),
        ("vocab_size", "vocab_size"),
    ] {
        writer.set(&format!("bert.{word}"), config.u32(key)?);
    }
    writer.set("bert.attention.layer_norm_epsilon", config.f32("layer_norm_eps")?);
    writer.set("bert.attention.causal", false);
    Ok(())
}

/// What the folder says of pooling; cross-encoders have scores.
fn pooling(folder: &Folder, scores: bool) -> Result<u32, Error> {
    if scores {
        return Ok(RANK);
    }
    let Some(modes) = folder.json("1_Pooling/config.json")? else { return Ok(MEAN) };
    let on = |mode: &str| modes.bool(&format!("pooling_mode_{mode}"));
    match (on("mean_tokens")?.unwrap_or(false), on("cls_token")?.unwrap_or(false)) {
        (true, false) => Ok(MEAN),
        (false, true) => Ok(CLS),
        _ => Err(modes
            .bad("pooling_mode_mean_tokens", "either this or pooling_mode_cls_token")
            .into()),
    }
}

/// Names of the scores, by their numbers.
fn labels(config: &Json) -> Result<Vec<String>, ConvertError> {
    let Some(labels) = config.get("id2label") else { return Ok(vec!["LABEL_0".into()]) };
    let labels = labels.as_object().filter(|l| l.len() <= 1 << 16);
    let label = |i: usize| labels?.get(&i.to_string())?.as_str().map(str::to_owned);
    let all: Option<Vec<String>> = (0..labels.map_or(0, |l| l.len())).map(label).collect();
    all.filter(|l| !l.is_empty())
        .ok_or_else(|| config.bad("id2label", "a name for each number from 0"))
}

/// WordPiece: tokens that begin a word have U+2581 in front in the file, the others lose their "##".
fn vocabulary(folder: &Folder, config: &Json, writer: &mut GgufWriter) -> Result<(), Error> {
    let tokens = tokens(folder, config)?;
    let settings = folder.json("tokenizer_config.json")?;
    let special = |key: &str, usual: &str| -> Result<String, ConvertError> {
        let Some(settings) = &settings else { return Ok(usual.into()) };
        let text = match settings.get(key) {
            // Some checkpoints hold an object with the text and how it is found.
            Some(Value::Object(_)) => settings.str(&format!("{key}.content"))?,
            _ => settings.str(key)?,
        };
        Ok(text.unwrap_or(usual).into())
    };
    let mut types = vec![NORMAL; tokens.len()];
    for (key, usual, word) in SPECIAL {
        let text = special(key, usual)?;
        let Some(id) = tokens.iter().position(|t| *t == text) else { continue };
        types[id] = if *word == "unknown" { UNKNOWN } else { CONTROL };
        writer.set(&format!("tokenizer.ggml.{word}_token_id"), id as u32);
    }
    let mut spelled = Vec::with_capacity(tokens.len());
    for (token, ty) in tokens.iter().zip(&mut types) {
        if *ty == NORMAL && token.starts_with("[unused") && token.ends_with(']') {
            *ty = UNUSED;
        }
        spelled.push(match token.strip_prefix("##") {
            _ if *ty != NORMAL => token.clone(),
            Some(inside) if !inside.is_empty() => inside.to_owned(),
            _ => format!("\u{2581}{token}"),
        });
    }
    let flag = |key: &str| settings.as_ref().map_or(Ok(None), |s| s.bool(key));
    let lowers = flag("do_lower_case")?.unwrap_or(true);
    writer.set("tokenizer.ggml.model", "bert");
    writer.set("tokenizer.ggml.tokens", spelled.iter().collect::<Strings>());
    writer.set("tokenizer.ggml.token_type", Array::I32(types));
    writer.set("tokenizer.ggml.token_type_count", config.u32("type_vocab_size")?);
    writer.set("tokenizer.ggml.normalizer.lowercase", lowers);
    let strips = flag("strip_accents")?.unwrap_or(lowers);
    writer.set("tokenizer.ggml.normalizer.strip_accents", strips);
    Ok(())
}

/// The tokens by id: the lines of `vocab.txt`.
fn tokens(folder: &Folder, config: &Json) -> Result<Vec<String>, Error> {
    let text = folder.text("vocab.txt")?.ok_or(ConvertError::MissingFile {
        file: "vocab.txt",
        expected: "a WordPiece vocabulary, one token a line",
    })?;
    let tokens: Vec<String> = text.lines().map(str::to_owned).collect();
    let n_vocab = config.u32("vocab_size")? as usize;
    if tokens.is_empty() || tokens.len() > n_vocab {
        let expected = format!("the {} lines of vocab.txt or more", tokens.len().max(1));
        return Err(config.bad("vocab_size", &expected).into());
    }
    Ok(tokens)
}

/// Takes the tensors over and returns the names of those that have no use.
fn copy(
    config: &Json,
    prefix: &str,
    scores: bool,
    tensors: &mut Tensors,
    writer: &mut GgufWriter,
) -> Result<Vec<String>, Error> {
    let embeddings = [
        ("word_embeddings", "token_embd"),
        ("position_embeddings", "position_embd"),
        ("token_type_embeddings", "token_types"),
    ];
    for (from, to) in embeddings {
        let from = format!("{prefix}embeddings.{from}.weight");
        tensors.copy(&from, writer, &format!("{to}.weight"))?;
    }
    let mut pair = |from: &str, to: &str| {
        ["weight", "bias"].into_iter().try_for_each(|part| {
            tensors.copy(&format!("{from}.{part}"), writer, &format!("{to}.{part}"))
        })
    };
    pair(&format!("{prefix}embeddings.LayerNorm"), "token_embd_norm")?;
    for il in 0..config.u32("num_hidden_layers")? {
        for (from, to) in LAYER {
            pair(&format!("{prefix}encoder.layer.{il}.{from}"), &format!("blk.{il}.{to}"))?;
        }
    }
    if scores {
        // The dense layer in front of the classifier belongs to the score.
        pair(&format!("{prefix}pooler.dense"), "cls")?;
        pair("classifier", "cls.output")?;
    }
    // Buffers of old versions, and heads that embeddings do not go through.
    Ok(tensors.rest(|name| {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        name == "embeddings.position_ids" || name.starts_with("pooler.") || name.starts_with("cls.")
    })?)
}
