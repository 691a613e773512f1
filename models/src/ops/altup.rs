//! Alternating updates (AltUp, Baykal et al. 2023) as Gemma 3n has them: several copies of the
//! residual stream, of which every layer computes one.
//!
//! Before a layer each copy is predicted from all copies; after it each is corrected by the
//! difference between what the active copy became and what was predicted for it. The coefficients
//! follow from the active copy through a small router. Everything here belongs to one row, so a
//! phase has one barrier.

use super::linear::{self, Dest, Linear, Source};
use super::norm::Norm;
use super::per_layer::PerLayer;
use super::{Buffers, Cx};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec;
use crate::team::{Stop, Worker};
use std::sync::Arc;

/// Least mean square of a row whose size is matched.
const LEAST_SQUARE: f32 = 1e-5;

/// Sizes of the copies.
#[derive(Clone, Copy)]
pub(crate) struct Streams {
    n: usize,
    active: usize,
}

/// Making copies of the input, and one row of them at the end.
pub(crate) struct AltUpEnds {
    streams: Streams,
    /// For each copy but the active one.
    split: Vec<Linear>,
    merge: Vec<Linear>,
}

/// One layer's predictions and corrections.
pub(crate) struct AltUp {
    streams: Streams,
    router_norm: Norm,
    /// [n, n_embd].
    router: Arc<[f32]>,
    /// [n * n, n].
    predict: Arc<[f32]>,
    /// [n, n].
    correct: Arc<[f32]>,
    /// Factors on the active copy for the per-layer embedding.
    scale: Arc<[f32]>,
    /// Goes to the copies that are not active.
    per_layer: Option<(PerLayer, Option<Norm>)>,
}

impl AltUpEnds {
    pub(crate) fn bind(lower: &mut Lower<'_>, s: &spec::Streams) -> Result<Option<Self>, Error> {
        let spec::Streams::AltUp { n, active, .. } = s else { return Ok(None) };
        let streams = Streams { n: *n, active: *active };
        if !(2..=16).contains(n) || active >= n {
            return Err(Error::BadValue {
                key: "altup.num_inputs".into(),
                found: format!("{n}, of which {active} is active"),
                expected: "2 to 16 inputs and one of them active".into(),
            });
        }
        let n_embd = lower.n_embd;
        let mut all = |name: &str| -> Result<Vec<Linear>, Error> {
            let m = lower.binder.matrices(name, n_embd, n_embd, n - 1)?;
            let one = |i| lower.linear(m.expert(i));
            (0..n - 1).map(one).collect()
        };
        let (split, merge) = (all("altup_proj")?, all("altup_unembd_proj")?);
        lower.widths.n_stream = *n;
        lower.widths.cols = lower.widths.cols.max(n * n_embd);
        Ok(Some(AltUpEnds { streams, split, merge }))
    }

    pub(crate) fn linears(&self) -> Vec<&Linear> {
        self.split.iter().chain(&self.merge).collect()
    }

    /// Copies of the input rows: the active one as it is, the others through their matrices and as
    /// large as the input.
    pub(crate) fn split(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let (b, n) = (cx.bufs, cx.bufs.widths.n_embd);
        // All matrices are parts of one tensor, and so read rows of one form.
        let acts = linear::prepare(w, cx, &Source::plain(&b.x, n), &[&self.split[0]])?;
        for (linear, s) in self.split.iter().zip(self.streams.others()) {
            linear::project(w, cx, &acts, cx.n_rows(), &[(linear, Dest::Set(&b.y, n))]);
            w.barrier()?;
            while let Some(range) = w.claim(cx.n_rows(), 1) {
                for r in range {
                    // SAFETY: rows are claimed; y was finished in the phase before.
                    unsafe {
                        let (x, y) = (b.x.part(r * n..(r + 1) * n), b.y.part(r * n..(r + 1) * n));
                        self.streams.row(b, r, self.streams.active).copy_from_slice(x);
                        let out = self.streams.row(b, r, s);
                        out.copy_from_slice(y);
                        cx.vec.scale(out, size(cx, x) / size(cx, y));
                    }
                }
            }
            w.barrier()?;
        }
        Ok(())
    }

    /// The mean of all copies, each through its matrix and as large as the active one, to x.
    pub(crate) fn merge(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let (b, n) = (cx.bufs, cx.bufs.widths.n_embd);
        let each = 1.0 / self.streams.n as f32;
        for (i, (linear, s)) in self.merge.iter().zip(self.streams.others()).enumerate() {
            while let Some(range) = w.claim(cx.n_rows(), 1) {
                for r in range {
                    // SAFETY: rows are claimed; the stream is only read in this phase.
                    unsafe {
                        let to = b.z.part_mut(r * n..(r + 1) * n);
                        to.copy_from_slice(self.streams.row(b, r, s));
                    }
                }
            }
            w.barrier()?;
            let acts = linear::prepare(w, cx, &Source::plain(&b.z, n), &[linear])?;
            linear::project(w, cx, &acts, cx.n_rows(), &[(linear, Dest::Set(&b.y, n))]);
            w.barrier()?;
            while let Some(range) = w.claim(cx.n_rows(), 1) {
                for r in range {
                    // SAFETY: rows are claimed; y was finished in the phase before.
                    unsafe {
                        let y = b.y.part(r * n..(r + 1) * n);
                        let first = self.streams.row(b, r, self.streams.active);
                        let x = b.x.part_mut(r * n..(r + 1) * n);
                        if i == 0 {
                            x.copy_from_slice(first);
                            cx.vec.scale(x, each);
                        }
                        cx.vec.add_scaled(x, each * size(cx, first) / size(cx, y), y);
                    }
                }
            }
            w.barrier()?;
        }
        Ok(())
    }
}

/// Root of the mean square of a row.
fn size(cx: &Cx<'_>, x: &[f32]) -> f32 {
    (cx.vec.dot(x, x) / x.len() as f32).max(LEAST_SQUARE).sqrt()
}

impl Streams {
    /// The copies that layers do not compute.
    fn others(self) -> impl Iterator<Item = usize> {
        (0..self.n).filter(move |&s| s != self.active)
    }

    /// Copy `s` of row `r`.
    ///
    /// # Safety
    /// The caller has claimed the row and holds no other slice of this copy.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    unsafe fn row(self, b: &Buffers, r: usize, s: usize) -> &mut [f32] {
        let n = b.widths.n_embd;
        let at = (r * self.n + s) * n;
        // SAFETY: the caller owns the row.
        unsafe { b.streams.part_mut(at..at + n) }
    }
}

impl AltUp {
    pub(crate) fn bind(
        lower: &mut Lower<'_>,
        p: &str,
        streams: &spec::Streams,
        per_layer: Option<(PerLayer, Option<Norm>)>,
    ) -> Result<Option<AltUp>, Error> {
        let spec::Streams::AltUp { n, active, norm } = streams else { return Ok(None) };
        let (b, n_embd) = (lower.binder, lower.n_embd);
        let table = |name: &str, rows: usize, cols: usize| {
            b.table(&format!("{p}{name}.weight"), &[cols as u64, rows as u64])
        };
        Ok(Some(AltUp {
            streams: Streams { n: *n, active: *active },
            router_norm: Norm::bind(b, p, norm, n_embd)?,
            router: table("altup_router", *n, n_embd)?,
            predict: table("altup_predict_coef", n * n, *n)?,
            correct: table("altup_correct_coef", *n, *n)?,
            scale: b.vector(&format!("{p}altup_correct_scale.weight"), n_embd)?,
            per_layer,
        }))
    }

    pub(crate) fn linears(&self) -> Vec<&Linear> {
        self.per_layer.iter().flat_map(|(op, _)| op.linears()).collect()
    }

    /// tanh of the router's products with a row, which it scales down by its width.
    fn modalities(&self, cx: &Cx<'_>, x: &[f32], scratch: &mut [f32], out: &mut [f32]) {
        let n = x.len();
        self.router_norm.apply(cx.vec, x, scratch);
        for (m, row) in out.iter_mut().zip(self.router.chunks_exact(n)) {
            *m = cx.vec.dot(row, scratch) / n as f32;
        }
        cx.vec.tanh(out);
    }

    /// Predicts all copies; the active one becomes x.
    pub(crate) fn predict(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let (b, n, s) = (cx.bufs, cx.bufs.widths.n_embd, self.streams);
        while let Some(range) = w.claim(cx.n_rows(), 1) {
            for r in range {
                let mut modalities = [0.0; 16];
                let modalities = &mut modalities[..s.n];
                // SAFETY: rows are claimed, the scratch is private.
                unsafe {
                    let scratch = b.private[w.index()].row.part_mut(0..s.n * n);
                    let active = s.row(b, r, s.active);
                    self.modalities(cx, active, &mut scratch[..n], modalities);
                    let all = b.streams.part_mut(r * s.n * n..(r + 1) * s.n * n);
                    scratch.copy_from_slice(all);
                    // Coefficient [to][from] is row to * n + from of the table.
                    for (i, row) in self.predict.chunks_exact(s.n).enumerate() {
                        let (to, from) = (i / s.n, i % s.n);
                        let c = cx.vec.dot(row, modalities);
                        let out = &mut all[to * n..(to + 1) * n];
                        cx.vec.add_scaled(out, c, &scratch[from * n..(from + 1) * n]);
                    }
                    let x = b.x.part_mut(r * n..(r + 1) * n);
                    x.copy_from_slice(&all[s.active * n..(s.active + 1) * n]);
                }
            }
        }
        w.barrier()
    }

    /// Corrects all copies by what x has become, and mixes the per-layer embedding in.
    pub(crate) fn correct(&self, w: &Worker<'_>, cx: &Cx<'_>, layer: usize) -> Result<(), Stop> {
        let (b, n, s) = (cx.bufs, cx.bufs.widths.n_embd, self.streams);
        while let Some(range) = w.claim(cx.n_rows(), 1) {
            for r in range {
                let mut modalities = [0.0; 16];
                let modalities = &mut modalities[..s.n];
                // SAFETY: rows are claimed, the scratch is private.
                unsafe {
                    let change = b.private[w.index()].row.part_mut(0..n);
                    let x = b.x.part_mut(r * n..(r + 1) * n);
                    self.modalities(cx, x, change, modalities);
                    change.copy_from_slice(x);
                    cx.vec.add_scaled(change, -1.0, s.row(b, r, s.active));
                    for (to, row) in self.correct.chunks_exact(s.n).enumerate() {
                        let c = 1.0 + cx.vec.dot(row, modalities);
                        cx.vec.add_scaled(s.row(b, r, to), c, change);
                    }
                    x.copy_from_slice(s.row(b, r, s.active));
                    cx.vec.mul(x, &self.scale);
                }
            }
        }
        w.barrier()?;
        let Some((op, norm)) = &self.per_layer else { return Ok(()) };
        let src = Source { layer: Some(layer), ..Source::plain(&b.x, n) };
        op.run(w, cx, &src, Dest::Set(&b.y, n))?;
        while let Some(range) = w.claim(cx.n_rows(), 1) {
            for r in range {
                // SAFETY: rows are claimed, the scratch is private, y was finished before.
                unsafe {
                    let y = b.y.part_mut(r * n..(r + 1) * n);
                    if let Some(norm) = norm {
                        let normed = b.private[w.index()].row.part_mut(0..n);
                        norm.apply(cx.vec, y, normed);
                        y.copy_from_slice(normed);
                    }
                    s.others().for_each(|to| cx.vec.add(s.row(b, r, to), y));
                }
            }
        }
        w.barrier()
    }
}
