//! Mixture of experts: route, gather rows by expert, two grouped products, weigh and sum.
//!
//! Phases: prepare · router · gather · hidden · prepare · down · combine. A row's result is the
//! sum over its experts in the order of choice, so it does not depend on what else is in the step.

use super::ffn::Hidden;
use super::linear::{self, Acts, Dest, Linear, Source};
use super::norm::Norm;
use super::{Cx, Private};
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, Score};
use crate::team::{Stop, Worker};
use std::ops::Range;

pub(crate) struct Moe {
    router: Linear,
    hidden: Hidden,
    down: Linear,
    spec: spec::Moe,
}

/// Which rows go to which experts, worked out by every worker for itself.
struct Routes<'a> {
    n_used: usize,
    /// Slot of each (row, choice): slots are ordered by expert.
    slot_of: &'a [u32],
    /// (row, choice) of each slot.
    choice_at: &'a [u32],
    /// First slot of each expert, and the end.
    start: &'a [u32],
    /// Weight of each (row, choice).
    weights: &'a [f32],
}

impl Routes<'_> {
    fn slots(&self, expert: usize) -> Range<usize> {
        self.start[expert] as usize..self.start[expert + 1] as usize
    }
}

impl Moe {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, m: &spec::Moe) -> Result<Moe, Error> {
        let (b, n, n_embd, n_ff) = (lower.binder, m.n_expert, lower.n_embd, m.ffn.n_ff);
        let router = b.matrix(&format!("{p}ffn_gate_inp"), n, n_embd)?;
        let gate = match m.ffn.gated {
            true => Some(b.matrices(&format!("{p}ffn_gate_exps"), n_ff, n_embd, n)?),
            false => None,
        };
        let up = b.matrices(&format!("{p}ffn_up_exps"), n_ff, n_embd, n)?;
        let down = b.matrices(&format!("{p}ffn_down_exps"), n_embd, n_ff, n)?;
        let w = &mut lower.widths;
        w.n_expert = w.n_expert.max(n);
        w.n_expert_used = w.n_expert_used.max(m.n_expert_used);
        w.expert_h = w.expert_h.max(n_ff);
        Ok(Moe {
            router: lower.linear(router)?,
            hidden: Hidden::new(lower, m.ffn.act, gate, up)?,
            down: lower.linear(down)?,
            spec: m.clone(),
        })
    }

    /// Every matrix, for listings.
    pub(crate) fn linears(&self) -> Vec<&Linear> {
        let mut all = vec![&self.router];
        all.extend(self.hidden.users());
        all.push(&self.down);
        all
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        norm: Option<&Norm>,
        layer: usize,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let (n, n_embd, n_ff) = (cx.n_rows(), cx.bufs.widths.n_embd, self.spec.ffn.n_ff);
        let mut users = self.hidden.users();
        users.push(&self.router);
        let src = Source { norm, layer: Some(layer), ..Source::plain(&cx.bufs.x, n_embd) };
        let acts = linear::prepare(w, cx, &src, &users)?;
        let logits = Dest::Set(&cx.bufs.router, self.spec.n_expert);
        linear::project(w, cx, &acts, n, &[(&self.router, logits)]);
        w.barrier()?;

        let routes = self.route(cx, &cx.bufs.private[w.index()]);
        let slots = n * routes.n_used;
        let acts = self.gather(w, cx, &acts, &routes, slots)?;
        self.by_expert(w, cx, &routes, n_ff, |private, expert, rows, slots| {
            // SAFETY: each claim is a set of slots and columns of its own.
            unsafe {
                let h = cx.bufs.expert_h.as_mut_ptr().add(slots.start * n_ff);
                let part = acts.part(slots.clone());
                self.hidden.run(cx, private, (expert, rows), (&part, slots.len()), h);
            }
        });
        w.barrier()?;

        let form = (acts.regime(), linear::strides(&[&self.down]));
        while let Some(range) = w.claim(slots, 8) {
            for s in range {
                // SAFETY: slots are claimed; hidden rows were finished in the phase before.
                unsafe {
                    let h = cx.bufs.expert_h.part(s * n_ff..(s + 1) * n_ff);
                    linear::prepare_row(h, &[&self.down], form, &cx.bufs.expert_acts, s);
                }
            }
        }
        w.barrier()?;
        // SAFETY: written in the phase before, next written behind a barrier.
        let acts = unsafe { Acts::new(form.0, form.1, &cx.bufs.expert_acts, slots) };
        self.by_expert(w, cx, &routes, n_embd, |private, expert, rows, slots| {
            // SAFETY: each claim is a set of slots and columns of its own.
            unsafe {
                let y = cx.bufs.expert_y.as_mut_ptr().add(slots.start * n_embd + rows.start);
                let part = acts.part(slots.clone());
                let at = (expert, rows);
                linear::multiply(cx, private, &self.down, at, (&part, slots.len()), y, n_embd);
            }
        });
        w.barrier()?;
        Self::combine(w, cx, &routes, dest);
        w.barrier()
    }

    /// Chooses experts for every row from the router's logits.
    fn route<'a>(&self, cx: &Cx<'_>, private: &'a Private) -> Routes<'a> {
        let (n, used, n_expert) = (cx.n_rows(), self.spec.n_expert_used, self.spec.n_expert);
        let slots = n * used;
        // SAFETY: the buffers belong to this worker.
        let (ids, weights, scores) = unsafe {
            (
                private.routes.part_mut(0..private.routes.len()),
                private.route_weights.part_mut(0..slots),
                private.row.part_mut(0..n_expert),
            )
        };
        let (chosen, rest) = ids.split_at_mut(slots);
        let (slot_of, rest) = rest.split_at_mut(slots);
        let (choice_at, rest) = rest.split_at_mut(slots);
        let (start, next) = rest.split_at_mut(n_expert + 1);
        let next = &mut next[..n_expert];
        start.fill(0);
        for row in 0..n {
            // SAFETY: router logits were finished in the phase before.
            scores.copy_from_slice(unsafe {
                cx.bufs.router.part(row * n_expert..(row + 1) * n_expert)
            });
            let range = row * used..(row + 1) * used;
            self.choose(cx, scores, &mut chosen[range.clone()], &mut weights[range.clone()]);
            chosen[range].iter().for_each(|&e| start[e as usize + 1] += 1);
        }
        for e in 0..n_expert {
            start[e + 1] += start[e];
        }
        next.copy_from_slice(&start[..n_expert]);
        for (choice, &e) in chosen.iter().enumerate() {
            let slot = next[e as usize];
            next[e as usize] += 1;
            slot_of[choice] = slot;
            choice_at[slot as usize] = choice as u32;
        }
        Routes { n_used: used, slot_of, choice_at, start, weights }
    }

    /// The best experts of one row, best first (the lower id on a tie), and their weights.
    fn choose(&self, cx: &Cx<'_>, scores: &mut [f32], ids: &mut [u32], weights: &mut [f32]) {
        if self.spec.score == Score::Softmax {
            cx.vec.softmax(scores, None);
        }
        for (id, weight) in ids.iter_mut().zip(weights.iter_mut()) {
            let best = cx.vec.argmax(scores).unwrap_or(0);
            *id = best as u32;
            *weight = scores[best];
            scores[best] = f32::NEG_INFINITY;
        }
        if self.spec.score == Score::SoftmaxOfChosen {
            cx.vec.softmax(weights, None);
        }
        let sum: f32 = weights.iter().sum();
        // A sum of zero means that every chosen expert has no weight at all: leave it so.
        if self.spec.renorm && sum > 0.0 {
            cx.vec.scale(weights, 1.0 / sum);
        }
        cx.vec.scale(weights, self.spec.scale);
    }

    /// Prepared rows in the order of slots.
    fn gather<'a>(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'a>,
        acts: &Acts<'a>,
        routes: &Routes<'_>,
        slots: usize,
    ) -> Result<Acts<'a>, Stop> {
        while let Some(range) = w.claim(slots, 8) {
            for s in range {
                let row = routes.choice_at[s] as usize / routes.n_used;
                // SAFETY: slots are claimed.
                unsafe { acts.copy_row(row, &cx.bufs.expert_acts, s) };
            }
        }
        w.barrier()?;
        // SAFETY: written in the phase before, next written behind a barrier.
        Ok(unsafe { Acts::new(acts.regime(), acts.strides(), &cx.bufs.expert_acts, slots) })
    }

    /// Shares out (expert, weight rows) among the workers: one queue, no barrier between experts.
    fn by_expert(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        routes: &Routes<'_>,
        n_rows: usize,
        job: impl Fn(&Private, usize, &Range<usize>, &Range<usize>),
    ) {
        let private = &cx.bufs.private[w.index()];
        let size = linear::chunk(w, n_rows);
        let chunks = n_rows.div_ceil(size);
        while let Some(claim) = w.claim(self.spec.n_expert * chunks, 1) {
            let (expert, chunk) = (claim.start / chunks, claim.start % chunks);
            let slots = routes.slots(expert);
            if !slots.is_empty() {
                let rows = chunk * size..n_rows.min((chunk + 1) * size);
                job(private, expert, &rows, &slots);
            }
        }
    }

    /// Weighted sums of each row's experts.
    fn combine(w: &Worker<'_>, cx: &Cx<'_>, routes: &Routes<'_>, dest: Dest<'_>) {
        let n_embd = cx.bufs.widths.n_embd;
        let (buffer, keep) = match dest {
            Dest::Set(b, _) => (b, false),
            Dest::Add(b, _) => (b, true),
        };
        while let Some(range) = w.claim(cx.n_rows(), 1) {
            for row in range {
                // SAFETY: rows are claimed; expert outputs were finished in the phase before.
                unsafe {
                    let out = buffer.part_mut(row * n_embd..(row + 1) * n_embd);
                    if !keep {
                        out.fill(0.0);
                    }
                    for choice in row * routes.n_used..(row + 1) * routes.n_used {
                        let s = routes.slot_of[choice] as usize;
                        let y = cx.bufs.expert_y.part(s * n_embd..(s + 1) * n_embd);
                        cx.vec.add_scaled(out, routes.weights[choice], y);
                    }
                }
            }
        }
    }
}
