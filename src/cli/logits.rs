//! `pumice logits`: the logits after each of some tokens, for comparisons.

use super::options::EngineArgs;
use anyhow::{Context as _, bail};
use models::Cancel;
use pumice::engine::Engine;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Token ids, separated by white space
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// Token ids of the text that the encoder reads, for models that have one beside their decoder
    #[arg(long, value_name = "FILE")]
    encoder_tokens: Option<PathBuf>,
    /// Receives little-endian float32, [n_tokens, n_vocab]
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ids = read_ids(&args.tokens)?;
    let encoder_ids = args.encoder_tokens.as_deref().map(read_ids).transpose()?;
    let model = args.engine.open()?;
    let mut options = args.engine.session_options()?;
    let longest = ids.len().max(encoder_ids.as_ref().map_or(0, Vec::len));
    options.context.n_ctx.get_or_insert(longest);
    let mut engine = Engine::new(model.core(), &options.context, options.n_batch)?;
    if let Some(ids) = &encoder_ids {
        engine.encode(0, ids, &Cancel::new())?;
    }
    engine.set(0, &ids, ids.len())?;
    let name = || args.output.display().to_string();
    let mut file = BufWriter::new(File::create(&args.output).with_context(name)?);
    let mut outcome = Ok(());
    let cancel = Cancel::new();
    let mut bytes = Vec::new();
    let ran = engine.run(&cancel, &mut |_, _, logits| {
        bytes.clear();
        bytes.extend(logits.iter().flat_map(|v| v.to_le_bytes()));
        if outcome.is_ok() {
            outcome = file.write_all(&bytes);
            if outcome.is_err() {
                cancel.cancel();
            }
        }
    });
    outcome.and_then(|()| file.flush()).with_context(name)?;
    ran?;
    Ok(ExitCode::SUCCESS)
}

/// Ids of a text file.
fn read_ids(path: &std::path::Path) -> anyhow::Result<Vec<u32>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name}"))?;
    let ids: Vec<u32> = text
        .split_whitespace()
        .map(|word| word.parse().with_context(|| format!("{name}: {word:?} is not a token id")))
        .collect::<Result<_, _>>()?;
    if ids.is_empty() {
        bail!("{name}: no token ids in it");
    }
    Ok(ids)
}
