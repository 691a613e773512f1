//! What the engine runs on: buffers that a thread team writes in parts, weights in place in the
//! mapped file, and what the machine has of memory and cores.

mod buffer;
mod cpu;
mod repack;
mod weights;

pub use buffer::Buffer;
pub use cpu::{MemoryLimit, available_memory, cpu_time, default_threads, memory_limit};
pub use repack::Repack;
pub use weights::Weights;
