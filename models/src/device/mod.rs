//! What the engine runs on: buffers that a thread team writes in parts, weights in place in the
//! mapped file, and what the machine has of memory and cores.

mod buffer;
mod cores;
mod cpu;
mod repack;
mod weights;

pub use buffer::Buffer;
pub use cores::{PinOrder, default_threads, pin_thread, usable_threads};
pub use cpu::{MemoryLimit, available_memory, cpu_time, memory_limit};
pub use repack::Repack;
pub use weights::Weights;
