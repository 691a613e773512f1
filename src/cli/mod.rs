//! The command line: one file per command.

mod answer;
mod archs;
mod bench;
mod chat;
mod convert;
mod doctor;
mod embed;
mod inspect;
mod interrupt;
mod loading;
mod logits;
mod options;
mod out;
mod parse;
mod perplexity;
#[cfg(feature = "hub")]
mod pull;
mod rerank;
mod run;
mod synth;
mod template;
mod tokenize;
mod tune;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Runs GGUF language models on the CPU.
#[derive(Parser)]
#[command(name = "pumice", version, about, max_term_width = 100)]
#[command(after_help = "Run 'pumice COMMAND --help' for a command's options.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer one prompt
    Run(Box<run::Args>),
    /// Talk with a model
    Chat(Box<chat::Args>),
    /// Show what a model file holds and what it needs
    Inspect(Box<inspect::Args>),
    /// Measure how well a model predicts a text
    Perplexity(Box<perplexity::Args>),
    /// Text on stdin to token ids
    Tokenize(tokenize::TokenizeArgs),
    /// Token ids on stdin to text
    Detokenize(tokenize::DetokenizeArgs),
    /// Render conversations with a chat template
    Template(template::Args),
    /// Take answers apart: thoughts, content, tool calls
    Parse(parse::Args),
    /// Make a model file of a published checkpoint (BERT so far)
    Convert(convert::Args),
    /// Turn texts into vectors
    Embed(Box<embed::Args>),
    /// Order documents by how well they answer a query
    Rerank(Box<rerank::Args>),
    /// Write the logits of given tokens to a file
    Logits(logits::Args),
    /// Measure a model's speed, and what the machine could do
    Bench(Box<bench::Args>),
    /// Say what this machine is, which kernels run and what speed to expect
    Doctor(Box<doctor::Args>),
    /// Find out what is fastest on this machine, and keep it
    Tune(tune::Args),
    /// Write a model with random weights: of a known shape, or a tiny one of any architecture
    Synth(synth::Args),
    /// Fetch a model by name
    #[cfg(feature = "hub")]
    Pull(pull::PullArgs),
    /// List the models in the cache folder
    #[cfg(feature = "hub")]
    List(pull::ListArgs),
    /// Remove a model from the cache folder
    #[cfg(feature = "hub")]
    Rm(pull::RemoveArgs),
    /// List the supported architectures
    Archs,
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// Parses the arguments, runs the command and reports its failure: exit code 1, or 2 for usage.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse_from(options::long_forms(std::env::args_os()));
    let outcome = match cli.command {
        Command::Run(args) => run::run(*args),
        Command::Chat(args) => chat::run(*args),
        Command::Inspect(args) => inspect::run(*args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Tokenize(args) => tokenize::tokenize(&args),
        Command::Detokenize(args) => tokenize::detokenize(&args),
        Command::Template(args) => template::run(&args),
        Command::Parse(args) => parse::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Rerank(args) => rerank::run(&args),
        Command::Logits(args) => logits::run(args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Synth(args) => synth::run(&args),
        #[cfg(feature = "hub")]
        Command::Pull(args) => pull::pull(&args),
        #[cfg(feature = "hub")]
        Command::List(args) => pull::list(&args),
        #[cfg(feature = "hub")]
        Command::Rm(args) => pull::remove(&args),
        Command::Archs => archs::run(),
        Command::Completions { shell } => completions(shell),
        Command::Man => man(),
    };
    match outcome {
        Ok(code) => code,
        Err(e) if out::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", described(&e));
            ExitCode::FAILURE
        }
    }
}

/// What failed and why, from the outside in. Many errors end in the words of their cause already:
/// those are not said twice.
pub(crate) fn described(e: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in e.chain().map(ToString::to_string) {
        if !text.is_empty() && !text.ends_with(&cause) {
            text.push_str(": ");
        }
        if !text.ends_with(&cause) {
            text.push_str(&cause);
        }
    }
    text
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pumice", &mut script);
    out::write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

fn man() -> anyhow::Result<ExitCode> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    out::write_all(&page)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = || std::io::Error::other("the disk is gone");
        let twice = anyhow::Error::new(cause()).context("cannot write x: the disk is gone");
        assert_eq!(described(&twice), "cannot write x: the disk is gone");
        let once = anyhow::Error::new(cause()).context("cannot write x");
        assert_eq!(described(&once), "cannot write x: the disk is gone");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
