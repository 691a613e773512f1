//! The AMX row: the AVX-512 row, whose panels are multiplied as bfloat16 by tile instructions.
//!
//! Everything around the tiles is in [`crate::bf16`]. Here are the two programs of tile instructions,
//! written out (no intrinsic of AMX is stable), the configuration of the tiles, and the question
//! whether machine and kernel let us. A tile is 16 rows of 64 bytes; both programs keep sums of 16
//! columns times 16 rows of weights in a tile (columns are the tile's rows) and add 32 values of k in
//! a step: [`TWO`] for two tiles of columns, [`ONE`] for one; both for two tiles of weights.
//!
//! No machine that these lines were written on has AMX. What was tested is everything but the
//! processor: an interpreter (`StandIn::Amx`) runs the very text of the programs, on the very
//! configuration, with the arithmetic that the manual gives.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contracts of `Tiles` and of `Entries` cover all")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::avx512;
use crate::bf16::{self, Block, Tiles};
use crate::float::Weight;
use crate::panel::Slab;
use crate::span::{Bytes, Codes, Span};
use crate::table::Entries;
use crate::tile::{Head, Job, Unpack};
use crate::{ActKind, Regime};

/// What `ldtilecfg` reads: which tiles there are and their sizes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row of each tile.
    pub(crate) row_bytes: [u16; 16],
    /// Rows of each tile.
    pub(crate) rows: [u8; 16],
}

const _: () = assert!(size_of::<Config>() == 64);

impl Config {
    /// For blocks of `columns` columns, 1 to 32: tiles 0 and 1 are the sums of the first 16 columns
    /// with either tile of weights, 2 and 3 those of the other columns; 4 and 5 are columns, 6 and 7
    /// weights.
    pub(crate) fn new(columns: usize) -> Self {
        let (first, second) = (columns.min(16) as u8, columns.saturating_sub(16) as u8);
        let mut rows = [0; 16];
        rows[..8].copy_from_slice(&[first, first, second, second, first, second, 16, 16]);
        // a tile without rows is one that is not there, and then has no bytes either
        let row_bytes = rows.map(|n| if n == 0 { 0 } else { 64 });
        Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
    }
}

/// A program of tile instructions: the function that runs it, and its text.
macro_rules! program {
    ($(#[$doc:meta])* $name:ident, $run:ident($block:ident) { $($line:literal)* } $($operand:tt)*) => {
        $(#[$doc])*
        #[cfg(test)]
        pub(crate) const $name: &[&str] = &[$($line),*];

        $(#[$doc])*
        ///
        /// # Safety
        /// That of [`Tiles::add`]; the machine has AMX.
        unsafe fn $run($block: &Block) {
            asm!($($line),*, $($operand)*
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack));
        }
    };
}

program! {
    /// Adds to the sums of up to 32 columns.
    TWO, two(block) {
        "tileloadd tmm0, [{sum} + {row}*1]"
        "tileloadd tmm1, [{sum} + {row}*1 + 64]"
        "tileloadd tmm2, [{sum2} + {row}*1]"
        "tileloadd tmm3, [{sum2} + {row}*1 + 64]"
        "2:"
        "tileloadd tmm4, [{x} + {column}*1]"
        "tileloadd tmm6, [{w} + {line}*1]"
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tileloadd tmm7, [{w} + {line}*1 + 8192]"
        "tdpbf16ps tmm1, tmm4, tmm7"
        "tileloadd tmm5, [{x2} + {column}*1]"
        "tdpbf16ps tmm2, tmm5, tmm6"
        "tdpbf16ps tmm3, tmm5, tmm7"
        "add {x}, 64"
        "add {x2}, 64"
        "add {w}, 1024"
        "dec {steps}"
        "jnz 2b"
        "tilestored [{sum} + {row}*1], tmm0"
        "tilestored [{sum} + {row}*1 + 64], tmm1"
        "tilestored [{sum2} + {row}*1], tmm2"
        "tilestored [{sum2} + {row}*1 + 64], tmm3"
    }
    sum = in(reg) block.sum,
    sum2 = in(reg) block.sum.wrapping_byte_add(16 * block.row),
    row = in(reg) block.row,
    x = inout(reg) block.x => _,
    x2 = inout(reg) block.x.wrapping_byte_add(16 * block.column) => _,
    column = in(reg) block.column,
    w = inout(reg) block.w => _,
    line = in(reg) 64usize,
    steps = inout(reg) block.steps => _,
}

program! {
    /// Adds to the sums of up to 16 columns.
    ONE, one(block) {
        "tileloadd tmm0, [{sum} + {row}*1]"
        "tileloadd tmm1, [{sum} + {row}*1 + 64]"
        "2:"
        "tileloadd tmm4, [{x} + {column}*1]"
        "tileloadd tmm6, [{w} + {line}*1]"
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tileloadd tmm7, [{w} + {line}*1 + 8192]"
        "tdpbf16ps tmm1, tmm4, tmm7"
        "add {x}, 64"
        "add {w}, 1024"
        "dec {steps}"
        "jnz 2b"
        "tilestored [{sum} + {row}*1], tmm0"
        "tilestored [{sum} + {row}*1 + 64], tmm1"
    }
    sum = in(reg) block.sum,
    row = in(reg) block.row,
    x = inout(reg) block.x => _,
    column = in(reg) block.column,
    w = inout(reg) block.w => _,
    line = in(reg) 64usize,
    steps = inout(reg) block.steps => _,
}

/// For [`super::limits::int8_peak`]: `rounds` of products of tiles of zeros into four others.
///
/// # Safety
/// The machine has AMX.
pub(crate) unsafe fn peak(rounds: usize) -> i32 {
    let mut tiles = Hardware::new();
    tiles.configure(&Config::new(32));
    asm!("2:",
        "tdpbf16ps tmm0, tmm4, tmm6",
        "tdpbf16ps tmm1, tmm4, tmm7",
        "tdpbf16ps tmm2, tmm5, tmm6",
        "tdpbf16ps tmm3, tmm5, tmm7",
        "dec {n}",
        "jnz 2b",
        n = inout(reg) rounds.max(1) => _,
        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, options(nomem, nostack));
    tiles.release();
    0
}

/// The processor's tiles.
pub(crate) struct Hardware(());

impl Tiles for Hardware {
    unsafe fn new() -> Self {
        Self(())
    }
    unsafe fn configure(&mut self, config: &Config) {
        asm!("ldtilecfg [{}]", in(reg) config, options(nostack, readonly, preserves_flags));
    }
    unsafe fn add(&mut self, block: &Block) {
        if block.columns > 16 { two(block) } else { one(block) }
    }
    unsafe fn release(self) {
        asm!("tilerelease", options(nomem, nostack, preserves_flags));
    }
}

/// The entries of the row, with tiles T.
pub(crate) struct Row<T>(PhantomData<T>);

impl<T: Tiles> Entries for Row<T> {
    const PANEL_ROWS: usize = avx512::Row::PANEL_ROWS;
    const NARROW: bool = avx512::Row::NARROW;
    const ACT: ActKind = ActKind::Q8Bf16;

    unsafe fn rows<U: Unpack>(job: &Job<'_>) {
        avx512::Row::rows::<U>(job)
    }
    unsafe fn expand<S: Span>(p: *const u8, n: usize, codes: *mut Bytes, head: *mut Head) {
        avx512::Row::expand::<S>(p, n, codes, head)
    }
    unsafe fn expanded<const GROUP: usize>(job: &Job<'_>, codes: &Codes) {
        avx512::Row::expanded::<GROUP>(job, codes)
    }
    unsafe fn panel(job: &Job<'_>, codes: &Codes, scratch: *mut u8) {
        avx512::Row::panel(job, codes, scratch)
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma")]
    unsafe fn multiply<const GROUP: usize, const MINS: bool, const MAX: u8>(
        job: &Job<'_>,
        codes: &Codes,
        s: usize,
        values: usize,
        slab: Slab,
    ) {
        bf16::multiply::<T, GROUP, MINS>(job, codes, s, values, slab)
    }
    unsafe fn floats<W: Weight>(job: &Job<'_>) {
        avx512::Row::floats::<W>(job)
    }
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn prepare(x: &[f32], dst: &mut [u8], regime: Regime) {
        match regime {
            Regime::Rows => avx512::Row::prepare(x, dst, regime),
            Regime::Panel => bf16::prepare(x, dst),
        }
    }
}

/// Whether processor and kernel let this process use tiles of bfloat16. The kernel is asked once, and
/// must be before other threads use them: a process has no room for them until it asks.
pub(crate) fn is_granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    // SAFETY: a processor with AVX-512, which is looked at first, has the instructions of `is_there`.
    *GRANTED.get_or_init(|| super::row::has_avx512() && unsafe { is_there() } && ask())
}

/// Whether the processor has tiles as we use them and the kernel keeps them apart.
#[target_feature(enable = "xsave")]
unsafe fn is_there() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    if __cpuid(0).eax < 0x1d || __cpuid_count(7, 0).edx & (BF16 | TILE) != BF16 | TILE {
        return false;
    }
    // the first palette: eight tiles of 16 rows of 64 bytes
    let palette = __cpuid_count(0x1d, 1);
    let sizes = (palette.ebx & 0xffff, palette.ebx >> 16, palette.ecx & 0xffff);
    let states = 0b11 << 17;
    sizes == (64, 8, 16)
        && is_x86_feature_detected!("avx512bf16")
        && _xgetbv(_XCR_XFEATURE_ENABLED_MASK) & states == states
}

/// Asks Linux for room for the tiles (`arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`).
#[cfg(target_os = "linux")]
fn ask() -> bool {
    let mut result: i64 = 158;
    // SAFETY: the call touches no memory of ours; the kernel keeps all registers but three.
    unsafe {
        asm!("syscall", inout("rax") result, in("rdi") 0x1023, in("rsi") 18,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}

#[cfg(test)]
pub(crate) mod interpreter;
