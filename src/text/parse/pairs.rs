//! Calls as pairs of keys and values, each in tags: GLM, Hy3.

use serde_json::{Map, Value};

use super::cursor::{Cursor, Next};
use super::reader::{Call, Read, Reader, got, is_name};
use super::schema::Tools;

/// The tags of one way to write calls as pairs.
#[derive(Debug)]
pub(super) struct PairTags {
    /// Opens a call up to its name.
    call: &'static str,
    /// Ends the name; a call without it goes on with the next tag.
    name_end: &'static str,
    /// Around a key.
    key: (&'static str, &'static str),
    /// Around a value.
    value: (&'static str, &'static str),
    /// Closes a call.
    call_end: &'static str,
    /// Closes all calls; `None` where each call stands for itself.
    end: Option<&'static str>,
}

/// GLM: `<tool_call>NAME<arg_key>KEY</arg_key><arg_value>VALUE</arg_value>..</tool_call>`, with line
/// breaks between the tags or without.
pub(super) const GLM: PairTags = PairTags {
    call: "<tool_call>",
    name_end: "\n",
    key: ("<arg_key>", "</arg_key>"),
    value: ("<arg_value>", "</arg_value>"),
    call_end: "</tool_call>",
    end: None,
};

/// Hy3: GLM's pairs with a mark between name and keys, and a tag around all calls.
pub(super) const HY3: PairTags = PairTags {
    call: "<tool_call:opensource>",
    name_end: "<tool_sep:opensource>",
    key: ("<arg_key:opensource>", "</arg_key:opensource>"),
    value: ("<arg_value:opensource>", "</arg_value:opensource>"),
    call_end: "</tool_call:opensource>",
    end: Some("</tool_calls:opensource>"),
};

impl PairTags {
    /// The markers that stand within calls.
    pub(super) fn words(&self) -> Vec<&'static str> {
        let pairs = [self.key.0, self.key.1, self.value.0, self.value.1];
        let mut words = [&[self.call, self.call_end][..], &pairs].concat();
        words.extend(self.end);
        // A line break is no marker.
        words.extend(Some(self.name_end).filter(|end| !end.trim().is_empty()));
        words
    }
}

/// Calls in pairs.
#[derive(Debug)]
pub(super) struct Pairs {
    cursor: Cursor,
    tags: &'static PairTags,
    state: State,
    name: String,
    key: String,
    arguments: Map<String, Value>,
}

#[derive(Debug)]
enum State {
    Call,
    Name,
    Body,
    Key,
    ValueTag,
    Value,
    Between,
}

impl Pairs {
    /// The marker opens a call, or all of them.
    pub(super) fn new(marker: &str, tags: &'static PairTags) -> Pairs {
        let state = if marker.starts_with(tags.call) { State::Name } else { State::Call };
        let (name, key, arguments) = (String::new(), String::new(), Map::new());
        Pairs { cursor: Cursor::new(marker.len()), tags, state, name, key, arguments }
    }

    /// Goes past white space between tags: keys and values keep theirs.
    fn skip_space(&mut self, text: &str) {
        if !matches!(self.state, State::Key | State::Value) {
            self.cursor.skip_space(text);
        }
    }
}

impl Reader for Pairs {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        let tags = self.tags;
        loop {
            self.skip_space(text);
            match self.state {
                State::Call => {
                    got!(self.cursor.word(text, &[tags.call], at_end), Read::Bad);
                    self.state = State::Name;
                }
                State::Name => {
                    let words = [tags.name_end, tags.key.0, tags.call_end];
                    let (name, which) = got!(self.cursor.name_until(text, &words), Read::Bad);
                    if !is_name(name.trim()) {
                        return Read::Bad;
                    }
                    self.name = name.trim().to_owned();
                    if which > 0 {
                        // The tag is looked at again, as one of the body's.
                        self.cursor.at -= words[which].len();
                    }
                    self.state = State::Body;
                }
                State::Body => {
                    let words = [tags.key.0, tags.call_end];
                    if got!(self.cursor.word(text, &words, at_end), Read::Bad) == 0 {
                        self.state = State::Key;
                        continue;
                    }
                    self.state = State::Between;
                    let arguments = Value::Object(std::mem::take(&mut self.arguments));
                    let name = std::mem::take(&mut self.name);
                    let call = Call { name, arguments, id: None };
                    return Read::Calls(vec![call], self.cursor.spend());
                }
                State::Key => {
                    let Some((key, _)) = self.cursor.until(text, &[tags.key.1]) else {
                        return Read::More;
                    };
                    self.key = key.trim().to_owned();
                    self.state = State::ValueTag;
                }
                State::ValueTag => {
                    got!(self.cursor.word(text, &[tags.value.0], at_end), Read::Bad);
                    self.state = State::Value;
                }
                State::Value => {
                    let Some((value, _)) = self.cursor.until(text, &[tags.value.1]) else {
                        return Read::More;
                    };
                    let value = tools.typed(&self.name, &self.key, value);
                    self.arguments.insert(std::mem::take(&mut self.key), value);
                    self.state = State::Body;
                }
                State::Between => {
                    let Some(end) = tags.end else { return Read::End(self.cursor.spent) };
                    let next = self.cursor.word(text, &[tags.call, end], at_end);
                    if got!(next, Read::End(self.cursor.spent)) == 1 {
                        return Read::End(self.cursor.at);
                    }
                    self.state = State::Name;
                }
            }
        }
    }
}
