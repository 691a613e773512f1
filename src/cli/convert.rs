//! `pumice convert`: a published checkpoint to a GGUF file.

use anyhow::Context as _;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Folder with config.json, vocab.txt and model.safetensors (BERT with a WordPiece vocabulary)
    folder: PathBuf,
    /// Receives the model
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = || format!("cannot convert {}", args.folder.display());
    let converted = pumice::convert::convert(&args.folder).with_context(name)?;
    if !args.quiet && !converted.dropped.is_empty() {
        eprintln!("note: without use in the model: {}", converted.dropped.join(", "));
    }
    std::fs::write(&args.output, converted.bytes)
        .with_context(|| args.output.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
