//! `pumice tokenize` and `pumice detokenize`.

use super::out;
use anyhow::{Context as _, bail};
use formats::{Access, Gguf};
use pumice::load_tokenizer;
use pumice::text::tokenizer::{Show, Special, Tokenizer};
use serde_json::Value;
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Which vocabulary. Files without tensors will do.
#[derive(clap::Args)]
struct VocabArgs {
    /// Model or vocabulary file, or catalogue name
    #[arg(short, long, value_name = "FILE|NAME")]
    model: Option<String>,
    /// A tokenizer.json to use instead of the file's own vocabulary
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Add BOS and EOS as the file says and take special tokens for what they spell
    #[arg(long)]
    special: bool,
}

#[derive(clap::Args)]
pub struct TokenizeArgs {
    #[command(flatten)]
    vocab: VocabArgs,
    /// Each line of stdin is a JSON string, each line of stdout a JSON array
    #[arg(long)]
    jsonl: bool,
}

#[derive(clap::Args)]
pub struct DetokenizeArgs {
    #[command(flatten)]
    vocab: VocabArgs,
    /// Each line of stdin is a JSON array, each line of stdout a JSON string, or {"hex": ...} where
    /// the bytes are no UTF-8
    #[arg(long)]
    jsonl: bool,
}

impl VocabArgs {
    fn load(&self) -> anyhow::Result<Tokenizer> {
        let path = super::options::resolve(self.model.as_deref(), false)?;
        let name = || format!("cannot use the vocabulary of {}", path.display());
        let gguf = Gguf::open(&path, Access::Mmap).with_context(name)?;
        let tokenizer = load_tokenizer(&gguf, self.tokenizer.as_deref()).with_context(name)?;
        for warning in tokenizer.warnings() {
            eprintln!("warning: {warning}");
        }
        Ok(tokenizer)
    }

    fn encode(&self, tokenizer: &Tokenizer, text: &[u8]) -> anyhow::Result<Vec<u32>> {
        let special = if self.special { Special::Parse } else { Special::Plain };
        Ok(tokenizer.encode_bytes(text, special, self.special)?)
    }

    fn decode(&self, tokenizer: &Tokenizer, ids: &[u32]) -> anyhow::Result<Vec<u8>> {
        let show = if self.special { Show::All } else { Show::Text };
        Ok(tokenizer.decode_bytes(ids, show)?)
    }
}

pub fn tokenize(args: &TokenizeArgs) -> anyhow::Result<ExitCode> {
    let tokenizer = args.vocab.load()?;
    if args.jsonl {
        return each_line(|line| {
            let text: String = serde_json::from_str(line).context("expected a JSON string")?;
            let ids = args.vocab.encode(&tokenizer, text.as_bytes())?;
            Ok(serde_json::to_string(&ids)?)
        });
    }
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text).context("stdin")?;
    let ids = args.vocab.encode(&tokenizer, &text)?;
    let words: Vec<String> = ids.iter().map(u32::to_string).collect();
    out::write_all((words.join(" ") + "\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub fn detokenize(args: &DetokenizeArgs) -> anyhow::Result<ExitCode> {
    let tokenizer = args.vocab.load()?;
    if args.jsonl {
        return each_line(|line| {
            let ids: Vec<u32> =
                serde_json::from_str(line).context("expected a JSON array of token ids")?;
            let bytes = args.vocab.decode(&tokenizer, &ids)?;
            let value = match String::from_utf8(bytes) {
                Ok(text) => Value::String(text),
                Err(e) => serde_json::json!({"hex": hex(e.as_bytes())}),
            };
            Ok(value.to_string())
        });
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("stdin")?;
    let ids: Vec<u32> = text
        .split_whitespace()
        .map(|word| word.parse().with_context(|| format!("{word:?} is not a token id")))
        .collect::<Result<_, _>>()?;
    out::write_all(&args.vocab.decode(&tokenizer, &ids)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Answers each line of stdin with a line of stdout, at once, so that it can serve as a filter.
pub(super) fn each_line(
    mut answer: impl FnMut(&str) -> anyhow::Result<String>,
) -> anyhow::Result<ExitCode> {
    let mut stdout = std::io::stdout().lock();
    for (i, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.with_context(|| format!("line {} of stdin", i + 1))?;
        if line.trim().is_empty() {
            bail!("line {} of stdin is empty", i + 1);
        }
        let answer = answer(&line).with_context(|| format!("line {} of stdin", i + 1))?;
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
