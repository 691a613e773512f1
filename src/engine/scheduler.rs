//! Which rows make up the next step.

use super::Sequence;
use models::Row;

/// Chooses up to `n_batch` rows (at least one where anything waits) for the next step, into `rows`.
///
/// Sequences that wait for one token go first: somebody reads along. What is left of the batch goes
/// to those with more, beginning with sequence `first` (the caller passes another one each time, so
/// that a long prompt does not keep the others out). Positions of a sequence rise, and no token is
/// passed over.
pub fn schedule(sequences: &[Sequence], n_batch: usize, first: usize, rows: &mut Vec<Row>) {
    rows.clear();
    let n_batch = n_batch.max(1);
    for (seq, s) in sequences.iter().enumerate() {
        if s.waiting().len() == 1 && rows.len() < n_batch {
            take(seq, s, 1, rows);
        }
    }
    let n = sequences.len();
    for i in 0..n {
        let seq = (first + i) % n;
        let s = &sequences[seq];
        if s.waiting().len() > 1 {
            take(seq, s, n_batch - rows.len(), rows);
        }
    }
}

/// Appends the next rows of a sequence, at most `most`.
fn take(seq: usize, s: &Sequence, most: usize, rows: &mut Vec<Row>) {
    let row = |(i, &token)| {
        let pos = s.n_held() + i;
        Row { token, seq, pos, logits: s.wants(pos) }
    };
    rows.extend(s.waiting().iter().take(most).enumerate().map(row));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence that holds `held` tokens while `waiting` wait.
    fn sequence(held: usize, waiting: usize) -> Sequence {
        let mut s = Sequence::default();
        s.push(&vec![7; held], 1);
        s.holds(held);
        s.push(&(0..waiting as u32).collect::<Vec<_>>(), 1);
        s
    }

    fn step(sequences: &[Sequence], n_batch: usize, first: usize) -> Vec<(usize, usize, bool)> {
        let mut rows = Vec::new();
        schedule(sequences, n_batch, first, &mut rows);
        rows.iter().map(|r| (r.seq, r.pos, r.logits)).collect()
    }

    #[test]
    fn a_prompt_runs_in_batches_and_wants_its_last_logits() {
        let mut s = [sequence(0, 5)];
        assert_eq!(step(&s, 3, 0), [(0, 0, false), (0, 1, false), (0, 2, false)]);
        s[0].holds(3);
        assert_eq!(step(&s, 3, 0), [(0, 3, false), (0, 4, true)]);
        s[0].holds(5);
        assert_eq!(step(&s, 3, 0), []);
    }

    #[test]
    fn sequences_that_decode_are_not_kept_waiting_by_a_prompt() {
        let s = [sequence(0, 9), sequence(4, 1), sequence(2, 0), sequence(6, 1)];
        let expected = [(1, 4, true), (3, 6, true), (0, 0, false), (0, 1, false)];
        assert_eq!(step(&s, 4, 0), expected);
    }

    #[test]
    fn prompts_take_turns() {
        let s = [sequence(0, 9), sequence(0, 9)];
        assert!(step(&s, 4, 0).iter().all(|r| r.0 == 0));
        assert!(step(&s, 4, 1).iter().all(|r| r.0 == 1));
        assert_eq!(step(&s, 12, 1)[9], (0, 0, false));
    }

    #[test]
    fn a_batch_is_never_exceeded_and_never_empty_while_something_waits() {
        let s = [sequence(1, 1), sequence(2, 1), sequence(3, 2)];
        for n_batch in 0..6 {
            let n = step(&s, n_batch, 2).len();
            assert!(n >= 1 && n <= n_batch.max(1), "{n} rows for {n_batch}");
        }
        assert_eq!(step(&[], 4, 0), []);
    }
}
