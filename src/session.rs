//! One conversation with a model: feeding tokens, drawing tokens, streaming text.

mod fill;
mod writing;

use writing::Writing;

use crate::engine::Engine;
use crate::error::Error;
use crate::model::Model;
use crate::sample::{Sampler, SamplerOptions};
use crate::unmask::UnmaskOptions;
use models::{Cancel, Context, ContextOptions};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How a session runs.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Context, KV types, threads, instruction set.
    pub context: ContextOptions,
    /// Most rows handed to the engine at a time; between two such steps a prompt can be cancelled
    /// even where a single phase is long.
    pub n_batch: usize,
    /// How masks are filled, by models that do that.
    pub unmask: UnmaskOptions,
}

impl Default for SessionOptions {
    fn default() -> Self {
        let (context, unmask) = (ContextOptions::default(), UnmaskOptions::default());
        SessionOptions { context, n_batch: 2048, unmask }
    }
}

/// Tokens and time of prefill and decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Prompt tokens run.
    pub n_prefill: usize,
    /// Time they took.
    pub prefill: Duration,
    /// Tokens generated one by one.
    pub n_decode: usize,
    /// Time they took, drawing and decoding to text included.
    pub decode: Duration,
}

/// When to end an answer besides the model's own end.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Most tokens; `None` = until the end of the answer.
    pub n_predict: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Control tokens whose text is part of the answer, in rising order; others are not shown.
    pub shown: Vec<u32>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model drew a token of its end-of-generation set.
    EndOfAnswer(u32),
    /// A stop text appeared.
    StopText,
    /// The number of tokens asked for was reached.
    Length,
    /// The context is full.
    ContextFull,
    /// The receiver of the text, or the cancel flag, ended it.
    Cancelled,
}

/// A running conversation.
pub struct Session {
    model: Model,
    /// The conversation is its sequence 0.
    engine: Engine,
    /// Logits after the last token.
    logits: Vec<f32>,
    /// Of a model that fills masks: prompt and answer.
    text: Vec<u32>,
    unmask: UnmaskOptions,
    cancel: Cancel,
    timings: Timings,
}

impl Session {
    /// Binds the model's tensors and takes memory for a context.
    ///
    /// # Errors
    /// Tensors that are missing, misshapen or left over; not enough memory, with the figures.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Session, Error> {
        Ok(Session {
            engine: Engine::new(model.core(), &options.context, options.n_batch)?,
            model: model.clone(),
            logits: Vec::new(),
            text: Vec::new(),
            unmask: options.unmask,
            cancel: Cancel::new(),
            timings: Timings::default(),
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The context below.
    pub fn context(&self) -> &Context {
        self.engine.context()
    }

    /// A flag that ends the running prefill or answer, from any thread.
    pub fn cancel_flag(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The tokens that the context holds; of a model with an encoder, those of the decoder.
    pub fn tokens(&self) -> &[u32] {
        if self.fills_masks() { &self.text } else { self.engine.sequence(0).held() }
    }

    fn fills_masks(&self) -> bool {
        self.model.core().spec().unmask.is_some()
    }

    /// Logits after the last token, `[n_vocab]`; empty before the first.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Tokens and time so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.engine.truncate(0, 0);
        self.logits.clear();
        self.text.clear();
    }

    /// Makes the context hold exactly `ids`: keeps the beginning that it shares with them, runs the
    /// rest. A model with an encoder reads them there, and its decoder begins anew; one that fills
    /// masks runs them with its answer.
    ///
    /// # Errors
    /// An empty prompt, more tokens than the context has positions (nothing is run then), or a
    /// failed or cancelled step; what was run up to there stays.
    pub fn set_prompt(&mut self, ids: &[u32]) -> Result<(), Error> {
        if self.fills_masks() {
            self.text.clear();
            return self.note(ids);
        }
        if self.model.core().spec().encoder.is_some() {
            return self.read(ids);
        }
        let n = self.engine.set(0, ids, 1)?;
        self.prefill(n)
    }

    /// Runs a text through the encoder, and the first token of the decoder.
    fn read(&mut self, ids: &[u32]) -> Result<(), Error> {
        let (start, first) = (Instant::now(), self.model.core().decoder_start()?);
        self.logits.clear();
        self.engine.encode(0, ids, &self.cancel)?;
        self.timings.prefill += start.elapsed();
        self.engine.set(0, &[first], 1)?;
        self.prefill(ids.len())
    }

    /// Runs more tokens.
    ///
    /// # Errors
    /// As [`Session::set_prompt`], but no tokens are no error.
    pub fn feed(&mut self, ids: &[u32]) -> Result<(), Error> {
        if self.fills_masks() {
            return self.note(ids);
        }
        self.engine.push(0, ids, 1)?;
        self.prefill(ids.len())
    }

    /// Runs the `n` tokens that wait.
    fn prefill(&mut self, n: usize) -> Result<(), Error> {
        let start = Instant::now();
        self.run()?;
        self.timings.n_prefill += n;
        self.timings.prefill += start.elapsed();
        Ok(())
    }

    fn run(&mut self) -> Result<(), Error> {
        let logits = &mut self.logits;
        self.engine.run(&self.cancel, &mut |_, _, row| {
            logits.clear();
            logits.extend_from_slice(row);
        })
    }

    /// A sampler for this model: ids beyond its vocabulary are never drawn, and the texts of tokens
    /// are at hand.
    ///
    /// # Errors
    /// An option out of its range.
    pub fn sampler(&self, options: &SamplerOptions) -> Result<Sampler, Error> {
        let n = self.model.tokenizer()?.n_tokens().min(self.context().n_vocab());
        let model = self.model.clone();
        let texts = move |id: u32, out: &mut Vec<u8>| {
            let bytes = model.tokenizer().ok().and_then(|t| t.token_bytes(id));
            out.extend_from_slice(bytes.unwrap_or_default());
        };
        Ok(Sampler::with_texts(options, n, std::sync::Arc::new(texts))?)
    }

    /// Draws tokens after what the context holds and hands their text to `on_text`, piece by piece,
    /// never half a character. The last token drawn is not run: nothing follows it yet.
    ///
    /// # Errors
    /// A failed step; a sampler that finds no token to draw; nothing in the context yet.
    pub fn generate(
        &mut self,
        sampler: &mut Sampler,
        limits: &Limits,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Finish, Error> {
        if self.fills_masks() {
            return self.fill(sampler, limits, on_text);
        }
        if self.logits.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let model = self.model.clone();
        let mut out = Writing::new(&model, limits, on_text)?;
        let start = Instant::now();
        let mut n = 0;
        let finish = loop {
            if limits.n_predict.is_some_and(|most| n >= most) {
                break Finish::Length;
            }
            let token = sampler.sample(&self.logits)?;
            sampler.accept(token);
            n += 1;
            if let Some(finish) = out.push(token)? {
                break finish;
            }
            if limits.n_predict.is_some_and(|most| n >= most) {
                break Finish::Length;
            }
            if self.tokens().len() == self.context().n_ctx() {
                break Finish::ContextFull;
            }
            self.engine.push(0, &[token], 1)?;
            match self.run() {
                Err(e) if e.is_cancelled() => break Finish::Cancelled,
                outcome => outcome?,
            }
        };
        out.finish();
        self.timings.n_decode += n;
        self.timings.decode += start.elapsed();
        Ok(finish)
    }
}
