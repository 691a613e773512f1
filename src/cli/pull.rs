//! `pumice pull`, `pumice list` and `pumice rm`, and what a `-m` without a path means.

use super::out;
use pumice::hub::catalogue::{CATALOGUE, DEFAULT};
use pumice::hub::{Hub, Options, Voice};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct PullArgs {
    /// Catalogue name, hf:OWNER/REPO, hf:OWNER/REPO:QUANT or hf:OWNER/REPO:FILE
    #[arg(default_value = DEFAULT)]
    name: String,
    /// Say nothing on stderr
    #[arg(short, long)]
    quiet: bool,
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// One JSON object per model in the cache folder, without the catalogue
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct RmArgs {
    /// Names of models in the cache folder
    #[arg(required = true)]
    names: Vec<String>,
}

fn hub(quiet: bool) -> anyhow::Result<Hub> {
    let mut options = Options::from_env()?;
    options.voice = if quiet { Voice::Quiet } else { Voice::Normal };
    Ok(Hub::new(options))
}

/// The file of `-m`: a path, or a name that is pulled where it is not here; the default without.
pub(super) fn resolve(name: Option<&str>, quiet: bool) -> anyhow::Result<PathBuf> {
    let name = name.unwrap_or(DEFAULT);
    let path = PathBuf::from(name);
    // a path needs no cache folder
    if path.exists() {
        return Ok(path);
    }
    Ok(hub(quiet)?.resolve(name)?)
}

pub(super) fn pull(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let pulled = hub(args.quiet)?.pull(&args.name)?;
    if !args.quiet && !pulled.fresh {
        eprintln!("{} is here already", pulled.model.name);
    }
    out::write_all(format!("{}\n", pulled.model.path.display()).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let models = hub(true)?.list()?;
    let mut text = String::new();
    if args.json {
        for model in &models {
            let mut object = serde_json::to_value(model)?;
            object["path"] = model.path.display().to_string().into();
            writeln!(text, "{object}")?;
        }
    } else {
        for m in &models {
            let megabytes = m.size_bytes as f64 / 1e6;
            writeln!(text, "{:24} {megabytes:9.1} MB  here       {}", m.name, m.path.display())?;
        }
        for e in CATALOGUE.iter().filter(|e| models.iter().all(|m| m.name != e.name)) {
            let megabytes = e.size_bytes as f64 / 1e6;
            writeln!(text, "{:24} {megabytes:9.1} MB  catalogue  {}", e.name, e.licence)?;
        }
    }
    out::write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn rm(args: &RmArgs) -> anyhow::Result<ExitCode> {
    let hub = hub(false)?;
    for name in &args.names {
        let freed = hub.remove(name)?;
        eprintln!("removed {name} ({:.1} MB)", freed as f64 / 1e6);
    }
    Ok(ExitCode::SUCCESS)
}
