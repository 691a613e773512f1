//! From the final rows of a text to its vector or scores.
//!
//! This is little work beside the layers and is done by one thread, sums in double precision.

use super::norm::Norm;
use crate::bind::Matrix;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec::{self, Head, Pooling, Squash};
use quant::{Activation, Vector};

/// What follows pooling.
pub(crate) struct PoolPlan {
    /// Matrices that a pooled vector goes through.
    dense: Vec<Matrix>,
    classifier: Option<Classifier>,
}

/// The scorer of a vector.
struct Classifier {
    from: Pooling,
    dense: Option<Matrix>,
    act: Squash,
    norm: Option<Norm>,
    out: Matrix,
    softmax: bool,
}

/// The rows of one text on their way to its vector.
pub(crate) enum Pool {
    /// All rows, one after another.
    Rows(Vec<f32>),
    /// Sum and number of rows.
    Sum(Vec<f64>, usize),
    /// The one row that counts.
    One(Vec<f32>),
}

impl PoolPlan {
    pub(crate) fn bind(lower: &Lower<'_>, head: &Head) -> Result<PoolPlan, Error> {
        let mut dense = Vec::new();
        let mut cols = lower.n_embd;
        for name in &head.dense {
            let m = lower.binder.matrix(name, lower.binder.rows(name).unwrap_or(cols), cols)?;
            lower.check_decodes(m.ty)?;
            cols = m.rows;
            dense.push(m);
        }
        let classifier =
            head.classifier.as_ref().map(|c| Classifier::bind(lower, c)).transpose()?;
        Ok(PoolPlan { dense, classifier })
    }

    /// The pooling of rows that gives what `pooling` asks for; `None` = the model cannot.
    pub(crate) fn rows_of(&self, pooling: Pooling) -> Option<Pooling> {
        match pooling {
            Pooling::Rank => self.classifier.as_ref().map(|c| c.from),
            rows => Some(rows),
        }
    }

    /// Values of a text's result, or of each of its rows.
    pub(crate) fn width(&self, pooling: Pooling, n_embd: usize) -> usize {
        match (pooling, &self.classifier) {
            (Pooling::Rank, Some(c)) => c.out.rows,
            (Pooling::None | Pooling::Rank, _) => n_embd,
            _ => self.dense.last().map_or(n_embd, |m| m.rows),
        }
    }

    /// The result that `pooling` asks for.
    pub(crate) fn finish(&self, vec: Vector, pooling: Pooling, rows: Pool) -> Vec<f32> {
        let pooled = match rows {
            Pool::Rows(x) | Pool::One(x) => x,
            Pool::Sum(sum, n) => sum.iter().map(|s| (s / n.max(1) as f64) as f32).collect(),
        };
        match (pooling, &self.classifier) {
            (Pooling::Rank, Some(c)) => c.scores(vec, pooled),
            (Pooling::None | Pooling::Rank, _) => pooled,
            _ => self.dense.iter().fold(pooled, |x, m| product(m, &x)),
        }
    }
}

impl Pool {
    pub(crate) fn new(rows: Pooling, n_embd: usize) -> Pool {
        match rows {
            Pooling::None => Pool::Rows(Vec::new()),
            Pooling::Mean => Pool::Sum(vec![0.0; n_embd], 0),
            Pooling::Cls | Pooling::Last | Pooling::Rank => Pool::One(Vec::new()),
        }
    }

    /// Whether the row at `pos` of `n` has a part in `rows`.
    pub(crate) fn wants(rows: Pooling, pos: usize, n: usize) -> bool {
        match rows {
            Pooling::None | Pooling::Mean => true,
            Pooling::Cls => pos == 0,
            Pooling::Last | Pooling::Rank => pos + 1 == n,
        }
    }

    pub(crate) fn add(&mut self, row: &[f32]) {
        match self {
            Pool::Rows(all) => all.extend_from_slice(row),
            Pool::Sum(sum, n) => {
                sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
                *n += 1;
            }
            Pool::One(one) => *one = row.to_vec(),
        }
    }
}

impl Classifier {
    fn bind(lower: &Lower<'_>, c: &spec::Classifier) -> Result<Classifier, Error> {
        let (b, n_embd) = (lower.binder, lower.n_embd);
        let has_out = b.has("cls.output.weight");
        let dense = if has_out { b.opt_matrix("cls", n_embd, n_embd)? } else { None };
        let out = b.matrix(if has_out { "cls.output" } else { "cls" }, c.n_out, n_embd)?;
        for m in dense.iter().chain([&out]) {
            lower.check_decodes(m.ty)?;
        }
        let norm = c.norm.as_ref().map(|n| Norm::bind(b, "", n, n_embd)).transpose()?;
        Ok(Classifier { from: c.from, dense, act: c.act, norm, out, softmax: c.softmax })
    }

    fn scores(&self, vec: Vector, mut x: Vec<f32>) -> Vec<f32> {
        if let Some(dense) = &self.dense {
            x = product(dense, &x);
            match self.act {
                Squash::Tanh => x.iter_mut().for_each(|v| *v = v.tanh()),
                Squash::Gelu => vec.act(Activation::GeluErf, &mut x),
            }
        }
        if let Some(norm) = &self.norm {
            let row = x.clone();
            norm.apply(vec, &row, &mut x);
        }
        let mut scores = product(&self.out, &x);
        if self.softmax {
            softmax(&mut scores);
        }
        scores
    }
}

fn softmax(x: &mut [f32]) {
    let top = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = x.iter().map(|v| f64::from(v - top).exp()).sum();
    x.iter_mut().for_each(|v| *v = (f64::from(*v - top).exp() / sum) as f32);
}

/// A matrix times `x`, and its bias.
fn product(m: &Matrix, x: &[f32]) -> Vec<f32> {
    let (mut row, bytes) = (vec![0.0; m.cols], m.row_bytes());
    let scale = f64::from(m.scale(0).unwrap_or(1.0));
    let one = |r: usize| {
        let data = m.bytes(0, &(r..r + 1), bytes);
        quant::decode(m.ty, data, &mut row).expect("bind checked the row's type and size");
        let dot: f64 = row.iter().zip(x).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        let bias = m.bias(0, &(r..r + 1)).map_or(0.0, |b| f64::from(b[0]));
        (scale * dot + bias) as f32
    };
    (0..m.rows).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_and_the_picked_rows_are_those_of_the_rows_that_are_wanted() {
        let rows = [[1.0f32, 2.0], [3.0, 6.0], [5.0, 1.0]];
        let pooled = |pooling| {
            let mut pool = Pool::new(pooling, 2);
            let wanted = (0..3).filter(|&pos| Pool::wants(pooling, pos, 3));
            wanted.for_each(|pos| pool.add(&rows[pos]));
            let plan = PoolPlan { dense: vec![], classifier: None };
            plan.finish(Vector::new(quant::Isa::Scalar), pooling, pool)
        };
        assert_eq!(pooled(Pooling::Mean), [3.0, 3.0]);
        assert_eq!(pooled(Pooling::Cls), [1.0, 2.0]);
        assert_eq!(pooled(Pooling::Last), [5.0, 1.0]);
        assert_eq!(pooled(Pooling::None), [1.0, 2.0, 3.0, 6.0, 5.0, 1.0]);
    }

    #[test]
    fn softmax_of_large_logits_is_finite() {
        let mut x = [1000.0, 1000.0, -1000.0];
        softmax(&mut x);
        assert_eq!(x, [0.5, 0.5, 0.0]);
    }
}
