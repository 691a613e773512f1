//! The thread team: persistent workers that all run the same program over a step.
//!
//! [`Team::run`] hands one closure to every worker. Inside it the workers share a phase by
//! claiming chunks of it ([`Worker::claim`]) and meet at [`Worker::barrier`]. A barrier spins for a
//! short while and then parks, so that an oversubscribed or idle machine is not burnt up by
//! waiting. Cancellation and a panic of one worker travel through the barrier: every worker
//! leaves the step at the same place, nobody hangs.
//!
//! The calling thread is worker 0: a team of one has no threads of its own. [`Team::step`] leaves
//! workers out where other programs keep processors busy.

mod claims;
mod gate;
mod pace;
#[cfg(test)]
mod tests;

use crate::device::{PinOrder, pin_thread, usable_threads};
use crate::profile::{Clock, Phase, Profile, Record};
use claims::Claims;
use gate::{Gate, Spins};
use pace::Pace;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why a step ended before its last phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The caller's [`Cancel`] was set.
    Cancelled,
    /// A worker panicked; its message.
    Panicked(String),
}

/// A flag that ends a running step at its next phase. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }
    /// Asks the running step to end. May be called from any thread, also from a signal handler.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Takes the request back, so that the flag can serve the next step.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

const GO: u8 = 0;
const CANCELLED: u8 = 1;
const PANICKED: u8 = 2;

/// A lock whose holder panicked still guards plain counters: take it all the same.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the workers of one team share.
struct Shared {
    spins: Spins,
    /// One for each thread of the team: worker i + 1 waits at gate i.
    starts: Vec<Gate>,
    phase: Gate,
    /// Workers of the running job.
    n: AtomicUsize,
    /// How often a thread of the team was done with a job, in all.
    left: AtomicUsize,
    arrived: AtomicUsize,
    /// What is taken of the running phase.
    claims: Claims,
    /// GO, CANCELLED or PANICKED; written by the last arriver of a barrier or a failing worker.
    verdict: AtomicU8,
    /// Whether the meeting that just ended was the final gather.
    gathered: AtomicBool,
    /// Nanoseconds of the running job for which each worker waited at barriers, beyond what is usual.
    waited: Vec<AtomicU64>,
    /// Where each worker's time goes, when somebody wants to know.
    records: Vec<Record>,
    profiled: AtomicBool,
    message: Mutex<Option<String>>,
    job: Mutex<Option<Job>>,
    quit: AtomicBool,
}

/// A borrowed closure with its lifetime removed; valid while `Team::run` is on the stack.
#[derive(Clone, Copy)]
struct Job {
    call: *const (dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync),
    cancel: *const Cancel,
}
// SAFETY: the closure is Sync and Cancel is Sync; `Team::run` keeps both alive until every worker
// has left the job.
unsafe impl Send for Job {}

/// How a team works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TeamOptions {
    /// Workers of steps of few rows.
    pub n_threads: usize,
    /// Workers of steps of many rows.
    pub n_threads_batch: usize,
    /// Every step on all of them, also where other programs keep processors busy.
    pub steady: bool,
    /// Tie each worker to a processor; the first worker is the thread that starts the team.
    pub pin: bool,
}

impl TeamOptions {
    /// Workers of the team.
    pub fn most(&self) -> usize {
        self.n_threads.max(self.n_threads_batch).max(1)
    }
}

/// Most rows of a step of few rows: those are bound by memory, longer ones by arithmetic.
const FEW_ROWS: usize = 16;

/// A persistent team of worker threads.
pub struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    options: TeamOptions,
    pace: Pace,
    /// How often a thread was given a job, in all.
    started: usize,
    /// Time of all jobs since profiling began, and how many they were.
    profiled: (Duration, u64),
}

/// One worker's view of the running step.
pub struct Worker<'a> {
    index: usize,
    n: usize,
    shared: &'a Shared,
    cancel: &'a Cancel,
    clock: Clock<'a>,
}

impl Team {
    /// Starts a team of `n_threads` workers (at least one), the caller among them, all of which take
    /// part in everything.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn new(n_threads: usize) -> std::io::Result<Team> {
        let n_threads_batch = n_threads;
        Team::with(TeamOptions { n_threads, n_threads_batch, steady: true, pin: false })
    }

    /// Starts a team.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn with(options: TeamOptions) -> std::io::Result<Team> {
        let n = options.most();
        let crowded = n > usable_threads();
        let shared = Arc::new(Shared {
            spins: if crowded { Spins::NONE } else { Spins::of_this_machine() },
            starts: (1..n).map(|_| Gate::default()).collect(),
            phase: Gate::default(),
            n: AtomicUsize::new(1),
            left: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
            claims: Claims::new(n),
            verdict: AtomicU8::new(GO),
            gathered: AtomicBool::new(false),
            waited: (0..n).map(|_| AtomicU64::new(0)).collect(),
            records: (0..n).map(|_| Record::default()).collect(),
            profiled: AtomicBool::new(false),
            message: Mutex::new(None),
            job: Mutex::new(None),
            quit: AtomicBool::new(false),
        });
        let threads = Vec::with_capacity(n - 1);
        let pace = Pace::new(options.n_threads);
        let profiled = Default::default();
        let mut team = Team { shared, threads, options, pace, started: 0, profiled };
        let order = options.pin.then(PinOrder::new);
        for index in 1..n {
            let (shared, order) = (team.shared.clone(), order.clone());
            let main = move || {
                // Where a thread cannot be tied it runs where the system likes.
                order.map(|order| pin_thread(&order, index));
                worker_main(&shared, index);
            };
            let builder = std::thread::Builder::new().name(format!("pumice-{index}"));
            team.threads.push(builder.spawn(main)?);
        }
        order.map(|order| pin_thread(&order, 0));
        Ok(team)
    }

    /// Number of workers, the calling thread included.
    pub fn n_threads(&self) -> usize {
        self.shared.records.len()
    }

    /// Runs `job` on every worker and waits for all of them.
    ///
    /// # Errors
    /// [`Stop`] when `cancel` was set or a worker panicked. The team stays usable.
    pub fn run(
        &mut self,
        cancel: &Cancel,
        job: &(dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync),
    ) -> Result<(), Stop> {
        self.run_on(self.n_threads(), cancel, job)
    }

    /// Runs `job`, a step of `rows` rows: on the workers that the options have for it or, where
    /// other programs keep processors busy, on as many as get it done soonest.
    ///
    /// # Errors
    /// As [`Team::run`].
    pub fn step(
        &mut self,
        rows: usize,
        cancel: &Cancel,
        job: &(dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync),
    ) -> Result<(), Stop> {
        let o = &self.options;
        let most = if rows <= FEW_ROWS { o.n_threads } else { o.n_threads_batch };
        let n = self.pace.workers(rows, most.max(1));
        if o.steady {
            return self.run_on(most.max(1), cancel, job);
        }
        let start = Instant::now();
        self.run_on(n, cancel, job)?;
        let waited = self.shared.waited.iter().map(|p| p.load(Ordering::Relaxed)).max();
        let waited = Duration::from_nanos(waited.unwrap_or(0));
        self.pace.ran(n, start.elapsed(), waited);
        Ok(())
    }

    /// Runs `job` on as many workers as ran the last step.
    ///
    /// # Errors
    /// As [`Team::run`].
    pub fn again(
        &mut self,
        cancel: &Cancel,
        job: &(dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync),
    ) -> Result<(), Stop> {
        self.run_on(self.shared.n.load(Ordering::Relaxed), cancel, job)
    }

    /// Begins to note where the time goes, anew, or ends it.
    pub fn set_profiled(&mut self, on: bool) {
        self.shared.profiled.store(on, Ordering::Relaxed);
        self.shared.records.iter().for_each(Record::clear);
        self.profiled = Default::default();
    }

    /// Where the time went since [`Team::set_profiled`].
    pub fn profile(&self) -> Profile {
        Profile::new(&self.shared.records, self.profiled)
    }

    /// Runs `job` on the first `n` workers.
    fn run_on(
        &mut self,
        n: usize,
        cancel: &Cancel,
        job: &(dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync),
    ) -> Result<(), Stop> {
        let s = &*self.shared;
        let start = s.profiled.load(Ordering::Relaxed).then(Instant::now);
        if n < s.n.load(Ordering::Relaxed) {
            // Whoever sits this job out must have seen the end of the last one: its meetings are not
            // those of this job.
            while s.left.load(Ordering::Acquire) != self.started {
                std::thread::yield_now();
            }
        }
        self.started = self.started.wrapping_add(n - 1);
        s.n.store(n, Ordering::Relaxed);
        s.verdict.store(GO, Ordering::Relaxed);
        s.claims.reset();
        s.arrived.store(0, Ordering::Relaxed);
        s.waited.iter().for_each(|p| p.store(0, Ordering::Relaxed));
        *lock(&s.message) = None;
        if n > 1 {
            // SAFETY: only the lifetime is changed. `run_on` does not return before the final gather
            // below, which every worker that was started reaches after its last use of the closure.
            let call = unsafe {
                std::mem::transmute::<
                    *const (dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync + '_),
                    *const (dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync + 'static),
                >(job)
            };
            *lock(&s.job) = Some(Job { call, cancel });
            s.starts[..n - 1].iter().for_each(Gate::open);
        }
        s.work(0, n, cancel, job);
        *lock(&s.job) = None;
        if let Some(start) = start {
            self.profiled.0 += start.elapsed();
            self.profiled.1 += 1;
        }
        match s.verdict.load(Ordering::Acquire) {
            GO => Ok(()),
            CANCELLED => Err(Stop::Cancelled),
            _ => Err(Stop::Panicked(lock(&s.message).take().unwrap_or_default())),
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        self.shared.starts.iter().for_each(Gate::open);
        for t in self.threads.drain(..) {
            // A worker catches its job's panics, so joining fails only when the runtime is gone.
            let _ = t.join();
        }
    }
}

fn worker_main(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        shared.starts[index - 1].wait(seen, &shared.spins, shared.spins.step);
        seen = seen.wrapping_add(1);
        if shared.quit.load(Ordering::SeqCst) {
            return;
        }
        let Some(job) = *lock(&shared.job) else {
            continue;
        };
        // SAFETY: `Team::run_on` waits in the final gather for this worker, whose gate it opened,
        // before it lets the closure and the flag go.
        let (call, cancel) = unsafe { (&*job.call, &*job.cancel) };
        shared.work(index, shared.n.load(Ordering::Relaxed), cancel, call);
        shared.left.fetch_add(1, Ordering::Release);
    }
}

impl Shared {
    /// One worker's whole job, ending in the final gather.
    fn work(
        &self,
        index: usize,
        n: usize,
        cancel: &Cancel,
        job: &(dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync),
    ) {
        let record = self.profiled.load(Ordering::Relaxed).then(|| &self.records[index]);
        let worker = Worker { index, n, shared: self, cancel, clock: Clock::new(record) };
        // AssertUnwindSafe: after a panic the step's buffers are never read, the step has failed.
        let outcome = catch_unwind(AssertUnwindSafe(|| job(&worker)));
        if let Err(panic) = outcome {
            let text = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_string())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a worker panicked".to_string());
            lock(&self.message).get_or_insert(text);
            self.verdict.store(PANICKED, Ordering::Release);
        }
        // The gather is one more barrier. A worker that left early (panic) arrives here while
        // others still wait inside the program: arrivals are counted alike, and everybody sees
        // the verdict and leaves for this gather.
        worker.clock.worked();
        while !self.arrive(&worker, true) {}
        worker.clock.waited();
    }

    /// Arrives at a meeting point. Returns whether the meeting was the final gather.
    ///
    /// Workers may meet while some are in the program and some at the gather only after a panic;
    /// then the meeting is repeated until all are at the gather.
    fn arrive(&self, worker: &Worker<'_>, at_gather: bool) -> bool {
        const GATHER: usize = 1 << 16;
        let n = worker.n;
        let seen = self.phase.generation();
        self.claims.done(worker.index, seen);
        let mine = if at_gather { 1 + GATHER } else { 1 };
        let before = self.arrived.fetch_add(mine, Ordering::AcqRel) + mine;
        if before % GATHER == n {
            let all_gathered = before / GATHER == n;
            if !all_gathered {
                if at_gather || before / GATHER > 0 {
                    // Somebody left the program early without a panic verdict: treat alike.
                    let _ = self.verdict.compare_exchange(
                        GO,
                        PANICKED,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                } else if worker.cancel.is_cancelled() {
                    let _ = self.verdict.compare_exchange(
                        GO,
                        CANCELLED,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                }
            }
            self.gathered.store(all_gathered, Ordering::Release);
            self.arrived.store(0, Ordering::Relaxed);
            self.phase.open();
            return all_gathered;
        }
        if let Some(time) = self.phase.wait(seen, &self.spins, self.spins.phase) {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            self.waited[worker.index].fetch_add(nanos, Ordering::Relaxed);
        }
        self.gathered.load(Ordering::Acquire)
    }
}

impl Worker<'_> {
    /// This worker's number, `0..n_threads`.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Number of workers that run the job.
    pub fn n_threads(&self) -> usize {
        self.n
    }

    /// Says what comes next, for a profile; returns what was said last.
    pub(crate) fn enter(&self, phase: Phase) -> Phase {
        self.clock.enter(phase)
    }

    /// Claims up to `chunk` of the phase's `n` items; `None` when this worker is not needed any more.
    ///
    /// A worker is given the same part of the items in every phase, from its beginning to its end,
    /// and then what others have not begun, so that slow and busy ones do less. All workers of a
    /// phase must pass the same `n` and `chunk`; the count starts anew after each barrier.
    pub fn claim(&self, n: usize, chunk: usize) -> Option<std::ops::Range<usize>> {
        self.take(n, chunk, |i, part| part.start + i)
    }

    /// As [`Worker::claim`], each part from its end to its beginning.
    pub fn claim_backwards(&self, n: usize, chunk: usize) -> Option<std::ops::Range<usize>> {
        self.take(n, chunk, |i, part| part.end - 1 - i)
    }

    fn take(
        &self,
        n: usize,
        chunk: usize,
        order: impl Fn(usize, std::ops::Range<usize>) -> usize,
    ) -> Option<std::ops::Range<usize>> {
        let (chunk, phase) = (chunk.max(1), self.shared.phase.generation());
        let (i, part) = self.shared.claims.take((self.index, self.n), phase, n.div_ceil(chunk))?;
        let first = order(i, part) * chunk;
        Some(first..n.min(first + chunk))
    }

    /// Ends a phase: waits for every worker.
    ///
    /// # Errors
    /// [`Stop`], the same for all workers, when the step was cancelled or a worker panicked.
    pub fn barrier(&self) -> Result<(), Stop> {
        self.clock.worked();
        self.shared.arrive(self, false);
        self.clock.waited();
        match self.shared.verdict.load(Ordering::Acquire) {
            GO => Ok(()),
            CANCELLED => Err(Stop::Cancelled),
            _ => Err(Stop::Panicked(String::new())),
        }
    }
}
