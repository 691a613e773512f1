//! `pumice rerank`: documents by how well they answer a query.

use super::embed::{embedder, stdin_lines};
use super::options::EngineArgs;
use super::out;
use models::spec::Pooling;
use pumice::{EmbedOptions, pair_tokens};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// What is looked for; the documents are the lines of stdin
    query: String,
    /// Print an array of objects: index (line of the document, from 0), score, document
    #[arg(long)]
    json: bool,
    /// Print the best N only
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Cut longer pairs to N tokens, special ones included [default: they are refused]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    truncate: Option<u32>,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let model = args.engine.open()?;
    let documents = stdin_lines()?;
    let pairs = documents.iter().map(|d| pair_tokens(&model, &args.query, d));
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let options = EmbedOptions {
        pooling: Some(Pooling::Rank),
        truncate: args.truncate.map(|n| n as usize),
        ..EmbedOptions::default()
    };
    let scores = embedder(&args.engine, &model, options, &pairs)?.embed_tokens(pairs)?;
    let mut ranked: Vec<(f32, usize)> =
        scores.iter().enumerate().map(|(i, s)| (s.first().copied().unwrap_or(0.0), i)).collect();
    // Equal scores keep the order of the documents.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.truncate(args.top.unwrap_or(usize::MAX));
    out::write_all(report(&ranked, &documents, args.json).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn report(ranked: &[(f32, usize)], documents: &[String], json: bool) -> String {
    if json {
        let entry = |&(score, index): &(f32, usize)| serde_json::json!({"index": index, "score": score, "document": documents[index]});
        let all: Vec<String> = ranked.iter().map(|r| entry(r).to_string()).collect();
        return format!("[{}]\n", all.join(",\n"));
    }
    ranked.iter().map(|(score, i)| format!("{score:.6}\t{}\n", documents[*i])).collect()
}
