//! Where the time of steps goes: by kind of phase, at work and waiting at barriers.
//!
//! Ops say what they begin ([`Worker::enter`](crate::team::Worker)); the team takes the time. While
//! nobody wants a profile that costs a store and a branch.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

macro_rules! phases {
    ($($(#[$doc:meta])* $phase:ident $name:literal,)*) => {
        /// Kinds of phases.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Phase {
            $($(#[$doc])* $phase,)*
        }

        impl Phase {
            /// All kinds, in the order of a step.
            pub const ALL: &[Phase] = &[$(Phase::$phase,)*];

            /// Its name in tables.
            pub fn name(self) -> &'static str {
                match self {
                    $(Phase::$phase => $name,)*
                }
            }
        }
    };
}

phases! {
    /// Rows of embeddings, rotations of positions.
    Embed "embed",
    /// Norms of rows and their quantization for kernels.
    Prepare "norm",
    /// Queries, keys and values.
    Qkv "qkv",
    /// Rotation, norms of heads, keys and values to the cache.
    Place "cache",
    /// Attention over the cache.
    Attend "attention",
    /// The projection of attention's results.
    AttnOut "attn_out",
    /// Latent attention as a whole.
    Mla "mla",
    /// Recurrent and convolution bodies as a whole.
    Recurrent "recurrent",
    /// A feed-forward network's gate and up matrices.
    Hidden "gate_up",
    /// A feed-forward network's down matrix.
    Down "down",
    /// Routers, and experts as a whole.
    Moe "experts",
    /// All other bodies.
    Other "other",
    /// Norms and sums between bodies.
    Finish "finish",
    /// The output matrix.
    Output "output",
}

/// Time of one worker in each kind of phase, in nanoseconds, and how often it worked on it.
///
/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Record {
    work: [AtomicU64; Phase::ALL.len()],
    wait: [AtomicU64; Phase::ALL.len()],
    barriers: [AtomicU64; Phase::ALL.len()],
}

impl Record {
    pub(crate) fn clear(&self) {
        let all = self.work.iter().chain(&self.wait).chain(&self.barriers);
        all.for_each(|n| n.store(0, Ordering::Relaxed));
    }
}

/// One worker's watch during a job.
pub(crate) struct Clock<'a> {
    phase: Cell<Phase>,
    running: Option<(&'a Record, Cell<Instant>)>,
}

impl<'a> Clock<'a> {
    /// Runs if there is something to write to.
    pub(crate) fn new(record: Option<&'a Record>) -> Self {
        let running = record.map(|r| (r, Cell::new(Instant::now())));
        Clock { phase: Cell::new(Phase::Other), running }
    }

    /// The time so far was work on the phase that was entered last; now comes `phase`.
    pub(crate) fn enter(&self, phase: Phase) -> Phase {
        self.worked();
        self.phase.replace(phase)
    }

    /// The time so far was work.
    pub(crate) fn worked(&self) {
        if let Some((record, since)) = &self.running {
            self.lap(&record.work, since);
        }
    }

    /// The time so far was waiting at a barrier.
    pub(crate) fn waited(&self) {
        if let Some((record, since)) = &self.running {
            self.lap(&record.wait, since);
            record.barriers[self.phase.get() as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lap(&self, to: &[AtomicU64], since: &Cell<Instant>) {
        let now = Instant::now();
        let nanos = (now - since.replace(now)).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        to[self.phase.get() as usize].fetch_add(nanos, Ordering::Relaxed);
    }
}

/// Time of all workers in one kind of phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseTime {
    /// The kind.
    pub phase: Phase,
    /// Work of all workers together.
    pub work: Duration,
    /// Waiting of all workers together, at the barriers that ended the phase.
    pub wait: Duration,
    /// Barriers.
    pub n_barriers: u64,
}

/// Where the time went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Wall time of all steps.
    pub wall: Duration,
    /// Steps (micro-batches).
    pub n_steps: u64,
    /// Kinds of phases that occurred.
    pub phases: Vec<PhaseTime>,
}

impl Profile {
    pub(crate) fn new(records: &[Record], (wall, n_steps): (Duration, u64)) -> Profile {
        let sum = |field: fn(&Record) -> &[AtomicU64], i: usize| -> u64 {
            records.iter().map(|r| field(r)[i].load(Ordering::Relaxed)).sum()
        };
        let time = |(i, &phase): (usize, &Phase)| PhaseTime {
            phase,
            work: Duration::from_nanos(sum(|r| &r.work, i)),
            wait: Duration::from_nanos(sum(|r| &r.wait, i)),
            // Worker 0 is in every job.
            n_barriers: records.first().map_or(0, |r| r.barriers[i].load(Ordering::Relaxed)),
        };
        let all = Phase::ALL.iter().enumerate().map(time);
        let phases = all.filter(|p| !(p.work + p.wait).is_zero()).collect();
        Profile { wall, n_steps, phases }
    }

    /// Work and waiting of all workers together.
    pub fn busy(&self) -> Duration {
        self.phases.iter().map(|p| p.work + p.wait).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let names: std::collections::HashSet<_> = Phase::ALL.iter().map(|p| p.name()).collect();
        assert_eq!(names.len(), Phase::ALL.len());
        assert!(Phase::ALL.iter().enumerate().all(|(i, p)| *p as usize == i));
    }

    #[test]
    fn time_goes_to_the_phase_that_was_entered_and_all_of_it_goes_somewhere() {
        let record = Record::default();
        let start = Instant::now();
        let clock = Clock::new(Some(&record));
        assert_eq!(clock.enter(Phase::Qkv), Phase::Other);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.enter(Phase::Prepare), Phase::Qkv);
        clock.worked();
        std::thread::sleep(Duration::from_millis(1));
        clock.waited();
        let all = start.elapsed();
        let profile = Profile::new(&[record], (all, 1));
        let find = |phase| profile.phases.iter().find(|p| p.phase == phase).copied();
        let [qkv, norm] = [Phase::Qkv, Phase::Prepare].map(|p| find(p).unwrap());
        assert!(qkv.work >= Duration::from_millis(2) && qkv.wait.is_zero(), "{qkv:?}");
        assert!(norm.wait >= Duration::from_millis(1), "{norm:?}");
        assert_eq!((qkv.n_barriers, norm.n_barriers), (0, 1));
        assert!(profile.busy() <= all, "{:?} of {all:?}", profile.busy());
    }

    #[test]
    fn without_a_record_nothing_is_noted() {
        let clock = Clock::new(None);
        clock.enter(Phase::Down);
        assert_eq!(clock.enter(Phase::Qkv), Phase::Down);
    }
}
