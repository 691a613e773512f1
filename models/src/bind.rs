//! Roles to tensors: names, shapes, fused layouts. Every tensor of the file is claimed by exactly
//! the roles that use it; what is missing, misshapen or left over is an error that names it.

use crate::device::{Repack, Weights};
use crate::error::Error;
use crate::quirks;
use formats::{Gguf, TensorInfo, TensorType};
use quant::PACK_ROWS;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// A matrix of the file, [rows, cols], or several of equal shape (experts), with an optional bias.
#[derive(Clone)]
pub(crate) struct Matrix {
    /// The tensor's name.
    pub(crate) name: String,
    /// Its type.
    pub(crate) ty: TensorType,
    /// Rows of one matrix: outputs.
    pub(crate) rows: usize,
    /// Columns: inputs.
    pub(crate) cols: usize,
    /// Matrices stored one after another.
    pub(crate) n_expert: usize,
    /// The data: `rows` rows from row `first` on in every stretch of `stride` rows.
    pub(crate) data: Weights,
    first: usize,
    stride: usize,
    /// [n_expert, stride].
    bias: Option<Arc<[f32]>>,
    /// A factor on all products of one matrix (not on its bias): [n_expert].
    scale: Option<Arc<[f32]>>,
}

impl Matrix {
    /// The matrix with its rows side by side in `copy`; `None` when they do not come in groups.
    pub(crate) fn packed(&self, copy: &Arc<Repack>) -> Option<Matrix> {
        let whole = |n: usize| n.is_multiple_of(PACK_ROWS);
        if !(whole(self.rows) && whole(self.first) && whole(self.stride)) {
            return None;
        }
        Some(Matrix { data: copy.place(self.ty, self.cols, &self.data)?, ..self.clone() })
    }

    /// Rows `range` (of every matrix) as a matrix of their own.
    fn slice(&self, range: Range<usize>) -> Matrix {
        Matrix { rows: range.len(), first: self.first + range.start, ..self.clone() }
    }

    /// Matrix `i` alone.
    pub(crate) fn expert(&self, i: usize) -> Matrix {
        let all = i * self.stride..(i + 1) * self.stride;
        let row = self.row_bytes();
        Matrix {
            n_expert: 1,
            data: self.data.part(all.start * row..all.end * row),
            bias: self.bias.as_ref().map(|b| b[all].into()),
            scale: self.scale.as_ref().map(|s| [s[i]].into()),
            ..self.clone()
        }
    }

    /// Bytes of one row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.data.len() / (self.stride * self.n_expert)
    }

    /// Rows of the data that are rows `rows` of matrix `expert`.
    pub(crate) fn place(&self, expert: usize, rows: &Range<usize>) -> Range<usize> {
        let first = expert * self.stride + self.first;
        first + rows.start..first + rows.end
    }

    /// The bias of rows `rows` of matrix `expert`.
    pub(crate) fn bias(&self, expert: usize, rows: &Range<usize>) -> Option<&[f32]> {
        self.bias.as_ref().map(|b| &b[self.place(expert, rows)])
    }

    /// The factor on the products of matrix `expert`.
    pub(crate) fn scale(&self, expert: usize) -> Option<f32> {
        self.scale.as_ref().map(|s| s[expert])
    }
}

impl Matrix {
    /// Matrix `i` of several as one of its own; without a bias.
    pub(crate) fn one(&self, i: usize) -> Matrix {
        let bytes = self.data.len() / self.n_expert;
        let data = self.data.part(i * bytes..(i + 1) * bytes);
        Matrix { n_expert: 1, data, bias: None, scale: None, ..self.clone() }
    }
}

/// Finds tensors and remembers which were asked for.
pub(crate) struct Binder {
    gguf: Arc<Gguf>,
    claimed: RefCell<HashSet<String>>,
}

fn shape(dims: &[u64]) -> String {
    dims.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Dimensions without trailing ones, which carry no meaning.
fn trimmed(dims: &[u64]) -> &[u64] {
    let len = dims.iter().rposition(|&d| d != 1).map_or(1, |i| i + 1);
    &dims[..len.min(dims.len())]
}

/// Number of the block that a tensor belongs to.
fn block(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

impl Binder {
    /// A binder for `gguf` with nothing claimed.
    pub(crate) fn new(gguf: Arc<Gguf>) -> Binder {
        Binder { gguf, claimed: RefCell::default() }
    }

    /// Whether the file has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    /// Rows of the matrix `NAME.weight`, where the file has it.
    pub(crate) fn rows(&self, name: &str) -> Option<usize> {
        usize::try_from(self.gguf.tensor(&format!("{name}.weight"))?.rows()).ok()
    }

    /// Axes that the file gives the tensor `name`; 0 = it has none.
    pub(crate) fn rank(&self, name: &str) -> usize {
        self.gguf.tensor(name).map_or(0, |t| t.dims.len())
    }

    fn find(&self, name: &str, dims: &[u64]) -> Result<Option<&TensorInfo>, Error> {
        let Some(info) = self.gguf.tensor(name) else { return Ok(None) };
        if trimmed(&info.dims) != trimmed(dims) {
            return Err(Error::TensorShape {
                name: name.into(),
                found: shape(&info.dims),
                expected: shape(dims),
            });
        }
        self.claimed.borrow_mut().insert(name.into());
        Ok(Some(info))
    }

    fn missing(name: &str, dims: &[u64]) -> Error {
        Error::MissingTensor { name: name.into(), expected: shape(dims) }
    }

    /// A vector of `n` floats, decoded; `None` when the file has none.
    ///
    /// # Errors
    /// Another shape, or an integer type.
    pub(crate) fn opt_vector(&self, name: &str, n: usize) -> Result<Option<Arc<[f32]>>, Error> {
        self.floats(name, &[n as u64])
    }

    /// A vector of `n` floats.
    ///
    /// # Errors
    /// As [`Binder::opt_vector`], or when it is missing.
    pub(crate) fn vector(&self, name: &str, n: usize) -> Result<Arc<[f32]>, Error> {
        self.opt_vector(name, n)?.ok_or_else(|| Self::missing(name, &[n as u64]))
    }

    /// `n` values whatever axes the file gives them.
    ///
    /// # Errors
    /// When the tensor is missing, has another number of values or an integer type.
    pub(crate) fn values(&self, name: &str, n: usize) -> Result<Arc<[f32]>, Error> {
        let dims = match self.gguf.tensor(name) {
            Some(t) if t.n_elements() == n as u64 => t.dims.clone(),
            _ => vec![n as u64],
        };
        self.floats(name, &dims)?.ok_or_else(|| Self::missing(name, &dims))
    }

    /// The vector `NAME.weight` of `n` floats, or `NAME` where the file has it without the ending.
    ///
    /// # Errors
    /// As [`Binder::vector`].
    pub(crate) fn weight(&self, name: &str, n: usize) -> Result<Arc<[f32]>, Error> {
        if self.has(name) {
            self.vector(name, n)
        } else {
            self.vector(&format!("{name}.weight"), n)
        }
    }

    /// Counts a tensor as used that the architecture has without needing it.
    pub(crate) fn ignore(&self, name: &str) {
        self.claimed.borrow_mut().insert(name.into());
    }

    /// Floats of any shape, decoded in file order; `None` when the file has none.
    ///
    /// # Errors
    /// As [`Binder::opt_vector`].
    pub(crate) fn floats(&self, name: &str, dims: &[u64]) -> Result<Option<Arc<[f32]>>, Error> {
        let Some(info) = self.find(name, dims)? else { return Ok(None) };
        let mut out = vec![0.0; info.n_elements() as usize];
        quant::decode(info.ty, self.gguf.data(info)?, &mut out)?;
        Ok(Some(out.into()))
    }

    /// The matrix `NAME.weight` [rows, cols] with its optional `NAME.bias`.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub(crate) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        self.matrices(name, rows, cols, 1)
    }

    /// As [`Binder::matrix`]; `None` when the file has none.
    ///
    /// # Errors
    /// Another shape.
    pub(crate) fn opt_matrix(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Option<Matrix>, Error> {
        if !self.has(&format!("{name}.weight")) {
            return Ok(None);
        }
        self.matrix(name, rows, cols).map(Some)
    }

    /// `n_expert` matrices of equal shape stored as one tensor.
    ///
    /// # Errors
    /// When it is missing or has another shape.
    pub(crate) fn matrices(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        n_expert: usize,
    ) -> Result<Matrix, Error> {
        let full = format!("{name}.weight");
        let dims = [cols as u64, rows as u64, n_expert as u64];
        let info = self.find(&full, &dims)?.ok_or_else(|| Self::missing(&full, &dims))?;
        let bias = self.floats(&format!("{name}.bias"), &[rows as u64, n_expert as u64])?;
        // A `.scale` of another length belongs to another role, which claims it for itself.
        let scale = format!("{name}.scale");
        let fits = |t: &TensorInfo| t.n_elements() == n_expert as u64;
        let scale = match self.gguf.tensor(&scale) {
            Some(t) if fits(t) => self.floats(&scale, &t.dims.clone())?,
            _ => None,
        };
        let data = Weights::new(&self.gguf, info)?;
        let (first, stride) = (0, rows);
        Ok(Matrix {
            name: full,
            ty: info.ty,
            rows,
            cols,
            n_expert,
            data,
            first,
            stride,
            bias,
            scale,
        })
    }

    /// Matrices with `rows` rows each that are stored apart as `names`, or one after another as
    /// `fused`.
    ///
    /// # Errors
    /// When neither form is complete.
    pub(crate) fn split<const N: usize>(
        &self,
        prefix: &str,
        fused: &str,
        names: [&str; N],
        rows: [usize; N],
        cols: usize,
    ) -> Result<[Matrix; N], Error> {
        self.split_experts(prefix, fused, names, rows, cols, 1)
    }

    /// As [`Binder::split`], for `n_expert` matrices of each kind; fused, an expert's kinds stand
    /// together.
    ///
    /// # Errors
    /// When neither form is complete.
    pub(crate) fn split_experts<const N: usize>(
        &self,
        prefix: &str,
        fused: &str,
        names: [&str; N],
        rows: [usize; N],
        cols: usize,
        n_expert: usize,
    ) -> Result<[Matrix; N], Error> {
        let name = format!("{prefix}{fused}");
        let whole = match self.has(&format!("{name}.weight")) {
            true => self.matrices(&name, rows.iter().sum(), cols, n_expert).map(Some),
            false => Ok(None),
        };
        // `ffn_up` may be the fused name and one of the parts, if another part is there.
        let has = |name: &&str| **name != *fused && self.has(&format!("{prefix}{name}.weight"));
        let is_part = names.contains(&fused) && names.iter().any(has);
        if let Some(whole) = if is_part { whole.unwrap_or(None) } else { whole? } {
            let mut at = 0;
            return Ok(rows.map(|n| {
                at += n;
                whole.slice(at - n..at)
            }));
        }
        let mut parts = Vec::with_capacity(N);
        for (name, rows) in names.iter().zip(rows) {
            parts.push(self.matrices(&format!("{prefix}{name}"), rows, cols, n_expert)?);
        }
        Ok(parts.try_into().unwrap_or_else(|_| unreachable!("N names make N parts")))
    }

    /// A tensor of one value.
    ///
    /// # Errors
    /// As [`Binder::vector`].
    pub(crate) fn scalar(&self, name: &str) -> Result<f32, Error> {
        Ok(self.vector(name, 1)?[0])
    }

    /// Checks that no tensor of the file was left over. Blocks of `ahead`, which predict further
    /// tokens, are not run, and so are not looked at.
    ///
    /// # Errors
    /// [`Error::UnclaimedTensor`] names the first.
    pub(crate) fn finish(&self, arch: &str, ahead: &Range<usize>) -> Result<(), Error> {
        let claimed = self.claimed.borrow();
        let mut left = self
            .gguf
            .tensors()
            .iter()
            .filter(|t| !claimed.contains(&t.name) && !quirks::is_ignorable_tensor(&t.name))
            .filter(|t| block(&t.name).is_none_or(|il| !ahead.contains(&il)));
        let Some(first) = left.next() else { return Ok(()) };
        Err(Error::UnclaimedTensor {
            name: first.name.clone(),
            count: 1 + left.count(),
            arch: arch.into(),
        })
    }
}
