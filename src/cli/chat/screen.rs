//! What the chat shows: answers on stdout, all else on stderr, in colours where they are seen.

use std::io::{self, IsTerminal, Write};

/// Where and how things are shown.
pub(super) struct Screen {
    /// Colours on stderr.
    colours: bool,
    /// stdout is a terminal: what the model writes must not steer it.
    guarded: bool,
    quiet: bool,
}

/// Whether the environment allows colours on a terminal (no-color.org; a terminal without any).
pub(super) fn colours_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

impl Screen {
    pub(super) fn new(quiet: bool) -> Screen {
        Screen {
            colours: io::stderr().is_terminal() && colours_allowed(),
            guarded: io::stdout().is_terminal(),
            quiet,
        }
    }

    /// A piece of an answer, at once.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn answer(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.guarded && text.chars().any(steers) {
            let text: String = text
                .chars()
                .map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c })
                .collect();
            stdout.write_all(text.as_bytes())?;
        } else {
            stdout.write_all(text.as_bytes())?;
        }
        stdout.flush()
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

/// Whether a character does something else to a terminal than to show itself.
fn steers(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::steers;

    #[test]
    fn escapes_steer_a_terminal_and_text_does_not() {
        assert!("\x1b\x07\r\u{9b}\x7f".chars().all(steers));
        assert!(!"a\n\té你".chars().any(steers));
    }
}
