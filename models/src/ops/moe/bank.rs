//! The networks of a mixture: banks of experts, and the one that every row goes through.

use super::Moe;
use super::route::Routes;
use crate::error::Error;
use crate::ops::ffn::{Hidden, Names};
use crate::ops::linear::{self, Acts, Dest, Linear, Source};
use crate::ops::{Cx, Private};
use crate::plan::Lower;
use crate::spec;
use crate::team::{Stop, Worker};
use std::ops::Range;

/// Networks of one shape, each for one expert or for several neighbours.
pub(super) struct Bank {
    pub(super) hidden: Hidden,
    down: Linear,
    /// Networks.
    n: usize,
    /// Experts that a network serves.
    n_expert_each: usize,
}

/// Tensor base names of a bank: gate and up in one tensor, or apart.
pub(super) struct BankNames {
    pub(super) fused: &'static str,
    pub(super) each: Names,
}

/// A network that every row goes through.
pub(super) struct SharedNet {
    pub(super) hidden: Hidden,
    down: Linear,
    /// One row: a logit whose logistic function multiplies the result.
    pub(super) gate: Option<Linear>,
    scale: f32,
}

impl Bank {
    pub(super) fn bind(
        lower: &mut Lower<'_>,
        p: &str,
        f: &spec::Ffn,
        names: &BankNames,
        (n_expert, n_expert_each): (usize, usize),
    ) -> Result<Bank, Error> {
        let (b, n_embd, n_ff) = (lower.binder, lower.n_embd, f.n_ff);
        let n = n_expert.div_ceil(n_expert_each);
        let each = &names.each;
        let (gate, up) = if f.gated {
            let parts = [each.gate, each.up];
            let [gate, up] = b.split_experts(p, names.fused, parts, [n_ff, n_ff], n_embd, n)?;
            (Some(gate), up)
        } else {
            (None, b.matrices(&format!("{p}{}", each.up), n_ff, n_embd, n)?)
        };
        let down = b.matrices(&format!("{p}{}", each.down), n_embd, n_ff, n)?;
        lower.widths.expert_h = lower.widths.expert_h.max(n_ff);
        let hidden = Hidden::new(lower, f.act, gate, up)?;
        Ok(Bank { hidden, down: lower.linear(down)?, n, n_expert_each })
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.hidden.linears().chain([&self.down])
    }
}

impl SharedNet {
    pub(super) fn bind(lower: &mut Lower<'_>, p: &str, s: &spec::Shared) -> Result<Self, Error> {
        let (b, n_embd, n_ff) = (lower.binder, lower.n_embd, s.ffn.n_ff);
        let up = b.matrix(&format!("{p}ffn_up_shexp"), n_ff, n_embd)?;
        let gate = match s.ffn.gated {
            true => Some(b.matrix(&format!("{p}ffn_gate_shexp"), n_ff, n_embd)?),
            false => None,
        };
        let down = b.matrix(&format!("{p}ffn_down_shexp"), n_embd, n_ff)?;
        let logit = b.opt_matrix(&format!("{p}ffn_gate_inp_shexp"), 1, n_embd)?;
        let w = &mut lower.widths;
        w.h = w.h.max(n_ff);
        w.o = w.o.max(n_embd);
        w.g = w.g.max(1);
        w.shared = true;
        let hidden = Hidden::new(lower, s.ffn.act, gate, up)?;
        let gate = logit.map(|m| lower.linear(m)).transpose()?;
        Ok(SharedNet { hidden, down: lower.linear(down)?, gate, scale: s.scale })
    }

    pub(super) fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.hidden.linears().chain([&self.down]).chain(&self.gate)
    }
}

/// What [`Moe::run_bank`] is to do.
pub(super) struct Job<'a> {
    pub(super) bank: &'a Bank,
    /// A network beside it, for every row.
    pub(super) shared: Option<&'a SharedNet>,
    /// Factor on the weights.
    pub(super) factor: f32,
    /// Add the input to the result.
    pub(super) plus: bool,
}

/// A chunk of weight rows of one network.
enum Chunk {
    /// Network, weight rows, slots.
    Expert(usize, Range<usize>, Range<usize>),
    /// Weight rows of the shared network.
    Shared(Range<usize>),
}

impl Moe {
    /// All chosen networks of one bank, and the shared one beside them: the weighted sums to `dest`.
    pub(super) fn run_bank(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        (src, acts): (&Source<'_>, &Acts<'_>),
        routes: &Routes<'_>,
        job: Job<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let Job { bank, shared, factor, plus } = job;
        let (n, n_embd, n_ff) = (cx.n_rows(), cx.bufs.widths.n_embd, bank.hidden.n_ff());
        let slots = n * routes.n_used;
        let gathered = self.gather(w, cx, (src, acts), routes, (bank, slots))?;
        let widths = (n_ff, shared.map_or(0, |s| s.hidden.n_ff()));
        share_out(w, cx, routes, bank, widths, |private, chunk| {
            // SAFETY: each claim is a set of slots (or rows) and columns of its own.
            unsafe {
                match (chunk, shared) {
                    (Chunk::Expert(expert, rows, slots), _) => {
                        let h = cx.bufs.expert_h.as_mut_ptr().add(slots.start * n_ff);
                        let part = gathered.part(slots.clone());
                        bank.hidden.run(cx, private, (expert, &rows), (&part, slots.len()), h);
                    }
                    (Chunk::Shared(rows), Some(s)) => {
                        let h = cx.bufs.h.as_mut_ptr();
                        s.hidden.run(cx, private, (0, &rows), (acts, n), h);
                    }
                    (Chunk::Shared(_), None) => {}
                }
            }
        });
        w.barrier()?;
        let (down, shared_down) = prepare_hidden(w, cx, gathered.regime(), slots, bank, shared)?;
        let widths = (n_embd, if shared.is_some() { n_embd } else { 0 });
        share_out(w, cx, routes, bank, widths, |private, chunk| {
            // SAFETY: as above.
            unsafe {
                match (chunk, shared) {
                    (Chunk::Expert(expert, rows, slots), _) => {
                        let y = cx.bufs.expert_y.as_mut_ptr();
                        let y = y.add(slots.start * n_embd + rows.start);
                        let part = (&down.part(slots.clone()), slots.len());
                        linear::multiply(cx, private, &bank.down, (expert, &rows), part, y, n_embd);
                    }
                    (Chunk::Shared(rows), Some(s)) => {
                        let y = cx.bufs.o.as_mut_ptr().add(rows.start);
                        let part = (&shared_down, n);
                        linear::multiply(cx, private, &s.down, (0, &rows), part, y, n_embd);
                    }
                    (Chunk::Shared(_), None) => {}
                }
            }
        });
        w.barrier()?;
        let weights = match bank.n_expert_each {
            1 => routes.weights,
            _ => routes.adjugate_weights,
        };
        let weights = if self.spec.weigh_input { None } else { Some((factor, weights)) };
        let beside = shared.map(|s| (s.scale, s.gate.is_some())).or(plus.then_some((1.0, false)));
        combine(w, cx, routes, weights, beside, dest);
        w.barrier()
    }

    /// Prepared rows in the order of slots.
    fn gather<'a>(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'a>,
        (src, acts): (&Source<'_>, &Acts<'_>),
        routes: &Routes<'_>,
        (bank, slots): (&Bank, usize),
    ) -> Result<Acts<'a>, Stop> {
        let users = bank.hidden.users();
        let form = match self.spec.weigh_input {
            true => (acts.regime(), linear::strides(&users)),
            false => (acts.regime(), acts.strides()),
        };
        let private = &cx.bufs.private[w.index()];
        while let Some(range) = w.claim(slots, 8) {
            for s in range {
                let choice = routes.choice_at[s] as usize;
                let row = choice / routes.n_used;
                // SAFETY: slots are claimed, scratch is private, the source is only read.
                unsafe {
                    if !self.spec.weigh_input {
                        acts.copy_row(row, &cx.bufs.expert_acts, s);
                        continue;
                    }
                    // Expert choices live in other scratch than rows do.
                    let x = private.row.part_mut(0..src.cols);
                    let part = src.buffer.part(row * src.cols..(row + 1) * src.cols);
                    match src.norm {
                        Some(norm) => norm.apply(cx.vec, part, x),
                        None => x.copy_from_slice(part),
                    }
                    cx.vec.scale(x, routes.weights[choice]);
                    linear::prepare_row(private, x, &users, form, &cx.bufs.expert_acts, s);
                }
            }
        }
        w.barrier()?;
        // SAFETY: written in the phase before, next written behind a barrier.
        Ok(unsafe { Acts::new(form.0, form.1, &cx.bufs.expert_acts, slots) })
    }
}

/// Prepares the hidden rows of a bank, and of the shared network, for their `down` matrices.
fn prepare_hidden<'a>(
    w: &Worker<'_>,
    cx: &Cx<'a>,
    regime: quant::Regime,
    slots: usize,
    bank: &Bank,
    shared: Option<&SharedNet>,
) -> Result<(Acts<'a>, Acts<'a>), Stop> {
    let n_ff = bank.hidden.n_ff();
    let form = (regime, linear::strides(&[&bank.down]));
    let shared_form =
        (regime, shared.map_or([0; linear::N_KINDS], |s| linear::strides(&[&s.down])));
    let n = if shared.is_some() { cx.n_rows() } else { 0 };
    let private = &cx.bufs.private[w.index()];
    while let Some(range) = w.claim(slots + n, 8) {
        for s in range {
            // SAFETY: slots and rows are claimed; hidden rows were finished in the phase before,
            // and the last reader of the rows prepared earlier too.
            unsafe {
                if s < slots {
                    let h = cx.bufs.expert_h.part(s * n_ff..(s + 1) * n_ff);
                    linear::prepare_row(private, h, &[&bank.down], form, &cx.bufs.expert_acts, s);
                } else if let Some(net) = shared {
                    let (row, width) = (s - slots, net.hidden.n_ff());
                    let h = cx.bufs.h.part(row * width..(row + 1) * width);
                    linear::prepare_row(
                        private,
                        h,
                        &[&net.down],
                        shared_form,
                        &cx.bufs.shared_acts,
                        row,
                    );
                }
            }
        }
    }
    w.barrier()?;
    // SAFETY: written in the phase before, next written behind a barrier.
    Ok(unsafe {
        (
            Acts::new(form.0, form.1, &cx.bufs.expert_acts, slots),
            Acts::new(shared_form.0, shared_form.1, &cx.bufs.shared_acts, n),
        )
    })
}

/// Shares out weight rows among the workers: `widths` rows of each chosen network of the bank, and
/// of the shared one. One queue, no barrier between networks.
fn share_out(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    routes: &Routes<'_>,
    bank: &Bank,
    widths: (usize, usize),
    run: impl Fn(&Private, Chunk),
) {
    let private = &cx.bufs.private[w.index()];
    let size = |rows: usize| linear::chunk(w, cx.n_rows(), rows);
    let (size, shared_size) = (size(widths.0), size(widths.1));
    let (chunks, shared_chunks) = (widths.0.div_ceil(size), widths.1.div_ceil(shared_size));
    while let Some(claim) = w.claim(bank.n * chunks + shared_chunks, 1) {
        let Some(i) = claim.start.checked_sub(shared_chunks) else {
            let first = claim.start * shared_size;
            run(private, Chunk::Shared(first..widths.1.min(first + shared_size)));
            continue;
        };
        let (net, first) = (i / chunks, i % chunks * size);
        let slots = routes.slots(net * bank.n_expert_each..(net + 1) * bank.n_expert_each);
        if !slots.is_empty() {
            run(private, Chunk::Expert(net, first..widths.0.min(first + size), slots));
        }
    }
}

/// Weighted sums of each row's experts. `weights` come with a factor; `None` where they have been
/// used already. `beside` adds what stands in the buffer of results, times a factor and, if so, the
/// logistic function of the row's gate.
fn combine(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    routes: &Routes<'_>,
    weights: Option<(f32, &[f32])>,
    beside: Option<(f32, bool)>,
    dest: Dest<'_>,
) {
    let n_embd = cx.bufs.widths.n_embd;
    let (buffer, keep, whole) = match dest {
        Dest::Set(b, _) => (b, false, 1.0),
        Dest::Add(b, _, factor) => (b, true, factor),
    };
    while let Some(range) = w.claim(cx.n_rows(), 1) {
        for row in range {
            // SAFETY: rows are claimed; results were finished in the phase before.
            unsafe {
                let out = buffer.part_mut(row * n_embd..(row + 1) * n_embd);
                if !keep {
                    out.fill(0.0);
                }
                for choice in row * routes.n_used..(row + 1) * routes.n_used {
                    let s = routes.slot_of[choice] as usize;
                    let y = cx.bufs.expert_y.part(s * n_embd..(s + 1) * n_embd);
                    let weight = weights.map_or(1.0, |(f, w)| f * w[choice]);
                    cx.vec.add_scaled(out, whole * weight, y);
                }
                if let Some((scale, gated)) = beside {
                    let mut gate = [1.0];
                    if gated {
                        gate.copy_from_slice(cx.bufs.g.part(row..row + 1));
                        cx.vec.sigmoid(&mut gate);
                    }
                    let y = cx.bufs.o.part(row * n_embd..(row + 1) * n_embd);
                    cx.vec.add_scaled(out, whole * scale * gate[0], y);
                }
            }
        }
    }
}
