//! Events in the making, with the white space around thoughts and calls left out.

use std::collections::HashSet;

use super::reader::Call;
use super::{Event, ToolCall};

/// Events that wait to be taken, and what is known about the text so far.
#[derive(Debug, Default)]
pub(super) struct Output {
    events: Vec<Event>,
    content: Strand,
    reasoning: Strand,
    n_calls: usize,
    ids: HashSet<String>,
}

/// Text of one kind. White space at its end waits until it is known what follows.
#[derive(Debug, Default)]
struct Strand {
    /// Something other than white space has come.
    has_begun: bool,
    /// White space in front is dropped.
    trims: bool,
    space: String,
}

impl Strand {
    /// Takes text; returns what is to be given out, often nothing.
    fn push(&mut self, text: &str) -> Option<String> {
        let body = text.trim_end();
        if body.is_empty() {
            self.space.push_str(text);
            return None;
        }
        let mut out = std::mem::take(&mut self.space);
        out.push_str(body);
        self.space.push_str(&text[body.len()..]);
        if self.trims && !self.has_begun {
            out.drain(..out.len() - out.trim_start().len());
        }
        self.has_begun = true;
        Some(out)
    }
}

impl Output {
    pub(super) fn content(&mut self, text: &str) {
        if let Some(text) = self.content.push(text) {
            self.give(Event::Content(text));
        }
    }

    pub(super) fn reasoning(&mut self, text: &str) {
        self.reasoning.trims = true;
        if let Some(text) = self.reasoning.push(text) {
            self.give(Event::Reasoning(text));
        }
    }

    /// Neighbouring pieces of one kind become one.
    fn give(&mut self, event: Event) {
        match (self.events.last_mut(), event) {
            (Some(Event::Content(all)), Event::Content(text)) => all.push_str(&text),
            (Some(Event::Reasoning(all)), Event::Reasoning(text)) => all.push_str(&text),
            (_, event) => self.events.push(event),
        }
    }

    /// Thoughts begin, end or are followed by calls: white space around that is no text.
    pub(super) fn border(&mut self) {
        self.content.trims = true;
        if !self.content.has_begun {
            self.content.space.clear();
        }
    }

    pub(super) fn call(&mut self, call: Call) {
        self.border();
        let id = call.id.filter(|id| !id.is_empty() && !self.ids.contains(id));
        let ours = || (self.n_calls..).map(|n| format!("call_{n}"));
        let id = id.or_else(|| ours().find(|id| !self.ids.contains(id))).unwrap_or_default();
        self.n_calls += 1;
        self.ids.insert(id.clone());
        let (name, arguments) = (call.name, call.arguments);
        self.events.push(Event::Call(ToolCall { id, name, arguments }));
    }

    /// Whether content has begun.
    pub(super) fn has_content(&self) -> bool {
        self.content.has_begun
    }

    /// Whether thoughts have begun.
    pub(super) fn has_reasoning(&self) -> bool {
        self.reasoning.has_begun
    }

    /// The end of the answer: white space at the end belongs to content without calls.
    pub(super) fn finish(&mut self) {
        let space = std::mem::take(&mut self.content.space);
        let is_text = self.n_calls == 0 && (self.content.has_begun || !self.content.trims);
        if is_text && !space.is_empty() {
            self.give(Event::Content(space));
        }
    }

    pub(super) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
