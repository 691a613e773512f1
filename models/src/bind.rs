//! Roles to tensors: names, shapes, fused layouts. Every tensor of the file is claimed by exactly
//! the roles that use it; what is missing, misshapen or left over is an error that names it.

use crate::device::{Repack, Weights};
use crate::draft::Draft;
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
    /// The data: `rows` rows from row `first` on in every stretch of `stride` rows. Of matrices
    /// that are stored apart, the first.
    data: Weights,
    /// Every matrix, where they are tensors of their own.
    apart: Option<Arc<[Weights]>>,
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
        let place = |data: &Weights| copy.place(self.ty, self.cols, data);
        let apart = match &self.apart {
            None => None,
            Some(all) => Some(all.iter().map(place).collect::<Option<Arc<[Weights]>>>()?),
        };
        let data = match &apart {
            None => place(&self.data)?,
            Some(all) => all[0].clone(),
        };
        Some(Matrix { data, apart, ..self.clone() })
    }

    /// Rows `range` (of every matrix) as a matrix of their own.
    fn slice(&self, range: Range<usize>) -> Matrix {
        Matrix { rows: range.len(), first: self.first + range.start, ..self.clone() }
    }

    /// Matrix `i` alone.
    pub(crate) fn expert(&self, i: usize) -> Matrix {
        let all = i * self.stride..(i + 1) * self.stride;
        Matrix {
            bias: self.bias.as_ref().map(|b| b[all].into()),
            scale: self.scale.as_ref().map(|s| [s[i]].into()),
            ..self.one(i)
        }
    }

    /// Bytes of one row.
    pub(crate) fn row_bytes(&self) -> usize {
        let together = if self.apart.is_some() { 1 } else { self.n_expert };
        self.data.len() / (self.stride * together)
    }

    /// Bytes of all matrices.
    pub(crate) fn n_bytes(&self) -> usize {
        self.apart.as_ref().map_or(self.data.len(), |all| all.iter().map(|w| w.len()).sum())
    }

    /// The data of rows `rows` of matrix `expert`, `row_bytes` each.
    pub(crate) fn bytes(&self, expert: usize, rows: &Range<usize>, row_bytes: usize) -> &[u8] {
        let (data, expert) = match &self.apart {
            Some(all) => (&all[expert], 0),
            None => (&self.data, expert),
        };
        let place = self.place(expert, rows);
        &data[place.start * row_bytes..place.end * row_bytes]
    }

    /// The data of row `row` of a matrix that stands alone.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        self.bytes(0, &(row..row + 1), self.row_bytes())
    }

    /// Rows of the data that are rows `rows` of matrix `expert`.
    fn place(&self, expert: usize, rows: &Range<usize>) -> Range<usize> {
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
        let data = match &self.apart {
            Some(all) => all[i].clone(),
            None => self.data.part(i * bytes..(i + 1) * bytes),
        };
        Matrix { n_expert: 1, data, apart: None, bias: None, scale: None, ..self.clone() }
    }
}

/// Finds tensors and remembers which were asked for.
pub(crate) struct Binder {
    gguf: Arc<Gguf>,
    claimed: RefCell<HashSet<String>>,
    /// Where a file is being made up: what it shall hold.
    draft: Option<Draft>,
}

/// A tensor and the file that holds it.
pub(crate) struct Found {
    pub(crate) file: Arc<Gguf>,
    pub(crate) info: TensorInfo,
}

impl Found {
    fn decode(&self) -> Result<Arc<[f32]>, Error> {
        let mut out = vec![0.0; self.info.n_elements() as usize];
        quant::decode(self.info.ty, self.file.data(&self.info)?, &mut out)?;
        Ok(out.into())
    }
}

fn shape(dims: &[u64]) -> String {
    dims.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Dimensions without trailing ones, which carry no meaning.
pub(crate) fn trimmed(dims: &[u64]) -> &[u64] {
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
        Binder { gguf, claimed: RefCell::default(), draft: None }
    }

    /// A binder that makes up what is asked for: see [`Draft`].
    pub(crate) fn drafting(gguf: Arc<Gguf>) -> Binder {
        Binder { draft: Some(Draft::default()), ..Binder::new(gguf) }
    }

    /// What was made up, of [`Binder::drafting`].
    pub(crate) fn into_draft(self) -> Draft {
        self.draft.unwrap_or_default()
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

    fn find(&self, name: &str, dims: &[u64]) -> Result<Option<Found>, Error> {
        let Some(info) = self.gguf.tensor(name) else { return Ok(None) };
        self.claimed.borrow_mut().insert(name.into());
        if let Some(draft) = &self.draft {
            return draft.found(name, &info.dims, dims).map(Some);
        }
        if trimmed(&info.dims) != trimmed(dims) {
            return Err(Error::TensorShape {
                name: name.into(),
                found: shape(&info.dims),
                expected: shape(dims),
            });
        }
        Ok(Some(Found { file: self.gguf.clone(), info: info.clone() }))
    }

    /// As [`Binder::find`], of one that must be there.
    fn need(&self, name: &str, dims: &[u64]) -> Result<Found, Error> {
        match (self.find(name, dims)?, &self.draft) {
            (Some(found), _) => Ok(found),
            (None, Some(draft)) => draft.found(name, trimmed(dims), dims),
            (None, None) => Err(Error::MissingTensor { name: name.into(), expected: shape(dims) }),
        }
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
        self.table(name, &[n as u64])
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
        self.table(name, &dims)
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
        if let (Some(draft), Some(info)) = (&self.draft, self.gguf.tensor(name)) {
            draft.keep(name, &info.dims);
        }
    }

    /// Floats of any shape, decoded in file order; `None` when the file has none.
    ///
    /// # Errors
    /// As [`Binder::opt_vector`].
    pub(crate) fn floats(&self, name: &str, dims: &[u64]) -> Result<Option<Arc<[f32]>>, Error> {
        self.find(name, dims)?.map(|found| found.decode()).transpose()
    }

    /// As [`Binder::floats`], of a tensor that must be there.
    ///
    /// # Errors
    /// As [`Binder::vector`].
    pub(crate) fn table(&self, name: &str, dims: &[u64]) -> Result<Arc<[f32]>, Error> {
        self.need(name, dims)?.decode()
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
        if let Some(apart) = self.apart(name, rows, cols, n_expert)? {
            return Ok(apart);
        }
        let found = self.need(&full, &dims)?;
        let bias = self.floats(&format!("{name}.bias"), &[rows as u64, n_expert as u64])?;
        // A `.scale` of another length belongs to another role, which claims it for itself.
        let scale = format!("{name}.scale");
        let fits = |t: &TensorInfo| t.n_elements() == n_expert as u64;
        let scale = match self.gguf.tensor(&scale) {
            Some(t) if fits(t) => self.floats(&scale, &t.dims.clone())?,
            _ => None,
        };
        let data = Weights::new(&found.file, &found.info)?;
        let (first, stride) = (0, rows);
        Ok(Matrix {
            name: full,
            ty: found.info.ty,
            rows,
            cols,
            n_expert,
            data,
            apart: None,
            first,
            stride,
            bias,
            scale,
        })
    }

    /// The matrices `NAME_exps` that a file of the first mixtures has one by one, as `NAME.0.weight`,
    /// `NAME.1.weight` and so on; `None` where it has none.
    ///
    /// # Errors
    /// When one is missing, has another shape, or another type than the first.
    fn apart(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        n_expert: usize,
    ) -> Result<Option<Matrix>, Error> {
        let Some(short) = name.strip_suffix(quirks::BANK_SUFFIX) else { return Ok(None) };
        if self.has(&format!("{name}.weight")) || !self.has(&format!("{short}.0.weight")) {
            return Ok(None);
        }
        let first = self.matrices(&format!("{short}.0"), rows, cols, 1)?;
        let mut all = Vec::with_capacity(n_expert);
        for i in 0..n_expert {
            let m = self.matrices(&format!("{short}.{i}"), rows, cols, 1)?;
            if m.ty != first.ty {
                let expected = "the type of the other experts' tensors";
                return Err(Error::TensorKind { name: m.name, found: m.ty, expected });
            }
            all.push(m.data);
        }
        Ok(Some(Matrix { n_expert, apart: Some(all.into()), ..first }))
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
        // `ffn_up` may be the fused name and one of the parts, if another part is there. Its shape
        // tells, where there is one.
        let has = |name: &&str| **name != *fused && self.has(&format!("{prefix}{name}.weight"));
        let is_part = names.contains(&fused) && names.iter().any(has);
        let may_be_whole = self.has(&format!("{name}.weight"));
        let whole = match may_be_whole && !(is_part && self.draft.is_some()) {
            true => self.matrices(&name, rows.iter().sum(), cols, n_expert).map(Some),
            false => Ok(None),
        };
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
