//! Blocks and kernels over slices. No tensor names, files, threads or allocation.

pub mod isa;
pub mod kv;
pub mod vector;

pub use isa::Isa;
pub use kv::KvType;
pub use vector::Vector;
