//! Pumice: a CPU-first, portable runtime for GGUF language models.
#![forbid(unsafe_code)]

pub mod text;
