//! How the items of a phase are shared out.
//!
//! Each worker begins with a part of its own, the same part of the whole in every phase, and helps
//! others when it is done: what it wrote in one phase it mostly reads in the next, from its own
//! cache, and yet a worker that is slow or held up keeps nobody waiting for long.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of one worker's part is taken, in phases of even and of odd numbers: while one of them
/// is in use, its owner sets the other back.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Taken([AtomicUsize; 2]);

/// What is taken of every worker's part.
#[derive(Debug)]
pub(super) struct Claims(Box<[Taken]>);

impl Claims {
    pub(super) fn new(n_workers: usize) -> Claims {
        Claims((0..n_workers).map(|_| Taken::default()).collect())
    }

    /// Nothing is taken, in any phase. Nobody may be at work.
    pub(super) fn reset(&self) {
        self.0.iter().flat_map(|t| &t.0).for_each(|t| t.store(0, Ordering::Relaxed));
    }

    /// Worker `index` is done with phase `phase`, whose barrier publishes this: its part of the next
    /// one is whole again.
    pub(super) fn done(&self, index: usize, phase: u32) {
        self.0[index].0[(phase as usize + 1) % 2].store(0, Ordering::Relaxed);
    }

    /// The next of `n_chunks` chunks for worker `index` of `n` in phase `phase`: of its own part
    /// while there is one, then of those of the workers after it.
    pub(super) fn take(
        &self,
        (index, n): (usize, usize),
        phase: u32,
        n_chunks: usize,
    ) -> Option<(usize, Range<usize>)> {
        for owner in (index..n).chain(0..index) {
            let part = n_chunks * owner / n..n_chunks * (owner + 1) / n;
            let taken = &self.0[owner].0[phase as usize % 2];
            if taken.load(Ordering::Relaxed) < part.len() {
                let mine = taken.fetch_add(1, Ordering::Relaxed);
                if mine < part.len() {
                    return Some((mine, part));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(claims: &Claims, who: (usize, usize), phase: u32, n_chunks: usize) -> Vec<usize> {
        let next = || claims.take(who, phase, n_chunks).map(|(i, part)| part.start + i);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn ones_own_part_first_then_those_of_others() {
        let claims = Claims::new(3);
        assert_eq!(claims.take((1, 3), 0, 10), Some((0, 3..6)));
        assert_eq!(all(&claims, (2, 3), 0, 10), [6, 7, 8, 9, 0, 1, 2, 4, 5]);
        assert!(all(&claims, (0, 3), 0, 10).is_empty());
        // The next phase is not touched by this one, and whole again when it comes round.
        assert_eq!(all(&claims, (0, 3), 1, 3), [0, 1, 2]);
        (0..3).for_each(|i| claims.done(i, 1));
        assert_eq!(all(&claims, (0, 3), 2, 2), [0, 1]);
    }

    #[test]
    fn every_chunk_is_taken_once() {
        for n in 1..9 {
            for n_chunks in [0, 1, n - 1, n, 5 * n + 3] {
                let claims = Claims::new(n);
                let mut seen: Vec<usize> =
                    (0..n).rev().flat_map(|i| all(&claims, (i, n), 7, n_chunks)).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..n_chunks).collect::<Vec<_>>(), "{n} workers");
            }
        }
    }
}
