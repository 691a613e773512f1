//! Tensor types: the one table of ids, names, elements per block and bytes per block.

use std::fmt;
use std::str::FromStr;

/// Declares the enum and everything that is one column of the table, so that a new type is one
/// line.
macro_rules! tensor_types {
    ($($variant:ident = $id:literal, $name:literal, $len:literal, $bytes:literal;)*) => {
        /// How the elements of a tensor are stored. The numbers that files use are
        /// [`TensorType::id`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each variant is the name of its type; the table says the rest")]
        pub enum TensorType { $($variant),* }

        impl TensorType {
            /// Every type that a file may hold, by rising id.
            pub const ALL: &[TensorType] = &[$(TensorType::$variant),*];

            /// The number that stands for this type in a file.
            pub const fn id(self) -> u32 {
                match self { $(TensorType::$variant => $id),* }
            }

            /// The name people know, for example `Q4_K`.
            pub const fn name(self) -> &'static str {
                match self { $(TensorType::$variant => $name),* }
            }

            /// Elements per block: 1 for plain numbers. A row is a whole number of blocks.
            pub const fn block_len(self) -> usize {
                match self { $(TensorType::$variant => $len),* }
            }

            /// Bytes per block.
            pub const fn block_bytes(self) -> usize {
                match self { $(TensorType::$variant => $bytes),* }
            }

            const fn from_known_id(id: u32) -> Option<Self> {
                match id { $($id => Some(TensorType::$variant),)* _ => None }
            }
        }
    };
}

tensor_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q2K = 10, "Q2_K", 256, 84;
    Q3K = 11, "Q3_K", 256, 110;
    Q4K = 12, "Q4_K", 256, 144;
    Q5K = 13, "Q5_K", 256, 176;
    Q6K = 14, "Q6_K", 256, 210;
    IQ2XXS = 16, "IQ2_XXS", 256, 66;
    IQ2XS = 17, "IQ2_XS", 256, 74;
    IQ3XXS = 18, "IQ3_XXS", 256, 98;
    IQ1S = 19, "IQ1_S", 256, 50;
    IQ4NL = 20, "IQ4_NL", 32, 18;
    IQ3S = 21, "IQ3_S", 256, 110;
    IQ2S = 22, "IQ2_S", 256, 82;
    IQ4XS = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    IQ1M = 29, "IQ1_M", 256, 56;
    BF16 = 30, "BF16", 1, 2;
    TQ1_0 = 34, "TQ1_0", 256, 54;
    TQ2_0 = 35, "TQ2_0", 256, 66;
    MXFP4 = 39, "MXFP4", 32, 17;
    NVFP4 = 40, "NVFP4", 64, 36;
    Q1_0 = 41, "Q1_0", 128, 18;
    Q2_0 = 42, "Q2_0", 64, 18;
}

/// Ids that had a meaning once and were withdrawn: files that use them must be converted again.
const REMOVED: [(u32, &str); 8] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

/// Ids of activations while a model runs; no writer stores them.
const ACTIVATIONS: [(u32, &str); 2] = [(9, "Q8_1"), (15, "Q8_K")];

/// Why an id stands for no tensor type that a file may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypeError {
    /// The type was withdrawn from the format.
    #[error("tensor type {id} ({name}) was removed from the format: convert the model again")]
    Removed {
        /// The id found.
        id: u32,
        /// What it was called.
        name: &'static str,
    },
    /// The type holds activations while a model runs and is not stored in files.
    #[error("tensor type {id} ({name}) is for activations only and is never stored in a file")]
    NotStored {
        /// The id found.
        id: u32,
        /// What it is called.
        name: &'static str,
    },
    /// No type has this id.
    #[error("tensor type {id} is unknown: the file is damaged or newer than this program")]
    Unknown {
        /// The id found.
        id: u32,
    },
}

impl TensorType {
    /// The type with this id, or why there is none.
    pub fn from_id(id: u32) -> Result<Self, TypeError> {
        let named = |table: &[(u32, &'static str)]| {
            table
                .iter()
                .find(|(known, _)| *known == id)
                .map(|(_, name)| *name)
        };
        if let Some(ty) = Self::from_known_id(id) {
            Ok(ty)
        } else if let Some(name) = named(&REMOVED) {
            Err(TypeError::Removed { id, name })
        } else if let Some(name) = named(&ACTIVATIONS) {
            Err(TypeError::NotStored { id, name })
        } else {
            Err(TypeError::Unknown { id })
        }
    }

    /// Bytes of a row of `n` elements; `None` when `n` is no multiple of [`Self::block_len`] or the
    /// product overflows.
    pub const fn row_bytes(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Stored bits per element, scales included.
    pub const fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No tensor type has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no tensor type; known: {}", known_names())]
pub struct UnknownTypeName {
    /// The name asked for.
    pub found: String,
}

fn known_names() -> String {
    let names: Vec<&str> = TensorType::ALL.iter().map(|ty| ty.name()).collect();
    names.join(" ")
}

impl FromStr for TensorType {
    type Err = UnknownTypeName;

    /// Finds a type by its [`TensorType::name`], in any case.
    fn from_str(s: &str) -> Result<Self, UnknownTypeName> {
        let same = |ty: &&TensorType| ty.name().eq_ignore_ascii_case(s);
        Self::ALL
            .iter()
            .find(same)
            .copied()
            .ok_or_else(|| UnknownTypeName {
                found: s.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back_to_their_type() {
        assert_eq!(TensorType::ALL.len(), 33);
        for &ty in TensorType::ALL {
            assert_eq!(TensorType::from_id(ty.id()), Ok(ty));
            assert_eq!(ty.name().to_lowercase().parse(), Ok(ty));
        }
        let error = "Q9_Z".parse::<TensorType>().unwrap_err().to_string();
        assert!(error.contains("Q9_Z") && error.contains("Q4_K"), "{error}");
    }

    #[test]
    fn ids_without_a_type_say_why() {
        for (id, name) in REMOVED {
            let error = TensorType::from_id(id).unwrap_err();
            assert_eq!(error, TypeError::Removed { id, name });
            assert!(error.to_string().contains(name) && error.to_string().contains("removed"));
        }
        for (id, name) in ACTIVATIONS {
            assert_eq!(
                TensorType::from_id(id),
                Err(TypeError::NotStored { id, name })
            );
        }
        for id in [43, 1000, u32::MAX] {
            assert_eq!(TensorType::from_id(id), Err(TypeError::Unknown { id }));
        }
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(TensorType::Q4K.row_bytes(512), Some(288));
        assert_eq!(TensorType::Q4K.row_bytes(0), Some(0));
        assert_eq!(TensorType::Q4K.row_bytes(511), None);
        assert_eq!(TensorType::F64.row_bytes(usize::MAX), None);
        assert_eq!(TensorType::Q4_1.bits_per_weight(), 5.0);
        assert_eq!(TensorType::TQ1_0.bits_per_weight(), 1.6875);
    }
}
