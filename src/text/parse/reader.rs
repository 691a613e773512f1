//! What reads the calls behind a marker.

use serde_json::Value;

use super::cursor::MAX_NAME;
use super::schema::Tools;

/// A call as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    /// An object.
    pub(super) arguments: Value,
    /// As the model wrote it, if it did.
    pub(super) id: Option<String>,
}

/// How far reading came.
#[derive(Debug)]
pub(super) enum Read {
    /// More text is needed.
    More,
    /// This is no call, or none that can be read.
    Bad,
    /// Complete calls; the text up to the place is spent.
    Calls(Vec<Call>, usize),
    /// There are no more calls; what stands from the place on is something else.
    End(usize),
}

/// Reads calls from text that grows. The text begins with the marker.
pub(super) trait Reader: std::fmt::Debug + Send {
    /// Reads on; `at_end`: there will be no more text.
    fn read(&mut self, text: &str, at_end: bool, tools: &Tools) -> Read;
}

/// A name that a tool may have.
pub(super) fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_alphanumeric() || "_-.:/".contains(c);
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_allowed)
}

/// Goes on with the value of a [`super::cursor::Next`], or leaves: with `More`, or with the value for `No`.
macro_rules! got {
    ($next:expr, $no:expr) => {
        match $next {
            Next::Got(value) => value,
            Next::More => return Read::More,
            Next::No => return $no,
        }
    };
}
pub(super) use got;
