//! Time mixing of RWKV 6 (Peng et al. 2024, arXiv 2404.05892).
//!
//! Per head, with the decay w in (0, 1) of each key channel and the bonus u of the present row:
//! `y = S r + (r . (u k)) v`, then `S = S diag(w) + v k^T`. The state of a sequence is its last
//! row, and S: [n_head, head_dim, head_dim], rows by value channel.

use super::linear::{self, Dest, Linear, Source, job, mapped};
use super::recurrent::Mixer;
use super::rwkv::{HeadNorm, Shift, leaning};
use super::{Cx, Rows, by_sequence};
use crate::bind::Binder;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec;
use crate::team::{Stop, Worker};
use quant::{Activation, Read, Recur, Vector};
use std::sync::Arc;

/// Inputs that lean on their own: of decay, key, value, receptance, gate.
const INPUTS: usize = 5;

pub(crate) struct Rwkv6 {
    head_dim: usize,
    n_embd: usize,
    shift: Shift,
    /// Lean of the input of `mix_down`, [n_embd].
    lean_x: Arc<[f32]>,
    /// [INPUTS, n_embd].
    lean: Arc<[f32]>,
    /// To all inputs' low-rank leans at once, and from each to its lean.
    mix_down: Linear,
    mix_up: Vec<Linear>,
    /// Bonus, [n_embd].
    first: Arc<[f32]>,
    /// [n_embd].
    decay: Arc<[f32]>,
    decay_down: Linear,
    decay_up: Linear,
    receptance: Linear,
    key: Linear,
    value: Linear,
    gate: Linear,
    norm: HeadNorm,
    out: Linear,
    state: usize,
}

/// One head of one row.
struct Step<'a> {
    r: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    /// Bonus.
    u: &'a [f32],
    /// ln(-ln w).
    decay: &'a [f32],
}

/// One step of a head; `scratch` has 2 head_dim floats.
fn step(vec: Vector, s: &Step<'_>, state: &mut [f32], y: &mut [f32], scratch: &mut [f32]) {
    let (w, bonus) = scratch.split_at_mut(s.k.len());
    w.copy_from_slice(s.decay);
    vec.exp(w);
    vec.scale(w, -1.0);
    vec.exp(w);
    bonus.copy_from_slice(s.k);
    vec.mul(bonus, s.u);
    let bonus = vec.dot(bonus, s.r);
    let step = Recur { decay: w, erase: None, key: s.k, query: s.r, read: Read::Before };
    vec.recur(state, step, s.v, y);
    vec.add_scaled(y, bonus, s.v);
}

impl Rwkv6 {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, r: &spec::Rwkv6) -> Result<Rwkv6, Error> {
        let (b, n) = (lower.binder, lower.n_embd);
        let name = |name: &str| format!("{p}time_mix_{name}");
        let lean = Self::leans(b, &name, n)?;
        let up = b.matrices(&name("w2"), n, r.n_mix, INPUTS)?;
        let mix_up = (0..INPUTS).map(|i| lower.linear(up.one(i))).collect::<Result<_, _>>()?;
        let heads = [r.head_dim as u64, (n / r.head_dim) as u64];
        let mut linear = |part: &str, rows, cols| {
            let m = b.matrix(&name(part), rows, cols)?;
            lower.linear(m)
        };
        let mix_down = linear("w1", INPUTS * r.n_mix, n)?;
        let decay_down = linear("decay_w1", r.n_decay, n)?;
        let decay_up = linear("decay_w2", n, r.n_decay)?;
        let [receptance, key, value, gate, out] =
            ["receptance", "key", "value", "gate", "output"].map(|part| linear(part, n, n));
        let norm = HeadNorm::bind(b, &name("ln"), n)?;
        let low = (INPUTS * r.n_mix).max(r.n_decay);
        lower.mix(&[n, n, low, n, n, n, n, n, n, n, n]);
        lower.widths.attend = lower.widths.attend.max(3 * r.head_dim);
        let this = Rwkv6 {
            head_dim: r.head_dim,
            n_embd: n,
            shift: Shift::bind(lower),
            lean_x: b.vector(&name("lerp_x.weight"), n)?,
            lean,
            mix_down,
            mix_up,
            first: b.table(&name("first.weight"), &heads)?,
            decay: b.vector(&name("decay.weight"), n)?,
            decay_down,
            decay_up,
            receptance: receptance?,
            key: key?,
            value: value?,
            gate: gate?,
            norm,
            out: out?,
            state: lower.fixed(n * r.head_dim),
        };
        let full = [&this.receptance, &this.key, &this.value, &this.gate, &this.decay_down];
        Linear::reserve_each(full, &mut lower.widths);
        Linear::reserve_each(&this.mix_up, &mut lower.widths);
        Ok(this)
    }

    /// Leans of all inputs, stored as one tensor or (older files) each on its own.
    fn leans(b: &Binder, name: &impl Fn(&str) -> String, n: usize) -> Result<Arc<[f32]>, Error> {
        let fused = name("lerp_fused.weight");
        if b.has(&fused) || !b.has(&name("lerp_w.weight")) {
            return b.table(&fused, &[n as u64, 1, 1, INPUTS as u64]);
        }
        let mut all = Vec::with_capacity(INPUTS * n);
        for part in ["w", "k", "v", "r", "g"] {
            all.extend_from_slice(&b.vector(&name(&format!("lerp_{part}.weight")), n)?);
        }
        Ok(all.into())
    }

    /// The inputs of decay, key, value, receptance and gate, to mixing buffers 3 to 7.
    fn inputs(&self, w: &Worker<'_>, cx: &Cx<'_>, src: &Source<'_>) -> Result<(), Stop> {
        let (n, mix) = (self.n_embd, &cx.bufs.mix);
        self.shift.normalise(w, cx, src)?;
        let to = Rows { buffer: &mix[1], stride: n };
        self.shift.lean(w, cx, |row, x, step| {
            // SAFETY: the row is this worker's.
            leaning(cx.vec, (x, step), &self.lean_x, false, unsafe { to.get_mut(row, 0..n) });
        })?;
        let n_low = self.mix_down.m.rows;
        let down = [(&self.mix_down, Dest::Set(&mix[2], n_low))];
        linear::apply(w, cx, &Source::plain(&mix[1], n), down)?;
        let each = n_low / INPUTS;
        let up = |i: usize| {
            let low = Source::columns(&mix[2], n_low, i * each..(i + 1) * each);
            mapped(Vector::tanh, (low, &self.mix_up[i], Dest::Set(&mix[3 + i], n)))
        };
        linear::apply_each(w, cx, [up(0), up(1), up(2), up(3), up(4)])?;
        self.shift.lean(w, cx, |row, x, step| {
            for (i, lean) in self.lean.chunks_exact(n).enumerate() {
                let to = Rows { buffer: &mix[3 + i], stride: n };
                // SAFETY: the row is this worker's.
                leaning(cx.vec, (x, step), lean, true, unsafe { to.get_mut(row, 0..n) });
            }
        })
    }

    /// All rows of a sequence through one head.
    fn recur(&self, cx: &Cx<'_>, worker: usize, seq: usize, rows: &[u32], head: usize) {
        let (d, n, vec) = (self.head_dim, self.n_embd, cx.vec);
        let columns = head * d..(head + 1) * d;
        let [gate, decay, y, r, k, v] =
            [1, 3, 4, 8, 9, 10].map(|i| Rows { buffer: &cx.bufs.mix[i], stride: n });
        let state = cx.state.fixed(self.state, seq);
        // SAFETY: the head is claimed: nobody else has its state.
        let state = unsafe { state.carry(head * d * d..(head + 1) * d * d) };
        // SAFETY: the scratch belongs to this worker.
        let scratch = unsafe { cx.bufs.private[worker].attend.part_mut(0..3 * d) };
        let (out, scratch) = scratch.split_at_mut(d);
        for &row in rows {
            // SAFETY: finished in the phases before; this worker alone has the head's columns.
            unsafe {
                let decay = decay.get_mut(row, columns.clone());
                vec.add(decay, &self.decay[columns.clone()]);
                let s = Step {
                    r: r.get(row, columns.clone()),
                    k: k.get(row, columns.clone()),
                    v: v.get(row, columns.clone()),
                    u: &self.first[columns.clone()],
                    decay,
                };
                step(vec, &s, state, out, scratch);
                let y = y.get_mut(row, columns.clone());
                self.norm.apply(vec, columns.clone(), out, y);
                let gate = gate.get_mut(row, columns.clone());
                vec.act(Activation::Silu, gate);
                vec.mul(y, gate);
            }
        }
    }
}

impl Mixer for Rwkv6 {
    fn linears(&self) -> Vec<&Linear> {
        let mut all = vec![&self.mix_down, &self.decay_down, &self.decay_up];
        all.extend(&self.mix_up);
        all.extend([&self.receptance, &self.key, &self.value, &self.gate, &self.out]);
        all
    }

    fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        self.inputs(w, cx, src)?;
        let (n, mix) = (self.n_embd, &cx.bufs.mix);
        let jobs = [
            job(&mix[6], &self.receptance, &mix[8]),
            job(&mix[4], &self.key, &mix[9]),
            job(&mix[5], &self.value, &mix[10]),
            job(&mix[7], &self.gate, &mix[1]),
            job(&mix[3], &self.decay_down, &mix[2]),
        ];
        linear::apply_each(w, cx, jobs)?;
        let decay = mapped(Vector::tanh, job(&mix[2], &self.decay_up, &mix[3]));
        linear::apply_each(w, cx, [decay])?;
        by_sequence(w, cx, n / self.head_dim, |segment, rows, head| {
            self.recur(cx, w.index(), segment.seq, rows, head);
        });
        w.barrier()?;
        linear::apply(w, cx, &Source::plain(&mix[4], n), [(&self.out, dest)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Random, close};

    #[test]
    fn steps_follow_the_formula() {
        let d = 12;
        let mut random = Random::new(6);
        let (mut state, mut wide) = (vec![0.0f32; d * d], vec![0.0f64; d * d]);
        let f = |x: f32| f64::from(x);
        for _ in 0..10 {
            let [r, k, v, u, decay] = [(); 5].map(|()| random.floats(d, -1.0, 1.0));
            let (mut y, mut scratch) = (vec![0.0; d], vec![0.0; 2 * d]);
            let s = Step { r: &r, k: &k, v: &v, u: &u, decay: &decay };
            step(Vector::new(quant::Isa::detect()), &s, &mut state, &mut y, &mut scratch);
            let mut want = vec![0.0; d];
            for j in 0..d {
                for i in 0..d {
                    let (s, kv) = (&mut wide[j * d + i], f(k[i]) * f(v[j]));
                    want[j] += f(r[i]) * (*s + f(u[i]) * kv);
                    *s = *s * (-f(decay[i]).exp()).exp() + kv;
                }
            }
            close(&y, &want);
        }
    }
}
