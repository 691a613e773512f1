//! Provenance inside the characters themselves.
//!
//! Every character that comes from a user, a tool or any other caller's value is moved to a code
//! point of planes 4 to 10, which Unicode has never assigned ("shaded"), before the template engine
//! sees it. The engine then carries provenance for free: concatenation, slices, loops, captures
//! and filters copy characters, and lengths do not change. All comparing code of this module's
//! siblings looks at the plain form, so `message.role == 'user'` or `content.split('</think>')`
//! behave as if nothing had been moved. After rendering, shaded characters are moved back and are
//! by construction untrusted; everything else was written by the template.
//!
//! Planes 0 to 3 go to 4 to 7 and planes 14 to 16 to 8 to 10. Text that already holds a code point
//! of the unassigned planes 4 to 13 gets U+FFFD there.

use crate::text::Segment;
use std::borrow::Cow;

const LOW: u32 = 0x4_0000;
const HIGH: u32 = 0x6_0000;

/// True for a character that [`shade_char`] made.
pub(super) fn is_shaded(c: char) -> bool {
    (0x4_0000..0xB_0000).contains(&(c as u32))
}

/// Moves one character to its untrusted twin.
pub(super) fn shade_char(c: char) -> char {
    let n = c as u32;
    let twin = match n {
        0..0x4_0000 => n + LOW,
        0xE_0000.. => n - HIGH,
        _ => 0xFFFD + LOW,
    };
    char::from_u32(twin).unwrap_or('\u{4FFFD}')
}

/// The character as people wrote it, shaded or not.
pub(super) fn plain_char(c: char) -> char {
    let n = c as u32;
    let twin = match n {
        0x4_0000..0x8_0000 => n - LOW,
        0x8_0000..0xB_0000 => n + HIGH,
        _ => return c,
    };
    char::from_u32(twin).unwrap_or('\u{FFFD}')
}

/// True when any character is shaded.
pub(super) fn has_shade(s: &str) -> bool {
    // Planes 4 to 15 start with the bytes F1 to F3 in UTF-8: one cheap pass settles most text.
    s.bytes().any(|b| (0xF1..=0xF3).contains(&b)) && s.chars().any(is_shaded)
}

/// Shades a whole text.
pub(super) fn shade(s: &str) -> String {
    s.chars().map(|c| if is_shaded(c) { '\u{4FFFD}' } else { shade_char(c) }).collect()
}

/// The plain form of a text that may be shaded in part.
pub(super) fn plain(s: &str) -> Cow<'_, str> {
    if has_shade(s) { Cow::Owned(s.chars().map(plain_char).collect()) } else { Cow::Borrowed(s) }
}

/// Replaces code points that would read as shaded by U+FFFD (for text that is trusted).
pub(super) fn sanitize(s: &str) -> Cow<'_, str> {
    if has_shade(s) {
        Cow::Owned(s.chars().map(|c| if is_shaded(c) { '\u{FFFD}' } else { c }).collect())
    } else {
        Cow::Borrowed(s)
    }
}

/// Plain equality of two texts.
pub(super) fn same(a: &str, b: &str) -> bool {
    a == b
        || (has_shade(a) || has_shade(b)) && a.chars().map(plain_char).eq(b.chars().map(plain_char))
}

/// A text next to its plain form, with searches on the plain form.
pub(super) struct Mixed<'a> {
    /// The text as the engine holds it.
    pub(super) text: &'a str,
    /// The same characters, plain.
    pub(super) plain: Cow<'a, str>,
}

impl<'a> Mixed<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Mixed { text, plain: plain(text) }
    }

    /// Turns ascending byte offsets into the plain form into byte offsets into the text.
    fn offsets(&self, wanted: Vec<usize>) -> Vec<usize> {
        if matches!(self.plain, Cow::Borrowed(_)) {
            return wanted;
        }
        let mut rv = Vec::with_capacity(wanted.len());
        let (mut at_plain, mut at_text) = (0, 0);
        let mut chars = self.text.chars();
        for want in wanted {
            while at_plain < want {
                let Some(c) = chars.next() else { break };
                at_plain += plain_char(c).len_utf8();
                at_text += c.len_utf8();
            }
            rv.push(at_text);
        }
        rv
    }

    /// Byte ranges (in the text) of the non-overlapping occurrences of `needle`, from the left.
    /// `needle` must not be empty.
    pub(super) fn find_all(&self, needle: &str, limit: usize) -> Vec<(usize, usize)> {
        let needle = plain(needle);
        let mut ends = Vec::new();
        for (at, hit) in self.plain.match_indices(&*needle).take(limit) {
            ends.extend([at, at + hit.len()]);
        }
        self.offsets(ends).chunks_exact(2).map(|p| (p[0], p[1])).collect()
    }

    /// Like [`Mixed::find_all`] with the last `limit` occurrences, searched from the right.
    pub(super) fn rfind_all(&self, needle: &str, limit: usize) -> Vec<(usize, usize)> {
        let needle = plain(needle);
        let mut hits: Vec<_> = self
            .plain
            .rmatch_indices(&*needle)
            .take(limit)
            .map(|(at, h)| (at, at + h.len()))
            .collect();
        hits.reverse();
        let ends = hits.into_iter().flat_map(|(a, b)| [a, b]).collect();
        self.offsets(ends).chunks_exact(2).map(|p| (p[0], p[1])).collect()
    }

    /// The number of characters before byte `at` of the plain form.
    pub(super) fn char_index(&self, at: usize) -> usize {
        self.plain[..at].chars().count()
    }
}

/// Strips characters for which `drop` (asked about the plain character) holds.
pub(super) fn strip(s: &str, left: bool, right: bool, drop: impl Fn(char) -> bool) -> &str {
    let mut rv = s;
    if left {
        rv = rv.trim_start_matches(|c| drop(plain_char(c)));
    }
    if right {
        rv = rv.trim_end_matches(|c| drop(plain_char(c)));
    }
    rv
}

/// Applies a character mapping to the plain characters, keeping each one's provenance.
pub(super) fn map_chars<I: Iterator<Item = char>>(s: &str, f: impl Fn(usize, char) -> I) -> String {
    let mut rv = String::with_capacity(s.len());
    for (i, c) in s.chars().enumerate() {
        if is_shaded(c) {
            rv.extend(f(i, plain_char(c)).map(shade_char));
        } else {
            rv.extend(f(i, c));
        }
    }
    rv
}

/// Splits rendered text into trusted and untrusted stretches.
pub(super) fn segments(rendered: &str) -> Vec<Segment> {
    let mut rv: Vec<Segment> = Vec::new();
    for c in rendered.chars() {
        let trusted = !is_shaded(c);
        match rv.last_mut() {
            Some(last) if last.trusted == trusted => last.text.push(plain_char(c)),
            _ => rv.push(Segment { text: plain_char(c).to_string(), trusted }),
        }
    }
    rv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_comes_back() {
        for n in (0..0x11_0000u32).step_by(7).chain(0xD700..0xE100) {
            let Some(c) = char::from_u32(n) else { continue };
            if (0x4_0000..0xE_0000).contains(&n) {
                assert_eq!(plain_char(shade_char(c)), '\u{FFFD}');
            } else {
                assert!(is_shaded(shade_char(c)), "{n:x}");
                assert!(!is_shaded(c));
                assert_eq!(plain_char(shade_char(c)), c);
            }
        }
    }

    #[test]
    fn offsets_survive_mixed_widths() {
        let text = format!("aé{}b{}", shade("€</x>"), "</x>");
        let m = Mixed::new(&text);
        let hits: Vec<_> =
            m.find_all("</x>", 9).iter().map(|&(a, b)| plain(&text[a..b]).into_owned()).collect();
        assert_eq!(hits, ["</x>", "</x>"]);
        let (a, _) = m.rfind_all("</x>", 1)[0];
        assert!(!has_shade(&text[a..]));
    }
}
