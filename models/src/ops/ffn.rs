//! Feed-forward networks: two phases, hidden rows and output rows.

use super::linear::{self, Acts, Cut, Dest, Linear, Source};
use super::norm::Norm;
use super::{Cx, Private};
use crate::bind::Matrix;
use crate::error::Error;
use crate::plan::Lower;
use crate::profile::Phase;
use crate::spec::{self, Act};
use crate::team::{Stop, Worker};
use quant::{Activation, Glu, Vector};
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
    sub_norm: Option<Norm>,
    sparsity: Option<f32>,
}

/// Tensor base names of a network.
pub(crate) struct Names {
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
}

/// The names of a layer's own network.
pub(crate) const DENSE: Names = Names { gate: "ffn_gate", up: "ffn_up", down: "ffn_down" };

/// The gated form of an activation.
fn glu(act: Act) -> Glu {
    match act {
        Act::Silu => Glu::Gated(Activation::Silu),
        Act::GeluTanh => Glu::Gated(Activation::GeluTanh),
        Act::Gelu => Glu::Gated(Activation::GeluErf),
        Act::Relu => Glu::Gated(Activation::Relu),
        Act::Relu2 => Glu::Gated(Activation::Relu2),
        Act::Xielu { alpha_p, alpha_n, beta, eps } => {
            Glu::Gated(Activation::Xielu { alpha_p, alpha_n, beta, eps })
        }
        Act::ClampedSwiglu { alpha, limit } => Glu::SwigluClamped { alpha, limit },
    }
}

/// gate = act(gate) * up.
pub(crate) fn activate(vec: Vector, act: Act, gate: &mut [f32], up: &[f32]) {
    vec.glu(glu(act), gate, up);
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

    /// Everything that reads the input: up, and before it gate where there is one.
    pub(crate) fn users(&self) -> [&Linear; 2] {
        [self.gate.as_ref().unwrap_or(&self.up), &self.up]
    }

    /// Every matrix once, for listings.
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.gate.iter().chain([&self.up])
    }

    /// Width of the hidden rows.
    pub(crate) fn n_ff(&self) -> usize {
        self.up.m.rows
    }

    /// The hidden rows of all prepared rows, to the buffer of hidden rows; a phase without a
    /// barrier.
    fn run_all(&self, w: &Worker<'_>, cx: &Cx<'_>, acts: &Acts<'_>) {
        let (n_ff, private) = (self.n_ff(), &cx.bufs.private[w.index()]);
        let cut = Cut::new(w, cx.n_rows(), n_ff);
        while let Some(claim) = w.claim(cut.items(n_ff), 1) {
            let (columns, rows) = cut.item(claim.start, n_ff);
            // SAFETY: each claim is a set of rows and columns of the result of its own.
            unsafe {
                let h = cx.bufs.h.as_mut_ptr().add(columns.start * n_ff);
                let acts = (&acts.part(columns.clone()), columns.len());
                self.run(cx, private, (0, &rows), acts, h);
            }
        }
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
    pub(crate) fn bind(
        lower: &mut Lower<'_>,
        p: &str,
        f: &spec::Ffn,
        names: &Names,
    ) -> Result<Ffn, Error> {
        let b = lower.binder;
        let (n, n_embd) = (f.n_ff, lower.n_embd);
        let (gate, up) = if f.gated {
            let [gate, up] = b.split(p, names.up, [names.gate, names.up], [n, n], n_embd)?;
            (Some(gate), up)
        } else {
            (None, b.matrix(&format!("{p}{}", names.up), n, n_embd)?)
        };
        let down = b.matrix(&format!("{p}{}", names.down), n_embd, n)?;
        let sub_norm = f.sub_norm.as_ref().map(|norm| Norm::bind(b, p, norm, n)).transpose()?;
        lower.widths.h = lower.widths.h.max(n);
        if f.sparsity.is_some() {
            lower.widths.o = lower.widths.o.max(n);
        }
        let hidden = Hidden::new(lower, f.act, gate, up)?;
        Ok(Ffn { hidden, down: lower.linear(down)?, sub_norm, sparsity: f.sparsity })
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        self.hidden.linears().chain([&self.down]).collect()
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let acts = linear::prepare(w, cx, src, &self.hidden.users())?;
        match self.sparsity {
            Some(deviations) => self.sparse_hidden(w, cx, &acts, deviations)?,
            None => self.hidden.run_all(w, cx, &acts),
        }
        w.barrier()?;
        w.enter(Phase::Down);
        let src = Source {
            norm: self.sub_norm.as_ref(),
            ..Source::plain(&cx.bufs.h, self.hidden.n_ff())
        };
        let acts = linear::prepare(w, cx, &src, &[&self.down])?;
        linear::project(w, cx, &acts, cx.n_rows(), &[(&self.down, dest)]);
        w.barrier()
    }

    /// The hidden rows of a gate of which only the values far above its mean count.
    fn sparse_hidden(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        acts: &Acts<'_>,
        deviations: f32,
    ) -> Result<(), Stop> {
        let (b, n) = (cx.bufs, self.hidden.n_ff());
        let [gate, up] = self.hidden.users();
        let jobs = [(gate, Dest::Set(&b.h, n)), (up, Dest::Set(&b.o, n))];
        linear::project(w, cx, acts, cx.n_rows(), &jobs);
        w.barrier()?;
        while let Some(range) = w.claim(cx.n_rows(), 1) {
            for row in range {
                let part = row * n..(row + 1) * n;
                // SAFETY: rows are claimed, both were finished in the phase before.
                let (h, up) = unsafe { (b.h.part_mut(part.clone()), b.o.part(part)) };
                let mean = f64::from(cx.vec.sum(h)) / n as f64;
                let square = |x: &f32| (f64::from(*x) - mean).powi(2);
                let deviation = (h.iter().map(square).sum::<f64>() / n as f64).sqrt();
                let bound = (mean + f64::from(deviations) * deviation) as f32;
                h.iter_mut().for_each(|x| *x = (*x - bound).max(0.0));
                activate(cx.vec, self.hidden.act, h, up);
            }
        }
        Ok(())
    }
}
