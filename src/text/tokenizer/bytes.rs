//! The spelling of bytes as characters in byte-level vocabularies.
//!
//! Printable characters of Latin-1 stand for the byte of their number; the other bytes are spelled
//! U+0100, U+0101, .. in the order of the bytes. So a space is `Ġ` (U+0120).

/// Whether `byte` is spelled as the character of the same number.
const fn is_itself(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

/// Bytes that are not spelled as themselves, in order.
const MOVED: [u8; 68] = {
    let mut moved = [0; 68];
    let (mut n, mut byte) = (0, 0u8);
    loop {
        if !is_itself(byte) {
            moved[n] = byte;
            n += 1;
        }
        if byte == 255 {
            break moved;
        }
        byte += 1;
    }
};

/// What a character of two bytes in UTF-8 (U+0080 to U+0143) spells, by its number; no byte is
/// [`NO_BYTE`].
const WIDE: [u16; 0x144] = {
    let mut wide = [NO_BYTE; 0x144];
    let mut code = 0x80;
    while code < 0x144 {
        if code < 0x100 {
            if is_itself(code as u8) {
                wide[code] = code as u16;
            }
        } else {
            wide[code] = MOVED[code - 0x100] as u16;
        }
        code += 1;
    }
    wide
};

/// In [`WIDE`]: the character spells no byte.
const NO_BYTE: u16 = 256;

/// Appends the bytes that `spelling` stands for. A token with a character that spells no byte is
/// taken literally: such tokens were added by hand.
pub(super) fn unspell(spelling: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut at = 0;
    while let Some(&first) = spelling.get(at) {
        let byte = match first {
            33..=126 => Some(first),
            // Two bytes that together are a character up to U+0143.
            0xc2..=0xc5 => spelling.get(at + 1).filter(|b| **b & 0xc0 == 0x80).and_then(|second| {
                let code = usize::from(first & 0x1f) << 6 | usize::from(second & 0x3f);
                WIDE.get(code).and_then(|&byte| u8::try_from(byte).ok())
            }),
            _ => None,
        };
        let Some(byte) = byte else {
            out.truncate(start);
            out.extend_from_slice(spelling);
            return;
        };
        out.push(byte);
        at += if first < 0x80 { 1 } else { 2 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_spelling() {
        let mut seen = [0; 256];
        for c in '\0'..'\u{800}' {
            let (mut out, mut text) = (vec![], [0; 4]);
            unspell(c.encode_utf8(&mut text).as_bytes(), &mut out);
            let literal = out == c.to_string().as_bytes();
            if !literal || c.is_ascii_graphic() {
                assert_eq!(out.len(), 1, "{c:?}");
                seen[usize::from(out[0])] += 1;
            }
        }
        assert_eq!(seen, [1; 256]);
    }

    #[test]
    fn literal_tokens_stay_literal() {
        let spell = |text: &str| {
            let mut out = vec![];
            unspell(text.as_bytes(), &mut out);
            out
        };
        assert_eq!(spell("ĠhiĊń"), b" hi\n\xad");
        assert_eq!(spell("Ġa b"), "Ġa b".as_bytes());
        assert_eq!(spell("<｜Ġ｜>"), "<｜Ġ｜>".as_bytes());
    }
}
