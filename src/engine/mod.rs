//! Between text and the models: which tokens run next, for every sequence at once.
//!
//! [`Sequence`] and [`schedule`] are pure decisions; [`Engine`] carries them out and is the only
//! caller of [`models::Context::step`]. One conversation is an engine of one sequence
//! ([`crate::Session`]).

mod scheduler;
mod sequence;
mod step;

pub use scheduler::schedule;
pub use sequence::Sequence;
pub use step::Engine;
