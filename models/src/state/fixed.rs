//! State of fixed size per sequence (convolution windows, recurrent states) with snapshots.
//!
//! Such state cannot be cut back to an earlier position. Before every step a snapshot is kept, the
//! last few of them, so that a failed step leaves no trace and the last tokens can be taken back.

use crate::device::Buffer;

/// Snapshots kept per sequence.
pub(super) const SNAPSHOTS: usize = 4;

struct Snapshot {
    /// Position before which it was taken; `None` = unused.
    pos: Option<usize>,
    data: Vec<f32>,
}

pub(super) struct FixedStore {
    /// Per body, [n_seq, floats].
    slots: Vec<(Buffer<f32>, usize)>,
    /// Per sequence, a ring.
    snapshots: Vec<Vec<Snapshot>>,
}

impl FixedStore {
    pub(super) fn new(sizes: &[usize], n_seq: usize) -> Self {
        let total: usize = sizes.iter().sum();
        let ring = || (0..SNAPSHOTS).map(|_| Snapshot { pos: None, data: vec![0.0; total] });
        FixedStore {
            slots: sizes.iter().map(|&n| (Buffer::new(n * n_seq), n)).collect(),
            snapshots: (0..n_seq).map(|_| ring().collect()).collect(),
        }
    }

    pub(super) fn get(&self, slot: usize, seq: usize) -> (&Buffer<f32>, usize) {
        let (buffer, n) = &self.slots[slot];
        (buffer, seq * n)
    }

    /// Keeps the state of `seq` as it is before position `pos`.
    pub(super) fn remember(&mut self, seq: usize, pos: usize) {
        if self.slots.is_empty() {
            return;
        }
        // The same position again, else an unused entry, else the oldest.
        let ring = &mut self.snapshots[seq];
        let entry = ring.iter().position(|s| s.pos == Some(pos)).unwrap_or_else(|| {
            (0..ring.len()).min_by_key(|&i| ring[i].pos.map_or(0, |p| p + 1)).unwrap_or(0)
        });
        let snapshot = &mut ring[entry];
        snapshot.pos = Some(pos);
        let mut at = 0;
        for (buffer, n) in &mut self.slots {
            snapshot.data[at..at + *n].copy_from_slice(&buffer.all_mut()[seq * *n..][..*n]);
            at += *n;
        }
    }

    /// Brings back the latest state at or before `pos` and forgets later ones; the empty state
    /// when none is left. Returns its position.
    pub(super) fn recall(&mut self, seq: usize, pos: usize) -> usize {
        if self.slots.is_empty() {
            return pos;
        }
        for s in self.snapshots[seq].iter_mut().filter(|s| s.pos.is_some_and(|p| p > pos)) {
            s.pos = None;
        }
        let best = self.snapshots[seq].iter().filter(|s| s.pos.is_some()).max_by_key(|s| s.pos);
        let mut at = 0;
        for (buffer, n) in &mut self.slots {
            let live = &mut buffer.all_mut()[seq * *n..][..*n];
            match best {
                Some(s) => live.copy_from_slice(&s.data[at..at + *n]),
                None => live.fill(0.0),
            }
            at += *n;
        }
        best.and_then(|s| s.pos).unwrap_or(0)
    }

    pub(super) fn fork(&mut self, from: usize, to: usize) {
        for (buffer, n) in &mut self.slots {
            buffer.all_mut().copy_within(from * *n..(from + 1) * *n, to * *n);
        }
        for s in &mut self.snapshots[to] {
            s.pos = None;
        }
    }
}
