//! The loop: one micro-batch through the plan, executed by every worker of the team.

use crate::ops::linear::{self, Dest, Source};
use crate::ops::{Cx, OUT_ROWS};
use crate::plan::{BranchPlan, Op, Plan};
use crate::team::{Stop, Worker};

/// Embeds the rows and runs all layers; the result stands in the residual stream.
pub(crate) fn layers(w: &Worker<'_>, cx: &Cx<'_>, plan: &Plan) -> Result<(), Stop> {
    embed(w, cx, plan)?;
    for (il, stages) in plan.layers.iter().enumerate() {
        #[cfg(test)]
        if cx.fault.is_some_and(|f| (f.layer, f.worker) == (il, w.index())) {
            panic!("a fault made on purpose in layer {il}");
        }
        for (i, stage) in stages.iter().enumerate() {
            // What a later stage of a layer reads, the layer itself has touched.
            let layer = il + usize::from(i > 0);
            match &stage.branches[..] {
                [only] => single(w, cx, only, layer)?,
                branches => parallel(w, cx, branches, layer)?,
            }
        }
    }
    Ok(())
}

/// Token rows to the stream, and the rotations of their positions.
fn embed(w: &Worker<'_>, cx: &Cx<'_>, plan: &Plan) -> Result<(), Stop> {
    let n_embd = cx.bufs.widths.n_embd;
    let row_bytes = plan.embd.data.len() / plan.embd.rows;
    while let Some(range) = w.claim(cx.n_rows(), 4) {
        for r in range {
            let row = cx.batch.rows[r];
            let at = row.token as usize * row_bytes;
            // SAFETY: rows are claimed.
            let x = unsafe { cx.bufs.x.part_mut(r * n_embd..(r + 1) * n_embd) };
            let bytes = &plan.embd.data[at..at + row_bytes];
            quant::decode(plan.embd.ty, bytes, x).expect("bind checked the row's type and size");
            if plan.embd_scale != 1.0 {
                cx.vec.scale(x, plan.embd_scale);
            }
            for (i, table) in plan.ropes.iter().enumerate() {
                // SAFETY: the row was claimed.
                table.fill(row.pos, unsafe { cx.bufs.rope_row_mut(i, r) });
            }
        }
    }
    w.barrier()
}

fn run(w: &Worker<'_>, cx: &Cx<'_>, b: &BranchPlan, il: usize, dest: Dest<'_>) -> Result<(), Stop> {
    let norm = b.norm.as_ref();
    match &b.op {
        Op::Attention(op) => op.run(w, cx, norm, il, dest),
        Op::Ffn(op) => op.run(w, cx, norm, il, dest),
        Op::Moe(op) => op.run(w, cx, norm, il, dest),
        Op::ShortConv(op) => op.run(w, cx, norm, il, dest),
    }
}

/// A stage of one branch: x += scale * norm_out(body(norm(x))).
fn single(w: &Worker<'_>, cx: &Cx<'_>, b: &BranchPlan, il: usize) -> Result<(), Stop> {
    let n_embd = cx.bufs.widths.n_embd;
    if b.is_plain() {
        return run(w, cx, b, il, Dest::Add(&cx.bufs.x, n_embd));
    }
    run(w, cx, b, il, Dest::Set(&cx.bufs.y, n_embd))?;
    finish(w, cx, b, Dest::Add(&cx.bufs.x, n_embd))
}

/// A stage of several branches on the same x: their sum is gathered in z before x changes.
fn parallel(w: &Worker<'_>, cx: &Cx<'_>, branches: &[BranchPlan], il: usize) -> Result<(), Stop> {
    let n_embd = cx.bufs.widths.n_embd;
    for (i, b) in branches.iter().enumerate() {
        let sum = match i {
            0 => Dest::Set(&cx.bufs.z, n_embd),
            _ => Dest::Add(&cx.bufs.z, n_embd),
        };
        if b.is_plain() {
            run(w, cx, b, il, sum)?;
        } else {
            run(w, cx, b, il, Dest::Set(&cx.bufs.y, n_embd))?;
            finish(w, cx, b, sum)?;
        }
    }
    while let Some(range) = w.claim(cx.n_rows(), 1) {
        // SAFETY: rows are claimed; z was finished in the phase before.
        unsafe {
            let part = range.start * n_embd..range.end * n_embd;
            cx.vec.add(cx.bufs.x.part_mut(part.clone()), cx.bufs.z.part(part));
        }
    }
    w.barrier()
}

/// Output norm and scale of a branch whose body wrote y.
fn finish(w: &Worker<'_>, cx: &Cx<'_>, b: &BranchPlan, dest: Dest<'_>) -> Result<(), Stop> {
    let n_embd = cx.bufs.widths.n_embd;
    let (buffer, keep) = match dest {
        Dest::Set(buffer, _) => (buffer, false),
        Dest::Add(buffer, _) => (buffer, true),
    };
    while let Some(range) = w.claim(cx.n_rows(), 1) {
        for r in range {
            let part = r * n_embd..(r + 1) * n_embd;
            // SAFETY: rows are claimed, the norm's row is private, y is only read here.
            unsafe {
                let out = buffer.part_mut(part.clone());
                let y = cx.bufs.y.part(part);
                let normed = cx.bufs.private[w.index()].row.part_mut(0..n_embd);
                let y = b.norm_out.as_ref().map_or(y, |norm| {
                    norm.apply(cx.vec, y, normed);
                    normed
                });
                if !keep {
                    out.fill(0.0);
                }
                cx.vec.add_scaled(out, b.scale, y);
            }
        }
    }
    w.barrier()
}

/// Logits of up to [`OUT_ROWS`] wanted rows, to the start of the logits buffer.
pub(crate) fn output(w: &Worker<'_>, cx: &Cx<'_>, plan: &Plan, wanted: &[u32]) -> Result<(), Stop> {
    debug_assert!(wanted.len() <= OUT_ROWS, "the logits buffer holds OUT_ROWS rows");
    let (n_embd, n_vocab) = (cx.bufs.widths.n_embd, cx.bufs.widths.n_vocab);
    let src = Source {
        norm: Some(&plan.norm),
        pick: Some(wanted),
        layer: Some(plan.layers.len()),
        ..Source::plain(&cx.bufs.x, n_embd)
    };
    let acts = linear::prepare(w, cx, &src, &[&plan.output])?;
    let private = &cx.bufs.private[w.index()];
    while let Some(rows) = w.claim(n_vocab, linear::chunk(w, n_vocab)) {
        // SAFETY: each claim is a set of columns of its own.
        unsafe {
            let y = cx.bufs.logits.as_mut_ptr().add(rows.start);
            let columns = (&acts, wanted.len());
            linear::multiply(cx, private, &plan.output, (0, &rows), columns, y, n_vocab);
            for c in 0..wanted.len() {
                let at = c * n_vocab;
                let y = cx.bufs.logits.part_mut(at + rows.start..at + rows.end);
                if plan.head.scale != 1.0 {
                    cx.vec.scale(y, plan.head.scale);
                }
                if let Some(cap) = plan.head.softcap {
                    cx.vec.softcap(y, cap);
                }
            }
        }
    }
    w.barrier()
}
