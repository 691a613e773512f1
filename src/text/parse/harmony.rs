//! Harmony (gpt-oss): messages with a header, `<|channel|>NAME<|message|>..<|end|>`.
//!
//! The header says on which channel the text is: `analysis` are thoughts, `final` is the answer,
//! and so is `commentary` that is addressed to nobody. `to=functions.NAME`, in the channel or
//! before it, makes the text the arguments of a call.

use super::cursor::{Cursor, Next, Quotes};
use super::marked::beginning;
use super::output::Output;
use super::reader::{Call, is_name};
use super::schema::Tools;
use super::{Grammar, ParseOptions, json};

const MESSAGE: &str = "<|message|>";
/// What a message ends with. The first two begin the next one.
const ENDS: [&str; 5] = ["<|start|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>"];
/// What headers begin with.
const BEGINS: [&str; 3] = ["<|start|>", "<|channel|>", "to="];

/// All that mark messages, for tokens that must be seen.
pub(super) const MARKERS: &[&str] =
    &["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"];
/// A longer header is none.
const MAX_HEADER: usize = 1024;

/// The grammar at work.
#[derive(Debug)]
pub(super) struct Harmony {
    tools: Tools,
    held: String,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// Between messages.
    Between,
    /// In a header, which is held.
    Header,
    Text {
        is_reasoning: bool,
    },
    /// In the arguments of a call; the header is held too.
    Arguments {
        name: String,
        cursor: Cursor,
    },
}

impl Harmony {
    pub(super) fn new(options: ParseOptions) -> Harmony {
        Harmony { tools: options.tools, held: String::new(), mode: Mode::Between }
    }

    /// One step; false if more text is needed.
    fn step(&mut self, at_end: bool, out: &mut Output) -> bool {
        match &mut self.mode {
            Mode::Between => self.between(at_end, out),
            Mode::Header => self.header(at_end, out),
            &mut Mode::Text { is_reasoning } => self.text(is_reasoning, at_end, out),
            Mode::Arguments { .. } => self.arguments(at_end, out),
        }
    }

    fn between(&mut self, at_end: bool, out: &mut Output) -> bool {
        let text = self.held.trim_start();
        let skipped = self.held.len() - text.len();
        if text.is_empty() {
            return false;
        }
        if BEGINS.iter().any(|begin| text.starts_with(begin)) {
            out.border();
            self.held.drain(..skipped);
            self.mode = Mode::Header;
            return true;
        }
        if let Some(end) = ENDS.iter().find(|end| text.starts_with(*end)) {
            self.held.drain(..skipped + end.len());
            return true;
        }
        if !at_end && BEGINS.iter().chain(&ENDS).any(|begin| begin.starts_with(text)) {
            return false;
        }
        // An answer without headers.
        self.mode = Mode::Text { is_reasoning: false };
        true
    }

    fn header(&mut self, at_end: bool, out: &mut Output) -> bool {
        let end = self.held.find(MESSAGE).filter(|&end| end <= MAX_HEADER);
        let Some(end) = end else {
            if !at_end && self.held.len() < MAX_HEADER + MESSAGE.len() {
                return false;
            }
            // No header after all: what looked like its beginning is text.
            let begin = BEGINS.iter().find(|begin| self.held.starts_with(*begin));
            out.content(begin.unwrap_or(&""));
            self.held.drain(..begin.map_or(0, |begin| begin.len()));
            self.mode = Mode::Text { is_reasoning: false };
            return true;
        };
        let header = &self.held[..end];
        let channel = header.split_once("<|channel|>").map_or("", |(_, channel)| channel);
        let recipient = header.split("to=").nth(1).and_then(|to| to.split([' ', '<']).next());
        let is_reasoning = recipient.is_none() && channel.trim_start().starts_with("analysis");
        let name = recipient.map(|to| to.strip_prefix("functions.").unwrap_or(to));
        let end = end + MESSAGE.len();
        self.mode = match name.filter(|name| is_name(name) && self.tools.may_call()) {
            Some(name) => Mode::Arguments { name: name.to_owned(), cursor: Cursor::new(end) },
            None => {
                if recipient.is_some() {
                    // A call, but there are no tools: text as it stands.
                    out.content(&self.held[..end]);
                }
                self.held.drain(..end);
                Mode::Text { is_reasoning }
            }
        };
        true
    }

    fn text(&mut self, is_reasoning: bool, at_end: bool, out: &mut Output) -> bool {
        let found = ENDS.iter().filter_map(|end| Some((self.held.find(end)?, *end))).min();
        let keep = if at_end { 0 } else { beginning(&self.held, ENDS.iter().copied()) };
        let end = found.map_or(self.held.len() - keep, |(at, _)| at);
        let text = &self.held[..end];
        if is_reasoning {
            out.reasoning(text)
        } else {
            out.content(text)
        }
        self.held.drain(..end);
        if found.is_some() {
            self.mode = Mode::Between;
        }
        found.is_some()
    }

    fn arguments(&mut self, at_end: bool, out: &mut Output) -> bool {
        let Mode::Arguments { name, cursor } = &mut self.mode else { return true };
        cursor.skip_space(&self.held);
        let object = match cursor.brackets(&self.held, Quotes::Double) {
            Next::More if !at_end => return false,
            Next::Got(object) => json::arguments(object),
            Next::More | Next::No => None,
        };
        if let Some(arguments) = object {
            out.call(Call { name: std::mem::take(name), arguments, id: None });
            self.held.drain(..cursor.at);
            self.mode = Mode::Between;
            return true;
        }
        // No call: header and all are text.
        let end = cursor.at;
        out.content(&self.held[..end]);
        self.held.drain(..end);
        self.mode = Mode::Text { is_reasoning: false };
        true
    }
}

impl Grammar for Harmony {
    fn push(&mut self, piece: &str, out: &mut Output) {
        self.held.push_str(piece);
        while self.step(false, out) {}
    }

    fn finish(&mut self, out: &mut Output) {
        while self.step(true, out) {}
    }
}
