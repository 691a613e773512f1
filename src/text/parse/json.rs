//! Calls that are JSON objects: `{"name": .., "arguments": ..}` in a tag, in a list, or bare.

use serde_json::{Map, Value};

use super::cursor::{Cursor, Next, Quotes};
use super::reader::{Call, Read, Reader, got, is_name};
use super::schema::Tools;

/// The value of a JSON text. Line breaks and the like within strings, which models often write as
/// they are, are taken for what they are.
pub(super) fn value(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| {
        let has_controls = text.bytes().any(|b| b < 0x20);
        has_controls.then(|| serde_json::from_str(&escape_controls(text)).ok())?
    })
}

/// `text` with the control characters of its strings escaped.
fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut in_string, mut is_escaped) = (false, false);
    for c in text.chars() {
        if in_string && c < ' ' {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
            is_escaped = false;
            continue;
        }
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
        out.push(c);
    }
    out
}

/// The arguments that a JSON text holds: an object, or a string that holds one.
pub(super) fn arguments(text: &str) -> Option<Value> {
    as_arguments(value(text)?)
}

fn as_arguments(found: Value) -> Option<Value> {
    match found {
        Value::Object(_) => Some(found),
        Value::Null => Some(Value::Object(Map::new())),
        Value::String(text) => value(&text).filter(Value::is_object),
        _ => None,
    }
}

/// The call that an object describes. `strict`: there must be arguments.
fn call_of(object: Value, strict: bool, tools: &Tools) -> Option<Call> {
    let Value::Object(mut object) = object else { return None };
    if !strict && let Some(call) = keyed(&object, tools) {
        return Some(call);
    }
    let id = ["id", "tool_call_id"].iter().find_map(|key| match object.get(*key)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    });
    if let Some(Value::Object(inner)) = object.get_mut("function") {
        object = std::mem::take(inner);
    }
    let name = ["name", "tool_name", "function"].iter().find_map(|key| object.get(*key)?.as_str());
    let name = name.filter(|name| is_name(name))?.to_owned();
    let arguments = ["arguments", "parameters"].iter().find_map(|key| object.remove(*key));
    let arguments = match arguments {
        Some(arguments) => as_arguments(arguments)?,
        None if strict => return None,
        None => Value::Object(Map::new()),
    };
    Some(Call { name, arguments, id })
}

/// The call that an object with one key describes, `{"NAME": {..}}`.
fn keyed(object: &Map<String, Value>, tools: &Tools) -> Option<Call> {
    let (name, arguments) = object.iter().next().filter(|_| object.len() == 1)?;
    let is_field = ["function", "arguments", "parameters"].contains(&name.as_str());
    let is_call = arguments.is_object() && !is_field && is_name(name) && tools.may_be(name);
    is_call.then(|| Call { name: name.clone(), arguments: arguments.clone(), id: None })
}

/// `<tool_call>{..}</tool_call>`, or a list in place of the object: calls in a list, one or several, with or
/// without brackets around them, and a closing tag.
#[derive(Debug)]
pub(super) struct Objects {
    cursor: Cursor,
    state: State,
    /// Any of these closes the calls; they may be missing.
    closes: &'static [&'static str],
    is_list: bool,
}

#[derive(Debug, PartialEq)]
enum State {
    Start,
    Item,
    AfterItem,
    Closing,
}

impl Objects {
    pub(super) fn new(marker: &str, closes: &'static [&'static str]) -> Objects {
        Objects { cursor: Cursor::new(marker.len()), state: State::Start, closes, is_list: false }
    }
}

impl Reader for Objects {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        loop {
            self.cursor.skip_space(text);
            let end = Read::End(self.cursor.spent);
            match self.state {
                State::Start => {
                    self.is_list =
                        got!(self.cursor.word(text, &["{", "["], at_end), Read::Bad) == 1;
                    self.cursor.at -= usize::from(!self.is_list);
                    self.state = State::Item;
                }
                State::Item => {
                    let object = got!(self.cursor.brackets(text, Quotes::Double), Read::Bad);
                    let Some(call) = value(object).and_then(|value| call_of(value, false, tools))
                    else {
                        return Read::Bad;
                    };
                    self.state = State::AfterItem;
                    return Read::Calls(vec![call], self.cursor.spend());
                }
                State::AfterItem if self.is_list => {
                    self.state = match got!(self.cursor.word(text, &[",", "]"], at_end), end) {
                        0 => State::Item,
                        _ => State::Closing,
                    };
                    if self.state == State::Closing {
                        self.cursor.spend();
                    }
                }
                // Objects one after the other.
                State::AfterItem if self.cursor.peek(text) == Some('{') => {
                    self.state = State::Item;
                }
                State::AfterItem | State::Closing => {
                    got!(self.cursor.word(text, self.closes, at_end), end);
                    return Read::End(self.cursor.at);
                }
            }
        }
    }
}

/// An answer that is nothing but calls, `{"name": .., "parameters": ..}`, with `;` or white space
/// between them.
#[derive(Debug)]
pub(super) struct Bare {
    cursor: Cursor,
    has_call: bool,
    /// Another object has begun.
    goes_on: bool,
}

impl Bare {
    pub(super) fn new(marker: &str) -> Bare {
        Bare { cursor: Cursor::new(marker.len()), has_call: false, goes_on: false }
    }
}

impl Reader for Bare {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        self.cursor.skip_space(text);
        let end = Read::End(self.cursor.spent);
        if self.has_call && !self.goes_on {
            if let Next::Got(_) = self.cursor.word(text, &[";"], at_end) {
                self.cursor.skip_space(text);
            }
            match self.cursor.peek(text) {
                Some('{') => self.goes_on = true,
                None if !at_end => return Read::More,
                _ => return end,
            }
        }
        let object = got!(self.cursor.brackets(text, Quotes::Double), Read::Bad);
        let call = value(object).and_then(|value| call_of(value, true, tools));
        match call.filter(|call| tools.may_be(&call.name)) {
            Some(call) => {
                (self.has_call, self.goes_on) = (true, false);
                Read::Calls(vec![call], self.cursor.spend())
            }
            None if self.has_call => end,
            None => Read::Bad,
        }
    }
}

/// The arguments of a call whose tool is named elsewhere: one object.
#[derive(Debug)]
pub(super) struct Arguments {
    cursor: Cursor,
    name: String,
    is_done: bool,
}

impl Arguments {
    /// The arguments from a place on.
    pub(super) fn new(place: usize, name: &str) -> Arguments {
        Arguments { cursor: Cursor::new(place), name: name.to_owned(), is_done: false }
    }
}

impl Reader for Arguments {
    fn read(&mut self, text: &str, _: bool, _: &Tools) -> Read {
        if self.is_done {
            return Read::End(self.cursor.at);
        }
        self.cursor.skip_space(text);
        let object = got!(self.cursor.brackets(text, Quotes::Double), Read::Bad);
        let Some(arguments) = arguments(object) else { return Read::Bad };
        self.is_done = true;
        let name = std::mem::take(&mut self.name);
        Read::Calls(vec![Call { name, arguments, id: None }], self.cursor.spend())
    }
}
