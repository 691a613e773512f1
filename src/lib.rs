//! Pumice: a CPU-first, portable runtime for GGUF language models.
//!
//! Open a [`Model`], make a [`Session`], give it a prompt and let it answer:
//!
//! ```no_run
//! use pumice::sample::SamplerOptions;
//! use pumice::{Limits, Message, Model, ModelOptions, Session, SessionOptions};
//! use std::ops::ControlFlow;
//!
//! let model = Model::open("model.gguf", ModelOptions::default())?;
//! let mut session = Session::new(&model, &SessionOptions::default())?;
//! session.set_prompt(&model.chat_tokens(&[Message::new("user", "Why is the sky blue?")])?)?;
//! let mut sampler = session.sampler(&SamplerOptions::default())?;
//! session.generate(&mut sampler, &Limits::default(), &mut |text| {
//!     print!("{text}");
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), pumice::Error>(())
//! ```
//!
//! Below stand the crates [`formats`] (files), [`quant`] (kernels) and [`models`] (token ids in,
//! logits out).
#![forbid(unsafe_code)]

pub mod convert;
mod embedder;
pub mod engine;
mod error;
#[cfg(feature = "hub")]
pub mod hub;
mod model;
pub mod sample;
mod session;
pub mod synth;
pub mod text;
pub mod tuning;
pub mod unmask;

pub use embedder::{EmbedOptions, Embedder, TextTokens, pair_tokens, text_tokens};
pub use error::{Error, ErrorKind};
pub use formats;
pub use model::{ChatOptions, Message, Model, ModelOptions, Prompt, load_tokenizer};
pub use models;
pub use models::Cancel;
pub use quant;
pub use session::{Finish, Limits, Session, SessionOptions, Timings};
