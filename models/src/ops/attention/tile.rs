//! What a query of plain attention sees, and what becomes of its result.

use super::Attention;
use crate::ops::Cx;
use crate::ops::attend::Attend;
use crate::spec::{Attn, Gate, GateFrom, Kv, Window};
use crate::team::Worker;
use quant::{DistanceBias, QueryRow};
use std::ops::Range;

/// Positions that a query at `pos` sees, of a sequence that ends at `end` with this step.
fn visible(a: &Attn, pos: usize, end: usize) -> Range<usize> {
    let end = if a.causal && a.kv != Kv::Encoder { pos + 1 } else { end };
    match a.window {
        Window::Full => 0..end,
        Window::Sliding(n) => (pos + 1).saturating_sub(n)..end,
        Window::Chunked(n) => pos / n * n..end.min((pos / n + 1) * n),
        Window::Symmetric(n) => pos.saturating_sub(n)..end.min(pos + n + 1),
    }
}

/// The shape of attention over the keys and values `kv` of the state.
pub(super) fn shape<'a>(a: &Attn, kv: usize, q_stride: usize) -> Attend<'a> {
    Attend {
        bias: None,
        memory: a.kv == Kv::Encoder,
        n_head: a.n_head,
        n_head_kv: a.n_head_kv,
        head_dim_k: a.head_dim_k,
        head_dim_v: a.head_dim_v,
        v_in_k: false,
        q_stride,
        softcap: a.softcap,
        kv,
        end: usize::MAX,
    }
}

impl Attention {
    /// Shares out (rows of a sequence, key/value head) among the workers.
    pub(super) fn attend_all(&self, w: &Worker<'_>, cx: &Cx<'_>) {
        let a = &self.spec;
        let query = |head: usize, pos: usize, end: usize| {
            let seen = visible(a, pos, end);
            QueryRow {
                pos,
                sink: self.sinks.as_ref().map_or(f32::NEG_INFINITY, |s| s[head]),
                alibi_slope: self.slopes.as_ref().map_or(0.0, |s| s[head]),
                ..QueryRow::new(seen.start, seen.end)
            }
        };
        let finish = |row: usize, head: usize, o: &mut [f32]| {
            if a.value_scale != 1.0 {
                cx.vec.scale(o, a.value_scale);
            }
            if let Some(gate) = a.gate {
                // SAFETY: a pair of row and head is finished by one worker.
                unsafe { self.apply_gate(cx, gate, (row, head), o) };
            }
        };
        let bias = self.bias.as_ref();
        let bias = bias.map(|b| DistanceBias { table: &b.table, span: b.span });
        Attend { bias, ..shape(a, self.kv, self.q_stride) }.run(w, cx, query, finish);
    }

    /// Multiplies a head's result by its gate.
    ///
    /// # Safety
    /// The caller owns the pair of row and head.
    unsafe fn apply_gate(&self, cx: &Cx<'_>, gate: Gate, at: (usize, usize), o: &mut [f32]) {
        let (a, (row, head)) = (&self.spec, at);
        let index = row * a.n_head + head;
        // SAFETY: the caller owns this head's gate, which nobody else reads.
        let g = unsafe {
            match gate.from() {
                GateFrom::Values => cx.bufs.g.part_mut(index * o.len()..(index + 1) * o.len()),
                GateFrom::Heads => cx.bufs.g.part_mut(index..index + 1),
                GateFrom::Query => {
                    let first = index * self.q_stride + a.head_dim_k;
                    cx.bufs.q.part_mut(first..first + o.len())
                }
            }
        };
        match gate {
            Gate::Sigmoid(_) => cx.vec.sigmoid(g),
            // ln(1 + e^x), written so that nothing overflows.
            Gate::Softplus(_) => {
                g.iter_mut().for_each(|x| *x = x.max(0.0) + (-x.abs()).exp().ln_1p());
            }
        }
        if g.len() == 1 { cx.vec.scale(o, g[0]) } else { cx.vec.mul(o, g) }
    }
}
