//! `pumice inspect`: what a model file holds and what running it takes.
//!
//! Only the header of the file is read, and the few small tensors (norms, biases) that are decoded
//! when a model is bound. What cannot be said of a file (an architecture that is unknown, a
//! vocabulary without a model, big-endian data) is left out and the reason given.
//!
//! The fields of `--json`, all present in every output; null where nothing can be said:
//! - `file`, `file_bytes`, `version` (of the format), `endian` ("little" or "big"), `alignment`;
//! - `architecture`: what the file says it is; `n_parameters`, `tensor_bytes`, `bits_per_weight`;
//! - `metadata`: an object by key, in file order, of {`type`, `value`}; an array has {`type`:
//!   "array", `of`, `len`, `first`: its first elements, at most 16}. Strings are whole; bytes that
//!   are no UTF-8 show as U+FFFD; numbers that are not finite as strings;
//! - `tensors`: in file order, {`name`, `type`, `shape` (row length first), `offset`, `n_bytes`};
//! - `types`: {`type`, `n_tensors`, `n_elements`, `n_bytes`}, most bytes first;
//! - `tokenizer`: {`kind`, `n_tokens`, `bos`, `eos`, `adds_bos`, `adds_eos`};
//! - `spec`: the architecture as a formula a layer, for people;
//! - `context`: {`n_ctx`, `n_threads`, `isa`, `weights_bytes`, `state_bytes`, `scratch_bytes`,
//!   `total_bytes`, `limit_bytes` (what may be used here)};
//! - `kernels`: {`type`, `kernel`, `n_matrices`};
//! - `problems`: why something is null, in words.

mod text;

use super::options::EngineArgs;
use super::out;
use anyhow::Context as _;
use formats::{Array, Endian, Gguf, TensorInfo, TensorType, Value};
use models::{Context, Estimate, KernelUse, Model};
use pumice::text::tokenizer::Tokenizer;
use serde_json::{Map, Value as Json, json};
use std::process::ExitCode;
use std::sync::Arc;

/// Elements of an array that `--json` shows.
const JSON_ELEMENTS: usize = 16;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The file, or a catalogue name
    #[arg(value_name = "FILE|NAME", required_unless_present = "model", conflicts_with = "model")]
    file: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    args.engine.model = args.file.take().or(args.engine.model);
    let path = args.engine.path()?;
    let gguf = Gguf::open(&path, args.engine.model_options().access)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let report = Report::new(Arc::new(gguf), &args.engine)?;
    let output = if args.json { format!("{:#}\n", report.json()) } else { report.text() };
    out::write_all(output.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// All tensors of one type.
struct TypeTotal {
    ty: TensorType,
    n_tensors: usize,
    n_elements: u64,
    n_bytes: u64,
}

/// What can be said of a file.
struct Report {
    gguf: Arc<Gguf>,
    totals: Vec<TypeTotal>,
    tokenizer: Option<Tokenizer>,
    model: Option<Model>,
    estimate: Option<Estimate>,
    isa: quant::Isa,
    problems: Vec<String>,
}

impl Report {
    fn new(gguf: Arc<Gguf>, engine: &EngineArgs) -> anyhow::Result<Report> {
        let options = engine.session_options()?.context;
        let mut problems = Vec::new();
        let tokenizer = Tokenizer::from_gguf(&gguf)
            .map_err(|e| problems.push(format!("no vocabulary can be shown: {e}")))
            .ok();
        let mut model = None;
        if gguf.tensors().is_empty() {
            problems.push("the file has no tensors: it cannot run, only tokenize".into());
        } else {
            model = Model::new(gguf.clone())
                .map_err(|e| problems.push(format!("the model cannot be built: {e}")))
                .ok();
        }
        let mut estimate = None;
        if let Some(m) = &model {
            if gguf.endian() == Endian::Big {
                problems.push("the file is big-endian: it can be inspected, not run".into());
            } else {
                estimate = Context::estimate(m, &options)
                    .map_err(|e| problems.push(format!("the model cannot run: {e}")))
                    .ok();
            }
        }
        let totals = totals(gguf.tensors());
        Ok(Report { gguf, totals, tokenizer, model, estimate, isa: options.isa, problems })
    }

    /// What the file says it is, also where nothing knows the name.
    fn architecture(&self) -> Option<&str> {
        self.gguf.metadata().get("general.architecture").and_then(Value::as_str)
    }

    fn n_parameters(&self) -> u64 {
        // Each count was checked against the file, but a type can hold several elements in a bit.
        self.totals.iter().fold(0, |sum, t| sum.saturating_add(t.n_elements))
    }

    fn tensor_bytes(&self) -> u64 {
        self.totals.iter().map(|t| t.n_bytes).sum()
    }

    /// Stored bits per element over all tensors.
    fn bits_per_weight(&self) -> Option<f64> {
        let n = self.n_parameters();
        (n > 0).then(|| self.tensor_bytes() as f64 * 8.0 / n as f64)
    }

    fn json(&self) -> Json {
        let file = self.gguf.path().map(|p| p.display().to_string());
        let metadata: Map<String, Json> = self
            .gguf
            .metadata()
            .iter()
            .map(|(key, value)| (key.into(), json_entry(value)))
            .collect();
        let tensors: Vec<Json> = self
            .gguf
            .tensors()
            .iter()
            .map(|t| {
                json!({"name": t.name, "type": t.ty.name(), "shape": t.dims, "offset": t.offset,
                       "n_bytes": t.n_bytes})
            })
            .collect();
        let types: Vec<Json> = self
            .totals
            .iter()
            .map(|t| {
                json!({"type": t.ty.name(), "n_tensors": t.n_tensors, "n_elements": t.n_elements,
                       "n_bytes": t.n_bytes})
            })
            .collect();
        let tokenizer = self.tokenizer.as_ref().map(|t| {
            json!({"kind": t.kind(), "n_tokens": t.n_tokens(), "bos": t.special().bos,
                   "eos": t.special().eos, "adds_bos": t.adds().bos, "adds_eos": t.adds().eos})
        });
        let kernels = self.estimate.as_ref().map(|e| {
            let entry = |(k, n): (&KernelUse, usize)| {
                json!({"type": k.ty.name(), "kernel": k.kernel, "n_matrices": n})
            };
            chosen(&e.kernels).into_iter().map(entry).collect::<Vec<_>>()
        });
        json!({
            "file": file,
            "file_bytes": self.gguf.file_bytes(),
            "version": self.gguf.version(),
            "endian": endian(&self.gguf),
            "alignment": self.gguf.alignment(),
            "architecture": self.architecture(),
            "n_parameters": self.n_parameters(),
            "tensor_bytes": self.tensor_bytes(),
            "bits_per_weight": self.bits_per_weight(),
            "metadata": metadata,
            "tensors": tensors,
            "types": types,
            "tokenizer": tokenizer,
            "spec": self.model.as_ref().map(|m| m.spec().to_string()),
            "context": self.estimate.as_ref().map(|e| self.json_context(e)),
            "kernels": kernels,
            "problems": self.problems,
        })
    }

    fn json_context(&self, e: &Estimate) -> Json {
        json!({
            "n_ctx": e.n_ctx,
            "n_threads": e.n_threads,
            "isa": self.isa.name(),
            "weights_bytes": e.memory.weights,
            "state_bytes": e.memory.state,
            "scratch_bytes": e.memory.scratch,
            "total_bytes": total(e),
            "limit_bytes": models::device::memory_limit().map(|l| l.bytes),
        })
    }
}

fn total(e: &Estimate) -> u64 {
    e.memory.weights.saturating_add(e.memory.state).saturating_add(e.memory.scratch)
}

fn endian(gguf: &Gguf) -> &'static str {
    match gguf.endian() {
        Endian::Little => "little",
        Endian::Big => "big",
    }
}

/// Tensors by type, most bytes first.
fn totals(tensors: &[TensorInfo]) -> Vec<TypeTotal> {
    let mut all: Vec<TypeTotal> = Vec::new();
    for t in tensors {
        let i = all.iter().position(|total| total.ty == t.ty).unwrap_or_else(|| {
            all.push(TypeTotal { ty: t.ty, n_tensors: 0, n_elements: 0, n_bytes: 0 });
            all.len() - 1
        });
        all[i].n_tensors += 1;
        all[i].n_elements = all[i].n_elements.saturating_add(t.n_elements());
        all[i].n_bytes += t.n_bytes;
    }
    all.sort_by_key(|total| std::cmp::Reverse(total.n_bytes));
    all
}

/// The kernels in use, each with the number of its matrices.
fn chosen(kernels: &[KernelUse]) -> Vec<(&KernelUse, usize)> {
    let mut all: Vec<(&KernelUse, usize)> = Vec::new();
    for k in kernels {
        match all.iter_mut().find(|(seen, _)| seen.ty == k.ty && seen.kernel == k.kernel) {
            Some((_, n)) => *n += 1,
            None => all.push((k, 1)),
        }
    }
    all
}

fn json_entry(value: &Value) -> Json {
    match value {
        Value::Array(a) => {
            let first: Vec<Json> = elements(a, JSON_ELEMENTS).iter().map(json_scalar).collect();
            json!({"type": "array", "of": a.kind_name(), "len": a.len(), "first": first})
        }
        scalar => json!({"type": scalar.value_type().name(), "value": json_scalar(scalar)}),
    }
}

fn json_scalar(value: &Value) -> Json {
    // The shortest digits that give the same number: an f32 widened would show digits it has not.
    let float = |text: String| match text.parse().ok().and_then(serde_json::Number::from_f64) {
        Some(number) => Json::Number(number),
        None => Json::String(text),
    };
    match value {
        Value::String(s) => json!(s),
        Value::Bool(b) => json!(b),
        Value::F32(v) => float(v.to_string()),
        Value::F64(v) => float(v.to_string()),
        Value::U64(v) => json!(v),
        Value::Array(_) => json_entry(value),
        integer => json!(integer.as_integer().and_then(|v| i64::try_from(v).ok())),
    }
}

/// The first elements of an array, at most `n`.
fn elements(array: &Array, n: usize) -> Vec<Value> {
    fn some<T: Clone>(v: &[T], n: usize, wrap: impl Fn(T) -> Value) -> Vec<Value> {
        v.iter().take(n).cloned().map(wrap).collect()
    }
    match array {
        Array::U8(v) => some(v, n, Value::U8),
        Array::I8(v) => some(v, n, Value::I8),
        Array::U16(v) => some(v, n, Value::U16),
        Array::I16(v) => some(v, n, Value::I16),
        Array::U32(v) => some(v, n, Value::U32),
        Array::I32(v) => some(v, n, Value::I32),
        Array::U64(v) => some(v, n, Value::U64),
        Array::I64(v) => some(v, n, Value::I64),
        Array::F32(v) => some(v, n, Value::F32),
        Array::F64(v) => some(v, n, Value::F64),
        Array::Bool(v) => some(v, n, Value::Bool),
        Array::Array(v) => v.iter().take(n).cloned().map(Value::Array).collect(),
        Array::String(v) => {
            let text = |bytes: &[u8]| Value::String(String::from_utf8_lossy(bytes).into_owned());
            v.iter_bytes().take(n).map(text).collect()
        }
    }
}
