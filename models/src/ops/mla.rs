//! Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434).
//!
//! A position keeps a latent row c, normalised, and one rotated key r that all heads share. The
//! expanded form makes `[K_h c, r]` and `V_h c` for every head and keeps those. The absorbed form
//! keeps `[c, r]` alone and works in the latent space: `q . (K c) = (K^T q) . c`, and the result
//! `sum_t p_t V c_t = V (sum_t p_t c_t)`, so that all heads read one key row whose first part is the
//! value row.
//!
//! Phases: prepare · down · prepare · up · place · (choose ·) attend · (values ·) prepare · out.

use super::attend::Attend;
use super::attention::{self, temperature};
use super::linear::{self, Dest, Linear, Source};
use super::norm::Norm;
use super::sparse::{Indexer, Sparse};
use super::{Cx, Private, Rows};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, LatentForm, NormKind};
use crate::state::KvShape;
use crate::team::{Stop, Worker};
use quant::{PAGE, QueryRow, RopeLayout};

/// Rows whose keys a worker places at a time.
const ROWS: usize = 8;

pub(crate) struct Mla {
    spec: spec::Mla,
    /// Down, norm and up, or the one matrix of queries.
    q: Queries,
    /// Rows: latent, rotated key.
    kv_a: Linear,
    kv_norm: Norm,
    form: Form,
    out: Linear,
    rope: Option<(usize, RopeLayout)>,
    attend: Attend<'static>,
}

enum Queries {
    Full(Box<Linear>),
    LowRank { down: Box<Linear>, norm: Norm, up: Box<Linear> },
}

enum Form {
    /// Per head: [kv_rank, n_nope] and [head_dim_v, kv_rank]. `sparse` where rows may see more
    /// positions than they attend to.
    Absorbed { k_b: Linear, v_b: Linear, sparse: Option<Box<Sparse>> },
    /// Rows by head: key without position, value.
    Expanded(Linear),
}

impl Form {
    fn sparse(&self) -> Option<&Sparse> {
        match self {
            Form::Absorbed { sparse, .. } => sparse.as_deref(),
            Form::Expanded(_) => None,
        }
    }
}

impl Mla {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, m: &spec::Mla) -> Result<Mla, Error> {
        let (b, n_embd, n_head) = (lower.binder, lower.n_embd, m.n_head);
        let rope = match &m.rope {
            None => None,
            Some(rope) => Some((lower.rope(rope)?, attention::layout(rope.pairing))),
        };
        let sparse = Sparse::bind(lower, p, m, rope.map(|(table, _)| table))?.map(Box::new);
        let (kv_rank, n_k) = (m.kv_rank, m.n_nope + m.n_rot);
        let linear = |lower: &mut Lower<'_>, name: &str, rows, cols| {
            let m = b.matrix(&format!("{p}{name}"), rows, cols)?;
            lower.linear(m)
        };
        let norm = |name, n| {
            let norm = spec::Norm { kind: NormKind::Rms, eps: m.norm_eps, name: Some(name) };
            Norm::bind(b, p, &norm, n)
        };
        let q = match m.q_rank {
            None => Queries::Full(linear(lower, "attn_q", n_head * n_k, n_embd)?.into()),
            Some(rank) => Queries::LowRank {
                down: linear(lower, "attn_q_a", rank, n_embd)?.into(),
                norm: norm("attn_q_a_norm", rank)?,
                up: linear(lower, "attn_q_b", n_head * n_k, rank)?.into(),
            },
        };
        let kv_a = linear(lower, "attn_kv_a_mqa", kv_rank + m.n_rot, n_embd)?;
        let kv_norm = norm("attn_kv_a_norm", kv_rank)?;
        let out = linear(lower, "attn_output", n_embd, n_head * m.head_dim_v)?;
        let (form, shape) = Self::form(lower, p, m, sparse)?;
        let attend = Attend {
            bias: None,
            memory: false,
            n_head,
            n_head_kv: shape.n_head_kv,
            head_dim_k: shape.head_dim_k,
            head_dim_v: shape.head_dim_v,
            v_in_k: shape.v_in_k,
            q_stride: shape.head_dim_k,
            softcap: None,
            kv: lower.layout.kv.len(),
            end: form.sparse().map_or(usize::MAX, Sparse::top_k),
        };
        lower.layout.kv.push(shape);
        let expanded = n_head * (m.n_nope + m.head_dim_v);
        let wide = if shape.v_in_k { n_head * m.head_dim_v } else { expanded };
        lower.mix(&[m.q_rank.unwrap_or(0), kv_rank + m.n_rot, n_head * n_k, wide]);
        let w = &mut lower.widths;
        w.q = w.q.max(n_head * shape.head_dim_k);
        w.o = w.o.max(n_head * shape.head_dim_v);
        w.cols = w.cols.max(shape.head_dim_k);
        let sparse = form.sparse().map_or(0, |s| s.scratch_len(&attend, lower.n_ctx));
        w.attend = w.attend.max(attend.scratch_len()).max(sparse);
        w.parts = w.parts.max(attend.parts_len(lower.n_ctx));
        Ok(Mla { spec: m.clone(), q, kv_a, kv_norm, form, out, rope, attend })
    }

    /// The matrices between latent rows and heads, and what the cache holds.
    fn form(
        lower: &mut Lower<'_>,
        p: &str,
        m: &spec::Mla,
        sparse: Option<Box<Sparse>>,
    ) -> Result<(Form, KvShape), Error> {
        let b = lower.binder;
        let (n_head, kv_rank, window) = (m.n_head, m.kv_rank, None);
        Ok(match m.form {
            LatentForm::Absorbed { .. } => {
                let k_b = b.matrices(&format!("{p}attn_k_b"), kv_rank, m.n_nope, n_head)?;
                let v_b = b.matrices(&format!("{p}attn_v_b"), m.head_dim_v, kv_rank, n_head)?;
                // Some files keep the expanded form beside the absorbed one.
                b.ignore(&format!("{p}attn_kv_b.weight"));
                let (head_dim_k, head_dim_v) = (kv_rank + m.n_rot, kv_rank);
                let shape = KvShape { n_head_kv: 1, head_dim_k, head_dim_v, window, v_in_k: true };
                let [k_b, v_b] = [lower.linear_alone(k_b)?, lower.linear_alone(v_b)?];
                (Form::Absorbed { k_b, v_b, sparse }, shape)
            }
            LatentForm::Expanded => {
                let rows = n_head * (m.n_nope + m.head_dim_v);
                let kv_b = b.matrix(&format!("{p}attn_kv_b"), rows, kv_rank)?;
                let (head_dim_k, head_dim_v) = (m.n_nope + m.n_rot, m.head_dim_v);
                let shape =
                    KvShape { n_head_kv: n_head, head_dim_k, head_dim_v, window, v_in_k: false };
                (Form::Expanded(lower.linear(kv_b)?), shape)
            }
        })
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut all = match &self.q {
            Queries::Full(q) => vec![&**q],
            Queries::LowRank { down, up, .. } => vec![&**down, &**up],
        };
        all.push(&self.kv_a);
        match &self.form {
            Form::Absorbed { k_b, v_b, .. } => all.extend([k_b, v_b]),
            Form::Expanded(kv_b) => all.push(kv_b),
        }
        all.push(&self.out);
        all.extend(self.indexer().iter().flat_map(|i| i.linears()));
        all
    }

    fn indexer(&self) -> Option<&Indexer> {
        self.form.sparse()?.indexer()
    }

    /// Queries, latent rows and what an indexer scores with, up to the barrier.
    fn project(&self, w: &Worker<'_>, cx: &Cx<'_>, src: &Source<'_>) -> Result<(), Stop> {
        let [low, latent, q, ..] = &cx.bufs.mix;
        let n_q = self.spec.n_head * (self.spec.n_nope + self.spec.n_rot);
        let kv = (&self.kv_a, Dest::Set(latent, self.kv_a.m.rows));
        let (down, norm, up) = match &self.q {
            Queries::Full(full) => {
                return linear::apply(w, cx, src, [(full, Dest::Set(q, n_q)), kv]);
            }
            Queries::LowRank { down, norm, up } => (down, norm, up),
        };
        let rank = down.m.rows;
        let compressed = Source { norm: Some(norm), ..Source::plain(low, rank) };
        let (down, up) = ((&**down, Dest::Set(low, rank)), (&**up, Dest::Set(q, n_q)));
        match self.indexer() {
            None => {
                linear::apply(w, cx, src, [down, kv])?;
                linear::apply(w, cx, &compressed, [up])
            }
            Some(indexer) => {
                let [key, weights] = indexer.of_input(cx);
                linear::apply(w, cx, src, [down, kv, key, weights])?;
                linear::apply(w, cx, &compressed, [up, indexer.of_query(cx)])
            }
        }
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let m = &self.spec;
        let [_, latent, _, wide, ..] = &cx.bufs.mix;
        self.project(w, cx, src)?;
        let causal = |_: usize, pos: usize, _: usize| QueryRow::new(0, pos + 1);
        match &self.form {
            Form::Absorbed { k_b, v_b, sparse } => {
                self.place_absorbed(w, cx, k_b)?;
                sparse.as_ref().map_or(Ok(()), |s| s.choose(w, cx))?;
                self.attend.run(w, cx, causal, |_, _, _| ());
                w.barrier()?;
                sparse.as_ref().map_or(Ok(()), |s| s.attend(w, cx, &self.attend))?;
                self.values(w, cx, v_b)?;
                let src = Source::plain(wide, m.n_head * m.head_dim_v);
                linear::apply(w, cx, &src, [(&self.out, dest)])
            }
            Form::Expanded(kv_b) => {
                let norm = Some(&self.kv_norm);
                let n_latent = self.kv_a.m.rows;
                let src = Source { norm, ..Source::columns(latent, n_latent, 0..m.kv_rank) };
                linear::apply(w, cx, &src, [(kv_b, Dest::Set(wide, kv_b.m.rows))])?;
                self.place_expanded(w, cx)?;
                self.attend.run(w, cx, causal, |_, _, _| ());
                w.barrier()?;
                let src = Source::plain(&cx.bufs.o, m.n_head * m.head_dim_v);
                linear::apply(w, cx, &src, [(&self.out, dest)])
            }
        }
    }

    fn rotate(&self, cx: &Cx<'_>, row: usize, x: &mut [f32]) {
        if let Some((table, layout)) = self.rope {
            cx.vec.rope(x, cx.bufs.rope_row(table, row, self.spec.n_rot), layout);
        }
    }

    /// Factor on the query at `pos`.
    fn scale(&self, pos: usize) -> f32 {
        self.spec.scale * self.spec.temperature.as_ref().map_or(1.0, |t| temperature(t, pos))
    }

    /// Projected queries, [row, head, n_nope + n_rot].
    fn projected<'a>(&self, cx: &Cx<'a>) -> Rows<'a> {
        let stride = self.spec.n_head * (self.spec.n_nope + self.spec.n_rot);
        Rows { buffer: &cx.bufs.mix[2], stride }
    }

    /// Queries to the latent space and latent rows to the cache, up to the barrier.
    fn place_absorbed(&self, w: &Worker<'_>, cx: &Cx<'_>, k_b: &Linear) -> Result<(), Stop> {
        let n_head = self.spec.n_head;
        let private = &cx.bufs.private[w.index()];
        let blocks = cx.n_rows().div_ceil(ROWS);
        while let Some(claim) = w.claim(n_head + blocks, 1) {
            match claim.start.checked_sub(n_head) {
                None => self.query_head(cx, private, k_b, claim.start),
                Some(block) => {
                    let rows = block * ROWS..cx.n_rows().min((block + 1) * ROWS);
                    rows.for_each(|row| self.store_row(cx, private, row));
                }
            }
        }
        w.barrier()
    }

    /// One head's queries of all rows: `[K^T q, rotated q]`, scaled.
    fn query_head(&self, cx: &Cx<'_>, private: &Private, k_b: &Linear, head: usize) {
        let m = &self.spec;
        let (from, width) = (self.projected(cx), m.n_nope + m.n_rot);
        let n = m.kv_rank + m.n_rot;
        let to = Rows { buffer: &cx.bufs.q, stride: m.n_head * n };
        for row in 0..cx.n_rows() {
            // SAFETY: the head was claimed: its columns are this worker's.
            unsafe {
                let q = from.get_mut(row as u32, head * width..(head + 1) * width);
                cx.vec.scale(q, self.scale(cx.batch.rows[row].pos));
                let rotated = to.get_mut(row as u32, head * n + m.kv_rank..(head + 1) * n);
                rotated.copy_from_slice(&q[m.n_nope..]);
                self.rotate(cx, row, rotated);
            }
        }
        let columns = head * width..head * width + m.n_nope;
        // SAFETY: as above, for the rest of the head's columns.
        unsafe { linear::multiply_alone(cx, private, (k_b, head), (from, columns), to, head * n) };
    }

    /// What the cache keeps of a row.
    fn store_row(&self, cx: &Cx<'_>, private: &Private, row: usize) {
        self.store_latent(cx, private, row);
        if let Some((sparse, indexer)) = self.form.sparse().zip(self.indexer()) {
            let chooses = cx.batch.rows[row].pos >= sparse.top_k();
            // SAFETY: rows are claimed, and were projected in the phases before; the scratch belongs
            // to this worker, and what `store_latent` had of it is stored.
            unsafe { indexer.place(cx, private, row, chooses) };
        }
    }

    /// Normalises and rotates a latent row and stores it.
    fn store_latent(&self, cx: &Cx<'_>, private: &Private, row: usize) {
        let m = &self.spec;
        let n = m.kv_rank + m.n_rot;
        let latent = Rows { buffer: &cx.bufs.mix[1], stride: n };
        let kv = cx.state.layer(self.attend.kv);
        let r = &cx.batch.rows[row];
        let page = cx.state.page(self.attend.kv, r.seq, r.pos / PAGE);
        // SAFETY: rows are claimed, a position is one row, the scratch belongs to this worker.
        unsafe {
            let x = latent.get(row as u32, 0..n);
            let key = private.row.part_mut(0..n);
            self.kv_norm.apply(cx.vec, &x[..m.kv_rank], &mut key[..m.kv_rank]);
            key[m.kv_rank..].copy_from_slice(&x[m.kv_rank..]);
            self.rotate(cx, row, &mut key[m.kv_rank..]);
            let ty = cx.state.options().type_k;
            kv.store_key((ty, cx.vec), (page, 0, r.pos % PAGE), key);
        }
    }

    /// Results from the latent space to value heads, up to the barrier.
    fn values(&self, w: &Worker<'_>, cx: &Cx<'_>, v_b: &Linear) -> Result<(), Stop> {
        let m = &self.spec;
        let from = Rows { buffer: &cx.bufs.o, stride: m.n_head * m.kv_rank };
        let to = Rows { buffer: &cx.bufs.mix[3], stride: m.n_head * m.head_dim_v };
        let private = &cx.bufs.private[w.index()];
        while let Some(claim) = w.claim(m.n_head, 1) {
            let head = claim.start;
            let columns = head * m.kv_rank..(head + 1) * m.kv_rank;
            let at = head * m.head_dim_v;
            // SAFETY: the head was claimed; results were finished in the phase before.
            unsafe { linear::multiply_alone(cx, private, (v_b, head), (from, columns), to, at) };
        }
        w.barrier()
    }

    /// Rotated queries, and every head's keys and values to the cache, up to the barrier.
    fn place_expanded(&self, w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
        let n_head = self.spec.n_head;
        let private = &cx.bufs.private[w.index()];
        while let Some(items) = w.claim(cx.n_rows() * n_head, n_head.max(4)) {
            for item in items {
                self.place_head(cx, private, item / n_head, item % n_head);
            }
        }
        w.barrier()
    }

    fn place_head(&self, cx: &Cx<'_>, private: &Private, row: usize, head: usize) {
        let m = &self.spec;
        let (width, wide) = (m.n_nope + m.n_rot, m.n_nope + m.head_dim_v);
        let part = |width: usize| head * width..(head + 1) * width;
        let to = Rows { buffer: &cx.bufs.q, stride: m.n_head * width };
        let heads = Rows { buffer: &cx.bufs.mix[3], stride: m.n_head * wide };
        let latent = Rows { buffer: &cx.bufs.mix[1], stride: m.kv_rank + m.n_rot };
        let r = &cx.batch.rows[row];
        let (kv, o) = (cx.state.layer(self.attend.kv), cx.state.options());
        let place = (cx.state.page(self.attend.kv, r.seq, r.pos / PAGE), head, r.pos % PAGE);
        // SAFETY: pairs of row and head are claimed, the scratch belongs to this worker, and what
        // is read was finished in the phases before.
        unsafe {
            let q = to.get_mut(row as u32, part(width));
            q.copy_from_slice(self.projected(cx).get(row as u32, part(width)));
            self.rotate(cx, row, &mut q[m.n_nope..]);
            cx.vec.scale(q, self.scale(r.pos));
            let key_value = heads.get(row as u32, part(wide));
            let key = private.row.part_mut(0..width);
            key[..m.n_nope].copy_from_slice(&key_value[..m.n_nope]);
            key[m.n_nope..].copy_from_slice(latent.get(row as u32, m.kv_rank..latent.stride));
            self.rotate(cx, row, &mut key[m.n_nope..]);
            kv.store_key((o.type_k, cx.vec), place, key);
            kv.store_value((o.type_v, cx.vec), place, &key_value[m.n_nope..]);
        }
    }
}
