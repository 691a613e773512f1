//! Models with random weights. Those of real shapes ([`write()`]) are for measuring speed on files
//! that every runtime can load, without downloading anything; tiny ones of any architecture
//! ([`write_tiny`]) are for comparing runtimes. What such a model says means nothing.

mod fill;
mod recipe;
mod shapes;
mod table;
mod tiny;

pub use recipe::Recipe;
pub use shapes::{SHAPES, Shape};
pub use tiny::{build_tiny, tiny_names, write_tiny};

use formats::{Gguf, GgufWriter, Strings, TensorType, Value};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Where tensor data start, and the offset of each from there: a multiple of this.
const ALIGNMENT: u64 = 32;
/// Ids before the byte tokens: unknown, beginning, end.
const N_SPECIAL: usize = 3;

/// A tensor to be written.
struct Planned {
    name: String,
    ty: TensorType,
    dims: Vec<u64>,
    /// Norm weights are ones, everything else is random.
    ones: bool,
}

impl Planned {
    fn bytes(&self) -> u64 {
        let rows: u64 = self.dims[1..].iter().product();
        let row = self.ty.row_bytes(self.dims[0] as usize).unwrap_or_default();
        rows * row as u64
    }
}

/// Why a model was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// A row of a tensor is no whole number of blocks.
    #[error("tensor {tensor:?} has rows of {found}, expected a multiple of {expected} for {ty}")]
    Row {
        /// The tensor.
        tensor: String,
        /// Its row length.
        found: u64,
        /// The block of the type.
        expected: usize,
        /// The type.
        ty: TensorType,
    },
    /// A type that cannot be made from random bytes.
    #[error(transparent)]
    Type(#[from] quant::Error),
    /// No sizes are known for a tiny model of this architecture.
    #[error("no tiny model of architecture {found:?}; known are {known}")]
    UnknownArch {
        /// The name that was asked for.
        found: String,
        /// The names that there are, separated by commas.
        known: String,
    },
    /// The metadata of a tiny model do not make a model.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// The file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// The system's words.
        source: io::Error,
    },
}

/// Writes a model of `shape` with weights of `recipe` to `path`, by way of a file beside it that is
/// renamed at the end.
///
/// # Errors
/// A recipe whose types do not fit the shape's rows, or a file that cannot be written.
pub fn write(shape: &Shape, recipe: Recipe, path: &Path) -> Result<(), SynthError> {
    let tensors = planned(shape, recipe)?;
    write_beside(path, |file, failed| {
        file.write_all(&header(shape, &tensors)).map_err(failed)?;
        for (seed, tensor) in tensors.iter().enumerate() {
            write_tensor(tensor, seed as u64, file, failed)?;
        }
        Ok(())
    })
}

/// Makes a failure to write an error of the file.
type Failed<'a> = &'a dyn Fn(io::Error) -> SynthError;

/// Writes a file beside `path` with `fill`, and renames it when all went well.
fn write_beside(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>, Failed<'_>) -> Result<(), SynthError>,
) -> Result<(), SynthError> {
    let failed = |source| SynthError::Write { path: path.display().to_string(), source };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.part", std::process::id()));
    let unfinished = Path::new(&unfinished);
    let outcome = (|| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(unfinished).map_err(failed)?);
        fill(&mut file, &failed)?;
        file.flush().map_err(failed)?;
        std::fs::rename(unfinished, path).map_err(failed)
    })();
    if outcome.is_err() {
        // What remains is of no use; that it could not be removed changes nothing.
        let _ = std::fs::remove_file(unfinished);
    }
    outcome
}

/// A model of `shape` in memory.
///
/// # Errors
/// As [`write()`].
///
/// # Panics
/// Never: what is written here can be read.
pub fn build(shape: &Shape, recipe: Recipe) -> Result<Gguf, SynthError> {
    let tensors = planned(shape, recipe)?;
    let mut bytes = header(shape, &tensors);
    // Some shapes are several GiB: grown step by step they would need twice that.
    let data: u64 = tensors.iter().map(|t| t.bytes().next_multiple_of(ALIGNMENT)).sum();
    bytes.reserve_exact(usize::try_from(data).unwrap_or_default());
    let failed = |source| SynthError::Write { path: "memory".into(), source };
    for (seed, tensor) in tensors.iter().enumerate() {
        write_tensor(tensor, seed as u64, &mut bytes, &failed)?;
    }
    Ok(Gguf::from_bytes(bytes).expect("a file that was written by the rules"))
}

fn write_tensor(
    tensor: &Planned,
    seed: u64,
    out: &mut impl Write,
    failed: Failed<'_>,
) -> Result<(), SynthError> {
    let row = tensor.ty.row_bytes(tensor.dims[0] as usize).unwrap_or_default();
    // About a MiB at a time.
    let rows = (1 << 20) / row.max(1) + 1;
    let mut buffer = vec![0u8; rows * row];
    let mut left = tensor.bytes();
    let mut part = 0;
    while left > 0 {
        let n = left.min(buffer.len() as u64) as usize;
        if tensor.ones {
            buffer[..n].chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&1f32.to_le_bytes()));
        } else {
            quant::random_blocks(tensor.ty, seed << 32 | part, &mut buffer[..n])?;
        }
        out.write_all(&buffer[..n]).map_err(failed)?;
        left -= n as u64;
        part += 1;
    }
    let over = (tensor.bytes() % ALIGNMENT) as usize;
    let pad = if over == 0 { 0 } else { ALIGNMENT as usize - over };
    out.write_all(&[0; ALIGNMENT as usize][..pad]).map_err(failed)
}

/// Everything before the tensor data.
fn header(shape: &Shape, tensors: &[Planned]) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String(shape.arch.into()));
    writer.set("general.name", Value::String(format!("{} (random weights)", shape.name)));
    for (key, value) in shape.keys() {
        writer.set(&format!("{}.{key}", shape.arch), value);
    }
    vocabulary(shape.n_vocab, &mut writer);
    let mut offset = 0u64;
    for t in tensors {
        writer.tensor_raw(&t.name, t.ty.id(), &t.dims, Some(offset), Vec::new());
        offset += t.bytes().next_multiple_of(ALIGNMENT);
    }
    writer.to_bytes()
}

/// A vocabulary of bytes and made-up words.
fn vocabulary(n_vocab: usize, writer: &mut GgufWriter) {
    let text = |id: usize| match id {
        0 => "<unk>".to_string(),
        1 => "<s>".to_string(),
        2 => "</s>".to_string(),
        _ if id < N_SPECIAL + 256 => format!("<0x{:02X}>", id - N_SPECIAL),
        _ => format!("\u{2581}w{id}"),
    };
    let kind = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        _ if id < N_SPECIAL + 256 => 6,
        _ => 1,
    };
    let tokens: Vec<String> = (0..n_vocab).map(text).collect();
    writer.set("tokenizer.ggml.model", Value::String("llama".into()));
    writer.set("tokenizer.ggml.tokens", tokens.iter().collect::<Strings>());
    let scores: Vec<f32> = (0..n_vocab).map(|id| -(id as f32)).collect();
    writer.set("tokenizer.ggml.scores", scores);
    writer.set("tokenizer.ggml.token_type", (0..n_vocab).map(kind).collect::<Vec<i32>>());
    writer.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    writer.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    writer.set("tokenizer.ggml.unknown_token_id", Value::U32(0));
}

/// All tensors of a shape with the types that the recipe gives them.
fn planned(shape: &Shape, recipe: Recipe) -> Result<Vec<Planned>, SynthError> {
    let mut all = Vec::new();
    for (name, dims) in shape.tensors() {
        let ones = dims.len() == 1;
        let is_router = name.contains("ffn_gate_inp");
        let ty = match ones || is_router {
            true => TensorType::F32,
            false => recipe.ty(&name, shape),
        };
        if ty.row_bytes(dims[0] as usize).is_none() {
            let (found, expected) = (dims[0], ty.block_len());
            return Err(SynthError::Row { tensor: name, found, expected, ty });
        }
        all.push(Planned { name, ty, dims, ones });
    }
    Ok(all)
}
