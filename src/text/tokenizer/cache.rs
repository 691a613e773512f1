//! Pieces that were merged before: text repeats its words.
//!
//! A fixed table of short pieces; a new piece takes the slot of an old one. It holds no pointers
//! and never grows, so a hostile text can slow it down but not fill memory.

/// Slots of the table, a power of two (448 KiB in all).
const N_SLOTS: usize = 8192;
/// Longer pieces, and pieces of more tokens, are not kept.
const MAX_BYTES: usize = 27;
const MAX_IDS: usize = 6;

#[derive(Debug, Clone, Copy)]
struct Slot {
    ids: [u32; MAX_IDS],
    n_ids: u8,
    len: u8,
    piece: [u8; MAX_BYTES],
}

/// Pieces and their tokens.
#[derive(Debug)]
pub(super) struct Cache {
    slots: Vec<Slot>,
}

impl Cache {
    pub(super) fn new() -> Cache {
        let empty = Slot { ids: [0; MAX_IDS], n_ids: 0, len: 0, piece: [0; MAX_BYTES] };
        Cache { slots: vec![empty; N_SLOTS] }
    }

    /// Whether a piece may be kept at all.
    #[inline]
    pub(super) fn fits(piece: &[u8]) -> bool {
        (1..=MAX_BYTES).contains(&piece.len())
    }

    /// The tokens of `piece`, whose hash is `hash`, if they are here.
    #[inline]
    pub(super) fn get(&self, hash: u64, piece: &[u8]) -> Option<&[u32]> {
        let slot = &self.slots[hash as usize % N_SLOTS];
        let found = &slot.piece[..usize::from(slot.len)] == piece;
        found.then(|| &slot.ids[..usize::from(slot.n_ids)])
    }

    /// Keeps the tokens of `piece` if they fit.
    pub(super) fn put(&mut self, hash: u64, piece: &[u8], ids: &[u32]) {
        if !Cache::fits(piece) || ids.len() > MAX_IDS {
            return;
        }
        let slot = &mut self.slots[hash as usize % N_SLOTS];
        slot.ids[..ids.len()].copy_from_slice(ids);
        slot.piece[..piece.len()].copy_from_slice(piece);
        (slot.n_ids, slot.len) = (ids.len() as u8, piece.len() as u8);
    }
}
