//! `pumice perplexity`: how well a model predicts a text.
//!
//! The figure is llama.cpp's, so that it can be compared: the whole text is tokenized once and cut
//! into chunks of the context's size, what is left over is dropped. Each chunk runs from an empty
//! context, its first token replaced by BOS where the file asks for one, and of its predictions
//! the second half counts: those made at positions n_ctx/2 to n_ctx-2, the first of which have
//! half a context to go by. The perplexity is exp(mean negative log-likelihood).

use super::options::EngineArgs;
use super::out;
use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use models::Cancel;
use pumice::Model;
use pumice::engine::Engine;
use pumice::text::tokenizer::Special;
use std::path::PathBuf;
use std::process::ExitCode;

/// Positions of a chunk when nobody says.
const DEFAULT_N_CTX: usize = 512;
/// A shorter chunk has no prediction to score.
const LEAST_N_CTX: usize = 3;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The text
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Score the first N chunks only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// Print one JSON object: ppl, nll (mean per token), n_tokens (scored), stderr (of ppl),
    /// n_ctx, chunk_nll (sum of each chunk)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let model = args.engine.open()?;
    let mut options = args.engine.session_options()?;
    let n_ctx = *options.context.n_ctx.get_or_insert(DEFAULT_N_CTX);
    if n_ctx < LEAST_N_CTX {
        bail!("-c {n_ctx} leaves nothing to score: expected at least {LEAST_N_CTX}");
    }
    let text = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    let ids = model.tokenizer()?.encode_bytes(&text, Special::Plain, true)?;
    if ids.len() < n_ctx {
        bail!(
            "{}: the text has {} tokens, but a chunk has {n_ctx}: expected a longer text or a \
             smaller -c",
            args.file.display(),
            ids.len()
        );
    }
    let mut engine = Engine::new(model.core(), &options.context, options.n_batch)?;
    let all = ids.len() / n_ctx;
    let n_chunks = args.chunks.map_or(all, |n| all.min(n as usize));
    let bar = progress_bar(args, n_chunks);
    let mut score = Score::default();
    for chunk in ids.chunks_exact(n_ctx).take(n_chunks) {
        score_chunk(&mut engine, &with_bos(&model, chunk)?, &mut score)?;
        bar.set_message(format!("{:.4}", score.ppl()));
        bar.inc(1);
    }
    bar.finish_and_clear();
    out::write_all(report(&score, n_ctx, args.json).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn progress_bar(args: &Args, n_chunks: usize) -> ProgressBar {
    // indicatif itself stays silent where stderr is no terminal.
    let bar =
        if args.engine.quiet { ProgressBar::hidden() } else { ProgressBar::new(n_chunks as u64) };
    let style = "{bar:30} {pos}/{len} chunks · perplexity {msg} · {eta} left";
    bar.with_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// The chunk as it is run.
fn with_bos(model: &Model, chunk: &[u32]) -> anyhow::Result<Vec<u32>> {
    let tokenizer = model.tokenizer()?;
    let mut ids = chunk.to_vec();
    if let (true, Some(bos)) = (tokenizer.adds().bos, tokenizer.special().bos) {
        ids[0] = bos;
    }
    Ok(ids)
}

/// Runs a chunk of n_ctx tokens and adds what its second half costs.
fn score_chunk(engine: &mut Engine, ids: &[u32], score: &mut Score) -> anyhow::Result<()> {
    let scored = ids.len() / 2..ids.len() - 1;
    engine.truncate(0, 0);
    engine.set(0, ids, ids.len() - scored.start)?;
    let mut sum = 0.0;
    engine.run(&Cancel::new(), &mut |_, pos, logits| {
        if scored.contains(&pos) {
            let nll = nll(logits, ids[pos + 1] as usize);
            sum += nll;
            score.squares += nll * nll;
            score.n_tokens += 1;
        }
    })?;
    score.chunks.push(sum);
    Ok(())
}

/// What a token costs: -ln softmax(logits)[id]. `step` has checked that `id` is in range.
fn nll(logits: &[f32], id: usize) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&v| (f64::from(v) - max).exp()).sum();
    max + sum.ln() - f64::from(logits[id])
}

/// Sums over the scored predictions.
#[derive(Default)]
struct Score {
    n_tokens: usize,
    /// Sum of each chunk.
    chunks: Vec<f64>,
    /// Sum of the squares.
    squares: f64,
}

impl Score {
    /// Mean negative log-likelihood.
    fn nll(&self) -> f64 {
        self.chunks.iter().sum::<f64>() / self.n_tokens as f64
    }

    fn ppl(&self) -> f64 {
        self.nll().exp()
    }

    /// Standard error of the perplexity, to first order; `None` for a single prediction.
    fn stderr(&self) -> Option<f64> {
        if self.n_tokens < 2 {
            return None;
        }
        let n = self.n_tokens as f64;
        let variance = (self.squares / n - self.nll().powi(2)).max(0.0);
        Some(self.ppl() * (variance / (n - 1.0)).sqrt())
    }
}

fn report(score: &Score, n_ctx: usize, json: bool) -> String {
    let (ppl, stderr) = (score.ppl(), score.stderr());
    if json {
        let object = serde_json::json!({
            "ppl": ppl,
            "nll": score.nll(),
            "n_tokens": score.n_tokens,
            "stderr": stderr,
            "n_ctx": n_ctx,
            "chunk_nll": score.chunks,
        });
        return format!("{object}\n");
    }
    let error = stderr.map_or(String::new(), |e| format!(" ± {e:.4}"));
    let (n, chunks) = (score.n_tokens, score.chunks.len());
    format!("perplexity {ppl:.4}{error} ({n} tokens scored in {chunks} chunks of {n_ctx})\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certain_token_costs_nothing_and_equal_ones_the_logarithm_of_their_number() {
        assert_eq!(nll(&[1000.0, -1000.0], 0), 0.0);
        assert_eq!(nll(&[1000.0, -1000.0], 1), 2000.0);
        assert!((nll(&[-3.0; 8], 5) - 8f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn the_standard_error_is_that_of_the_mean_times_the_perplexity() {
        // Costs 1, 2, 3: mean 2, variance of the mean (14/3 - 4) / 2.
        let score = Score { n_tokens: 3, chunks: vec![1.0, 5.0], squares: 14.0 };
        assert_eq!(score.nll(), 2.0);
        let expected = 2f64.exp() * (1f64 / 3.0).sqrt();
        assert!((score.stderr().unwrap() - expected).abs() < 1e-12);
        let single = Score { n_tokens: 1, chunks: vec![2.0], squares: 4.0 };
        assert_eq!(single.stderr(), None);
    }
}
