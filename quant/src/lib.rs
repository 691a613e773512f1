//! Blocks and kernels over slices. No tensor names, files, threads or allocation.

pub mod attend;
pub mod isa;
pub mod kv;
pub mod vector;

pub use attend::{KvLayout, PAGE, PageRef, QueryRow, QueryTile, attend};
pub use isa::Isa;
pub use kv::KvType;
pub use vector::Vector;
