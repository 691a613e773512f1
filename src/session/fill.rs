//! Answers of models that fill masks: the loop around [`crate::unmask`].

use super::writing::{OnText, Writing};
use super::{Finish, Limits, Session};
use crate::error::Error;
use crate::sample::Sampler;
use crate::unmask::{self, DEFAULT_N_PREDICT, Draw, UnmaskOptions};
use models::spec::Unmask;
use std::ops::Range;
use std::time::Instant;

/// An answer in the making.
struct Canvas {
    /// Prompt, then the answer, masks where nothing is yet.
    ids: Vec<u32>,
    /// Where the answer begins.
    first: usize,
    /// Positions of the answer that are still to be filled.
    open: Vec<bool>,
    /// The token that is a mask.
    mask: u32,
}

impl Canvas {
    /// Whether position `pos` of the whole text is still to be filled.
    fn is_open(&self, pos: usize) -> bool {
        pos.checked_sub(self.first).is_some_and(|i| self.open.get(i).is_some_and(|&o| o))
    }

    /// Tokens of the answer from number `from` on, up to the first that is still to be filled.
    fn ready(&self, from: usize) -> &[u32] {
        let n = self.open[from..].iter().take_while(|&&o| !o).count();
        &self.ids[self.first + from..self.first + from + n]
    }
}

impl Session {
    /// Appends to what an answer will be about.
    pub(super) fn note(&mut self, ids: &[u32]) -> Result<(), Error> {
        let (used, asked, n_ctx) = (self.text.len(), ids.len(), self.context().n_ctx());
        if used + asked == 0 {
            return Err(Error::EmptyPrompt);
        }
        if used + asked > n_ctx {
            return Err(models::Error::ContextOverflow { seq: 0, used, asked, n_ctx }.into());
        }
        self.text.extend_from_slice(ids);
        Ok(())
    }

    /// Fills an answer of `limits.n_predict` masks after the prompt, and hands its text on as far as
    /// it is certain.
    pub(super) fn fill(
        &mut self,
        sampler: &mut Sampler,
        limits: &Limits,
        on_text: OnText<'_>,
    ) -> Result<Finish, Error> {
        let model = self.model.clone();
        let Some(how) = model.core().spec().unmask.filter(|_| !self.text.is_empty()) else {
            return Err(Error::EmptyPrompt);
        };
        let mask = model.tokenizer()?.special().mask.ok_or(Error::NoMask)?;
        let asked = limits.n_predict.unwrap_or(DEFAULT_N_PREDICT);
        let n = asked.min(self.context().n_ctx() - self.text.len());
        let mut out = Writing::new(&model, limits, on_text)?;
        let first = self.text.len();
        let mut ids = std::mem::take(&mut self.text);
        ids.resize(first + n, mask);
        let mut canvas = Canvas { ids, first, open: vec![true; n], mask };
        let (start, before) = (Instant::now(), self.timings.prefill);
        let (mut n_written, mut n_steps) = (0, 0);
        let outcome = (|| {
            let block = self.unmask.block.or(how.block);
            for (block, steps) in unmask::blocks(n, UnmaskOptions { block, ..self.unmask }) {
                for count in unmask::schedule(block.len(), steps) {
                    self.fill_some(&mut canvas, block.clone(), count, how, sampler)?;
                    if n_steps == 0 {
                        self.timings.n_prefill += first;
                        self.timings.prefill += start.elapsed();
                    }
                    n_steps += 1;
                    for &token in canvas.ready(n_written) {
                        sampler.accept(token);
                        n_written += 1;
                        if let Some(finish) = out.push(token)? {
                            return Ok(finish);
                        }
                    }
                }
            }
            Ok(if n < asked { Finish::ContextFull } else { Finish::Length })
        })();
        canvas.ids.truncate(first + n_written);
        self.text = canvas.ids;
        let finish = match outcome {
            Err(e) if Error::is_cancelled(&e) => Finish::Cancelled,
            outcome => outcome?,
        };
        out.finish();
        self.timings.n_decode += n_written;
        self.timings.decode += start.elapsed() - (self.timings.prefill - before);
        Ok(finish)
    }

    /// One step: draws a token for each mask of `block` and keeps the `count` surest.
    fn fill_some(
        &mut self,
        canvas: &mut Canvas,
        block: Range<usize>,
        count: usize,
        how: Unmask,
        sampler: &mut Sampler,
    ) -> Result<(), Error> {
        let shift = usize::from(how.shifted);
        let from = canvas.first - shift;
        let wanted = from + block.start..from + block.end;
        let (mut draws, mut failed, mut row) = (Vec::new(), None, Vec::new());
        self.engine.whole(0, &canvas.ids, wanted, &self.cancel, &mut |pos, logits| {
            let position = pos + shift;
            if !canvas.is_open(position) || failed.is_some() {
                return;
            }
            row.clear();
            row.extend_from_slice(logits);
            if let Some(mask) = row.get_mut(canvas.mask as usize) {
                *mask = f32::NEG_INFINITY;
            }
            match sampler.sample(&row) {
                Ok(token) => {
                    let sureness = unmask::sureness(how.sureness, &row, token);
                    draws.push(Draw { position, token, sureness });
                }
                Err(e) => failed = Some(e),
            }
        })?;
        if let Some(e) = failed {
            return Err(e.into());
        }
        unmask::surest(&mut draws, count);
        for draw in draws {
            canvas.ids[draw.position] = draw.token;
            canvas.open[draw.position - canvas.first] = false;
        }
        Ok(())
    }
}
