//! A bar on stderr while a model is being made ready, when that takes long.

use indicatif::{ProgressBar, ProgressStyle};
use pumice::Model;
use std::sync::mpsc;
use std::time::Duration;

/// Nothing is shown before this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks.
const STEP: Duration = Duration::from_millis(100);

/// Runs `make`, which makes `model` ready, and shows how far it is once a second has passed.
pub(super) fn watched<T>(model: &Model, quiet: bool, make: impl FnOnce() -> T) -> T {
    if quiet {
        return make();
    }
    std::thread::scope(|scope| {
        let (done, waits) = mpsc::channel::<()>();
        // Without a thread for it there is no bar.
        let _ = std::thread::Builder::new().spawn_scoped(scope, move || show(model, &waits));
        let made = make();
        // The other side ends at once.
        drop(done);
        made
    })
}

/// Shows a bar from [`PATIENCE`] on until the other side of the channel is gone.
fn show(model: &Model, done: &mpsc::Receiver<()>) {
    let goes_on = |time| done.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout);
    if !goes_on(PATIENCE) {
        return;
    }
    // indicatif itself stays silent where stderr is no terminal.
    let style =
        ProgressStyle::with_template("laying out weights {bar:30} {bytes} of {total_bytes}");
    let bar =
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while goes_on(STEP) {
        if let Some((now, all)) = model.core().repacked() {
            bar.set_length(all);
            bar.set_position(now);
        }
    }
    bar.finish_and_clear();
}
