//! Pumice: a CPU-first, portable runtime for GGUF language models.

#[cfg(feature = "hub")]
pub mod hub;
pub mod text;
