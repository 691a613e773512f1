//! `pumice pull`, `list` and `rm`: models by name.

use super::out;
use pumice::hub::catalogue::{CATALOGUE, DEFAULT};
use pumice::hub::{Hub, Options, Voice};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct PullArgs {
    /// Catalogue name, or hf:OWNER/REPO[:QUANT|:FILE]
    name: String,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// Names that can be pulled, too
    #[arg(short, long)]
    all: bool,
}

#[derive(clap::Args)]
pub(super) struct RemoveArgs {
    /// Name of a model in the cache folder
    name: String,
}

/// The file of a path or a name; the default model without either. Pulls what is not here.
pub(super) fn resolve(name: Option<&str>, quiet: bool) -> anyhow::Result<PathBuf> {
    Ok(hub(quiet)?.resolve(name.unwrap_or(DEFAULT))?)
}

fn hub(quiet: bool) -> anyhow::Result<Hub> {
    let mut options = Options::from_env()?;
    if quiet {
        options.voice = Voice::Quiet;
    }
    Ok(Hub::new(options))
}

pub(super) fn pull(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let pulled = hub(args.quiet)?.pull(&args.name)?;
    out::write_all(format!("{}\n", pulled.model.path.display()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let cached = hub(true)?.list()?;
    let mut text = String::new();
    for model in &cached {
        let mb = model.size_bytes as f64 / 1e6;
        writeln!(text, "{:24} {mb:8.0} MB  {}", model.name, model.path.display())?;
    }
    if args.all {
        for entry in CATALOGUE.iter().filter(|e| cached.iter().all(|c| c.name != e.name)) {
            let mb = entry.size_bytes as f64 / 1e6;
            writeln!(text, "{:24} {mb:8.0} MB  not pulled; {}", entry.name, entry.licence)?;
        }
    }
    out::write_all(text.as_bytes())?;
    if text.is_empty() {
        eprintln!("no models yet; `pumice list --all` shows what `pumice pull` knows by name");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn remove(args: &RemoveArgs) -> anyhow::Result<ExitCode> {
    let freed = hub(true)?.remove(&args.name)?;
    eprintln!("{}: removed, {:.0} MB freed", args.name, freed as f64 / 1e6);
    Ok(ExitCode::SUCCESS)
}
