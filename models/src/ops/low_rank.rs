//! Bodies of one or two matrices: a square one (an attention that was pruned to a linear map), and
//! the low-rank residual of Gemma 3n (LAuReL, Menghani et al. 2024).

use super::Cx;
use super::linear::{self, Dest, Linear, Source};
use super::norm::Norm;
use crate::error::Error;
use crate::plan::Lower;
use crate::spec;
use crate::team::{Stop, Worker};

/// y = A x.
pub(crate) struct Square(Linear);

impl Square {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, name: &str) -> Result<Square, Error> {
        let n = lower.n_embd;
        let m = lower.binder.matrix(&format!("{p}{name}"), n, n)?;
        Ok(Square(lower.linear(m)?))
    }

    pub(crate) fn linears(&self) -> Vec<&Linear> {
        vec![&self.0]
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let acts = linear::prepare(w, cx, src, &[&self.0])?;
        // The result may go where the input is, which others may still be reading.
        w.barrier()?;
        linear::project(w, cx, &acts, cx.n_rows(), &[(&self.0, dest)]);
        w.barrier()
    }
}

/// y = x + norm(R L x).
pub(crate) struct LowRank {
    left: Linear,
    right: Linear,
    norm: Norm,
}

impl LowRank {
    pub(crate) fn bind(lower: &mut Lower<'_>, p: &str, l: &spec::LowRank) -> Result<Self, Error> {
        let (b, n) = (lower.binder, lower.n_embd);
        let left = b.matrix(&format!("{p}laurel_l"), l.rank, n)?;
        let right = b.matrix(&format!("{p}laurel_r"), n, l.rank)?;
        let norm = Norm::bind(b, p, &l.norm, n)?;
        let w = &mut lower.widths;
        w.h = w.h.max(l.rank);
        w.o = w.o.max(n);
        w.cols = w.cols.max(2 * n);
        Ok(LowRank { left: lower.linear(left)?, right: lower.linear(right)?, norm })
    }

    pub(crate) fn linears(&self) -> Vec<&Linear> {
        vec![&self.left, &self.right]
    }

    pub(crate) fn run(
        &self,
        w: &Worker<'_>,
        cx: &Cx<'_>,
        src: &Source<'_>,
        dest: Dest<'_>,
    ) -> Result<(), Stop> {
        let (b, n, rows) = (cx.bufs, src.cols, cx.n_rows());
        let acts = linear::prepare(w, cx, src, &[&self.left])?;
        let rank = self.left.m.rows;
        linear::project(w, cx, &acts, rows, &[(&self.left, Dest::Set(&b.h, rank))]);
        w.barrier()?;
        let acts = linear::prepare(w, cx, &Source::plain(&b.h, rank), &[&self.right])?;
        linear::project(w, cx, &acts, rows, &[(&self.right, Dest::Set(&b.o, n))]);
        w.barrier()?;
        let (buffer, keep, factor) = match dest {
            Dest::Set(buffer, _) => (buffer, false, 1.0),
            Dest::Add(buffer, _, factor) => (buffer, true, factor),
        };
        while let Some(range) = w.claim(rows, 1) {
            for r in range {
                let part = r * n..(r + 1) * n;
                // SAFETY: rows are claimed, the scratch is private, the rest is only read here.
                unsafe {
                    let out = buffer.part_mut(part.clone());
                    let scratch = cx.bufs.private[w.index()].row.part_mut(0..2 * n);
                    let (x, y) = scratch.split_at_mut(n);
                    let input = src.buffer.part(part.clone());
                    match src.norm {
                        Some(norm) => norm.apply(cx.vec, input, x),
                        None => x.copy_from_slice(input),
                    }
                    self.norm.apply(cx.vec, b.o.part(part), y);
                    cx.vec.add(y, x);
                    if !keep {
                        out.fill(0.0);
                    }
                    cx.vec.add_scaled(out, factor, y);
                }
            }
        }
        w.barrier()
    }
}
