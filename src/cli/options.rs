//! The engine's options: one struct on every command that loads a model.

use super::tune;
use anyhow::Context as _;
use formats::Access;
use models::ActBits;
use models::ContextOptions;
use pumice::tuning::{Found, Tuning};
use pumice::unmask::UnmaskOptions;
use pumice::{Model, ModelOptions, Session, SessionOptions};
use quant::{Isa, KvType};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Short forms of more than one letter, which people's fingers know; clap has none, so they are
/// turned into the long ones.
const SHORT_FORMS: &[(&str, &str)] = &[
    ("-ub", "--ubatch-size"),
    ("-tb", "--threads-batch"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
];

/// The arguments with short forms of several letters replaced; what follows `--` is left alone.
pub(super) fn long_forms(
    args: impl IntoIterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    let mut verbatim = false;
    args.into_iter().map(move |arg| {
        verbatim |= arg == "--";
        let long = SHORT_FORMS.iter().find(|(short, _)| !verbatim && arg == *short);
        long.map_or(arg, |(_, long)| (*long).into())
    })
}

/// Which model, and how it runs.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Engine")]
pub(super) struct EngineArgs {
    /// Model file, catalogue name or hf:OWNER/REPO[:QUANT] [default: smollm2:135m]
    #[arg(short, long, value_name = "FILE|NAME")]
    pub(super) model: Option<String>,
    /// Threads [default: physical cores that the process may use]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) threads: Option<u16>,
    /// Threads of prompts [default: as --threads] [short form: -tb]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) threads_batch: Option<u16>,
    /// Tie each thread to a processor
    #[arg(long)]
    pub(super) pin: bool,
    /// Positions of the context [default: the model's, at most 4096]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) ctx_size: Option<u32>,
    /// Most tokens handed to the engine at a time
    #[arg(short, long, value_name = "N", default_value_t = 2048,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) batch_size: u32,
    /// Most tokens that go through the layers at a time [short form: -ub]
    #[arg(long, value_name = "N", default_value_t = 512,
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(super) ubatch_size: u32,
    /// Type of cached keys: f32, f16, bf16, q8_0, q4_0 [short form: -ctk]
    #[arg(long, value_name = "TYPE", default_value_t = KvType::F16)]
    pub(super) cache_type_k: KvType,
    /// Type of cached values: f32, f16, bf16, q8_0, q4_0 [short form: -ctv]
    #[arg(long, value_name = "TYPE", default_value_t = KvType::F16)]
    pub(super) cache_type_v: KvType,
    /// Instruction set of the kernels [default: the best this CPU has]
    #[arg(long, value_name = "NAME", env = "PUMICE_ISA")]
    pub(super) isa: Option<Isa>,
    /// Pay no heed to what `pumice tune` found out
    #[arg(long, env = "PUMICE_NO_TUNE_FILE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) no_tune_file: bool,
    /// The same bits for every micro-batch size; long prompts take longer
    #[arg(long)]
    pub(super) deterministic: bool,
    /// Read the model into memory instead of mapping the file; implies --no-repack
    #[arg(long)]
    pub(super) no_mmap: bool,
    /// Activations that meet quantized weights: i8, or i16 (nearly exact, long prompts take twice the
    /// time)
    #[arg(long, value_name = "TYPE", default_value_t = ActBits::I8)]
    pub(super) act: ActBits,
    /// Use the weights in place in the file instead of copying them into a faster layout
    #[arg(long)]
    pub(super) no_repack: bool,
    /// Keep the model's pages in memory; implies --no-repack
    #[arg(long)]
    pub(super) mlock: bool,
    /// A tokenizer.json to use instead of the file's own vocabulary
    #[arg(long, value_name = "FILE")]
    pub(super) tokenizer: Option<PathBuf>,
    /// Say more on stderr
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Say nothing on stderr but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
}

/// How models write that fill masks (diffusion models); others have no use for it.
#[derive(clap::Args)]
pub(super) struct UnmaskArgs {
    /// Steps in which a diffusion model fills its answer [default: one for each token]
    #[arg(long, value_name = "N")]
    diffusion_steps: Option<std::num::NonZeroUsize>,
    /// Tokens that a diffusion model fills before it begins the next [default: what its authors use]
    #[arg(long, value_name = "N")]
    diffusion_block: Option<std::num::NonZeroUsize>,
}

impl UnmaskArgs {
    fn options(&self) -> UnmaskOptions {
        UnmaskOptions {
            steps: self.diffusion_steps.map(usize::from),
            block: self.diffusion_block.map(usize::from),
        }
    }
}

impl EngineArgs {
    /// The file that `--model` means; without it, the default model, pulled when absent.
    ///
    /// # Errors
    /// An unknown name, or a failed download.
    pub(super) fn path(&self) -> anyhow::Result<PathBuf> {
        super::options::resolve(self.model.as_deref(), self.quiet)
    }

    /// How the file is opened.
    pub(super) fn model_options(&self) -> ModelOptions {
        ModelOptions {
            access: if self.no_mmap { Access::Read } else { Access::Mmap },
            mlock: self.mlock,
            tokenizer: self.tokenizer.clone(),
        }
    }

    /// How sessions run.
    ///
    /// # Errors
    /// An instruction set that this CPU does not have.
    pub(super) fn session_options(&self) -> anyhow::Result<SessionOptions> {
        let isa = self.isa.unwrap_or_else(Isa::detect).check()?;
        let tuned = tuned(isa, self.no_tune_file, self.quiet);
        let [n_threads, n_threads_batch] = threads(self.threads, self.threads_batch, tuned);
        Ok(SessionOptions {
            context: ContextOptions {
                n_ctx: self.ctx_size.map(|n| n as usize),
                n_seq: 1,
                n_total: None,
                n_ubatch: self.ubatch_size as usize,
                type_k: self.cache_type_k,
                type_v: self.cache_type_v,
                n_threads,
                n_threads_batch,
                steady: false,
                pin: self.pin,
                isa,
                deterministic: self.deterministic,
                memory: None,
                act: self.act,
                repack: !(self.no_repack || self.no_mmap || self.mlock),
            },
            n_batch: self.batch_size as usize,
            ..SessionOptions::default()
        })
    }

    /// Opens the model.
    ///
    /// # Errors
    /// As [`EngineArgs::path`] and [`Model::open`].
    pub(super) fn open(&self) -> anyhow::Result<Model> {
        Self::open_file(&self.path()?, self.model_options())
    }

    /// Opens a model file.
    ///
    /// # Errors
    /// As [`Model::open`], with the file's name.
    pub(super) fn open_file(path: &Path, options: ModelOptions) -> anyhow::Result<Model> {
        Model::open(path, options).with_context(|| format!("cannot load {}", path.display()))
    }

    /// Makes a session and says on stderr what a user should know of it.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub(super) fn session(&self, model: &Model, unmask: &UnmaskArgs) -> anyhow::Result<Session> {
        let options = SessionOptions { unmask: unmask.options(), ..self.session_options()? };
        let made = super::loading::watched(model, self.quiet, || Session::new(model, &options));
        let session = made.with_context(|| {
            let path = model.gguf().path().map(|p| p.display().to_string());
            format!("cannot run {}", path.unwrap_or_default())
        })?;
        let context = session.context();
        for ty in context.replaced_kernels() {
            let isa = context.isa();
            eprintln!(
                "warning: the {isa} kernels for {ty} are wrong on this machine; slow ones run"
            );
        }
        if let (Some(wanted), false) = (context.lowered_from(), self.quiet) {
            let n_ctx = context.n_ctx();
            eprintln!("note: a context of {wanted} does not fit in memory; using {n_ctx}");
        }
        if self.verbose {
            let hp = model.core().hparams();
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let memory = context.memory();
            eprintln!(
                "{} · {} layers · context {} · {} threads · {} · {:.0} MiB weights, {:.0} MiB \
                 cache, {:.0} MiB scratch",
                hp.arch,
                hp.n_layer,
                context.n_ctx(),
                context.n_threads(),
                context.isa(),
                mib(memory.weights),
                mib(memory.state),
                mib(memory.scratch),
            );
        }
        Ok(session)
    }
}

/// What `pumice tune` found out on this machine; the kernels are told their part. `None` where nobody tuned, or
/// nobody is to heed it, or the file is of no use, which is said.
pub(super) fn tuned(isa: Isa, ignored: bool, quiet: bool) -> Option<Tuning> {
    match if ignored { Found::Nothing } else { tune::stored(isa) } {
        Found::Nothing => None,
        Found::Unusable(why) => {
            if !quiet {
                eprintln!("note: passing over what `pumice tune` found: {why}");
            }
            None
        }
        Found::Tuning(tuning) => {
            quant::set_prefetch_distance(tuning.prefetch_bytes);
            Some(tuning)
        }
    }
}

/// Threads of steps of few rows and of prompts: as asked for, else as tuned. Who asks for the one without the
/// other means both.
pub(super) fn threads(
    asked: Option<u16>,
    asked_batch: Option<u16>,
    tuned: Option<Tuning>,
) -> [Option<usize>; 2] {
    let tuned = tuned.filter(|_| asked.is_none());
    [
        asked.map(usize::from).or(tuned.map(|t| t.n_threads)),
        asked_batch.map(usize::from).or(tuned.map(|t| t.n_threads_batch)),
    ]
}

/// The file behind a name.
#[cfg(feature = "hub")]
pub(super) fn resolve(name: Option<&str>, quiet: bool) -> anyhow::Result<PathBuf> {
    crate::cli::pull::resolve(name, quiet)
}

/// Without the hub, names are paths.
#[cfg(not(feature = "hub"))]
pub(super) fn resolve(name: Option<&str>, _quiet: bool) -> anyhow::Result<PathBuf> {
    name.map(PathBuf::from).context(
        "no model given: pass -m FILE (this build cannot download one: it lacks the hub feature)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_comes_before_what_was_tuned() {
        let tuned = Some(Tuning { prefetch_bytes: 0, n_threads: 6, n_threads_batch: 8 });
        assert_eq!(threads(None, None, None), [None, None]);
        assert_eq!(threads(None, None, tuned), [Some(6), Some(8)]);
        assert_eq!(threads(None, Some(3), tuned), [Some(6), Some(3)]);
        assert_eq!(threads(Some(2), None, tuned), [Some(2), None]);
        assert_eq!(threads(Some(2), Some(3), tuned), [Some(2), Some(3)]);
    }
}
