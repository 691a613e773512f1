//! One wrong file for each thing that can be wrong, built byte by byte, with the error it must
//! give.

pub(crate) mod metadata;
pub(crate) mod tensors;

use formats::{Error, GgufWriter, TensorType};

/// A little-endian file as it grows, with no rule about what goes in.
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Raw {
    /// Magic, version 3 and the counts.
    pub(crate) fn new(n_tensors: u64, n_keys: u64) -> Self {
        Raw(b"GGUF".to_vec()).u32(3).u64(n_tensors).u64(n_keys)
    }

    pub(crate) fn u8(self, v: u8) -> Self {
        self.bytes(&[v])
    }

    pub(crate) fn u32(self, v: u32) -> Self {
        self.bytes(&v.to_le_bytes())
    }

    pub(crate) fn u64(self, v: u64) -> Self {
        self.bytes(&v.to_le_bytes())
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn str(self, string: impl AsRef<[u8]>) -> Self {
        let string = string.as_ref();
        self.u64(string.len() as u64).bytes(string)
    }

    /// Zeros, so that counts before them are not refused for want of bytes.
    pub(crate) fn zeros(mut self, n: usize) -> Self {
        self.0.resize(self.0.len() + n, 0);
        self
    }
}

/// Bytes before the first metadata entry.
pub(crate) const HEADER: u64 = 24;

/// A wrong file.
pub(crate) struct Case {
    pub(crate) bytes: Vec<u8>,
    /// Whether an error is the right one, figures included.
    #[allow(dead_code, reason = "a child process has only its message to show")]
    pub(crate) is: fn(&Error) -> bool,
    /// What the message must contain: key or tensor, place, found and expected.
    pub(crate) says: &'static [&'static str],
}

/// Turns rows of `name: bytes => error, [parts of the message];` into a function each, and a table.
macro_rules! cases {
    ($table:ident: $($name:ident: $bytes:expr => $error:pat $(if $guard:expr)?, $says:expr;)*) => {
        $(pub(crate) fn $name() -> $crate::cases::Case {
            let is = |e: &formats::Error| matches!(e, $error $(if $guard)?);
            $crate::cases::Case { bytes: $bytes, is, says: &$says }
        })*

        /// The cases of this file by name.
        pub(crate) const $table: &[(&str, fn() -> $crate::cases::Case)] =
            &[$((stringify!($name), $name)),*];
    };
}
use cases;

/// One F32 tensor "t" of 8 elements, and what `change` does to the file.
fn one_tensor(change: impl FnOnce(&mut GgufWriter)) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.tensor("t", TensorType::F32, &[8], vec![0; 32]);
    change(&mut writer);
    writer.to_bytes()
}
