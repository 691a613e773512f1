//! How a context runs.

use super::DEFAULT_N_UBATCH;
use crate::device::Repack;
use crate::plan::Choice;
use quant::{Isa, KvType};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How a [`Context`](super::Context) runs.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// Positions a sequence may hold; `None` = the smaller of the trained context and
    /// [`DEFAULT_N_CTX`](super::DEFAULT_N_CTX), less where memory is short.
    pub n_ctx: Option<usize>,
    /// Sequences that can be held at a time.
    pub n_seq: usize,
    /// Positions that all of them may hold together; `None` = each may be full. Less takes less
    /// memory where many short sequences share steps.
    pub n_total: Option<usize>,
    /// Most rows that go through the layers at a time.
    pub n_ubatch: usize,
    /// Type of cached keys.
    pub type_k: KvType,
    /// Type of cached values.
    pub type_v: KvType,
    /// Worker threads; `None` = the physical cores that the process may use. Never more than
    /// processors that it may use, unless [`ContextOptions::steady`].
    pub n_threads: Option<usize>,
    /// Worker threads of steps of many rows (prompts); `None` = as many as of others.
    pub n_threads_batch: Option<usize>,
    /// Every step on exactly so many threads, also where there are fewer processors or others keep
    /// them busy: for tests and measurements of the team itself.
    pub steady: bool,
    /// Tie each worker to a processor; the first worker is the thread that makes the context.
    pub pin: bool,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// The same bits for every size of micro-batch, at the price of speed in long prompts.
    pub deterministic: bool,
    /// Bytes that weights, state and scratch may take together; `None` = what the machine or the
    /// cgroup has.
    pub memory: Option<u64>,
    /// Copy weights into the layout that the kernels like best, in place of the file's pages, where
    /// memory allows; otherwise they are read in place.
    pub repack: bool,
    /// Bits that activations are rounded to before they meet quantized weights.
    pub act: ActBits,
}

/// How closely activations are rounded for products with quantized weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActBits {
    /// 7 bits and a sign.
    #[default]
    I8,
    /// Some 15 bits, as two columns of 8: nearly exact; long prompts take twice the time.
    I16,
}

impl ActBits {
    /// All of them.
    pub const ALL: &[Self] = &[Self::I8, Self::I16];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::I8 => "i8",
            Self::I16 => "i16",
        }
    }
}

impl fmt::Display for ActBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ActBits {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().map(|a| a.name()).collect::<Vec<_>>().join(" ");
        let found = Self::ALL.iter().copied().find(|a| a.name() == name);
        found.ok_or_else(|| format!("no activations {name:?}; there are: {known}"))
    }
}

impl ContextOptions {
    pub(super) fn choice<'a>(&self, repack: Option<&'a Arc<Repack>>) -> Choice<'a> {
        let precise = self.act == ActBits::I16;
        // Tiles round weights, which finer activations would not mend.
        let isa = if precise && self.isa == Isa::Amx { Isa::Avx512 } else { self.isa };
        Choice { isa, repack, precise }
    }
}

impl Default for ContextOptions {
    fn default() -> Self {
        ContextOptions {
            n_ctx: None,
            n_seq: 1,
            n_total: None,
            n_ubatch: DEFAULT_N_UBATCH,
            type_k: KvType::F16,
            type_v: KvType::F16,
            n_threads: None,
            n_threads_batch: None,
            steady: false,
            pin: false,
            isa: Isa::detect(),
            deterministic: false,
            memory: None,
            repack: true,
            act: ActBits::default(),
        }
    }
}
