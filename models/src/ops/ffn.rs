//! Feed-forward networks: two phases, hidden rows and output rows.

use super::linear::{self, Acts, Dest, Linear, Source};
use super::norm::Norm;
use super::{Cx, Private};
use crate::bind::Matrix;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, Act};
use crate::team::{Stop, Worker};
use quant::{Activation, Glu};
use std::ops::Range;

/// The hidden half: `h = act(gate(x)) * up(x)` or `act(up(x))`.
pub(crate) struct Hidden {
    gate: Option<Linear>,
    up: Linear,
    act: Act,
}

/// A feed-forward network.
pub(crate) struct Ffn {
    hidden: Hidden,
    down: Linear,
}

/// The gated form of an activation.
fn glu(act: Act) -> Glu {
    match act {
        Act::Silu => Glu::Gated(Activation::Silu),
        Act::GeluTanh => Glu::Gated(Activation::GeluTanh),
        Act::Gelu => Glu::Gated(Activation::GeluErf),
        Act::ClampedSwiglu { alpha, limit } => Glu::SwigluClamped { alpha, limit },
    }
}

/// The plain form of an activation; the clamped SwiGLU exists gated only.
fn plain(act: Act) -> Option<Activation> {
    match glu(act) {
        Glu::Gated(a) => Some(a),
        Glu::SwigluClamped { .. } => None,
    }
}

impl Hidden {
    /// Pairs the matrices; `gate` is present exactly when the network is gated.
    pub(crate) fn new(
        lower: &mut Lower<'_>,
        act: Act,
        gate: Option<Matrix>,
        up: Matrix,
    ) -> Result<Hidden, Error> {
        if gate.is_none() && plain(act).is_none() {
            return Err(Error::TensorKind {
                name: up.name,
                found: up.ty,
                expected: "a gate beside it: this activation is gated",
            });
        }
        let gate = gate.map(|m| lower.linear(m)).transpose()?;
        Ok(Hidden { gate, up: lower.linear(up)?, act })
    }

    /// Everything that reads the input.
    pub(crate) fn users(&self) -> Vec<&Linear> {
        self.gate.iter().chain([&self.up]).collect()
    }

    /// Hidden columns `rows` of one expert for all prepared rows, to h[c * n_ff + r].
    ///
    /// # Safety
    /// The caller owns those columns of `n_cols` rows at `h`.
    pub(crate) unsafe fn run(
        &self,
        cx: &Cx<'_>,
        private: &Private,
        at: (usize, &Range<usize>),
        acts: (&Acts<'_>, usize),
        h: *mut f32,
    ) {
        let (stride, n, n_cols) = (self.up.m.rows, at.1.len(), acts.1);
        // SAFETY: the area that the caller owns; the tile belongs to this worker.
        unsafe {
            let first = h.add(at.1.start);
            let Some(gate) = &self.gate else {
                linear::multiply(cx, private, &self.up, at, acts, first, stride);
                for c in 0..n_cols {
                    let h = std::slice::from_raw_parts_mut(first.add(c * stride), n);
                    plain(self.act).into_iter().for_each(|act| cx.vec.act(act, h));
                }
                return;
            };
            linear::multiply(cx, private, gate, at, acts, first, stride);
            let tile = private.tile.part_mut(0..n_cols * n);
            linear::multiply(cx, private, &self.up, at, acts, tile.as_mut_ptr(), n);
            for (c, up) in tile.chunks_exact(n).enumerate() {
                let h = std::slice::from_raw_parts_mut(first.add(c * stride), n);
                cx.vec.glu(glu(self.act), h, up);
            }
        }
    }
}

impl Ffn {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, f: &spec::Ffn) -> Result<Ffn, Error> {
        let b = lower.binder;
        let (n, n_embd) = (f.n_ff, lower.n_embd);
        let (gate, up) = if f.gated {
            let [gate, up] = b.split(p, "ffn_up", ["ffn_gate", "ffn_up"], [n, n], n_embd)?;
            (Some(gate), up)
        } else {
            (None, b.matrix(&format!("{p}ffn_up"), n, n_embd)?)
        };
        let down = b.matrix(&format!("{p}ffn_down"), n_embd, n)?;
        lower.widths.h = lower.widths.h.max(n);
        Ok(Ffn { hidden: Hidden::new(lower, f.act, gate, up)?, down: lower.linear(down)? })
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut all = self.hidden.users();
        all.push(&self.down);
        all
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        norm: Option<&Norm>,
        layer: usize,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let n_embd = cx.bufs.widths.n_embd;
        let src = Source { norm, layer: Some(layer), ..Source::plain(&cx.bufs.x, n_embd) };
        let acts = linear::prepare(w, cx, &src, &self.hidden.users())?;
        let n_ff = self.hidden.up.m.rows;
        while let Some(rows) = w.claim(n_ff, linear::chunk(w, n_ff)) {
            let private = &cx.bufs.private[w.index()];
            // SAFETY: each claim is a set of columns of its own.
            unsafe {
                let h = cx.bufs.h.as_mut_ptr();
                self.hidden.run(cx, private, (0, &rows), (&acts, cx.n_rows()), h);
            }
        }
        w.barrier()?;
        let acts = linear::prepare(w, cx, &Source::plain(&cx.bufs.h, n_ff), &[&self.down])?;
        linear::project(w, cx, &acts, cx.n_rows(), &[(&self.down, dest)]);
        w.barrier()
    }
}
