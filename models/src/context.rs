//! A model, and a context in which its sequences run.

mod embed;
mod encode;
mod options;
#[cfg(test)]
mod tests;

pub use embed::Text;
pub use options::{ActBits, ContextOptions};

use crate::arch;
use crate::device::{
    MemoryLimit, Repack, available_memory, default_threads, memory_limit, usable_threads,
};
use crate::error::Error;
use crate::exec;
use crate::hparams::Hparams;
use crate::ops::{Buffers, Cx, OUT_ROWS};
use crate::plan::Plan;
use crate::profile::Profile;
use crate::spec::ModelSpec;
use crate::state::{State, StateOptions};
use crate::step::{self, Batch, Row};
use crate::team::{Cancel, Stop, Team, TeamOptions, Worker};
use formats::{Gguf, TensorType};
use quant::{Isa, Vector};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Context when nobody asks for one, where the model was trained with at least as much.
pub const DEFAULT_N_CTX: usize = 4096;
/// A default context is not lowered below this to make a model fit.
const LEAST_N_CTX: usize = 256;
/// Rows of a micro-batch by default.
pub const DEFAULT_N_UBATCH: usize = 512;

/// A file understood as a model: hyper-parameters and spec. Tensors are looked at when a
/// [`Context`] is made.
#[derive(Debug)]
pub struct Model {
    hp: Hparams,
    spec: ModelSpec,
    /// Weights with rows side by side, once a context wanted them.
    repack: OnceLock<Arc<Repack>>,
}

impl Model {
    /// Reads the metadata of `gguf`.
    ///
    /// # Errors
    /// An unknown architecture, or metadata that are missing, of a wrong type or out of range.
    pub fn new(gguf: Arc<Gguf>) -> Result<Model, Error> {
        let arch = arch::find(&gguf)?;
        let hp = Hparams::read(gguf, arch.name)?;
        let spec = (arch.spec)(&hp)?;
        Ok(Model { hp, spec, repack: OnceLock::new() })
    }

    /// The hyper-parameters.
    pub fn hparams(&self) -> &Hparams {
        &self.hp
    }

    /// The architecture of this file as data.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The file.
    pub fn gguf(&self) -> &Arc<Gguf> {
        self.hp.gguf()
    }

    /// Context when nobody asks for one: what the model was trained with and [`DEFAULT_N_CTX`] bound
    /// it.
    fn default_n_ctx(&self) -> usize {
        self.hp.n_ctx_train.min(DEFAULT_N_CTX)
    }

    /// Bytes of weights that were laid side by side so far, of how many, while or after a context is
    /// made; `None` when nobody asked for it.
    pub fn repacked(&self) -> Option<(u64, u64)> {
        self.repack.get().map(|copy| copy.progress())
    }

    /// Where rows are laid side by side for `options`; `None` when that is not wanted, gains nothing or
    /// memory is short.
    fn repack(
        &self,
        options: &ContextOptions,
        limit: Option<MemoryLimit>,
    ) -> Result<Option<&Arc<Repack>>, Error> {
        if !options.repack || options.isa == Isa::Scalar {
            return Ok(None);
        }
        if self.repack.get().is_none() {
            // The pages of a mapped file are given back; a file in memory stays.
            let copies = if self.gguf().is_mapped() { 1 } else { 2 };
            let taken = self.weight_bytes().saturating_mul(copies);
            if limit.is_some_and(|l| taken > l.bytes / 4 * 3)
                || available_memory().is_some_and(|free| self.weight_bytes() > free / 10 * 9)
            {
                return Ok(None);
            }
            let copy = Arc::new(Repack::new(self.gguf())?);
            // Another thread may have been first: then that one is used.
            let _ = self.repack.set(copy);
        }
        Ok(self.repack.get())
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        self.gguf().tensors().iter().map(|t| t.n_bytes).sum()
    }
}

/// What a context takes of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Tensors, in place in the file.
    pub weights: u64,
    /// Keys, values and other per-sequence state, when full.
    pub state: u64,
    /// Activations.
    pub scratch: u64,
}

/// A matrix of a plan and the kernels that multiply it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelUse {
    /// The tensor.
    pub tensor: String,
    /// Its type.
    pub ty: TensorType,
    /// The kernel family.
    pub kernel: &'static str,
}

/// What a context would be, without one being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Positions a sequence may hold.
    pub n_ctx: usize,
    /// Worker threads.
    pub n_threads: usize,
    /// What it takes of memory.
    pub memory: MemoryUse,
    /// The kernels in use, one entry a matrix.
    pub kernels: Vec<KernelUse>,
}

/// A model bound to kernels, with memory for its sequences and a team of threads.
pub struct Context {
    model: Arc<Model>,
    plan: Plan,
    team: Team,
    bufs: Buffers,
    state: State,
    /// What the encoder left.
    memory: Option<State>,
    batch: Batch,
    /// The rows of the batch whose logits are wanted.
    narrow: Batch,
    narrow_rows: Vec<Row>,
    /// Positions each sequence would have after the step; scratch of the check.
    next: Vec<usize>,
    vec: Vector,
    deterministic: bool,
    lowered_from: Option<usize>,
    #[cfg(test)]
    fault: Option<crate::ops::Fault>,
}

impl Context {
    /// Binds `model` and takes the memory for `options`.
    ///
    /// # Errors
    /// Tensors that do not fit the architecture, types without kernels, or [`Error::Memory`] when
    /// weights, cache and scratch exceed what the machine or the cgroup has.
    pub fn new(model: Arc<Model>, options: &ContextOptions) -> Result<Context, Error> {
        let threads = threads(options);
        let n_threads = threads.most();
        let mut n_ctx = options.n_ctx.unwrap_or(model.default_n_ctx()).max(1);
        let first = n_ctx;
        let given = options.memory.map(|bytes| MemoryLimit { bytes, source: "the options" });
        let limit = given.or_else(memory_limit);
        let repack = model.repack(options, limit)?.cloned();
        let (plan, state_options) = loop {
            let n_ubatch = n_ubatch(&model, options, n_ctx);
            let choice = options.choice(repack.as_ref());
            let plan = Plan::new(&model.hp, &model.spec, choice, n_ctx, n_ubatch)?;
            let state = StateOptions {
                n_ctx,
                n_seq: options.n_seq.max(1),
                n_total: options.n_total,
                n_ubatch,
                type_k: options.type_k,
                type_v: options.type_v,
            };
            match fits(memory(&model, &plan, &state, n_threads), limit) {
                Ok(()) => break (plan, state),
                // Only a default gives way: what was asked for is refused with the figures.
                Err(_) if options.n_ctx.is_none() && n_ctx > LEAST_N_CTX => n_ctx /= 2,
                Err(e) => return Err(e),
            }
        };
        let mut team = Team::with(threads)
            .map_err(|source| Error::System { what: "cannot start a worker thread", source })?;
        if let Some(copy) = &repack {
            copy.fill(&mut team)?;
        }
        Ok(Context {
            bufs: Buffers::new(plan.widths.clone(), state_options.n_ubatch, n_threads),
            state: State::new(&plan.layout, state_options),
            memory: plan.encoder.as_ref().map(|_| State::new(&plan.memory, state_options)),
            batch: Batch::default(),
            narrow: Batch::default(),
            narrow_rows: Vec::new(),
            next: Vec::new(),
            vec: Vector::new(options.choice(None).isa),
            deterministic: options.deterministic,
            lowered_from: (n_ctx < first).then_some(first),
            #[cfg(test)]
            fault: None,
            model,
            plan,
            team,
        })
    }

    /// What [`Context::new`] would make of `options` if memory were no object: nothing is taken and
    /// no thread is started, so that it can be asked about models that this machine cannot run.
    ///
    /// # Errors
    /// Tensors that do not fit the architecture, or types without kernels.
    pub fn estimate(model: &Model, options: &ContextOptions) -> Result<Estimate, Error> {
        let threads = threads(options);
        let n_threads = threads.most();
        let n_ctx = options.n_ctx.unwrap_or(model.default_n_ctx()).max(1);
        let n_ubatch = n_ubatch(model, options, n_ctx);
        let choice = options.choice(model.repack(options, memory_limit())?);
        let plan = Plan::new(&model.hp, &model.spec, choice, n_ctx, n_ubatch)?;
        let state = StateOptions {
            n_ctx,
            n_seq: options.n_seq.max(1),
            n_total: options.n_total,
            n_ubatch,
            type_k: options.type_k,
            type_v: options.type_v,
        };
        let memory = memory(model, &plan, &state, n_threads);
        Ok(Estimate { n_ctx, n_threads, memory, kernels: kernels(&plan) })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Positions a sequence may hold.
    pub fn n_ctx(&self) -> usize {
        self.state.options().n_ctx
    }

    /// The default context that memory did not allow, when it was lowered.
    pub fn lowered_from(&self) -> Option<usize> {
        self.lowered_from
    }

    /// Worker threads.
    pub fn n_threads(&self) -> usize {
        self.team.n_threads()
    }

    /// Begins to note where the time of steps goes, anew, or ends it.
    pub fn set_profiled(&mut self, on: bool) {
        self.team.set_profiled(on);
    }

    /// Where the time of steps went since [`Context::set_profiled`].
    pub fn profile(&self) -> Profile {
        self.team.profile()
    }

    /// Instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.vec.isa()
    }

    /// Columns of the logits: ids, padding included.
    pub fn n_vocab(&self) -> usize {
        self.plan.widths.n_vocab
    }

    /// Positions that sequence `seq` holds.
    pub fn len(&self, seq: usize) -> usize {
        self.state.len(seq)
    }

    /// Whether no sequence holds anything.
    pub fn is_empty(&self) -> bool {
        self.state.is_empty()
    }

    /// What this context takes of memory.
    pub fn memory(&self) -> MemoryUse {
        memory(&self.model, &self.plan, self.state.options(), self.n_threads())
    }

    /// The kernels in use, one entry a matrix.
    pub fn kernels(&self) -> Vec<KernelUse> {
        kernels(&self.plan)
    }

    /// The types whose fast kernels gave wrong results when they were checked, so that the portable
    /// ones run instead. Empty on a machine and a build that are sound.
    pub fn replaced_kernels(&self) -> Vec<TensorType> {
        let replaced = self.plan.linears().into_iter().filter(|l| l.is_replaced(self.isa()));
        let mut types: Vec<_> = replaced.map(|l| l.m.ty).collect();
        types.sort_unstable_by_key(|ty| ty.id());
        types.dedup();
        types
    }

    /// Bytes that one decode row reads at least, when its sequence holds `len` positions: all
    /// weights that it is multiplied with, and its keys and values.
    pub fn decode_bytes(&self, len: usize) -> u64 {
        let weights =
            self.plan.linears().iter().map(|l| self.used(l.m.n_bytes(), l.m.n_expert)).sum();
        let o = self.state.options();
        let kv = self.plan.layout.kv.iter().map(|s| {
            let rows = s.window.map_or(len, |w| len.min(w)) * s.n_head_kv;
            (rows * s.row_bytes(o).iter().sum::<usize>()) as u64
        });
        kv.fold(weights, |a, b| a + b)
    }

    /// Operations (a multiplication and an addition are two) in the matrices of the layers for one
    /// row; attention, and the output matrix, which most rows of a prompt do not meet, are left out.
    pub fn row_operations(&self) -> u64 {
        let linears = self.plan.linears();
        let layers = &linears[..linears.len() - usize::from(self.plan.output.is_some())];
        layers.iter().map(|l| 2 * self.used(l.m.rows * l.m.cols * l.m.n_expert, l.m.n_expert)).sum()
    }

    /// The part of `n` that one row uses, of a tensor of `n_expert` experts.
    fn used(&self, n: usize, n_expert: usize) -> u64 {
        let experts = self.model.hp.n_expert_used.min(n_expert).max(1);
        (n / n_expert * if n_expert > 1 { experts } else { 1 }) as u64
    }

    /// Cuts `seq` back to at most `len` positions; see [`State::truncate`]. Returns the new length,
    /// which is smaller than `len` where earlier state cannot be brought back exactly: the caller
    /// runs the tokens from there again.
    pub fn truncate(&mut self, seq: usize, len: usize) -> usize {
        self.state.truncate(seq, len)
    }

    /// Makes `to` continue from what `from` holds.
    pub fn fork(&mut self, from: usize, to: usize) {
        self.state.fork(from, to);
        if let Some(memory) = &mut self.memory {
            memory.fork(from, to);
        }
    }

    /// Runs `rows` through the model, in micro-batches, and hands the logits of the rows that want
    /// them to `sink`, as (index in `rows`, `[n_vocab]`), in order.
    ///
    /// # Errors
    /// A bad row or a context overflow before anything runs; cancellation, a failed worker or
    /// logits that are not finite leave the sequences as they were before the micro-batch that
    /// failed ([`Context::len`] tells how far that is).
    pub fn step(
        &mut self,
        rows: &[Row],
        cancel: &Cancel,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        if self.plan.output.is_none() {
            return Err(Error::NoLogits { arch: self.model.hp.arch.clone() });
        }
        let options = *self.state.options();
        let state = &self.state;
        step::check(rows, self.n_vocab(), options.n_seq, |s| state.len(s), &mut self.next)?;
        for (seq, &next) in self.next.iter().enumerate() {
            if next > options.n_ctx {
                let used = self.state.len(seq);
                let n_ctx = options.n_ctx;
                return Err(Error::ContextOverflow { seq, used, asked: next - used, n_ctx });
            }
        }
        self.check_encoded(rows)?;
        self.model.gguf().check_unchanged()?;
        let whole = !self.model.spec.is_causal();
        let mut base = 0;
        while base < rows.len() {
            let part = step::piece(&rows[base..], options.n_ubatch, whole);
            self.batch.set(part);
            self.narrow_rows.clear();
            self.narrow_rows.extend(part.iter().filter(|r| r.logits));
            self.narrow.set(&self.narrow_rows);
            if whole {
                step::check_whole(&self.batch, base)?;
            }
            self.reserve()?;
            let outcome = self.micro_batch(base, cancel, sink);
            self.settle(outcome)?;
            base += part.len();
        }
        Ok(())
    }

    /// Makes room for the batch: for all of it or, in an error, for nothing.
    fn reserve(&mut self) -> Result<(), Error> {
        let seq = self.batch.segments.first().map_or(0, |s| s.seq);
        self.state.check_total(seq, self.batch.rows.len())?;
        self.batch.segments.iter().try_for_each(|s| self.state.reserve(s.seq, s.rows.len()))
    }

    /// Counts the batch as run, or takes it back.
    fn settle(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        for s in &self.batch.segments {
            match outcome {
                Ok(()) => self.state.commit(s.seq, s.rows.len()),
                Err(_) => self.state.abandon(s.seq),
            }
        }
        outcome
    }

    /// Runs the batch; `base` is the index of its first row in the step.
    fn micro_batch(
        &mut self,
        base: usize,
        cancel: &Cancel,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let bad_layer = AtomicU32::new(u32::MAX);
        let cx = Cx {
            batch: &self.batch,
            bufs: &self.bufs,
            state: &self.state,
            memory: self.memory.as_ref(),
            vec: self.vec,
            deterministic: self.deterministic,
            bad_layer: &bad_layer,
            #[cfg(test)]
            fault: self.fault,
        };
        let plan = &self.plan;
        let n_wanted = self.batch.wanted.len();
        let is_narrow = plan.stack.narrow.is_some() && n_wanted < self.batch.rows.len();
        let narrow = is_narrow.then_some(&self.narrow);
        // Where the wanted rows stand in the stream when the layers are done.
        let stand = narrow.map_or(&self.batch.wanted, |batch| &batch.wanted);
        let mut groups = stand.chunks(OUT_ROWS).zip(self.batch.wanted.chunks(OUT_ROWS));
        // The first rows of logits belong to the same run: a decode step wakes the team once.
        let (mut at, mut wanted) = groups.next().unwrap_or_default();
        let mut first = true;
        self.bufs.reset();
        loop {
            let job = |w: &Worker<'_>| -> Result<(), Stop> {
                if first {
                    exec::layers(w, &cx, &plan.stack, &plan.ropes, narrow)?;
                }
                match &plan.output {
                    Some(output) if !at.is_empty() => exec::output(w, &cx, plan, output, at),
                    _ => Ok(()),
                }
            };
            match first {
                true => self.team.step(self.batch.rows.len(), cancel, &job)?,
                false => self.team.again(cancel, &job)?,
            }
            first = false;
            for (i, &row) in wanted.iter().enumerate() {
                let n = self.plan.widths.n_vocab;
                // SAFETY: the team is at rest.
                let logits = unsafe { self.bufs.logits.part(i * n..(i + 1) * n) };
                let row = base + row as usize;
                if self.vec.check_finite(logits).is_some() {
                    let origin = origin(bad_layer.load(Ordering::Relaxed), plan.stack.layers.len());
                    return Err(Error::NotFinite { row, origin });
                }
                sink(row, logits);
            }
            match groups.next() {
                Some(next) => (at, wanted) = next,
                None => return Ok(()),
            }
        }
    }
}

/// Names the place whose result was the first that was not finite: `reader` is the first layer
/// that read one.
fn origin(reader: u32, n_layer: usize) -> String {
    match reader as usize {
        0 => "the token embedding".into(),
        r if r <= n_layer => format!("layer {}", r - 1),
        _ => "the output matrix".into(),
    }
}

/// Most rows that go through the layers at a time. Where attention looks both ways, a sequence
/// cannot be cut, so that they are never fewer than a context.
fn n_ubatch(model: &Model, options: &ContextOptions, n_ctx: usize) -> usize {
    match model.spec.is_causal() && model.spec.encoder.is_none() {
        true => options.n_ubatch.clamp(1, n_ctx),
        false => options.n_ubatch.max(n_ctx),
    }
}

/// Threads that options ask for, no more than can run at a time unless they insist.
fn threads(options: &ContextOptions) -> TeamOptions {
    let most = if options.steady { usize::MAX } else { usable_threads() };
    let n_threads = options.n_threads.unwrap_or_else(default_threads).clamp(1, most);
    TeamOptions {
        n_threads,
        n_threads_batch: options.n_threads_batch.unwrap_or(n_threads).clamp(1, most),
        steady: options.steady,
        pin: options.pin,
    }
}

fn kernels(plan: &Plan) -> Vec<KernelUse> {
    let entry = |l: &&crate::ops::linear::Linear| KernelUse {
        tensor: l.m.name.clone(),
        ty: l.m.ty,
        kernel: l.kernel_id(),
    };
    plan.linears().iter().map(entry).collect()
}

fn memory(model: &Model, plan: &Plan, state: &StateOptions, n_threads: usize) -> MemoryUse {
    MemoryUse {
        weights: model.weight_bytes(),
        state: plan.layout.bytes(state) + plan.memory.bytes(state),
        scratch: Buffers::bytes(&plan.widths, state.n_ubatch, n_threads),
    }
}

fn fits(need: MemoryUse, limit: Option<MemoryLimit>) -> Result<(), Error> {
    let Some(limit) = limit else { return Ok(()) };
    let total =
        [need.weights, need.state, need.scratch].iter().fold(0u64, |a, b| a.saturating_add(*b));
    if total <= limit.bytes {
        return Ok(());
    }
    Err(Error::Memory {
        weights: need.weights >> 20,
        kv: need.state >> 20,
        scratch: need.scratch >> 20,
        limit: limit.bytes >> 20,
        source_of_limit: limit.source,
    })
}
