//! An answer on its way to stdout: thoughts are told from the answer itself and shown as such.

use super::out::{colours_allowed, steers};
use pumice::text::parse::{Event, ParseOptions, Parsed, Parser, Tools};
use pumice::{ChatOptions, Model, Prompt};
use std::io::{self, IsTerminal, Write};

/// Whether the model is to think.
#[derive(clap::Args)]
pub(super) struct ThinkArgs {
    /// Ask for thoughts before the answer, where the model knows that
    #[arg(long, overrides_with = "no_think")]
    think: bool,
    /// Ask for an answer without thoughts
    #[arg(long, overrides_with = "think")]
    no_think: bool,
}

impl ThinkArgs {
    /// What was asked for.
    pub(super) fn options(&self) -> ChatOptions {
        let think = (self.think || self.no_think).then_some(self.think);
        ChatOptions { think }
    }

    /// What to say where the model cannot be asked.
    pub(super) const UNKNOWN: &str =
        "note: the model's chat template knows no thoughts; --think and --no-think change nothing";
}

/// How thoughts are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Dimmed, on a terminal with colours.
    Dimmed,
    /// Between `<think>` and `</think>`, each on a line of its own.
    Tagged,
}

/// One answer.
pub(super) struct Answer {
    parser: Option<Parser>,
    style: Style,
    /// stdout is a terminal: what the model writes must not steer it.
    guarded: bool,
    in_thoughts: bool,
    /// The model has written something, if only what is held back.
    pub(super) has_begun: bool,
    /// What came so far.
    pub(super) parsed: Parsed,
}

impl Answer {
    /// An answer to `prompt`.
    ///
    /// # Errors
    /// The chat template's.
    pub(super) fn new(model: &Model, prompt: &Prompt) -> Result<Answer, pumice::Error> {
        // No tools were given: what looks like a call is text.
        let options = ParseOptions {
            tools: Tools::Known(vec![]),
            prompt_tail: Some(prompt.tail.clone()),
            ..ParseOptions::default()
        };
        let parser = Parser::new(model.answer_format()?, options);
        Ok(Answer { parser: Some(parser), ..Answer::raw() })
    }

    /// Text that is not taken apart.
    pub(super) fn raw() -> Answer {
        let guarded = io::stdout().is_terminal();
        let style = if guarded && colours_allowed() { Style::Dimmed } else { Style::Tagged };
        let (in_thoughts, has_begun, parsed) = (false, false, Parsed::default());
        Answer { parser: None, style, guarded, in_thoughts, has_begun, parsed }
    }

    /// Whether nothing came.
    pub(super) fn is_empty(&self) -> bool {
        self.parsed.content.is_empty() && self.parsed.reasoning_content.is_empty()
    }

    /// Takes a piece of the answer and shows what is certain, at once.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn push(&mut self, piece: &str) -> io::Result<()> {
        self.has_begun = true;
        let events = match &mut self.parser {
            Some(parser) => parser.push(piece),
            None => vec![Event::Content(piece.to_owned())],
        };
        let text = self.show(events);
        write(&text)
    }

    /// Ends the answer with what was held back and a line break.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let events = self.parser.take().map(Parser::finish).unwrap_or_default();
        let mut text = self.show(events);
        if self.in_thoughts && self.style == Style::Tagged {
            text.push_str("\n</think>");
        }
        self.in_thoughts = false;
        text.push('\n');
        write(&text)
    }

    /// The events as they are shown.
    fn show(&mut self, events: Vec<Event>) -> String {
        let mut out = String::new();
        for event in events {
            let (text, is_thought) = match &event {
                Event::Content(text) => (text, false),
                Event::Reasoning(text) => (text, true),
                // Without tools there are none.
                Event::Call(_) => continue,
            };
            let border = match (self.style, self.in_thoughts, is_thought) {
                (Style::Tagged, false, true) => "<think>\n",
                (Style::Tagged, true, false) => "\n</think>\n\n",
                (Style::Dimmed, true, false) => "\n\n",
                _ => "",
            };
            out.push_str(border);
            // Each piece by itself: a program that ends in between leaves no dimmed terminal.
            let dims = is_thought && self.style == Style::Dimmed;
            out.push_str(if dims { "\x1b[2m" } else { "" });
            let guarded = self.guarded;
            let safe = |c| if guarded && steers(c) { char::REPLACEMENT_CHARACTER } else { c };
            out.extend(text.chars().map(safe));
            out.push_str(if dims { "\x1b[0m" } else { "" });
            self.in_thoughts = is_thought;
            self.parsed.extend([event]);
        }
        out
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pumice::text::parse::Format;

    fn shown(style: Style, guarded: bool, text: &str) -> String {
        let options = ParseOptions { tools: Tools::Known(vec![]), ..ParseOptions::default() };
        let mut parser = Parser::new(Format::by_name("qwen3").unwrap(), options);
        let mut events = parser.push(text);
        events.extend(parser.finish());
        Answer { style, guarded, ..Answer::raw() }.show(events)
    }

    #[test]
    fn thoughts_are_told_from_the_answer() {
        let text = "<think>\nhm\n</think>\n\nYes\x07.";
        assert_eq!(shown(Style::Tagged, false, text), "<think>\nhm\n</think>\n\nYes\x07.");
        assert_eq!(shown(Style::Dimmed, true, text), "\x1b[2mhm\x1b[0m\n\nYes\u{fffd}.");
        assert_eq!(shown(Style::Dimmed, true, "Yes.\n"), "Yes.\n");
    }
}
