//! Where messages come from: a line editor on a terminal, or the lines of a pipe.

use super::command::{COMMANDS, is_complete};
use rustyline::completion::Completer;
use rustyline::config::Behavior;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, Helper};
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

/// Entries that the history keeps.
const HISTORY_ENTRIES: usize = 1000;

/// What reading gave.
pub(super) enum Read {
    /// An input, perhaps of several lines.
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// The end of the input.
    End,
}

/// The source of inputs.
pub(super) enum Source {
    /// A person.
    Terminal(Box<Terminal>),
    /// A program.
    Pipe,
}

/// The line editor with its history.
pub(super) struct Terminal {
    editor: Editor<Typing, FileHistory>,
    /// `None` where it cannot or must not be kept.
    history: Option<PathBuf>,
    colours: bool,
}

impl Source {
    /// A line editor if stdin is a terminal.
    ///
    /// # Errors
    /// The terminal's.
    pub(super) fn new(colours: bool, keep_history: bool) -> anyhow::Result<Source> {
        if !std::io::stdin().is_terminal() {
            return Ok(Source::Pipe);
        }
        // Answers that go into a file or a pipe must not have prompts between them.
        let aside = !std::io::stdout().is_terminal();
        let config = Config::builder()
            .max_history_size(HISTORY_ENTRIES)?
            .history_ignore_dups(true)?
            .completion_type(CompletionType::List)
            .behavior(if aside { Behavior::PreferTerm } else { Behavior::Stdio })
            .color_mode(if colours { ColorMode::Enabled } else { ColorMode::Disabled })
            .build();
        let mut editor = Editor::with_config(config)?;
        editor.set_helper(Some(Typing));
        let history = if keep_history { history_file() } else { None };
        if let Some(path) = &history {
            prepare(path);
            // There is none before the first run.
            let _ = editor.load_history(path);
        }
        Ok(Source::Terminal(Box::new(Terminal { editor, history, colours })))
    }

    /// Waits for the next input.
    ///
    /// # Errors
    /// The system's, or a pipe's line that is no UTF-8.
    pub(super) fn read(&mut self) -> anyhow::Result<Read> {
        match self {
            Source::Terminal(t) => t.read(),
            Source::Pipe => Ok(read_lines(&mut std::io::stdin().lock())?),
        }
    }

    /// Whether a person types.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Source::Terminal(_))
    }
}

/// Lines up to where an input is complete.
fn read_lines(from: &mut impl BufRead) -> std::io::Result<Read> {
    let mut text = String::new();
    loop {
        if from.read_line(&mut text)? == 0 {
            return Ok(if text.is_empty() { Read::End } else { Read::Text(text) });
        }
        // The line end is no part of a line; files of another system end theirs in two characters.
        let end = text.trim_end_matches('\n').trim_end_matches('\r').len();
        if is_complete(&text[..end]) {
            text.truncate(end);
            return Ok(Read::Text(text));
        }
        text.truncate(end);
        text.push('\n');
    }
}

impl Terminal {
    fn read(&mut self) -> anyhow::Result<Read> {
        let styled = if self.colours { "\x1b[1;32m>\x1b[0m " } else { "> " };
        match self.editor.readline(&("> ", styled)) {
            Ok(text) => {
                self.remember(&text);
                Ok(Read::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Read::Interrupted),
            Err(ReadlineError::Eof) => Ok(Read::End),
            Err(e) => Err(e.into()),
        }
    }

    /// Adds an input to the history and its file at once: programs do not always end well.
    fn remember(&mut self, text: &str) {
        let added = !text.trim().is_empty() && self.editor.add_history_entry(text).unwrap_or(false);
        let Some(path) = self.history.as_ref().filter(|_| added) else { return };
        if let Err(e) = self.editor.append_history(path) {
            eprintln!("warning: the history cannot be kept in {}: {e}", path.display());
            self.history = None;
        }
    }
}

/// The history's file: in PUMICE_HOME, else where the system keeps such state.
fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = || {
        let base = folder("XDG_STATE_HOME").or_else(|| folder("LOCALAPPDATA"));
        let base = base.or_else(|| Some(std::env::home_dir()?.join(".local/state")));
        base.map(|base| base.join("pumice"))
    };
    let own = std::env::var_os("PUMICE_HOME").filter(|p| !p.is_empty()).map(PathBuf::from);
    Some(own.or_else(state)?.join("chat_history"))
}

/// Makes the folder, and keeps an existing history from others. What fails here shows when the
/// history is written.
fn prepare(path: &Path) {
    if let Some(folder) = path.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    }
}

/// What the editor does while someone types: Enter goes on to another line where an input is not
/// complete, Tab completes commands.
struct Typing;

impl Helper for Typing {}
impl Highlighter for Typing {}
impl Hinter for Typing {
    type Hint = String;
}

impl Validator for Typing {
    fn validate(&self, ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(ctx.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Completer for Typing {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _ctx: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..pos];
        let fits = |name: &&str| typed.starts_with('/') && name.starts_with(typed);
        let names = COMMANDS.iter().map(|(name, ..)| *name).filter(fits);
        Ok((0, names.map(String::from).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gives_whole_inputs() {
        let mut pipe = "one\r\ntwo\\\nlines\n\n\"\"\"\na\n\nb\n\"\"\"\nlast".as_bytes();
        let mut next = || match read_lines(&mut pipe).unwrap() {
            Read::Text(text) => Some(text),
            Read::Interrupted | Read::End => None,
        };
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some("two\\\nlines"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("\"\"\"\na\n\nb\n\"\"\""));
        assert_eq!(next().as_deref(), Some("last"));
        assert_eq!(next(), None);
    }
}
