//! Where the larger test sets are.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};

/// Small copies that are part of the repository; tests of the inner crates use them too.
pub(crate) fn data() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = package.join("tests/data");
    if here.is_dir() { here } else { package.join("../tests/data") }
}

/// A folder named by an environment variable; says so when it is not there.
fn optional(variable: &str, what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_dir());
    if folder.is_none() {
        eprintln!("skipped: {variable} names no folder with {what}");
    }
    folder
}

/// The full golden sets.
pub(crate) fn goldens(part: &str) -> Option<PathBuf> {
    Some(optional("PUMICE_GOLDENS", "the golden sets")?.join(part))
}

/// The folder of real models and checkpoints.
pub(crate) fn models_folder() -> Option<PathBuf> {
    optional("PUMICE_TEST_MODELS", "the real models")
}

/// A real model file.
pub(crate) fn real_model(file: &str) -> Option<PathBuf> {
    let path = optional("PUMICE_TEST_MODELS", "the real models")?.join(file);
    assert!(path.is_file(), "{} is missing", path.display());
    Some(path)
}

/// SmolLM2-135M-Instruct, Q4_1.
pub(crate) const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// Gemma 3 270M, Q4_K_M.
pub(crate) const GEMMA3: &str = "gemma-3-270m-Q4_K_M.gguf";

/// Little-endian floats of a file.
pub(crate) fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
