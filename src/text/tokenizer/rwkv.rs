//! RWKV's tokenizer (`tokenizer.ggml.model` = `rwkv`): from left to right, always the longest token.
//!
//! Its published form knows no special tokens; text that spells one is that token. So it is here
//! for text that is encoded as a whole, and never for text that is not trusted.

use super::merge::NONE;
use super::trie::Trie;

/// The vocabulary by its beginnings.
#[derive(Debug)]
pub(super) struct Rwkv {
    /// All tokens.
    pub(super) all: Trie,
    /// Those that do not steer the model.
    pub(super) harmless: Trie,
    pub(super) unknown: Option<u32>,
}

impl Rwkv {
    /// Appends the tokens of `text`, which need not be UTF-8.
    pub(super) fn encode(&self, text: &[u8], is_trusted: bool, ids: &mut Vec<u32>) {
        let trie = if is_trusted { &self.all } else { &self.harmless };
        let mut rest = text;
        while !rest.is_empty() {
            let (len, id) = trie.longest(rest).unwrap_or((1, self.unknown.unwrap_or(NONE)));
            ids.extend(Some(id).filter(|&id| id != NONE));
            rest = &rest[len..];
        }
    }
}

/// Appends the bytes of a token as files of this kind spell it: `\t`, `\n`, `\r`, `\x41`, and a
/// backslash before any other character stands for that character.
pub(super) fn unspell(spelling: &[u8], out: &mut Vec<u8>) {
    let mut rest = spelling;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = (byte == b'\\').then(|| after.split_first()).flatten();
        let Some((&kind, after)) = escaped else {
            out.push(byte);
            continue;
        };
        rest = after;
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match (kind, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b't', _) => out.push(b'\t'),
            (b'n', _) => out.push(b'\n'),
            (b'r', _) => out.push(b'\r'),
            (b'x', Some(byte)) => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => out.push(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spellings_are_undone() {
        let bytes = |text: &str| {
            let mut out = vec![];
            super::unspell(text.as_bytes(), &mut out);
            out
        };
        assert_eq!(bytes(r"a\tb\n\r\\\x00\xFf\'\x"), b"a\tb\n\r\\\x00\xff'x");
        assert_eq!(bytes("é\\xg1\\"), "éxg1\\".as_bytes());
    }
}
