//! The tensors of a file that does not exist yet: whatever binding a spec asks for.
//!
//! A model is bound to a file that has metadata and at most a few tensors. A tensor that must be
//! there and is not is made up with the shape that was asked for, and one that the file has takes
//! that shape too, whatever it has in the file. So the roles of an architecture say which tensors a
//! file of it needs, and nobody writes them down a second time.

use crate::Model;
use crate::bind::{Binder, Found, trimmed};
use crate::error::Error;
use crate::plan::{Choice, Plan};
use formats::{Gguf, GgufWriter, TensorType};
use quant::Isa;
use std::cell::RefCell;
use std::sync::Arc;

/// Most values of a tensor that is made up: a draft is a tool for small models.
const MAX_VALUES: u64 = 1 << 28;

/// Tensors that were asked for, with their dimensions, in order.
#[derive(Default)]
pub(crate) struct Draft {
    asked: RefCell<Vec<(String, Vec<u64>)>>,
}

impl Draft {
    /// Notes a tensor that is there without being needed.
    pub(crate) fn keep(&self, name: &str, dims: &[u64]) {
        self.asked.borrow_mut().push((name.into(), dims.to_vec()));
    }

    /// Notes that `name` is to have the dimensions `dims`, and makes it up. A tensor that the file
    /// has with as many values, or that was asked for before, keeps its axes `own`.
    ///
    /// # Errors
    /// A size beyond reason, or one tensor asked for with two shapes.
    pub(crate) fn found(&self, name: &str, own: &[u64], dims: &[u64]) -> Result<Found, Error> {
        let same = trimmed(own) == trimmed(dims);
        let dims = if same { own } else { trimmed(dims) };
        let mut asked = self.asked.borrow_mut();
        match asked.iter().find(|(known, _)| known == name) {
            None => asked.push((name.into(), dims.to_vec())),
            Some((_, first)) if trimmed(first) == trimmed(dims) => {}
            Some((_, first)) => {
                return Err(Error::TensorShape {
                    name: name.into(),
                    found: format!("{first:?}"),
                    expected: format!("{dims:?}"),
                });
            }
        }
        zeros(name, dims)
    }
}

/// A file of one tensor of zeros.
fn zeros(name: &str, dims: &[u64]) -> Result<Found, Error> {
    let n = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_VALUES);
    let Some(n) = n else {
        return Err(Error::TensorShape {
            name: name.into(),
            found: format!("{dims:?}"),
            expected: format!("at most {MAX_VALUES} values"),
        });
    };
    let mut writer = GgufWriter::new();
    writer.tensor(name, TensorType::F32, dims, vec![0; 4 * n as usize]);
    let file = Arc::new(Gguf::from_bytes(writer.build()?)?);
    let info = file.tensors()[0].clone();
    Ok(Found { file, info })
}

impl Model {
    /// The tensors that a file with these metadata needs, with their dimensions (row length first),
    /// in the order of binding. A tensor that the file holds already counts as one that it is to
    /// have, with the shape that follows from the metadata: so a draft says which of the tensors
    /// that files may have or lack it wants. Only the vocabulary is read from a shape, that of
    /// `token_embd.weight`.
    ///
    /// # Errors
    /// Tensors of the file that no role asks for, metadata that do not fit each other, and sizes
    /// beyond what is fit for a draft (2^28 values a tensor).
    pub fn draft(&self) -> Result<Vec<(String, Vec<u64>)>, Error> {
        let binder = Binder::drafting(self.gguf().clone());
        // Nothing is laid side by side: what is made up lies in no file.
        let choice = Choice { isa: Isa::Scalar, repack: None, precise: false };
        Plan::with(&binder, self.hparams(), self.spec(), choice, 1, 1)?;
        Ok(binder.into_draft().asked.into_inner())
    }
}
