//! Writing to stdout, where the reader may be gone, and what terminals are told.

use std::io::{self, Write};

/// Writes bytes to stdout at once.
///
/// # Errors
/// The system's; see [`is_closed_pipe`].
pub(super) fn write_all(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Whether an error means that the reader of stdout went away (`| head`): no failure of ours.
pub(super) fn is_closed_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Whether the environment allows colours on a terminal (no-color.org; a terminal without any).
pub(super) fn colours_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// Whether a character does something else to a terminal than to show itself.
pub(super) fn steers(c: char) -> bool {
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
