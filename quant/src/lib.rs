//! Blocks and kernels over slices: what the stored tensor types mean, and the fastest way to
//! multiply with them. No tensor names, files, threads or allocation.
//!
//! - [`decode`] and [`decode_row`] turn blocks into floats, bit for bit as the formats define them.
//! - [`kernels`] is the table of (tensor type, instruction set) to matrix kernels: [`Kernels::rows`]
//!   for steps of up to 16 columns, [`Kernels::panel`] for long prefill, both over columns made by
//!   [`Kernels::prepare`].
//! - [`pack`] lays 16 rows side by side, which [`packed_kernels`] multiply fastest of all.
//! - [`Vector`] has everything else over rows of floats (norms, activations, softmax, rotary
//!   embedding, conversions), and [`attend()`] the attention of one key/value head over pages of
//!   the cache, whose types are [`KvType`].
//!
//! To a kernel every quantized type is one thing: groups of 16 or 32 small integer codes with a
//! scale and an offset, `w = d * (code - offset) + m`. A type is an unpacker that says so (`types`);
//! the drivers (`tile`, `span`, `panel`, `packed`, `float`) are generic over the primitives of an instruction
//! set row (`isa`), and only `tile` over the type.

mod act;
pub mod attend;
#[cfg(target_arch = "x86_64")]
mod bf16;
pub mod block;
mod error;
mod float;
mod isa;
pub mod kv;
mod out;
mod packed;
mod panel;
mod span;
mod table;
mod tile;
mod types;
pub mod vector;

pub use act::{ActKind, Regime};
pub use attend::{
    DistanceBias, IndexQuery, KvLayout, PAGE, PageRef, QueryRow, QueryTile, SPAN, attend,
    attend_spans, index_scores, index_scratch_len, store_key, store_value, sum_spans,
};
pub use error::Error;
pub use isa::Isa;
pub use isa::limits;
pub use isa::prefetch::{
    DEFAULT_DISTANCE as DEFAULT_PREFETCH, distance as prefetch_distance,
    set_distance as set_prefetch_distance,
};
pub use kv::KvType;
pub use out::Out;
pub use packed::{PACK_ROWS, is_packable, pack};
pub use table::{Kernels, SUPPORTED, decode, decode_row, kernels, packed_kernels};
pub use types::random::random_blocks;
pub use vector::{Activation, Glu, Read, Recur, RopeLayout, Vector};

#[cfg(test)]
mod tests;
