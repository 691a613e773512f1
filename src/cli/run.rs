//! `pumice run`: one prompt, one answer.

use super::answer::{Answer, ThinkArgs};
use super::interrupt::{self, Interrupt};
use super::options::{EngineArgs, UnmaskArgs};
use anyhow::{Context as _, bail};
use pumice::sample::SamplerArgs;
use pumice::{Finish, Limits, Message, Model, Session};
use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The prompt
    #[arg(value_name = "PROMPT", group = "source")]
    text: Option<String>,
    /// The prompt
    #[arg(short, long, value_name = "TEXT", group = "source")]
    prompt: Option<String>,
    /// A file that holds the prompt
    #[arg(short, long, value_name = "FILE", group = "source")]
    file: Option<PathBuf>,
    /// A system message before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long)]
    raw: bool,
    /// Do not read stdin
    #[arg(long)]
    no_stdin: bool,
    /// Most tokens to generate [default: until the end of the answer; 128 for diffusion models]
    #[arg(short, long, value_name = "N")]
    n_predict: Option<usize>,
    /// A text that ends the answer (may be given several times)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    thinking: ThinkArgs,
    #[command(flatten)]
    sampling: SamplerArgs,
    #[command(flatten)]
    unmask: UnmaskArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let prompt = prompt(&args)?;
    let model = args.engine.open()?;
    let tokenizer = model.tokenizer()?;
    if !args.engine.quiet {
        tokenizer.warnings().iter().for_each(|w| eprintln!("warning: {w}"));
    }
    let asks = args.thinking.options();
    let (ids, mut answer, shown) = if args.raw {
        if asks.think.is_some() {
            bail!("--think and --no-think are for the chat template, which --raw leaves out");
        }
        (model.raw_tokens(&prompt)?, Answer::raw(), vec![])
    } else {
        let system = args.system.iter().map(|text| Message::new("system", text));
        let messages: Vec<Message> = system.chain([Message::new("user", prompt)]).collect();
        let prompt = model.chat_prompt(&messages, &asks)?;
        if !prompt.steered && !args.engine.quiet {
            eprintln!("{}", ThinkArgs::UNKNOWN);
        }
        let answer = Answer::new(&model, &prompt)?;
        (prompt.tokens, answer, model.answer_markers()?)
    };
    let mut session = args.engine.session(&model, &args.unmask)?;
    let loaded = start.elapsed();
    let interrupt = Interrupt::install(session.cancel_flag())?;
    // The first Ctrl-C ends the answer, the second the program.
    let _watch = interrupt.watch(1);
    let mut sampler = session.sampler(&args.sampling.over(model.sampler_options())?)?;
    ids.iter().for_each(|&id| sampler.accept(id));

    match session.set_prompt(&ids) {
        Err(e) if e.is_cancelled() => return Ok(interrupt::exit_code()),
        outcome => outcome?,
    }
    let (mut first, mut written) = (None, Ok(()));
    let limits = Limits { n_predict: args.n_predict, stop: args.stop, shown };
    let finish = session.generate(&mut sampler, &limits, &mut |text| {
        first.get_or_insert_with(|| start.elapsed());
        written = answer.push(text);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    // A reader that went away is handled where errors are reported.
    written?;
    let finish = finish?;
    answer.finish()?;
    if !args.engine.quiet {
        report(&session, loaded, first, finish, sampler.seed());
    }
    Ok(match finish {
        Finish::Cancelled => interrupt::exit_code(),
        _ => ExitCode::SUCCESS,
    })
}

/// The prompt from the arguments, with stdin after it.
fn prompt(args: &Args) -> anyhow::Result<String> {
    let mut parts = Vec::new();
    parts.extend(args.text.clone().or(args.prompt.clone()));
    if let Some(path) = &args.file {
        let text = std::fs::read_to_string(path);
        parts.push(text.with_context(|| path.display().to_string())?);
    }
    if !args.no_stdin && stdin_has_text() {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("stdin")?;
        if !text.trim().is_empty() {
            parts.push(text);
        }
    }
    if parts.is_empty() {
        bail!("no prompt: pass it as an argument, with -p or -f, or on stdin");
    }
    Ok(parts.join("\n\n"))
}

/// Whether stdin is a pipe or a file: a terminal or a null device is not waited for.
fn stdin_has_text() -> bool {
    if std::io::stdin().is_terminal() {
        return false;
    }
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::FileTypeExt;
        let Ok(fd) = std::io::stdin().as_fd().try_clone_to_owned() else { return false };
        let file = std::fs::File::from(fd);
        file.metadata().is_ok_and(|m| m.is_file() || m.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    true
}

fn report(session: &Session, loaded: Duration, first: Option<Duration>, finish: Finish, seed: u64) {
    let t = session.timings();
    let rate = |n: usize, time: Duration| n as f64 / time.as_secs_f64().max(1e-9);
    let decode = rate(t.n_decode, t.decode);
    let first = first.map_or(String::new(), |d| format!(" · first token {}", ms(d)));
    eprintln!(
        "load {}{first} · prefill {} tokens, {:.1} t/s · decode {} tokens, {decode:.1} t/s, \
         {:.1} GB/s · seed {seed}",
        ms(loaded),
        t.n_prefill,
        rate(t.n_prefill, t.prefill),
        t.n_decode,
        decode * bytes_per_token(session.model()) as f64 / 1e9,
    );
    match finish {
        Finish::ContextFull => {
            let n_ctx = session.context().n_ctx();
            eprintln!("note: the context of {n_ctx} is full; a larger one is set with -c");
        }
        Finish::Length => eprintln!("note: ended by -n; the answer may be incomplete"),
        Finish::EndOfAnswer(_) | Finish::StopText | Finish::Cancelled => {}
    }
}

fn ms(d: Duration) -> String {
    format!("{:.0} ms", d.as_secs_f64() * 1e3)
}

/// Weights that one decoded token reads: all of them, but of an untied embedding only a row, and
/// of experts the share in use.
pub(super) fn bytes_per_token(model: &Model) -> u64 {
    let hp = model.core().hparams();
    let untied = model.gguf().tensor("output.weight").is_some();
    let bytes = |t: &formats::TensorInfo| match &*t.name {
        "token_embd.weight" if untied => 0,
        name if name.contains("_exps.") && hp.n_expert > 0 => {
            t.n_bytes * hp.n_expert_used as u64 / hp.n_expert as u64
        }
        _ => t.n_bytes,
    };
    model.gguf().tensors().iter().map(bytes).sum()
}
