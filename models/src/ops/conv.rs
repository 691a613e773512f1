//! Gated short convolution (LFM2, Liquid AI 2025): y = C * conv(B * x).
//!
//! The state of a sequence is the last n_taps - 1 products B * x of each channel, oldest first:
//! [n_embd, n_taps - 1].

use super::Cx;
use super::linear::{self, Dest, Linear, Source};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec;
use crate::team::{Stop, Worker};
use std::ops::Range;
use std::sync::Arc;

/// Channels a worker takes at a time.
const CHANNELS: usize = 64;

pub(crate) struct ShortConv {
    in_proj: Linear,
    out_proj: Linear,
    /// [n_embd, n_taps]; tap k weighs the product n_taps - 1 - k rows back.
    kernel: Arc<[f32]>,
    n_taps: usize,
    n_embd: usize,
    state: usize,
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
        let name = format!("{p}shortconv.conv.weight");
        let dims = [c.n_taps as u64, n as u64];
        let kernel = b
            .floats(&name, &dims)?
            .ok_or(Error::MissingTensor { name, expected: format!("{}, {n}", c.n_taps) })?;
        let state = lower.layout.fixed.len();
        lower.layout.fixed.push((c.n_taps - 1) * n);
        lower.widths.h = lower.widths.h.max(3 * n);
        lower.widths.o = lower.widths.o.max(n);
        let (in_proj, out_proj) = (lower.linear(in_proj)?, lower.linear(out_proj)?);
        Ok(ShortConv { in_proj, out_proj, kernel, n_taps: c.n_taps, n_embd: n, state })
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        vec![&self.in_proj, &self.out_proj]
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let n = self.n_embd;
        let acts = linear::prepare(w, cx, src, &[&self.in_proj])?;
        let bcx = Dest::Set(&cx.bufs.h, 3 * n);
        linear::project(w, cx, &acts, cx.n_rows(), &[(&self.in_proj, bcx)]);
        w.barrier()?;
        while let Some(channels) = w.claim(n, CHANNELS) {
            for segment in &cx.batch.segments {
                self.convolve(cx, segment.seq, &cx.batch.order[segment.rows.clone()], &channels);
            }
        }
        w.barrier()?;
        let acts = linear::prepare(w, cx, &Source::plain(&cx.bufs.o, n), &[&self.out_proj])?;
        linear::project(w, cx, &acts, cx.n_rows(), &[(&self.out_proj, dest)]);
        w.barrier()
    }

    /// One sequence's rows in order, for some channels; leaves the state after the last row.
    fn convolve(&self, cx: &Cx<'_>, seq: usize, rows: &[u32], channels: &Range<usize>) {
        let (n, past) = (self.n_embd, self.n_taps - 1);
        let (state, at) = cx.state.fixed(self.state, seq);
        // SAFETY: channels are claimed: this worker alone touches their state.
        let state = unsafe { state.part_mut(at + channels.start * past..at + channels.end * past) };
        for &row in rows {
            let row = row as usize;
            // SAFETY: the projections were written in the phase before and are only read here.
            let bcx = unsafe { cx.bufs.h.part(3 * n * row..3 * n * (row + 1)) };
            // SAFETY: this worker alone writes these channels.
            let out =
                unsafe { cx.bufs.o.part_mut(row * n + channels.start..row * n + channels.end) };
            let history = state.chunks_exact_mut(past);
            for ((ch, history), out) in channels.clone().zip(history).zip(out) {
                let (b, c, x) = (bcx[ch], bcx[n + ch], bcx[2 * n + ch]);
                let taps = &self.kernel[ch * self.n_taps..(ch + 1) * self.n_taps];
                let old: f32 = history.iter().zip(taps).map(|(h, t)| h * t).sum();
                *out = c * (old + taps[past] * (b * x));
                history.rotate_left(1);
                history[past - 1] = b * x;
            }
        }
    }
}
