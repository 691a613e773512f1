//! How many workers take part in a step.
//!
//! All of them, on a machine that is ours. When another program keeps a processor busy, the worker
//! that shares it is away for whole slices of the scheduler, and at every barrier the others wait:
//! then fewer workers are faster, and leave the other program its processor. Whether that is so
//! is found by trying: a step that was held up much lets the next ones try with a worker fewer (and
//! if that is no better, later with two, then four), and now and then, ever more rarely, more are
//! tried again. What took less time stays.
//!
//! Results do not depend on the number of workers, so that nobody but the clock notices.
//! Time is passed in.

use std::time::Duration;

/// A step in which a worker waited for more than this part of what one worker of `n` does in it
/// (1 / n of the step) makes one suspicious.
const HELD_UP: f64 = 0.6;
/// Steps of a trial.
const TRIAL: u32 = 3;
/// Steps of which the usual time is the mean, roughly.
const MEMORY: f64 = 6.0;
/// Usual steps before a trial with one worker more or fewer; doubles when it failed.
const PATIENCE: u32 = 6;
/// Most of that.
const MOST_PATIENCE: u32 = 96;
/// A trial must be faster than this part of the usual time to be taken over.
const GAIN: f64 = 0.97;

/// Steps that are being tried with another number of workers.
#[derive(Clone, Copy, Debug)]
struct Trial {
    n: usize,
    steps: u32,
    time: f64,
}

/// Chooses the number of workers of each step.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Rows of the last step: times of steps of other sizes do not compare.
    rows: usize,
    /// Workers that take part at most.
    most: usize,
    /// Workers that take part usually.
    now: usize,
    /// Time of a usual step in seconds, and of how many it is the mean.
    usual: f64,
    n_usual: u32,
    trial: Option<Trial>,
    /// Usual steps since the last trial.
    calm: u32,
    /// Usual steps before the next trial: with fewer workers, with more.
    patience: [u32; 2],
    /// How many fewer or more the next trial has.
    stride: [usize; 2],
}

impl Pace {
    pub(super) fn new(most: usize) -> Pace {
        Pace {
            rows: 0,
            most,
            now: most,
            usual: 0.0,
            n_usual: 0,
            trial: None,
            calm: 0,
            patience: [0, PATIENCE],
            stride: [1, 1],
        }
    }

    /// Workers for a step of `rows` rows in which at most `most` are of use.
    pub(super) fn workers(&mut self, rows: usize, most: usize) -> usize {
        if (rows, most) != (self.rows, self.most) {
            // As far below all as it was.
            let fewer = self.most - self.now;
            self.now = most.saturating_sub(fewer).max(1);
            (self.rows, self.most) = (rows, most);
            (self.trial, self.n_usual) = (None, 0);
        }
        self.trial.map_or(self.now, |t| t.n)
    }

    /// Takes note of a step of `n` workers that took `time`, for `held_up` of which a worker
    /// waited at barriers.
    pub(super) fn ran(&mut self, n: usize, time: Duration, held_up: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(trial) = &mut self.trial {
            trial.steps += 1;
            trial.time += seconds;
            let mean = trial.time / f64::from(trial.steps);
            let better = mean < GAIN * self.usual;
            // A single slow step says enough, a single fast one may be luck.
            if trial.steps == TRIAL || !better {
                self.judge(better, mean);
            }
            return;
        }
        self.calm = self.calm.saturating_add(1);
        self.n_usual = self.n_usual.saturating_add(1);
        let weight = 1.0 / f64::from(self.n_usual).min(MEMORY);
        self.usual += (seconds - self.usual) * weight;
        if self.n_usual < 2 {
            return;
        }
        let suspicious = held_up.as_secs_f64() > HELD_UP / n as f64 * seconds;
        let other = if n > 1 && suspicious && self.calm >= self.patience[0] {
            n.saturating_sub(self.stride[0]).max(1)
        } else if n < self.most && self.calm >= self.patience[1] {
            self.most.min(n + self.stride[1])
        } else {
            return;
        };
        self.trial = Some(Trial { n: other, steps: 0, time: 0.0 });
    }

    fn judge(&mut self, better: bool, mean: f64) {
        let Some(trial) = self.trial.take() else { return };
        let way = usize::from(trial.n > self.now);
        self.calm = 0;
        if better {
            self.now = trial.n;
            (self.usual, self.n_usual) = (mean, 1);
            (self.patience, self.stride) = ([0, PATIENCE], [1, 1]);
            return;
        }
        // What lies further away may still be better and is tried next; after the last it is the turn of
        // the nearest again, but not soon.
        let last = trial.n == 1 || trial.n == self.most;
        if last {
            self.stride[way] = 1;
            self.patience[way] = (2 * self.patience[way]).clamp(PATIENCE, MOST_PATIENCE);
        } else {
            self.stride[way] *= 2;
            self.calm = u32::MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds of a step of `n` workers and of the waiting in it, when `others` programs run
    /// on as many processors as there are workers.
    fn step(n: usize, processors: usize, others: usize) -> (f64, f64) {
        let alone = 10.0 / n as f64;
        match (n + others).saturating_sub(processors) {
            0 => (alone, 0.0),
            // A worker that shares its processor is away for a slice at a time.
            _ => (3.0 * alone, 2.0 * alone),
        }
    }

    /// Runs `steps` steps; returns the time of all and how many ran with each number of workers.
    fn run(pace: &mut Pace, steps: usize, most: usize, others: usize) -> (f64, Vec<usize>) {
        let (mut time, mut used) = (0.0, vec![0; most + 1]);
        for _ in 0..steps {
            let n = pace.workers(1, most);
            let (ms, held_up) = step(n, most, others);
            let duration = |ms: f64| Duration::from_secs_f64(ms * 1e-3);
            pace.ran(n, duration(ms), duration(held_up));
            time += ms;
            used[n] += 1;
        }
        (time, used)
    }

    #[test]
    fn a_machine_of_ones_own_is_used_as_a_whole() {
        for most in [1, 2, 8] {
            let (_, used) = run(&mut Pace::new(most), 1000, most, 0);
            assert_eq!(used[most], 1000);
        }
    }

    #[test]
    fn a_busy_neighbour_gets_its_processor_and_comes_back_to_nothing_lost() {
        for (most, others) in [(2, 1), (4, 1), (4, 2)] {
            let mut pace = Pace::new(most);
            let (time, used) = run(&mut pace, 400, most, others);
            let best = 400.0 * step(most - others, most, others).0;
            assert!(time < 1.12 * best, "{most} workers, {others} others: {time} of {best} ms");
            assert!(used[most - others] > 350, "{used:?}");
            // The neighbour is gone: soon all workers are back.
            run(&mut pace, 3 * MOST_PATIENCE as usize, most, 0);
            let (_, used) = run(&mut pace, 100, most, 0);
            assert_eq!(used[most], 100, "{most} workers");
        }
    }

    #[test]
    fn waiting_that_fewer_workers_do_not_cure_changes_nothing() {
        // A phase that one worker does alone: the others wait, but help elsewhere.
        let mut pace = Pace::new(4);
        let mut all = 0;
        for _ in 0..500 {
            let n = pace.workers(1, 4);
            let ms = 5.0 + 5.0 / n as f64;
            pace.ran(n, Duration::from_secs_f64(ms * 1e-3), Duration::from_secs_f64(5e-3));
            all += usize::from(n == 4);
        }
        assert!(all > 460, "{all} of 500 steps with all workers");
    }

    #[test]
    fn times_of_other_sizes_are_not_compared() {
        let mut pace = Pace::new(2);
        let ms = Duration::from_millis;
        for _ in 0..2 {
            let n = pace.workers(1, 2);
            pace.ran(n, ms(5), ms(4));
        }
        assert_eq!(pace.workers(1, 2), 1, "a trial");
        // A prompt comes: it begins as the steps before did, and its time is its own.
        assert_eq!(pace.workers(512, 2), 2);
        pace.ran(2, ms(400), ms(0));
        assert_eq!(pace.workers(512, 2), 2);
        // Fewer threads are of use in it: never more than those.
        assert_eq!(pace.workers(512, 1), 1);
    }
}
