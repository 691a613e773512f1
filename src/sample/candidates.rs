//! The tokens that may still be drawn, and the few operations all samplers are made of.
//!
//! A fresh step is *dense*: the whole vocabulary's logits, with the largest logit of each block of 64 beside
//! them. Penalties and biases touch a few tokens: they edit a copy, made by the first edit, in place. The first sampler
//! that narrows turns it into a short *list*. With the block maxima that needs no sort of the vocabulary: the
//! k-th largest maximum is a bound that at least k tokens reach, and only blocks that reach it are looked at.
//! Every buffer is kept from step to step.

use super::{SampleError, math};
use std::cmp::Ordering;

/// Tokens per block maximum: small enough that a reached block is cheap to read, large enough that the
/// maxima of 150,000 tokens are a few thousand.
const BLOCK: usize = 64;
/// Candidates that are looked at before a dense step is taken to be flat, one after another.
const FIRST_TRIES: [usize; 2] = [2 * BLOCK, 16 * BLOCK];
/// Bins of a selection by mass.
const BINS: usize = 512;
/// Longer lists are not put in order where nobody asks for it.
const MAX_SORTED: usize = 8192;
/// Lanes of the passes over the vocabulary: independent sums that the compiler puts in vector registers.
const LANES: usize = 16;

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token's id.
    pub token: u32,
    /// Its logit after the samplers so far.
    pub logit: f32,
    /// Its probability among the candidates, set by the last softmax over the list.
    pub p: f32,
}

/// Larger logits first; among equals the lower id, so that the order never depends on the algorithm.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

/// What a step needs memory for; kept from step to step.
#[derive(Clone, Default)]
pub(super) struct Buffers {
    /// `[n_vocab]` the edited copy of the logits.
    edited: Vec<f32>,
    /// `[n_vocab / 64, rounded up]` the largest logit of each block.
    maxima: Vec<f32>,
    /// The list, once the step is no longer dense.
    pub(super) list: Vec<Candidate>,
    scratch: Vec<f32>,
    /// (key, place in the list) where a selection by mass is cut.
    edge: Vec<(f32, u32)>,
}

/// The candidates of one step. See the module for the two forms.
pub(super) struct Candidates<'a> {
    given: &'a [f32],
    buffers: &'a mut Buffers,
    /// Whether the logits are those in `buffers`.
    edited: bool,
    dense: bool,
    sorted: bool,
}

impl<'a> Candidates<'a> {
    /// Takes a step's logits `[n_vocab]`: finds the maxima and checks, in one pass.
    ///
    /// # Errors
    /// A NaN or `+inf` is named by token. `-inf` means a token that cannot be drawn and is legitimate.
    pub(super) fn new(logits: &'a [f32], buffers: &'a mut Buffers) -> Result<Self, SampleError> {
        let (blocks, rest) = logits.as_chunks::<BLOCK>();
        buffers.maxima.clear();
        let mut nan = false;
        buffers.maxima.extend(blocks.iter().map(|block| {
            let (max, bad) = max_and_nan(block);
            nan |= bad;
            max
        }));
        if !rest.is_empty() {
            nan |= rest.iter().any(|x| x.is_nan());
            buffers.maxima.push(max_of(rest));
        }
        if nan || max_of(&buffers.maxima) == f32::INFINITY {
            let bad = logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY).unwrap_or(0);
            return Err(SampleError::NotFinite { token: bad as u32, value: logits[bad] });
        }
        buffers.list.clear();
        Ok(Candidates { given: logits, buffers, edited: false, dense: true, sorted: false })
    }

    /// The logits of a dense step.
    fn logits(&self) -> &[f32] {
        if self.edited { &self.buffers.edited } else { self.given }
    }

    /// The logits of a dense step and their maxima, to be changed.
    fn edit_dense(&mut self) -> (&mut [f32], &mut [f32]) {
        if !self.edited {
            self.buffers.edited.clear();
            self.buffers.edited.extend_from_slice(self.given);
            self.edited = true;
        }
        (&mut self.buffers.edited, &mut self.buffers.maxima)
    }

    /// The largest logit; `-inf` when nothing can be drawn.
    pub(super) fn max(&self) -> f32 {
        if self.dense {
            max_of(&self.buffers.maxima)
        } else if self.sorted {
            self.buffers.list.first().map_or(f32::NEG_INFINITY, |c| c.logit)
        } else {
            self.buffers.list.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
        }
    }

    /// Replaces the logits of `tokens` by `edit(token, logit)`. `edit` must leave any other token as it is:
    /// a list is edited as a whole. Ids outside the vocabulary are passed over; `+inf` becomes the largest float.
    pub(super) fn edit(
        &mut self,
        tokens: impl Iterator<Item = u32>,
        edit: impl Fn(u32, f32) -> f32,
    ) {
        if !self.dense {
            for c in &mut self.buffers.list {
                c.logit = edit(c.token, c.logit).min(f32::MAX);
            }
            self.buffers.list.retain(|c| c.logit > f32::NEG_INFINITY);
            self.sorted = false;
            return;
        }
        let (logits, maxima) = self.edit_dense();
        for token in tokens {
            let at = token as usize;
            if let Some(logit) = logits.get_mut(at) {
                *logit = edit(token, *logit).min(f32::MAX);
                let block = at / BLOCK;
                let end = logits.len().min((block + 1) * BLOCK);
                maxima[block] = max_of(&logits[block * BLOCK..end]);
            }
        }
    }

    /// Divides all logits by a positive `divisor`.
    pub(super) fn divide(&mut self, divisor: f32) {
        debug_assert!(divisor > 0.0);
        let divided = |x: &mut f32| *x = (*x / divisor).min(f32::MAX);
        if self.dense {
            let (logits, maxima) = self.edit_dense();
            logits.iter_mut().for_each(divided);
            maxima.iter_mut().for_each(divided);
        } else {
            self.buffers.list.iter_mut().for_each(|c| divided(&mut c.logit));
        }
    }

    /// Keeps the `k` largest, sorted; all when there are fewer.
    pub(super) fn keep_top(&mut self, k: usize) {
        if self.dense {
            self.gather_top(k);
            self.dense = false;
        } else if self.sorted {
            self.buffers.list.truncate(k);
        } else {
            select(&mut self.buffers.list, k);
        }
        self.sorted = true;
    }

    /// Keeps logits of at least `floor`, and the largest in any case.
    pub(super) fn keep_from(&mut self, floor: f32) {
        let floor = floor.min(self.max());
        if self.dense {
            self.gather_from(floor);
            self.dense = false;
            self.sorted = false;
        } else {
            self.buffers.list.retain(|c| c.logit >= floor);
        }
    }

    /// Keeps the most probable tokens until their probabilities add up to `mass`, at least one.
    pub(super) fn keep_mass(&mut self, mass: f64) {
        let max = self.max();
        // A dense step is rarely flat: a few candidates do, as a rule.
        if self.dense {
            let enough = mass * self.exp_sum();
            for tried in FIRST_TRIES {
                self.gather_top(tried);
                let mut sum = 0.0;
                let reached = self.buffers.list.iter().position(|c| {
                    sum += f64::from(math::exp(c.logit - max));
                    sum >= enough
                });
                if let Some(last) = reached {
                    self.buffers.list.truncate(last + 1);
                    (self.dense, self.sorted) = (false, true);
                    return;
                }
            }
        }
        self.keep_nearest(mass, |logit| max - logit);
    }

    /// Keeps the candidates with the smallest `key(logit)` until their probabilities add up to `mass`, at
    /// least one. Among equal keys those of better rank come first.
    ///
    /// No sort of all: candidates are counted into bins by their key, and only those of the bin in which the
    /// mass is reached are compared with each other, halving what is left. Keys that are not finite come last.
    pub(super) fn keep_nearest(&mut self, mass: f64, key: impl Fn(f32) -> f32) {
        self.weigh();
        let Buffers { list, edge, .. } = &mut *self.buffers;
        let finite = list.iter().map(|c| key(c.logit)).filter(|k| k.is_finite());
        let span = |(lo, hi): (f32, f32), k: f32| (lo.min(k), hi.max(k));
        let (lo, hi) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), span);
        // All alike: one bin. A span beyond the largest float is no span of logits.
        let scale = if hi > lo { (BINS as f32 / (hi - lo)).min(f32::MAX) } else { 0.0 };
        let bin = |k: f32| match k.is_finite() {
            true => (((k - lo) * scale) as usize).min(BINS - 1),
            false => BINS,
        };
        let mut masses = [0.0f64; BINS + 1];
        list.iter().for_each(|c| masses[bin(key(c.logit))] += f64::from(c.p));
        let mut sum = 0.0;
        let reached = masses.iter().position(|m| {
            let enough = sum + m >= mass;
            sum += if enough { 0.0 } else { *m };
            enough
        });
        // Rounding may leave the sum of all a hair under the mass: then all are kept.
        let Some(cut) = reached else { return };
        edge.clear();
        for (i, c) in list.iter_mut().enumerate() {
            let k = key(c.logit);
            match bin(k).cmp(&cut) {
                Ordering::Less => {}
                Ordering::Equal => edge.push((k, i as u32)),
                // What is left out loses its place by a probability that no other candidate has.
                Ordering::Greater => c.p = -1.0,
            }
        }
        cut_edge(list, edge, sum, mass);
        list.retain(|c| c.p >= 0.0);
        if !self.sorted && list.len() <= MAX_SORTED {
            list.sort_unstable_by(by_rank);
            self.sorted = true;
        }
    }

    /// Sum of `e^(logit - max)` over the candidates.
    pub(super) fn exp_sum(&self) -> f64 {
        let max = self.max();
        if !self.dense {
            return self.buffers.list.iter().map(|c| f64::from(math::exp(c.logit - max))).sum();
        }
        if max == f32::NEG_INFINITY {
            return 0.0;
        }
        let block_sum = |block: &[f32]| {
            let mut lanes = [0.0f32; LANES];
            for group in block.chunks(LANES) {
                for (lane, x) in lanes.iter_mut().zip(group) {
                    *lane += math::exp(x - max);
                }
            }
            lanes.iter().map(|x| f64::from(*x)).sum::<f64>()
        };
        self.logits().chunks(BLOCK).map(block_sum).sum()
    }

    /// The candidates as a list, sorted, with probabilities that add up to 1.
    pub(super) fn softmax(&mut self) -> &mut Vec<Candidate> {
        if !self.sorted {
            self.keep_top(usize::MAX);
        }
        self.weigh()
    }

    /// The candidates as a list in any fixed order, with probabilities that add up to 1.
    pub(super) fn weigh(&mut self) -> &mut Vec<Candidate> {
        let max = self.max();
        if self.dense {
            self.gather_from(f32::NEG_INFINITY);
            self.dense = false;
            self.sorted = false;
        }
        for c in &mut self.buffers.list {
            c.p = math::exp(c.logit - max);
        }
        let sum: f64 = self.buffers.list.iter().map(|c| f64::from(c.p)).sum();
        if sum > 0.0 {
            self.buffers.list.iter_mut().for_each(|c| c.p = (f64::from(c.p) / sum) as f32);
        }
        &mut self.buffers.list
    }

    /// Removes the candidates `0..n` of the sorted list.
    pub(super) fn drop_first(&mut self, n: usize) {
        debug_assert!(self.sorted && !self.dense);
        self.buffers.list.drain(..n);
    }

    /// The list as it stands; empty while the step is dense.
    pub(super) fn list(&self) -> &[Candidate] {
        &self.buffers.list
    }

    /// Fills the list with the `k` largest of a dense step, sorted.
    fn gather_top(&mut self, k: usize) {
        let Buffers { maxima, scratch, list, .. } = &mut *self.buffers;
        let mut floor = f32::NEG_INFINITY;
        if k == 0 {
            return list.clear();
        }
        if k < maxima.len() {
            scratch.clear();
            scratch.extend_from_slice(maxima);
            let (_, nth, _) = scratch.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            floor = *nth;
        }
        self.gather_from(floor);
        select(&mut self.buffers.list, k);
    }

    /// Fills the list with all logits of a dense step that are at least `floor` and not `-inf`, by id.
    fn gather_from(&mut self, floor: f32) {
        let Buffers { edited, maxima, list, .. } = &mut *self.buffers;
        let logits: &[f32] = if self.edited { edited } else { self.given };
        list.clear();
        let floor = floor.max(f32::MIN);
        for (block, _) in maxima.iter().enumerate().filter(|(_, max)| **max >= floor) {
            let first = block * BLOCK;
            let end = logits.len().min(first + BLOCK);
            for (i, &logit) in logits[first..end].iter().enumerate() {
                if logit >= floor {
                    list.push(Candidate { token: (first + i) as u32, logit, p: 0.0 });
                }
            }
        }
    }
}

fn max_of(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The largest of a block, and whether it holds a NaN. Arrays of a fixed size throughout: the compiler turns
/// them into vector instructions of any ISA.
#[inline]
fn max_and_nan(block: &[f32; BLOCK]) -> (f32, bool) {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut nan = [0u32; LANES];
    for group in block.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            lanes[i] = if group[i] > lanes[i] { group[i] } else { lanes[i] };
            nan[i] |= u32::from(group[i].is_nan());
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = if lanes[i + width] > lanes[i] { lanes[i + width] } else { lanes[i] };
            nan[i] |= nan[i + width];
        }
        width /= 2;
    }
    (lanes[0], nan[0] != 0)
}

/// Leaves out, by a negative probability, the candidates of `edge` (key, place in `list`) that come after the
/// one at which probabilities that begin at `sum` reach `mass`.
fn cut_edge(list: &mut [Candidate], edge: &mut [(f32, u32)], mut sum: f64, mass: f64) {
    let mut part = edge;
    while part.len() > BLOCK {
        let by_key = |a: &(f32, u32), b: &(f32, u32)| {
            a.0.total_cmp(&b.0).then_with(|| by_rank(&list[a.1 as usize], &list[b.1 as usize]))
        };
        let half = part.len() / 2;
        part.select_nth_unstable_by(half, by_key);
        let (near, far) = part.split_at_mut(half);
        let nearer: f64 = near.iter().map(|&(_, i)| f64::from(list[i as usize].p)).sum();
        if sum + nearer >= mass {
            far.iter().for_each(|&(_, i)| list[i as usize].p = -1.0);
            part = near;
        } else {
            sum += nearer;
            part = far;
        }
    }
    part.sort_unstable_by(|a, b| {
        a.0.total_cmp(&b.0).then_with(|| by_rank(&list[a.1 as usize], &list[b.1 as usize]))
    });
    let reached = part.iter().position(|&(_, i)| {
        sum += f64::from(list[i as usize].p);
        sum >= mass
    });
    let kept = reached.map_or(part.len(), |last| last + 1);
    part[kept..].iter().for_each(|&(_, i)| list[i as usize].p = -1.0);
}

/// Keeps the `k` first by rank and sorts them.
fn select(list: &mut Vec<Candidate>, k: usize) {
    if k == 0 {
        return list.clear();
    }
    if k < list.len() {
        list.select_nth_unstable_by(k - 1, by_rank);
        list.truncate(k);
    }
    list.sort_unstable_by(by_rank);
}
