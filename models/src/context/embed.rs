//! Whole texts in, vectors or scores out.

use super::{Context, origin};
use crate::error::Error;
use crate::exec;
use crate::ops::Cx;
use crate::ops::pool::Pool;
use crate::spec::Pooling;
use crate::step::Row;
use crate::team::{Cancel, Stop};
use std::sync::atomic::{AtomicU32, Ordering};

/// A text, or a pair of texts, as tokens.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Its ids, special ones included.
    pub ids: &'a [u32],
    /// Where the second text of a pair begins, for models that tell the two apart (`token_types` of
    /// more than one row).
    pub second_from: Option<usize>,
}

impl<'a> From<&'a [u32]> for Text<'a> {
    fn from(ids: &'a [u32]) -> Text<'a> {
        Text { ids, second_from: None }
    }
}

impl Context {
    /// Values of the vector that [`Context::embed`] gives for a text (for a row of it where
    /// `pooling` is [`Pooling::None`]).
    ///
    /// # Errors
    /// [`Error::NoClassifier`] when scores are asked for and the file has none.
    pub fn embedding_width(&self, pooling: Pooling) -> Result<usize, Error> {
        self.plan.pool.rows_of(pooling).ok_or(Error::NoClassifier)?;
        Ok(self.plan.pool.width(pooling, self.plan.widths.n_embd))
    }

    /// Runs whole texts and hands their vectors to `sink`, as (index, vector), in order: rows after
    /// the final norm, `[n_tokens, n_embd]`, for [`Pooling::None`]; scores, one for each label, for
    /// [`Pooling::Rank`]; otherwise `[n_embd]` (or what the file's own last matrices make of it),
    /// not normalised.
    ///
    /// Texts share steps without padding, as many as there are sequences and as fit a micro-batch; a
    /// text that is seen in both directions is never cut. The sequences are emptied before and after.
    ///
    /// # Errors
    /// An empty text, a text longer than the context, an id outside the vocabulary or a pooling that
    /// the file does not have, before anything runs; cancellation, a failed worker, or rows that are
    /// not finite.
    pub fn embed(
        &mut self,
        texts: &[Text<'_>],
        pooling: Pooling,
        cancel: &Cancel,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let rows = self.plan.pool.rows_of(pooling).ok_or(Error::NoClassifier)?;
        if self.plan.encoder.is_some() {
            return Err(Error::TwoStacks);
        }
        self.check_texts(texts)?;
        self.model.gguf().check_unchanged()?;
        let mut first = 0;
        while first < texts.len() {
            let pack = &texts[first..first + self.pack(&texts[first..])];
            (0..pack.len()).for_each(|seq| {
                self.truncate(seq, 0);
            });
            let pools = self.run_pack(pack, first, rows, cancel);
            (0..pack.len()).for_each(|seq| {
                self.truncate(seq, 0);
            });
            self.batch.second_from.clear();
            for (i, pool) in pools?.into_iter().enumerate() {
                sink(first + i, &self.plan.pool.finish(self.vec, pooling, pool));
            }
            first += pack.len();
        }
        Ok(())
    }

    fn check_texts(&self, texts: &[Text<'_>]) -> Result<(), Error> {
        let (n_vocab, n_ctx) = (self.n_vocab(), self.n_ctx());
        for (input, text) in texts.iter().enumerate() {
            let bad = |what, found, expected| Error::BadInput { input, what, found, expected };
            let n = text.ids.len();
            if n == 0 || n > n_ctx {
                let expected = format!("1 to {n_ctx}, the positions of the context");
                return Err(bad("number of tokens", n, expected));
            }
            if let Some(id) = text.ids.iter().find(|&&id| id as usize >= n_vocab) {
                return Err(bad("token id", *id as usize, format!("below {n_vocab}")));
            }
        }
        Ok(())
    }

    /// How many of the texts, at least one, share a step.
    fn pack(&self, texts: &[Text<'_>]) -> usize {
        let o = self.state.options();
        let mut n_rows = 0;
        let fits = |text: &&Text<'_>| {
            n_rows += text.ids.len();
            n_rows <= o.n_ubatch
        };
        texts.iter().take(o.n_seq).take_while(fits).count().max(1)
    }

    /// The pooled rows of texts that stand in one sequence each; `base` is the index of the first.
    fn run_pack(
        &mut self,
        texts: &[Text<'_>],
        base: usize,
        pooling: Pooling,
        cancel: &Cancel,
    ) -> Result<Vec<Pool>, Error> {
        let n_embd = self.plan.widths.n_embd;
        let row = |seq: usize, pos: usize, token: u32| {
            let logits = Pool::wants(pooling, pos, texts[seq].ids.len());
            Row { token, seq, pos, logits }
        };
        let ids = texts.iter().enumerate();
        let rows = ids.flat_map(|(seq, text)| {
            text.ids.iter().enumerate().map(move |(pos, &token)| row(seq, pos, token))
        });
        let rows: Vec<Row> = rows.collect();
        let second = texts.iter().map(|t| t.second_from.unwrap_or(usize::MAX));
        self.batch.second_from.clear();
        self.batch.second_from.extend(second);
        let mut pools: Vec<Pool> = texts.iter().map(|_| Pool::new(pooling, n_embd)).collect();
        for part in rows.chunks(self.state.options().n_ubatch) {
            self.batch.set(part);
            self.reserve()?;
            let outcome = self.finals(base, cancel, &mut |seq, row| pools[seq].add(row));
            self.settle(outcome)?;
        }
        Ok(pools)
    }

    /// Runs the batch and hands its wanted rows to `sink`, as (sequence, row).
    fn finals(
        &mut self,
        base: usize,
        cancel: &Cancel,
        sink: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let bad_layer = AtomicU32::new(u32::MAX);
        let (plan, n_embd) = (&self.plan, self.plan.widths.n_embd);
        let cx = Cx {
            batch: &self.batch,
            bufs: &self.bufs,
            state: &self.state,
            memory: None,
            vec: self.vec,
            deterministic: self.deterministic,
            bad_layer: &bad_layer,
            #[cfg(test)]
            fault: self.fault,
        };
        self.bufs.reset();
        self.team.step(self.batch.rows.len(), cancel, &|w| -> Result<(), Stop> {
            exec::layers(w, &cx, &plan.stack, &plan.ropes, None)?;
            exec::finals(w, &cx, &plan.stack)
        })?;
        for (i, &row) in self.batch.wanted.iter().enumerate() {
            let seq = self.batch.rows[row as usize].seq;
            // SAFETY: the team is at rest.
            let x = unsafe { self.bufs.y.part(i * n_embd..(i + 1) * n_embd) };
            if self.vec.check_finite(x).is_some() {
                let origin = origin(bad_layer.load(Ordering::Relaxed), plan.stack.layers.len());
                return Err(Error::NotFiniteRow { input: base + seq, origin });
            }
            sink(seq, x);
        }
        Ok(())
    }
}
