//! Choosing experts from the router's logits, and grouping the choices by expert.

use super::Moe;
use crate::ops::{Cx, Private};
use crate::spec::{Groups, Score};
use std::ops::Range;

/// Which rows go to which experts, worked out by every worker for itself.
pub(super) struct Routes<'a> {
    pub(super) n_used: usize,
    /// Slot of each (row, choice): slots are ordered by expert.
    pub(super) slot_of: &'a [u32],
    /// (row, choice) of each slot.
    pub(super) choice_at: &'a [u32],
    /// First slot of each expert, and the end.
    start: &'a [u32],
    /// Weight of each (row, choice).
    pub(super) weights: &'a [f32],
    /// Weight of each (row, choice) for the networks that neighbouring experts share.
    pub(super) adjugate_weights: &'a [f32],
}

impl Routes<'_> {
    /// Slots of the experts `experts`, which are neighbours.
    pub(super) fn slots(&self, experts: Range<usize>) -> Range<usize> {
        self.start[experts.start] as usize..self.start[experts.end] as usize
    }
}

impl Moe {
    /// Chooses experts for every row from the router's logits.
    pub(super) fn route<'a>(&self, cx: &Cx<'_>, private: &'a Private) -> Routes<'a> {
        let (n, used, n_expert) = (cx.n_rows(), self.spec.n_expert_used, self.spec.n_expert);
        let slots = n * used;
        // SAFETY: the buffers belong to this worker.
        let (ids, weights, scores) = unsafe {
            (
                private.routes.part_mut(0..private.routes.len()),
                private.route_weights.part_mut(0..2 * slots),
                private.row.part_mut(0..2 * n_expert),
            )
        };
        let (chosen, rest) = ids.split_at_mut(slots);
        let (slot_of, rest) = rest.split_at_mut(slots);
        let (choice_at, rest) = rest.split_at_mut(slots);
        let (start, next) = rest.split_at_mut(n_expert + 1);
        let next = &mut next[..n_expert];
        start.fill(0);
        let (scores, select) = scores.split_at_mut(n_expert);
        let (weights, adjugate_weights) = weights.split_at_mut(slots);
        for row in 0..n {
            // SAFETY: router logits were finished in the phase before.
            scores.copy_from_slice(unsafe {
                cx.bufs.router.part(row * n_expert..(row + 1) * n_expert)
            });
            let range = row * used..(row + 1) * used;
            let chosen = &mut chosen[range.clone()];
            self.choose(cx, scores, select, chosen, &mut weights[range.clone()]);
            if let Some(a) = &self.spec.adjugate {
                let weights = &mut adjugate_weights[range];
                for (w, &e) in weights.iter_mut().zip(&*chosen) {
                    *w = scores[e as usize / a.n_expert_each];
                }
                self.weigh(cx, weights);
            }
            chosen.iter().for_each(|&e| start[e as usize + 1] += 1);
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
        Routes { n_used: used, slot_of, choice_at, start, weights, adjugate_weights }
    }

    /// The best experts of one row, best first (the lower id on a tie), and their weights.
    fn choose(
        &self,
        cx: &Cx<'_>,
        scores: &mut [f32],
        select: &mut [f32],
        ids: &mut [u32],
        weights: &mut [f32],
    ) {
        let m = &self.spec;
        if m.router.scale != 1.0 {
            cx.vec.scale(scores, m.router.scale);
        }
        match m.score {
            Score::Softmax => cx.vec.softmax(scores, None),
            Score::Sigmoid => cx.vec.sigmoid(scores),
            Score::SoftmaxOfChosen | Score::SparseMixer { .. } => {}
        }
        select.copy_from_slice(scores);
        if let Some(bias) = &self.select_bias {
            cx.vec.add(select, bias);
        }
        if let Some(groups) = &m.groups {
            keep_best_groups(select, groups);
        }
        for (id, weight) in ids.iter_mut().zip(weights.iter_mut()) {
            let best = cx.vec.argmax(select).unwrap_or(0);
            *id = best as u32;
            *weight = match m.score {
                Score::SparseMixer { jitter } => share_among_near(select, best, jitter),
                _ => scores[best],
            };
            select[best] = f32::NEG_INFINITY;
        }
        if m.score == Score::SoftmaxOfChosen {
            cx.vec.softmax(weights, None);
        }
        self.weigh(cx, weights);
    }

    /// Renormalises and scales the weights of one row.
    fn weigh(&self, cx: &Cx<'_>, weights: &mut [f32]) {
        let m = &self.spec;
        let sum: f32 = weights.iter().sum();
        // A sum of zero means that every chosen expert has no weight at all: leave it so.
        if m.renorm && sum > 0.0 {
            cx.vec.scale(weights, 1.0 / sum);
        }
        cx.vec.scale(weights, m.scale);
    }
}

/// Softmax of the logit `best`, the largest, among those near it; those of minus infinity are out.
fn share_among_near(logits: &[f32], best: usize, jitter: f32) -> f32 {
    let top = logits[best];
    // Where all are 0 the distance is no number: they are near.
    let distance = |l: f32| (top - l) / l.abs().max(top);
    let is_near = |&&l: &&f32| distance(l).is_nan() || distance(l) <= 2.0 * jitter;
    1.0 / logits.iter().filter(is_near).map(|l| (l - top).exp()).sum::<f32>()
}

/// Takes the scores of all groups but the best out of the race. A group's score is the sum of its
/// two best (DeepSeek-V3, 2024).
fn keep_best_groups(select: &mut [f32], groups: &Groups) {
    let n = select.len() / groups.n;
    let score = |group: &[f32]| {
        let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for &s in group {
            if s > first {
                (first, second) = (s, first);
            } else if s > second {
                second = s;
            }
        }
        first + second
    };
    // The worst that is left goes, group by group: nothing is allocated for it.
    for _ in groups.n_used..groups.n {
        let mut worst = (0, f32::INFINITY);
        for (g, group) in select.chunks_exact(n).enumerate() {
            let s = score(group);
            if s > f32::NEG_INFINITY && s <= worst.1 {
                worst = (g, s);
            }
        }
        select[worst.0 * n..(worst.0 + 1) * n].fill(f32::NEG_INFINITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_logits_share_and_far_ones_do_not() {
        let logits = [2.0, 1.99, 1.0, f32::NEG_INFINITY];
        let near = 1.0 / (1.0 + (-0.01f32).exp());
        assert!((share_among_near(&logits, 0, 0.01) - near).abs() < 1e-6);
        assert_eq!(share_among_near(&[2.0, 1.9, 1.0], 0, 0.01), 1.0);
        assert_eq!(share_among_near(&[0.0, 0.0], 0, 0.01), 0.5);
    }

    #[test]
    fn groups_are_judged_by_their_two_best() {
        let none = f32::NEG_INFINITY;
        let mut select = [9.0, 0.0, 0.0, 5.0, 5.0, 0.0, 4.0, 4.0, 4.0];
        keep_best_groups(&mut select, &Groups { n: 3, n_used: 1 });
        assert_eq!(select, [none, none, none, 5.0, 5.0, 0.0, none, none, none]);
        let mut tie = [1.0, 1.0, 1.0, 1.0];
        keep_best_groups(&mut tie, &Groups { n: 2, n_used: 1 });
        assert_eq!(tie, [1.0, 1.0, none, none]);
    }
}
