//! `pumice archs`.

use super::out;
use std::fmt::Write;
use std::process::ExitCode;

pub fn run() -> anyhow::Result<ExitCode> {
    let width = models::arch::ARCHS.iter().map(|a| a.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for arch in models::arch::ARCHS {
        writeln!(text, "{:width$}  {}", arch.name, arch.features)?;
    }
    out::write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
