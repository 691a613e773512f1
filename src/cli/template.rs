//! `pumice template`: renders conversations.

use super::tokenize::each_line;
use anyhow::Context as _;
use formats::{Access, Gguf};
use pumice::text::template::{ChatTemplate, render_jsonl};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Model file or catalogue name whose chat template is used
    #[arg(short, long, value_name = "FILE|NAME", conflicts_with = "template")]
    model: Option<String>,
    /// A file that holds a Jinja template
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// Each line of stdin is an object (messages, tools, kwargs, add_generation_prompt, now,
    /// absent, bos_token, eos_token), each line of stdout a JSON string or {"error": message}
    #[arg(long, required = true)]
    jsonl: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let template = ChatTemplate::new(&source(args)?)?;
    each_line(|line| Ok(render_jsonl(&template, line)))
}

/// The template's text.
fn source(args: &Args) -> anyhow::Result<String> {
    if let Some(path) = &args.template {
        return std::fs::read_to_string(path).with_context(|| path.display().to_string());
    }
    let path = super::options::resolve(args.model.as_deref(), false)?;
    let gguf = Gguf::open(&path, Access::Mmap)?;
    let found = gguf.metadata().str("tokenizer.chat_template")?;
    found.map(str::to_string).with_context(|| {
        format!("{}: metadata key \"tokenizer.chat_template\" is missing", path.display())
    })
}
