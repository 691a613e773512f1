//! Tiny models of any architecture. The table gives metadata; which tensors these need, and of
//! what shape, is asked of the architecture's own spec (see `models::Model::draft`).

use super::{SynthError, fill, table, vocabulary, write_beside};
use formats::{Gguf, GgufWriter, TensorType, Value};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Writes a tiny model of architecture `arch` with weights from `seed` to `path`: a few layers, a
/// vocabulary of bytes and made-up words, all tensors F32, some hundred KiB. The same seed gives the
/// same file. The table has further forms of some architectures, as `llama/moe` ([`tiny_names`]).
///
/// # Errors
/// An architecture that is not in the registry, or a file that cannot be written.
pub fn write_tiny(arch: &str, seed: u64, path: &Path) -> Result<(), SynthError> {
    let bytes = bytes(arch, seed)?;
    write_beside(path, |file, failed| file.write_all(&bytes).map_err(failed))
}

/// As [`write_tiny`], in memory.
///
/// # Errors
/// An architecture that is not in the registry.
pub fn build_tiny(arch: &str, seed: u64) -> Result<Gguf, SynthError> {
    Ok(Gguf::from_bytes(bytes(arch, seed)?).map_err(models::Error::from)?)
}

/// The names that [`write_tiny`] knows.
pub fn tiny_names() -> impl Iterator<Item = &'static str> {
    table::names()
}

fn bytes(name: &str, seed: u64) -> Result<Vec<u8>, SynthError> {
    let tiny = table::find(name).ok_or_else(|| SynthError::UnknownArch {
        found: name.into(),
        known: table::names().collect::<Vec<_>>().join(", "),
    })?;
    let arch = name.split_once('/').map_or(name, |(arch, _)| arch);
    let n_vocab = tiny.size("vocab_size");
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String(arch.into()));
    // Without the architecture: there are readers that draw conclusions from a model's name.
    writer.set("general.name", Value::String("tiny (random weights)".into()));
    for (key, value) in &tiny.keys {
        let own = key.strip_prefix('/').map(str::to_string);
        writer.set(&own.unwrap_or_else(|| format!("{arch}.{key}")), value.clone());
    }
    vocabulary(n_vocab as usize, &mut writer);
    let mut draft = writer.clone();
    let embd = ("token_embd.weight".to_string(), vec![tiny.size("embedding_length"), n_vocab]);
    // A tensor whose axes follow from the metadata stands here for that it is there.
    let known = tiny.tensors.into_iter().map(|(name, dims)| (name, dims.unwrap_or(vec![1])));
    for (name, dims) in std::iter::once(embd).chain(known) {
        let n: u64 = dims.iter().product();
        draft.tensor(&name, TensorType::F32, &dims, vec![0; 4 * n as usize]);
    }
    let draft = Gguf::from_bytes(draft.to_bytes()).map_err(models::Error::from)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (name, dims) in models::Model::new(Arc::new(draft))?.draft()? {
        let values = fill::values(&name, &dims, &mut random);
        writer.tensor(&name, TensorType::F32, &dims, values);
    }
    Ok(writer.to_bytes())
}
