//! State space with one decay per head (Mamba 2, Dao and Gu 2024).
//!
//! Phases: prepare · in · convolve · recur · norm · prepare · out. The state of a sequence is the
//! convolution's, and S: [n_inner, n_state].

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
use std::sync::Arc;

pub(crate) struct Mamba2 {
    spec: spec::Mamba2,
    in_proj: Linear,
    conv: Causal,
    heads: Heads,
    /// [n_group, n_inner / n_group].
    norm: Option<Arc<[f32]>>,
    out_proj: Linear,
    state: usize,
}

/// What each head has of its own, [n_head].
struct Heads {
    a: Arc<[f32]>,
    d: Arc<[f32]>,
    dt_bias: Arc<[f32]>,
}

/// One head of one row.
struct Step<'a> {
    /// Before bias and softplus.
    dt: f32,
    /// [n_inner / n_head].
    x: &'a [f32],
    /// [n_state].
    b: &'a [f32],
    /// [n_state].
    c: &'a [f32],
}

impl Heads {
    /// One step of head `h`; `scratch` has n_state floats and one per row of the state.
    fn step(
        &self,
        vec: Vector,
        h: usize,
        s: &Step<'_>,
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (decay, scratch) = scratch.split_at_mut(s.b.len());
        let values = &mut scratch[..s.x.len()];
        let dt = softplus(s.dt + self.dt_bias[h]);
        decay.fill((dt * self.a[h]).exp());
        values.copy_from_slice(s.x);
        vec.scale(values, dt);
        let step = Recur { decay, erase: None, key: s.b, query: s.c, read: Read::After };
        vec.recur(state, step, values, y);
        vec.add_scaled(y, self.d[h], s.x);
    }
}

impl Mamba2 {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, m: &spec::Mamba2) -> Result<Mamba2, Error> {
        let (b, n_embd) = (lower.binder, lower.n_embd);
        let channels = m.n_inner + 2 * m.n_group * m.n_state;
        let rows = m.n_inner + channels + m.n_head;
        let in_proj = b.matrix(&format!("{p}ssm_in"), rows, n_embd)?;
        let out_proj = b.matrix(&format!("{p}ssm_out"), n_embd, m.n_inner)?;
        let heads = Heads {
            a: b.values(&format!("{p}ssm_a"), m.n_head)?,
            d: b.values(&format!("{p}ssm_d"), m.n_head)?,
            dt_bias: b.vector(&format!("{p}ssm_dt.bias"), m.n_head)?,
        };
        let norm = match m.norm_eps {
            None => None,
            Some(_) => {
                let (width, groups) = (m.n_inner / m.n_group, m.n_group);
                let name = format!("{p}ssm_norm.weight");
                Some(b.table(&name, &[width as u64, groups as u64])?)
            }
        };
        let conv = Causal::bind(lower, &format!("{p}ssm_conv1d"), m.n_taps, channels)?;
        let state = lower.fixed(m.n_inner * m.n_state);
        lower.mix(&[rows, channels, m.n_inner]);
        lower.widths.attend = lower.widths.attend.max(m.n_state + 2 * (m.n_inner / m.n_head));
        let (in_proj, out_proj) = (lower.linear(in_proj)?, lower.linear(out_proj)?);
        Ok(Mamba2 { spec: m.clone(), in_proj, conv, heads, norm, out_proj, state })
    }

    /// All rows of one sequence through one head, gated by silu(z).
    fn recur(
        &self,
        vec: Vector,
        private: &Private,
        rows: &[u32],
        head: usize,
        state: &Fixed<'_>,
        [projected, convolved, out]: [Rows<'_>; 3],
    ) {
        let m = &self.spec;
        let (n, width) = (m.n_state, m.n_inner / m.n_head);
        let channels = head * width..(head + 1) * width;
        let b = m.n_inner + head / (m.n_head / m.n_group) * n;
        let c = b + m.n_group * n;
        let dt = m.n_inner + convolved.stride + head;
        // SAFETY: the head is claimed: nobody else has its state.
        let state = unsafe { state.carry(channels.start * n..channels.end * n) };
        // SAFETY: the scratch belongs to this worker.
        let scratch = unsafe { private.attend.part_mut(0..n + 2 * width) };
        let (y, scratch) = scratch.split_at_mut(width);
        for &row in rows {
            // SAFETY: finished in the phases before, and only read here.
            let step = unsafe {
                Step {
                    dt: projected.get(row, dt..dt + 1)[0],
                    x: convolved.get(row, channels.clone()),
                    b: convolved.get(row, b..b + n),
                    c: convolved.get(row, c..c + n),
                }
            };
            self.heads.step(vec, head, &step, state, y, scratch);
            // SAFETY: z is only read; nobody else writes the head's channels.
            unsafe {
                let gated = out.get_mut(row, channels.clone());
                gated.copy_from_slice(projected.get(row, channels.clone()));
                vec.glu(Glu::Gated(Activation::Silu), gated, y);
            }
        }
    }
}

impl Mixer for Mamba2 {
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
        let n_inner = self.spec.n_inner;
        let [zxbcdt, xbc, y, ..] = &cx.bufs.mix;
        let n_in = self.in_proj.m.rows;
        linear::apply(w, cx, src, [(&self.in_proj, Dest::Set(zxbcdt, n_in))])?;
        let projected = Rows { buffer: zxbcdt, stride: n_in };
        let channels = n_in - n_inner - self.spec.n_head;
        let convolved = Rows { buffer: xbc, stride: channels };
        self.conv.run_silu(w, cx, (projected, n_inner), convolved)?;
        let out = Rows { buffer: y, stride: n_inner };
        by_sequence(w, cx, self.spec.n_head, |segment, rows, head| {
            let state = cx.state.fixed(self.state, segment.seq);
            let private = &cx.bufs.private[w.index()];
            self.recur(cx.vec, private, rows, head, &state, [projected, convolved, out]);
        });
        w.barrier()?;
        if let Some((weight, eps)) = self.norm.as_ref().zip(self.spec.norm_eps) {
            let (groups, width) = (self.spec.n_group, n_inner / self.spec.n_group);
            while let Some(items) = w.claim(cx.n_rows() * groups, groups) {
                for item in items {
                    let part = item % groups * width..(item % groups + 1) * width;
                    // SAFETY: (row, group) pairs are claimed.
                    let y = unsafe { out.get_mut((item / groups) as u32, part.clone()) };
                    cx.vec.rms_norm_in_place(y, Some(&weight[part]), eps);
                }
            }
            w.barrier()?;
        }
        linear::apply(w, cx, &Source::plain(y, n_inner), [(&self.out_proj, dest)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Random, close};

    #[test]
    fn steps_follow_the_formula() {
        let (width, n, n_head) = (6, 20, 3);
        let mut random = Random::new(2);
        let heads = Heads {
            a: random.floats(n_head, -1.0, -0.1).into(),
            d: random.floats(n_head, -1.0, 1.0).into(),
            dt_bias: random.floats(n_head, -2.0, 2.0).into(),
        };
        let h = 1;
        let (mut state, mut wide) = (vec![0.0f32; width * n], vec![0.0f64; width * n]);
        for _ in 0..12 {
            let [x, b, c] = [width, n, n].map(|n| random.floats(n, -1.0, 1.0));
            let dt = random.floats(1, -2.0, 2.0)[0];
            let (mut y, mut scratch) = (vec![0.0; width], vec![0.0; n + width]);
            let step = Step { dt, x: &x, b: &b, c: &c };
            let vec = Vector::new(quant::Isa::detect());
            heads.step(vec, h, &step, &mut state, &mut y, &mut scratch);
            let f = |x: f32| f64::from(x);
            let dt = (f(dt) + f(heads.dt_bias[h])).exp().ln_1p();
            let want: Vec<f64> = (0..width)
                .map(|i| {
                    let s = &mut wide[i * n..(i + 1) * n];
                    for j in 0..n {
                        s[j] = s[j] * (dt * f(heads.a[h])).exp() + dt * f(x[i]) * f(b[j]);
                    }
                    let read: f64 = s.iter().zip(&c).map(|(s, &c)| s * f(c)).sum();
                    read + f(heads.d[h]) * f(x[i])
                })
                .collect();
            close(&y, &want);
        }
    }
}
