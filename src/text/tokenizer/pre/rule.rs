//! The parts that pre-tokenizer patterns are made of, each matched by hand in linear time.
//!
//! A published pattern is an ordered alternation, tried at every position; here an alternative is
//! a [`Rule`]. None of them backtracks over more than one character, and those that must look at a
//! whole run of spaces or digits to decide remember what they saw ([`Scan`]), so that a megabyte
//! of one character costs the same per byte as prose. Nothing recurses.

use super::set::Set;

/// Which letters an English contraction (`'s 't 're 've 'm 'll 'd`) may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    /// Lower case only: `'s|'t|...`.
    None,
    /// Both cases of ASCII: `'[sS]|...`.
    Ascii,
    /// Unicode simple folding, `(?i:...)`: the long s (U+017F) is an s.
    Unicode,
}

/// What may or must stand before a run.
#[derive(Debug, Clone)]
pub(crate) enum Lead {
    /// Nothing.
    None,
    /// `[..]?`
    Maybe(Set),
    /// `[..]`
    Must(Set),
}

/// What must follow a group of digits that are counted from the right.
#[derive(Debug, Clone)]
pub(crate) enum Border {
    /// `(?!\p{N})`: nothing more, as the run is the longest one.
    Any,
    /// `\b` after a digit: no character of this set.
    Not(Set),
}

/// One alternative of a pattern.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// `'s|'t|'re|'ve|'m|'ll|'d`
    Contraction(Fold),
    /// `lead set{min,max} tail*`, with `tail` up to `tail_max` characters.
    Run { lead: Lead, set: Set, min: u32, max: u32, tail: Option<(Set, u32)> },
    /// `lead? upper* lower+ suffix?` or else `lead? upper+ lower* suffix?`.
    Cased { lead: Set, upper: Set, lower: Set, suffix: Option<Fold> },
    /// `lead?(?:letter mark*(?: letter mark*)*)+`: words joined by single spaces.
    Phrase { lead: Set, letter: Set, mark: Set },
    /// `\s*[\r\n]+` (and `\s*[\r\n]`, which ends at the same place): a run of spaces up to its
    /// last line break.
    ToLineBreak,
    /// `\s+(?!\S)|\s+`: a run of spaces but for the last one if text follows.
    Spaces,
    /// `\s{512}(?!\S)|\s{256}(?!\S)|..|\s{1,2}(?!\S)|\s{1}`
    HalvedSpaces,
    /// `\s+$`
    TrailingSpaces,
    /// `set{1,3}(?=(?:set{3})*border)`: groups of three counted from the right end of the run.
    Thousands { set: Set, border: Border },
    /// Any of these strings, tried in this order.
    OneOf(&'static [&'static str]),
    /// `<sentinel:[0-9]+>`
    Sentinel,
    /// `IMGIMG[A-I]{1,4}Z`
    ImageCode,
}

/// What a walk over one piece remembers, so that a run is looked at once however often the rules
/// ask about it.
#[derive(Debug)]
pub(crate) struct Scan<'p> {
    space: &'p Set,
    /// End of the last run of spaces seen; what follows holds for positions before it.
    space_end: usize,
    /// Start of that run's last character.
    space_last: usize,
    /// Byte after that run's last line break (0: it has none).
    line_end: usize,
    /// End of the last run of digits seen by [`Rule::Thousands`], its digits left, the place where
    /// the next group starts (`None`: the run may not be cut).
    digit_end: usize,
    digits_left: usize,
    digit_next: Option<usize>,
}

impl<'p> Scan<'p> {
    /// `space` is the class `\s`.
    pub(crate) fn new(space: &'p Set) -> Scan<'p> {
        Scan {
            space,
            space_end: 0,
            space_last: 0,
            line_end: 0,
            digit_end: 0,
            digits_left: 0,
            digit_next: None,
        }
    }

    /// Sees the run of spaces at `at`; false if there is none.
    fn spaces(&mut self, text: &str, at: usize) -> bool {
        if at < self.space_end {
            return true;
        }
        let mut end = at;
        while let Some(next) = self.space.step(text, end) {
            self.space_last = end;
            if matches!(text.as_bytes()[end], b'\r' | b'\n') {
                self.line_end = next;
            }
            end = next;
        }
        self.space_end = end;
        end > at
    }

    /// The group of three digits (or the one or two that are over) at `at`.
    fn thousands(&mut self, text: &str, at: usize, set: &Set, border: &Border) -> Option<usize> {
        if at >= self.digit_end {
            let (end, n) = set.run(text, at, u32::MAX);
            if n == 0 {
                return None;
            }
            let cut = match border {
                Border::Any => true,
                Border::Not(word) => word.step(text, end).is_none(),
            };
            (self.digit_end, self.digits_left) = (end, n as usize);
            self.digit_next = cut.then_some(at);
        }
        if self.digit_next != Some(at) {
            return None;
        }
        let size = match self.digits_left % 3 {
            0 => 3,
            over => over,
        };
        let (end, _) = set.run(text, at, size as u32);
        self.digits_left -= size;
        self.digit_next = Some(end);
        Some(end)
    }
}

impl Rule {
    /// End of the match of this alternative at byte `at` of `text`, if there is one.
    #[inline]
    pub(crate) fn matches(&self, scan: &mut Scan<'_>, text: &str, at: usize) -> Option<usize> {
        match self {
            Rule::Contraction(fold) => contraction(text, at, *fold),
            Rule::Run { lead, set, min, max, tail } => {
                let end = run(text, at, lead, set, *min, *max)?;
                match tail {
                    Some((tail, tail_max)) => Some(tail.run(text, end, *tail_max).0),
                    None => Some(end),
                }
            }
            Rule::Cased { lead, upper, lower, suffix } => {
                let end = cased(text, at, lead, upper, lower)?;
                Some(suffix.and_then(|fold| contraction(text, end, fold)).unwrap_or(end))
            }
            Rule::Phrase { lead, letter, mark } => {
                let skipped = lead.step(text, at).and_then(|at| phrase(text, at, letter, mark));
                skipped.or_else(|| phrase(text, at, letter, mark))
            }
            Rule::ToLineBreak => {
                (scan.spaces(text, at) && scan.line_end > at).then_some(scan.line_end)
            }
            Rule::Spaces => scan.spaces(text, at).then(|| {
                let whole = scan.space_end == text.len() || scan.space_last <= at;
                if whole { scan.space_end } else { scan.space_last }
            }),
            Rule::HalvedSpaces => halved_spaces(scan.space, text, at),
            Rule::TrailingSpaces => {
                (scan.spaces(text, at) && scan.space_end == text.len()).then_some(text.len())
            }
            Rule::Thousands { set, border } => scan.thousands(text, at, set, border),
            Rule::OneOf(words) => {
                words.iter().find(|w| text[at..].starts_with(**w)).map(|w| at + w.len())
            }
            Rule::Sentinel => sentinel(text, at),
            Rule::ImageCode => image_code(text, at),
        }
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d` at `at`.
#[inline]
fn contraction(text: &str, at: usize, fold: Fold) -> Option<usize> {
    let rest = &text.as_bytes()[at..];
    if rest.first() != Some(&b'\'') {
        return None;
    }
    let lower = |i: usize| {
        let byte = rest.get(i).copied().unwrap_or(0);
        if fold == Fold::None { byte } else { byte.to_ascii_lowercase() }
    };
    match (lower(1), lower(2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
        (b'r', b'e') | (b'v', b'e') | (b'l', b'l') => Some(at + 3),
        _ if fold == Fold::Unicode && rest[1..].starts_with("ſ".as_bytes()) => {
            Some(at + 1 + 'ſ'.len_utf8())
        }
        _ => None,
    }
}

/// `lead set{min,max}`; a lead that may be absent is given back if the set does not follow.
#[inline]
fn run(text: &str, at: usize, lead: &Lead, set: &Set, min: u32, max: u32) -> Option<usize> {
    let (set_at, optional) = match lead {
        Lead::None => (Some(at), false),
        Lead::Maybe(lead) => (lead.step(text, at), true),
        Lead::Must(lead) => (lead.step(text, at), false),
    };
    if let Some(set_at) = set_at {
        let (end, n) = set.run(text, set_at, max);
        if n >= min {
            return Some(end);
        }
    }
    let (end, n) = if optional {
        set.run(text, at, max)
    } else {
        return None;
    };
    (n >= min).then_some(end)
}

/// `lead? upper* lower+` or else `lead? upper+ lower*`, as a backtracking matcher would find it.
fn cased(text: &str, at: usize, lead: &Set, upper: &Set, lower: &Set) -> Option<usize> {
    let after = lead.step(text, at);
    let starts = [after, Some(at)];
    for start in starts.into_iter().flatten() {
        if let Some(end) = upper_lower(text, start, upper, lower) {
            return Some(end);
        }
    }
    // Here no `lower` follows anywhere, so the second form is a run of `upper`.
    starts.into_iter().flatten().find_map(|start| {
        let (end, n) = upper.run(text, start, u32::MAX);
        (n > 0).then(|| lower.run(text, end, u32::MAX).0)
    })
}

/// `upper* lower+`. If no `lower` follows the run of `upper`, the run gives characters back until
/// one that is both: the match ends after it.
fn upper_lower(text: &str, start: usize, upper: &Set, lower: &Set) -> Option<usize> {
    let mut at = start;
    let mut both_end = None;
    while let Some(next) = upper.step(text, at) {
        if lower.step(text, at).is_some() {
            both_end = Some(next);
        }
        at = next;
    }
    match lower.run(text, at, u32::MAX) {
        (end, n) if n > 0 => Some(end),
        _ => both_end,
    }
}

/// `(?:letter mark*(?: letter mark*)*)+`
fn phrase(text: &str, at: usize, letter: &Set, mark: &Set) -> Option<usize> {
    let mut end = letter.step(text, at)?;
    loop {
        end = mark.run(text, end, u32::MAX).0;
        let spaced = text[end..].starts_with(' ').then_some(end + 1);
        let next = letter.step(text, end);
        match next.or_else(|| spaced.and_then(|at| letter.step(text, at))) {
            Some(next) => end = next,
            None => return Some(end),
        }
    }
}

/// The largest of 512, 256, .. 4, 2, 1 spaces that no text follows, or else one space.
fn halved_spaces(space: &Set, text: &str, at: usize) -> Option<usize> {
    let text_follows = |end: usize| end < text.len() && space.step(text, end).is_none();
    let mut size = 512;
    while size > 0 {
        let (end, n) = space.run(text, at, size);
        if n == size && !text_follows(end) {
            return Some(end);
        }
        // Fewer than asked for: the next smaller size that may fit.
        size /= 2;
    }
    space.step(text, at)
}

/// `<sentinel:[0-9]+>`
fn sentinel(text: &str, at: usize) -> Option<usize> {
    let digits = text[at..].strip_prefix("<sentinel:")?;
    let n = digits.bytes().take_while(u8::is_ascii_digit).count();
    let closed = n > 0 && digits[n..].starts_with('>');
    closed.then(|| text.len() - digits.len() + n + 1)
}

/// `IMGIMG[A-I]{1,4}Z`
fn image_code(text: &str, at: usize) -> Option<usize> {
    let code = text[at..].strip_prefix("IMGIMG")?.as_bytes();
    let n = code.iter().take(4).take_while(|b| (b'A'..=b'I').contains(*b)).count();
    (n > 0 && code.get(n) == Some(&b'Z')).then(|| text.len() - code.len() + n + 1)
}
