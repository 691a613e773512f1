//! The loop: one micro-batch through the plan, executed by every worker of the team.

use crate::device::Buffer;
use crate::ops::linear::{self, Dest, Linear, Source};
use crate::ops::rope::RopeTable;
use crate::ops::{Cx, OUT_ROWS};
use crate::plan::{After, BranchPlan, InputPlan, Op, Plan, StackPlan, StagePlan};
use crate::profile::Phase;
use crate::step::{Batch, Row};
use crate::team::{Stop, Worker};

/// Embeds the rows and runs all layers; the result stands in the residual stream. With `narrow`,
/// a batch of the rows whose logits are wanted alone, the stream holds just these in the end.
pub(crate) fn layers(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    plan: &StackPlan,
    ropes: &[RopeTable],
    narrow: Option<&Batch>,
) -> Result<(), Stop> {
    let last = plan.layers.len().saturating_sub(1);
    let mut cx = *cx;
    embed(w, &cx, plan, ropes)?;
    if let Some(e) = &plan.input.per_layer {
        e.run(w, &cx)?;
    }
    if let Some(s) = &plan.streams {
        s.split(w, &cx)?;
    }
    for (il, layer) in plan.layers.iter().enumerate() {
        #[cfg(test)]
        if cx.fault.is_some_and(|f| (f.layer, f.worker) == (il, w.index())) {
            panic!("a fault made on purpose in layer {il}");
        }
        if let Some(a) = &layer.altup {
            a.predict(w, &cx)?;
        }
        if layer.keep {
            keep(w, &cx)?;
        }
        for (i, s) in layer.stages.iter().enumerate() {
            if let (true, Some(batch)) = (il == last && Some(i) == plan.narrow, narrow) {
                pick_rows(w, &cx, layer.keep)?;
                cx.batch = batch;
                if batch.rows.is_empty() {
                    return Ok(());
                }
            }
            // What a later stage of a layer reads, the layer itself has touched.
            stage(w, &cx, s, il + usize::from(i > 0))?;
        }
        if let Some(a) = &layer.altup {
            a.correct(w, &cx, il)?;
        }
    }
    plan.streams.as_ref().map_or(Ok(()), |s| s.merge(w, &cx))
}

/// Moves the rows whose logits are wanted to the front of the stream, and of what was kept of it.
fn pick_rows(w: &Worker<'_>, cx: &Cx<'_>, with_kept: bool) -> Result<(), Stop> {
    let n_embd = cx.bufs.widths.n_embd;
    while let Some(columns) = w.claim(n_embd, 64) {
        let buffers = [Some(&cx.bufs.x), with_kept.then_some(&cx.bufs.kept)];
        for buffer in buffers.into_iter().flatten() {
            for (to, &from) in cx.batch.wanted.iter().enumerate() {
                let (to, from) = (to * n_embd, from as usize * n_embd);
                if to == from {
                    continue;
                }
                // SAFETY: columns are claimed; the two rows are different ones. Rows move towards
                // the front in rising order, so none is overwritten before it was moved.
                unsafe {
                    let moved = buffer.part(from + columns.start..from + columns.end);
                    buffer.part_mut(to + columns.start..to + columns.end).copy_from_slice(moved);
                }
            }
        }
    }
    w.barrier()
}

/// Token rows to the stream, and the rotations of their positions.
fn embed(w: &Worker<'_>, cx: &Cx<'_>, plan: &StackPlan, ropes: &[RopeTable]) -> Result<(), Stop> {
    w.enter(Phase::Embed);
    let n_embd = cx.bufs.widths.n_embd;
    while let Some(range) = w.claim(cx.n_rows(), 4) {
        for r in range {
            let row = cx.batch.rows[r];
            // SAFETY: rows are claimed, the scratch is private.
            let (x, scratch) = unsafe {
                let scratch = cx.bufs.private[w.index()].row.part_mut(0..n_embd);
                (cx.bufs.x.part_mut(r * n_embd..(r + 1) * n_embd), scratch)
            };
            input_row(cx, &plan.input, &row, x, scratch);
            for (i, table) in ropes.iter().enumerate() {
                // SAFETY: the row was claimed.
                table.fill(row.pos, unsafe { cx.bufs.rope_row_mut(i, r) });
            }
        }
    }
    w.barrier()
}

fn input_row(cx: &Cx<'_>, input: &InputPlan, row: &Row, x: &mut [f32], scratch: &mut [f32]) {
    let decode = |m: &crate::bind::Matrix, row: usize, out: &mut [f32]| {
        quant::decode(m.ty, m.row(row), out).expect("bind checked the row's type and size");
    };
    decode(&input.embd, row.token as usize, x);
    if input.scale != 1.0 {
        cx.vec.scale(x, input.scale);
    }
    if let Some(positions) = &input.positions {
        decode(positions, row.pos, scratch);
        cx.vec.add(x, scratch);
    }
    if let Some(types) = &input.types {
        let second = cx.batch.second_from.get(row.seq).is_some_and(|&from| row.pos >= from);
        decode(types, usize::from(second && types.rows > 1), scratch);
        cx.vec.add(x, scratch);
    }
    if let Some(norm) = &input.norm {
        norm.apply(cx.vec, x, scratch);
        x.copy_from_slice(scratch);
    }
}

/// Copies the stream, for stages that read it when it has changed.
fn keep(w: &Worker<'_>, cx: &Cx<'_>) -> Result<(), Stop> {
    let n_embd = cx.bufs.widths.n_embd;
    while let Some(range) = w.claim(cx.n_rows(), 4) {
        let part = range.start * n_embd..range.end * n_embd;
        // SAFETY: rows are claimed; the stream is only read in this phase.
        unsafe { cx.bufs.kept.part_mut(part.clone()).copy_from_slice(cx.bufs.x.part(part)) };
    }
    w.barrier()
}

fn run(w: &Worker<'_>, cx: &Cx<'_>, b: &BranchPlan, il: usize, dest: Dest<'_>) -> Result<(), Stop> {
    let rows = Source::plain(cx.read(b.read), cx.bufs.widths.n_embd);
    let src = &Source { norm: b.norm.as_ref(), layer: Some(il), ..rows };
    w.enter(phase(&b.op));
    match &b.op {
        Op::Attention(op) => op.run(w, cx, src, dest),
        Op::Mla(op) => op.run(w, cx, src, dest),
        Op::Ffn(op) => op.run(w, cx, src, dest),
        Op::Moe(op) => op.run(w, cx, src, dest),
        Op::Recurrent(op) => op.run(w, cx, src, dest),
        Op::Linear(op) => op.run(w, cx, src, dest),
        Op::LowRank(op) => op.run(w, cx, src, dest),
        Op::PerLayer(op) => op.run(w, cx, src, dest),
    }
}

/// What a body begins with, or all that it is.
fn phase(op: &Op) -> Phase {
    match op {
        Op::Attention(_) => Phase::Qkv,
        Op::Mla(_) => Phase::Mla,
        Op::Ffn(_) => Phase::Hidden,
        Op::Moe(_) => Phase::Moe,
        Op::Recurrent(_) => Phase::Recurrent,
        Op::Linear(_) | Op::LowRank(_) | Op::PerLayer(_) => Phase::Other,
    }
}

/// x = norm_after(factor * (x + scale * norm_out(sum of branches))).
fn stage(w: &Worker<'_>, cx: &Cx<'_>, stage: &StagePlan, il: usize) -> Result<(), Stop> {
    let (b, n_embd, after) = (cx.bufs, cx.bufs.widths.n_embd, &stage.after);
    if let [only] = &stage.branches[..] {
        if after.is_plain() && only.norm_out.is_none() {
            return run(w, cx, only, il, Dest::Add(&b.x, n_embd, after.scale * only.scale));
        }
        if only.norm_out.is_none() && only.scale == 1.0 {
            run(w, cx, only, il, Dest::Set(&b.y, n_embd))?;
            return finish(w, cx, &b.y, after, Dest::Add(&b.x, n_embd, 1.0));
        }
    }
    // Several branches on the same x: their sum is gathered in z before x changes.
    for (i, branch) in stage.branches.iter().enumerate() {
        let sum = match i {
            0 => Dest::Set(&b.z, n_embd),
            _ => Dest::Add(&b.z, n_embd, branch.scale),
        };
        if branch.norm_out.is_none() && (i > 0 || branch.scale == 1.0) {
            run(w, cx, branch, il, sum)?;
            continue;
        }
        run(w, cx, branch, il, Dest::Set(&b.y, n_embd))?;
        let after = After {
            norm_out: branch.norm_out.clone(),
            scale: branch.scale,
            factor: 1.0,
            norm_after: None,
        };
        finish(w, cx, &b.y, &after, sum)?;
    }
    finish(w, cx, &b.z, after, Dest::Add(&b.x, n_embd, 1.0))
}

/// Adds a body's result, which stands in `from`, to `dest`, with norms and factors; the factor
/// that `dest` may carry has no say here.
fn finish(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    from: &Buffer<f32>,
    after: &After,
    dest: Dest<'_>,
) -> Result<(), Stop> {
    w.enter(Phase::Finish);
    let n_embd = cx.bufs.widths.n_embd;
    let (buffer, keep) = match dest {
        Dest::Set(buffer, _) => (buffer, false),
        Dest::Add(buffer, ..) => (buffer, true),
    };
    while let Some(range) = w.claim(cx.n_rows(), 1) {
        for r in range {
            let part = r * n_embd..(r + 1) * n_embd;
            // SAFETY: rows are claimed, the norm's row is private, `from` is only read here.
            unsafe {
                let out = buffer.part_mut(part.clone());
                let y = from.part(part);
                let scratch = cx.bufs.private[w.index()].row.part_mut(0..n_embd);
                if !keep {
                    out.fill(0.0);
                }
                match &after.norm_out {
                    None => cx.vec.add_scaled(out, after.scale, y),
                    Some(norm) => {
                        norm.apply(cx.vec, y, scratch);
                        cx.vec.add_scaled(out, after.scale, scratch);
                    }
                }
                if after.factor != 1.0 {
                    cx.vec.scale(out, after.factor);
                }
                if let Some(norm) = &after.norm_after {
                    norm.apply(cx.vec, out, scratch);
                    out.copy_from_slice(scratch);
                }
            }
        }
    }
    w.barrier()
}

/// Logits of up to [`OUT_ROWS`] wanted rows, to the start of the logits buffer.
pub(crate) fn output(
    w: &Worker<'_>,
    cx: &Cx<'_>,
    plan: &Plan,
    output: &Linear,
    wanted: &[u32],
) -> Result<(), Stop> {
    w.enter(Phase::Output);
    debug_assert!(wanted.len() <= OUT_ROWS, "the logits buffer holds OUT_ROWS rows");
    let (n_embd, n_vocab) = (cx.bufs.widths.n_embd, cx.bufs.widths.n_vocab);
    let src = Source {
        norm: plan.stack.norm.as_ref(),
        pick: Some(wanted),
        layer: Some(plan.stack.layers.len()),
        ..Source::plain(&cx.bufs.x, n_embd)
    };
    let acts = linear::prepare(w, cx, &src, &[output])?;
    let private = &cx.bufs.private[w.index()];
    while let Some(rows) = w.claim(n_vocab, linear::chunk(w, wanted.len(), n_vocab)) {
        // SAFETY: each claim is a set of columns of its own.
        unsafe {
            let y = cx.bufs.logits.as_mut_ptr().add(rows.start);
            let columns = (&acts, wanted.len());
            linear::multiply(cx, private, output, (0, &rows), columns, y, n_vocab);
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

/// The wanted rows after the final norm, to the start of the buffer of results, one after another.
pub(crate) fn finals(w: &Worker<'_>, cx: &Cx<'_>, plan: &StackPlan) -> Result<(), Stop> {
    w.enter(Phase::Finish);
    let (n_embd, wanted) = (cx.bufs.widths.n_embd, &cx.batch.wanted);
    while let Some(range) = w.claim(wanted.len(), 4) {
        for i in range {
            let from = wanted[i] as usize * n_embd;
            // SAFETY: results are claimed; the stream is only read in this phase.
            let (x, out) = unsafe {
                let out = cx.bufs.y.part_mut(i * n_embd..(i + 1) * n_embd);
                (cx.bufs.x.part(from..from + n_embd), out)
            };
            cx.watch(plan.layers.len(), x);
            match &plan.norm {
                None => out.copy_from_slice(x),
                Some(norm) => norm.apply(cx.vec, x, out),
            }
        }
    }
    w.barrier()
}

/// Keys and values of the encoder's final rows, for every body of `decoder` that reads them.
pub(crate) fn remember(w: &Worker<'_>, cx: &Cx<'_>, decoder: &StackPlan) -> Result<(), Stop> {
    let stages = decoder.layers.iter().flat_map(|l| &l.stages);
    stages.flat_map(|s| &s.branches).try_for_each(|b| match &b.op {
        Op::Attention(op) => op.remember(w, cx),
        _ => Ok(()),
    })
}
