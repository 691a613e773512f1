//! MiniMax M3's calls: a tag for each parameter and, in those that are no plain text, one for each field
//! and item. A mark stands before every tag, so that values may hold whatever looks like one.

use serde_json::{Map, Value};

use super::cursor::{Cursor, Next};
use super::reader::{Call, Read, Reader, got, is_name};
use super::schema::{self, Tools};

/// Stands before each tag.
const MARK: &str = "]<]minimax[>[";
/// Opens all calls.
pub(super) const OPEN: &str = "]<]minimax[>[<tool_call>";
const END: &str = "]<]minimax[>[</tool_call>";
const CALL: &str = "]<]minimax[>[<invoke name=\"";
/// What stands in calls.
pub(super) const MARKERS: &[&str] = &[CALL, "]<]minimax[>[</invoke>", END];
/// The tag of an item of a list.
const ITEM: &str = "item";
/// Deepest nesting of values that is read: bounds the stack when they are dropped.
const MAX_DEPTH: usize = 64;

/// Calls: `MARK<invoke name="NAME">MARK<KEY>VALUE MARK</KEY>..MARK</invoke>`.
#[derive(Debug)]
pub(super) struct Nested {
    cursor: Cursor,
    state: State,
    name: String,
    /// Elements that are open, each in the one before it; the first is a parameter.
    open: Vec<Element>,
    /// Where the text before the tag at hand begins and ends.
    before: (usize, usize),
    arguments: Map<String, Value>,
}

#[derive(Debug)]
struct Element {
    tag: String,
    /// What is in it, if that is no text.
    fields: Vec<(String, Value)>,
}

#[derive(Debug)]
enum State {
    Call,
    Name,
    /// In text, up to the next tag.
    Text,
    /// In a tag, behind its mark.
    Tag,
    Between,
}

impl Nested {
    pub(super) fn new(marker: &str) -> Nested {
        Nested {
            cursor: Cursor::new(marker.len()),
            state: State::Call,
            name: String::new(),
            open: Vec::new(),
            before: (0, 0),
            arguments: Map::new(),
        }
    }

    /// What the tool's schema says of the element that is innermost.
    fn schema<'t>(&self, tools: &'t Tools) -> Option<&'t Value> {
        let mut elements = self.open.iter();
        let first = tools.parameter(&self.name, &elements.next()?.tag)?;
        elements.try_fold(first, |schema, element| {
            let field = schema.get("properties").and_then(|all| all.get(&element.tag));
            field.or_else(|| schema.get("items").filter(|_| element.tag == ITEM))
        })
    }

    /// Closes the innermost element, whose text is given; false if text stands beside elements in it.
    fn close(&mut self, text: &str, tools: &Tools) -> bool {
        let schema = self.schema(tools);
        let may_be = |ty: &str| schema.is_none_or(|schema| schema::allows(schema, ty));
        let Some(element) = self.open.pop() else { return false };
        if !element.fields.is_empty() && !text.trim().is_empty() {
            return false;
        }
        let value = if element.fields.is_empty() {
            // An empty list and an empty object are written alike, and as an empty string is.
            match schema.filter(|_| text.trim().is_empty() && !may_be("string")) {
                Some(_) if may_be("array") => Value::Array(vec![]),
                Some(_) if may_be("object") => Value::Object(Map::new()),
                _ => schema::typed(schema, text),
            }
        } else if may_be("array") && element.fields.iter().all(|(tag, _)| tag == ITEM) {
            Value::Array(element.fields.into_iter().map(|(_, value)| value).collect())
        } else {
            Value::Object(element.fields.into_iter().collect())
        };
        match self.open.last_mut() {
            Some(outer) => outer.fields.push((element.tag, value)),
            None => drop(self.arguments.insert(element.tag, value)),
        }
        true
    }

    /// Takes a tag and the text before it; `None` goes on.
    fn tag(&mut self, tag: &str, before: &str, tools: &Tools) -> Option<Read> {
        self.state = State::Text;
        match tag.strip_prefix('/') {
            Some("invoke") if self.open.is_empty() && before.trim().is_empty() => {
                self.state = State::Between;
                let arguments = Value::Object(std::mem::take(&mut self.arguments));
                let name = std::mem::take(&mut self.name);
                let call = Call { name, arguments, id: None };
                Some(Read::Calls(vec![call], self.cursor.spend()))
            }
            Some(closes) if self.open.last().is_some_and(|element| element.tag == closes) => {
                (!self.close(before, tools)).then_some(Read::Bad)
            }
            None if before.trim().is_empty() && !tag.is_empty() && self.open.len() < MAX_DEPTH => {
                self.open.push(Element { tag: tag.to_owned(), fields: Vec::new() });
                None
            }
            _ => Some(Read::Bad),
        }
    }
}

impl Reader for Nested {
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read {
        loop {
            match self.state {
                State::Call => {
                    self.cursor.skip_space(text);
                    got!(self.cursor.word(text, &[CALL], at_end), Read::Bad);
                    self.state = State::Name;
                }
                State::Name => {
                    let (name, _) = got!(self.cursor.name_until(text, &["\">"]), Read::Bad);
                    if !is_name(name) {
                        return Read::Bad;
                    }
                    self.name = name.to_owned();
                    self.state = State::Text;
                }
                State::Text => {
                    let start = self.cursor.at;
                    let Some((before, _)) = self.cursor.until(text, &[MARK]) else {
                        return Read::More;
                    };
                    self.before = (start, start + before.len());
                    self.state = State::Tag;
                }
                State::Tag => {
                    let (tag, _) = got!(self.cursor.name_until(text, &[">"]), Read::Bad);
                    let Some(tag) = tag.strip_prefix('<') else { return Read::Bad };
                    let before = &text[self.before.0..self.before.1];
                    if let Some(read) = self.tag(tag, before, tools) {
                        return read;
                    }
                }
                State::Between => {
                    self.cursor.skip_space(text);
                    let next = self.cursor.word(text, &[CALL, END], at_end);
                    if got!(next, Read::End(self.cursor.spent)) == 1 {
                        return Read::End(self.cursor.at);
                    }
                    self.state = State::Name;
                }
            }
        }
    }
}
