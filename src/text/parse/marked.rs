//! The grammar of nearly all formats: text in which markers open thoughts and calls.

use super::format::{Action, Calls, Spec, Start};
use super::json::{Bare, Objects};
use super::named::{Addressed, Mistral, Section};
use super::nested::Nested;
use super::output::Output;
use super::pairs::Pairs;
use super::reader::{Read, Reader};
use super::schema::Tools;
use super::xml::{Any, Tagged};
use super::{Grammar, ParseOptions, gemma, python};

/// The grammar at work.
#[derive(Debug)]
pub(super) struct Marked {
    spec: &'static Spec,
    tools: Tools,
    /// Text that is not decided yet; in calls it begins with their marker.
    held: String,
    mode: Mode,
    /// Content may still turn out to be a bare call.
    may_be_bare: bool,
}

#[derive(Debug)]
enum Mode {
    Content,
    /// In thoughts that the tags with this number opened.
    Reasoning(usize),
    Calls(At),
}

/// Where reading calls stands.
#[derive(Debug)]
struct At {
    reader: Box<dyn Reader>,
    /// Bytes of the marker.
    n_marker: usize,
    /// Bytes of held text that calls have come from.
    spent: usize,
}

/// What to do next.
enum Flow {
    On,
    Wait,
}

impl Marked {
    pub(super) fn new(spec: &'static Spec, options: ParseOptions) -> Marked {
        let mode = match start(spec, &options) {
            Start::Content => Mode::Content,
            Start::Reasoning => Mode::Reasoning(opened(spec, &options).unwrap_or(0)),
            Start::Call(calls) => {
                Mode::Calls(At { reader: reader(calls, ""), n_marker: 0, spent: 0 })
            }
        };
        let may_be_bare = spec.bare && options.tools.may_call();
        Marked { spec, tools: options.tools, held: String::new(), mode, may_be_bare }
    }

    fn advance(&mut self, at_end: bool, out: &mut Output) {
        loop {
            let flow = match self.mode {
                Mode::Content => self.content(at_end, out),
                Mode::Reasoning(tags) => self.reasoning(tags, at_end, out),
                Mode::Calls(_) => self.calls(at_end, out),
            };
            if let Flow::Wait = flow {
                return;
            }
        }
    }

    /// Markers that count in content.
    fn markers(&self) -> impl Iterator<Item = (&'static str, Action)> {
        let may_call = self.tools.may_call();
        let thoughts = self.spec.thoughts;
        let opens = thoughts.iter().enumerate().map(|(i, tags)| (tags.open, Action::Open(i)));
        let closes = thoughts.iter().flat_map(|tags| tags.closes);
        let closes = closes.map(|&close| (close, Action::Close));
        let calls = self.spec.calls.iter().filter(move |_| may_call);
        let calls = calls.map(|&(marker, calls)| (marker, Action::Call(calls)));
        let drops = self.spec.drops.iter().map(|&marker| (marker, Action::Drop));
        // Of equals the first counts: what ends messages of all kinds may end thoughts too.
        opens.chain(drops).chain(closes).chain(calls)
    }

    fn content(&mut self, at_end: bool, out: &mut Output) -> Flow {
        if self.may_be_bare && !out.has_content() {
            let text = self.held.trim_start();
            if text.is_empty() && !at_end {
                return Flow::Wait;
            }
            if text.starts_with('{') {
                self.may_be_bare = false;
                let space = self.held.len() - text.len();
                out.content(&self.held[..space]);
                self.held.drain(..space);
                self.mode =
                    Mode::Calls(At { reader: reader(Calls::Bare, ""), n_marker: 0, spent: 0 });
                return Flow::On;
            }
        }
        let found = self.markers().filter_map(|(marker, action)| {
            Some((self.held.find(marker)?, std::cmp::Reverse(marker.len()), action))
        });
        let Some((at, length, action)) = found.min_by_key(|&(at, length, _)| (at, length)) else {
            let keep = if at_end { 0 } else { beginning(&self.held, self.markers().map(|m| m.0)) };
            let certain = self.held.len() - keep;
            out.content(&self.held[..certain]);
            self.held.drain(..certain);
            return Flow::Wait;
        };
        out.content(&self.held[..at]);
        self.held.drain(..at);
        let n_marker = length.0;
        match action {
            Action::Open(i) if self.spec.thoughts[i].anywhere || !out.has_content() => {
                out.border();
                self.held.drain(..n_marker);
                self.mode = Mode::Reasoning(i);
            }
            // Thoughts that nobody opened, or that end twice.
            Action::Close if !out.has_content() => {
                out.border();
                self.held.drain(..n_marker);
            }
            Action::Open(_) | Action::Close => self.give_marker(n_marker, out),
            Action::Drop => drop(self.held.drain(..n_marker)),
            Action::Call(calls) => {
                let reader = reader(calls, &self.held[..n_marker]);
                self.mode = Mode::Calls(At { reader, n_marker, spent: 0 });
            }
        }
        Flow::On
    }

    /// A marker that is text.
    fn give_marker(&mut self, n_marker: usize, out: &mut Output) {
        out.content(&self.held[..n_marker]);
        self.held.drain(..n_marker);
    }

    fn reasoning(&mut self, tags: usize, at_end: bool, out: &mut Output) -> Flow {
        let tags = &self.spec.thoughts[tags];
        if !out.has_reasoning() {
            // A prompt may have opened the thoughts and the model opens them again.
            let text = self.held.trim_start();
            if text.starts_with(tags.open) {
                let n = self.held.len() - text.len() + tags.open.len();
                self.held.drain(..n);
                return Flow::On;
            }
            if tags.open.starts_with(text) && !at_end {
                return Flow::Wait;
            }
        }
        let found = tags.closes.iter().filter_map(|close| Some((self.held.find(close)?, *close)));
        let Some((at, close)) = found.min() else {
            let closes = tags.closes.iter().copied();
            let keep = if at_end { 0 } else { beginning(&self.held, closes) };
            let certain = self.held.len() - keep;
            out.reasoning(&self.held[..certain]);
            self.held.drain(..certain);
            return Flow::Wait;
        };
        out.reasoning(&self.held[..at]);
        out.border();
        self.held.drain(..at + close.len());
        self.mode = Mode::Content;
        Flow::On
    }

    fn calls(&mut self, at_end: bool, out: &mut Output) -> Flow {
        let Mode::Calls(at) = &mut self.mode else { return Flow::On };
        match at.reader.read(&self.held, at_end, &self.tools) {
            Read::Calls(calls, spent) => {
                at.spent = spent;
                calls.into_iter().for_each(|call| out.call(call));
                return Flow::On;
            }
            Read::More if !at_end => return Flow::Wait,
            Read::End(end) => {
                self.held.drain(..end);
                self.mode = Mode::Content;
            }
            // What did not become a call is text as it stands. Its marker is not looked at again,
            // what follows is.
            Read::Bad if at.spent == 0 => {
                let n_marker = at.n_marker;
                self.mode = Mode::Content;
                self.give_marker(n_marker, out);
            }
            Read::Bad => {
                self.held.drain(..at.spent);
                self.mode = Mode::Content;
            }
            Read::More => {
                out.content(&self.held[at.spent..]);
                self.held.clear();
                self.mode = Mode::Content;
            }
        }
        Flow::On
    }
}

impl Grammar for Marked {
    fn push(&mut self, piece: &str, out: &mut Output) {
        self.held.push_str(piece);
        self.advance(false, out);
    }

    fn finish(&mut self, out: &mut Output) {
        self.advance(true, out);
    }
}

/// Where an answer begins.
fn start(spec: &'static Spec, options: &ParseOptions) -> Start {
    let content = match spec.start {
        Start::Reasoning => Start::Content,
        other => other,
    };
    let reasoning = if spec.thoughts.is_empty() { content } else { Start::Reasoning };
    match (options.starts_in_reasoning, options.prompt_tail.as_deref()) {
        (Some(true), _) => reasoning,
        (Some(false), _) => content,
        (None, Some(tail)) if !tail.is_empty() && opened(spec, options).is_some() => reasoning,
        (None, Some(tail)) if !tail.is_empty() => content,
        (None, _) => spec.start,
    }
}

/// The tags that the prompt has opened.
fn opened(spec: &Spec, options: &ParseOptions) -> Option<usize> {
    let tail = options.prompt_tail.as_deref()?.trim_end();
    spec.thoughts.iter().position(|tags| tail.ends_with(tags.open))
}

fn reader(calls: Calls, marker: &str) -> Box<dyn Reader> {
    match calls {
        Calls::Any => Box::new(Any::new(marker)),
        Calls::Pairs(tags) => Box::new(Pairs::new(marker, tags)),
        Calls::Nested => Box::new(Nested::new(marker)),
        Calls::Objects(closes) => Box::new(Objects::new(marker, closes)),
        Calls::Bare => Box::new(Bare::new(marker)),
        Calls::Tags(tags) => Box::new(Tagged::new(marker, tags, false)),
        Calls::OpenTag(tags) => Box::new(Tagged::new(marker, tags, true)),
        Calls::Section(marks) => Box::new(Section::new(marker, marks, false)),
        Calls::OpenCall(marks) => Box::new(Section::new(marker, marks, true)),
        Calls::Mistral => Box::new(Mistral::new(marker)),
        Calls::Addressed => Box::new(Addressed::new(marker)),
        Calls::Gemma => Box::new(gemma::Gemma::new(marker)),
        Calls::PythonList => Box::new(python::List::new(marker)),
        Calls::PythonTag => Box::new(python::Tag::new(marker)),
    }
}

/// Bytes of the longest end of `text` that begins one of some markers and is none whole.
pub(super) fn beginning<'m>(text: &str, markers: impl Iterator<Item = &'m str>) -> usize {
    let longest = |marker: &str| {
        let most = (marker.len() - 1).min(text.len());
        let fits = |n: &usize| marker.is_char_boundary(*n) && text.ends_with(&marker[..*n]);
        (1..=most).rev().find(fits).unwrap_or(0)
    };
    markers.map(longest).max().unwrap_or(0)
}
