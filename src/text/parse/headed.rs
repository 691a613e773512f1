//! Messages with a header that says whom they are for: Harmony (gpt-oss), Muse.
//!
//! Harmony writes `<|channel|>NAME<|message|>..<|end|>`: `analysis` are thoughts, `final` is the answer,
//! and so is `commentary` that is addressed to nobody. `to=functions.NAME`, in the channel or before it,
//! makes the text the arguments of a call.
//!
//! Muse writes ` to=NAME<|message|>..<|eom|>`: thoughts are for `self`, the answer is for `user`, and
//! what is for anybody else holds calls in tags, which name the tool once more.

use super::json::Arguments;
use super::marked::beginning;
use super::output::Output;
use super::reader::{Read, Reader, is_name};
use super::schema::Tools;
use super::xml::{ATEM, Tagged, Tags};
use super::{Grammar, ParseOptions};

const MESSAGE: &str = "<|message|>";
/// A longer header is none.
const MAX_HEADER: usize = 1024;

/// How the messages of a format are headed.
#[derive(Debug)]
pub(super) struct Headers {
    /// What headers begin with.
    begins: &'static [&'static str],
    /// What a message ends with; the next header may do that.
    ends: &'static [&'static str],
    /// The channel of thoughts.
    thinks_on: Option<&'static str>,
    /// Whom thoughts are for.
    thinks_to: Option<&'static str>,
    /// Whom the answer is for, if the header says it.
    answers_to: Option<&'static str>,
    /// What stands in messages for tools.
    calls: Body,
    /// All that mark messages and calls, for tokens that must be seen.
    pub(super) markers: &'static [&'static str],
}

/// What stands in a message for a tool.
#[derive(Debug)]
enum Body {
    /// An object of the arguments.
    Arguments,
    /// Calls in tags, behind the one that opens them.
    Tags(&'static str, &'static Tags),
}

pub(super) const HARMONY: Headers = Headers {
    begins: &["<|start|>", "<|channel|>", "to="],
    ends: &["<|start|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>"],
    thinks_on: Some("analysis"),
    thinks_to: None,
    answers_to: None,
    calls: Body::Arguments,
    markers: &["<|start|>", "<|channel|>", "<|constrain|>", MESSAGE, "<|end|>"],
};

pub(super) const MUSE: Headers = Headers {
    begins: &["<|start|>", MESSAGE, "to="],
    ends: &["<|start|>", "<|eom|>", "<|eot|>"],
    thinks_on: None,
    thinks_to: Some("self"),
    answers_to: Some("user"),
    calls: Body::Tags("<atem:function_calls>", &ATEM),
    markers: &["<|start|>", MESSAGE, "<|eom|>"],
};

/// The grammar at work.
#[derive(Debug)]
pub(super) struct Headed {
    headers: &'static Headers,
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
    /// In calls; the header, of so many bytes, is held too.
    Calls {
        reader: Box<dyn Reader>,
        n_header: usize,
        /// Bytes of held text that calls have come from.
        spent: usize,
    },
}

impl Headed {
    pub(super) fn new(headers: &'static Headers, options: ParseOptions) -> Headed {
        Headed { headers, tools: options.tools, held: String::new(), mode: Mode::Between }
    }

    /// One step; false if more text is needed.
    fn step(&mut self, at_end: bool, out: &mut Output) -> bool {
        match &mut self.mode {
            Mode::Between => self.between(at_end, out),
            Mode::Header => self.header(at_end, out),
            &mut Mode::Text { is_reasoning } => self.text(is_reasoning, at_end, out),
            Mode::Calls { .. } => self.calls(at_end, out),
        }
    }

    /// What stands between messages.
    fn marks(&self) -> impl Iterator<Item = &'static str> {
        self.headers.begins.iter().chain(self.headers.ends).copied()
    }

    fn between(&mut self, at_end: bool, out: &mut Output) -> bool {
        let text = self.held.trim_start();
        let skipped = self.held.len() - text.len();
        if text.is_empty() {
            return false;
        }
        if self.headers.begins.iter().any(|begin| text.starts_with(begin)) {
            out.border();
            self.held.drain(..skipped);
            self.mode = Mode::Header;
            return true;
        }
        if let Some(end) = self.headers.ends.iter().find(|end| text.starts_with(*end)) {
            self.held.drain(..skipped + end.len());
            return true;
        }
        if !at_end && self.marks().any(|mark| mark.starts_with(text)) {
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
            let begin = self.headers.begins.iter().find(|begin| self.held.starts_with(*begin));
            out.content(begin.unwrap_or(&""));
            self.held.drain(..begin.map_or(0, |begin| begin.len()));
            self.mode = Mode::Text { is_reasoning: false };
            return true;
        };
        let headers = self.headers;
        let header = &self.held[..end];
        let channel = header.split_once("<|channel|>").map_or("", |(_, channel)| channel);
        let recipient = header.split("to=").nth(1).and_then(|to| to.split([' ', '<']).next());
        let is_reasoning = match recipient {
            Some(_) => recipient == headers.thinks_to,
            None => headers.thinks_on.is_some_and(|name| channel.trim_start().starts_with(name)),
        };
        let tool = recipient.filter(|_| !is_reasoning && recipient != headers.answers_to);
        let name = tool.map(|to| to.strip_prefix("functions.").unwrap_or(to));
        let n_header = end + MESSAGE.len();
        self.mode = match name.filter(|name| is_name(name) && self.tools.may_call()) {
            Some(name) => {
                let reader: Box<dyn Reader> = match headers.calls {
                    Body::Arguments => Box::new(Arguments::new(n_header, name)),
                    Body::Tags(opening, tags) => {
                        Box::new(Tagged::unopened(&self.held[..n_header], opening, tags))
                    }
                };
                Mode::Calls { reader, n_header, spent: 0 }
            }
            None => {
                if tool.is_some() {
                    // A call, but there are no tools: text as it stands.
                    out.content(&self.held[..n_header]);
                }
                self.held.drain(..n_header);
                Mode::Text { is_reasoning }
            }
        };
        true
    }

    fn text(&mut self, is_reasoning: bool, at_end: bool, out: &mut Output) -> bool {
        let ends = self.headers.ends;
        let found = ends.iter().filter_map(|end| Some((self.held.find(end)?, *end))).min();
        let keep = if at_end { 0 } else { beginning(&self.held, ends.iter().copied()) };
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

    fn calls(&mut self, at_end: bool, out: &mut Output) -> bool {
        let Mode::Calls { reader, n_header, spent } = &mut self.mode else { return true };
        match reader.read(&self.held, at_end, &self.tools) {
            Read::Calls(calls, end) => {
                *spent = end;
                calls.into_iter().for_each(|call| out.call(call));
                return true;
            }
            Read::More if !at_end => return false,
            Read::End(end) => *spent = end,
            // No call: header and all are text.
            Read::More | Read::Bad if *spent == 0 => {
                let n_header = *n_header;
                out.content(&self.held[..n_header]);
                self.held.drain(..n_header);
                self.mode = Mode::Text { is_reasoning: false };
                return true;
            }
            Read::More | Read::Bad => {}
        }
        let spent = *spent;
        self.held.drain(..spent);
        self.mode = Mode::Between;
        true
    }
}

impl Grammar for Headed {
    fn push(&mut self, piece: &str, out: &mut Output) {
        self.held.push_str(piece);
        while self.step(false, out) {}
    }

    fn finish(&mut self, out: &mut Output) {
        while self.step(true, out) {}
    }
}
