//! Merging the symbols of one piece: the loop that byte-level BPE and SentencePiece-BPE share.
//!
//! The piece starts as a row of small symbols. Again and again the neighbours whose merge ranks
//! best (of equal ones the leftmost) become one symbol, until no neighbours merge. What a pair of
//! neighbours merges to is the only difference between the kinds ([`Pairs`]).
//!
//! Short pieces (nearly all of them) look for the best pair by going along the row; long ones keep
//! candidates in a heap over a linked row, so n symbols cost O(n log n). Both give the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No token, no rank, no neighbour.
pub(super) const NONE: u32 = u32::MAX;
/// Rows of up to this many symbols are searched, longer ones use the heap. (On English text the
/// two cost the same at about 40 symbols.)
const SHORT: usize = 32;
/// A longer piece is cut: positions are 32-bit numbers.
const MAX_PIECE: usize = 1 << 30;

/// A stretch of the piece, and the token it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// Byte range in the piece.
    pub(super) start: u32,
    pub(super) len: u32,
    /// The token, or [`NONE`] for text that no token spells.
    pub(super) id: u32,
    /// Neighbours in the row.
    prev: u32,
    next: u32,
    /// Rank of the merge with the next symbol, and the token that it makes.
    rank: u32,
    merged: u32,
}

/// What neighbours merge to.
pub(super) trait Pairs {
    /// Rank (less is better, below [`NONE`]) and token of the merge of two neighbours of `piece`.
    fn pair(&self, piece: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)>;
}

/// Buffers that are used again from piece to piece.
#[derive(Debug, Default)]
pub(super) struct Row {
    symbols: Vec<Symbol>,
    /// Candidates: rank and position, packed so that they compare as one number.
    heap: BinaryHeap<Reverse<u64>>,
}

impl Row {
    /// Merges `piece` and hands its symbols to `sink`, from left to right, each with its bytes.
    /// `first` says how long the first symbol of some bytes is and what token.
    pub(super) fn merge(
        &mut self,
        piece: &[u8],
        first: impl Fn(&[u8]) -> (usize, u32),
        pairs: &impl Pairs,
        mut sink: impl FnMut(u32, &[u8]),
    ) {
        for piece in piece.chunks(MAX_PIECE) {
            self.fill(piece, &first, pairs);
            if self.symbols.len() <= SHORT {
                self.merge_short(piece, pairs);
            } else {
                self.merge_long(piece, pairs);
            }
            let mut at = if self.symbols.is_empty() { NONE } else { 0 };
            while at != NONE {
                let symbol = self.symbols[at as usize];
                sink(symbol.id, &piece[symbol.start as usize..][..symbol.len as usize]);
                at = symbol.next;
            }
        }
    }

    /// Cuts the piece into its first symbols and ranks all neighbours.
    fn fill(&mut self, piece: &[u8], first: &impl Fn(&[u8]) -> (usize, u32), pairs: &impl Pairs) {
        self.symbols.clear();
        let mut at = 0;
        while at < piece.len() {
            let (len, id) = first(&piece[at..]);
            let index = self.symbols.len() as u32;
            self.symbols.push(Symbol {
                start: at as u32,
                len: len as u32,
                id,
                prev: index.wrapping_sub(1),
                next: index + 1,
                rank: NONE,
                merged: NONE,
            });
            at += len;
        }
        if let Some(last) = self.symbols.last_mut() {
            last.next = NONE;
        }
        for left in 0..self.symbols.len() {
            self.rank(piece, pairs, left as u32);
        }
    }

    /// Ranks the merge of symbol `left` with the next one.
    #[inline]
    fn rank(&mut self, piece: &[u8], pairs: &impl Pairs, left: u32) -> u32 {
        super::count::step();
        let symbol = &self.symbols[left as usize];
        let found = match symbol.next {
            NONE => None,
            next => pairs.pair(piece, symbol, &self.symbols[next as usize]),
        };
        let symbol = &mut self.symbols[left as usize];
        (symbol.rank, symbol.merged) = found.unwrap_or((NONE, NONE));
        symbol.rank
    }

    /// Merges symbol `left` with the next one; returns its left neighbour.
    #[inline]
    fn join(&mut self, left: u32) -> u32 {
        let symbol = self.symbols[left as usize];
        let right = &mut self.symbols[symbol.next as usize];
        let (len, next) = (right.len, right.next);
        // The right symbol is gone: a candidate that still names it must not be taken.
        right.rank = NONE;
        if next != NONE {
            self.symbols[next as usize].prev = left;
        }
        let symbol = &mut self.symbols[left as usize];
        symbol.len += len;
        symbol.id = symbol.merged;
        symbol.next = next;
        symbol.prev
    }

    fn merge_short(&mut self, piece: &[u8], pairs: &impl Pairs) {
        loop {
            let (mut best, mut best_rank) = (NONE, NONE);
            let mut at = if self.symbols.is_empty() { NONE } else { 0 };
            while at != NONE {
                super::count::step();
                let symbol = &self.symbols[at as usize];
                if symbol.rank < best_rank {
                    (best, best_rank) = (at, symbol.rank);
                }
                at = symbol.next;
            }
            if best == NONE {
                return;
            }
            let prev = self.join(best);
            self.rank(piece, pairs, best);
            if prev != NONE {
                self.rank(piece, pairs, prev);
            }
        }
    }

    fn merge_long(&mut self, piece: &[u8], pairs: &impl Pairs) {
        let ranked = self.symbols.iter().enumerate().filter(|(_, s)| s.rank != NONE);
        let candidates: Vec<_> = ranked.map(|(at, s)| candidate(s.rank, at as u32)).collect();
        self.heap = BinaryHeap::from(candidates);
        while let Some(Reverse(packed)) = self.heap.pop() {
            super::count::step();
            let (rank, at) = ((packed >> 32) as u32, packed as u32);
            // A candidate is stale if its symbol has merged since: its rank is then another one.
            if self.symbols[at as usize].rank != rank {
                continue;
            }
            let prev = self.join(at);
            let rank = self.rank(piece, pairs, at);
            if rank != NONE {
                self.heap.push(candidate(rank, at));
            }
            if prev != NONE {
                let rank = self.rank(piece, pairs, prev);
                if rank != NONE {
                    self.heap.push(candidate(rank, prev));
                }
            }
        }
    }
}

/// A merge to try: best rank first, of equal ones the leftmost.
#[inline]
fn candidate(rank: u32, at: u32) -> Reverse<u64> {
    Reverse(u64::from(rank) << 32 | u64::from(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any two neighbours merge; the rank is a hash of their bytes, so ties are common.
    struct Hashed;
    impl Pairs for Hashed {
        fn pair(&self, piece: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
            let bytes = &piece[left.start as usize..(right.start + right.len) as usize];
            let hash = bytes.iter().fold(7u32, |h, &b| h.wrapping_mul(31).wrapping_add(b.into()));
            (hash % 3 != 0 && bytes.len() < 9).then_some((hash % 17, hash))
        }
    }

    #[test]
    fn both_ways_of_merging_agree() {
        let mut seed = 1u32;
        for n in 0..200 {
            let piece: Vec<u8> = (0..n)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    b'a' + (seed >> 30) as u8
                })
                .collect();
            let first = |bytes: &[u8]| (1, u32::from(bytes[0]));
            let ends = |long: bool| {
                let mut row = Row::default();
                row.fill(&piece, &first, &Hashed);
                if long {
                    row.merge_long(&piece, &Hashed)
                } else {
                    row.merge_short(&piece, &Hashed)
                }
                let mut ends = vec![];
                let mut at = if row.symbols.is_empty() { NONE } else { 0 };
                while at != NONE {
                    ends.push((row.symbols[at as usize].start, row.symbols[at as usize].id));
                    at = row.symbols[at as usize].next;
                }
                ends
            };
            assert_eq!(ends(true), ends(false), "{n} symbols");
        }
    }
}
