//! Softmax attention over paged keys and values.
//!
//! Phases: prepare · QKV and gate · norm, rotate and store · attend · prepare · output projection.
//! A query's result has the same bits in any step, see [`quant::attend`].

mod positions;
mod relative;
mod tile;

use super::Cx;
use super::linear::{self, Dest, Linear, Source};
use super::norm::Norm;
use crate::bind::{Binder, Matrix};
use crate::error::Error;
use crate::plan::Lower;
use crate::profile::Phase;
use crate::spec::{Attn, Gate, GateFrom, Kv, Pairing, QkNorm, Span, Window};
use crate::state::KvShape;
use crate::team::{Stop, Worker};
use positions::alibi_slopes;
pub(super) use positions::temperature;
use quant::RopeLayout;
use relative::Bias;
use std::sync::Arc;

pub(crate) struct Attention {
    spec: Attn,
    q: Linear,
    /// Keys, and values where they are not the keys; absent where an earlier layer's are used.
    k: Option<Linear>,
    v: Option<Linear>,
    /// Keys and values of the encoder's rows.
    remembered: Option<[Linear; 2]>,
    gate: Option<Linear>,
    out: Linear,
    /// Of queries and keys.
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    v_norm: Option<Norm>,
    sub_norm: Option<Norm>,
    /// Rope table and pairing.
    rope: Option<(usize, RopeLayout)>,
    /// A logit per query head.
    sinks: Option<Arc<[f32]>>,
    /// A slope per query head.
    slopes: Option<Arc<[f32]>>,
    bias: Option<Bias>,
    /// Index of the keys and values in the state.
    kv: usize,
    /// Values from one query head to the next.
    q_stride: usize,
}

/// Numbers of a spec that come from the file and contradict each other.
fn check(p: &str, a: &Attn) -> Result<(), Error> {
    let bad = |key: &str, found: String, expected: &str| {
        Err(Error::BadValue { key: key.into(), found, expected: expected.into() })
    };
    if a.n_head == 0 || a.n_head_kv == 0 {
        let expected = "1 or more: this architecture has attention in that block";
        return bad("attention.head_count_kv", format!("0 for {p}attn"), expected);
    }
    if let Some(r) = a.rope.as_ref().filter(|r| r.n_rot > a.head_dim_k || r.n_rot % 2 != 0) {
        let found = format!("{} for {p}attn with heads of {}", r.n_rot, a.head_dim_k);
        return bad("rope.dimension_count", found, "an even number up to the head's width");
    }
    if a.head_dim_k == 0 || a.head_dim_v == 0 {
        return bad("attention.key_length", format!("0 for {p}attn"), "1 or more");
    }
    let same = a.kv != Kv::KeyAsValue && a.gate.map(Gate::from) != Some(GateFrom::Query);
    if !same && a.head_dim_k != a.head_dim_v {
        let found = format!("{} for {p}attn", a.head_dim_v);
        return bad("attention.value_length", found, "attention.key_length");
    }
    let (Window::Sliding(n) | Window::Chunked(n) | Window::Symmetric(n)) = a.window else {
        return Ok(());
    };
    if n == 0 {
        return bad("attention.sliding_window", format!("0 for {p}attn"), "1 or more");
    }
    Ok(())
}

/// Norm of queries (or keys) of `n_head` heads.
fn qk_norm(
    lower: &Lower<'_>,
    name: &str,
    norm: &QkNorm,
    n_head: usize,
    width: usize,
) -> Result<Norm, Error> {
    let (n_parts, n_part) = match norm.span {
        Span::Head => (1, width),
        Span::EachHead => (n_head, width),
        Span::Whole => (1, n_head * width),
    };
    if !norm.weight {
        return Ok(Norm::bare(norm.kind, norm.eps));
    }
    Norm::bind_parts(lower.binder, name, (norm.kind, norm.eps), (n_parts, n_part))
}

/// The matrices of queries, of keys and of values, those that there are.
fn projections(
    b: &Binder,
    p: &str,
    a: &Attn,
    rows: [usize; 3],
    n_embd: usize,
) -> Result<(Matrix, Option<Matrix>, Option<Matrix>), Error> {
    match a.kv {
        Kv::Own => {
            let names = ["attn_q", "attn_k", "attn_v"];
            let [q, k, v] = b.split(p, "attn_qkv", names, rows, n_embd)?;
            Ok((q, Some(k), Some(v)))
        }
        Kv::KeyAsValue => {
            let [q, k] = [("attn_q", rows[0]), ("attn_k", rows[1])]
                .map(|(name, rows)| b.matrix(&format!("{p}{name}"), rows, n_embd));
            Ok((q?, Some(k?), None))
        }
        Kv::Encoder => Ok((b.matrix(&format!("{p}cross_attn_q"), rows[0], n_embd)?, None, None)),
        Kv::Layer(_) => {
            // Some checkpoints keep projections that were never trained.
            for name in ["attn_k", "attn_v", "attn_k_norm"] {
                b.ignore(&format!("{p}{name}.weight"));
            }
            Ok((b.matrix(&format!("{p}attn_q"), rows[0], n_embd)?, None, None))
        }
    }
}

impl Attention {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, a: &Attn) -> Result<Attention, Error> {
        check(p, a)?;
        let (b, n_embd) = (lower.binder, lower.n_embd);
        let gate_from = a.gate.map(Gate::from);
        let q_stride = match gate_from {
            Some(GateFrom::Query) => a.head_dim_k + a.head_dim_v,
            _ => a.head_dim_k,
        };
        let rows = [a.n_head * q_stride, a.n_head_kv * a.head_dim_k, a.n_head_kv * a.head_dim_v];
        let n_out = a.n_head * a.head_dim_v;
        let (q, k, v) = projections(b, p, a, rows, n_embd)?;
        let gate = match gate_from {
            None | Some(GateFrom::Query) => None,
            Some(GateFrom::Values) => Some(b.matrix(&format!("{p}attn_gate"), n_out, n_embd)?),
            Some(GateFrom::Heads) => Some(b.matrix(&format!("{p}attn_gate"), a.n_head, n_embd)?),
        };
        let out = b.matrix(&out_name(b, p, a), n_embd, n_out)?;
        let norm = |name: &str, n_head| match &a.qk_norm {
            None => Ok(None),
            Some(n) => qk_norm(lower, &format!("{p}{name}"), n, n_head, a.head_dim_k).map(Some),
        };
        let q_norm = norm("attn_q_norm", a.n_head)?;
        let k_norm = if k.is_some() { norm("attn_k_norm", a.n_head_kv)? } else { None };
        let sub_norm = a.sub_norm.as_ref().map(|norm| Norm::bind(b, p, norm, n_out)).transpose()?;
        let sinks = match a.sinks {
            true => Some(b.vector(&format!("{p}attn_sinks.weight"), a.n_head)?),
            false => None,
        };
        let remembered = remembered(lower, p, a, rows)?;
        let bias = a.relative.as_ref().map(|r| Bias::bind(b, p, a, r)).transpose()?;
        let mut linear = |m: Option<_>| m.map(|m| lower.linear(m)).transpose();
        let (k, v, gate) = (linear(k)?, linear(v)?, linear(gate)?);
        let (q, out) = (lower.linear(q)?, lower.linear(out)?);
        let rope = match &a.rope {
            None => None,
            Some(rope) => Some((lower.rope(rope)?, layout(rope.pairing))),
        };
        Self::reserve(lower, a, rows, gate.as_ref().map_or(0, |g| g.m.rows));
        let kv = Self::slot(lower, p, a)?;
        let v_norm = a.v_norm.map(|eps| Norm::bare(crate::spec::NormKind::Rms, eps));
        let slopes = a.alibi.map(|max| alibi_slopes(a.n_head, max));
        let spec = a.clone();
        Ok(Attention {
            spec,
            q,
            k,
            v,
            remembered,
            gate,
            out,
            q_norm,
            k_norm,
            v_norm,
            sub_norm,
            rope,
            sinks,
            slopes,
            bias,
            kv,
            q_stride,
        })
    }

    /// Makes room for a row's queries, keys, values and gates, and for the kernel.
    fn reserve(lower: &mut Lower<'_>, a: &Attn, rows: [usize; 3], n_gate: usize) {
        let n_out = a.n_head * a.head_dim_v;
        let w = &mut lower.widths;
        w.q = w.q.max(rows[0]);
        w.k = w.k.max(rows[1]);
        w.v = w.v.max(rows[2]);
        w.o = w.o.max(n_out);
        w.g = w.g.max(n_gate);
        w.cols = w.cols.max(rows[0]).max(rows[1]).max(2 * a.head_dim_v);
        let attend = tile::shape(a, 0, rows[0] / a.n_head);
        w.attend = w.attend.max(attend.scratch_len());
        w.parts = w.parts.max(attend.parts_len(lower.n_ctx));
    }

    /// The keys and values in the state: new ones, or those of another layer.
    fn slot(lower: &mut Lower<'_>, p: &str, a: &Attn) -> Result<usize, Error> {
        let shape = KvShape {
            n_head_kv: a.n_head_kv,
            head_dim_k: a.head_dim_k,
            head_dim_v: a.head_dim_v,
            window: match a.window {
                Window::Full | Window::Symmetric(_) => None,
                Window::Sliding(n) | Window::Chunked(n) => Some(n),
            },
            v_in_k: false,
        };
        if let Kv::Layer(from) = a.kv {
            let slot = lower.kv_of_layer.get(from).copied().flatten();
            return slot.filter(|&s| lower.layout.kv[s] == shape).ok_or_else(|| Error::BadValue {
                key: "attention.shared_kv_layers".into(),
                found: format!("{p}attn with the keys and values of block {from}"),
                expected: "an earlier block with attention of the same sizes and window".into(),
            });
        }
        if a.kv == Kv::Encoder {
            lower.memory.kv.push(shape);
            return Ok(lower.memory.kv.len() - 1);
        }
        let slot = lower.layout.kv.len();
        lower.layout.kv.push(shape);
        lower.note_kv(slot);
        Ok(slot)
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let all =
            [Some(&self.q), self.k.as_ref(), self.v.as_ref(), self.gate.as_ref(), Some(&self.out)];
        all.into_iter().flatten().chain(self.remembered.iter().flatten()).collect()
    }

    /// Stores keys and values of the encoder's final rows, which stand in the buffer of results; the
    /// state is the encoder's.
    pub(crate) fn remember(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let Some([k, v]) = &self.remembered else { return Ok(()) };
        let (b, n_kv) = (cx.bufs, self.spec.n_head_kv);
        let src = Source::plain(&b.y, b.widths.n_embd);
        let jobs = [(k, Dest::Set(&b.k, k.m.rows)), (v, Dest::Set(&b.v, v.m.rows))];
        linear::apply(w, cx, &src, jobs)?;
        while let Some(range) = w.claim(cx.n_rows() * n_kv, n_kv) {
            for item in range {
                let private = &b.private[w.index()];
                self.place(cx, private, item / n_kv, self.spec.n_head + item % n_kv);
            }
        }
        w.barrier()
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let (n, b) = (cx.n_rows(), cx.bufs);
        // Arrays rather than vectors: nothing is allocated for a token.
        let mut jobs = [(&self.q, Dest::Set(&b.q, self.q.m.rows)); 4];
        let mut n_jobs = 1;
        for (linear, buffer) in [(&self.k, &b.k), (&self.v, &b.v), (&self.gate, &b.g)] {
            if let Some(linear) = linear {
                jobs[n_jobs] = (linear, Dest::Set(buffer, linear.m.rows));
                n_jobs += 1;
            }
        }
        let users = jobs.map(|(linear, _)| linear);
        let acts = linear::prepare(w, cx, src, &users[..n_jobs])?;
        linear::project(w, cx, &acts, n, &jobs[..n_jobs]);
        w.barrier()?;

        w.enter(Phase::Place);
        self.place_all(w, cx);
        w.barrier()?;
        w.enter(Phase::Attend);
        self.attend_all(w, cx);
        w.barrier()?;

        w.enter(Phase::AttnOut);
        let n_out = self.spec.n_head * self.spec.head_dim_v;
        let src = Source { norm: self.sub_norm.as_ref(), ..Source::plain(&b.o, n_out) };
        let acts = linear::prepare(w, cx, &src, &[&self.out])?;
        linear::project(w, cx, &acts, n, &[(&self.out, dest)]);
        w.barrier()
    }
}

/// Keys and values of attention to an encoder.
fn remembered(
    lower: &mut Lower<'_>,
    p: &str,
    a: &Attn,
    rows: [usize; 3],
) -> Result<Option<[Linear; 2]>, Error> {
    if a.kv != Kv::Encoder {
        return Ok(None);
    }
    // Files may hold a table of biases that the published model does not use.
    lower.binder.ignore(&format!("{p}cross_attn_rel_b.weight"));
    let matrix = |name, rows| lower.binder.matrix(&format!("{p}{name}"), rows, lower.n_embd);
    let [k, v] = [matrix("cross_attn_k", rows[1])?, matrix("cross_attn_v", rows[2])?];
    Ok(Some([lower.linear(k)?, lower.linear(v)?]))
}

/// The output projection goes by several names.
fn out_name(b: &Binder, p: &str, a: &Attn) -> String {
    let own = if a.kv == Kv::Encoder { "cross_attn" } else { "attn" };
    let short = format!("{p}{own}_o");
    if b.has(&format!("{short}.weight")) { short } else { format!("{p}{own}_output") }
}

/// The kernel's word for a pairing.
pub(super) fn layout(pairing: Pairing) -> RopeLayout {
    match pairing {
        Pairing::Neighbours => RopeLayout::Pairs,
        Pairing::Halves => RopeLayout::Halves,
    }
}
