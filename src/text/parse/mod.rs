//! What a model wrote, taken apart: reasoning, content, tool calls.
//!
//! Models mark thoughts and calls in their own ways; a [`Format`] knows one of them. A [`Parser`]
//! takes an answer piece by piece and gives [`Event`]s. Three promises hold for every format and
//! every way of cutting the text:
//!
//! - The events joined are the same however the text is cut.
//! - Nothing that was given out is taken back: text that may yet turn out to be a marker, or a call
//!   that is not complete, is held back.
//! - No text is lost: what looks like a call but does not parse comes out as content, as it stands.
//!   (White space around thoughts and calls is no text.)
//!
//! ```
//! use pumice::text::parse::{Event, Format, ParseOptions, Parser};
//!
//! let format = Format::by_name("hermes").unwrap();
//! let mut parser = Parser::new(format, ParseOptions::default());
//! let mut events = parser.push("Let me look.<tool_call>{\"name\": \"now\", ");
//! assert_eq!(events, [Event::Content("Let me look.".into())]);
//! events = parser.push("\"arguments\": {}}</tool_call>");
//! assert!(matches!(&events[..], [Event::Call(call)] if call.name == "now"));
//! assert!(parser.finish().is_empty());
//! ```
//!
//! Each family of formats has a file of its own: a reader reads the calls behind one kind of
//! marker; `marked` finds the markers. `headed` is a grammar by itself, of messages with headers.

mod cursor;
mod format;
mod gemma;
mod headed;
mod json;
mod marked;
mod named;
mod nested;
mod output;
mod pairs;
mod python;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod xml;

pub use format::Format;
pub use schema::Tools;

use output::Output;

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// What the answer to the call refers to: as the model wrote it, or else a number of our own.
    pub id: String,
    /// The tool.
    pub name: String,
    /// An object of its arguments.
    pub arguments: serde_json::Value,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More of the answer itself.
    Content(String),
    /// More of the thoughts before it.
    Reasoning(String),
    /// A complete call.
    Call(ToolCall),
}

/// What a parser should know besides the format.
#[derive(Debug, Clone, Default)]
pub struct ParseOptions {
    /// The tools that the model was told of.
    pub tools: Tools,
    /// Whether the prompt has opened the thoughts already; `None`: as [`ParseOptions::prompt_tail`]
    /// says, or else as is usual for the format.
    pub starts_in_reasoning: Option<bool>,
    /// The end of the prompt, as far as it matters.
    pub prompt_tail: Option<String>,
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// The answer itself.
    pub content: String,
    /// The thoughts before it.
    pub reasoning_content: String,
    /// The calls, in order.
    pub tool_calls: Vec<ToolCall>,
}

impl Extend<Event> for Parsed {
    fn extend<I: IntoIterator<Item = Event>>(&mut self, events: I) {
        for event in events {
            match event {
                Event::Content(text) => self.content.push_str(&text),
                Event::Reasoning(text) => self.reasoning_content.push_str(&text),
                Event::Call(call) => self.tool_calls.push(call),
            }
        }
    }
}

/// A grammar at work: takes text, puts events into `out`.
trait Grammar: std::fmt::Debug + Send {
    /// Takes the next piece.
    fn push(&mut self, piece: &str, out: &mut Output);
    /// There is no more.
    fn finish(&mut self, out: &mut Output);
}

/// Takes an answer apart while it is written.
#[derive(Debug)]
pub struct Parser {
    grammar: Box<dyn Grammar>,
    out: Output,
}

impl Parser {
    /// A parser for one answer.
    pub fn new(format: Format, options: ParseOptions) -> Parser {
        Parser { grammar: format.grammar(options), out: Output::default() }
    }

    /// Takes the next piece of the answer; returns what is certain now.
    pub fn push(&mut self, piece: &str) -> Vec<Event> {
        self.grammar.push(piece, &mut self.out);
        self.out.take()
    }

    /// Ends the answer: what was held back and turned out to be text or a complete call.
    pub fn finish(mut self) -> Vec<Event> {
        self.grammar.finish(&mut self.out);
        self.out.finish();
        self.out.take()
    }
}

/// Takes a whole answer apart.
pub fn parse(format: Format, options: ParseOptions, text: &str) -> Parsed {
    let mut parser = Parser::new(format, options);
    let mut parsed = Parsed::default();
    parsed.extend(parser.push(text));
    parsed.extend(parser.finish());
    parsed
}
