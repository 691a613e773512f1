//! Selective state space (Mamba, Gu and Dao 2023; PLaMo 2 with its state shared by heads).
//!
//! Phases: prepare · in · convolve · prepare · dt, B, C · norm · prepare · dt · recur · prepare ·
//! out. The state of a sequence is the convolution's, and s: [n_inner, n_state].

use super::conv::Causal;
use super::linear::{self, Dest, Linear, Source};
use super::recurrent::Mixer;
use super::{Cx, Private, Rows, by_sequence, softplus};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec;
use crate::state::Fixed;
use crate::team::{Stop, Worker};
use quant::{Activation, Glu, Read, Recur, Vector};
use std::ops::Range;
use std::sync::Arc;

/// Channels of a recurrence that a worker takes at a time, where heads do not say.
const CHANNELS: usize = 64;

pub(crate) struct Mamba {
    spec: spec::Mamba,
    in_proj: Linear,
    conv: Causal,
    x_proj: Linear,
    /// Weights of the norms of dt, B and C.
    norms: [Option<Arc<[f32]>>; 3],
    dt_proj: Linear,
    channels: Channels,
    out_proj: Linear,
    state: usize,
}

/// What channels (or heads of them) have of their own.
struct Channels {
    /// [n_inner, n_state], or [n_head].
    a: Arc<[f32]>,
    /// [n_inner], or [n_head].
    d: Arc<[f32]>,
    /// Channels that share an entry: 1, or a head's.
    shared: usize,
}

/// Some channels of one row; dt before softplus.
struct Step<'a> {
    dt: &'a [f32],
    x: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
}

impl Channels {
    /// Floats of scratch for `n` channels of `n_state`.
    fn scratch(n: usize, n_state: usize) -> usize {
        n * n_state + 3 * n
    }

    /// One step of `channels`: dt has one value a channel, or one for all where they share.
    fn step(
        &self,
        vec: Vector,
        channels: &Range<usize>,
        s: &Step<'_>,
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (n, n_state) = (channels.len(), s.b.len());
        let (values, rest) = scratch.split_at_mut(n);
        let (d, decay) = rest.split_at_mut(n);
        values.copy_from_slice(s.x);
        let decay = if self.shared > 1 {
            let head = channels.start / self.shared;
            let dt = softplus(s.dt[0]);
            vec.scale(values, dt);
            d.fill(self.d[head]);
            decay[..n_state].fill((dt * self.a[head]).exp());
            &decay[..n_state]
        } else {
            let decay = &mut decay[..n * n_state];
            decay.copy_from_slice(&self.a[channels.start * n_state..channels.end * n_state]);
            for ((decay, value), &dt) in decay.chunks_exact_mut(n_state).zip(&mut *values).zip(s.dt)
            {
                let dt = softplus(dt);
                *value *= dt;
                decay.iter_mut().for_each(|a| *a *= dt);
            }
            vec.exp(decay);
            d.copy_from_slice(&self.d[channels.clone()]);
            decay
        };
        let step = Recur { decay, erase: None, key: s.b, query: s.c, read: Read::After };
        vec.recur(state, step, values, y);
        vec.mul_add(y, d, s.x);
    }
}

impl Mamba {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, m: &spec::Mamba) -> Result<Mamba, Error> {
        let (b, n_embd) = (lower.binder, lower.n_embd);
        let (n_inner, n_state, n_rank) = (m.n_inner, m.n_state, m.n_rank);
        let n_dt = m.n_head.unwrap_or(n_inner);
        let in_proj = b.matrix(&format!("{p}ssm_in"), 2 * n_inner, n_embd)?;
        let x_proj = b.matrix(&format!("{p}ssm_x"), n_rank + 2 * n_state, n_inner)?;
        let dt_proj = b.matrix(&format!("{p}ssm_dt"), n_dt, n_rank)?;
        let out_proj = b.matrix(&format!("{p}ssm_out"), n_embd, n_inner)?;
        let a = format!("{p}ssm_a");
        let channels = Channels {
            a: match m.n_head {
                Some(n) => b.values(&a, n)?,
                None => b.table(&a, &[n_state as u64, n_inner as u64])?,
            },
            d: b.values(&format!("{p}ssm_d"), n_dt)?,
            shared: n_inner / n_dt,
        };
        let weights = m.norm.as_ref().is_some_and(|n| n.weights);
        let norm = |name: &str, n: usize| match weights {
            true => b.weight(&format!("{p}{name}"), n).map(Some),
            false => Ok(None),
        };
        let norms = [
            norm("ssm_dt_norm", n_rank)?,
            norm("ssm_b_norm", n_state)?,
            norm("ssm_c_norm", n_state)?,
        ];
        let conv = Causal::bind(lower, &format!("{p}ssm_conv1d"), m.n_taps, n_inner)?;
        let state = lower.fixed(n_inner * n_state);
        lower.mix(&[2 * n_inner, n_inner, n_rank + 2 * n_state, n_dt, n_inner]);
        let block = m.n_head.map_or(CHANNELS, |n| n_inner / n);
        let scratch = Channels::scratch(block, n_state);
        lower.widths.attend = lower.widths.attend.max(scratch);
        let spec = m.clone();
        let (in_proj, x_proj) = (lower.linear(in_proj)?, lower.linear(x_proj)?);
        let (dt_proj, out_proj) = (lower.linear(dt_proj)?, lower.linear(out_proj)?);
        Ok(Mamba { spec, in_proj, conv, x_proj, norms, dt_proj, channels, out_proj, state })
    }

    /// Columns of dt, B and C in their projection.
    fn dt_b_c(&self) -> [Range<usize>; 3] {
        let (n, rank) = (self.spec.n_state, self.spec.n_rank);
        match self.spec.n_head {
            None => [0..rank, rank..rank + n, rank + n..rank + 2 * n],
            Some(_) => [2 * n..2 * n + rank, 0..n, n..2 * n],
        }
    }

    /// Channels that a worker takes at a time.
    fn block(&self) -> usize {
        self.spec.n_head.map_or(CHANNELS, |n| self.spec.n_inner / n)
    }

    /// Columns of x and z of some channels of one block in the first projection.
    fn x_and_z(&self, channels: &Range<usize>) -> [Range<usize>; 2] {
        let shift = |by: usize| channels.start + by..channels.end + by;
        match self.spec.n_head {
            None => [shift(0), shift(self.spec.n_inner)],
            // Head by head: a head's z, then its x.
            Some(_) => {
                let before = channels.start / self.block() * self.block();
                [shift(before + self.block()), shift(before)]
            }
        }
    }

    /// The convolution of x, in one piece where x lies in one piece.
    fn convolve(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        projected: Rows<'_>,
        out: Rows<'_>,
    ) -> Result<(), Stop> {
        if self.spec.n_head.is_none() {
            return self.conv.run_silu(w, cx, (projected, 0), out);
        }
        let gathered = Rows { buffer: &cx.bufs.mix[4], stride: self.spec.n_inner };
        let before = |row: u32, channels: &Range<usize>| {
            let block = self.block();
            let mut at = channels.start;
            while at < channels.end {
                let end = channels.end.min((at / block + 1) * block);
                let [x, _] = self.x_and_z(&(at..end));
                // SAFETY: the worker has these channels; the projection is only read.
                unsafe { gathered.get_mut(row, at..end).copy_from_slice(projected.get(row, x)) };
                at = end;
            }
        };
        let after = |_: u32, _: &Range<usize>, y: &mut [f32]| cx.vec.act(Activation::Silu, y);
        self.conv.run(w, cx, (gathered, 0), out, before, after)
    }

    /// The norms of dt, B and C, where there are any.
    fn normalise(&self, w: &Worker<'_>, cx: &Cx<'_>, low: Rows<'_>) -> Result<(), Stop> {
        let Some(norm) = &self.spec.norm else { return Ok(()) };
        while let Some(rows) = w.claim(cx.n_rows(), 4) {
            for row in rows {
                for (columns, weight) in self.dt_b_c().into_iter().zip(&self.norms) {
                    // SAFETY: rows are claimed.
                    let x = unsafe { low.get_mut(row as u32, columns) };
                    cx.vec.rms_norm_in_place(x, weight.as_deref(), norm.eps);
                }
            }
        }
        w.barrier()
    }

    /// All rows of one sequence through some channels, gated by silu(z).
    fn recur(
        &self,
        vec: Vector,
        private: &Private,
        rows: &[u32],
        channels: &Range<usize>,
        state: &Fixed<'_>,
        [projected, convolved, low, steps, out]: [Rows<'_>; 5],
    ) {
        let n = self.spec.n_state;
        let [_, b, c] = self.dt_b_c();
        let [_, z] = self.x_and_z(channels);
        let shared = self.channels.shared;
        let dt = channels.start / shared..channels.end.div_ceil(shared);
        // SAFETY: the channels are claimed: nobody else has their state.
        let state = unsafe { state.carry(channels.start * n..channels.end * n) };
        // SAFETY: the scratch belongs to this worker.
        let scratch = unsafe { private.attend.part_mut(0..Channels::scratch(channels.len(), n)) };
        let (y, scratch) = scratch.split_at_mut(channels.len());
        for &row in rows {
            // SAFETY: finished in the phases before, and only read here.
            let step = unsafe {
                Step {
                    dt: steps.get(row, dt.clone()),
                    x: convolved.get(row, channels.clone()),
                    b: low.get(row, b.clone()),
                    c: low.get(row, c.clone()),
                }
            };
            self.channels.step(vec, channels, &step, state, y, scratch);
            // SAFETY: z is only read; nobody else writes these channels.
            unsafe {
                let gated = out.get_mut(row, channels.clone());
                gated.copy_from_slice(projected.get(row, z.clone()));
                vec.glu(Glu::Gated(Activation::Silu), gated, y);
            }
        }
    }
}

impl Mixer for Mamba {
    fn linears(&self) -> Vec<&Linear> {
        vec![&self.in_proj, &self.x_proj, &self.dt_proj, &self.out_proj]
    }

    fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let n_inner = self.spec.n_inner;
        let [xz, x, dbc, dt, y, ..] = &cx.bufs.mix;
        let (n_dbc, n_dt) = (self.x_proj.m.rows, self.dt_proj.m.rows);
        linear::apply(w, cx, src, [(&self.in_proj, Dest::Set(xz, 2 * n_inner))])?;
        let projected = Rows { buffer: xz, stride: 2 * n_inner };
        let convolved = Rows { buffer: x, stride: n_inner };
        self.convolve(w, cx, projected, convolved)?;
        let src = Source::plain(x, n_inner);
        linear::apply(w, cx, &src, [(&self.x_proj, Dest::Set(dbc, n_dbc))])?;
        let low = Rows { buffer: dbc, stride: n_dbc };
        self.normalise(w, cx, low)?;
        let [dt_columns, ..] = self.dt_b_c();
        let src = Source::columns(dbc, n_dbc, dt_columns);
        linear::apply(w, cx, &src, [(&self.dt_proj, Dest::Set(dt, n_dt))])?;
        let steps = Rows { buffer: dt, stride: n_dt };
        let out = Rows { buffer: y, stride: n_inner };
        let block = self.block();
        by_sequence(w, cx, n_inner.div_ceil(block), |segment, rows, part| {
            let channels = part * block..n_inner.min((part + 1) * block);
            let state = cx.state.fixed(self.state, segment.seq);
            let private = &cx.bufs.private[w.index()];
            let at = [projected, convolved, low, steps, out];
            self.recur(cx.vec, private, rows, &channels, &state, at);
        });
        w.barrier()?;
        linear::apply(w, cx, &Source::plain(y, n_inner), [(&self.out_proj, dest)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Random, close};

    /// Ten steps of channels 4..8 of eight with six state elements, against f64.
    fn follows_the_formula(shared: usize) {
        let (range, n) = (4..8, 6);
        let mut random = Random::new(3);
        let entries = if shared > 1 { 8 / shared } else { 8 * n };
        let channels = Channels {
            a: random.floats(entries, -1.0, -0.1).into(),
            d: random.floats(8 / shared, -1.0, 1.0).into(),
            shared,
        };
        let (mut state, mut wide) = (vec![0.0f32; 4 * n], vec![0.0f64; 4 * n]);
        for _ in 0..10 {
            let [x, b, c] = [4, n, n].map(|n| random.floats(n, -1.0, 1.0));
            let dt = random.floats(4 / shared, -2.0, 2.0);
            let step = Step { dt: &dt, x: &x, b: &b, c: &c };
            let (mut y, mut scratch) = (vec![0.0; 4], vec![0.0; Channels::scratch(4, n) - 4]);
            let vec = Vector::new(quant::Isa::detect());
            channels.step(vec, &range, &step, &mut state, &mut y, &mut scratch);
            let f = |x: f32| f64::from(x);
            let want: Vec<f64> = (0..4)
                .map(|i| {
                    let dt = f(dt[i / shared]).exp().ln_1p();
                    let s = &mut wide[i * n..(i + 1) * n];
                    for j in 0..n {
                        let a = if shared > 1 { (4 + i) / shared } else { (4 + i) * n + j };
                        s[j] = s[j] * (dt * f(channels.a[a])).exp() + dt * f(x[i]) * f(b[j]);
                    }
                    let read: f64 = s.iter().zip(&c).map(|(s, &c)| s * f(c)).sum();
                    read + f(channels.d[(4 + i) / shared]) * f(x[i])
                })
                .collect();
            close(&y, &want);
        }
    }

    #[test]
    fn channels_of_their_own_follow_the_formula() {
        follows_the_formula(1);
    }

    #[test]
    fn channels_that_share_a_head_follow_the_formula() {
        follows_the_formula(4);
    }
}
