//! From logits to a token.
//!
//! A [`Sampler`] is a chain of small steps over the candidates, one file each, followed by a draw. What there
//! is, in which order it runs and which options it has is data: [`SAMPLERS`]. Steps that its options switch
//! off are not in the chain at all. The chain neither knows text nor touches the model.
//!
//! Beside the chain, a token costs one pass over the logits: see `candidates.rs`.

mod args;
mod candidates;
mod draw;
mod dry;
mod greedy;
mod logit_bias;
mod logprobs;
mod math;
mod min_p;
mod mirostat;
mod options;
mod penalties;
mod rng;
mod table;
mod temperature;
#[cfg(test)]
mod testing;
mod top_k;
mod top_p;
mod typical;
mod xtc;

pub use args::SamplerArgs;
pub use candidates::Candidate;
pub use logprobs::{TokenLogprob, logprob, top_logprobs};
pub use options::{Flag, OptionError, SamplerOptions, TokenBias};
pub use table::{Order, OrderError, Place, SAMPLERS, SamplerKind};

use candidates::{Buffers, Candidates};
use rng::Rng;
use std::sync::Arc;

/// Appends a token's text, as bytes, to a buffer; nothing for a token that has none. Needed by DRY to find
/// breakers that are texts.
pub type TokenTexts = Arc<dyn Fn(u32, &mut Vec<u8>) + Send + Sync>;

/// One step of the chain.
trait Stage: CloneStage + Send + Sync {
    /// Edits or narrows the candidates. Never removes the last one that can be drawn.
    fn apply(&mut self, candidates: &mut Candidates<'_>, rng: &mut Rng);
    /// Takes note of a token that became part of the text.
    fn accept(&mut self, _token: u32) {}
    /// Takes note of the probability, among the candidates, of the token that was drawn.
    fn drawn(&mut self, _p: f32) {}
    /// Forgets the text.
    fn reset(&mut self) {}
}

/// `Clone` for boxed stages.
trait CloneStage {
    fn boxed(&self) -> Box<dyn Stage>;
}

impl<T: Stage + Clone + 'static> CloneStage for T {
    fn boxed(&self) -> Box<dyn Stage> {
        Box::new(self.clone())
    }
}

impl Clone for Box<dyn Stage> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

/// Draws tokens from logits.
///
/// A clone has the same text and the same random numbers before it: it goes on as the original would.
///
/// ```
/// use pumice::sample::{Sampler, SamplerOptions};
/// let mut sampler = Sampler::new(&SamplerOptions::default().seed(Some(7)), 3)?;
/// let token = sampler.sample(&[0.1, 8.0, 0.2])?;
/// sampler.accept(token);
/// assert_eq!(token, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Sampler {
    stages: Vec<(&'static str, Box<dyn Stage>)>,
    buffers: Buffers,
    rng: Rng,
    n_vocab: usize,
}

impl Sampler {
    /// Makes the chain that the options ask for, for a vocabulary of `n_vocab` tokens that may be drawn.
    ///
    /// # Errors
    /// An option out of its range, by name; text breakers for DRY, which need [`Sampler::with_texts`].
    pub fn new(options: &SamplerOptions, n_vocab: usize) -> Result<Sampler, OptionError> {
        Sampler::build(options, n_vocab, None)
    }

    /// As [`Sampler::new`], with the tokens' texts at hand.
    ///
    /// # Errors
    /// An option out of its range, by name.
    pub fn with_texts(
        options: &SamplerOptions,
        n_vocab: usize,
        texts: TokenTexts,
    ) -> Result<Sampler, OptionError> {
        Sampler::build(options, n_vocab, Some(texts))
    }

    fn build(
        options: &SamplerOptions,
        n_vocab: usize,
        texts: Option<TokenTexts>,
    ) -> Result<Sampler, OptionError> {
        options.validate()?;
        if n_vocab == 0 {
            return Err(OptionError::EmptyVocabulary);
        }
        let at = |place| SAMPLERS.iter().copied().filter(move |kind| kind.place == place);
        let mirostat = options.mirostat != 0;
        let ordered =
            options.samplers.kinds().filter(|kind| !mirostat || kind.place == Place::Ordered);
        let setup = table::Setup { n_vocab, texts };
        let mut stages = Vec::new();
        for kind in at(Place::First).chain(ordered).chain(at(Place::Last)) {
            if let Some(stage) = (kind.build)(options, &setup)? {
                stages.push((kind.name, stage));
            }
        }
        let rng = Rng::new(options.seed.unwrap_or_else(Rng::random_seed));
        Ok(Sampler { stages, buffers: Buffers::default(), rng, n_vocab })
    }

    /// Draws a token. `logits` is `[n_vocab]` or longer: what stands after `n_vocab` is padding of the model's
    /// last matrix and is never drawn. The token becomes part of the text only by [`Sampler::accept`].
    ///
    /// # Errors
    /// Too few logits; a NaN or `+inf`, by token; no token that could be drawn. `-inf` is legitimate.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        self.narrow(logits)?;
        let list = &self.buffers.list;
        let place = draw::draw(list, &mut self.rng)
            .ok_or(SampleError::NoCandidates { after: "the last sampler" })?;
        let drawn = list[place];
        self.stages.iter_mut().for_each(|(_, stage)| stage.drawn(drawn.p));
        Ok(drawn.token)
    }

    /// The candidates of the last [`Sampler::sample`] with the probabilities that they were drawn by, which add
    /// up to 1; in no order that is promised.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.buffers.list
    }

    /// Takes note of a token of the text, drawn or given (of the prompt, say): penalties and DRY look at these.
    pub fn accept(&mut self, token: u32) {
        self.stages.iter_mut().for_each(|(_, stage)| stage.accept(token));
    }

    /// Goes back to the start: forgets the text and begins the random numbers anew.
    pub fn reset(&mut self) {
        self.stages.iter_mut().for_each(|(_, stage)| stage.reset());
        self.rng.restart();
    }

    /// The seed in use: the one asked for, or the one taken at random.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.rng.seed()
    }

    /// The names of the samplers that are on, in the order in which they run.
    pub fn chain(&self) -> impl Iterator<Item = &'static str> {
        self.stages.iter().map(|(name, _)| *name)
    }

    /// Runs the chain and weighs what is left.
    fn narrow(&mut self, logits: &[f32]) -> Result<(), SampleError> {
        let found = logits.len();
        let logits = logits
            .get(..self.n_vocab)
            .ok_or(SampleError::Logits { found, n_vocab: self.n_vocab })?;
        let mut candidates = Candidates::new(logits, &mut self.buffers)?;
        let mut after = "the model";
        for (name, stage) in &mut self.stages {
            if candidates.max() == f32::NEG_INFINITY {
                return Err(SampleError::NoCandidates { after });
            }
            stage.apply(&mut candidates, &mut self.rng);
            after = name;
        }
        if candidates.weigh().is_empty() {
            return Err(SampleError::NoCandidates { after });
        }
        Ok(())
    }
}

/// Logits from which no token can be drawn.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A NaN or `+inf`: the model's computation has failed.
    #[error("the logit of token {token} is {value}, expected a finite number or -inf")]
    NotFinite {
        /// The first such token.
        token: u32,
        /// Its logit.
        value: f32,
    },
    /// Every token has the logit `-inf`.
    #[error("no token can be drawn: all logits are -inf after {after}")]
    NoCandidates {
        /// The step that left none.
        after: &'static str,
    },
    /// Fewer logits than tokens.
    #[error("found {found} logits, expected at least n_vocab = {n_vocab}")]
    Logits {
        /// The number of logits.
        found: usize,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
    /// A token outside the vocabulary.
    #[error("found token {token}, expected an id below n_vocab = {n_vocab}")]
    Token {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
}

/// Entropy of the candidates in nats: `ln(sum) - mean(logit - max)`.
fn entropy(candidates: &mut Candidates<'_>) -> f64 {
    let sum = candidates.exp_sum();
    let max = f64::from(candidates.max());
    let surprise = |c: &Candidate| f64::from(c.p) * (f64::from(c.logit) - max);
    math::ln(sum) - candidates.weigh().iter().map(surprise).sum::<f64>()
}
