//! What `pumice tune` found out about a machine, kept in a small file in the cache folder.
//!
//! The file is a hint and speed alone depends on it: one that is damaged, of another machine or of another
//! version is passed over, with a note.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The form of the file.
const FORM: u32 = 1;
/// A file longer than this was not written by us.
const MAX_BYTES: u64 = 1 << 16;
/// The furthest prefetch distance that is believed.
pub const MAX_PREFETCH: usize = 1 << 20;
/// Most threads that are believed.
const MAX_THREADS: usize = 1024;

/// What figures hold for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The version of Pumice.
    pub pumice: String,
    /// What the processor calls itself.
    pub cpu: String,
    /// Hardware threads that the process may use.
    pub usable_threads: usize,
    /// The instruction set of the kernels.
    pub isa: String,
}

/// The figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// How far ahead of their use weights are asked for in steps of few rows, in bytes.
    pub prefetch_bytes: usize,
    /// Threads of steps of few rows.
    pub n_threads: usize,
    /// Threads of prompts.
    pub n_threads_batch: usize,
}

#[derive(Serialize, Deserialize)]
struct File {
    form: u32,
    machine: Machine,
    tuning: Tuning,
}

/// What became of reading the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Nothing,
    /// It holds for this machine.
    Tuning(Tuning),
    /// It does not, and why.
    Unusable(String),
}

/// The folder that holds what can be fetched or measured anew: `PUMICE_HOME`, or `pumice` in
/// `XDG_CACHE_HOME`, or `.cache/pumice` in the home folder. `None` where nothing names one.
pub fn home(var: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| var(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("PUMICE_HOME")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("pumice")))
        .or_else(|| set("HOME").map(|p| p.join(".cache").join("pumice")))
        .or_else(|| set("LOCALAPPDATA").map(|p| p.join("pumice")))
}

/// The file, in the folder that the environment names.
pub fn path() -> Option<PathBuf> {
    Some(home(|name| std::env::var_os(name))?.join("tuning.json"))
}

impl Tuning {
    /// Reads the file at `path` for `machine`.
    pub fn load(path: &Path, machine: &Machine) -> Found {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Found::Nothing,
            Err(e) => return Found::Unusable(e.to_string()),
        };
        let mut text = String::new();
        if let Err(e) = file.take(MAX_BYTES).read_to_string(&mut text) {
            return Found::Unusable(e.to_string());
        }
        Tuning::parse(&text, machine)
    }

    fn parse(text: &str, machine: &Machine) -> Found {
        let unusable = |why: String| Found::Unusable(why);
        // The form comes first: another one may have any fields.
        let value: serde_json::Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(e) => return unusable(format!("no JSON: {e}")),
        };
        if value["form"] != FORM {
            return unusable(format!("form {}, expected {FORM}", value["form"]));
        }
        let File { machine: of, tuning, .. } = match serde_json::from_value(value) {
            Ok(file) => file,
            Err(e) => return unusable(e.to_string()),
        };
        if of != *machine {
            return unusable(format!("measured on {}, this is {}", of.name(), machine.name()));
        }
        let threads = 1..=MAX_THREADS;
        if !threads.contains(&tuning.n_threads) || !threads.contains(&tuning.n_threads_batch) {
            let (n, batch) = (tuning.n_threads, tuning.n_threads_batch);
            return unusable(format!("{n} and {batch} threads, expected 1 to {MAX_THREADS}"));
        }
        if tuning.prefetch_bytes > MAX_PREFETCH {
            let found = tuning.prefetch_bytes;
            return unusable(format!("{found} bytes ahead, expected at most {MAX_PREFETCH}"));
        }
        Found::Tuning(tuning)
    }

    /// Writes the file: whole, or not at all.
    ///
    /// # Errors
    /// A folder that cannot be made, or a file that cannot be written.
    pub fn save(self, path: &Path, machine: &Machine) -> std::io::Result<()> {
        let file = File { form: FORM, machine: machine.clone(), tuning: self };
        let text = serde_json::to_string_pretty(&file)? + "\n";
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // A name of its own for each process: two that tune at a time do not mix their bytes.
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path));
        if written.is_err() {
            // The error at hand is the one to tell.
            let _ = std::fs::remove_file(&part);
        }
        written
    }
}

impl Machine {
    fn name(&self) -> String {
        let Machine { pumice, cpu, usable_threads, isa } = self;
        format!("{cpu} ({usable_threads} hardware threads, {isa}, pumice {pumice})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            pumice: "1.2.3".into(),
            cpu: "A CPU".into(),
            usable_threads: 8,
            isa: "avx2".into(),
        }
    }

    const TUNING: Tuning = Tuning { prefetch_bytes: 4096, n_threads: 3, n_threads_batch: 6 };

    #[test]
    fn what_was_saved_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("tuning.json");
        assert_eq!(Tuning::load(&path, &machine()), Found::Nothing);
        TUNING.save(&path, &machine()).unwrap();
        TUNING.save(&path, &machine()).unwrap();
        assert_eq!(Tuning::load(&path, &machine()), Found::Tuning(TUNING));
        let names = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "nothing else is left");
        assert!(TUNING.save(&path.join("below a file"), &machine()).is_err());
    }

    #[test]
    fn figures_of_another_machine_or_version_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        TUNING.save(&path, &machine()).unwrap();
        for other in [
            Machine { pumice: "1.2.4".into(), ..machine() },
            Machine { cpu: "Another".into(), ..machine() },
            Machine { usable_threads: 4, ..machine() },
            Machine { isa: "avx512".into(), ..machine() },
        ] {
            let Found::Unusable(why) = Tuning::load(&path, &other) else { panic!("{other:?}") };
            assert!(why.starts_with("measured on A CPU (8 hardware threads, avx2"), "{why}");
        }
    }

    #[test]
    fn damaged_files_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        TUNING.save(&path, &machine()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for (bad, why) in [
            (String::new(), "no JSON"),
            (text[..text.len() / 2].into(), "no JSON"),
            (text.replace("\"form\": 1", "\"form\": 2"), "form 2, expected 1"),
            (text.replace("\"n_threads\": 3", "\"n_threads\": 0"), "0 and 6 threads"),
            (text.replace("\"n_threads\": 3", "\"n_threads\": -3"), "invalid value"),
            (text.replace("4096", "99999999"), "99999999 bytes ahead"),
            (text.replace("prefetch_bytes", "x"), "missing field"),
            ("[1]".into(), "form null"),
        ] {
            std::fs::write(&path, &bad).unwrap();
            match Tuning::load(&path, &machine()) {
                Found::Unusable(said) => assert!(said.contains(why), "{bad}: {said}"),
                other => panic!("{bad}: {other:?}"),
            }
        }
        std::fs::write(&path, [0xff; 100]).unwrap();
        assert!(matches!(Tuning::load(&path, &machine()), Found::Unusable(_)));
    }

    #[test]
    fn the_environment_names_the_folder() {
        let env = |pairs: &'static [(&str, &str)]| {
            home(move |n| pairs.iter().find(|p| p.0 == n).map(|p| p.1.into()))
        };
        assert_eq!(env(&[("PUMICE_HOME", "/p"), ("HOME", "/h")]), Some("/p".into()));
        assert_eq!(env(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some("/x/pumice".into()));
        assert_eq!(env(&[("PUMICE_HOME", ""), ("HOME", "/h")]), Some("/h/.cache/pumice".into()));
        assert_eq!(env(&[]), None);
    }
}
