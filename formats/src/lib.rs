//! Bytes to names, types and slices: reads model files. No maths, no threads, no model knowledge.
//!
//! [`Gguf::open`] maps a GGUF file (or reads it into memory), checks everything that its header
//! says against the bytes that are there, and hands out [`Metadata`], [`TensorInfo`]s and, through
//! [`Gguf::data`], one checked slice per tensor. A file is taken for hostile until it is checked:
//! bytes are cut in one place (`cursor`), every count is compared with the bytes that remain before
//! anything is allocated, arithmetic is checked, and what has no natural bound has a named cap
//! (the `MAX_*` constants of [`gguf`]).
//!
//! Tensor data is little-endian and is handed out as it lies in the file.

#![deny(unsafe_code)]

mod cursor;
mod error;
pub mod gguf;
mod map;
pub mod safetensors;
mod sniff;
mod types;

pub use error::{Error, Place};
pub use gguf::{Array, Endian, Gguf, GgufWriter, Metadata, Strings, TensorInfo, Value, ValueType};
pub use map::Access;
pub use safetensors::{SafeTensor, Safetensors, SafetensorsError};
pub use types::{TensorType, TypeError};
