//! One sequence of tokens: what its state holds and what waits to be run.

/// Tokens of one sequence. The first [`Sequence::n_held`] have been run and stand in the context's
/// state; the rest waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    tokens: Vec<u32>,
    n_held: usize,
    /// Logits are wanted from this position on.
    wanted_from: usize,
}

impl Sequence {
    /// The tokens that have been run.
    pub fn held(&self) -> &[u32] {
        &self.tokens[..self.n_held]
    }

    /// Number of tokens that have been run: the position of the next one.
    pub fn n_held(&self) -> usize {
        self.n_held
    }

    /// The tokens that wait, in order.
    pub fn waiting(&self) -> &[u32] {
        &self.tokens[self.n_held..]
    }

    /// Whether the logits after position `pos` are wanted.
    pub fn wants(&self, pos: usize) -> bool {
        pos >= self.wanted_from
    }

    /// How many of the held tokens can serve a sequence that is to be `ids`: the beginning that the
    /// two share, without the last of `ids`, whose logits are wanted.
    pub fn shared_with(&self, ids: &[u32]) -> usize {
        let same = self.held().iter().zip(ids).take_while(|(a, b)| a == b).count();
        same.min(ids.len().saturating_sub(1))
    }

    /// Cuts the sequence back to its first `n` held tokens; nothing waits then.
    pub fn truncate(&mut self, n: usize) {
        self.n_held = self.n_held.min(n);
        self.give_up();
    }

    /// Appends tokens to what waits. Of their logits, the last `n_wanted` are wanted, and those of
    /// nothing that waited before.
    pub fn push(&mut self, ids: &[u32], n_wanted: usize) {
        self.tokens.extend_from_slice(ids);
        self.wanted_from = self.tokens.len() - n_wanted.min(ids.len());
    }

    /// Notes that the state now holds `n` tokens.
    ///
    /// # Panics
    /// When the sequence has fewer.
    pub fn holds(&mut self, n: usize) {
        assert!(n <= self.tokens.len(), "the state holds {n} of {} tokens", self.tokens.len());
        self.n_held = n;
    }

    /// Forgets what waits.
    pub fn give_up(&mut self) {
        self.tokens.truncate(self.n_held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_shared_but_never_the_last_token() {
        let mut s = Sequence::default();
        s.push(&[1, 2, 3, 4], 1);
        assert_eq!(s.shared_with(&[1, 2, 3]), 0, "what waits is not held");
        s.holds(4);
        assert_eq!(s.shared_with(&[1, 2, 9, 4]), 2);
        assert_eq!(s.shared_with(&[1, 2, 3, 4]), 3);
        assert_eq!(s.shared_with(&[1, 2, 3, 4, 5]), 4);
        assert_eq!(s.shared_with(&[]), 0);
    }

    #[test]
    fn logits_are_wanted_of_the_last_tokens_pushed() {
        let mut s = Sequence::default();
        s.push(&[5; 4], 2);
        assert_eq!([0, 1, 2, 3].map(|p| s.wants(p)), [false, false, true, true]);
        s.holds(4);
        s.push(&[6; 3], 9);
        assert_eq!([3, 4, 6].map(|p| s.wants(p)), [false, true, true]);
    }

    #[test]
    fn giving_up_keeps_what_was_run() {
        let mut s = Sequence::default();
        s.push(&[1, 2, 3, 4], 1);
        s.holds(2);
        s.give_up();
        assert_eq!((s.held(), s.waiting()), (&[1, 2][..], &[][..]));
        s.truncate(1);
        assert_eq!(s.held(), [1]);
    }
}
