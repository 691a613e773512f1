//! The two ways of merging ordinary text into tokens: byte-level (or raw) BPE with a merge list,
//! and SentencePiece-BPE with scores; and what all kinds of tokenizer share. What is special in a
//! text was cut out before ([`super::split`]).

use std::hash::BuildHasher;
use std::sync::Mutex;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use memchr::memmem;

use super::cache::Cache;
use super::merge::{NONE, Pairs, Row, Symbol};
use super::plamo::Way;
use super::pre::Pre;
use super::unigram::Step;
use super::vocab::Vocab;

/// Scratch sets kept for reuse; more threads at once than this allocate their own.
const MAX_IDLE: usize = 16;

/// Buffers of one encoding call.
#[derive(Debug)]
pub(super) struct Scratch {
    row: Row,
    cache: Cache,
    pub(super) steps: Vec<Step>,
    pub(super) ways: Vec<Way>,
}

impl Scratch {
    fn new() -> Scratch {
        Scratch { row: Row::default(), cache: Cache::new(), steps: vec![], ways: vec![] }
    }
}

/// Scratch sets that wait for the next call, so that words stay known between calls.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<Scratch>>);

impl Idle {
    /// Calls `work` with a scratch set.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let idle = self.0.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let mut scratch = idle.unwrap_or_else(Scratch::new);
        let result = work(&mut scratch);
        let mut idle = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if idle.len() < MAX_IDLE {
            idle.push(scratch);
        }
        result
    }
}

/// The tokens that spell single bytes; [`NONE`] where a byte has none.
pub(super) type ByteIds = Box<[u32; 256]>;

/// A merge as ids: left, right, the token that they make.
pub(super) type Merge = [u32; 3];

/// The merge list, to be looked into by pairs. The table holds places in the list only: it is a
/// third the size of one that holds the merges, and building it is what loading waits for.
#[derive(Debug)]
pub(super) struct Merges {
    list: Vec<Merge>,
    table: HashTable<u32>,
    hasher: RandomState,
}

impl Merges {
    /// `list` is in order of rank; one that names [`NONE`] is never found. Of equal pairs the
    /// first counts.
    pub(super) fn new(list: Vec<Merge>) -> Merges {
        let hasher = RandomState::default();
        let hash = |merge: &Merge| hasher.hash_one(merge_key(merge[0], merge[1]));
        let mut table = HashTable::with_capacity(list.len());
        for (rank, merge) in list.iter().enumerate().filter(|(_, merge)| !merge.contains(&NONE)) {
            let same = |&other: &u32| list[other as usize][..2] == merge[..2];
            let slot = table.entry(hash(merge), same, |&other| hash(&list[other as usize]));
            slot.or_insert(rank as u32);
        }
        Merges { list, table, hasher }
    }

    /// Rank and token of the merge of two tokens.
    #[inline]
    fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let hash = self.hasher.hash_one(merge_key(left, right));
        let same = |&rank: &u32| self.list[rank as usize][..2] == [left, right];
        let rank = *self.table.find(hash, same)?;
        Some((rank, self.list[rank as usize][2]))
    }
}

/// Two neighbours as one number.
#[inline]
fn merge_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// Byte-level BPE (`tokenizer.ggml.model` = `gpt2`), or BPE over characters (`gemma4`,
/// `whitespace`).
#[derive(Debug)]
pub(super) struct Bpe {
    pub(super) pre: Pre,
    pub(super) merges: Merges,
    /// Byte-level: the symbol of each byte. Over characters: the fallback token of each byte.
    pub(super) byte_ids: ByteIds,
    /// Bytes that some token has before a space (over characters only).
    pub(super) bridges: Bridges,
    /// What stands for characters that not even bytes spell (over characters only).
    pub(super) unknown: Option<u32>,
    /// Letters become lower case.
    pub(super) lowers: bool,
}

impl Pairs for Bpe {
    #[inline]
    fn pair(&self, _: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        self.merges.get(left.id, right.id)
    }
}

impl Bpe {
    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, work: &mut Scratch, ids: &mut Vec<u32>) {
        let lowered = self.lowers.then(|| text.to_lowercase());
        let text = lowered.as_deref().unwrap_or(text);
        if !self.pre.escape_spaces() {
            let drops = self.pre.drops_spaces();
            self.pre.pattern.split(text, &mut |piece| {
                if !(drops && piece.starts_with(char::is_whitespace)) {
                    self.piece(vocab, piece.as_bytes(), work, ids);
                }
            });
            return;
        }
        let text = spaces(text.as_bytes());
        // Spaces are spelled back to U+0020, so the text is still UTF-8.
        let text = String::from_utf8_lossy(&text);
        self.pre.pattern.split(&text, &mut |line| {
            if line.starts_with('\n')
                && let Some(id) = vocab.word(line.as_bytes())
            {
                ids.push(id);
                return;
            }
            self.bridges.split(line.as_bytes(), |word| self.piece(vocab, word, work, ids));
        });
    }

    #[inline]
    fn piece(&self, vocab: &Vocab, piece: &[u8], work: &mut Scratch, ids: &mut Vec<u32>) {
        cached(vocab, piece, work, ids, |work, ids| {
            if self.pre.ignore_merges()
                && let Some(id) = vocab.word(piece)
            {
                ids.push(id);
                return;
            }
            let over_chars = self.pre.is_over_chars();
            let first = |bytes: &[u8]| {
                if over_chars {
                    let len = char_len(bytes);
                    (len, vocab.word(&bytes[..len]).unwrap_or(NONE))
                } else {
                    (1, self.byte_ids[usize::from(bytes[0])])
                }
            };
            work.row.merge(piece, first, self, |id, bytes| match id {
                NONE if over_chars => unspelled(&self.byte_ids, self.unknown, bytes, ids),
                // A byte that has no token of its own is left out, as published tokenizers do.
                NONE => {}
                id => ids.push(id),
            });
        });
    }
}

/// SentencePiece-BPE (`tokenizer.ggml.model` = `llama`).
#[derive(Debug)]
pub(super) struct Spm {
    /// Rank of the merge that makes each token: the better its score, the less.
    pub(super) ranks: Vec<u32>,
    pub(super) byte_ids: ByteIds,
    /// What stands for text that not even bytes spell.
    pub(super) unknown: Option<u32>,
    pub(super) bridges: Bridges,
}

/// A merge of SentencePiece-BPE is allowed if its text is a token.
struct SpmPairs<'v>(&'v Spm, &'v Vocab);

impl Pairs for SpmPairs<'_> {
    #[inline]
    fn pair(&self, piece: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        let bytes = &piece[left.start as usize..(right.start + right.len) as usize];
        let id = self.1.word(bytes)?;
        Some((self.0.ranks[id as usize], id))
    }
}

impl Spm {
    /// Appends the tokens of `text`, which need not be UTF-8; with `prefix`, a space stands before
    /// it.
    pub(super) fn encode(
        &self,
        vocab: &Vocab,
        text: &[u8],
        prefix: bool,
        work: &mut Scratch,
        ids: &mut Vec<u32>,
    ) {
        let mut text = spaces(text);
        if prefix && !text.is_empty() {
            text.to_mut().insert(0, b' ');
        }
        self.bridges.split(&text, |word| {
            cached(vocab, word, work, ids, |work, ids| {
                let first = |bytes: &[u8]| {
                    let len = char_len(bytes);
                    (len, vocab.word(&bytes[..len]).unwrap_or(NONE))
                };
                work.row.merge(word, first, &SpmPairs(self, vocab), |id, bytes| match id {
                    NONE => unspelled(&self.byte_ids, self.unknown, bytes, ids),
                    id => ids.push(id),
                });
            });
        });
    }
}

/// Appends what stands for text that is no token: its bytes, or else the unknown token.
fn unspelled(byte_ids: &ByteIds, unknown: Option<u32>, bytes: &[u8], ids: &mut Vec<u32>) {
    let spelled = bytes.iter().map(|&b| byte_ids[usize::from(b)]);
    if spelled.clone().all(|id| id != NONE) {
        ids.extend(spelled);
    } else {
        ids.extend(unknown);
    }
}

/// The rank of a merge by its score: total order, best first.
pub(super) fn rank_of_score(score: f32) -> u32 {
    let bits = score.to_bits();
    // Floats in order as integers: negative ones are stored with falling bits.
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

/// Appends the tokens of `piece` from the cache, or else from `merge`, which are then kept.
#[inline]
pub(super) fn cached(
    vocab: &Vocab,
    piece: &[u8],
    work: &mut Scratch,
    ids: &mut Vec<u32>,
    merge: impl FnOnce(&mut Scratch, &mut Vec<u32>),
) {
    if !Cache::fits(piece) {
        return merge(work, ids);
    }
    let hash = vocab.hash(piece);
    if let Some(known) = work.cache.get(hash, piece) {
        return ids.extend_from_slice(known);
    }
    let start = ids.len();
    merge(work, ids);
    work.cache.put(hash, piece, &ids[start..]);
}

/// How SentencePiece spells a space: U+2581.
const MARK: &[u8] = "\u{2581}".as_bytes();

/// U+2581 as the space that it stands for: inside this program, vocabularies spell spaces as
/// spaces.
fn spaces(text: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if memmem::find(text, MARK).is_none() {
        return text.into();
    }
    let mut out = Vec::with_capacity(text.len());
    unescape(text, &mut out);
    out.into()
}

/// Appends `text` with a space for each U+2581.
#[inline]
pub(super) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    // Its first byte is rare in most text; what follows decides.
    while let Some(at) = rest.iter().position(|&b| b == MARK[0]) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix(MARK) {
            out.push(b' ');
            rest = after;
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out.extend_from_slice(rest);
}

/// Bytes of the character that `bytes` start with; 1 where they are not UTF-8.
fn char_len(bytes: &[u8]) -> usize {
    let len = match bytes[0] {
        0..0xc2 => return 1,
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    };
    match bytes.get(..len) {
        Some(char) if std::str::from_utf8(char).is_ok() => len,
        _ => 1,
    }
}

/// Where text without a pre-tokenizer may be cut all the same.
///
/// No merge can cross from a byte to a following space if no token holds these two side by side.
/// Most vocabularies hold no such token at all, so text falls into words; that keeps rows short
/// and lets the cache work, and the result is the same.
#[derive(Debug, Clone)]
pub(super) struct Bridges(Box<[bool; 256]>);

impl Bridges {
    /// Looks through all tokens that merging may make.
    pub(super) fn new(vocab: &Vocab) -> Bridges {
        let mut before_space = Box::new([false; 256]);
        // A row of spaces is never cut: it is a word of its own or the front of one.
        before_space[usize::from(b' ')] = true;
        for (id, _) in vocab.iter().filter(|(_, kind)| kind.is_word()) {
            let bytes = vocab.bytes(id);
            for at in 1..bytes.len() {
                if bytes[at] == b' ' {
                    before_space[usize::from(bytes[at - 1])] = true;
                }
            }
        }
        Bridges(before_space)
    }

    /// Calls `sink` with the words of `text`, which together are the text.
    pub(super) fn split(&self, text: &[u8], mut sink: impl FnMut(&[u8])) {
        let mut start = 0;
        for at in 1..text.len() {
            if text[at] == b' ' && !self.0[usize::from(text[at - 1])] {
                sink(&text[start..at]);
                start = at;
            }
        }
        if start < text.len() {
            sink(&text[start..]);
        }
    }
}
