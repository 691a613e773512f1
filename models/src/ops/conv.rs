//! Causal convolution over time, and the gated short convolution (LFM2, Liquid AI 2025) that
//! consists of little else: y = C * conv(B * x).
//!
//! The state of a sequence is the last n_taps - 1 inputs, oldest first: [n_taps - 1, channels].

use super::linear::{self, Dest, Linear, Source};
use super::recurrent::Mixer;
use super::{Cx, Rows, by_sequence};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec;
use crate::state::Fixed;
use crate::team::{Stop, Worker};
use quant::{Activation, Vector};
use std::ops::Range;
use std::sync::Arc;

/// Channels a worker takes at a time.
const CHANNELS: usize = 256;

/// One kernel per channel.
pub(crate) struct Causal {
    /// [n_taps, channels]: the last tap weighs the present row.
    kernel: Vec<f32>,
    bias: Option<Arc<[f32]>>,
    n_taps: usize,
    channels: usize,
    /// Index of the state.
    state: usize,
}

impl Causal {
    /// Binds `NAME.weight` [channels, n_taps] and, where the file has it, `NAME.bias`.
    pub(crate) fn bind(
        lower: &mut Lower<'_>,
        name: &str,
        n_taps: usize,
        channels: usize,
    ) -> Result<Causal, Error> {
        let b = lower.binder;
        let full = format!("{name}.weight");
        let (n, taps) = (channels as u64, n_taps as u64);
        // Some converters keep the axis of length one that a grouped convolution has.
        let dims = if b.rank(&full) > 2 { vec![taps, 1, n] } else { vec![taps, n] };
        let stored = b.table(&full, &dims)?;
        let tap = |k: usize| stored[k..].iter().step_by(n_taps).copied();
        let kernel = (0..n_taps).flat_map(tap).collect();
        let bias = b.opt_vector(&format!("{name}.bias"), channels)?;
        let state = lower.fixed((n_taps - 1) * channels);
        Ok(Causal { kernel, bias, n_taps, channels, state })
    }

    /// Parts in which [`Causal::run`] shares out its channels.
    fn n_parts(&self) -> usize {
        self.channels.div_ceil(CHANNELS)
    }

    /// `out = conv(input)` for all rows, up to the barrier; both are [rows, channels], the input from
    /// its column `first` on. `before(row, channels)` makes a row's input, `after(row, channels, y)`
    /// finishes its result.
    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        (input, first): (Rows<'_>, usize),
        out: Rows<'_>,
        before: impl Fn(u32, &Range<usize>),
        after: impl Fn(u32, &Range<usize>, &mut [f32]),
    ) -> Result<(), Stop> {
        by_sequence(w, cx, self.n_parts(), |segment, rows, part| {
            let channels = part * CHANNELS..self.channels.min((part + 1) * CHANNELS);
            let from = first + channels.start..first + channels.end;
            rows.iter().for_each(|&row| before(row, &channels));
            // SAFETY: the input's channels are this worker's alone, and finished.
            let x = |i: usize| unsafe { input.get(rows[i], from.clone()) };
            let state = cx.state.fixed(self.state, segment.seq);
            for (i, &row) in rows.iter().enumerate() {
                // SAFETY: this worker alone has these channels.
                let y = unsafe { out.get_mut(row, channels.clone()) };
                self.row(cx.vec, i, &channels, x, &state, y);
                after(row, &channels, y);
            }
            // SAFETY: this worker alone has these channels of the state.
            unsafe { self.remember(rows.len(), &channels, x, &state) };
        });
        w.barrier()
    }

    /// [`Causal::run`] with SiLU behind it.
    pub(crate) fn run_silu(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        input: (Rows<'_>, usize),
        out: Rows<'_>,
    ) -> Result<(), Stop> {
        self.run(w, cx, input, out, |_, _| (), |_, _, y| cx.vec.act(Activation::Silu, y))
    }

    /// `input(i)` has the channels of row i; row `i` of the result goes to `y`.
    fn row<'a>(
        &self,
        vec: Vector,
        i: usize,
        channels: &Range<usize>,
        input: impl Fn(usize) -> &'a [f32],
        state: &Fixed<'_>,
        y: &mut [f32],
    ) {
        match &self.bias {
            Some(bias) => y.copy_from_slice(&bias[channels.clone()]),
            None => y.fill(0.0),
        }
        let past = self.n_taps - 1;
        for k in 0..self.n_taps {
            let taps = &self.kernel[k * self.channels..][channels.clone()];
            if i + k >= past {
                vec.mul_add(y, taps, input(i + k - past));
            } else if let Some(x) = state.before(self.at(i + k, channels)) {
                vec.mul_add(y, taps, x);
            }
        }
    }

    /// Floats of the state that hold `channels` of its row `row`.
    fn at(&self, row: usize, channels: &Range<usize>) -> Range<usize> {
        row * self.channels + channels.start..row * self.channels + channels.end
    }

    /// Leaves the last inputs behind after `n` rows.
    ///
    /// # Safety
    /// Nobody else touches these channels of the state.
    unsafe fn remember<'a>(
        &self,
        n: usize,
        channels: &Range<usize>,
        input: impl Fn(usize) -> &'a [f32],
        state: &Fixed<'_>,
    ) {
        let past = self.n_taps - 1;
        for row in 0..past {
            // SAFETY: the caller has the channels.
            let new = unsafe { state.after(self.at(row, channels)) };
            if n + row >= past {
                new.copy_from_slice(input(n + row - past));
            } else {
                match state.before(self.at(n + row, channels)) {
                    Some(old) => new.copy_from_slice(old),
                    None => new.fill(0.0),
                }
            }
        }
    }
}

pub(crate) struct ShortConv {
    in_proj: Linear,
    out_proj: Linear,
    conv: Causal,
    n_embd: usize,
}

impl ShortConv {
    pub(crate) fn bind(
        lower: &mut Lower<'_>,
        p: &str,
        c: &spec::ShortConv,
    ) -> Result<ShortConv, Error> {
        let (b, n) = (lower.binder, lower.n_embd);
        let in_proj = b.matrix(&format!("{p}shortconv.in_proj"), 3 * n, n)?;
        let out_proj = b.matrix(&format!("{p}shortconv.out_proj"), n, n)?;
        let conv = Causal::bind(lower, &format!("{p}shortconv.conv"), c.n_taps, n)?;
        lower.mix(&[3 * n, n]);
        let (in_proj, out_proj) = (lower.linear(in_proj)?, lower.linear(out_proj)?);
        Ok(ShortConv { in_proj, out_proj, conv, n_embd: n })
    }
}

impl Mixer for ShortConv {
    fn linears(&self) -> Vec<&Linear> {
        vec![&self.in_proj, &self.out_proj]
    }

    fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let n = self.n_embd;
        let [bcx, y, ..] = &cx.bufs.mix;
        linear::apply(w, cx, src, [(&self.in_proj, Dest::Set(bcx, 3 * n))])?;
        let (bcx, out) = (Rows { buffer: bcx, stride: 3 * n }, Rows { buffer: y, stride: n });
        let shift = |c: &Range<usize>, by: usize| c.start + by * n..c.end + by * n;
        let before = |row: u32, c: &Range<usize>| {
            // SAFETY: the worker has these channels of B and x.
            unsafe { cx.vec.mul(bcx.get_mut(row, shift(c, 2)), bcx.get(row, c.clone())) };
        };
        let after = |row: u32, c: &Range<usize>, y: &mut [f32]| {
            // SAFETY: C is only read.
            cx.vec.mul(y, unsafe { bcx.get(row, shift(c, 1)) });
        };
        self.conv.run(w, cx, (bcx, 2 * n), out, before, after)?;
        linear::apply(w, cx, &Source::plain(y, n), [(&self.out_proj, dest)])
    }
}
