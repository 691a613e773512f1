//! A Rust file taken apart into code, comments and string literals, with its lines kept.

/// One file.
pub(crate) struct Source {
    /// The file with comments and the insides of literals as blanks; same lines, same columns.
    pub(crate) code: String,
    /// (line from 0, text) of each line that has a comment, doc comments included.
    pub(crate) comments: Vec<(usize, String)>,
    /// (line from 0, content) of each string literal.
    pub(crate) strings: Vec<(usize, String)>,
    /// The first line that belongs to the file's own tests; the number of lines when there are none.
    pub(crate) tests_from: usize,
}

impl Source {
    pub(crate) fn new(text: &str) -> Source {
        let mut lexer = Lexer {
            text: text.as_bytes(),
            at: 0,
            line: 0,
            code: Vec::new(),
        };
        let mut source = Source {
            code: String::new(),
            comments: vec![],
            strings: vec![],
            tests_from: 0,
        };
        while lexer.at < lexer.text.len() {
            lexer.step(&mut source);
        }
        source.code = String::from_utf8_lossy(&lexer.code).into_owned();
        let tests = source
            .code
            .lines()
            .position(|line| line.trim() == "#[cfg(test)]");
        // Only a module counts: a single test-only item may stand anywhere.
        let module = |at: usize| {
            source
                .code
                .lines()
                .skip(at)
                .take(3)
                .any(|l| l.trim_start().starts_with("mod "))
        };
        source.tests_from = tests
            .filter(|at| module(*at))
            .unwrap_or(source.code.lines().count());
        source
    }

    /// Whether the comment on `line` contains `what`.
    pub(crate) fn comment_has(&self, line: usize, what: &str) -> bool {
        self.comments
            .iter()
            .any(|(at, text)| *at == line && text.contains(what))
    }

    pub(crate) fn has_comment(&self, line: usize) -> bool {
        self.comments.iter().any(|(at, _)| *at == line)
    }

    /// (line, column) of each place where `word` stands alone in the code.
    pub(crate) fn words(&self, word: &str) -> Vec<(usize, usize)> {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let mut found = Vec::new();
        for (number, line) in self.code.lines().enumerate() {
            for (at, _) in line.match_indices(word) {
                let before = line[..at].chars().next_back().is_some_and(part);
                let after = line[at + word.len()..].chars().next().is_some_and(part);
                if !before && !after {
                    found.push((number, at));
                }
            }
        }
        found
    }
}

struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    code: Vec<u8>,
}

impl Lexer<'_> {
    fn rest(&self) -> &[u8] {
        &self.text[self.at..]
    }

    /// Takes `n` bytes, as code or as blanks.
    fn take(&mut self, n: usize, as_code: bool) -> String {
        let end = (self.at + n).min(self.text.len());
        let piece = &self.text[self.at..end];
        for &b in piece {
            self.code.push(if as_code || b == b'\n' { b } else { b' ' });
            self.line += usize::from(b == b'\n');
        }
        self.at = end;
        String::from_utf8_lossy(piece).into_owned()
    }

    fn step(&mut self, source: &mut Source) {
        let rest = self.rest();
        let after_word = self.at > 0
            && (self.text[self.at - 1].is_ascii_alphanumeric() || self.text[self.at - 1] == b'_');
        if rest.starts_with(b"//") {
            let n = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            self.comment(n, source);
        } else if rest.starts_with(b"/*") {
            let n = block_comment(rest);
            self.comment(n, source);
        } else if rest[0] == b'"' {
            self.string(1, "\"", true, source);
        } else if !after_word && let Some((open, hashes)) = raw_string(rest) {
            self.string(open, &format!("\"{}", "#".repeat(hashes)), false, source);
        } else if rest[0] == b'\''
            && let Some(n) = char_literal(rest)
        {
            self.take(n, false);
        } else {
            self.take(1, true);
        }
    }

    fn comment(&mut self, n: usize, source: &mut Source) {
        let first = self.line;
        let text = self.take(n, false);
        source.comments.extend(
            text.lines()
                .enumerate()
                .map(|(i, l)| (first + i, l.to_owned())),
        );
    }

    fn string(&mut self, open: usize, close: &str, escapes: bool, source: &mut Source) {
        let line = self.line;
        self.take(open, true);
        let rest = self.rest();
        let mut n = 0;
        while n < rest.len() && !rest[n..].starts_with(close.as_bytes()) {
            n += if escapes && rest[n] == b'\\' { 2 } else { 1 };
        }
        let content = self.take(n, false);
        source.strings.push((line, content));
        self.take(close.len(), true);
    }
}

fn block_comment(text: &[u8]) -> usize {
    let (mut n, mut depth) = (2, 1);
    while n < text.len() && depth > 0 {
        if text[n..].starts_with(b"/*") {
            depth += 1;
            n += 2;
        } else if text[n..].starts_with(b"*/") {
            depth -= 1;
            n += 2;
        } else {
            n += 1;
        }
    }
    n
}

/// (bytes up to and with the opening quote, number of hashes) when a raw string starts here.
fn raw_string(text: &[u8]) -> Option<(usize, usize)> {
    let prefix = [&b"br"[..], b"cr", b"r"]
        .into_iter()
        .find(|p| text.starts_with(p))?
        .len();
    let hashes = text[prefix..].iter().take_while(|b| **b == b'#').count();
    (text.get(prefix + hashes) == Some(&b'"')).then_some((prefix + hashes + 1, hashes))
}

/// The length of the character literal that starts here; `None` for a lifetime.
fn char_literal(text: &[u8]) -> Option<usize> {
    if text.get(1) == Some(&b'\\') {
        return text.iter().skip(3).position(|b| *b == b'\'').map(|n| n + 4);
    }
    let width = std::str::from_utf8(&text[1..text.len().min(5)])
        .or_else(|e| std::str::from_utf8(&text[1..1 + e.valid_up_to()]))
        .ok()?
        .chars()
        .next()?
        .len_utf8();
    (text.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}
