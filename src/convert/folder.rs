//! The files of a checkpoint, none of them trusted.

use super::ConvertError;
use crate::error::Error;
use formats::safetensors::{Dtype, SafeTensor};
use formats::{GgufWriter, Safetensors, TensorType};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Longest file of text; the largest published vocabularies have 40 MB.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// A folder with a checkpoint.
pub(super) struct Folder {
    path: PathBuf,
}

/// A JSON object and the file it is from.
pub(super) struct Json {
    file: &'static str,
    value: Value,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Folder, Error> {
        match std::fs::metadata(path) {
            Ok(_) => Ok(Folder { path: path.to_owned() }),
            Err(source) => Err(Error::Io { path: path.to_owned(), source }),
        }
    }

    /// The folder's own name.
    pub(super) fn name(&self) -> String {
        let path = std::path::absolute(&self.path).unwrap_or_default();
        path.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned())
    }

    /// A file of text; `None` where there is none.
    pub(super) fn text(&self, file: &'static str) -> Result<Option<String>, Error> {
        let path = self.path.join(file);
        let found = match std::fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { path, source }),
            Ok(found) if !found.is_file() => return Ok(None),
            Ok(found) => found.len(),
        };
        if found > MAX_TEXT_BYTES {
            return Err(ConvertError::TooLong { file, found, most: MAX_TEXT_BYTES }.into());
        }
        std::fs::read_to_string(&path).map(Some).map_err(|source| Error::Io { path, source })
    }

    /// A JSON file; `None` where there is none.
    pub(super) fn json(&self, file: &'static str) -> Result<Option<Json>, Error> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Some(Json { file, value })),
            Err(source) => Err(ConvertError::Json { file, source }.into()),
        }
    }

    /// The tensors.
    pub(super) fn tensors(&self) -> Result<Tensors, Error> {
        let path = self.path.join("model.safetensors");
        if !path.is_file() {
            let expected = "the tensors in one file (a checkpoint in parts is not supported)";
            return Err(ConvertError::MissingFile { file: "model.safetensors", expected }.into());
        }
        Ok(Tensors { file: Safetensors::open(&path)?, taken: HashSet::new() })
    }
}

impl Json {
    /// A value below the keys of `path`, which are separated by dots.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.value, |v, key| v.get(key)).filter(|v| !v.is_null())
    }

    /// The error of a value that is not `expected`.
    pub(super) fn bad(&self, key: &str, expected: &str) -> ConvertError {
        let found = self.get(key).map_or("missing".into(), |v| {
            let text = v.to_string();
            text.chars().take(100).collect()
        });
        ConvertError::Value { file: self.file, key: key.into(), found, expected: expected.into() }
    }

    pub(super) fn str(&self, key: &str) -> Result<Option<&str>, ConvertError> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => v.as_str().map(Some).ok_or_else(|| self.bad(key, "a string")),
        }
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, ConvertError> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => v.as_bool().map(Some).ok_or_else(|| self.bad(key, "true or false")),
        }
    }

    pub(super) fn u32(&self, key: &str) -> Result<u32, ConvertError> {
        let n = self.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        n.ok_or_else(|| self.bad(key, "a number of 0 or more"))
    }

    pub(super) fn f32(&self, key: &str) -> Result<f32, ConvertError> {
        let x = self.get(key).and_then(Value::as_f64);
        x.map(|x| x as f32).ok_or_else(|| self.bad(key, "a number"))
    }
}

/// The tensors of a checkpoint, and which were taken over.
pub(super) struct Tensors {
    file: Safetensors,
    taken: HashSet<String>,
}

impl Tensors {
    pub(super) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// Writes tensor `from` as `to`: matrices as they are stored, vectors as float32.
    pub(super) fn copy(
        &mut self,
        from: &str,
        writer: &mut GgufWriter,
        to: &str,
    ) -> Result<(), Error> {
        let missing = || ConvertError::MissingTensor { name: from.into() };
        let tensor = self.file.tensor(from).ok_or_else(missing)?;
        let data = self.file.data(tensor)?;
        let ty = tensor_type(tensor)?;
        let dims: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        if dims.is_empty() || dims.len() > 3 || dims.contains(&0) {
            return Err(bad(tensor, "1 to 3 dimensions, none of them 0").into());
        }
        if dims.len() > 1 || ty == TensorType::F32 {
            writer.tensor(to, ty, &dims, data.to_vec());
        } else {
            let mut floats = vec![0.0f32; dims[0] as usize];
            quant::decode(ty, data, &mut floats).map_err(models::Error::from)?;
            let bytes = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
            writer.tensor(to, TensorType::F32, &dims, bytes);
        }
        self.taken.insert(from.into());
        Ok(())
    }

    /// Type of a tensor, for the file's `general.file_type`.
    pub(super) fn ty(&self, name: &str) -> Result<TensorType, Error> {
        let missing = || ConvertError::MissingTensor { name: name.into() };
        Ok(tensor_type(self.file.tensor(name).ok_or_else(missing)?)?)
    }

    /// Names of the tensors that were not taken over; each must be `known` to be of no use.
    pub(super) fn rest(&self, known: impl Fn(&str) -> bool) -> Result<Vec<String>, ConvertError> {
        let left = self.file.tensors().iter().map(|t| &t.name);
        let left: Vec<String> = left.filter(|&n| !self.taken.contains(n)).cloned().collect();
        let unknown = || left.iter().filter(|name| !known(name));
        match unknown().next() {
            None => Ok(left),
            Some(first) => {
                Err(ConvertError::UnknownTensor { name: first.clone(), count: unknown().count() })
            }
        }
    }
}

fn bad(tensor: &SafeTensor, expected: &str) -> ConvertError {
    let found = format!("{} of shape {:?}", tensor.dtype, tensor.shape);
    ConvertError::Tensor { name: tensor.name.clone(), found, expected: expected.into() }
}

fn tensor_type(tensor: &SafeTensor) -> Result<TensorType, ConvertError> {
    match tensor.dtype {
        Dtype::F32 => Ok(TensorType::F32),
        Dtype::F16 => Ok(TensorType::F16),
        Dtype::Bf16 => Ok(TensorType::BF16),
        _ => Err(bad(tensor, "F32, F16 or BF16")),
    }
}
