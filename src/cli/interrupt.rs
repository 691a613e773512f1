//! Ctrl-C: one handler for all commands that answer.

use anyhow::Context as _;
use pumice::Cancel;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Exit code of a program ended by Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// The end of a command that was interrupted.
pub(super) fn exit_code() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}

/// The program's handler of Ctrl-C (and of the signals that ask it to end): while an answer is
/// being worked on it ends the answer, at other times the program.
pub(super) struct Interrupt {
    cancel: Cancel,
    /// How many signals the running answer still takes before the program ends; 0 = no answer.
    patience: Arc<AtomicU32>,
}

/// An answer being worked on: as long as this lives, Ctrl-C is for the answer.
pub(super) struct Watch<'a>(&'a Interrupt);

impl Interrupt {
    /// Installs the handler; `cancel` ends the answer.
    ///
    /// # Errors
    /// The system refuses, or a handler was installed before.
    pub(super) fn install(cancel: Cancel) -> anyhow::Result<Interrupt> {
        let patience = Arc::new(AtomicU32::new(0));
        let (flag, left) = (cancel.clone(), patience.clone());
        let terminal = terminal::State::now();
        ctrlc::set_handler(move || {
            let took = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if took.is_err() {
                // A line editor may be in the middle of its work.
                terminal.restore();
                std::process::exit(i32::from(INTERRUPTED));
            }
            flag.cancel();
        })
        .context("cannot watch for Ctrl-C")?;
        Ok(Interrupt { cancel, patience })
    }

    /// Begins an answer: takes back earlier interrupts. The first `patience` signals only ask the
    /// answer to end, the next one ends the program.
    pub(super) fn watch(&self, patience: u32) -> Watch<'_> {
        self.cancel.reset();
        self.patience.store(patience, Ordering::SeqCst);
        Watch(self)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.patience.store(0, Ordering::SeqCst);
    }
}

/// How the terminal was set when the program began.
#[cfg(unix)]
mod terminal {
    use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
    use std::io::{IsTerminal as _, Write as _};

    /// `None` where stdin is no terminal.
    pub(super) struct State(Option<Termios>);

    impl State {
        pub(super) fn now() -> State {
            State(tcgetattr(std::io::stdin()).ok())
        }

        /// Sets the terminal back if something has changed it since.
        pub(super) fn restore(&self) {
            let Some(first) = &self.0 else { return };
            let is_changed =
                tcgetattr(std::io::stdin()).is_ok_and(|now| now.local_flags != first.local_flags);
            if !is_changed {
                return;
            }
            // The program ends: nobody is left to be told of a failure.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, first);
            if std::io::stdout().is_terminal() {
                // The end of bracketed paste, which line editors ask for, and of the line.
                let _ = std::io::stdout().write_all(b"\x1b[?2004l\n");
                let _ = std::io::stdout().flush();
            }
        }
    }
}

#[cfg(not(unix))]
mod terminal {
    /// The system sets its terminal back by itself.
    pub(super) struct State;

    impl State {
        pub(super) fn now() -> State {
            State
        }

        pub(super) fn restore(&self) {}
    }
}
