//! Calls written as Python: `[NAME(key="text", n=2), ..]` (LFM2), `NAME.call(key="text")` (Llama 3).

use serde_json::{Map, Number, Value};

use super::cursor::{Cursor, Next, Quotes};
use super::json::Bare;
use super::reader::{Call, Read, Reader, got, is_name};
use super::schema::Tools;

/// Deepest nesting of lists and dictionaries that is read: bounds the stack.
const MAX_DEPTH: usize = 64;

/// A list of calls.
#[derive(Debug)]
pub(super) struct List {
    cursor: Cursor,
    is_done: bool,
}

/// Closes a list.
pub(super) const LIST_END: &str = "<|tool_call_end|>";

impl List {
    pub(super) fn new(marker: &str) -> List {
        List { cursor: Cursor::new(marker.len()), is_done: false }
    }
}

impl Reader for List {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        self.cursor.skip_space(text);
        if self.is_done {
            let end = Read::End(self.cursor.spent);
            got!(self.cursor.word(text, &[LIST_END], at_end), end);
            return Read::End(self.cursor.at);
        }
        let list = got!(self.cursor.brackets(text, Quotes::Any), Read::Bad);
        let Some(calls) = calls(list, tools) else { return Read::Bad };
        self.is_done = true;
        Read::Calls(calls, self.cursor.spend())
    }
}

/// What follows `<|python_tag|>`: a call, or JSON objects. (Other Python is code for an interpreter,
/// which is no tool that was given.)
#[derive(Debug)]
pub(super) struct Tag {
    cursor: Cursor,
    objects: Option<Bare>,
    name: Option<String>,
    is_done: bool,
}

impl Tag {
    pub(super) fn new(marker: &str) -> Tag {
        Tag { cursor: Cursor::new(marker.len()), objects: None, name: None, is_done: false }
    }
}

impl Reader for Tag {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        if let Some(objects) = &mut self.objects {
            return objects.read(text, at_end, tools);
        }
        if self.is_done {
            return Read::End(self.cursor.at);
        }
        let name = match &self.name {
            Some(name) => name,
            None => {
                self.cursor.skip_space(text);
                if self.cursor.peek(text) == Some('{') {
                    let objects = Bare::new(&text[..self.cursor.at]);
                    return self.objects.insert(objects).read(text, at_end, tools);
                }
                let Some((name, _)) = self.cursor.until(text, &["("]) else {
                    let rest = self.cursor.rest(text);
                    return if rest.is_empty() || is_name(rest) { Read::More } else { Read::Bad };
                };
                let name = name.strip_suffix(".call").unwrap_or(name);
                if !is_name(name) || !tools.may_be(name) {
                    return Read::Bad;
                }
                self.cursor.at -= 1;
                self.name.insert(name.to_owned())
            }
        };
        let inner = got!(self.cursor.brackets(text, Quotes::Any), Read::Bad);
        let mut parser = Parser { rest: inner, depth: 0 };
        let Some(arguments) = parser.arguments(name, tools) else { return Read::Bad };
        self.is_done = true;
        Read::Calls(vec![Call { name: name.clone(), arguments, id: None }], self.cursor.spend())
    }
}

/// The calls of a list.
fn calls(list: &str, tools: &Tools) -> Option<Vec<Call>> {
    let mut parser = Parser { rest: list, depth: 0 };
    let calls = parser.items('[', ']', |parser| {
        let name = parser.name()?;
        let arguments = parser.arguments(&name, tools)?;
        Some(Call { name, arguments, id: None })
    })?;
    parser.rest.trim().is_empty().then_some(calls)
}

/// The value of a Python literal.
pub(super) fn value(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text, depth: 0 };
    let value = parser.value()?;
    parser.rest.trim().is_empty().then_some(value)
}

/// Reads Python's literals by recursive descent.
struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Goes past a character, if it is next after white space.
    fn takes(&mut self, c: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A word of letters, digits, `_`, `.` and `-`.
    fn name(&mut self) -> Option<String> {
        self.skip_space();
        let is_part = |c: char| c.is_alphanumeric() || "_.-".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        is_name(name).then(|| name.to_owned())
    }

    /// Items between brackets, with commas between them and at times after the last.
    fn items<T>(
        &mut self,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut items = vec![];
        if !self.takes(open) {
            return None;
        }
        while !self.takes(close) {
            items.push(item(self)?);
            if !self.takes(',') {
                return self.takes(close).then_some(items);
            }
        }
        Some(items)
    }

    /// `(key=value, ..)`; a value without a key is the parameter at its position.
    fn arguments(&mut self, tool: &str, tools: &Tools) -> Option<Value> {
        let mut position = 0;
        let pairs = self.items('(', ')', |parser| {
            let before = parser.rest;
            if let Some(key) = parser.name()
                && parser.takes('=')
            {
                return Some((key, parser.value()?));
            }
            parser.rest = before;
            let key = tools.parameter_at(tool, position)?;
            position += 1;
            Some((key, parser.value()?))
        })?;
        Some(Value::Object(pairs.into_iter().collect()))
    }

    fn value(&mut self) -> Option<Value> {
        self.skip_space();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = match self.rest.chars().next()? {
            '"' | '\'' => Value::String(self.string()?),
            '[' => Value::Array(self.items('[', ']', Self::value)?),
            '(' => Value::Array(self.items('(', ')', Self::value)?),
            '{' => {
                let pair = |parser: &mut Self| {
                    parser.skip_space();
                    let key = parser.string()?;
                    parser.takes(':').then_some(())?;
                    Some((key, parser.value()?))
                };
                let pairs = self.items('{', '}', pair)?;
                Value::Object(pairs.into_iter().collect::<Map<_, _>>())
            }
            _ => self.word()?,
        };
        self.depth -= 1;
        Some(value)
    }

    /// A constant or a number.
    fn word(&mut self) -> Option<Value> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(match word {
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            "None" | "null" => Value::Null,
            _ => match word.parse::<i64>() {
                Ok(n) => Value::from(n),
                Err(_) => Value::Number(Number::from_f64(number(word)?)?),
            },
        })
    }

    /// A string in quotation marks of either kind.
    fn string(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut chars = self.rest[1..].char_indices();
        let mut out = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Some(out);
                }
                '\\' => {
                    let (_, c) = chars.next()?;
                    let n_hex = match c {
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        _ => 0,
                    };
                    let plain = match c {
                        'n' => Some('\n'),
                        't' => Some('\t'),
                        'r' => Some('\r'),
                        '\\' | '\'' | '"' | '/' => Some(c),
                        _ => None,
                    };
                    if n_hex > 0 {
                        let hex: String = (0..n_hex).map_while(|_| Some(chars.next()?.1)).collect();
                        out.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
                    } else if let Some(c) = plain {
                        out.push(c);
                    } else {
                        // Python keeps a backslash that escapes nothing.
                        out.extend(['\\', c]);
                    }
                }
                _ => out.push(c),
            }
        }
        None
    }
}

/// A number of Python: what Rust reads as one, but for its names of infinities.
fn number(word: &str) -> Option<f64> {
    let starts =
        word.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    word.parse().ok().filter(|_| starts)
}
