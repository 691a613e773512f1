//! What the chat shows beside its answers: on stderr, in colours where they are seen.

use crate::cli::out::{colours_allowed, steers};
use std::io::{self, IsTerminal, Write};

/// Where and how things are shown.
pub(super) struct Screen {
    /// Colours on stderr.
    colours: bool,
    quiet: bool,
}

impl Screen {
    pub(super) fn new(quiet: bool) -> Screen {
        Screen { colours: io::stderr().is_terminal() && colours_allowed(), quiet }
    }

    /// What was asked for by a command.
    pub(super) fn tell(&self, text: &str) {
        self.line("", text);
    }

    /// What is good to know; `-q` leaves it out.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.line("\x1b[2m", text);
        }
    }

    /// What went wrong; the chat goes on.
    pub(super) fn error(&self, text: &str) {
        self.line("\x1b[31m", &format!("error: {text}"));
    }

    /// A line on stderr. Nobody is left to be told where that fails.
    fn line(&self, colour: &str, text: &str) {
        let text: String = text.chars().filter(|&c| !steers(c)).collect();
        let line = match self.colours && !colour.is_empty() {
            true => format!("{colour}{text}\x1b[0m\n"),
            false => format!("{text}\n"),
        };
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}
