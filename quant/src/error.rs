//! What can go wrong when a caller picks a kernel or decodes blocks.
//!
//! Wrong lengths inside a running step are broken invariants and panic in the wrapper that
//! checks them; these errors are for what a file or a user may legitimately ask for.

use formats::TensorType;

/// Error of this crate; every variant says what was found and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no kernel or decoder for this tensor type.
    #[error("tensor type {ty} cannot be computed with yet; supported are {supported}")]
    UnsupportedType {
        /// The type that was asked for.
        ty: TensorType,
        /// Names of the supported types, separated by spaces.
        supported: String,
    },
    /// The instruction set row is known but this machine (or this build) cannot run it.
    #[error("instruction set {isa} is not available on this machine; available are {available}")]
    UnavailableIsa {
        /// The row that was asked for.
        isa: crate::Isa,
        /// Names of the rows this machine runs, separated by spaces.
        available: String,
    },
    /// No instruction set row has this name.
    #[error("unknown instruction set `{name}`; known are {known}; this machine runs {available}")]
    UnknownIsa {
        /// The text that was given.
        name: String,
        /// All names, separated by spaces.
        known: String,
        /// Names of the rows this machine runs, separated by spaces.
        available: String,
    },
    /// A source slice does not hold whole blocks for the destination.
    #[error("{ty}: {n} values need {expected} bytes of blocks, found {found}")]
    BlockBytes {
        /// Type of the blocks.
        ty: TensorType,
        /// Number of values asked for.
        n: usize,
        /// Bytes needed.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A number of values is no multiple of the type's block.
    #[error("{ty}: {n} values are no multiple of the {block}-value block")]
    BlockMultiple {
        /// Type of the blocks.
        ty: TensorType,
        /// Number of values asked for.
        n: usize,
        /// Values per block.
        block: usize,
    },
}
