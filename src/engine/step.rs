//! Running what waits: the only place that hands rows to a model.

use super::{Sequence, schedule};
use crate::error::Error;
use models::{Cancel, Context, ContextOptions, Row};
use std::sync::Arc;

/// A context and the sequences in it.
pub struct Engine {
    context: Context,
    sequences: Vec<Sequence>,
    n_batch: usize,
    /// The sequence whose prompt comes first in the next step.
    first: usize,
    rows: Vec<Row>,
}

impl Engine {
    /// Binds `model` and takes memory for `options.n_seq` sequences; steps have at most `n_batch`
    /// rows.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn new(
        model: &Arc<models::Model>,
        options: &ContextOptions,
        n_batch: usize,
    ) -> Result<Engine, Error> {
        Ok(Engine {
            context: Context::new(model.clone(), options)?,
            sequences: vec![Sequence::default(); options.n_seq.max(1)],
            n_batch: n_batch.max(1),
            first: 0,
            rows: Vec::new(),
        })
    }

    /// The context below.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Begins to note where the time of steps goes, anew, or ends it; see [`Context::profile`].
    pub fn set_profiled(&mut self, on: bool) {
        self.context.set_profiled(on);
    }

    /// One sequence.
    ///
    /// # Panics
    /// When there is no sequence `seq`.
    pub fn sequence(&self, seq: usize) -> &Sequence {
        &self.sequences[seq]
    }

    /// Cuts a sequence back to at most `len` tokens and returns how many stay: fewer where the
    /// model's state cannot be brought back exactly.
    ///
    /// # Panics
    /// When there is no sequence `seq`.
    pub fn truncate(&mut self, seq: usize, len: usize) -> usize {
        let kept = self.context.truncate(seq, len.min(self.sequences[seq].n_held()));
        self.sequences[seq].truncate(kept);
        kept
    }

    /// Makes a sequence become `ids`: the beginning that it shares with them stays, the rest waits,
    /// the last one always. The logits of the last `n_wanted` are wanted, as far as these wait.
    /// Returns how many wait.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], or more tokens than the context has positions; the sequence is then
    /// as it was.
    ///
    /// # Panics
    /// When there is no sequence `seq`.
    pub fn set(&mut self, seq: usize, ids: &[u32], n_wanted: usize) -> Result<usize, Error> {
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.check_room(seq, 0, ids.len())?;
        let kept = self.truncate(seq, self.sequences[seq].shared_with(ids));
        self.sequences[seq].push(&ids[kept..], n_wanted);
        Ok(ids.len() - kept)
    }

    /// Runs a text through the model's encoder; the sequence, which is emptied, then answers to it.
    ///
    /// # Errors
    /// As [`Context::encode`].
    ///
    /// # Panics
    /// When there is no sequence `seq`.
    pub fn encode(&mut self, seq: usize, ids: &[u32], cancel: &Cancel) -> Result<(), Error> {
        self.truncate(seq, 0);
        Ok(self.context.encode(seq, ids, cancel)?)
    }

    /// Makes a sequence hold exactly `ids`, run in one step whatever it held before, and hands the
    /// logits of the positions `wanted` to `sink`, as (position, `[n_vocab]`). For models whose rows
    /// see those that follow.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], more tokens than the context has positions, or a failed or cancelled
    /// step; the sequence is empty then.
    ///
    /// # Panics
    /// When there is no sequence `seq`.
    pub fn whole(
        &mut self,
        seq: usize,
        ids: &[u32],
        wanted: std::ops::Range<usize>,
        cancel: &Cancel,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.truncate(seq, 0);
        self.check_room(seq, 0, ids.len())?;
        let row = |(pos, &token)| Row { token, seq, pos, logits: wanted.contains(&pos) };
        self.rows.clear();
        self.rows.extend(ids.iter().enumerate().map(row));
        self.context.step(&self.rows, cancel, sink)?;
        self.sequences[seq].push(ids, 0);
        self.sequences[seq].holds(self.context.len(seq));
        Ok(())
    }

    /// Appends tokens to what waits in a sequence; the logits of the last `n_wanted` are wanted.
    ///
    /// # Errors
    /// More tokens than the context has room for; none is taken then.
    ///
    /// # Panics
    /// When there is no sequence `seq`.
    pub fn push(&mut self, seq: usize, ids: &[u32], n_wanted: usize) -> Result<(), Error> {
        let s = &self.sequences[seq];
        self.check_room(seq, s.n_held() + s.waiting().len(), ids.len())?;
        self.sequences[seq].push(ids, n_wanted);
        Ok(())
    }

    fn check_room(&self, seq: usize, used: usize, asked: usize) -> Result<(), Error> {
        let n_ctx = self.context.n_ctx();
        if used.saturating_add(asked) > n_ctx {
            return Err(models::Error::ContextOverflow { seq, used, asked, n_ctx }.into());
        }
        Ok(())
    }

    /// Runs all that waits and hands wanted logits to `sink`, as (sequence, position, `[n_vocab]`).
    ///
    /// # Errors
    /// A failed or cancelled step: what was run before it stays, what still waited is forgotten.
    pub fn run(
        &mut self,
        cancel: &Cancel,
        sink: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), Error> {
        loop {
            schedule(&self.sequences, self.n_batch, self.first, &mut self.rows);
            if self.rows.is_empty() {
                return Ok(());
            }
            self.first = (self.first + 1) % self.sequences.len();
            let rows = &self.rows;
            let outcome = self.context.step(rows, cancel, &mut |i, logits| {
                sink(rows[i].seq, rows[i].pos, logits);
            });
            for (seq, s) in self.sequences.iter_mut().enumerate() {
                s.holds(self.context.len(seq));
                if outcome.is_err() {
                    s.give_up();
                }
            }
            outcome?;
        }
    }
}
