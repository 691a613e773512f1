//! Checkpoints as their authors publish them (a folder with `config.json`, the vocabulary and
//! `model.safetensors`) to GGUF files. So far: BERT and what has its shape.

mod bert;
mod folder;

use crate::error::Error;
use folder::Folder;
use formats::{Gguf, GgufWriter};
use std::path::Path;
use std::sync::Arc;

/// A converted model.
#[derive(Debug)]
pub struct Converted {
    /// The GGUF file.
    pub bytes: Vec<u8>,
    /// Tensors of the checkpoint that have no place in the file, such as what only training needs.
    pub dropped: Vec<String>,
}

/// What can be wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A file of the folder that is needed.
    #[error("{file}: not in the folder, expected {expected}")]
    MissingFile {
        /// Its name.
        file: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file of text that is longer than any known one.
    #[error("{file}: {found} bytes, expected at most {most}")]
    TooLong {
        /// Its name.
        file: &'static str,
        /// Its length.
        found: u64,
        /// The bound.
        most: u64,
    },
    /// A file that is no JSON.
    #[error("{file}: {source}")]
    Json {
        /// Its name.
        file: &'static str,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// A value of a JSON file.
    #[error("{file}: {key} is {found}; expected {expected}")]
    Value {
        /// The file's name.
        file: &'static str,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A tensor that is needed.
    #[error("model.safetensors: tensor {name:?} is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// Tensors that nothing is known of: without them the model would give wrong answers.
    #[error("model.safetensors: {count} tensor(s) have no place in the model, first {name:?}")]
    UnknownTensor {
        /// The first.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// A tensor of a type or shape that cannot be taken over.
    #[error("model.safetensors: tensor {name:?} is {found}; expected {expected}")]
    Tensor {
        /// Its name.
        name: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
}

/// Converts the checkpoint in `folder`, and checks that the result can be run.
///
/// # Errors
/// A file that is missing or damaged, a kind of model that is not known, tensors that are missing or
/// left over.
pub fn convert(folder: &Path) -> Result<Converted, Error> {
    let folder = Folder::open(folder)?;
    let config = folder
        .json("config.json")?
        .ok_or(ConvertError::MissingFile { file: "config.json", expected: "the model's sizes" })?;
    let kind = config.str("model_type")?;
    let (writer, dropped) = match kind {
        Some("bert") => bert::convert(&folder, &config)?,
        _ => return Err(config.bad("model_type", "\"bert\"").into()),
    };
    Ok(Converted { bytes: checked(&writer)?, dropped })
}

/// The file's bytes, once a model can be made of them.
fn checked(writer: &GgufWriter) -> Result<Vec<u8>, Error> {
    let bytes = writer.build()?;
    let model = models::Model::new(Arc::new(Gguf::from_bytes(bytes.clone())?))?;
    models::Context::estimate(&model, &models::ContextOptions::default())?;
    Ok(bytes)
}
