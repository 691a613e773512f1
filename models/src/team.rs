//! The thread team: persistent workers that all run the same program over a step.
//!
//! [`Team::run`] hands one closure to every worker. Inside it the workers share a phase by
//! claiming chunks of it ([`Worker::claim`]) and meet at [`Worker::barrier`]. A barrier spins for a
//! short while and then parks, so that an oversubscribed or idle machine is not burnt up by
//! waiting. Cancellation and a panic of one worker travel through the barrier: every worker
//! leaves the step at the same place, nobody hangs.
//!
//! The calling thread is worker 0: a team of one has no threads of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of busy waiting before a thread parks: some tens of microseconds.
const SPINS: u32 = 4_000;

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

/// An event counter that threads can wait on: spin first, then park.
#[derive(Default)]
struct Gate {
    generation: AtomicU32,
    parked: AtomicUsize,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Gate {
    /// Moves the generation on and wakes whoever parked.
    fn open(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.lock));
            self.bell.notify_all();
        }
    }

    /// Waits until the generation is no longer `seen`.
    fn wait(&self, seen: u32, spins: u32) {
        for _ in 0..spins {
            if self.generation.load(Ordering::Acquire) != seen {
                return;
            }
            std::hint::spin_loop();
        }
        let mut guard = lock(&self.lock);
        self.parked.fetch_add(1, Ordering::SeqCst);
        while self.generation.load(Ordering::SeqCst) == seen {
            guard = self
                .bell
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.parked.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the workers of one team share.
struct Shared {
    n: usize,
    spins: u32,
    start: Gate,
    phase: Gate,
    arrived: AtomicUsize,
    /// Next unclaimed item of the running phase.
    next: AtomicUsize,
    /// GO, CANCELLED or PANICKED; written by the last arriver of a barrier or a failing worker.
    verdict: AtomicU8,
    /// Whether the meeting that just ended was the final gather.
    gathered: AtomicBool,
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

/// A persistent team of worker threads.
pub struct Team {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// One worker's view of the running step.
pub struct Worker<'a> {
    index: usize,
    shared: &'a Shared,
    cancel: &'a Cancel,
}

impl Team {
    /// Starts a team of `n_threads` workers (at least one), the caller among them.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn new(n_threads: usize) -> std::io::Result<Team> {
        let n = n_threads.max(1);
        // Spinning with more workers than processors starves the one that all wait for.
        let crowded = std::thread::available_parallelism().is_ok_and(|p| n > p.get());
        let shared = Arc::new(Shared {
            n,
            spins: if crowded { 50 } else { SPINS },
            start: Gate::default(),
            phase: Gate::default(),
            arrived: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            verdict: AtomicU8::new(GO),
            gathered: AtomicBool::new(false),
            message: Mutex::new(None),
            job: Mutex::new(None),
            quit: AtomicBool::new(false),
        });
        let mut team = Team {
            shared,
            threads: Vec::with_capacity(n - 1),
        };
        for index in 1..n {
            let shared = team.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("pumice-{index}"))
                .spawn(move || worker_main(&shared, index))?;
            team.threads.push(thread);
        }
        Ok(team)
    }

    /// Number of workers, the calling thread included.
    pub fn n_threads(&self) -> usize {
        self.shared.n
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
        let s = &*self.shared;
        s.verdict.store(GO, Ordering::Relaxed);
        s.next.store(0, Ordering::Relaxed);
        s.arrived.store(0, Ordering::Relaxed);
        *lock(&s.message) = None;
        if s.n > 1 {
            // SAFETY: only the lifetime is changed. `run` does not return before the final gather
            // below, which every worker reaches after its last use of the closure.
            let call = unsafe {
                std::mem::transmute::<
                    *const (dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync + '_),
                    *const (dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync + 'static),
                >(job)
            };
            *lock(&s.job) = Some(Job { call, cancel });
            s.start.open();
        }
        s.work(0, cancel, job);
        *lock(&s.job) = None;
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
        self.shared.start.open();
        for t in self.threads.drain(..) {
            // A worker catches its job's panics, so joining fails only when the runtime is gone.
            let _ = t.join();
        }
    }
}

fn worker_main(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        shared.start.wait(seen, shared.spins);
        seen = seen.wrapping_add(1);
        if shared.quit.load(Ordering::SeqCst) {
            return;
        }
        let Some(job) = *lock(&shared.job) else {
            continue;
        };
        // SAFETY: `Team::run` waits in the final gather for this worker before it lets the
        // closure and the flag go.
        let (call, cancel) = unsafe { (&*job.call, &*job.cancel) };
        shared.work(index, cancel, call);
    }
}

impl Shared {
    /// One worker's whole job, ending in the final gather.
    fn work(
        &self,
        index: usize,
        cancel: &Cancel,
        job: &(dyn Fn(&Worker<'_>) -> Result<(), Stop> + Sync),
    ) {
        let worker = Worker {
            index,
            shared: self,
            cancel,
        };
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
        loop {
            let done = self.arrive(cancel, true);
            if done {
                return;
            }
        }
    }

    /// Arrives at a meeting point. Returns whether the meeting was the final gather.
    ///
    /// Workers may meet while some are in the program and some at the gather only after a panic;
    /// then the meeting is repeated until all are at the gather.
    fn arrive(&self, cancel: &Cancel, at_gather: bool) -> bool {
        const GATHER: usize = 1 << 16;
        let seen = self.phase.generation.load(Ordering::Acquire);
        let mine = if at_gather { 1 + GATHER } else { 1 };
        let before = self.arrived.fetch_add(mine, Ordering::AcqRel) + mine;
        if before % GATHER == self.n {
            let all_gathered = before / GATHER == self.n;
            if !all_gathered {
                if at_gather || before / GATHER > 0 {
                    // Somebody left the program early without a panic verdict: treat alike.
                    let _ = self.verdict.compare_exchange(
                        GO,
                        PANICKED,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                } else if cancel.is_cancelled() {
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
            self.next.store(0, Ordering::Relaxed);
            self.phase.open();
            return all_gathered;
        }
        self.phase.wait(seen, self.spins);
        self.gathered.load(Ordering::Acquire)
    }
}

impl Worker<'_> {
    /// This worker's number, `0..n_threads`.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Number of workers in the team.
    pub fn n_threads(&self) -> usize {
        self.shared.n
    }

    /// Claims the next `chunk` of the phase's `n` items; `None` when all are taken.
    ///
    /// Chunks go to whoever asks first, so slow cores and busy ones take less. All workers of a
    /// phase must pass the same `n` and `chunk`; the count starts anew after each barrier.
    pub fn claim(&self, n: usize, chunk: usize) -> Option<std::ops::Range<usize>> {
        let chunk = chunk.max(1);
        // A failed claim also counts up; `n` is far below the range of usize.
        let first = self.shared.next.fetch_add(chunk, Ordering::Relaxed);
        (first < n).then(|| first..n.min(first + chunk))
    }

    /// Ends a phase: waits for every worker.
    ///
    /// # Errors
    /// [`Stop`], the same for all workers, when the step was cancelled or a worker panicked.
    pub fn barrier(&self) -> Result<(), Stop> {
        self.shared.arrive(self.cancel, false);
        match self.shared.verdict.load(Ordering::Acquire) {
            GO => Ok(()),
            CANCELLED => Err(Stop::Cancelled),
            _ => Err(Stop::Panicked(String::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_item_is_claimed_once_in_every_phase() {
        for n in 1..=4 {
            let mut team = Team::new(n).unwrap();
            let sums: Vec<AtomicU64> = (0..200).map(|_| AtomicU64::new(0)).collect();
            for _ in 0..20 {
                team.run(&Cancel::new(), &|w| {
                    for sum in &sums {
                        while let Some(range) = w.claim(37, 4) {
                            sum.fetch_add(range.map(|i| i as u64).sum(), Ordering::Relaxed);
                        }
                        w.barrier()?;
                    }
                    Ok(())
                })
                .unwrap();
            }
            assert!(
                sums.iter()
                    .all(|s| s.load(Ordering::Relaxed) == 20 * (36 * 37 / 2))
            );
        }
    }

    #[test]
    fn what_a_phase_wrote_is_seen_after_the_barrier() {
        let mut team = Team::new(3).unwrap();
        let cells: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        team.run(&Cancel::new(), &|w| {
            for round in 1..500 {
                cells[w.index()].store(round, Ordering::Relaxed);
                w.barrier()?;
                assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) == round));
                w.barrier()?;
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_panic_in_one_worker_ends_the_step_and_not_the_team() {
        let mut team = Team::new(3).unwrap();
        for culprit in 0..3 {
            let result = team.run(&Cancel::new(), &|w| {
                for phase in 0..10 {
                    assert!(!(phase == 4 && w.index() == culprit), "injected");
                    w.barrier()?;
                }
                Ok(())
            });
            assert_eq!(result, Err(Stop::Panicked("injected".into())));
            assert_eq!(team.run(&Cancel::new(), &|w| w.barrier()), Ok(()));
        }
    }

    #[test]
    fn cancelling_stops_every_worker_at_the_same_phase() {
        let mut team = Team::new(3).unwrap();
        let cancel = Cancel::new();
        let phases = AtomicU64::new(0);
        let result = team.run(&cancel, &|w| {
            for i in 0..1000 {
                if i == 17 && w.index() == 1 {
                    cancel.cancel();
                }
                w.barrier()?;
                phases.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        assert_eq!(result, Err(Stop::Cancelled));
        assert_eq!(phases.load(Ordering::Relaxed), 3 * 17);
    }

    #[test]
    fn more_workers_than_processors_still_finish() {
        let mut team = Team::new(16).unwrap();
        team.run(&Cancel::new(), &|w| (0..50).try_for_each(|_| w.barrier()))
            .unwrap();
    }
}
