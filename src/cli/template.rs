//! `pumice template`: renders conversations.

use super::tokenize::each_line;
use anyhow::Context as _;
use formats::{Access, Gguf};
use pumice::text::template::{ChatTemplate, RenderInput, render_jsonl};
use std::path::PathBuf;
use std::process::ExitCode;

/// Whose chat template.
#[derive(clap::Args)]
pub(super) struct TemplateArgs {
    /// Model file or catalogue name whose chat template is used
    #[arg(short, long, value_name = "FILE|NAME", conflicts_with = "template")]
    model: Option<String>,
    /// A file that holds a Jinja template
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: TemplateArgs,
    /// Each line of stdin is an object (messages, tools, kwargs, add_generation_prompt, now,
    /// absent, bos_token, eos_token), each line of stdout a JSON string or {"error": message}
    #[arg(long, required = true)]
    jsonl: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let template = ChatTemplate::new(&args.source.read()?)?;
    each_line(|line| Ok(render_jsonl(&template, line)))
}

impl TemplateArgs {
    /// The template's text.
    pub(super) fn read(&self) -> anyhow::Result<String> {
        if let Some(path) = &self.template {
            return std::fs::read_to_string(path).with_context(|| path.display().to_string());
        }
        let path = super::options::resolve(self.model.as_deref(), false)?;
        let gguf = Gguf::open(&path, Access::Mmap)?;
        let found = gguf.metadata().str("tokenizer.chat_template")?;
        found.map(str::to_string).with_context(|| {
            format!("{}: metadata key \"tokenizer.chat_template\" is missing", path.display())
        })
    }
}

/// How the prompts of a template end; `None` if a plain conversation cannot be rendered.
pub(super) fn tail_of(template: &str) -> Option<String> {
    let messages = serde_json::json!([{"role": "user", "content": "a"}]);
    let template = ChatTemplate::new(template).ok()?;
    let text = template.render(&RenderInput::new(messages)).ok()?;
    let tail = text.char_indices().rev().nth(63).map_or(0, |(at, _)| at);
    Some(text[tail..].to_owned())
}
