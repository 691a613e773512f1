//! Pumice: a CPU-first, portable runtime for GGUF language models.
#![forbid(unsafe_code)]

#[cfg(feature = "hub")]
pub mod hub;
pub mod text;
