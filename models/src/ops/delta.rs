//! The gated delta rule (Yang et al. 2024, arXiv 2412.06464): with one decay per head, and with one
//! per key channel (Kimi team 2025, arXiv 2510.26692).
//!
//! Phases: prepare · projections · convolve · recur, norm and gate · prepare · out. The state of a
//! sequence is the convolutions', and S: [n_head_v, head_dim_v, head_dim_k].

use super::conv::Causal;
use super::linear::{self, Dest, Linear, Source, job};
use super::recurrent::Mixer;
use super::{Cx, Rows, by_sequence, sigmoid, softplus};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, HeadOrder};
use crate::team::{Stop, Worker};
use quant::{Activation, Glu, Read, Recur, Vector};
use std::sync::Arc;

/// Added to the squared length of queries and keys, as in the reference implementations; no key
/// holds it.
const LENGTH_EPS: f32 = 1e-6;

/// One head of one row.
struct Step<'a> {
    /// Of any length.
    q: &'a [f32],
    /// Of any length.
    k: &'a [f32],
    v: &'a [f32],
    /// Logarithm of the decay: one, or one per key channel.
    log_decay: &'a [f32],
    beta: f32,
}

/// Floats of scratch for [`step`].
fn scratch_len(head_dim_k: usize, head_dim_v: usize) -> usize {
    5 * head_dim_k + head_dim_v
}

/// `S = S g`, `S += beta (v - S k) k^T`, `y = S q / sqrt(d)`, as one pass over the rows of S: what
/// is taken off a row is `beta (s . (g k))` times k.
fn step(vec: Vector, s: &Step<'_>, state: &mut [f32], y: &mut [f32], scratch: &mut [f32]) {
    let n = s.k.len();
    let (q, rest) = scratch.split_at_mut(n);
    let (k, rest) = rest.split_at_mut(n);
    let (decay, rest) = rest.split_at_mut(n);
    let (read, rest) = rest.split_at_mut(n);
    let (along, rest) = rest.split_at_mut(n);
    let values = &mut rest[..s.v.len()];
    let unit = |x: &[f32], scale: f32, out: &mut [f32]| {
        out.copy_from_slice(x);
        vec.scale(out, scale / (vec.dot(x, x) + LENGTH_EPS).sqrt());
    };
    unit(s.q, 1.0 / (n as f32).sqrt(), q);
    unit(s.k, 1.0, k);
    match s.log_decay {
        [one] => decay.fill(one.exp()),
        each => {
            decay.copy_from_slice(each);
            vec.exp(decay);
        }
    }
    read.copy_from_slice(k);
    vec.mul(read, decay);
    along.copy_from_slice(k);
    vec.scale(along, -s.beta);
    values.copy_from_slice(s.v);
    vec.scale(values, s.beta);
    let erase = Some([&*read, &*along]);
    vec.recur(state, Recur { decay, erase, key: k, query: q, read: Read::After }, values, y);
}

/// The delta rule with one decay per head.
pub(crate) struct GatedDelta {
    spec: spec::GatedDelta,
    inputs: Inputs,
    rates: Rates,
    conv: Causal,
    /// [n_head_v]: negative.
    a: Arc<[f32]>,
    dt_bias: Arc<[f32]>,
    /// [head_dim_v].
    norm: Arc<[f32]>,
    out: Linear,
    state: usize,
}

/// What queries, keys, values and gates are projected with.
enum Inputs {
    /// Rows q, k, v of all heads; z.
    Apart(Linear, Linear),
    /// Rows by key head: its q, k, then v and z of its value heads (the first files).
    Packed(Linear),
}

/// What beta and alpha are projected with.
enum Rates {
    /// Rows by key head: the betas of its value heads, then their alphas.
    Packed(Linear),
    /// Beta, alpha: a row per value head.
    Apart(Linear, Linear),
}

impl GatedDelta {
    pub(crate) fn bind(
        lower: &mut Lower<'_>,
        p: &str,
        d: &spec::GatedDelta,
    ) -> Result<GatedDelta, Error> {
        let (b, n_embd, n_head) = (lower.binder, lower.n_embd, d.n_head_v);
        let n_v = n_head * d.head_dim_v;
        let channels = 2 * d.n_head_k * d.head_dim_k + n_v;
        let matrix = |name: &str, rows, cols| b.matrix(&format!("{p}{name}"), rows, cols);
        let inputs = if b.has(&format!("{p}ssm_in.weight")) {
            Inputs::Packed(lower.linear(matrix("ssm_in", channels + n_v, n_embd)?)?)
        } else {
            let qkv = lower.linear(matrix("attn_qkv", channels, n_embd)?)?;
            Inputs::Apart(qkv, lower.linear(matrix("attn_gate", n_v, n_embd)?)?)
        };
        let out = matrix("ssm_out", n_embd, n_v)?;
        let rates = if b.has(&format!("{p}ssm_ba.weight")) {
            Rates::Packed(lower.linear(matrix("ssm_ba", 2 * n_head, n_embd)?)?)
        } else {
            let beta = lower.linear(matrix("ssm_beta", n_head, n_embd)?)?;
            Rates::Apart(beta, lower.linear(matrix("ssm_alpha", n_head, n_embd)?)?)
        };
        let a = b.values(&format!("{p}ssm_a"), n_head)?;
        let dt_bias = b.vector(&format!("{p}ssm_dt.bias"), n_head)?;
        let norm = b.vector(&format!("{p}ssm_norm.weight"), d.head_dim_v)?;
        let conv = Causal::bind(lower, &format!("{p}ssm_conv1d"), d.n_taps, channels)?;
        let state = lower.fixed(n_v * d.head_dim_k);
        // A packed projection comes before the convolution, and shares its buffer.
        lower.mix(&[channels, n_v, 2 * n_head, n_head, channels + n_v, n_v]);
        let scratch = scratch_len(d.head_dim_k, d.head_dim_v) + d.head_dim_v;
        lower.widths.attend = lower.widths.attend.max(scratch);
        let (spec, out) = (d.clone(), lower.linear(out)?);
        Ok(GatedDelta { spec, inputs, rates, conv, a, dt_bias, norm, out, state })
    }

    /// Columns of all values.
    fn n_v(&self) -> usize {
        self.spec.n_head_v * self.spec.head_dim_v
    }

    /// Columns of all queries, keys and values.
    fn channels(&self) -> usize {
        2 * self.spec.n_head_k * self.spec.head_dim_k + self.n_v()
    }

    /// Queries, keys and values to the first mixing buffer, z to the second, up to the barrier.
    fn project(&self, w: &Worker<'_>, cx: &Cx<'_>, src: &Source<'_>) -> Result<(), Stop> {
        let n = self.spec.n_head_v;
        let [qkv, z, beta, alpha, packed, ..] = &cx.bufs.mix;
        let (n_qkv, n_v) = (self.channels(), self.n_v());
        match (&self.inputs, &self.rates) {
            (Inputs::Apart(l, g), Rates::Apart(b, a)) => {
                let inputs = [(l, Dest::Set(qkv, n_qkv)), (g, Dest::Set(z, n_v))];
                let rates = [(b, Dest::Set(beta, n)), (a, Dest::Set(alpha, n))];
                linear::apply(w, cx, src, [inputs[0], inputs[1], rates[0], rates[1]])
            }
            (Inputs::Apart(l, g), Rates::Packed(ba)) => {
                let inputs = [(l, Dest::Set(qkv, n_qkv)), (g, Dest::Set(z, n_v))];
                let rates = (ba, Dest::Set(beta, 2 * n));
                linear::apply(w, cx, src, [inputs[0], inputs[1], rates])
            }
            (Inputs::Packed(all), Rates::Apart(b, a)) => {
                let rates = [(b, Dest::Set(beta, n)), (a, Dest::Set(alpha, n))];
                let all = (all, Dest::Set(packed, n_qkv + n_v));
                linear::apply(w, cx, src, [all, rates[0], rates[1]])?;
                self.unpack(w, cx)
            }
            (Inputs::Packed(all), Rates::Packed(ba)) => {
                let all = (all, Dest::Set(packed, n_qkv + n_v));
                linear::apply(w, cx, src, [all, (ba, Dest::Set(beta, 2 * n))])?;
                self.unpack(w, cx)
            }
        }
    }

    /// A packed projection to where its parts belong, up to the barrier.
    fn unpack(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let d = &self.spec;
        let dk = d.head_dim_k;
        let each = d.n_head_v / d.n_head_k * d.head_dim_v;
        let (n_k, n_head) = (d.n_head_k * dk, 2 * dk + 2 * each);
        let [qkv, z, _, _, packed, ..] = &cx.bufs.mix;
        let from = Rows { buffer: packed, stride: self.channels() + self.n_v() };
        let qkv = Rows { buffer: qkv, stride: self.channels() };
        let z = Rows { buffer: z, stride: self.n_v() };
        while let Some(rows) = w.claim(cx.n_rows(), 4) {
            for (row, head) in rows.flat_map(|row| (0..d.n_head_k).map(move |h| (row as u32, h))) {
                // SAFETY: rows are claimed; the projection was finished in the phase before.
                unsafe {
                    let x = from.get(row, head * n_head..(head + 1) * n_head);
                    let put = |to: Rows<'_>, first: usize, x: &[f32]| {
                        to.get_mut(row, first..first + x.len()).copy_from_slice(x);
                    };
                    put(qkv, head * dk, &x[..dk]);
                    put(qkv, n_k + head * dk, &x[dk..2 * dk]);
                    put(qkv, 2 * n_k + head * each, &x[2 * dk..2 * dk + each]);
                    put(z, head * each, &x[2 * dk + each..]);
                }
            }
        }
        w.barrier()
    }

    /// Key head of value head `head`.
    fn key_head(&self, head: usize) -> usize {
        match self.spec.heads {
            HeadOrder::Grouped => head / (self.spec.n_head_v / self.spec.n_head_k),
            HeadOrder::Tiled => head % self.spec.n_head_k,
        }
    }

    /// Beta and alpha of a row's value head, before any function.
    ///
    /// # Safety
    /// The projections are finished, and nobody writes them.
    unsafe fn rates(&self, cx: &Cx<'_>, row: u32, head: usize) -> (f32, f32) {
        let n = self.spec.n_head_v;
        let at = |buffer: usize, stride: usize, column: usize| {
            let rows = Rows { buffer: &cx.bufs.mix[buffer], stride };
            // SAFETY: passed on to the caller.
            unsafe { rows.get(row, column..column + 1)[0] }
        };
        match self.rates {
            Rates::Packed(_) => {
                let each = n / self.spec.n_head_k;
                let beta = head / each * 2 * each + head % each;
                (at(2, 2 * n, beta), at(2, 2 * n, beta + each))
            }
            Rates::Apart(..) => (at(2, n, head), at(3, n, head)),
        }
    }

    /// All rows of a sequence through one value head.
    fn recur(&self, cx: &Cx<'_>, worker: usize, seq: usize, rows: &[u32], head: usize) {
        let d = &self.spec;
        let (dk, dv, vec) = (d.head_dim_k, d.head_dim_v, cx.vec);
        let columns = |first: usize, width: usize| first..first + width;
        let q = self.key_head(head) * dk;
        let (k, v) = (d.n_head_k * dk + q, 2 * d.n_head_k * dk + head * dv);
        let [_, z, _, _, qkv, y, ..] = &cx.bufs.mix;
        let qkv = Rows { buffer: qkv, stride: self.channels() };
        let [z, y] = [z, y].map(|buffer| Rows { buffer, stride: self.n_v() });
        let state = cx.state.fixed(self.state, seq);
        // SAFETY: the head is claimed: nobody else has its state.
        let state = unsafe { state.carry(columns(head * dv * dk, dv * dk)) };
        // SAFETY: the scratch belongs to this worker.
        let scratch =
            unsafe { cx.bufs.private[worker].attend.part_mut(0..dv + scratch_len(dk, dv)) };
        let (out, scratch) = scratch.split_at_mut(dv);
        for &row in rows {
            // SAFETY: finished in the phases before and only read here; y's head is claimed.
            unsafe {
                let (beta, alpha) = self.rates(cx, row, head);
                let log_decay = [self.a[head] * softplus(alpha + self.dt_bias[head])];
                let s = Step {
                    q: qkv.get(row, columns(q, dk)),
                    k: qkv.get(row, columns(k, dk)),
                    v: qkv.get(row, columns(v, dv)),
                    log_decay: &log_decay,
                    beta: sigmoid(beta),
                };
                step(vec, &s, state, out, scratch);
                vec.rms_norm_in_place(out, Some(&self.norm), d.norm_eps);
                let gated = y.get_mut(row, columns(head * dv, dv));
                gated.copy_from_slice(z.get(row, columns(head * dv, dv)));
                vec.glu(Glu::Gated(Activation::Silu), gated, out);
            }
        }
    }
}

impl Mixer for GatedDelta {
    fn linears(&self) -> Vec<&Linear> {
        let mut all = match &self.inputs {
            Inputs::Apart(qkv, z) => vec![qkv, z],
            Inputs::Packed(all) => vec![all],
        };
        match &self.rates {
            Rates::Packed(ba) => all.push(ba),
            Rates::Apart(beta, alpha) => all.extend([beta, alpha]),
        }
        all.push(&self.out);
        all
    }

    fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let [qkv, _, _, _, convolved, y, ..] = &cx.bufs.mix;
        let channels = self.channels();
        self.project(w, cx, src)?;
        let [input, out] = [qkv, convolved].map(|buffer| Rows { buffer, stride: channels });
        self.conv.run_silu(w, cx, (input, 0), out)?;
        by_sequence(w, cx, self.spec.n_head_v, |segment, rows, head| {
            self.recur(cx, w.index(), segment.seq, rows, head);
        });
        w.barrier()?;
        linear::apply(w, cx, &Source::plain(y, self.n_v()), [(&self.out, dest)])
    }
}

/// The delta rule with one decay per key channel.
pub(crate) struct Kda {
    spec: spec::Kda,
    /// Queries, keys, values.
    qkv: [Linear; 3],
    convs: [Causal; 3],
    /// Decay and gate: down and up.
    decay: [Linear; 2],
    gate: [Linear; 2],
    beta: Linear,
    /// [n_head]: negative.
    a: Arc<[f32]>,
    /// [n_head, head_dim].
    dt_bias: Arc<[f32]>,
    /// [head_dim].
    norm: Arc<[f32]>,
    out: Linear,
    state: usize,
}

impl Kda {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, k: &spec::Kda) -> Result<Kda, Error> {
        let (b, n_embd, d) = (lower.binder, lower.n_embd, k.head_dim);
        let n = k.n_head * d;
        let linear = |lower: &mut Lower<'_>, name: &str, rows, cols| {
            let m = b.matrix(&format!("{p}{name}"), rows, cols)?;
            lower.linear(m)
        };
        let mut square = |name| linear(lower, name, n, n_embd);
        let qkv = [square("attn_q")?, square("attn_k")?, square("attn_v")?];
        let decay = [linear(lower, "ssm_f_a", d, n_embd)?, linear(lower, "ssm_f_b", n, d)?];
        let gate = [linear(lower, "ssm_g_a", d, n_embd)?, linear(lower, "ssm_g_b", n, d)?];
        let beta = linear(lower, "ssm_beta", k.n_head, n_embd)?;
        let out = linear(lower, "attn_output", n_embd, n)?;
        let mut conv = |name: &str| Causal::bind(lower, &format!("{p}{name}"), k.n_taps, n);
        let convs = [conv("ssm_conv1d_q")?, conv("ssm_conv1d_k")?, conv("ssm_conv1d_v")?];
        let a = b.values(&format!("{p}ssm_a"), k.n_head)?;
        let dt_bias = b.vector(&format!("{p}ssm_dt.bias"), n)?;
        let norm = b.vector(&format!("{p}ssm_norm.weight"), d)?;
        let state = lower.fixed(n * d);
        lower.mix(&[n, n, n, n, n, n, d, d, k.n_head]);
        lower.widths.attend = lower.widths.attend.max(scratch_len(d, d) + 2 * d);
        Linear::reserve_each([&decay[1], &gate[1]], &mut lower.widths);
        let spec = k.clone();
        Ok(Kda { spec, qkv, convs, decay, gate, beta, a, dt_bias, norm, out, state })
    }

    /// All rows of a sequence through one head.
    fn recur(&self, cx: &Cx<'_>, worker: usize, seq: usize, rows: &[u32], head: usize) {
        let (d, n, vec) = (self.spec.head_dim, self.spec.n_head * self.spec.head_dim, cx.vec);
        let columns = head * d..(head + 1) * d;
        let [decay, gate, y, q, k, v] =
            [0, 1, 2, 3, 4, 5].map(|i| Rows { buffer: &cx.bufs.mix[i], stride: n });
        let beta = Rows { buffer: &cx.bufs.mix[8], stride: self.spec.n_head };
        let state = cx.state.fixed(self.state, seq);
        // SAFETY: the head is claimed: nobody else has its state.
        let state = unsafe { state.carry(head * d * d..(head + 1) * d * d) };
        // SAFETY: the scratch belongs to this worker.
        let scratch =
            unsafe { cx.bufs.private[worker].attend.part_mut(0..2 * d + scratch_len(d, d)) };
        let (out, scratch) = scratch.split_at_mut(d);
        let (log_decay, scratch) = scratch.split_at_mut(d);
        for &row in rows {
            // SAFETY: finished in the phases before and only read here; y's head is claimed.
            unsafe {
                let bias = self.dt_bias[columns.clone()].iter();
                let raw = decay.get(row, columns.clone()).iter().zip(bias);
                for (log, (f, bias)) in log_decay.iter_mut().zip(raw) {
                    *log = self.a[head] * softplus(f + bias);
                }
                let s = Step {
                    q: q.get(row, columns.clone()),
                    k: k.get(row, columns.clone()),
                    v: v.get(row, columns.clone()),
                    log_decay,
                    beta: sigmoid(beta.get(row, head..head + 1)[0]),
                };
                step(vec, &s, state, out, scratch);
                vec.rms_norm_in_place(out, Some(&self.norm), self.spec.norm_eps);
                let gated = y.get_mut(row, columns.clone());
                gated.copy_from_slice(gate.get(row, columns.clone()));
                vec.sigmoid(gated);
                vec.mul(gated, out);
            }
        }
    }
}

impl Mixer for Kda {
    fn linears(&self) -> Vec<&Linear> {
        let low = self.decay.iter().chain(&self.gate);
        self.qkv.iter().chain(low).chain([&self.beta, &self.out]).collect()
    }

    fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let (d, n) = (self.spec.head_dim, self.spec.n_head * self.spec.head_dim);
        let mix = &cx.bufs.mix;
        let to = |l, i: usize, width: usize| (l, Dest::Set(&mix[i], width));
        let [q, k, v] = &self.qkv;
        let jobs = [
            to(q, 0, n),
            to(k, 1, n),
            to(v, 2, n),
            to(&self.decay[0], 6, d),
            to(&self.gate[0], 7, d),
            to(&self.beta, 8, self.spec.n_head),
        ];
        linear::apply(w, cx, src, jobs)?;
        for (i, conv) in self.convs.iter().enumerate() {
            let [input, out] = [i, i + 3].map(|i| Rows { buffer: &mix[i], stride: n });
            conv.run_silu(w, cx, (input, 0), out)?;
        }
        let ups = [job(&mix[6], &self.decay[1], &mix[0]), job(&mix[7], &self.gate[1], &mix[1])];
        linear::apply_each(w, cx, ups)?;
        by_sequence(w, cx, self.spec.n_head, |segment, rows, head| {
            self.recur(cx, w.index(), segment.seq, rows, head);
        });
        w.barrier()?;
        linear::apply(w, cx, &Source::plain(&mix[2], n), [(&self.out, dest)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Random, close};

    /// Twelve steps of one head against the rule as the paper writes it, in f64.
    fn follows_the_rule(per_channel: bool) {
        let (dk, dv) = (20, 6);
        let mut random = Random::new(5);
        let (mut state, mut wide) = (vec![0.0f32; dv * dk], vec![0.0f64; dv * dk]);
        let f = |x: f32| f64::from(x);
        let unit = |x: &[f32]| -> Vec<f64> {
            let length = x.iter().map(|&x| f(x) * f(x)).sum::<f64>() + f(LENGTH_EPS);
            x.iter().map(|&x| f(x) / length.sqrt()).collect()
        };
        for _ in 0..12 {
            let [q, k, v] = [dk, dk, dv].map(|n| random.floats(n, -1.0, 1.0));
            let log_decay = random.floats(if per_channel { dk } else { 1 }, -1.0, 0.0);
            let beta = random.floats(1, 0.0, 1.0)[0];
            let s = Step { q: &q, k: &k, v: &v, log_decay: &log_decay, beta };
            let (mut y, mut scratch) = (vec![0.0; dv], vec![0.0; scratch_len(dk, dv)]);
            step(Vector::new(quant::Isa::detect()), &s, &mut state, &mut y, &mut scratch);
            let (q, k) = (unit(&q), unit(&k));
            let want: Vec<f64> = (0..dv)
                .map(|i| {
                    let row = &mut wide[i * dk..(i + 1) * dk];
                    for (j, s) in row.iter_mut().enumerate() {
                        *s *= f(log_decay[if per_channel { j } else { 0 }]).exp();
                    }
                    let read: f64 = row.iter().zip(&k).map(|(s, k)| s * k).sum();
                    let delta = (f(v[i]) - read) * f(beta);
                    row.iter_mut().zip(&k).for_each(|(s, k)| *s += delta * k);
                    row.iter().zip(&q).map(|(s, q)| s * q).sum::<f64>() / (dk as f64).sqrt()
                })
                .collect();
            close(&y, &want);
        }
    }

    #[test]
    fn one_decay_per_head_follows_the_rule() {
        follows_the_rule(false);
    }

    #[test]
    fn a_decay_per_channel_follows_the_rule() {
        follows_the_rule(true);
    }
}
