//! The rows of the kernel table by name, and which of them this machine runs.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// An instruction set row of the kernel table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust: runs everywhere, the reference for the others.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX2, FMA, F16C and AVX-VNNI: products of bytes in one instruction, without AVX-512.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
    /// x86-64 with AVX-512 as above, its BF16, and AMX tiles of bfloat16, which Linux grants.
    Amx,
    /// aarch64 Advanced SIMD.
    Neon,
    /// aarch64 with the `sdot` instruction.
    Dotprod,
    /// aarch64 with `sdot` and `smmla`, which multiplies pairs of rows with pairs of columns.
    I8mm,
}

impl Isa {
    /// All rows, whatever this machine is.
    pub const ALL: &[Self] = &[
        Self::Scalar,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Amx,
        Self::Neon,
        Self::Dotprod,
        Self::I8mm,
    ];

    /// The name used by `--isa` and in kernel ids.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
            Self::Neon => "neon",
            Self::Dotprod => "dotprod",
            Self::I8mm => "i8mm",
        }
    }

    /// Whether this machine (and this build) can run the row.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Avx2 => has_avx2(),
            Self::AvxVnni => has_avxvnni(),
            Self::Avx512 => has_avx512(),
            Self::Amx => has_amx(),
            Self::Neon => has_neon(),
            Self::Dotprod => has_dotprod(),
            Self::I8mm => has_i8mm(),
        }
    }

    /// The row that this one is for everything but its products of small integers.
    pub(crate) fn base(self) -> Self {
        match self {
            Self::AvxVnni => Self::Avx2,
            Self::Amx => Self::Avx512,
            Self::Dotprod | Self::I8mm => Self::Neon,
            other => other,
        }
    }

    /// The rows that this machine can run, best last; never empty.
    pub fn available() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|isa| isa.is_available()).collect()
    }

    /// The best row that this machine can run, of those that are chosen by themselves.
    ///
    /// [`Isa::Amx`] is not: no machine with AMX was at hand when it was written, and it has no packed
    /// rows, so that decoding is faster without it. It is there for those who ask for it.
    pub fn detect() -> Self {
        let chosen = |isa: &Self| isa.is_available() && *isa != Self::Amx;
        Self::ALL.iter().copied().rev().find(chosen).unwrap_or(Self::Scalar)
    }

    /// This row, if the machine can run it.
    ///
    /// # Errors
    /// [`Error::UnavailableIsa`], naming the rows that it can run.
    pub fn check(self) -> Result<Self, Error> {
        if self.is_available() {
            return Ok(self);
        }
        Err(Error::UnavailableIsa { isa: self, available: names(&Self::available()) })
    }
}

fn names(rows: &[Isa]) -> String {
    rows.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    /// Parses a row's name; whether this machine has it is [`Isa::check`]'s question.
    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| Error::UnknownIsa {
            name: name.to_owned(),
            known: names(Self::ALL),
            available: names(&Self::available()),
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
fn has_avxvnni() -> bool {
    has_avx2() && is_x86_feature_detected!("avxvnni")
}

#[cfg(target_arch = "x86_64")]
pub(super) fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avxvnni() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    super::amx::is_granted()
}

#[cfg(not(target_arch = "x86_64"))]
fn has_amx() -> bool {
    false
}

/// NEON is part of the aarch64 target.
fn has_neon() -> bool {
    cfg!(target_arch = "aarch64")
}

#[cfg(target_arch = "aarch64")]
fn has_dotprod() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

#[cfg(target_arch = "aarch64")]
fn has_i8mm() -> bool {
    has_dotprod() && std::arch::is_aarch64_feature_detected!("i8mm")
}

#[cfg(not(target_arch = "aarch64"))]
fn has_dotprod() -> bool {
    false
}

#[cfg(not(target_arch = "aarch64"))]
fn has_i8mm() -> bool {
    false
}

/// Rows that are, but for the instruction that multiplies, the code of a row that few machines have:
/// what it does can be tested on others.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub(crate) enum StandIn {
    /// [`Isa::AvxVnni`] with the instruction as AVX-512 VL spells it.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// [`Isa::Amx`] with its tile instructions interpreted.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

#[cfg(test)]
impl StandIn {
    /// Those that this machine can run.
    pub(crate) fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        if has_avx512() {
            let mut rows = vec![Self::AvxVnni];
            if is_x86_feature_detected!("avx512bf16") {
                rows.push(Self::Amx);
            }
            return rows;
        }
        Vec::new()
    }
}
