//! What happens to queries, keys and values between their projection and attention: bounds, norms,
//! rotation, scales, and storing.

use super::Attention;
use crate::ops::norm::Norm;
use crate::ops::{Cx, Private};
use crate::spec::{Kv, Span, Temperature};
use crate::team::Worker;
use quant::PAGE;
use std::sync::Arc;

/// Slopes of ALiBi for `n_head` heads (Press et al. 2021): a geometric series for the largest power
/// of two, and every other term of the next finer one for the remaining heads.
pub(super) fn alibi_slopes(n_head: usize, max_bias: f32) -> Arc<[f32]> {
    let whole = 1 << n_head.max(1).ilog2();
    let term =
        |i: usize, n: usize| (-f64::from(max_bias) * (i + 1) as f64 / n as f64).exp2() as f32;
    (0..n_head)
        .map(|h| if h < whole { term(h, whole) } else { term(2 * (h - whole), 2 * whole) })
        .collect()
}

/// The factor on a query at `pos`.
pub(in crate::ops) fn temperature(t: &Temperature, pos: usize) -> f32 {
    let steps = (pos + t.offset) / t.n.max(1);
    1.0 + t.scale * (1.0 + steps as f32).ln()
}

impl Attention {
    /// Shares out (row, head), or rows where a norm spans all heads, among the workers.
    pub(super) fn place_all(&self, w: &Worker<'_>, cx: &Cx<'_>) {
        let (n, private) = (cx.n_rows(), &cx.bufs.private[w.index()]);
        let n_kv = if self.k.is_some() { self.spec.n_head_kv } else { 0 };
        let heads = self.spec.n_head + n_kv;
        if self.spec.qk_norm.is_some_and(|n| n.span == Span::Whole) {
            while let Some(range) = w.claim(n, 1) {
                for row in range {
                    self.norm_rows(cx, private, row);
                    (0..heads).for_each(|head| self.place(cx, private, row, head));
                }
            }
            return;
        }
        // Keys of neighbouring positions share cache lines: a worker takes a line's worth of rows, where
        // there are enough of them.
        let rows = (n / (4 * w.n_threads())).min(32);
        while let Some(range) = w.claim(n * heads, self.spec.n_head.max(4).max(rows * heads)) {
            for item in range {
                self.place(cx, private, item / heads, item % heads);
            }
        }
    }

    /// Bounds and normalises a row's queries, and its keys, as a whole.
    fn norm_rows(&self, cx: &Cx<'_>, private: &Private, row: usize) {
        let a = &self.spec;
        let parts = [
            (&cx.bufs.q, a.n_head * self.q_stride, &self.q_norm),
            (&cx.bufs.k, a.n_head_kv * a.head_dim_k, &self.k_norm),
        ];
        for (buffer, n, norm) in parts {
            let Some(norm) = norm else { continue };
            // SAFETY: the row was claimed; the scratch belongs to this worker.
            let (x, normed) =
                unsafe { (buffer.part_mut(row * n..(row + 1) * n), private.row.part_mut(0..n)) };
            self.bound(x);
            norm.apply(cx.vec, x, normed);
            x.copy_from_slice(normed);
        }
    }

    fn bound(&self, x: &mut [f32]) {
        if let Some(c) = self.spec.clamp {
            x.iter_mut().for_each(|v| *v = v.clamp(-c, c));
        }
    }

    /// One query head made ready for attention, or one key/value head made ready and stored
    /// (`head` counts query heads first).
    pub(super) fn place(&self, cx: &Cx<'_>, private: &Private, row: usize, head: usize) {
        let a = &self.spec;
        let r = &cx.batch.rows[row];
        let Some(h) = head.checked_sub(a.n_head) else {
            let at = (row * a.n_head + head) * self.q_stride;
            // SAFETY: (row, head) pairs are claimed.
            let q = unsafe { cx.bufs.q.part_mut(at..at + a.head_dim_k) };
            self.norm_and_rotate(cx, private, self.q_norm.as_ref(), (row, head), q);
            let t = a.temperature.as_ref().map_or(1.0, |t| temperature(t, r.pos));
            return cx.vec.scale(q, a.scale * t);
        };
        let (dk, dv) = (a.head_dim_k, a.head_dim_v);
        let kv = cx.state.layer(self.kv);
        let page = cx.state.page(self.kv, r.seq, r.pos / PAGE);
        let (o, place) = (cx.state.options(), (page, h, r.pos % PAGE));
        // SAFETY: a position of a sequence is one row of the batch, and its head was claimed.
        unsafe {
            let at = (row * a.n_head_kv + h) * dk;
            let k = cx.bufs.k.part_mut(at..at + dk);
            if a.kv == Kv::KeyAsValue {
                let v = private.row.part_mut(0..dv);
                v.copy_from_slice(k);
                kv.store_value((o.type_v, cx.vec), place, self.value(cx, private, v));
            } else {
                let at = (row * a.n_head_kv + h) * dv;
                let v = cx.bufs.v.part_mut(at..at + dv);
                kv.store_value((o.type_v, cx.vec), place, self.value(cx, private, v));
            }
            self.norm_and_rotate(cx, private, self.k_norm.as_ref(), (row, h), k);
            kv.store_key((o.type_k, cx.vec), place, k);
        }
    }

    /// A value head as it is stored.
    fn value<'v>(&self, cx: &Cx<'_>, private: &'v Private, v: &'v mut [f32]) -> &'v [f32] {
        self.bound(v);
        let Some(norm) = &self.v_norm else { return v };
        let n = v.len();
        // SAFETY: the scratch belongs to this worker, and `v` lies before it or elsewhere.
        let normed = unsafe { private.row.part_mut(n..2 * n) };
        norm.apply(cx.vec, v, normed);
        normed
    }

    fn norm_and_rotate(
        &self,
        cx: &Cx<'_>,
        private: &Private,
        norm: Option<&Norm>,
        (row, head): (usize, usize),
        x: &mut [f32],
    ) {
        let whole = self.spec.qk_norm.is_some_and(|n| n.span == Span::Whole);
        let spec = self.spec.qk_norm.as_ref().filter(|_| !whole);
        if !whole {
            self.bound(x);
        }
        let apply = |x: &mut [f32]| {
            let Some((norm, spec)) = norm.zip(spec) else { return };
            // SAFETY: the scratch belongs to this worker.
            let normed = unsafe { private.row.part_mut(0..x.len()) };
            match spec.span {
                Span::EachHead => norm.apply_part(cx.vec, head, x, normed),
                _ => norm.apply(cx.vec, x, normed),
            }
            x.copy_from_slice(normed);
        };
        let after = spec.is_some_and(|n| n.after_rope);
        if !after {
            apply(x);
        }
        if let Some((table, layout)) = self.rope {
            let n_rot = self.spec.rope.as_ref().map_or(0, |r| r.n_rot);
            cx.vec.rope(x, cx.bufs.rope_row(table, row, n_rot), layout);
        }
        if after {
            apply(x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_follow_the_paper() {
        let eight: Vec<f32> = (1..=8).map(|i| 0.5f32.powi(i)).collect();
        assert_eq!(&alibi_slopes(8, 8.0)[..], eight);
        // Twelve heads: the eight, then every other one of sixteen.
        let twelve = alibi_slopes(12, 8.0);
        assert_eq!(&twelve[..8], eight);
        for (i, slope) in twelve[8..].iter().enumerate() {
            assert!((slope - 0.5f32.powf(0.5 + i as f32)).abs() < 1e-6, "{slope}");
        }
    }

    #[test]
    fn temperature_rises_in_steps() {
        let t = Temperature { scale: 0.1, n: 8, offset: 0 };
        assert_eq!([0, 7].map(|p| temperature(&t, p)), [1.0, 1.0]);
        assert_eq!(temperature(&t, 8), 1.0 + 0.1 * 2f32.ln());
        assert_eq!(temperature(&Temperature { offset: 1, ..t }, 7), 1.0 + 0.1 * 2f32.ln());
    }
}
