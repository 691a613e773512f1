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
        ctrlc::set_handler(move || {
            let took = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if took.is_err() {
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
