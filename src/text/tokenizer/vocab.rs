//! The vocabulary: the bytes of every token in one buffer, and a hash table of ids over it.
//!
//! Nothing is allocated per token: a quarter of a million of them cost three vectors and a table
//! of 32-bit ids. What a token *is* in bytes is decided at load (byte-level spelling undone, U+2581
//! turned into a space), so that encoding compares text as it comes and decoding copies.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// What a vocabulary says a token is (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TokenType {
    /// Text.
    Normal = 1,
    /// Stands for what the vocabulary cannot spell.
    Unknown = 2,
    /// Steers the model; has no text of its own.
    Control = 3,
    /// Added by the model's makers; found in text before anything is merged.
    UserDefined = 4,
    /// Reserved.
    Unused = 5,
    /// One byte, for text that no other token spells.
    Byte = 6,
}

impl TokenType {
    /// The type with this number in a file.
    pub fn from_id(id: i64) -> Option<TokenType> {
        Some(match id {
            1 => TokenType::Normal,
            2 => TokenType::Unknown,
            3 => TokenType::Control,
            4 => TokenType::UserDefined,
            5 => TokenType::Unused,
            6 => TokenType::Byte,
            _ => return None,
        })
    }
}

/// One token's properties, packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) ty: TokenType,
    /// Steers the model: made only where special tokens are asked for.
    pub(super) control: bool,
    /// A user-defined token that looks as if it steers the model: made from the template's text
    /// and from text that is encoded as a whole, never from text that is not trusted.
    pub(super) marker: bool,
}

/// All tokens of a model.
#[derive(Debug, Clone)]
pub(super) struct Vocab {
    /// The bytes of the tokens, one after the other.
    bytes: Vec<u8>,
    /// Token i ends at `ends[i]`.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
    /// Ids of the tokens that merging may make.
    words: HashTable<u32>,
    /// Ids of all others.
    others: HashTable<u32>,
    hasher: RandomState,
    /// Some tokens have the same bytes.
    has_twins: bool,
}

impl Vocab {
    /// An empty vocabulary with room for `n` tokens of about `n_bytes` bytes together.
    pub(super) fn with_capacity(n: usize, n_bytes: usize) -> Vocab {
        Vocab {
            bytes: Vec::with_capacity(n_bytes),
            ends: Vec::with_capacity(n),
            kinds: Vec::with_capacity(n),
            words: HashTable::new(),
            others: HashTable::new(),
            // Seeded at random: a file cannot be built to make all its tokens collide.
            hasher: RandomState::default(),
            has_twins: false,
        }
    }

    /// Adds the next token. `write` appends its bytes to the buffer.
    pub(super) fn push(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.kinds.push(kind);
    }

    /// Builds the look-up tables once all tokens are there. Of two tokens with the same bytes the
    /// first is found.
    pub(super) fn index(&mut self) {
        let n_words = self.kinds.iter().filter(|k| k.is_word()).count();
        let mut words = HashTable::with_capacity(n_words);
        let mut others = HashTable::with_capacity(self.len() - n_words);
        let mut has_twins = false;
        for id in 0..self.len() as u32 {
            let bytes = self.bytes(id);
            let hash = self.hasher.hash_one(bytes);
            let table = if self.kind(id).is_word() { &mut words } else { &mut others };
            let (same, rehash) = (
                |&other: &u32| self.bytes(other) == bytes,
                |&id: &u32| self.hasher.hash_one(self.bytes(id)),
            );
            match table.entry(hash, same, rehash) {
                Entry::Vacant(slot) => drop(slot.insert(id)),
                Entry::Occupied(_) => has_twins = true,
            }
        }
        self.has_twins = has_twins;
        (self.words, self.others) = (words, others);
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of token `id`, which must be less than [`Vocab::len`].
    #[inline]
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        &self.bytes[start..self.ends[id] as usize]
    }

    /// What token `id` is.
    #[inline]
    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds[id as usize]
    }

    /// The token that merging may make of these bytes.
    #[inline]
    pub(super) fn word(&self, bytes: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(bytes);
        self.words.find(hash, |&id| self.bytes(id) == bytes).copied()
    }

    /// The same as [`Vocab::word`], looked for at `guess` and just after it first.
    #[inline]
    pub(super) fn word_near(&self, guess: u32, bytes: &[u8]) -> Option<u32> {
        for id in [guess, guess.wrapping_add(1)] {
            let is_near = (id as usize) < self.len() && self.bytes(id) == bytes;
            if is_near && !self.has_twins && self.kind(id).is_word() {
                return Some(id);
            }
        }
        self.word(bytes)
    }

    /// A token with exactly these bytes that merging never makes: control, user-defined, byte.
    pub(super) fn other(&self, bytes: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(bytes);
        self.others.find(hash, |&id| self.bytes(id) == bytes).copied()
    }

    /// Hash of a piece of text, for caches that belong to this vocabulary.
    #[inline]
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    /// Ids and kinds of all tokens, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Kind)> {
        self.kinds.iter().enumerate().map(|(id, &kind)| (id as u32, kind))
    }
}

impl Kind {
    /// Whether merging may make such a token.
    pub(super) fn is_word(self) -> bool {
        !self.control && self.ty == TokenType::Normal
    }
}
