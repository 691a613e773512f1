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

/// The byte that `c` spells.
fn byte(c: char) -> Option<u8> {
    match c as u32 {
        code @ 0..256 if is_itself(code as u8) => Some(code as u8),
        code @ 256.. => MOVED.get(code as usize - 256).copied(),
        _ => None,
    }
}

/// Appends the bytes that `spelling` stands for. A token with a character that spells no byte is
/// taken literally: such tokens were added by hand.
pub(super) fn unspell(spelling: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let Ok(text) = std::str::from_utf8(spelling) else {
        out.extend_from_slice(spelling);
        return;
    };
    for c in text.chars() {
        match byte(c) {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(start);
                out.extend_from_slice(spelling);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_spelling() {
        let mut seen = [0; 256];
        for c in '\0'..'\u{200}' {
            if let Some(byte) = byte(c) {
                seen[usize::from(byte)] += 1;
            }
        }
        assert_eq!(seen, [1; 256]);
        assert_eq!(byte('Ġ'), Some(b' '));
        assert_eq!(byte('Ċ'), Some(b'\n'));
        assert_eq!(byte('ń'), Some(0xad));
    }

    #[test]
    fn literal_tokens_stay_literal() {
        let spell = |text: &str| {
            let mut out = vec![];
            unspell(text.as_bytes(), &mut out);
            out
        };
        assert_eq!(spell("Ġhi"), b" hi");
        assert_eq!(spell("<｜Ġ｜>"), "<｜Ġ｜>".as_bytes());
    }
}
