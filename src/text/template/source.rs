//! The pass over a template's source before minijinja compiles it.
//!
//! It keeps the text of the template and touches operators and literals only:
//!
//! * `a == b`, `<`, `in`, `not in` and chains of them become `_cmp_(a, "==", b)`, `a + b` becomes
//!   `_sum_(a, "+", b)` and `a ~ b` becomes `_cat_(a, b)`, because the engine's own operators would
//!   compare shaded text (see `shade.rs`) by code point, join lists without a memory limit and know
//!   nothing of Python's rules;
//! * list, dict and tuple literals become `_list_([..])`, `_dict_({..})`, `_tuple_([..])`: values
//!   that know `append`, print as Python prints them and limit their nesting;
//! * `{% generation %}` renders its body.
//!
//! Precedence is Jinja's: `not` < comparison < `+ -` < `~` < the rest, which is copied unchanged
//! with its brackets rewritten inside.

use super::TemplateError;

const MAX_NESTING: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Name,
    Value,
    Op,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
    /// For an opening bracket the index of its closing one.
    close: usize,
}

/// Rewrites a template for compilation.
///
/// # Errors
/// Brackets nested deeper than 100 or a tag that never ends (strings included).
pub(super) fn prepare(source: &str) -> Result<String, TemplateError> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = &*super::shade::sanitize(&source);
    let mut out = String::with_capacity(source.len() * 5 / 4);
    let mut at = 0;
    while let Some(open) = source[at..].find('{').map(|i| at + i) {
        let tag = match source.as_bytes().get(open + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                out.push_str(&source[at..=open]);
                at = open + 1;
                continue;
            }
        };
        out.push_str(&source[at..open]);
        at = if tag == "#}" {
            let end = source[open + 2..].find("#}").map_or(source.len(), |i| open + 2 + i + 2);
            out.push_str(&source[open..end]);
            end
        } else if let Some(end) = raw_block(source, open) {
            out.push_str(&source[open..end]);
            end
        } else {
            let (tokens, end) = lex(source, open + 2, tag)?;
            let body_start = tokens.first().map_or(end, |t| t.start);
            out.push_str(&source[open..body_start]);
            let mut w = Rewriter { source, tokens: &tokens, out: &mut out, depth: 0 };
            if tag == "%}" {
                w.statement()?
            } else {
                w.expr(0, tokens.len())?
            }
            let body_end = tokens.last().map_or(body_start, |t| t.end);
            out.push_str(&source[body_end..end]);
            end
        };
    }
    out.push_str(&source[at..]);
    Ok(out)
}

/// The end of a `{% raw %} … {% endraw %}` that starts at `open`.
fn raw_block(source: &str, open: usize) -> Option<usize> {
    fn tag(source: &str, open: usize, word: &str) -> Option<usize> {
        let rest = source[open..].strip_prefix("{%")?;
        let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start();
        let rest = rest.strip_prefix(word)?.trim_start();
        let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        Some(source.len() - rest.strip_prefix("%}")?.len())
    }
    let mut at = tag(source, open, "raw")?;
    while let Some(i) = source[at..].find("{%") {
        if let Some(end) = tag(source, at + i, "endraw") {
            return Some(end);
        }
        at += i + 2;
    }
    Some(source.len())
}

/// Splits one tag into tokens; returns them with the offset after the tag's end.
fn lex(source: &str, start: usize, tag_end: &str) -> Result<(Vec<Token>, usize), TemplateError> {
    let bytes = source.as_bytes();
    let mut tokens: Vec<Token> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut at = start + usize::from(matches!(bytes.get(start), Some(b'-' | b'+')));
    loop {
        let rest = &source[at..];
        let Some(c) = rest.chars().next() else {
            return Err(unended(source, start));
        };
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let trimmed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        // `}}` ends an expression only outside of dicts; `%}` cannot stand inside one
        if (tag_end == "%}" || open.is_empty()) && trimmed.starts_with(tag_end) {
            return Ok((tokens, source.len() - trimmed.len() + 2));
        }
        let (kind, len) = match c {
            '\'' | '"' => (Kind::Value, string_len(rest).ok_or_else(|| unended(source, start))?),
            c if c.is_alphabetic() || c == '_' => (
                Kind::Name,
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()),
            ),
            c if c.is_ascii_digit() => (
                Kind::Value,
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len()),
            ),
            _ => {
                let two =
                    ["==", "!=", "<=", ">=", "//", "**"].iter().any(|op| rest.starts_with(op));
                (Kind::Op, if two { 2 } else { c.len_utf8() })
            }
        };
        let index = tokens.len();
        tokens.push(Token { kind, start: at, end: at + len, close: index });
        match c {
            '(' | '[' | '{' if kind == Kind::Op => {
                if open.len() >= MAX_NESTING {
                    return Err(TemplateError::syntax(format!(
                        "brackets nested deeper than {MAX_NESTING} at line {}",
                        line_of(source, at)
                    )));
                }
                open.push(index);
            }
            ')' | ']' | '}' if kind == Kind::Op => {
                if let Some(o) = open.pop() {
                    tokens[o].close = index;
                }
            }
            _ => {}
        }
        at += len;
    }
}

fn string_len(rest: &str) -> Option<usize> {
    let quote = rest.as_bytes()[0];
    let mut escaped = false;
    for (i, &b) in rest.as_bytes().iter().enumerate().skip(1) {
        if escaped {
            escaped = false;
        } else if b == b'\\' {
            escaped = true;
        } else if b == quote {
            return Some(i + 1);
        }
    }
    None
}

fn line_of(source: &str, at: usize) -> usize {
    1 + source.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
}

fn unended(source: &str, at: usize) -> TemplateError {
    TemplateError::syntax(format!(
        "the tag that starts at line {} does not end",
        line_of(source, at)
    ))
}

struct Rewriter<'a> {
    source: &'a str,
    tokens: &'a [Token],
    out: &'a mut String,
    depth: usize,
}

impl<'a> Rewriter<'a> {
    fn text(&self, i: usize) -> &'a str {
        self.tokens.get(i).map_or("", |t| &self.source[t.start..t.end])
    }

    /// The token is this keyword (not an attribute of that name).
    fn is_word(&self, i: usize, word: &str) -> bool {
        self.tokens.get(i).is_some_and(|t| t.kind == Kind::Name)
            && self.text(i) == word
            && !(i > 0 && self.text(i - 1) == ".")
    }

    /// The `in` or `not` belongs to a test: `x is in [1]`, `x is not none`.
    fn follows_is(&self, i: usize) -> bool {
        i > 0
            && (self.is_word(i - 1, "is")
                || (i > 1 && self.is_word(i - 1, "not") && self.is_word(i - 2, "is")))
    }

    /// The next token at the same bracket depth.
    fn step(&self, i: usize) -> usize {
        self.tokens[i].close.max(i) + 1
    }

    /// Copies the blanks before token `i`.
    fn gap(&mut self, i: usize) {
        if i > 0 {
            self.out.push_str(&self.source[self.tokens[i - 1].end..self.tokens[i].start]);
        }
    }

    fn copy(&mut self, i: usize) {
        let text = self.text(i);
        self.out.push_str(text);
    }

    fn statement(&mut self) -> Result<(), TemplateError> {
        let n = self.tokens.len();
        match self.text(0) {
            "generation" if n == 1 => self.out.push_str("with"),
            "endgeneration" if n == 1 => self.out.push_str("endwith"),
            "for" => {
                let mut i = 0;
                while i < n && !self.is_word(i, "in") {
                    self.gap(i);
                    self.copy(i);
                    i += 1;
                }
                if i < n {
                    self.gap(i);
                    self.copy(i);
                    self.expr(i + 1, n)?;
                }
            }
            // `{% call(user) macro() %}`: the names in the brackets are parameters
            "call" if self.text(1) == "(" => {
                let close = self.tokens[1].close;
                self.out.push_str(&self.source[self.tokens[0].start..self.tokens[close].end]);
                self.expr(close + 1, n)?;
            }
            _ if n > 0 => {
                self.copy(0);
                self.expr(1, n)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Rewrites tokens `from..to`: operands between separators that bind weaker than comparisons.
    fn expr(&mut self, from: usize, to: usize) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_NESTING + 2 {
            return Err(TemplateError::syntax(format!(
                "expressions nested deeper than {MAX_NESTING}"
            )));
        }
        let mut start = from;
        let mut i = from;
        while i < to {
            if self.separates(i) {
                self.compare(start, i)?;
                self.gap(i);
                self.copy(i);
                start = i + 1;
                i += 1;
            } else {
                i = self.step(i);
            }
        }
        self.compare(start, to)?;
        self.depth -= 1;
        Ok(())
    }

    fn separates(&self, i: usize) -> bool {
        match self.text(i) {
            "," | ":" | "=" => true,
            "and" | "or" | "if" | "else" | "recursive" => self.is_word(i, self.text(i)),
            "not" => self.is_word(i, "not") && !self.is_word(i + 1, "in") && !self.follows_is(i),
            _ => false,
        }
    }

    /// The length in tokens of a comparison operator at `i`.
    fn comparator(&self, i: usize) -> usize {
        match self.text(i) {
            "==" | "!=" | "<" | ">" | "<=" | ">=" => 1,
            "in" if self.is_word(i, "in") && !self.follows_is(i) => 1,
            "not" if self.is_word(i, "not") && self.is_word(i + 1, "in") && !self.follows_is(i) => {
                2
            }
            _ => 0,
        }
    }

    fn compare(&mut self, from: usize, to: usize) -> Result<(), TemplateError> {
        let mut parts = Vec::new();
        let mut start = from;
        let mut i = from;
        while i < to {
            let len = self.comparator(i);
            if len > 0 && i > start {
                parts.push((start, i, if len == 2 { "not in" } else { self.text(i) }));
                start = i + len;
                i = start;
            } else {
                i = self.step(i).min(to);
            }
        }
        self.call("_cmp_", parts, (start, to), Self::sum)
    }

    fn sum(&mut self, from: usize, to: usize) -> Result<(), TemplateError> {
        let mut parts = Vec::new();
        let mut start = from;
        let mut i = from;
        let mut adds = false;
        while i < to {
            let op = self.text(i);
            if (op == "+" || op == "-") && i > start && self.ends_value(i - 1) {
                adds |= op == "+";
                parts.push((start, i, op));
                start = i + 1;
                i = start;
            } else {
                i = self.step(i).min(to);
            }
        }
        if adds {
            return self.call("_sum_", parts, (start, to), Self::concat);
        }
        // plain subtraction stays with the engine
        for (a, b, _) in parts {
            self.concat(a, b)?;
            self.gap(b);
            self.copy(b);
        }
        self.concat(start, to)
    }

    fn concat(&mut self, from: usize, to: usize) -> Result<(), TemplateError> {
        let mut parts = Vec::new();
        let mut start = from;
        let mut i = from;
        while i < to {
            if self.text(i) == "~" && i > start {
                parts.push((start, i, ""));
                start = i + 1;
                i = start;
            } else {
                i = self.step(i).min(to);
            }
        }
        self.call("_cat_", parts, (start, to), Self::operand)
    }

    /// Writes `name(part, "op", part, …)`, or the single operand as it is.
    fn call(
        &mut self,
        name: &str,
        parts: Vec<(usize, usize, &str)>,
        last: (usize, usize),
        inner: fn(&mut Self, usize, usize) -> Result<(), TemplateError>,
    ) -> Result<(), TemplateError> {
        if parts.is_empty() || last.0 >= last.1 {
            // one operand, or an operator without a right side: the compiler says what is wrong
            for (a, b, _) in parts {
                inner(self, a, b)?;
                self.gap(b);
                self.copy(b);
            }
            return inner(self, last.0, last.1);
        }
        self.gap(parts[0].0);
        self.out.push_str(name);
        self.out.push('(');
        for (i, (a, b, op)) in parts.into_iter().enumerate() {
            if i == 0 {
                // the blanks before the first operand stand outside of the call already
                let at = self.out.len();
                inner(self, a, b)?;
                let blanks = self.out[at..].len() - self.out[at..].trim_start().len();
                self.out.replace_range(at..at + blanks, "");
            } else {
                inner(self, a, b)?;
            }
            if op.is_empty() {
                self.out.push(',');
            } else {
                self.out.push_str(&format!(", \"{op}\","));
            }
        }
        inner(self, last.0, last.1)?;
        self.out.push(')');
        Ok(())
    }

    /// The token ends a value, so that a bracket after it is a call or a subscript and a sign
    /// after it is binary.
    fn ends_value(&self, i: usize) -> bool {
        let t = self.tokens[i];
        match t.kind {
            Kind::Value => true,
            Kind::Op => matches!(self.text(i), ")" | "]" | "}"),
            Kind::Name => {
                let keyword = matches!(
                    self.text(i),
                    "in" | "and" | "or" | "not" | "if" | "else" | "is" | "elif"
                );
                !keyword || (i > 0 && self.text(i - 1) == ".")
            }
        }
    }

    fn operand(&mut self, from: usize, to: usize) -> Result<(), TemplateError> {
        // Python's formatting operator, which the engine lacks: `'%d%%' % x`
        if from + 2 < to && self.text(from).starts_with(['"', '\'']) && self.text(from + 1) == "%" {
            self.gap(from);
            self.out.push_str("_format_(");
            self.copy(from);
            self.out.push(',');
            self.operand(from + 2, to)?;
            self.out.push(')');
            return Ok(());
        }
        let mut i = from;
        while i < to {
            self.gap(i);
            let close = self.tokens[i].close;
            if close <= i || close >= to {
                self.copy(i);
                i += 1;
                continue;
            }
            let called = i > from
                && (self.ends_value(i - 1) || (self.is_word(i - 1, "in") && self.text(i) == "("));
            let (before, after) = match self.text(i) {
                _ if called => ("", ""),
                "[" => ("_list_(", ")"),
                "{" => ("_dict_(", ")"),
                _ if self.is_tuple(i, close) => ("_tuple_(", ")"),
                _ => ("", ""),
            };
            let tuple = before == "_tuple_(";
            self.out.push_str(before);
            if tuple {
                self.out.push('[')
            } else {
                self.copy(i)
            }
            self.expr(i + 1, close)?;
            self.gap(close);
            if tuple {
                self.out.push(']')
            } else {
                self.copy(close)
            }
            self.out.push_str(after);
            i = close + 1;
        }
        Ok(())
    }

    fn is_tuple(&self, open: usize, close: usize) -> bool {
        let mut i = open + 1;
        while i < close {
            if self.text(i) == "," {
                return true;
            }
            i = self.step(i);
        }
        close == open + 1
    }
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[track_caller]
    fn check(from: &str, to: &str) {
        assert_eq!(prepare(from).unwrap(), to);
    }

    #[test]
    fn operators_become_calls() {
        check("{{ a == b }}", "{{ _cmp_(a, \"==\", b) }}");
        check(
            "{%- if not a.x in b and c is not none -%}",
            "{%- if not _cmp_(a.x, \"in\", b) and c is not none -%}",
        );
        check(
            "{% if a not in b[1:] or x is not in (1) %}",
            "{% if _cmp_(a, \"not in\", b[1:]) or x is not in (1) %}",
        );
        check(
            "{{ a + f(b ~ 'x}}') - -c }}",
            "{{ _sum_(a, \"+\", f(_cat_(b, 'x}}')), \"-\", -c) }}",
        );
        check("{{ '%d' % (1, 2) }}{{ a % 2 }}", "{{ _format_('%d', _tuple_([1, 2])) }}{{ a % 2 }}");
        check("{{ a - 1 }}{{ -a }}", "{{ a - 1 }}{{ -a }}");
        check(
            "{% for a, b in c == d if x < 1 recursive %}",
            "{% for a, b in _cmp_(c, \"==\", d) if _cmp_(x, \"<\", 1) recursive %}",
        );
        check("{{ a < b <= c }}", "{{ _cmp_(a, \"<\", b, \"<=\", c) }}");
    }

    #[test]
    fn literals_become_values() {
        check("{% set x = [] %}{{ x[0] }}", "{% set x = _list_([]) %}{{ x[0] }}");
        check("{{ {'a': {}} }}", "{{ _dict_({'a': _dict_({})}) }}");
        check("{{ (1, 2) }}{{ (1) }}{{ f(1, 2) }}", "{{ _tuple_([1, 2]) }}{{ (1) }}{{ f(1, 2) }}");
        check("{% call(a, b) m((1, 2)) %}", "{% call(a, b) m(_tuple_([1, 2])) %}");
        check("{% macro m(a, b=[1]) %}", "{% macro m(a, b=_list_([1])) %}");
    }

    #[test]
    fn text_comments_and_raw_stay() {
        check(
            "a == b {# a == b #}{% raw %}{{ a == b }}{% endraw %}",
            "a == b {# a == b #}{% raw %}{{ a == b }}{% endraw %}",
        );
        check("{%- generation -%}x{%- endgeneration %}\r\n", "{%- with -%}x{%- endwith %}\n");
    }

    #[test]
    fn hostile_nesting_is_an_error() {
        assert!(prepare(&format!("{{{{ {} }}}}", "(".repeat(100_000))).is_err());
        assert!(prepare("{{ 'abc").is_err());
    }
}
