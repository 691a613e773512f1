//! Weights with rows side by side: a copy in memory in the layout that the kernels like best.
//!
//! The copy takes the place of the file's pages: what was copied is given back to the system, which
//! may keep it as cache. Tensors lie in the copy where they lie in the file.

use super::{Buffer, Weights};
use crate::error::Error;
use crate::team::{Cancel, Team};
use formats::{Gguf, TensorType};
use quant::PACK_ROWS;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Bytes that a worker copies at a time, about; then their pages are given back, so that never more
/// than this of a tensor is there twice.
const CHUNK: usize = 1 << 20;
/// Cache lines.
const ALIGN: usize = 64;

/// The packed copies of a file's tensors, made as plans ask for them and kept for all contexts of a
/// model.
#[derive(Debug)]
pub struct Repack {
    file: Arc<Gguf>,
    /// Address of the first byte that can be packed.
    base: usize,
    /// Room before it in the copy, so that most tensors start on a cache line.
    shift: usize,
    /// Bytes of the copy with that room.
    len: usize,
    /// Taken when the first tensors are packed: plans may be made without being run.
    memory: OnceLock<Buffer<u8>>,
    jobs: Mutex<Jobs>,
    /// Bytes packed so far, and asked for.
    progress: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Jobs {
    /// Parts of the copy that are there or asked for: their ends by their starts.
    parts: BTreeMap<usize, usize>,
    /// What is not there yet.
    asked: Vec<Job>,
}

/// A tensor to be packed.
#[derive(Clone, Debug)]
struct Job {
    ty: TensorType,
    cols: usize,
    from: Weights,
    /// Offset in the copy.
    at: usize,
}

impl Repack {
    /// An empty copy of `file`: no memory is taken before [`Repack::fill`].
    ///
    /// # Errors
    /// When the file no longer holds its tensors.
    pub fn new(file: &Arc<Gguf>) -> Result<Repack, Error> {
        let (mut base, mut end, mut largest) = (usize::MAX, 0, (0, 0));
        for tensor in file.tensors() {
            let data = file.data(tensor)?;
            let start = data.as_ptr() as usize;
            (base, end) = (base.min(start), end.max(start + data.len()));
            largest = largest.max((data.len(), start));
        }
        let shift = largest.1.saturating_sub(base).wrapping_neg() % ALIGN;
        Ok(Repack {
            file: file.clone(),
            base,
            shift,
            len: end.saturating_sub(base) + shift,
            memory: OnceLock::new(),
            jobs: Mutex::default(),
            progress: Default::default(),
        })
    }

    /// Where the rows of `data`, `[.., cols]`, will lie side by side once [`Repack::fill`] was called;
    /// `None` when that place overlaps another one, as for a tensor that is used whole and in parts.
    #[must_use]
    pub fn place(self: &Arc<Self>, ty: TensorType, cols: usize, data: &Weights) -> Option<Weights> {
        let at = data.as_ptr() as usize - self.base + self.shift;
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let end = at + data.len();
        match jobs.parts.range(..end).next_back() {
            Some((&start, &stop)) if (start, stop) == (at, end) => {}
            Some((_, &stop)) if stop > at => return None,
            _ => {
                jobs.parts.insert(at, end);
                self.progress[1].fetch_add(data.len() as u64, Ordering::Relaxed);
                jobs.asked.push(Job { ty, cols, from: data.clone(), at });
            }
        }
        Some(Weights::packed(self, at..end))
    }

    /// Bytes packed so far, and asked for.
    pub fn progress(&self) -> (u64, u64) {
        let [done, all] = [0, 1].map(|i| self.progress[i].load(Ordering::Relaxed));
        (done.min(all), all)
    }

    /// The bytes of the copy.
    ///
    /// # Panics
    /// When nothing was packed yet.
    ///
    /// # Safety
    /// As [`Buffer::part`]: of tensors that [`Repack::fill`] is not at work on.
    pub(super) unsafe fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        // SAFETY: the caller's.
        unsafe { self.memory.get().expect("packed before it is read").part(range) }
    }

    /// The memory of the copy, taken on the first call.
    fn memory(&self) -> Result<&Buffer<u8>, Error> {
        if self.memory.get().is_none() {
            let memory = Buffer::try_new(self.len).ok_or_else(|| Error::System {
                what: "no memory for weights in the faster layout (in place they need none)",
                source: std::io::ErrorKind::OutOfMemory.into(),
            })?;
            memory.advise_huge();
            // `fill`, which holds the lock, is the only caller.
            let _ = self.memory.set(memory);
        }
        Ok(self.memory.get().expect("set above"))
    }

    /// Packs what was asked for since the last call, and gives the pages of the file back.
    ///
    /// # Errors
    /// When there is no memory, or a worker fails; what was asked for is then asked for still.
    pub fn fill(&self, team: &mut Team) -> Result<(), Error> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.asked.is_empty() {
            return Ok(());
        }
        let memory = self.memory()?;
        let mut pieces = Vec::new();
        for (i, job) in jobs.asked.iter().enumerate() {
            let group = PACK_ROWS * job.ty.row_bytes(job.cols).unwrap_or(job.from.len()).max(1);
            let step = (CHUNK / group).max(1) * group;
            let starts = (0..job.from.len()).step_by(step);
            pieces.extend(starts.map(|at| (i, at..(at + step).min(job.from.len()))));
        }
        let asked = &jobs.asked;
        let outcome = team.run(&Cancel::new(), &|w| {
            while let Some(claim) = w.claim(pieces.len(), 1) {
                for (i, range) in &pieces[claim] {
                    let job = &asked[*i];
                    let to = job.at + range.start..job.at + range.end;
                    // SAFETY: a claim is a piece of its own, and nobody reads a tensor that is
                    // not done.
                    let dst = unsafe { memory.part_mut(to) };
                    let packed = quant::pack(job.ty, &job.from[range.clone()], job.cols, dst);
                    self.file.forget(&job.from[range.clone()]);
                    self.progress[0].fetch_add(range.len() as u64, Ordering::Relaxed);
                    debug_assert!(packed.is_ok(), "a plan asks for types that can be packed");
                }
            }
            Ok(())
        });
        outcome.map_err(Error::from)?;
        jobs.asked.clear();
        Ok(())
    }
}
