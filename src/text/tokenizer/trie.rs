//! Tokens by their beginnings: all that start at a place of a text are found in one walk.
//!
//! The nodes stand in order of depth, so the children of a node are neighbours: a node keeps where
//! they begin and the next node says where they end. A step is a search in their labels.

use super::count;
use super::vocab::Vocab;

/// No token ends here.
const NONE: u32 = u32::MAX;

/// The root's number.
const ROOT: u32 = 0;

/// A set of tokens as a tree of bytes.
#[derive(Debug)]
pub(super) struct Trie {
    /// The byte that leads to each node.
    labels: Vec<u8>,
    /// The first child of each node, and one more entry at the end.
    first: Vec<u32>,
    /// The token that ends at each node, or [`NONE`].
    tokens: Vec<u32>,
    /// The root's children, which nearly every walk begins with.
    starts: Box<[u32; 256]>,
}

/// Tokens with one beginning: a range of the sorted list, and how many bytes they share.
struct Branch {
    from: u32,
    to: u32,
    depth: u32,
}

impl Trie {
    /// The trie of the tokens of `vocab` that `is_sought` picks; empty ones are left out. Of two
    /// with the same bytes the first counts.
    pub(super) fn new(vocab: &Vocab, is_sought: impl Fn(u32) -> bool) -> Trie {
        let ids = vocab.iter().map(|(id, _)| id);
        let mut ids: Vec<u32> =
            ids.filter(|&id| !vocab.bytes(id).is_empty() && is_sought(id)).collect();
        ids.sort_by_key(|&id| vocab.bytes(id));
        let (mut labels, mut first, mut tokens) = (vec![0], vec![], vec![]);
        let mut branches = vec![Branch { from: 0, to: ids.len() as u32, depth: 0 }];
        while let Some(&Branch { mut from, to, depth }) = branches.get(first.len()) {
            first.push(branches.len() as u32);
            let ends_here = |at: u32| vocab.bytes(ids[at as usize]).len() == depth as usize;
            let token = (from < to && ends_here(from)).then(|| ids[from as usize]);
            tokens.push(token.unwrap_or(NONE));
            while from < to && ends_here(from) {
                from += 1;
            }
            while from < to {
                let label = vocab.bytes(ids[from as usize])[depth as usize];
                let same = ids[from as usize..to as usize]
                    .partition_point(|&id| vocab.bytes(id)[depth as usize] == label);
                labels.push(label);
                branches.push(Branch { from, to: from + same as u32, depth: depth + 1 });
                from += same as u32;
            }
        }
        first.push(branches.len() as u32);
        let mut trie = Trie { labels, first, tokens, starts: Box::new([NONE; 256]) };
        for byte in 0..=255u8 {
            trie.starts[usize::from(byte)] = trie.child(ROOT, byte);
        }
        trie
    }

    /// The node that `byte` leads to, or [`NONE`].
    #[inline]
    fn child(&self, node: u32, byte: u8) -> u32 {
        let from = self.first[node as usize];
        let to = self.first[node as usize + 1];
        let at = memchr::memchr(byte, &self.labels[from as usize..to as usize]);
        at.map_or(NONE, |at| from + at as u32)
    }

    /// Calls `found` with the length and id of every token that `text` begins with, the shortest
    /// first.
    #[inline]
    pub(super) fn prefixes(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let Some(&first) = text.first() else { return };
        let mut node = self.starts[usize::from(first)];
        let mut len = 1;
        while node != NONE {
            count::step();
            let token = self.tokens[node as usize];
            if token != NONE {
                found(len, token);
            }
            let Some(&byte) = text.get(len) else { return };
            node = self.child(node, byte);
            len += 1;
        }
    }

    /// Length and id of the longest token that `text` begins with.
    #[inline]
    pub(super) fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        let mut longest = None;
        self.prefixes(text, |len, id| longest = Some((len, id)));
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::vocab::{Kind, TokenType};

    #[test]
    fn all_beginnings_are_found() {
        let words = ["b", "abc", "a", "", "ab", "abd", "\u{e9}", "ab", "zzzz"];
        let mut vocab = Vocab::with_capacity(0, 0);
        let kind = Kind { ty: TokenType::Normal, control: false, marker: false };
        words.iter().for_each(|w| vocab.push(kind, |out| out.extend_from_slice(w.as_bytes())));
        vocab.index();
        let trie = Trie::new(&vocab, |id| id != 2);
        let all = |text: &[u8]| {
            let mut found = vec![];
            trie.prefixes(text, |len, id| found.push((len, id)));
            found
        };
        assert_eq!(all(b"abcd"), [(2, 4), (3, 1)]);
        assert_eq!(all("\u{e9}!".as_bytes()), [(2, 6)]);
        assert_eq!(all(b"zzz"), []);
        assert_eq!(all(b""), []);
        assert_eq!((trie.longest(b"abx"), trie.longest(b"x")), (Some((2, 4)), None));
    }
}
