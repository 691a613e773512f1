//! `pumice bench`: speed of models on this machine, in the shape of llama-bench, beside what the
//! machine could do.

mod kernels;
pub(super) mod limits;
mod measure;
mod profile;
mod report;

pub(super) use report::table;

use super::options::{self, EngineArgs};
use super::{out, synth};
use anyhow::bail;
use formats::Access;
use limits::Limits;
use measure::Test;
use models::device::{default_threads, usable_threads};
use models::{ActBits, ContextOptions};
use pumice::synth::{Recipe, Shape};
use pumice::tuning::Tuning;
use pumice::{Model, ModelOptions};
use quant::{Isa, KvType};
use report::{Entry, Format};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Model files or names; may be given several times [default: smollm2:135m]
    #[arg(short, long = "model", value_name = "FILE|NAME", conflicts_with = "shape")]
    models: Vec<String>,
    /// A random model of this shape instead of a file
    #[arg(long, value_name = "NAME", value_parser = synth::shape_names())]
    shape: Option<String>,
    /// Type of the random model's weights
    #[arg(long = "type", value_name = "TYPE", default_value = "Q4_K_M")]
    ty: Recipe,
    /// Prompt lengths; 0 for none
    #[arg(short = 'p', long, value_name = "N,..", value_delimiter = ',', default_value = "512")]
    n_prompt: Vec<u32>,
    /// Numbers of tokens generated one by one; 0 for none
    #[arg(short = 'n', long, value_name = "N,..", value_delimiter = ',', default_value = "128")]
    n_gen: Vec<u32>,
    /// Tokens that the context holds before
    #[arg(short = 'd', long, value_name = "N,..", value_delimiter = ',', default_value = "0")]
    n_depth: Vec<u32>,
    /// Threads [default: physical cores that the process may use]
    #[arg(short, long, value_name = "N,..", value_delimiter = ',')]
    threads: Vec<u16>,
    /// Threads of prompts [default: as --threads] [short form: -tb]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads_batch: Option<u16>,
    /// Tie each thread to a processor
    #[arg(long)]
    pin: bool,
    /// Most tokens handed to the engine at a time
    #[arg(short, long, value_name = "N,..", value_delimiter = ',', default_value = "2048")]
    batch_size: Vec<u32>,
    /// Most tokens that go through the layers at a time [short form: -ub]
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "512")]
    ubatch_size: Vec<u32>,
    /// Types of cached keys [short form: -ctk]
    #[arg(long, value_name = "TYPE,..", value_delimiter = ',', default_value = "f16")]
    cache_type_k: Vec<KvType>,
    /// Types of cached values [short form: -ctv]
    #[arg(long, value_name = "TYPE,..", value_delimiter = ',', default_value = "f16")]
    cache_type_v: Vec<KvType>,
    /// Repetitions of every test
    #[arg(short, long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Instruction set of the kernels [default: the best this CPU has]
    #[arg(long, value_name = "NAME", env = "PUMICE_ISA")]
    isa: Option<Isa>,
    /// Pay no heed to what `pumice tune` found out
    #[arg(long, env = "PUMICE_NO_TUNE_FILE", value_parser = clap::builder::FalseyValueParser::new())]
    no_tune_file: bool,
    /// Read models into memory instead of mapping them
    #[arg(long)]
    no_mmap: bool,
    /// Activations that meet quantized weights: i8 or i16 (nearly exact)
    #[arg(long, value_name = "TYPE", default_value_t = ActBits::I8)]
    act: ActBits,
    /// Use the weights in place instead of copying them into a faster layout
    #[arg(long)]
    no_repack: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "md")]
    output: Format,
    /// Say where the time goes: work by phase, and waiting
    #[arg(long)]
    profile: bool,
    /// Measure the kernels alone: of these types (as in Q4_K,Q8_0), or all
    #[arg(long, value_name = "TYPE,..", value_delimiter = ',', num_args = 0..,
          conflicts_with_all = ["models", "shape", "bandwidth", "peak"])]
    kernels: Option<Vec<String>>,
    /// Measure how fast the machine reads memory, and nothing else
    #[arg(long)]
    bandwidth: bool,
    /// Measure the int8 peak of the instruction set, and nothing else
    #[arg(long)]
    peak: bool,
    /// Do not measure the machine's limits beside the tests
    #[arg(long)]
    no_limits: bool,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

/// A way to run a model.
struct Setup {
    n_threads: usize,
    n_batch: usize,
    context: ContextOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let isa = args.isa.unwrap_or_else(Isa::detect).check()?;
    if let Some(types) = &args.kernels {
        return kernels::run(types, args.isa, args.output);
    }
    let tuned = options::tuned(isa, args.no_tune_file, args.quiet);
    let threads = threads(args, tuned)?;
    if args.bandwidth || args.peak {
        return limits_alone(args, isa, &threads);
    }
    let tests = tests(args)?;
    let setups = setups(args, isa, &threads, tuned)?;
    let mut entries = Vec::new();
    for model in models(args)? {
        for setup in &setups {
            entries.extend(measured(args, &model, setup, &tests)?);
        }
    }
    out::write_all(report::render(&entries, args.output).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn threads(args: &Args, tuned: Option<Tuning>) -> anyhow::Result<Vec<usize>> {
    match args.threads.iter().find(|&&n| n == 0 || n > 1024) {
        Some(n) => bail!("-t {n}: expected 1 to 1024 threads"),
        None if args.threads.is_empty() => {
            Ok(vec![tuned.map_or_else(default_threads, |t| t.n_threads)])
        }
        None => Ok(args.threads.iter().map(|&n| usize::from(n)).collect()),
    }
}

/// Every prompt length and every number of generated tokens at every depth.
fn tests(args: &Args) -> anyhow::Result<Vec<Test>> {
    let mut all = Vec::new();
    for &depth in &args.n_depth {
        let test = |n_prompt: u32, n_gen: u32| Test {
            n_prompt: n_prompt as usize,
            n_gen: n_gen as usize,
            n_depth: depth as usize,
        };
        all.extend(args.n_prompt.iter().filter(|&&p| p > 0).map(|&p| test(p, 0)));
        all.extend(args.n_gen.iter().filter(|&&g| g > 0).map(|&g| test(0, g)));
    }
    if all.is_empty() {
        bail!("-p and -n leave nothing to measure: give a number above 0");
    }
    Ok(all)
}

fn setups(
    args: &Args,
    isa: Isa,
    threads: &[usize],
    tuned: Option<Tuning>,
) -> anyhow::Result<Vec<Setup>> {
    if args.batch_size.contains(&0) || args.ubatch_size.contains(&0) {
        bail!("a batch of 0 tokens: expected 1 or more for -b and -ub");
    }
    let asked = args.threads.first().copied();
    let [_, n_threads_batch] = options::threads(asked, args.threads_batch, tuned);
    let mut all = Vec::new();
    for &n_threads in threads {
        for &n_batch in &args.batch_size {
            for &n_ubatch in &args.ubatch_size {
                for &type_k in &args.cache_type_k {
                    for &type_v in &args.cache_type_v {
                        let context = ContextOptions {
                            n_threads: Some(n_threads),
                            n_threads_batch,
                            pin: args.pin,
                            n_ubatch: n_ubatch as usize,
                            type_k,
                            type_v,
                            isa,
                            act: args.act,
                            repack: !(args.no_repack || args.no_mmap),
                            ..ContextOptions::default()
                        };
                        all.push(Setup { n_threads, n_batch: n_batch as usize, context });
                    }
                }
            }
        }
    }
    Ok(all)
}

/// The models with what they are called.
fn models(args: &Args) -> anyhow::Result<Vec<(String, Model)>> {
    if let Some(shape) = &args.shape {
        let shape = Shape::find(shape).expect("clap lets known names through alone");
        let name = format!("{} {} (random)", shape.name, args.ty);
        return Ok(vec![(name, Model::from_gguf(pumice::synth::build(shape, args.ty)?)?)]);
    }
    let names = args.models.iter().map(|m| Some(m.as_str()));
    let names: Vec<Option<&str>> =
        if args.models.is_empty() { vec![None] } else { names.collect() };
    let open = |name| -> anyhow::Result<(String, Model)> {
        let path: PathBuf = options::resolve(name, args.quiet)?;
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let access = if args.no_mmap { Access::Read } else { Access::Mmap };
        let options = ModelOptions { access, ..ModelOptions::default() };
        Ok((file, EngineArgs::open_file(&path, options)?))
    };
    names.into_iter().map(open).collect()
}

fn measured(
    args: &Args,
    (name, model): &(String, Model),
    setup: &Setup,
    tests: &[Test],
) -> anyhow::Result<Vec<Entry>> {
    let say = |what: &str| {
        if !args.quiet {
            eprintln!("{name}, {} threads: {what}", setup.n_threads);
        }
    };
    let usable = usable_threads();
    if setup.n_threads > usable {
        say(&format!("this process may use {usable} processors: so many threads run"));
    }
    let how = (args.repetitions as usize, args.profile);
    let samples = measure::run(model, &setup.context, setup.n_batch, tests, how, say)?;
    let limits = if args.no_limits {
        None
    } else {
        say("limits of the machine");
        Some(Limits::new(setup.n_threads.min(usable))?.measure(setup.context.isa)?)
    };
    let hp = model.core().hparams();
    let tensors = model.gguf().tensors();
    let entry = |(&test, samples)| Entry {
        model: name.clone(),
        model_type: hp.arch.clone(),
        model_bytes: model.core().weight_bytes(),
        n_params: tensors.iter().map(|t| t.n_elements()).sum(),
        n_threads: setup.n_threads,
        n_batch: setup.n_batch,
        n_ubatch: setup.context.n_ubatch,
        type_k: setup.context.type_k,
        type_v: setup.context.type_v,
        isa: setup.context.isa,
        cpu: cpu_name(),
        test,
        samples,
        limits,
    };
    Ok(tests.iter().zip(samples).map(entry).collect())
}

/// What the processor calls itself.
pub(super) fn cpu_name() -> String {
    let info = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("model name"));
    line.and_then(|l| l.split_once(':')).map_or(std::env::consts::ARCH, |(_, v)| v.trim()).into()
}

/// `--bandwidth` and `--peak`.
fn limits_alone(args: &Args, isa: Isa, threads: &[usize]) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    let mut json = Vec::new();
    for &n in threads {
        let mut limits = Limits::new(n)?;
        let bandwidth = args.bandwidth.then(|| limits.bandwidth()).transpose()?;
        let peak = if args.peak { limits.peak(isa)? } else { None };
        json.push(serde_json::json!({
            "cpu_info": cpu_name(),
            "n_threads": n,
            "isa": isa.name(),
            "read_bytes_per_second": bandwidth,
            "int8_operations_per_second": peak,
        }));
        let cell = |v: Option<f64>, digits: usize| {
            v.map_or("-".into(), |v| format!("{:.digits$}", v * 1e-9))
        };
        rows.push(vec![n.to_string(), isa.name().into(), cell(bandwidth, 2), cell(peak, 0)]);
    }
    let text = match args.output {
        Format::Json => format!("{:#}\n", serde_json::Value::Array(json)),
        _ => report::table(&["threads", "isa", "read GB/s", "int8 GOP/s"], &rows),
    };
    out::write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
