//! Token ids in, logits out. No text, no sockets.
//!
//! A file's metadata becomes hyper-parameters ([`hparams`]), those become a [`spec`] (an
//! architecture as data), the spec is bound to the file's tensors ([`bind`]), lowered to a plan of
//! phases with kernels chosen ([`plan`]), and run step by step on a thread team ([`exec`]).
pub mod team;
