//! The rows of the table: for each instruction set the module whose entries are stamped.

/// The kernels of a type, made by `$make`, on the row `$isa`.
macro_rules! isas {
    ($make:ident, $code:ty, $ty:ident, $name:literal, $act:literal, $isa:expr) => {
        match $isa {
            Isa::Scalar => {
                static K: Kernels = $make::<crate::isa::scalar::Row, $code>(
                    TensorType::$ty,
                    Isa::Scalar,
                    concat!($name, "-", $act, "-scalar"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                static K: Kernels = $make::<crate::isa::avx2::Row, $code>(
                    TensorType::$ty,
                    Isa::Avx2,
                    concat!($name, "-", $act, "-avx2"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => {
                static K: Kernels = $make::<crate::isa::avxvnni::Row, $code>(
                    TensorType::$ty,
                    Isa::AvxVnni,
                    concat!($name, "-", $act, "-avxvnni"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                static K: Kernels = $make::<crate::isa::avx512::Row, $code>(
                    TensorType::$ty,
                    Isa::Avx512,
                    concat!($name, "-", $act, "-avx512"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => {
                static K: Kernels = $make::<crate::isa::amx::Row<crate::isa::amx::Hardware>, $code>(
                    TensorType::$ty,
                    Isa::Amx,
                    concat!($name, "-", $act, "-amx"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                static K: Kernels = $make::<crate::isa::neon::Row, $code>(
                    TensorType::$ty,
                    Isa::Neon,
                    concat!($name, "-", $act, "-neon"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod => {
                static K: Kernels = $make::<crate::isa::dotprod::Row, $code>(
                    TensorType::$ty,
                    Isa::Dotprod,
                    concat!($name, "-", $act, "-dotprod"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => {
                static K: Kernels = $make::<crate::isa::i8mm::Row, $code>(
                    TensorType::$ty,
                    Isa::I8mm,
                    concat!($name, "-", $act, "-i8mm"),
                );
                Some(&K)
            }
            _ => None,
        }
    };
}

/// As [`isas`] for packed weights.
macro_rules! packed_isas {
    ($code:ty, $ty:ident, $name:literal, $isa:expr) => {
        match $isa {
            Isa::Scalar => {
                static K: Kernels = packed::<crate::isa::scalar::Row, $code>(
                    TensorType::$ty,
                    Isa::Scalar,
                    concat!($name, "-packed-scalar"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                static K: Kernels = packed::<crate::isa::avx2::Row, $code>(
                    TensorType::$ty,
                    Isa::Avx2,
                    concat!($name, "-packed-avx2"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => {
                static K: Kernels = packed::<crate::isa::avxvnni::Row, $code>(
                    TensorType::$ty,
                    Isa::AvxVnni,
                    concat!($name, "-packed-avxvnni"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                static K: Kernels = packed::<crate::isa::avx512::Row, $code>(
                    TensorType::$ty,
                    Isa::Avx512,
                    concat!($name, "-packed-avx512"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                static K: Kernels = packed::<crate::isa::neon::Row, $code>(
                    TensorType::$ty,
                    Isa::Neon,
                    concat!($name, "-packed-neon"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod => {
                static K: Kernels = packed::<crate::isa::dotprod::Row, $code>(
                    TensorType::$ty,
                    Isa::Dotprod,
                    concat!($name, "-packed-dotprod"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => {
                static K: Kernels = packed::<crate::isa::i8mm::Row, $code>(
                    TensorType::$ty,
                    Isa::I8mm,
                    concat!($name, "-packed-i8mm"),
                );
                Some(&K)
            }
            _ => None,
        }
    };
}

/// Kernels of the rows that stand in for what this machine may lack, see `isa::stand_ins`.
#[cfg(test)]
macro_rules! stand_ins {
    ($make:ident, $code:ty, $ty:ident, $name:literal, $act:literal, $row:expr) => {
        match $row {
            #[cfg(target_arch = "x86_64")]
            StandIn::AvxVnni => {
                static K: Kernels = $make::<crate::isa::avxvnni::stand_in::Row, $code>(
                    TensorType::$ty,
                    Isa::AvxVnni,
                    concat!($name, "-", $act, "-avxvnni (stand-in)"),
                );
                Some(&K)
            }
            #[cfg(target_arch = "x86_64")]
            StandIn::Amx => {
                use crate::isa::amx::{Row, interpreter::Interpreter};
                static K: Kernels = $make::<Row<Interpreter>, $code>(
                    TensorType::$ty,
                    Isa::Amx,
                    concat!($name, "-", $act, "-amx (stand-in)"),
                );
                Some(&K)
            }
        }
    };
}
