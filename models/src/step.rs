//! The rows of a step and their order.

use crate::error::Error;
use std::ops::Range;

/// One row of a step: a token of a sequence at its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Token id, below the model's `n_vocab`.
    pub token: u32,
    /// Sequence, below the context's `n_seq`.
    pub seq: usize,
    /// Position in the sequence: the number of rows it has seen before.
    pub pos: usize,
    /// Whether logits are wanted for this row.
    pub logits: bool,
}

/// Rows of one sequence within a micro-batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) seq: usize,
    /// Position of its first row.
    pub(crate) first_pos: usize,
    /// Range in [`Batch::order`].
    pub(crate) rows: Range<usize>,
}

/// A micro-batch: its rows as they came, and grouped by sequence.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<Row>,
    /// Row indices, sequence by sequence, positions rising.
    pub(crate) order: Vec<u32>,
    pub(crate) segments: Vec<Segment>,
    /// Rows whose logits are wanted.
    pub(crate) wanted: Vec<u32>,
    /// Per sequence, the position from which it is the second text of a pair; sequences beyond the
    /// end have none.
    pub(crate) second_from: Vec<usize>,
}

impl Batch {
    /// Takes over the rows of a micro-batch. Nothing is allocated once the vectors have grown to
    /// the size of a micro-batch.
    pub(crate) fn set(&mut self, rows: &[Row]) {
        self.rows.clear();
        self.rows.extend_from_slice(rows);
        self.order.clear();
        self.order.extend(0..rows.len() as u32);
        // Keys are distinct, so that an unstable sort (which needs no memory) keeps positions.
        self.order.sort_unstable_by_key(|&r| (rows[r as usize].seq, rows[r as usize].pos));
        self.segments.clear();
        for (i, &r) in self.order.iter().enumerate() {
            let row = &rows[r as usize];
            match self.segments.last_mut() {
                Some(s) if s.seq == row.seq => s.rows.end = i + 1,
                _ => {
                    self.segments.push(Segment { seq: row.seq, first_pos: row.pos, rows: i..i + 1 })
                }
            }
        }
        self.wanted.clear();
        self.wanted.extend((0..rows.len() as u32).filter(|&r| rows[r as usize].logits));
    }
}

/// Checks a whole step before anything of it runs: ids, sequences, and positions that go on where
/// each sequence (of length `len(seq)`) ends.
pub(crate) fn check(
    rows: &[Row],
    n_vocab: usize,
    n_seq: usize,
    len: impl Fn(usize) -> usize,
    next: &mut Vec<usize>,
) -> Result<(), Error> {
    next.clear();
    next.extend((0..n_seq).map(len));
    for (i, row) in rows.iter().enumerate() {
        let bad = |what, found, expected: String| Error::BadRow { row: i, what, found, expected };
        if row.token as usize >= n_vocab {
            return Err(bad("token id", row.token as usize, format!("below {n_vocab}")));
        }
        if row.seq >= n_seq {
            return Err(bad("sequence", row.seq, format!("below {n_seq}")));
        }
        if row.pos != next[row.seq] {
            let expected = format!("{}, the next of sequence {}", next[row.seq], row.seq);
            return Err(bad("position", row.pos, expected));
        }
        next[row.seq] += 1;
    }
    Ok(())
}

/// The next rows to run together, at most `n` of them. If sequences must stay `whole` they end,
/// where that is possible, before the start of one.
pub(crate) fn piece(rows: &[Row], n: usize, whole: bool) -> &[Row] {
    if !whole || rows.len() <= n {
        return &rows[..n.min(rows.len())];
    }
    let cut = (1..=n).rev().find(|&i| rows[i].pos == 0);
    &rows[..cut.unwrap_or(n)]
}

/// Checks that all sequences of a micro-batch begin in it; `base` is its first row's index.
pub(crate) fn check_whole(batch: &Batch, base: usize) -> Result<(), Error> {
    let Some(s) = batch.segments.iter().find(|s| s.first_pos > 0) else { return Ok(()) };
    Err(Error::BadRow {
        row: base + batch.order[s.rows.start] as usize,
        what: "position",
        found: s.first_pos,
        expected: "0: attention looks both ways, so that a sequence goes through in one step"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: usize, pos: usize) -> Row {
        Row { token: 1, seq, pos, logits: seq == 1 }
    }

    #[test]
    fn interleaved_rows_are_grouped_by_sequence() {
        let mut batch = Batch::default();
        batch.set(&[row(1, 4), row(0, 0), row(1, 5), row(0, 1)]);
        assert_eq!(batch.order, [1, 3, 0, 2]);
        assert_eq!(
            batch.segments,
            [
                Segment { seq: 0, first_pos: 0, rows: 0..2 },
                Segment { seq: 1, first_pos: 4, rows: 2..4 },
            ]
        );
        assert_eq!(batch.wanted, [0, 2]);
    }

    #[test]
    fn whole_sequences_stay_together() {
        let rows = [row(0, 0), row(0, 1), row(1, 0), row(1, 1), row(1, 2)];
        assert_eq!(piece(&rows, 4, false).len(), 4);
        assert_eq!(piece(&rows, 4, true).len(), 2);
        assert_eq!(piece(&rows[2..], 4, true).len(), 3);
        let mut batch = Batch::default();
        batch.set(&rows[1..]);
        let e = check_whole(&batch, 1).unwrap_err().to_string();
        assert!(e.starts_with("row 1 of the step: position is 1; expected 0"), "{e}");
        batch.set(&rows);
        assert!(check_whole(&batch, 0).is_ok());
    }

    #[test]
    fn bad_rows_are_named() {
        let len = |seq| [3, 0][seq];
        let mut next = Vec::new();
        assert!(check(&[row(0, 3), row(1, 0), row(0, 4)], 2, 2, len, &mut next).is_ok());
        let e = check(&[row(0, 5)], 2, 2, len, &mut next).unwrap_err().to_string();
        assert_eq!(e, "row 0 of the step: position is 5; expected 3, the next of sequence 0");
        let e = check(&[row(2, 0)], 2, 2, len, &mut next).unwrap_err().to_string();
        assert_eq!(e, "row 0 of the step: sequence is 2; expected below 2");
        let e = check(&[row(0, 3)], 1, 2, len, &mut next).unwrap_err().to_string();
        assert_eq!(e, "row 0 of the step: token id is 1; expected below 1");
    }
}
