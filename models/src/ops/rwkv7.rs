//! Time mixing of RWKV 7 (Peng et al. 2025, arXiv 2503.14456).
//!
//! Per head, with the decay w and the learning rate a of each key channel and k̂ the key's
//! direction: `S = S diag(w) - (S k̂) (a k̂)^T + v k^T`, `y = S r`. Behind it a norm, the bonus
//! `(r . (r_k k)) v` and a gate. The state of a sequence is its last row, and S: [n_head,
//! head_dim, head_dim], rows by value channel.

use super::linear::{self, Dest, Linear, Source, job, mapped};
use super::recurrent::Mixer;
use super::rwkv::{HeadNorm, Shift, leaning};
use super::{Cx, KEPT, Rows, by_sequence};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec;
use crate::team::{Stop, Worker};
use quant::{Read, Recur, Vector};
use std::sync::Arc;

/// Inputs that lean on their own: of receptance, decay, key, value, rate, gate.
const INPUTS: usize = 6;
/// e^-0.5: bound of the decay's exponent.
const DECAY: f32 = 0.606_531;
/// Least length by which a key is divided.
const LENGTH_EPS: f32 = 1e-12;

/// A matrix of low rank with an offset: `up(f(down(x)))`, plus the offset where there is one.
struct LowRank {
    down: Linear,
    up: Linear,
}

pub(crate) struct Rwkv7 {
    head_dim: usize,
    n_embd: usize,
    shift: Shift,
    /// [INPUTS, n_embd].
    lean: Arc<[f32]>,
    decay: LowRank,
    rate: LowRank,
    gate: LowRank,
    /// `None` = this is the first body, whose values the others take in.
    values: Option<(LowRank, Arc<[f32]>)>,
    heads: Heads,
    receptance: Linear,
    key: Linear,
    value: Linear,
    norm: HeadNorm,
    out: Linear,
    state: usize,
}

/// Vectors of [n_embd] that the recurrence uses.
struct Heads {
    decay: Arc<[f32]>,
    rate: Arc<[f32]>,
    /// Factor on the key before its direction is taken.
    direction: Arc<[f32]>,
    /// How far the rate scales the key.
    scaling: Arc<[f32]>,
    bonus: Arc<[f32]>,
}

/// One head of one row; `decay` and `rate` before their offsets and functions.
struct Step<'a> {
    r: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    decay: &'a [f32],
    rate: &'a [f32],
}

impl Heads {
    /// One step of the head at channel `first`; `scratch` has 5 head_dim floats. Returns the bonus.
    fn step(
        &self,
        vec: Vector,
        first: usize,
        s: &Step<'_>,
        state: &mut [f32],
        y: &mut [f32],
        scratch: &mut [f32],
    ) -> f32 {
        let d = s.k.len();
        let columns = first..first + d;
        let (w, rest) = scratch.split_at_mut(d);
        let (a, rest) = rest.split_at_mut(d);
        let (unit, rest) = rest.split_at_mut(d);
        let (along, rest) = rest.split_at_mut(d);
        let key = &mut rest[..d];
        w.copy_from_slice(s.decay);
        vec.add(w, &self.decay[columns.clone()]);
        vec.sigmoid(w);
        vec.scale(w, -DECAY);
        vec.exp(w);
        a.copy_from_slice(s.rate);
        vec.add(a, &self.rate[columns.clone()]);
        vec.sigmoid(a);
        key.copy_from_slice(s.k);
        vec.mul(key, &self.direction[columns.clone()]);
        vec.l2_norm(key, LENGTH_EPS, unit);
        along.copy_from_slice(unit);
        vec.mul(along, a);
        vec.scale(along, -1.0);
        // k (1 + (a - 1) scaling).
        let scaling = self.scaling[columns.clone()].iter();
        for ((key, &k), (&a, &scaling)) in key.iter_mut().zip(s.k).zip(a.iter().zip(scaling)) {
            *key = k * (1.0 + (a - 1.0) * scaling);
        }
        let step =
            Recur { decay: w, erase: Some([unit, along]), key, query: s.r, read: Read::After };
        vec.recur(state, step, s.v, y);
        vec.mul(key, &self.bonus[columns]);
        vec.dot(key, s.r)
    }
}

impl Rwkv7 {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, r: &spec::Rwkv7) -> Result<Rwkv7, Error> {
        let (b, n) = (lower.binder, lower.n_embd);
        let name = |name: &str| format!("{p}time_mix_{name}");
        let vector = |part: &str| b.vector(&name(&format!("{part}.weight")), n);
        let fused = name("lerp_fused.weight");
        let lean = b.table(&fused, &[n as u64, 1, 1, INPUTS as u64])?;
        let mut linear = |part: &str, rows, cols| {
            let m = b.matrix(&name(part), rows, cols)?;
            lower.linear(m)
        };
        let mut low = |part: &str, rank| -> Result<LowRank, Error> {
            let down = linear(&format!("{part}1"), rank, n)?;
            Ok(LowRank { down, up: linear(&format!("{part}2"), n, rank)? })
        };
        let (decay, rate, gate) = (low("w", r.n_decay)?, low("a", r.n_rate)?, low("g", r.n_gate)?);
        let values = if r.first {
            // Some files have the mix of the first body too, where there is nothing to mix.
            ["v0", "v1", "v2"].iter().for_each(|v| b.ignore(&name(&format!("{v}.weight"))));
            None
        } else {
            Some((low("v", r.n_value)?, vector("v0")?))
        };
        let [receptance, key, value, out] =
            ["receptance", "key", "value", "output"].map(|part| linear(part, n, n));
        let heads = Heads {
            decay: vector("w0")?,
            rate: vector("a0")?,
            direction: vector("k_k")?,
            scaling: vector("k_a")?,
            bonus: b.values(&name("r_k.weight"), n)?,
        };
        let rank = r.n_decay.max(r.n_rate).max(r.n_gate).max(r.n_value);
        lower.mix(&[n.max(rank), n, n, n, n, n, n, n, n, n, rank, rank, rank, n]);
        lower.widths.attend = lower.widths.attend.max(6 * r.head_dim);
        let this = Rwkv7 {
            head_dim: r.head_dim,
            n_embd: n,
            shift: Shift::bind(lower),
            lean,
            decay,
            rate,
            gate,
            values,
            heads,
            receptance: receptance?,
            key: key?,
            value: value?,
            norm: HeadNorm::bind(b, &name("ln"), n)?,
            out: out?,
            state: lower.fixed(n * r.head_dim),
        };
        let low = [Some(&this.decay), Some(&this.rate), Some(&this.gate)];
        let low = low.into_iter().chain([this.values.as_ref().map(|v| &v.0)]).flatten();
        let full = [&this.receptance, &this.key, &this.value];
        Linear::reserve_each(low.clone().map(|l| &l.down).chain(full), &mut lower.widths);
        Linear::reserve_each(low.map(|l| &l.up), &mut lower.widths);
        Ok(this)
    }

    /// Everything that is projected from the leaning inputs: decay to mixing buffer 1, rate to 2,
    /// gate to 3, the mix of values to 5, receptance, key and value to 7, 8 and 9.
    fn project(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let mix = &cx.bufs.mix;
        let a = job(&mix[1], &self.receptance, &mix[7]);
        let b = job(&mix[3], &self.key, &mix[8]);
        let c = job(&mix[4], &self.value, &mix[9]);
        let d = job(&mix[2], &self.decay.down, &mix[10]);
        let e = job(&mix[5], &self.rate.down, &mix[11]);
        let f = job(&mix[6], &self.gate.down, &mix[12]);
        let x = mapped(Vector::tanh, job(&mix[10], &self.decay.up, &mix[1]));
        let y = job(&mix[11], &self.rate.up, &mix[2]);
        let z = mapped(Vector::sigmoid, job(&mix[12], &self.gate.up, &mix[3]));
        let Some((values, _)) = &self.values else {
            linear::apply_each(w, cx, [a, b, c, d, e, f])?;
            return linear::apply_each(w, cx, [x, y, z]);
        };
        // The normalised rows have done their part: their buffer is free.
        linear::apply_each(w, cx, [a, b, c, d, e, f, job(&mix[4], &values.down, &mix[0])])?;
        linear::apply_each(w, cx, [x, y, z, job(&mix[0], &values.up, &mix[5])])
    }

    /// All rows of a sequence through one head.
    fn recur(&self, cx: &Cx<'_>, worker: usize, seq: usize, rows: &[u32], head: usize) {
        let (d, n, vec) = (self.head_dim, self.n_embd, cx.vec);
        let columns = head * d..(head + 1) * d;
        let [decay, rate, gate, mixed, y, r, k, v, kept] =
            [1, 2, 3, 5, 6, 7, 8, 9, KEPT].map(|i| Rows { buffer: &cx.bufs.mix[i], stride: n });
        let state = cx.state.fixed(self.state, seq);
        // SAFETY: the head is claimed: nobody else has its state.
        let state = unsafe { state.carry(head * d * d..(head + 1) * d * d) };
        // SAFETY: the scratch belongs to this worker.
        let scratch = unsafe { cx.bufs.private[worker].attend.part_mut(0..6 * d) };
        let (out, scratch) = scratch.split_at_mut(d);
        for &row in rows {
            // SAFETY: finished in the phases before; this worker alone has the head's columns.
            unsafe {
                let v = v.get_mut(row, columns.clone());
                match &self.values {
                    None => kept.get_mut(row, columns.clone()).copy_from_slice(v),
                    Some((_, offset)) => {
                        let mixed = mixed.get_mut(row, columns.clone());
                        vec.add(mixed, &offset[columns.clone()]);
                        vec.sigmoid(mixed);
                        let first = kept.get(row, columns.clone());
                        for ((v, &first), &mix) in v.iter_mut().zip(first).zip(mixed.iter()) {
                            *v += (first - *v) * mix;
                        }
                    }
                }
                let s = Step {
                    r: r.get(row, columns.clone()),
                    k: k.get(row, columns.clone()),
                    v,
                    decay: decay.get(row, columns.clone()),
                    rate: rate.get(row, columns.clone()),
                };
                let bonus = self.heads.step(vec, head * d, &s, state, out, scratch);
                let y = y.get_mut(row, columns.clone());
                self.norm.apply(vec, columns.clone(), out, y);
                vec.add_scaled(y, bonus, s.v);
                vec.mul(y, gate.get(row, columns.clone()));
            }
        }
    }
}

impl Mixer for Rwkv7 {
    fn linears(&self) -> Vec<&Linear> {
        let low = [&self.decay, &self.rate, &self.gate].into_iter();
        let low = low.chain(self.values.as_ref().map(|v| &v.0));
        let mut all: Vec<&Linear> = low.flat_map(|l| [&l.down, &l.up]).collect();
        all.extend([&self.receptance, &self.key, &self.value, &self.out]);
        all
    }

    fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let (n, mix) = (self.n_embd, &cx.bufs.mix);
        self.shift.normalise(w, cx, src)?;
        self.shift.lean(w, cx, |row, x, step| {
            for (i, lean) in self.lean.chunks_exact(n).enumerate() {
                let to = Rows { buffer: &mix[1 + i], stride: n };
                // SAFETY: the row is this worker's.
                leaning(cx.vec, (x, step), lean, false, unsafe { to.get_mut(row, 0..n) });
            }
        })?;
        self.project(w, cx)?;
        by_sequence(w, cx, n / self.head_dim, |segment, rows, head| {
            self.recur(cx, w.index(), segment.seq, rows, head);
        });
        w.barrier()?;
        linear::apply(w, cx, &Source::plain(&mix[6], n), [(&self.out, dest)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Random, close};

    #[test]
    fn steps_follow_the_formula() {
        let d = 10;
        let mut random = Random::new(7);
        let (mut state, mut wide) = (vec![0.0f32; d * d], vec![0.0f64; d * d]);
        let f = |x: f32| f64::from(x);
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut vector = || -> Arc<[f32]> { random.floats(2 * d, -1.0, 1.0).into() };
        let heads = Heads {
            decay: vector(),
            rate: vector(),
            direction: vector(),
            scaling: vector(),
            bonus: vector(),
        };
        for _ in 0..10 {
            let [r, k, v, decay, rate] = [(); 5].map(|()| random.floats(d, -1.0, 1.0));
            let (mut y, mut scratch) = (vec![0.0; d], vec![0.0; 5 * d]);
            let s = Step { r: &r, k: &k, v: &v, decay: &decay, rate: &rate };
            let vec = Vector::new(quant::Isa::detect());
            let bonus = heads.step(vec, d, &s, &mut state, &mut y, &mut scratch);
            let direction: Vec<f64> = (0..d).map(|i| f(k[i]) * f(heads.direction[d + i])).collect();
            let length = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
            let a: Vec<f64> = (0..d).map(|i| logistic(f(rate[i]) + f(heads.rate[d + i]))).collect();
            let key: Vec<f64> =
                (0..d).map(|i| f(k[i]) * (1.0 + (a[i] - 1.0) * f(heads.scaling[d + i]))).collect();
            let mut want = vec![0.0; d];
            for j in 0..d {
                let row = &mut wide[j * d..(j + 1) * d];
                let read: f64 = row.iter().zip(&direction).map(|(s, x)| s * x / length).sum();
                for i in 0..d {
                    let w = (-f(DECAY) * logistic(f(decay[i]) + f(heads.decay[d + i]))).exp();
                    row[i] = row[i] * w - read * a[i] * direction[i] / length + f(v[j]) * key[i];
                    want[j] += row[i] * f(r[i]);
                }
            }
            close(&y, &want);
            let want: f64 = (0..d).map(|i| f(r[i]) * key[i] * f(heads.bonus[d + i])).sum();
            close(&[bonus], &[want]);
        }
    }
}
