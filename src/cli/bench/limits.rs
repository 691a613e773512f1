//! What the machine can do, measured in bursts.
//!
//! A burst is shorter than a scheduler's slice (some tenths of a millisecond): on a machine with
//! other load most bursts are disturbed, but the best of many is not.

use models::Cancel;
use models::device::memory_limit;
use models::team::Team;
use quant::{Isa, limits};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Memory that is walked through, so that nothing read is in a cache; a quarter of what there is, on
/// machines that have little.
const POOL: usize = 512 << 20;
/// Walked through at least.
const LEAST_POOL: usize = 64 << 20;
/// Bytes that one thread reads in a burst: some tenths of a millisecond. Shorter ones find moments that no
/// step of a model is short enough for.
const BURST: usize = 8 << 20;
/// Distances of software prefetch that are tried, in bytes.
const AHEAD: [usize; 4] = [0, 4 << 10, 8 << 10, 16 << 10];
/// Rounds of the register-only loop in a burst.
const ROUNDS: usize = 8_000;
/// How long a limit is measured.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Measures limits on a number of threads.
pub(in crate::cli) struct Limits {
    team: Team,
    pool: Vec<u8>,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Measured {
    /// Bytes read in a second.
    pub(in crate::cli) bandwidth: f64,
    /// Int8 operations in a second; `None` for instruction sets without such a loop.
    pub(in crate::cli) peak: Option<f64>,
}

impl Limits {
    /// Takes memory to read and starts threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(in crate::cli) fn new(n_threads: usize) -> anyhow::Result<Limits> {
        // Pages that were never written are all the same page: fill them.
        let quarter = memory_limit().map_or(POOL as u64, |m| m.bytes / 4);
        let least = LEAST_POOL.max(BURST * n_threads);
        let size = POOL.min(usize::try_from(quarter).unwrap_or(POOL)).max(least);
        let mut pool = Vec::with_capacity(size);
        pool.extend((0..size / 8).flat_map(|i| (i as u64).to_le_bytes()));
        Ok(Limits { team: Team::new(n_threads)?, pool })
    }

    /// Measures bandwidth, and the peak of `isa`.
    ///
    /// # Errors
    /// A worker that failed.
    pub(in crate::cli) fn measure(&mut self, isa: Isa) -> anyhow::Result<Measured> {
        Ok(Measured { bandwidth: self.bandwidth()?, peak: self.peak(isa)? })
    }

    /// Bytes that all threads together read in a second.
    ///
    /// # Errors
    /// As [`Limits::measure`].
    pub(in crate::cli) fn bandwidth(&mut self) -> anyhow::Result<f64> {
        let part = self.pool.len() / self.team.n_threads();
        let windows = (part / BURST).max(1);
        let pool = &self.pool;
        let seconds = best(&mut self.team, |worker, i| {
            let window = i * 5 % windows;
            let at = worker * part + window * BURST;
            std::hint::black_box(limits::read(&pool[at..at + BURST], AHEAD[i % AHEAD.len()]));
        })?;
        Ok((BURST * self.team.n_threads()) as f64 / seconds)
    }

    /// Int8 operations that all threads together do in a second.
    ///
    /// # Errors
    /// As [`Limits::measure`].
    pub(in crate::cli) fn peak(&mut self, isa: Isa) -> anyhow::Result<Option<f64>> {
        let operations = limits::int8_operations(isa, ROUNDS);
        if operations == 0 {
            return Ok(None);
        }
        let seconds = best(&mut self.team, |_, _| {
            std::hint::black_box(limits::int8_peak(isa, ROUNDS));
        })?;
        Ok(Some((operations * self.team.n_threads()) as f64 / seconds))
    }
}

/// Shortest time in seconds of `work(worker, burst)`, done by all threads at once.
fn best(team: &mut Team, work: impl Fn(usize, usize) + Sync) -> anyhow::Result<f64> {
    let start = Instant::now();
    let best = Mutex::new(f64::MAX);
    let mut burst = 0;
    while start.elapsed() < PATIENCE {
        let outcome = team.run(&Cancel::new(), &|w| {
            // The first barrier brings all threads to the same line, the second to the end.
            w.barrier()?;
            let start = Instant::now();
            work(w.index(), burst);
            w.barrier()?;
            if w.index() == 0 {
                let seconds = start.elapsed().as_secs_f64();
                let mut best = best.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *best = best.min(seconds);
            }
            Ok(())
        });
        outcome.map_err(|stop| anyhow::anyhow!("the burst failed: {stop:?}"))?;
        burst += 1;
    }
    Ok(best.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}
