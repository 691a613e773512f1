//! Tokens of an answer on their way to text.

use super::{Finish, Limits};
use crate::error::Error;
use crate::model::Model;
use crate::text::stop::StopMatcher;
use crate::text::tokenizer::{Detokenizer, Show, Tokenizer};
use std::ops::ControlFlow;

/// Receives pieces of text, never half a character.
pub(super) type OnText<'a> = &'a mut dyn FnMut(&str) -> ControlFlow<()>;

/// Turns tokens into text, and knows when that ends an answer.
pub(super) struct Writing<'a> {
    tokenizer: &'a Tokenizer,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    shown: &'a [u32],
    on_text: OnText<'a>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(
        model: &'a Model,
        limits: &'a Limits,
        on_text: OnText<'a>,
    ) -> Result<Writing<'a>, Error> {
        Ok(Writing {
            tokenizer: model.tokenizer()?,
            detokenizer: Detokenizer::continuing(Show::Text),
            stop: StopMatcher::new(&limits.stop),
            shown: &limits.shown,
            on_text,
        })
    }

    /// Takes the next token and says why the answer is over, if it is.
    pub(super) fn push(&mut self, token: u32) -> Result<Option<Finish>, Error> {
        if self.tokenizer.is_eog(token) {
            return Ok(Some(Finish::EndOfAnswer(token)));
        }
        let is_shown = self.shown.binary_search(&token).is_ok();
        self.detokenizer.show(if is_shown { Show::All } else { Show::Text });
        let text = self.stop.push(self.detokenizer.push(self.tokenizer, token)?);
        if !text.is_empty() && (self.on_text)(text).is_break() {
            return Ok(Some(Finish::Cancelled));
        }
        Ok(self.stop.is_met().then_some(Finish::StopText))
    }

    /// Writes what was held back.
    pub(super) fn finish(mut self) {
        if self.stop.is_met() {
            return;
        }
        let tail = self.stop.push(self.detokenizer.finish()).to_string() + self.stop.finish();
        if !tail.is_empty() {
            // The answer is over: whether more is wanted does not matter.
            let _ = (self.on_text)(&tail);
        }
    }
}
