//! Pumice: a CPU-first, portable runtime for GGUF language models.

pub mod text;
