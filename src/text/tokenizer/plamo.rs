//! PLaMo-2's tokenizer (`tokenizer.ggml.model` = `plamo2`): the segmentation of least cost.
//!
//! Costs are scores times -10^4 as whole numbers. The search goes from the end of the text to its
//! start: the cost of a suffix is that of a token it begins with and of the suffix after that; of
//! equal ones the longest token wins. A character may always stand as its bytes, at a cost that no
//! token reaches. The algorithm is that of the published tokenizer, which also drops a byte-order
//! mark in front and, like RWKV's, knows no special tokens.

use super::engine::{ByteIds, Scratch};
use super::merge::NONE;
use super::trie::Trie;
use super::vocab::Vocab;

/// What a character costs that no token spells.
const COST_OF_BYTES: i64 = 10_000_000;
/// A token of this cost or a higher one is never used.
const COST_LIMIT: i64 = 20_000_000;

/// The tokens by their beginnings, and their costs.
#[derive(Debug)]
pub(super) struct Plamo {
    trie: Trie,
    harmless: Trie,
    costs: Vec<i32>,
    byte_ids: ByteIds,
}

/// The best way from a place to the end of the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    cost: i64,
    /// The token that the way begins with, or [`NONE`] for the bytes of a character.
    id: u32,
    len: u32,
}

impl Plamo {
    /// `scores` has one entry for each token; one that is not finite forbids its token.
    pub(super) fn new(vocab: &Vocab, scores: &[f32], byte_ids: ByteIds) -> Plamo {
        let costs = scores.iter().map(|&score| match score.is_finite() {
            true => -((score * 1e4).round() as i32).max(-i32::MAX),
            false => i32::MAX,
        });
        let costs: Vec<i32> = costs.collect();
        let is_usable = |id: u32| {
            let is_text = std::str::from_utf8(vocab.bytes(id)).is_ok();
            let is_byte = vocab.kind(id).ty == super::TokenType::Byte;
            is_text && !is_byte && i64::from(costs[id as usize]) < COST_LIMIT
        };
        let is_harmless = |id: u32| !vocab.kind(id).control && !vocab.kind(id).marker;
        let trie = Trie::new(vocab, is_usable);
        let harmless = Trie::new(vocab, |id| is_usable(id) && is_harmless(id));
        Plamo { trie, harmless, costs, byte_ids }
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(
        &self,
        text: &str,
        is_trusted: bool,
        work: &mut Scratch,
        ids: &mut Vec<u32>,
    ) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).as_bytes();
        let trie = if is_trusted { &self.trie } else { &self.harmless };
        let ways = &mut work.ways;
        ways.clear();
        ways.resize(text.len() + 1, Way { cost: 0, id: NONE, len: 0 });
        let mut end = text.len();
        for at in (0..text.len()).rev() {
            if !is_char_start(text[at]) {
                continue;
            }
            let as_bytes = COST_OF_BYTES + ways[end].cost;
            let mut best = Way { cost: as_bytes, id: NONE, len: (end - at) as u32 };
            trie.prefixes(&text[at..], |len, id| {
                let cost = i64::from(self.costs[id as usize]) + ways[at + len].cost;
                if cost <= best.cost {
                    best = Way { cost, id, len: len as u32 };
                }
            });
            ways[at] = best;
            end = at;
        }
        let mut at = 0;
        while at < text.len() {
            let way = ways[at];
            let next = at + way.len as usize;
            match way.id {
                NONE => {
                    let bytes = text[at..next].iter().map(|&b| self.byte_ids[usize::from(b)]);
                    ids.extend(bytes.filter(|&id| id != NONE));
                }
                id => ids.push(id),
            }
            at = next;
        }
    }
}

/// Whether a byte of UTF-8 begins a character.
pub(super) fn is_char_start(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}
