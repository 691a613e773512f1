//! Calls that look like XML, with a tag for each parameter: Qwen3-Coder, MiniMax and others; and the choice
//! among all that `<tool_call>` may mean.

use serde_json::{Map, Value};

use super::cursor::{Cursor, Next, Quotes};
use super::json::{self, Objects};
use super::pairs::{GLM, Pairs};
use super::reader::{Call, Read, Reader, got, is_name};
use super::schema::Tools;

/// The tags of one way to write calls.
#[derive(Debug)]
pub(super) struct Tags {
    /// Opens a call up to its name, and what closes that tag.
    pub(super) call: (&'static str, &'static str),
    /// Opens a parameter up to its name, and what closes that tag.
    pub(super) parameter: (&'static str, &'static str),
    /// Closes a parameter.
    pub(super) parameter_end: &'static str,
    /// Closes a call.
    pub(super) call_end: &'static str,
    /// Closes all calls.
    pub(super) end: &'static str,
    /// One line break beside each tag belongs to the tags.
    pub(super) breaks: bool,
}

/// `<tool_call><function=NAME><parameter=KEY>VALUE</parameter>..</function></tool_call>`
pub(super) const QWEN: Tags = Tags {
    call: ("<function=", ">"),
    parameter: ("<parameter=", ">"),
    parameter_end: "</parameter>",
    call_end: "</function>",
    end: "</tool_call>",
    breaks: true,
};

/// `<minimax:tool_call><invoke name="NAME"><parameter name="KEY">VALUE</parameter>..</invoke>..`
pub(super) const MINIMAX: Tags = Tags {
    call: ("<invoke name=\"", "\">"),
    parameter: ("<parameter name=\"", "\">"),
    parameter_end: "</parameter>",
    call_end: "</invoke>",
    end: "</minimax:tool_call>",
    breaks: false,
};

/// Seed: as Qwen3-Coder, with another outer tag.
pub(super) const SEED: Tags = Tags { end: "</seed:tool_call>", ..QWEN };

/// DeepSeek 3.2: as MiniMax, with a mark before each name and the kind of each value.
pub(super) const DSML: Tags = Tags {
    call: ("<｜DSML｜invoke name=\"", "\">"),
    parameter: ("<｜DSML｜parameter name=\"", "\">"),
    parameter_end: "</｜DSML｜parameter>",
    call_end: "</｜DSML｜invoke>",
    end: "</｜DSML｜function_calls>",
    breaks: false,
};

/// DeepSeek 4: the same in another outer tag.
pub(super) const DSML_4: Tags = Tags { end: "</｜DSML｜tool_calls>", ..DSML };

/// Muse: as MiniMax, with a prefix of its own.
pub(super) const ATEM: Tags = Tags {
    call: ("<atem:invoke name=\"", "\">"),
    parameter: ("<atem:parameter name=\"", "\">"),
    parameter_end: "</atem:parameter>",
    call_end: "</atem:invoke>",
    end: "</atem:function_calls>",
    breaks: false,
};

/// MiniCPM 5: `<function name="NAME"><param name="KEY">VALUE</param>..</function>`.
pub(super) const MINICPM: Tags = Tags {
    call: ("<function name=\"", "\">"),
    parameter: ("<param name=\"", "\">"),
    parameter_end: "</param>",
    call_end: "</function>",
    end: "</tool_call>",
    breaks: false,
};

/// Calls in tags.
#[derive(Debug)]
pub(super) struct Tagged {
    cursor: Cursor,
    tags: &'static Tags,
    state: State,
    name: String,
    key: String,
    /// What the tag says of the value: a string, or JSON.
    is_string: Option<bool>,
    arguments: Map<String, Value>,
}

#[derive(Debug)]
enum State {
    /// Before the tag that opens all calls.
    Opening(&'static str),
    Call,
    Name,
    Body,
    Key,
    Value,
    CallEnd,
    Between,
}

impl Tagged {
    /// `is_open`: the marker has opened a call already.
    pub(super) fn new(marker: &str, tags: &'static Tags, is_open: bool) -> Tagged {
        Tagged::at(marker.len(), tags, if is_open { State::Name } else { State::Call })
    }

    /// Calls whose outer tag, `opening`, is still to come.
    pub(super) fn unopened(marker: &str, opening: &'static str, tags: &'static Tags) -> Tagged {
        Tagged::at(marker.len(), tags, State::Opening(opening))
    }

    fn at(place: usize, tags: &'static Tags, state: State) -> Tagged {
        let (name, key, arguments) = (String::new(), String::new(), Map::new());
        let (cursor, is_string) = (Cursor::new(place), None);
        Tagged { cursor, tags, state, name, key, is_string, arguments }
    }

    /// Goes past the rest of a tag up to its end; the name in it.
    fn name<'t>(&mut self, text: &'t str, end: &str) -> Result<&'t str, Read> {
        match self.cursor.name_until(text, &[end]) {
            Next::Got((name, _)) if is_name(name.trim()) => Ok(name.trim()),
            Next::More => Err(Read::More),
            Next::Got(_) | Next::No => Err(Read::Bad),
        }
    }

    /// The call is complete.
    fn call(&mut self) -> Read {
        let arguments = Value::Object(std::mem::take(&mut self.arguments));
        let name = std::mem::take(&mut self.name);
        Read::Calls(vec![Call { name, arguments, id: None }], self.cursor.spend())
    }

    /// What stands in the call: parameters, or (Functionary 3.1) a JSON object.
    fn body(&mut self, text: &str, at_end: bool) -> Option<Read> {
        self.cursor.skip_space(text);
        if self.arguments.is_empty() && self.cursor.peek(text) == Some('{') {
            match self.cursor.brackets(text, Quotes::Double) {
                Next::Got(object) => match json::arguments(object) {
                    Some(Value::Object(arguments)) => self.arguments = arguments,
                    _ => return Some(Read::Bad),
                },
                Next::More => return Some(Read::More),
                Next::No => return Some(Read::Bad),
            }
            self.state = State::CallEnd;
            return None;
        }
        let tags = self.tags;
        let words = [tags.parameter.0, tags.call_end];
        match self.cursor.word(text, &words, at_end) {
            Next::Got(0) => self.state = State::Key,
            Next::Got(_) => {
                self.state = State::Between;
                return Some(self.call());
            }
            Next::More => return Some(Read::More),
            Next::No => return Some(Read::Bad),
        }
        None
    }
}

impl Reader for Tagged {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        let tags = self.tags;
        loop {
            match self.state {
                State::Opening(opening) => {
                    self.cursor.skip_space(text);
                    got!(self.cursor.word(text, &[opening], at_end), Read::Bad);
                    self.state = State::Call;
                }
                State::Call => {
                    self.cursor.skip_space(text);
                    got!(self.cursor.word(text, &[tags.call.0], at_end), Read::Bad);
                    self.state = State::Name;
                }
                State::Name => match self.name(text, tags.call.1) {
                    Ok(name) => {
                        self.name = name.to_owned();
                        self.state = State::Body;
                    }
                    Err(read) => return read,
                },
                State::Body => {
                    if let Some(read) = self.body(text, at_end) {
                        return read;
                    }
                }
                State::Key => {
                    let next = self.cursor.name_until(text, &[tags.parameter.1]);
                    let (key, _) = got!(next, Read::Bad);
                    // Behind the name may stand `" string="true`.
                    let (key, more) = key.split_once('"').unwrap_or((key, ""));
                    self.is_string = more.split_once("string=\"").map(|(_, v)| v.starts_with('t'));
                    self.key = key.trim().to_owned();
                    if !is_name(&self.key) {
                        return Read::Bad;
                    }
                    self.state = State::Value;
                }
                State::Value => {
                    let Some((value, _)) = self.cursor.until(text, &[tags.parameter_end]) else {
                        return Read::More;
                    };
                    let value = if tags.breaks { without_breaks(value) } else { value };
                    let inner = value.strip_prefix("<![CDATA[").and_then(|v| v.strip_suffix("]]>"));
                    let value = match self.is_string {
                        _ if inner.is_some() => Value::String(inner.unwrap_or(value).to_owned()),
                        Some(true) => Value::String(value.to_owned()),
                        Some(false) => {
                            json::value(value).unwrap_or_else(|| Value::String(value.to_owned()))
                        }
                        None => tools.typed(&self.name, &self.key, value),
                    };
                    self.arguments.insert(std::mem::take(&mut self.key), value);
                    self.state = State::Body;
                }
                State::CallEnd => {
                    self.cursor.skip_space(text);
                    if self.cursor.word(text, &[tags.call_end], at_end) == Next::More {
                        return Read::More;
                    }
                    self.state = State::Between;
                    return self.call();
                }
                State::Between => {
                    self.cursor.skip_space(text);
                    let next = self.cursor.word(text, &[tags.call.0, tags.end], at_end);
                    if got!(next, Read::End(self.cursor.spent)) == 1 {
                        return Read::End(self.cursor.at);
                    }
                    self.state = State::Name;
                }
            }
        }
    }
}

/// The text without one line break in front and one at the end.
fn without_breaks(text: &str) -> &str {
    let text = text.strip_prefix("\r\n").or(text.strip_prefix('\n')).unwrap_or(text);
    text.strip_suffix("\r\n").or(text.strip_suffix('\n')).unwrap_or(text)
}

/// What `<tool_call>` opens: JSON, tags or pairs, as its first characters tell.
#[derive(Debug)]
pub(super) struct Any {
    cursor: Cursor,
    chosen: Option<Box<dyn Reader>>,
}

impl Any {
    pub(super) fn new(marker: &str) -> Any {
        Any { cursor: Cursor::new(marker.len()), chosen: None }
    }
}

impl Reader for Any {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        if let Some(chosen) = &mut self.chosen {
            return chosen.read(text, at_end, tools);
        }
        self.cursor.skip_space(text);
        let marker = &text[..self.cursor.at];
        let chosen: Box<dyn Reader> = match self.cursor.peek(text) {
            None => return if at_end { Read::Bad } else { Read::More },
            Some('{' | '[') => Box::new(Objects::new(marker, &["</tool_call>"])),
            Some('<') => Box::new(Tagged::new(marker, &QWEN, false)),
            Some(_) => Box::new(Pairs::new(marker, &GLM)),
        };
        self.chosen.insert(chosen).read(text, at_end, tools)
    }
}
