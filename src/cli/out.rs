//! Writing to stdout, where the reader may be gone.

use std::io::{self, Write};

/// Writes bytes to stdout at once.
///
/// # Errors
/// The system's; see [`is_closed_pipe`].
pub fn write_all(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Whether an error means that the reader of stdout went away (`| head`): no failure of ours.
pub fn is_closed_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
