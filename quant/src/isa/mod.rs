//! Placeholder until the kernel branch lands.

pub(crate) mod half;
pub(crate) mod prefetch;

/// Instruction set rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable.
    Scalar,
    /// AVX2, FMA, F16C.
    Avx2,
    /// AVX-512 with VNNI.
    Avx512,
    /// Base NEON.
    Neon,
    /// NEON with dotprod.
    Dotprod,
}

impl Isa {
    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw")
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// All rows of this CPU, best last.
    pub fn available() -> Vec<Isa> {
        [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon, Isa::Dotprod]
            .into_iter()
            .filter(|i| i.is_available())
            .collect()
    }

    /// The best row.
    pub fn detect() -> Isa {
        *Isa::available().last().expect("scalar is always there")
    }
}
