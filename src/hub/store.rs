//! The cache folder.
//!
//! ```text
//! HOME/models/SLUG/FILE.gguf        a verified model
//! HOME/models/SLUG/FILE.gguf.json   what it is: name, repository, size, sha256, source, date
//! HOME/models/SLUG/FILE.gguf.part   an unfinished download, and FILE.gguf.part.id what it is of
//! HOME/locks/SLUG.lock              held while a pull works on SLUG
//! ```
//!
//! HOME is `PUMICE_HOME`, or `pumice` in `XDG_CACHE_HOME`, or `.cache/pumice` in the home folder.
//! A file gets its final name only when it is complete, verified and on the disk.

use super::HubError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// What is kept beside a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cached {
    /// The name it was asked for by.
    pub name: String,
    /// `OWNER/REPO`.
    pub repo: String,
    /// The file's path there.
    pub file: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Lower-case hexadecimal sha256.
    pub sha256: String,
    /// Where the bytes came from.
    pub source: String,
    /// The licence as the catalogue knows it.
    pub licence: String,
    /// When it was pulled, UTC.
    pub pulled_at: String,
    /// Where it lies (not stored).
    #[serde(skip)]
    pub path: PathBuf,
}

/// The cache folder.
#[derive(Debug, Clone)]
pub(super) struct Store {
    home: PathBuf,
}

/// A pull's claim on one model; given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    _file: File,
}

/// The folder that the environment names.
///
/// # Errors
/// [`HubError::NoHome`].
pub(super) fn home_from(
    var: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<PathBuf, HubError> {
    crate::tuning::home(var).ok_or(HubError::NoHome)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The sha256 of a file in lower-case hexadecimal.
pub(super) fn sha256_of(path: &Path) -> Result<String, HubError> {
    let mut file = File::open(path).map_err(HubError::io(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(HubError::io(path))? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Removes an unfinished download and the note about it.
pub(super) fn discard(part: &Path) {
    let _ = fs::remove_file(part);
    let _ = fs::remove_file(beside(part, ".id"));
}

impl Store {
    pub(super) fn new(home: PathBuf) -> Store {
        Store { home }
    }

    /// A folder for temporary files on the same disk.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir, HubError> {
        let at = self.home.join("tmp");
        fs::create_dir_all(&at).map_err(HubError::io(&at))?;
        // what a pull that was killed left behind, once no pull can still be using it
        for old in entries(&at)? {
            let age =
                fs::metadata(&old).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|a| a > std::time::Duration::from_secs(86_400)) {
                let _ = fs::remove_dir_all(&old);
            }
        }
        tempfile::Builder::new().prefix("pull-").tempdir_in(&at).map_err(HubError::io(&at))
    }

    /// Where a model of this folder and file name lies or will lie.
    pub(super) fn path(&self, slug: &str, file: &str) -> PathBuf {
        self.home.join("models").join(slug).join(file.replace('/', "--"))
    }

    /// The unfinished download of a model.
    pub(super) fn part(path: &Path) -> PathBuf {
        beside(path, ".part")
    }

    /// Waits for other pulls of the same model; `waiting` is called once if there is one.
    pub(super) fn claim(&self, slug: &str, waiting: impl FnOnce()) -> Result<Claim, HubError> {
        let folder = self.home.join("locks");
        fs::create_dir_all(&folder).map_err(HubError::io(&folder))?;
        let path = folder.join(format!("{slug}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(HubError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(HubError::io(&path))?;
            }
            Err(TryLockError::Error(e)) => return Err(HubError::Io { path, source: e }),
        }
        Ok(Claim { _file: file })
    }

    /// Makes a verified `.part` file a model.
    pub(super) fn finish(&self, part: &Path, path: &Path, meta: &Cached) -> Result<(), HubError> {
        File::open(part).and_then(|f| f.sync_all()).map_err(HubError::io(part))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        }
        let meta_path = beside(path, ".json");
        let draft = beside(path, ".json.part");
        let text = serde_json::to_vec_pretty(meta)
            .map_err(|e| HubError::Io { path: meta_path.clone(), source: e.into() })?;
        let mut file = File::create(&draft).map_err(HubError::io(&draft))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(HubError::io(&draft))?;
        fs::rename(&draft, &meta_path).map_err(HubError::io(&meta_path))?;
        fs::rename(part, path).map_err(HubError::io(path))?;
        for leftover in [".part", ".part.id"] {
            let _ = fs::remove_file(beside(path, leftover));
        }
        // the rename itself must survive a power cut; not every system can sync a folder
        if let Some(folder) = path.parent().and_then(|p| File::open(p).ok()) {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    /// All models that are here and complete.
    pub(super) fn list(&self) -> Result<Vec<Cached>, HubError> {
        let root = self.home.join("models");
        let mut rv = Vec::new();
        for folder in entries(&root)? {
            for path in entries(&folder)? {
                if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("gguf")) {
                    continue;
                }
                let Ok(size) = fs::metadata(&path).map(|m| m.len()) else {
                    continue;
                };
                let meta = fs::read(beside(&path, ".json"))
                    .ok()
                    .and_then(|b| serde_json::from_slice::<Cached>(&b).ok());
                // a file of another size than its record was not put here by a pull
                if let Some(mut meta) = meta.filter(|m| m.size_bytes == size) {
                    meta.path = path;
                    rv.push(meta);
                }
            }
        }
        rv.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rv)
    }

    /// The model of a name, if it is here.
    pub(super) fn find(&self, name: &str) -> Result<Option<Cached>, HubError> {
        Ok(self.list()?.into_iter().find(|m| m.name == name))
    }

    /// Removes a model with its record and leftovers; gives the bytes freed.
    pub(super) fn remove(&self, path: &Path) -> Result<u64, HubError> {
        let size = fs::metadata(path).map(|m| m.len()).unwrap_or(0);
        fs::remove_file(path).map_err(HubError::io(path))?;
        for suffix in [".json", ".part", ".part.id"] {
            let _ = fs::remove_file(beside(path, suffix));
        }
        if let Some(folder) = path.parent() {
            // goes only when nothing else is in it
            let _ = fs::remove_dir(folder);
        }
        Ok(size)
    }

    /// Removes the unfinished downloads of a folder; gives the bytes freed.
    pub(super) fn remove_parts(&self, slug: &str) -> Result<u64, HubError> {
        let folder = self.home.join("models").join(slug);
        let mut freed = 0;
        for path in entries(&folder)? {
            let name = path.to_string_lossy().into_owned();
            if name.ends_with(".part") || name.ends_with(".part.id") {
                freed += fs::metadata(&path).map(|m| m.len()).unwrap_or(0);
                fs::remove_file(&path).map_err(HubError::io(&path))?;
            }
        }
        let _ = fs::remove_dir(&folder);
        Ok(freed)
    }
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, HubError> {
    match fs::read_dir(folder) {
        Ok(list) => Ok(list.filter_map(|e| e.ok().map(|e| e.path())).collect()),
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(e) => Err(HubError::Io { path: folder.into(), source: e }),
    }
}

#[cfg(test)]
mod tests {
    use super::home_from;
    use std::path::PathBuf;

    #[test]
    fn the_environment_names_the_folder() {
        let env = |pairs: &'static [(&str, &str)]| {
            home_from(move |n| pairs.iter().find(|p| p.0 == n).map(|p| p.1.into()))
        };
        assert_eq!(env(&[("PUMICE_HOME", "/p"), ("HOME", "/h")]).ok(), Some(PathBuf::from("/p")));
        assert_eq!(
            env(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).ok(),
            Some(PathBuf::from("/x/pumice"))
        );
        assert_eq!(
            env(&[("PUMICE_HOME", ""), ("HOME", "/h")]).ok(),
            Some(PathBuf::from("/h/.cache/pumice"))
        );
        assert!(env(&[]).is_err());
    }
}
