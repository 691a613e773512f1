//! What a pull shows on stderr: a bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// How much a pull says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Lines and, on a terminal, a bar.
    Normal,
    /// Nothing.
    Quiet,
}

/// The progress of one step.
#[derive(Debug)]
pub(super) struct Meter {
    bar: ProgressBar,
}

impl Meter {
    fn new(voice: Voice, total: Option<u64>, template: &str, message: String) -> Meter {
        let target = if voice == Voice::Normal && std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target).with_message(message);
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Meter { bar }
    }

    /// A bar over bytes.
    pub(super) fn bytes(voice: Voice, total: Option<u64>, message: impl Into<String>) -> Meter {
        let template = match total {
            Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {bytes} {bytes_per_sec}",
        };
        Meter::new(voice, total, template, message.into())
    }

    /// A spinner for work of unknown length.
    pub(super) fn spinner(voice: Voice, message: impl Into<String>) -> Meter {
        let meter = Meter::new(voice, None, "{spinner} {msg} {elapsed}", message.into());
        meter.bar.enable_steady_tick(Duration::from_millis(120));
        meter
    }

    /// Sets the bytes done.
    pub(super) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line for the user.
pub(super) fn say(voice: Voice, line: &str) {
    if voice == Voice::Normal {
        eprintln!("{line}");
    }
}
