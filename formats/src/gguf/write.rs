//! Writes GGUF files: what tests and converters need.

use super::read::{self, MAGIC};
use super::value::{Array, Value};
use super::{DEFAULT_ALIGNMENT, Endian};
use crate::error::Error;
use crate::types::TensorType;

/// Collects metadata and tensors and lays them out as a GGUF file.
///
/// [`GgufWriter::to_bytes`] writes what it was told, right or wrong, so that tests can make wrong
/// files; [`GgufWriter::build`] also reads the result back and reports what is wrong with it.
///
/// ```
/// use formats::{Gguf, GgufWriter, TensorType};
/// # fn main() -> Result<(), formats::Error> {
/// let mut writer = GgufWriter::new();
/// writer.set("general.architecture", "llama").set("llama.block_count", 2u32);
/// writer.tensor("output_norm.weight", TensorType::F32, &[4], vec![0; 16]);
/// let gguf = Gguf::from_bytes(writer.build()?)?;
/// assert_eq!(gguf.metadata().u32("llama.block_count")?, Some(2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GgufWriter {
    version: u32,
    endian: Endian,
    alignment: u64,
    entries: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    type_id: u32,
    dims: Vec<u64>,
    /// From the start of the data section; `None` puts it after its neighbour.
    offset: Option<u64>,
    data: Vec<u8>,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufWriter {
    /// An empty little-endian file of version 3, aligned to 32 bytes.
    pub fn new() -> Self {
        let (entries, tensors) = (Vec::new(), Vec::new());
        let (endian, alignment) = (Endian::Little, DEFAULT_ALIGNMENT);
        Self {
            version: 3,
            endian,
            alignment,
            entries,
            tensors,
        }
    }

    /// Sets the version number (2 or 3 make a file that can be read; the layout is the same).
    pub fn version(&mut self, version: u32) -> &mut Self {
        self.version = version;
        self
    }

    /// Sets the order of bytes in the numbers of the header. Tensor data are written as given.
    pub fn endian(&mut self, endian: Endian) -> &mut Self {
        self.endian = endian;
        self
    }

    /// Sets the alignment of tensor data and `general.alignment` with it.
    ///
    /// # Panics
    /// When it is 0.
    pub fn alignment(&mut self, alignment: u32) -> &mut Self {
        assert!(alignment > 0, "an alignment of 0");
        self.alignment = u64::from(alignment);
        self.set("general.alignment", alignment)
    }

    /// Sets a key: in the place of its old value, or else at the end.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        match self.entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value.into(),
            None => self.entries.push((key.to_owned(), value.into())),
        }
        self
    }

    /// Adds an entry at the end, even if the key is there already.
    pub fn push(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.entries.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a tensor; `dims[0]` is the length of a row, and `data` its bytes as a file stores them.
    pub fn tensor(&mut self, name: &str, ty: TensorType, dims: &[u64], data: Vec<u8>) -> &mut Self {
        self.tensor_raw(name, ty.id(), dims, None, data)
    }

    /// Adds a tensor with any type number, and at any offset from the start of the data section
    /// (`None`: after the tensor before it). With an offset, `data` are not written.
    pub fn tensor_raw(
        &mut self,
        name: &str,
        type_id: u32,
        dims: &[u64],
        offset: Option<u64>,
        data: Vec<u8>,
    ) -> &mut Self {
        let (name, dims) = (name.to_owned(), dims.to_vec());
        self.tensors.push(Tensor {
            name,
            type_id,
            dims,
            offset,
            data,
        });
        self
    }

    /// The file, unchecked.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out {
            bytes: MAGIC.to_vec(),
            endian: self.endian,
        };
        out.u32(self.version);
        out.u64(self.tensors.len() as u64);
        out.u64(self.entries.len() as u64);
        for (key, value) in &self.entries {
            out.string(key.as_bytes());
            out.u32(value.value_type().id());
            out.value(value);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            let offset = tensor.offset.unwrap_or_else(|| {
                pad(&mut data, self.alignment);
                let offset = data.len() as u64;
                data.extend_from_slice(&tensor.data);
                offset
            });
            out.string(tensor.name.as_bytes());
            out.u32(tensor.dims.len() as u32);
            tensor.dims.iter().for_each(|&dim| out.u64(dim));
            out.u32(tensor.type_id);
            out.u64(offset);
        }
        if !self.tensors.is_empty() {
            pad(&mut out.bytes, self.alignment);
        }
        out.bytes.extend_from_slice(&data);
        out.bytes
    }

    /// The file, read back and checked.
    ///
    /// # Errors
    /// Whatever [`crate::Gguf::from_bytes`] says to it, for example that the data of a tensor do
    /// not match its type and dimensions.
    pub fn build(&self) -> Result<Vec<u8>, Error> {
        let bytes = self.to_bytes();
        read::header(&bytes)?;
        Ok(bytes)
    }
}

/// Appends zeros up to a multiple of `alignment`.
fn pad(bytes: &mut Vec<u8>, alignment: u64) {
    let len = (bytes.len() as u64).next_multiple_of(alignment);
    bytes.resize(
        usize::try_from(len).expect("a file that fits the address space"),
        0,
    );
}

/// The header as it grows.
struct Out {
    bytes: Vec<u8>,
    endian: Endian,
}

impl Out {
    fn number<const N: usize>(&mut self, little: [u8; N], big: [u8; N]) {
        self.bytes.extend_from_slice(match self.endian {
            Endian::Little => &little,
            Endian::Big => &big,
        });
    }

    fn u32(&mut self, v: u32) {
        self.number(v.to_le_bytes(), v.to_be_bytes());
    }

    fn u64(&mut self, v: u64) {
        self.number(v.to_le_bytes(), v.to_be_bytes());
    }

    fn string(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::U8(v) => self.bytes.push(*v),
            Value::I8(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::U16(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::I16(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::U32(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::I32(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::F32(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::U64(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::I64(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::F64(v) => self.number(v.to_le_bytes(), v.to_be_bytes()),
            Value::Bool(v) => self.bytes.push(u8::from(*v)),
            Value::String(v) => self.string(v.as_bytes()),
            Value::Array(v) => self.array(v),
        }
    }

    fn array(&mut self, array: &Array) {
        self.u32(array.element_type().id());
        self.u64(array.len() as u64);
        match array {
            Array::U8(v) => self.bytes.extend_from_slice(v),
            Array::I8(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::U16(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::I16(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::U32(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::I32(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::F32(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::U64(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::I64(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::F64(v) => v
                .iter()
                .for_each(|v| self.number(v.to_le_bytes(), v.to_be_bytes())),
            Array::Bool(v) => v.iter().for_each(|&v| self.bytes.push(u8::from(v))),
            Array::String(v) => v.iter_bytes().for_each(|v| self.string(v)),
            Array::Array(v) => v.iter().for_each(|v| self.array(v)),
        }
    }
}
