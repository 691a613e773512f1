//! Waiting: spin for a short while, then park.

use super::lock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a worker spins without looking at the clock: longer than the usual difference between workers.
const SHORT: Duration = Duration::from_micros(20);
/// How long a worker spins at a barrier before it parks. To be woken takes up to some tenths of a millisecond
/// (most in virtual machines), which the next phase may not last; a scheduler's slice is longer.
const PHASE: Duration = Duration::from_micros(1000);
/// How long a worker spins for the next step before it parks: a little more than drawing a token takes.
const STEP: Duration = Duration::from_micros(250);

/// How long threads spin before they park.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spins {
    /// Rounds without looking at the clock.
    short: u32,
    /// At a barrier.
    pub(super) phase: Duration,
    /// Between steps.
    pub(super) step: Duration,
}

impl Spins {
    /// Never spin: for teams with more workers than processors, where whoever spins takes the
    /// processor from the worker that all wait for.
    pub(super) const NONE: Spins = Spins { short: 0, phase: Duration::ZERO, step: Duration::ZERO };

    /// For this machine. A round takes 1 to 50 ns from one processor to another, so it is timed.
    pub(super) fn of_this_machine() -> Spins {
        static ROUND: OnceLock<Duration> = OnceLock::new();
        let round = ROUND.get_or_init(|| {
            const ROUNDS: u32 = 256;
            let once = |_| {
                let start = Instant::now();
                (0..ROUNDS).for_each(|_| std::hint::spin_loop());
                start.elapsed() / ROUNDS
            };
            // The shortest: a disturbed measurement must not make rounds few.
            (0..4).map(once).min().unwrap_or_default()
        });
        Spins::lasting(*round)
    }

    /// For a machine on which a round takes that long.
    fn lasting(round: Duration) -> Spins {
        let rounds = SHORT.as_nanos() / round.as_nanos().max(1);
        let short = u32::try_from(rounds).unwrap_or(u32::MAX).clamp(50, 20_000);
        Spins { short, phase: PHASE, step: STEP }
    }
}

/// An event counter that threads can wait on.
///
/// On cache lines of its own: what spins here must not slow down what is written beside it.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Gate {
    generation: AtomicU32,
    parked: AtomicUsize,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Gate {
    /// The events so far.
    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Counts an event and wakes whoever parked.
    pub(super) fn open(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.lock));
            self.bell.notify_all();
        }
    }

    /// Waits until the generation is no longer `seen`; spins for up to `patience`. Returns how long it waited,
    /// if that was longer than usual.
    pub(super) fn wait(&self, seen: u32, spins: &Spins, patience: Duration) -> Option<Duration> {
        if self.spin(seen, spins.short) {
            return None;
        }
        let start = Instant::now();
        while start.elapsed() < patience {
            if self.spin(seen, spins.short) {
                return Some(start.elapsed());
            }
            // The worker that all wait for may be waiting for this very processor.
            std::thread::yield_now();
        }
        let mut guard = lock(&self.lock);
        self.parked.fetch_add(1, Ordering::SeqCst);
        while self.generation.load(Ordering::SeqCst) == seen {
            guard = self.bell.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.parked.fetch_sub(1, Ordering::SeqCst);
        Some(start.elapsed())
    }

    /// Looks `rounds` times; returns whether the generation is no longer `seen`.
    fn spin(&self, seen: u32, rounds: u32) -> bool {
        for _ in 0..rounds {
            if self.generation.load(Ordering::Acquire) != seen {
                return true;
            }
            std::hint::spin_loop();
        }
        self.generation.load(Ordering::Acquire) != seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_what_one_takes() {
        let short = |ns| Spins::lasting(Duration::from_nanos(ns)).short;
        assert_eq!([short(50), short(10), short(1), short(0)], [400, 2_000, 20_000, 20_000]);
        // A clock that jumped, or a machine under an emulator: still a few rounds.
        assert_eq!(short(1_000_000), 50);
    }

    #[test]
    fn a_gate_that_opened_lets_everybody_through_with_and_without_spinning() {
        for spins in [Spins::NONE, Spins::of_this_machine()] {
            let gate = Gate::default();
            let seen = gate.generation();
            std::thread::scope(|s| {
                let waiting: Vec<_> =
                    (0..3).map(|_| s.spawn(|| gate.wait(seen, &spins, spins.phase))).collect();
                gate.open();
                waiting.into_iter().for_each(|t| assert!(t.join().is_ok()));
                // Whoever comes late does not wait.
                assert_eq!(gate.wait(seen, &spins, spins.phase), None);
            });
        }
    }
}
