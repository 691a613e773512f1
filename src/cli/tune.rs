//! `pumice tune`: measures what is fastest on this machine, and keeps it.
//!
//! Steps of a model with random weights, larger than caches are, with each setting in turn; the best of each
//! counts, since other load only ever makes a step slower. A setting other than the default must gain enough
//! to be more than luck.

use super::bench::cpu_name;
use super::bench::table;
use super::out;
use anyhow::Context as _;
use models::device::{default_threads, memory_limit, usable_threads};
use models::{Cancel, ContextOptions};
use pumice::Model;
use pumice::engine::Engine;
use pumice::synth::{Recipe, Shape};
use pumice::tuning::{self, Found, Machine, Tuning};
use quant::Isa;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Shapes with random weights: the first that leaves memory for others is taken.
const SHAPES: [&str; 2] = ["qwen3-0.6b", "smollm2-135m"];
/// A model may take this part of memory.
const MEMORY_PART: u64 = 4;
/// Distances that are tried, in bytes, beside the default.
const DISTANCES: [usize; 6] = [0, 1 << 10, 2 << 10, 6 << 10, 12 << 10, 24 << 10];
/// Tokens of a prompt that is timed.
const N_PROMPT: usize = 64;
/// Rounds over all settings, fewer where time runs out.
const ROUNDS: usize = 12;
/// The part of the default's time that another setting must stay below.
const GAIN: f64 = 0.97;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Say what is fastest, but do not keep it
    #[arg(long)]
    dry_run: bool,
    /// Most seconds to measure for
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Instruction set of the kernels [default: the best this CPU has]
    #[arg(long, value_name = "NAME", env = "PUMICE_ISA")]
    isa: Option<Isa>,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    quiet: bool,
}

/// This machine, as the file of figures knows it.
pub(super) fn machine(isa: Isa) -> Machine {
    Machine {
        pumice: env!("CARGO_PKG_VERSION").into(),
        cpu: cpu_name(),
        usable_threads: usable_threads(),
        isa: isa.name().into(),
    }
}

/// The figures that hold for this machine; without them, why not.
pub(super) fn stored(isa: Isa) -> Found {
    tuning::path().map_or(Found::Nothing, |path| Tuning::load(&path, &machine(isa)))
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let isa = args.isa.unwrap_or_else(Isa::detect).check()?;
    let say = |what: &str| {
        if !args.quiet {
            eprintln!("{what}");
        }
    };
    let bench = Bench::new(isa, Duration::from_secs(args.seconds.into()))?;
    say("threads of single tokens");
    let decode = bench.threads(1)?;
    let n_threads = decode.choice();
    say("threads of prompts");
    let prompt = bench.threads(N_PROMPT)?;
    say("prefetch distance");
    let prefetch = bench.distances(n_threads)?;
    let tuning =
        Tuning { prefetch_bytes: prefetch.choice(), n_threads, n_threads_batch: prompt.choice() };
    let parts = [
        ("threads, tokens", &decode),
        ("threads, prompts", &prompt),
        ("prefetch bytes", &prefetch),
    ];
    let rows: Vec<_> = parts.iter().flat_map(|(name, trials)| trials.rows(name)).collect();
    let mut text = table(&["setting", "value", "t/s", "taken"], &rows);
    if args.dry_run {
        text += "\nnot kept (--dry-run)\n";
    } else {
        let path = tuning::path().context("no folder to keep figures in: set PUMICE_HOME")?;
        tuning
            .save(&path, &machine(isa))
            .with_context(|| format!("cannot write {}", path.display()))?;
        text += &format!("\nkept in {}\n", path.display());
    }
    out::write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The same steps with several values of a setting; the first is the default.
struct Trials {
    /// (value, seconds of the best step)
    best: Vec<(usize, f64)>,
    /// Rows of a step.
    n_rows: usize,
}

impl Trials {
    fn new(default: usize, others: impl IntoIterator<Item = usize>, n_rows: usize) -> Trials {
        let mut best = vec![(default, f64::MAX)];
        for value in others {
            if best.iter().all(|(v, _)| *v != value) {
                best.push((value, f64::MAX));
            }
        }
        Trials { best, n_rows }
    }

    /// The fastest value, or the default unless that one gains enough.
    fn choice(&self) -> usize {
        let (default, time) = self.best[0];
        let fastest = self.best.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        fastest.filter(|(_, t)| *t < GAIN * time).map_or(default, |(value, _)| *value)
    }

    fn rows(&self, name: &str) -> Vec<Vec<String>> {
        let row = |(value, time): &(usize, f64)| {
            let taken = if *value == self.choice() { "yes" } else { "" };
            let speed = format!("{:.1}", self.n_rows as f64 / time);
            vec![name.to_owned(), value.to_string(), speed, taken.to_owned()]
        };
        self.best.iter().map(row).collect()
    }
}

/// A model with random weights, and steps of it.
struct Bench {
    model: Model,
    isa: Isa,
    start: Instant,
    most: Duration,
}

impl Bench {
    fn new(isa: Isa, most: Duration) -> anyhow::Result<Bench> {
        let start = Instant::now();
        let memory = memory_limit().map_or(u64::MAX, |m| m.bytes);
        let mut last = None;
        for name in SHAPES {
            let shape = Shape::find(name).context("a shape of the list")?;
            let gguf = pumice::synth::build(shape, Recipe::Q4KM)?;
            let model = Model::from_gguf(gguf)?;
            let fits = model.core().weight_bytes() < memory / MEMORY_PART;
            last = Some(model);
            if fits {
                break;
            }
        }
        Ok(Bench { model: last.context("a shape")?, isa, start, most })
    }

    fn engine(&self, n_threads: usize) -> anyhow::Result<Engine> {
        let options = ContextOptions {
            n_ctx: Some(2 * N_PROMPT),
            n_threads: Some(n_threads),
            // The trials compare numbers of threads: nobody else may choose them.
            steady: true,
            isa: self.isa,
            ..ContextOptions::default()
        };
        Ok(Engine::new(self.model.core(), &options, N_PROMPT)?)
    }

    /// Seconds of a step of `n_rows` rows.
    fn step(engine: &mut Engine, n_rows: usize) -> anyhow::Result<f64> {
        engine.truncate(0, 0);
        let ids: Vec<u32> = (0..n_rows as u32).collect();
        engine.push(0, &ids, 1)?;
        let start = Instant::now();
        engine.run(&Cancel::new(), &mut |_, _, _| {})?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Whether `part` of the time is over.
    fn over(&self, part: f64) -> bool {
        self.start.elapsed() > self.most.mul_f64(part)
    }

    /// Numbers of threads: the default, all hardware threads, and halves of that.
    fn threads(&self, n_rows: usize) -> anyhow::Result<Trials> {
        let halves = std::iter::successors(Some(usable_threads()), |n| Some(n / 2));
        let mut trials =
            Trials::new(default_threads(), halves.take(4).take_while(|&n| n > 0), n_rows);
        let mut engines: Vec<Engine> =
            trials.best.iter().map(|&(n, _)| self.engine(n)).collect::<Result<_, _>>()?;
        let until = if n_rows == 1 { 0.4 } else { 0.8 };
        for round in 0..ROUNDS {
            for (engine, (_, best)) in engines.iter_mut().zip(&mut trials.best) {
                let time = Bench::step(engine, n_rows)?;
                // The first round warms up.
                *best = if round == 0 { f64::MAX } else { best.min(time) };
            }
            if round > 0 && self.over(until) {
                break;
            }
        }
        Ok(trials)
    }

    fn distances(&self, n_threads: usize) -> anyhow::Result<Trials> {
        let before = quant::prefetch_distance();
        let mut trials = Trials::new(quant::DEFAULT_PREFETCH, DISTANCES, 1);
        let mut engine = self.engine(n_threads)?;
        Bench::step(&mut engine, 1)?;
        for _ in 0..ROUNDS {
            for (distance, best) in &mut trials.best {
                quant::set_prefetch_distance(*distance);
                *best = best.min(Bench::step(&mut engine, 1)?);
            }
            if self.over(1.0) {
                break;
            }
        }
        quant::set_prefetch_distance(before);
        Ok(trials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_setting_must_gain_more_than_luck() {
        let mut trials = Trials::new(4, [8, 4, 2], 1);
        assert_eq!(trials.best.iter().map(|b| b.0).collect::<Vec<_>>(), [4, 8, 2]);
        trials.best[0].1 = 1.0;
        trials.best[1].1 = 0.98;
        assert_eq!(trials.choice(), 4);
        trials.best[2].1 = 0.9;
        assert_eq!(trials.choice(), 2);
        assert_eq!(trials.rows("x")[2], ["x", "2", "1.1", "yes"]);
        assert_eq!(trials.rows("x")[0], ["x", "4", "1.0", ""]);
    }
}
