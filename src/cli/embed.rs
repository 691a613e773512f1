//! `pumice embed`: texts to vectors, scores or rows of vectors.

use super::options::EngineArgs;
use super::out;
use anyhow::{Context as _, bail};
use models::spec::Pooling;
use pumice::{EmbedOptions, Embedder, Model, TextTokens, text_tokens};
use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How vectors are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// An array with one entry a text; rows of tokens are arrays in it
    Json,
    /// NumPy: one float32 matrix; rows of all texts one after another
    Npy,
}

/// Keys and values stay in float32, whatever -ctk and -ctv say.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Texts as token ids, one line each, special ones included [default: lines of text on stdin]
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// How the rows of a text become a vector: none, mean, cls, last, rank [default: as the file
    /// says]
    #[arg(long, value_name = "KIND")]
    pooling: Option<Pooling>,
    /// A vector for every token: --pooling none
    #[arg(long, conflicts_with = "pooling")]
    per_token: bool,
    /// The scores of the file's classifier: --pooling rank
    #[arg(long, conflicts_with_all = ["pooling", "per_token"])]
    scores: bool,
    /// Keep the first N values of each vector, for models that were trained for that
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// Leave vectors as long as they come; otherwise each has length 1
    #[arg(long)]
    no_normalize: bool,
    /// Cut longer texts to N tokens, special ones included [default: they are refused]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    truncate: Option<u32>,
    /// Format of the result
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Nothing but little-endian float32 values, not normalised
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// Receives the result [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let model = args.engine.open()?;
    let texts = args.texts(&model)?;
    let pooling = match (args.per_token, args.scores) {
        (true, _) => Some(Pooling::None),
        (_, true) => Some(Pooling::Rank),
        _ => args.pooling,
    };
    let options = EmbedOptions {
        pooling,
        normalize: !args.raw && !args.no_normalize,
        dimensions: args.dimensions,
        truncate: args.truncate.map(|n| n as usize),
        ..EmbedOptions::default()
    };
    let mut embedder = embedder(&args.engine, &model, options, &texts)?;
    let vectors = embedder.embed_tokens(texts)?;
    let width = embedder.width();
    let bytes = match (args.raw, args.format) {
        (true, _) => floats(&vectors),
        (false, Format::Npy) => npy(&vectors, width),
        (false, Format::Json) => json(&vectors, width, embedder.pooling() == Pooling::None),
    };
    match &args.output {
        None => out::write_all(&bytes)?,
        Some(path) => std::fs::write(path, bytes).with_context(|| path.display().to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn texts(&self, model: &Model) -> anyhow::Result<Vec<TextTokens>> {
        match &self.tokens {
            Some(path) => token_lines(path),
            None => {
                let lines = stdin_lines()?;
                Ok(lines.iter().map(|line| text_tokens(model, line)).collect::<Result<_, _>>()?)
            }
        }
    }
}

/// An embedder with room for the longest of `texts`, and on stderr what a user should know.
pub(super) fn embedder(
    engine: &EngineArgs,
    model: &Model,
    mut options: EmbedOptions,
    texts: &[TextTokens],
) -> anyhow::Result<Embedder> {
    options.context = engine.session_options()?.context;
    let longest = texts.iter().map(|t| t.ids.len()).max().unwrap_or(1);
    let longest = longest.min(options.truncate.unwrap_or(usize::MAX)).max(1);
    let trained = model.core().hparams().n_ctx_train;
    options.context.n_ctx.get_or_insert(longest.min(trained));
    let embedder = Embedder::new(model, &options).with_context(|| {
        let path = model.gguf().path().map(|p| p.display().to_string());
        format!("cannot run {}", path.unwrap_or_default())
    })?;
    if engine.verbose {
        eprintln!(
            "{} · pooling {} · {} values · context {}",
            model.core().hparams().arch,
            embedder.pooling(),
            embedder.width(),
            embedder.context().n_ctx()
        );
    }
    Ok(embedder)
}

/// The lines of stdin.
pub(super) fn stdin_lines() -> anyhow::Result<Vec<String>> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("stdin")?;
    let text = String::from_utf8(bytes).context("stdin")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Lines of token ids.
fn token_lines(path: &Path) -> anyhow::Result<Vec<TextTokens>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name}"))?;
    let mut texts = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let id = |word: &str| {
            word.parse()
                .with_context(|| format!("{name}: line {}: {word:?} is not a token id", i + 1))
        };
        let ids = line.split_whitespace().map(id).collect::<anyhow::Result<Vec<u32>>>()?;
        if ids.is_empty() {
            bail!("{name}: line {}: no token ids in it", i + 1);
        }
        texts.push(ids.into());
    }
    Ok(texts)
}

fn floats(vectors: &[Vec<f32>]) -> Vec<u8> {
    vectors.iter().flatten().flat_map(|v| v.to_le_bytes()).collect()
}

/// NumPy's format, version 1.0: magic, version, header length, a dictionary padded so that the data
/// starts at a multiple of 64 bytes, the data.
fn npy(vectors: &[Vec<f32>], width: usize) -> Vec<u8> {
    let rows = vectors.iter().map(Vec::len).sum::<usize>() / width.max(1);
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(floats(vectors));
    bytes
}

/// One line a text.
fn json(vectors: &[Vec<f32>], width: usize, per_token: bool) -> Vec<u8> {
    let row = |row: &[f32]| {
        let values: Vec<String> = row.iter().map(f32::to_string).collect();
        format!("[{}]", values.join(","))
    };
    let mut text = String::from("[");
    for (i, vector) in vectors.iter().enumerate() {
        text += if i == 0 { "\n" } else { ",\n" };
        if per_token {
            let rows: Vec<String> = vector.chunks_exact(width).map(row).collect();
            let _ = write!(text, "[{}]", rows.join(","));
        } else {
            text += &row(vector);
        }
    }
    text += "\n]\n";
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numpy_files_have_an_aligned_header_and_the_shape() {
        let bytes = npy(&[vec![1.0, 2.0], vec![3.0, 4.0, 5.0, 6.0]], 2);
        let text = String::from_utf8_lossy(&bytes[10..]);
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"));
        let n = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!(((10 + n) % 64, bytes[10 + n - 1]), (0, b'\n'));
        assert_eq!(bytes[10 + n..10 + n + 4], 1.0f32.to_le_bytes());
        assert_eq!(bytes.len(), 10 + n + 24);
    }

    #[test]
    fn json_has_a_line_for_each_text() {
        let vectors = [vec![0.5, -1.0], vec![1e-9, 2.0]];
        let text = String::from_utf8(json(&vectors, 2, false)).unwrap();
        assert_eq!(text, "[\n[0.5,-1],\n[0.000000001,2]\n]\n");
        let text = String::from_utf8(json(&vectors, 1, true)).unwrap();
        assert_eq!(text, "[\n[[0.5],[-1]],\n[[0.000000001],[2]]\n]\n");
        assert_eq!(json(&[], 2, false), b"[\n]\n");
    }
}
