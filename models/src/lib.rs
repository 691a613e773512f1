//! Token ids in, logits out. No text, no sockets.
//!
//! A file's metadata becomes hyper-parameters ([`hparams`]), those become a [`spec`] (an
//! architecture as data, written by one function in [`arch`]). A [`Context`] binds the spec to the
//! file's tensors, lowers it to a plan of ops with kernels chosen, and runs it step by step on a
//! [`team`] of threads. `bind`, `plan`, `ops` and `exec` are the inside of that.

pub mod arch;
mod bind;
mod check;
mod context;
pub mod device;
mod draft;
mod error;
mod exec;
pub mod hparams;
mod ops;
mod plan;
pub mod profile;
pub mod quirks;
pub mod spec;
pub mod state;
mod step;
pub mod team;

pub use context::{
    ActBits, Context, ContextOptions, DEFAULT_N_CTX, DEFAULT_N_UBATCH, Estimate, KernelUse,
    MemoryUse, Model, Text,
};
pub use error::Error;
pub use step::Row;
pub use team::Cancel;
