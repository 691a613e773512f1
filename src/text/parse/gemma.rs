//! Gemma 4's calls: `<|tool_call>call:NAME{key:<|"|>text<|"|>,n:2}<tool_call|>`.

use serde_json::{Map, Value};

use super::cursor::{Cursor, Next};
use super::reader::{Call, Read, Reader, got, is_name};
use super::schema::Tools;

/// The quotation mark.
const QUOTE: &str = "<|\"|>";
const END: &str = "<tool_call|>";
/// What stands in calls.
pub(super) const MARKERS: &[&str] = &[QUOTE, END];
/// Deepest nesting of values that is read: bounds the stack.
const MAX_DEPTH: usize = 64;

/// One call.
#[derive(Debug)]
pub(super) struct Gemma {
    cursor: Cursor,
    state: State,
    name: String,
    /// Where the object begins.
    start: usize,
}

#[derive(Debug)]
enum State {
    Start,
    Name,
    /// In the object, within a string or not.
    Object {
        in_string: bool,
    },
    End,
}

impl Gemma {
    pub(super) fn new(marker: &str) -> Gemma {
        let cursor = Cursor::new(marker.len());
        Gemma { cursor, state: State::Start, name: String::new(), start: 0 }
    }
}

impl Reader for Gemma {
    fn read(&mut self, text: &str, at_end: bool, _: &Tools) -> Read {
        loop {
            match self.state {
                State::Start => {
                    self.cursor.skip_space(text);
                    got!(self.cursor.word(text, &["call:"], at_end), Read::Bad);
                    self.state = State::Name;
                }
                State::Name => {
                    let (name, _) = got!(self.cursor.name_until(text, &["{"]), Read::Bad);
                    if !is_name(name.trim()) {
                        return Read::Bad;
                    }
                    self.name = name.trim().to_owned();
                    self.start = self.cursor.at - 1;
                    self.state = State::Object { in_string: false };
                }
                State::Object { in_string } => {
                    let words: &[&str] = if in_string { &[QUOTE] } else { &[QUOTE, END] };
                    let Some((_, which)) = self.cursor.until(text, words) else {
                        return Read::More;
                    };
                    if which == 0 {
                        self.state = State::Object { in_string: !in_string };
                        continue;
                    }
                    let object = &text[self.start..self.cursor.at - END.len()];
                    let mut parser = Parser { rest: object, depth: 0 };
                    let Some(arguments) = parser.value().filter(|_| parser.rest.trim().is_empty())
                    else {
                        return Read::Bad;
                    };
                    self.state = State::End;
                    let name = std::mem::take(&mut self.name);
                    return Read::Calls(
                        vec![Call { name, arguments, id: None }],
                        self.cursor.spend(),
                    );
                }
                State::End => return Read::End(self.cursor.at),
            }
        }
    }
}

/// Reads values: JSON without quotation marks around keys, and with others around strings.
struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn takes(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Text up to one of these characters, which stays.
    fn up_to(&mut self, ends: &[char]) -> &'t str {
        let (word, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        word.trim()
    }

    fn string(&mut self) -> Option<&'t str> {
        let (text, rest) = self.rest.split_once(QUOTE)?;
        self.rest = rest;
        Some(text)
    }

    fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = if self.takes("{") {
            self.object()?
        } else if self.takes("[") {
            self.list()?
        } else if self.takes(QUOTE) {
            Value::String(self.string()?.to_owned())
        } else {
            let word = self.up_to(&[',', '}', ']']);
            serde_json::from_str(word).unwrap_or_else(|_| Value::String(word.to_owned()))
        };
        self.depth -= 1;
        Some(value)
    }

    /// An object whose brace is behind us.
    fn object(&mut self) -> Option<Value> {
        let mut object = Map::new();
        while !self.takes("}") {
            let key = if self.takes(QUOTE) { self.string()? } else { self.up_to(&[':']) };
            if !self.takes(":") || key.is_empty() {
                return None;
            }
            object.insert(key.to_owned(), self.value()?);
            if !self.takes(",") {
                self.takes("}").then_some(())?;
                break;
            }
        }
        Some(Value::Object(object))
    }

    /// A list whose bracket is behind us.
    fn list(&mut self) -> Option<Value> {
        let mut list = vec![];
        while !self.takes("]") {
            list.push(self.value()?);
            if !self.takes(",") {
                self.takes("]").then_some(())?;
                break;
            }
        }
        Some(Value::Array(list))
    }
}
