//! The encoder of a model that has one beside its decoder.

use super::{Context, Model, origin};
use crate::error::Error;
use crate::exec;
use crate::ops::Cx;
use crate::step::{self, Row};
use crate::team::{Cancel, Stop};
use std::sync::atomic::{AtomicU32, Ordering};

impl Model {
    /// The token that a decoder beside an encoder begins with.
    ///
    /// # Errors
    /// Another type under the key, or an id outside the vocabulary.
    pub fn decoder_start(&self) -> Result<u32, Error> {
        let key = self.hp.key("decoder_start_token_id");
        let id = self.gguf().metadata().u32(&key)?.unwrap_or(crate::quirks::DECODER_START);
        if id as usize >= self.hp.n_vocab {
            let expected = format!("an id below {}", self.hp.n_vocab);
            return Err(Error::BadValue { key, found: id.to_string(), expected });
        }
        Ok(id)
    }
}

impl Context {
    /// Runs a text through the encoder; sequence `seq`, which is emptied, then answers to it.
    ///
    /// # Errors
    /// [`Error::NoEncoder`]; no tokens, more than the context has positions, or an id outside the
    /// vocabulary; cancellation, a failed worker, rows that are not finite. The sequence has no text
    /// in the encoder then.
    pub fn encode(&mut self, seq: usize, ids: &[u32], cancel: &Cancel) -> Result<(), Error> {
        let (n_vocab, n_ctx) = (self.n_vocab(), self.n_ctx());
        let n_seq = self.state.options().n_seq;
        let Some(memory) = &mut self.memory else { return Err(Error::NoEncoder) };
        let row = |(pos, &token)| Row { token, seq, pos, logits: true };
        let rows: Vec<Row> = ids.iter().enumerate().map(row).collect();
        step::check(&rows, n_vocab, n_seq, |_| 0, &mut self.next)?;
        if rows.is_empty() || rows.len() > n_ctx {
            let expected = format!("1 to {n_ctx}, the positions of the context");
            let (what, found) = ("number of tokens", rows.len());
            return Err(Error::BadInput { input: seq, what, found, expected });
        }
        self.model.gguf().check_unchanged()?;
        self.state.truncate(seq, 0);
        memory.truncate(seq, 0);
        memory.reserve(seq, rows.len())?;
        self.batch.set(&rows);
        let outcome = self.run_encoder(seq, cancel);
        if let Some(memory) = &mut self.memory {
            match outcome {
                Ok(()) => memory.commit(seq, rows.len()),
                Err(_) => memory.abandon(seq),
            }
        }
        outcome
    }

    /// Runs the batch through the encoder, and its rows into what the decoder reads.
    fn run_encoder(&mut self, seq: usize, cancel: &Cancel) -> Result<(), Error> {
        let (Some(encoder), Some(memory)) = (&self.plan.encoder, &self.memory) else {
            return Err(Error::NoEncoder);
        };
        let bad_layer = AtomicU32::new(u32::MAX);
        let cx = Cx {
            batch: &self.batch,
            bufs: &self.bufs,
            state: memory,
            memory: None,
            vec: self.vec,
            deterministic: self.deterministic,
            bad_layer: &bad_layer,
            #[cfg(test)]
            fault: self.fault,
        };
        let plan = &self.plan;
        self.bufs.reset();
        self.team.step(self.batch.rows.len(), cancel, &|w| -> Result<(), Stop> {
            exec::layers(w, &cx, encoder, &plan.ropes, None)?;
            exec::finals(w, &cx, encoder)?;
            exec::remember(w, &cx, &plan.stack)
        })?;
        match bad_layer.load(Ordering::Relaxed) {
            u32::MAX => Ok(()),
            layer => {
                let origin = origin(layer, encoder.layers.len());
                Err(Error::NotFiniteRow { input: seq, origin })
            }
        }
    }

    /// Refuses rows of sequences that have nothing to answer to.
    pub(super) fn check_encoded(&self, rows: &[Row]) -> Result<(), Error> {
        let Some(memory) = &self.memory else { return Ok(()) };
        match rows.iter().find(|r| memory.len(r.seq) == 0) {
            Some(row) => Err(Error::NotEncoded { seq: row.seq }),
            None => Ok(()),
        }
    }
}
