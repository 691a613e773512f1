//! State of fixed size per sequence (convolution windows, recurrent states) with snapshots.
//!
//! Such state cannot be cut back to an earlier position, so a sequence has several entries: a step
//! reads the newest and writes another one, which becomes the newest when the step succeeds. A
//! step that fails has changed nothing, and what was there before stays behind as a snapshot at no
//! cost. Which old entry a step overwrites keeps their distances from the end about geometric:
//! taking back the last n positions re-runs a small multiple of n.

use crate::device::Buffer;
use std::ops::Range;

/// States kept per sequence, the newest included.
pub(super) const ENTRIES: usize = 6;

/// Positions of a sequence's entries.
#[derive(Clone, Debug, Default)]
struct Ring {
    /// Positions that went into each entry; `None` = unused.
    pos: [Option<usize>; ENTRIES],
    /// The newest entry; `None` = the sequence is empty, its state is all zeroes.
    live: Option<usize>,
    /// The entry that the running step writes.
    next: usize,
}

impl Ring {
    /// The entry that is missed least: an unused one, else the one whose neighbours are closest to
    /// each other for its age. Never the newest.
    fn victim(&self) -> usize {
        if let Some(free) = self.pos.iter().position(Option::is_none) {
            return free;
        }
        let pos = |i: usize| self.pos[i].unwrap_or(0);
        let mut order: [usize; ENTRIES] = std::array::from_fn(|i| i);
        order.sort_unstable_by_key(|&i| pos(i));
        let newest = pos(order[ENTRIES - 1]);
        let cost = |k: usize| {
            let before = if k == 0 { 0 } else { pos(order[k - 1]) };
            (pos(order[k + 1]) - before) as f64 / (newest - pos(order[k])).max(1) as f64
        };
        let best = (0..ENTRIES - 1).min_by(|&a, &b| cost(a).total_cmp(&cost(b)));
        order[best.unwrap_or(0)]
    }
}

/// The fixed state of every body and sequence.
pub(super) struct FixedStore {
    /// Per body, [n_seq, ENTRIES, floats].
    slots: Vec<(Buffer<f32>, usize)>,
    rings: Vec<Ring>,
}

/// One body's state of one sequence while a step runs.
pub struct Fixed<'a> {
    buffer: &'a Buffer<f32>,
    old: Option<usize>,
    new: usize,
}

impl Fixed<'_> {
    /// Floats `range` of the state before the step; `None` = zeroes.
    pub fn before(&self, range: Range<usize>) -> Option<&[f32]> {
        // SAFETY: a step writes the new entry only, and the two differ.
        self.old.map(|at| unsafe { self.buffer.part(at + range.start..at + range.end) })
    }

    /// Floats `range` of the state after the step, holding what they were before it.
    ///
    /// # Safety
    /// Nobody else touches these floats in this phase, and this step took them neither here nor
    /// with [`Fixed::after`] before.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    pub unsafe fn carry(&self, range: Range<usize>) -> &mut [f32] {
        // SAFETY: passed on to the caller.
        let new = unsafe { self.after(range.clone()) };
        match self.before(range) {
            Some(old) => new.copy_from_slice(old),
            None => new.fill(0.0),
        }
        new
    }

    /// Floats `range` of the state after the step, to be written in full.
    ///
    /// # Safety
    /// Nobody else touches these floats in this phase.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    pub unsafe fn after(&self, range: Range<usize>) -> &mut [f32] {
        // SAFETY: passed on to the caller.
        unsafe { self.buffer.part_mut(self.new + range.start..self.new + range.end) }
    }
}

impl FixedStore {
    pub(super) fn new(sizes: &[usize], n_seq: usize) -> Self {
        FixedStore {
            slots: sizes.iter().map(|&n| (Buffer::new(n * ENTRIES * n_seq), n)).collect(),
            rings: vec![Ring::default(); n_seq],
        }
    }

    pub(super) fn get(&self, slot: usize, seq: usize) -> Fixed<'_> {
        let (buffer, n) = &self.slots[slot];
        let at = |entry: usize| (seq * ENTRIES + entry) * n;
        let ring = &self.rings[seq];
        Fixed { buffer, old: ring.live.map(at), new: at(ring.next) }
    }

    /// Chooses the entry that the next step of `seq` writes.
    pub(super) fn begin(&mut self, seq: usize) {
        let ring = &mut self.rings[seq];
        ring.next = ring.victim();
        ring.pos[ring.next] = None;
    }

    /// Makes what the step wrote the state of `seq`, which now holds `len` positions.
    pub(super) fn commit(&mut self, seq: usize, len: usize) {
        let ring = &mut self.rings[seq];
        ring.pos[ring.next] = Some(len);
        ring.live = Some(ring.next);
    }

    /// Goes back to the latest state at or before `pos`, or to the empty one, and forgets later
    /// ones. Returns its position.
    pub(super) fn recall(&mut self, seq: usize, pos: usize) -> usize {
        if self.slots.is_empty() {
            return pos;
        }
        let ring = &mut self.rings[seq];
        for p in &mut ring.pos {
            *p = p.filter(|&p| p <= pos);
        }
        ring.live = (0..ENTRIES).filter(|&i| ring.pos[i].is_some()).max_by_key(|&i| ring.pos[i]);
        ring.live.and_then(|i| ring.pos[i]).unwrap_or(0)
    }

    /// Gives `to`, which must be empty, the state of `from`, without its snapshots.
    pub(super) fn fork(&mut self, from: usize, to: usize) {
        let Some(live) = self.rings[from].live else { return };
        for (buffer, n) in &mut self.slots {
            let start = (from * ENTRIES + live) * *n;
            buffer.all_mut().copy_within(start..start + *n, to * ENTRIES * *n);
        }
        let pos = self.rings[from].pos[live];
        let ring = &mut self.rings[to];
        *ring = Ring::default();
        ring.pos[0] = pos;
        ring.live = Some(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `n` steps of one position; the state is the number of positions.
    fn extend(store: &mut FixedStore, seq: usize, from: usize, n: usize) {
        for pos in from..from + n {
            store.begin(seq);
            let fixed = store.get(0, seq);
            // SAFETY: the only thread.
            let state = unsafe { fixed.carry(0..1) };
            assert_eq!(state[0], pos as f32);
            state[0] += 1.0;
            store.commit(seq, pos + 1);
        }
    }

    #[test]
    fn taking_back_n_positions_costs_a_small_multiple_of_n() {
        let mut store = FixedStore::new(&[1], 2);
        for len in [7, 40, 1000] {
            for n in 1..len {
                store.recall(1, 0);
                extend(&mut store, 1, 0, len);
                let reached = store.recall(1, len - n);
                assert!(reached <= len - n);
                assert!(len - reached <= 6 * n + 2, "{n} of {len}: back to {reached}");
                extend(&mut store, 1, reached, 3);
                if len > 100 && n > 20 {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_step_that_fails_leaves_no_trace() {
        let mut store = FixedStore::new(&[1], 1);
        extend(&mut store, 0, 0, 3);
        store.begin(0);
        let fixed = store.get(0, 0);
        // SAFETY: the only thread.
        unsafe { fixed.carry(0..1)[0] = 99.0 };
        assert_eq!(store.recall(0, 3), 3);
        extend(&mut store, 0, 3, 2);
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let mut store = FixedStore::new(&[1], 2);
        extend(&mut store, 0, 0, 5);
        store.recall(1, 0);
        store.fork(0, 1);
        extend(&mut store, 1, 5, 4);
        extend(&mut store, 0, 5, 2);
        assert_eq!(store.recall(1, 5), 5);
    }
}
