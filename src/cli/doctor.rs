//! `pumice doctor`: what the machine is, which kernels run and why, and what speed to expect.

use super::bench::cpu_name;
use super::bench::limits::{Limits, Measured};
use super::options::EngineArgs;
use super::out;
use models::device::{default_threads, memory_limit};
use models::{Context, ContextOptions};
use pumice::tuning::Found;
use quant::Isa;
use std::process::ExitCode;

/// The part of the read bandwidth, or of the int8 peak, that the kernels reach: what decode and
/// prefill of usual models came to on the machines that they were tuned on.
const EXPECTED: [f64; 2] = [0.7, 0.45];

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// Do not measure the machine's limits
    #[arg(long)]
    no_measure: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = args.engine.session_options()?.context;
    let n_threads = options.n_threads.unwrap_or_else(default_threads);
    let mut text = machine(options.isa, n_threads) + &tuned(args, options.isa);
    let measured = if args.no_measure {
        None
    } else {
        let measured = Limits::new(n_threads)?.measure(options.isa)?;
        text += &limits(measured, n_threads);
        Some(measured)
    };
    if args.engine.model.is_some() {
        text += &model(args, &options, measured)?;
    } else {
        text += "\nWith -m FILE it says what speed to expect of a model.\n";
    }
    out::write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn machine(isa: Isa, n_threads: usize) -> String {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let rows: Vec<&str> = Isa::available().iter().map(|i| i.name()).collect();
    let best = Isa::detect();
    let why = if isa == best { "the best of these" } else { "as asked for" };
    let memory = memory_limit().map_or("unknown".into(), |m| {
        format!("{:.1} GiB ({})", m.bytes as f64 / f64::from(1 << 30), m.source)
    });
    format!(
        "processor     {}\nthreads       {n_threads} in use, {usable} hardware threads usable\n\
         kernels       {}: {why} that this processor runs ({})\nmemory        {memory}\n",
        cpu_name(),
        isa.name(),
        rows.join(", "),
    )
}

/// What `pumice tune` found out.
fn tuned(args: &Args, isa: Isa) -> String {
    let said = match super::tune::stored(isa) {
        _ if args.engine.no_tune_file => "not heeded (--no-tune-file)".into(),
        Found::Nothing => "not yet: `pumice tune` finds out what is fastest here".into(),
        Found::Unusable(why) => format!("not used: {why}"),
        Found::Tuning(t) => format!(
            "{} threads for tokens, {} for prompts, weights asked for {} bytes ahead",
            t.n_threads, t.n_threads_batch, t.prefetch_bytes
        ),
    };
    format!("tuned         {said}\n")
}

fn limits(m: Measured, n_threads: usize) -> String {
    let peak = m.peak.map_or("not measured for this instruction set".into(), |p| {
        format!("{:.0} GOP/s", p * 1e-9)
    });
    format!(
        "read speed    {:.1} GB/s on {n_threads} threads\nint8 peak     {peak}\n",
        m.bandwidth * 1e-9
    )
}

/// What a file needs and how fast it should be.
fn model(
    args: &Args,
    options: &ContextOptions,
    measured: Option<Measured>,
) -> anyhow::Result<String> {
    let model = args.engine.open()?;
    let context = Context::new(model.core().clone(), options)?;
    let memory = context.memory();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "\nmodel         {}, {} layers\nmemory needed {:.0} MiB weights, {:.0} MiB cache for {} \
         positions, {:.0} MiB scratch\n",
        model.core().hparams().arch,
        model.core().hparams().n_layer,
        mib(memory.weights),
        mib(memory.state),
        context.n_ctx(),
        mib(memory.scratch),
    );
    for ty in context.replaced_kernels() {
        text += &format!(
            "broken        the {} kernels for {ty} gave wrong results; slow ones run\n",
            context.isa()
        );
    }
    if let Some(m) = measured {
        for depth in [0, context.n_ctx().saturating_sub(1)] {
            let most = m.bandwidth / context.decode_bytes(depth) as f64;
            text += &format!(
                "decode        about {:.0} t/s with {depth} positions held (at most {most:.0})\n",
                EXPECTED[0] * most
            );
        }
        if let Some(peak) = m.peak {
            let most = peak / context.row_operations() as f64;
            text += &format!(
                "prefill       about {:.0} t/s for short prompts (at most {most:.0})\n",
                EXPECTED[1] * most
            );
        }
    }
    Ok(text)
}
