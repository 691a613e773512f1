//! Looking through text that grows: what was looked at once is not looked at again.

/// No tool has a longer name.
pub(super) const MAX_NAME: usize = 256;

/// What a look at the text gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// It depends on text that is not there yet.
    More,
    /// Something else stands there.
    No,
    /// It is there.
    Got(T),
}

/// A place in a text that only grows.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The place: what stands before it is read.
    pub(super) at: usize,
    /// What stands before this place has become calls; white space after it may yet be text.
    pub(super) spent: usize,
    /// A search from this place on has found nothing before `seen`.
    seen: usize,
    brackets: Brackets,
}

/// A walk over text in brackets.
#[derive(Debug, Default)]
struct Brackets {
    /// Where the text starts, and how far the walk has come.
    start: usize,
    end: usize,
    depth: usize,
    /// The quotation mark of the string that the walk is in.
    quote: Option<u8>,
    is_escaped: bool,
}

/// Which quotation marks begin strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    Double,
    Any,
}

impl Cursor {
    /// A cursor at a place.
    pub(super) fn new(at: usize) -> Cursor {
        Cursor { at, ..Cursor::default() }
    }

    /// What stands before this place has become calls.
    pub(super) fn spend(&mut self) -> usize {
        self.spent = self.at;
        self.at
    }

    /// What stands from here on.
    pub(super) fn rest<'t>(&self, text: &'t str) -> &'t str {
        &text[self.at..]
    }

    /// The next character.
    pub(super) fn peek(&self, text: &str) -> Option<char> {
        self.rest(text).chars().next()
    }

    /// Goes past white space.
    pub(super) fn skip_space(&mut self, text: &str) {
        let rest = self.rest(text);
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Goes past one of some words, if it stands here; `Got` says which.
    pub(super) fn word(&mut self, text: &str, words: &[&str], at_end: bool) -> Next<usize> {
        let rest = self.rest(text);
        if let Some(i) = words.iter().position(|word| rest.starts_with(word)) {
            self.at += words[i].len();
            return Next::Got(i);
        }
        let may_come = !at_end && words.iter().any(|word| word.starts_with(rest));
        if may_come { Next::More } else { Next::No }
    }

    /// The text up to the first of some words, and which one; goes past it.
    pub(super) fn until<'t>(&mut self, text: &'t str, words: &[&str]) -> Option<(&'t str, usize)> {
        let from = self.seen.max(self.at);
        let found = words.iter().enumerate().filter_map(|(i, w)| Some((text[from..].find(w)?, i)));
        let Some((at, i)) = found.min() else {
            let longest = words.iter().map(|w| w.len()).max().unwrap_or(1);
            self.seen = text.floor_char_boundary(text.len().saturating_sub(longest - 1)).max(from);
            return None;
        };
        let before = &text[self.at..from + at];
        self.at = from + at + words[i].len();
        Some((before, i))
    }

    /// The same for a name: it may not be long, so that text which is none is soon known for it.
    pub(super) fn name_until<'t>(
        &mut self,
        text: &'t str,
        words: &[&str],
    ) -> Next<(&'t str, usize)> {
        let rest = self.rest(text).len();
        let longest = words.iter().map(|word| word.len()).max().unwrap_or(0);
        match self.until(text, words) {
            Some((name, which)) if name.len() <= MAX_NAME => Next::Got((name, which)),
            None if rest < MAX_NAME + longest => Next::More,
            _ => Next::No,
        }
    }

    /// The text in brackets that begins here, brackets included; goes past it. Strings may hold
    /// brackets. That they match is for whoever reads the text to say.
    pub(super) fn brackets<'t>(&mut self, text: &'t str, quotes: Quotes) -> Next<&'t str> {
        if !matches!(text.as_bytes().get(self.at), Some(b'{' | b'[' | b'(')) {
            return if self.at == text.len() { Next::More } else { Next::No };
        }
        if self.brackets.start != self.at || self.brackets.end <= self.at {
            self.brackets = Brackets { start: self.at, end: self.at, ..Brackets::default() };
        }
        let walk = &mut self.brackets;
        while let Some(&byte) = text.as_bytes().get(walk.end) {
            walk.end += 1;
            match (walk.quote, byte) {
                (Some(_), _) if walk.is_escaped => walk.is_escaped = false,
                (Some(_), b'\\') => walk.is_escaped = true,
                (Some(quote), _) if byte == quote => walk.quote = None,
                (Some(_), _) => {}
                (None, b'"') => walk.quote = Some(b'"'),
                (None, b'\'') if quotes == Quotes::Any => walk.quote = Some(b'\''),
                (None, b'{' | b'[' | b'(') => walk.depth += 1,
                (None, b'}' | b']' | b')') => {
                    walk.depth = walk.depth.saturating_sub(1);
                    if walk.depth == 0 {
                        let found = &text[self.at..walk.end];
                        self.at = walk.end;
                        return Next::Got(found);
                    }
                }
                (None, _) => {}
            }
        }
        Next::More
    }
}
