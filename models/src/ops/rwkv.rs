//! What the generations of RWKV (Peng et al. 2023 to 2025) share: inputs that lean from a row
//! towards its predecessor, the norm of a head's result, and the feed-forward network.

use super::linear::{self, Dest, Linear, Source, job};
use super::recurrent::Mixer;
use super::{Cx, Rows};
use crate::bind::Binder;
use crate::device::Buffer;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec;
use crate::team::{Stop, Worker};
use quant::{Activation, Vector};
use std::ops::Range;
use std::sync::Arc;

/// Epsilon of the norm of a head's result: 1e-5 times 64, whatever the head's width. No key
/// holds it.
const HEAD_EPS: f32 = 64e-5;

/// A row and the one before it in its sequence. The state is the last normalised row.
pub(crate) struct Shift {
    state: usize,
    n_embd: usize,
}

impl Shift {
    pub(crate) fn bind(lower: &mut Lower<'_>) -> Shift {
        let n_embd = lower.n_embd;
        lower.widths.attend = lower.widths.attend.max(n_embd);
        Shift { state: lower.fixed(n_embd), n_embd }
    }

    /// Normalises the source's rows into the first mixing buffer, up to the barrier.
    pub(crate) fn normalise(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
    ) -> Result<(), Stop> {
        let from = Rows { buffer: src.buffer, stride: src.stride };
        while let Some(rows) = w.claim(cx.n_rows(), 4) {
            for row in rows {
                // SAFETY: rows are claimed; the source is not written in this phase.
                let (x, out) = unsafe {
                    let x = from.get(row as u32, src.first..src.first + self.n_embd);
                    (x, self.rows(cx).get_mut(row as u32, 0..self.n_embd))
                };
                if let Some(layer) = src.layer {
                    cx.watch(layer, x);
                }
                match src.norm {
                    Some(norm) => norm.apply(cx.vec, x, out),
                    None => out.copy_from_slice(x),
                }
            }
        }
        w.barrier()
    }

    fn rows<'a>(&self, cx: &Cx<'a>) -> Rows<'a> {
        Rows { buffer: &cx.bufs.mix[0], stride: self.n_embd }
    }

    /// Calls `job(row, x, previous x - x)` for every normalised row, up to the barrier, and leaves
    /// the last one of each sequence behind.
    pub(crate) fn lean(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        job: impl Fn(u32, &[f32], &[f32]),
    ) -> Result<(), Stop> {
        let (n, rows) = (self.n_embd, self.rows(cx));
        // SAFETY: the scratch belongs to this worker.
        let step = unsafe { cx.bufs.private[w.index()].attend.part_mut(0..n) };
        while let Some(items) = w.claim(cx.n_rows(), 4) {
            for i in items {
                let order = &cx.batch.order;
                let here = |s: &&crate::step::Segment| s.rows.contains(&i);
                let Some(segment) = cx.batch.segments.iter().find(here) else { continue };
                let state = cx.state.fixed(self.state, segment.seq);
                // SAFETY: normalised rows were finished in the phase before.
                let x = unsafe { rows.get(order[i], 0..n) };
                let before = if i > segment.rows.start {
                    // SAFETY: as above.
                    Some(unsafe { rows.get(order[i - 1], 0..n) })
                } else {
                    state.before(0..n)
                };
                match before {
                    Some(before) => step.copy_from_slice(before),
                    None => step.fill(0.0),
                }
                cx.vec.add_scaled(step, -1.0, x);
                job(order[i], x, step);
                if i + 1 == segment.rows.end {
                    // SAFETY: the last row of a sequence is one row, and it was claimed.
                    unsafe { state.after(0..n).copy_from_slice(x) };
                }
            }
        }
        w.barrier()
    }
}

/// Norm of a head's result with the weights of its channels.
pub(crate) struct HeadNorm {
    /// [n_embd].
    weight: Arc<[f32]>,
    /// [n_embd].
    bias: Arc<[f32]>,
}

impl HeadNorm {
    pub(crate) fn bind(b: &Binder, name: &str, n_embd: usize) -> Result<HeadNorm, Error> {
        Ok(HeadNorm {
            weight: b.vector(&format!("{name}.weight"), n_embd)?,
            bias: b.vector(&format!("{name}.bias"), n_embd)?,
        })
    }

    /// The norm of the channels `columns`, from `x` to `out`.
    pub(crate) fn apply(&self, vec: Vector, columns: Range<usize>, x: &[f32], out: &mut [f32]) {
        let bias = Some(&self.bias[columns.clone()]);
        vec.layer_norm(x, Some(&self.weight[columns]), bias, HEAD_EPS, out);
    }
}

/// `out = x + step * (lean + more)`.
pub(crate) fn leaning(
    vec: Vector,
    (x, step): (&[f32], &[f32]),
    lean: &[f32],
    more: bool,
    out: &mut [f32],
) {
    if more {
        vec.add(out, lean);
        vec.mul(out, step);
        vec.add(out, x);
    } else {
        out.copy_from_slice(x);
        vec.mul_add(out, step, lean);
    }
}

/// Applies `f` to the first `n` columns of every row of `buffer` [rows, n], up to the barrier.
pub(crate) fn each_row(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    buffer: &Buffer<f32>,
    n: usize,
    f: impl Fn(u32, &mut [f32]),
) -> Result<(), Stop> {
    let at = Rows { buffer, stride: n };
    while let Some(rows) = w.claim(cx.n_rows(), 4) {
        for row in rows {
            // SAFETY: rows are claimed.
            f(row as u32, unsafe { at.get_mut(row as u32, 0..n) });
        }
    }
    w.barrier()
}

/// The feed-forward network.
pub(crate) struct ChannelMix {
    shift: Shift,
    /// [n_embd].
    lean_k: Arc<[f32]>,
    key: Linear,
    value: Linear,
    /// Lean [n_embd] and matrix of the receptance.
    gate: Option<(Arc<[f32]>, Linear)>,
}

impl ChannelMix {
    pub(crate) fn bind(
        lower: &mut Lower<'_>,
        p: &str,
        c: &spec::ChannelMix,
    ) -> Result<ChannelMix, Error> {
        let (b, n, n_ff) = (lower.binder, lower.n_embd, c.n_ff);
        let name = |name: &str| format!("{p}channel_mix_{name}");
        let key = b.matrix(&name("key"), n_ff, n)?;
        let value = b.matrix(&name("value"), n, n_ff)?;
        let lean_k = b.vector(&name("lerp_k.weight"), n)?;
        let gate = match c.gated {
            false => None,
            true => {
                let matrix = b.matrix(&name("receptance"), n, n)?;
                Some((b.vector(&name("lerp_r.weight"), n)?, lower.linear(matrix)?))
            }
        };
        lower.mix(&[n, n, n, n_ff, n, n]);
        let shift = Shift::bind(lower);
        let (key, value) = (lower.linear(key)?, lower.linear(value)?);
        let both = [&key].into_iter().chain(gate.as_ref().map(|(_, matrix)| matrix));
        Linear::reserve_each(both, &mut lower.widths);
        Ok(ChannelMix { shift, lean_k, key, value, gate })
    }
}

impl Mixer for ChannelMix {
    fn linears(&self) -> Vec<&Linear> {
        [&self.key, &self.value].into_iter().chain(self.gate.as_ref().map(|g| &g.1)).collect()
    }

    fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let (n, n_ff) = (self.shift.n_embd, self.key.m.rows);
        let [_, xk, xr, hidden, gate, y, ..] = &cx.bufs.mix;
        let [to_k, to_r] = [xk, xr].map(|buffer| Rows { buffer, stride: n });
        self.shift.normalise(w, cx, src)?;
        self.shift.lean(w, cx, |row, x, step| {
            // SAFETY: the row is this worker's.
            let (k, r) = unsafe { (to_k.get_mut(row, 0..n), to_r) };
            leaning(cx.vec, (x, step), &self.lean_k, false, k);
            if let Some((lean, _)) = &self.gate {
                // SAFETY: as above.
                leaning(cx.vec, (x, step), lean, false, unsafe { r.get_mut(row, 0..n) });
            }
        })?;
        let key = job(xk, &self.key, hidden);
        let relu2: fn(Vector, &mut [f32]) = |vec, x| vec.act(Activation::Relu2, x);
        let squared = Source { map: Some(relu2), ..Source::plain(hidden, n_ff) };
        let Some((_, receptance)) = &self.gate else {
            linear::apply_each(w, cx, [key])?;
            return linear::apply(w, cx, &squared, [(&self.value, dest)]);
        };
        linear::apply_each(w, cx, [key, job(xr, receptance, gate)])?;
        linear::apply(w, cx, &squared, [(&self.value, Dest::Set(y, n))])?;
        let gates = Rows { buffer: gate, stride: n };
        each_row(w, cx, y, n, |row, y| {
            // SAFETY: the row is this worker's.
            unsafe {
                let gate = gates.get_mut(row, 0..n);
                cx.vec.sigmoid(gate);
                cx.vec.mul(y, gate);
                dest.put(cx.vec, row as usize, y);
            }
        })
    }
}
