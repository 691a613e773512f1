//! Texts to vectors, and documents to scores.

use crate::error::Error;
use crate::model::Model;
use crate::text::Segment;
use crate::text::tokenizer::{Special, Tokenizer};
use models::spec::Pooling;
use models::{Cancel, Context, ContextOptions, Text};
use quant::KvType;

/// Texts that may share a step by default; they are short where many do.
const N_TEXTS: usize = 32;

/// How texts become vectors.
#[derive(Clone, Debug)]
pub struct EmbedOptions {
    /// Threads, instruction set, positions of the longest text. Sequences, their total and the types
    /// of keys and values are chosen here: nothing is kept between texts, so that precision costs
    /// little.
    pub context: ContextOptions,
    /// How rows become a vector; `None` = as the file says.
    pub pooling: Option<Pooling>,
    /// Vectors are divided by their length. Scores never are.
    pub normalize: bool,
    /// Values that are kept of each vector, from its start (before it is normalised): for models that
    /// were trained for that (Kusupati et al. 2022).
    pub dimensions: Option<usize>,
    /// Tokens, special ones included, to which longer texts are cut; `None` = they are refused.
    pub truncate: Option<usize>,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        EmbedOptions {
            context: ContextOptions::default(),
            pooling: None,
            normalize: true,
            dimensions: None,
            truncate: None,
        }
    }
}

/// The tokens of a text or of a pair of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTokens {
    /// Ids, special ones included.
    pub ids: Vec<u32>,
    /// Where the second text of a pair begins.
    pub second_from: Option<usize>,
}

impl From<Vec<u32>> for TextTokens {
    fn from(ids: Vec<u32>) -> TextTokens {
        TextTokens { ids, second_from: None }
    }
}

/// A model that turns texts into vectors or scores.
///
/// ```no_run
/// use pumice::{EmbedOptions, Embedder, Model, ModelOptions};
///
/// let model = Model::open("minilm.gguf", ModelOptions::default())?;
/// let mut embedder = Embedder::new(&model, &EmbedOptions::default())?;
/// let vectors = embedder.embed(&["A boat leaves at seven.", "The ferry departs at 7."])?;
/// let cosine: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
/// # Ok::<(), pumice::Error>(())
/// ```
pub struct Embedder {
    model: Model,
    context: Context,
    pooling: Pooling,
    /// Values of a vector.
    width: usize,
    normalize: bool,
    truncate: Option<usize>,
    cancel: Cancel,
}

impl Embedder {
    /// Binds the model's tensors and takes memory.
    ///
    /// # Errors
    /// As [`crate::Session::new`]; scores of a file that has no classifier; more dimensions than
    /// there are.
    pub fn new(model: &Model, options: &EmbedOptions) -> Result<Embedder, Error> {
        let trained = model.core().hparams().n_ctx_train.min(models::DEFAULT_N_CTX);
        let n_ctx = options.context.n_ctx.unwrap_or(trained).max(1);
        let context = ContextOptions {
            n_ctx: Some(n_ctx),
            n_seq: N_TEXTS,
            n_total: Some(n_ctx.max(options.context.n_ubatch)),
            type_k: KvType::F32,
            type_v: KvType::F32,
            ..options.context.clone()
        };
        let context = Context::new(model.core().clone(), &context)?;
        let pooling = options.pooling.unwrap_or(model.core().spec().head.pooling);
        let full = context.embedding_width(pooling)?;
        let width = options.dimensions.unwrap_or(full);
        if width == 0 || width > full {
            return Err(Error::Dimensions { found: width, full });
        }
        Ok(Embedder {
            model: model.clone(),
            context,
            pooling,
            width,
            normalize: options.normalize && pooling != Pooling::Rank,
            truncate: options.truncate,
            cancel: Cancel::new(),
        })
    }

    /// The context below.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// How rows become a vector.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Values of a vector, or of each token's where there is no pooling.
    pub fn width(&self) -> usize {
        self.width
    }

    /// A flag that ends the running call, from any thread.
    pub fn cancel_flag(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The vectors of texts: `[width]` each, or `[n_tokens, width]` without pooling.
    ///
    /// # Errors
    /// A text that is longer than the context and may not be cut; a failed or cancelled step.
    pub fn embed(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        let tokens: Result<Vec<TextTokens>, Error> =
            texts.iter().map(|text| text_tokens(&self.model, text)).collect();
        self.embed_tokens(tokens?)
    }

    /// As [`Embedder::embed`], for texts that are tokens already.
    ///
    /// # Errors
    /// As [`Embedder::embed`], an id outside the vocabulary, or no tokens.
    pub fn embed_tokens(&mut self, mut texts: Vec<TextTokens>) -> Result<Vec<Vec<f32>>, Error> {
        if let Some(n) = self.truncate {
            let n_end = self.model.tokenizer().map_or(0, closing);
            texts.iter_mut().for_each(|text| cut(text, n, n_end));
        }
        let list: Vec<Text<'_>> =
            texts.iter().map(|t| Text { ids: &t.ids, second_from: t.second_from }).collect();
        let mut vectors = Vec::with_capacity(list.len());
        let (width, normalize) = (self.width, self.normalize);
        let full = self.context.embedding_width(self.pooling)?;
        self.context.embed(&list, self.pooling, &self.cancel, &mut |_, rows| {
            vectors.push(shorten(rows, full, width, normalize));
        })?;
        Ok(vectors)
    }

    /// How well each document answers the query: the first score of the pair. Larger is better; the
    /// scale is the model's.
    ///
    /// # Errors
    /// As [`Embedder::embed`]; [`models::Error::NoClassifier`] unless the pooling is
    /// [`Pooling::Rank`].
    pub fn rerank(&mut self, query: &str, documents: &[&str]) -> Result<Vec<f32>, Error> {
        if self.pooling != Pooling::Rank {
            return Err(models::Error::NoClassifier.into());
        }
        let pairs: Result<Vec<TextTokens>, Error> =
            documents.iter().map(|d| pair_tokens(&self.model, query, d)).collect();
        let scores = self.embed_tokens(pairs?)?;
        Ok(scores.iter().filter_map(|s| s.first().copied()).collect())
    }
}

/// The tokens of a text, with the special tokens that the file puts around one. Nothing that the
/// text spells becomes a control token.
///
/// # Errors
/// The vocabulary's.
pub fn text_tokens(model: &Model, text: &str) -> Result<TextTokens, Error> {
    Ok(model.tokenizer()?.encode(text, Special::Plain, true)?.into())
}

/// The tokens of a query and a document: the file's template "rerank" where it has one, otherwise
/// both texts in a row with the vocabulary's separators, as its encoder was trained.
///
/// # Errors
/// The vocabulary's.
pub fn pair_tokens(model: &Model, query: &str, document: &str) -> Result<TextTokens, Error> {
    let tokenizer = model.tokenizer()?;
    if let Some(template) = model.gguf().metadata().str("tokenizer.chat_template.rerank")? {
        let segments = fill(template, query, document);
        return Ok(tokenizer.encode_segments(&segments)?.into());
    }
    let (ids, adds) = (tokenizer.special(), tokenizer.adds());
    let bos = ids.bos.filter(|_| adds.bos);
    let (eos, sep) = (ids.eos.filter(|_| adds.eos), ids.sep.filter(|_| adds.sep));
    // Where texts end in EOS (RoBERTa), a separator that the vocabulary names stands between two.
    let between = sep.or(ids.sep.filter(|_| eos.is_some()));
    let encode = |text| tokenizer.encode(text, Special::Plain, false);
    let mut all: Vec<u32> = bos.into_iter().chain(encode(query)?).collect();
    all.extend(eos.into_iter().chain(between));
    let second_from = all.len();
    all.extend(encode(document)?.into_iter().chain(sep).chain(eos));
    Ok(TextTokens { ids: all, second_from: Some(second_from) })
}

/// The template's own text and what stands in its two places.
fn fill(template: &str, query: &str, document: &str) -> Vec<Segment> {
    let places = [("{query}", query), ("{document}", document)];
    let (mut segments, mut rest) = (Vec::new(), template);
    let mut push = |text: &str, trusted| segments.push(Segment { text: text.into(), trusted });
    loop {
        let next = places.iter().filter_map(|(name, text)| Some((rest.find(name)?, name, text)));
        let Some((at, name, text)) = next.min_by_key(|(at, ..)| *at) else { break };
        push(&rest[..at], true);
        push(text, false);
        rest = &rest[at + name.len()..];
    }
    push(rest, true);
    segments
}

/// Special tokens that a text ends in.
fn closing(tokenizer: &Tokenizer) -> usize {
    let adds = tokenizer.adds();
    usize::from(adds.eos && tokenizer.special().eos.is_some())
        + usize::from(adds.sep && tokenizer.special().sep.is_some())
}

/// Cuts a text to `n` tokens; the last `n_end` stay the last.
fn cut(text: &mut TextTokens, n: usize, n_end: usize) {
    let excess = text.ids.len().saturating_sub(n);
    if excess > 0 {
        let end = text.ids.len() - n_end.min(n);
        text.ids.drain(end - excess..end);
        text.second_from = text.second_from.map(|from| from.min(text.ids.len()));
    }
}

/// The first `width` of every `full` values, normalised where that is asked for.
fn shorten(rows: &[f32], full: usize, width: usize, normalize: bool) -> Vec<f32> {
    let mut out: Vec<f32> =
        rows.chunks_exact(full).flat_map(|row| &row[..width]).copied().collect();
    if normalize {
        for row in out.chunks_exact_mut(width) {
            let square = |x: &f32| f64::from(*x) * f64::from(*x);
            let length = row.iter().map(square).sum::<f64>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_keeps_its_closing_token() {
        let text = |ids: &[u32]| TextTokens { ids: ids.to_vec(), second_from: Some(4) };
        let cut_to = |n| {
            let mut t = text(&[101, 1, 2, 3, 4, 102]);
            cut(&mut t, n, 1);
            (t.ids, t.second_from)
        };
        assert_eq!(cut_to(6), (vec![101, 1, 2, 3, 4, 102], Some(4)));
        assert_eq!(cut_to(4), (vec![101, 1, 2, 102], Some(4)));
        assert_eq!(cut_to(3), (vec![101, 1, 102], Some(3)));
        assert_eq!(cut_to(1), (vec![102], Some(1)));
    }

    #[test]
    fn a_vector_is_shortened_and_then_has_length_one() {
        let rows = [3.0, 4.0, 9.0, 0.0, 0.0, 9.0];
        assert_eq!(shorten(&rows, 3, 2, true), [0.6, 0.8, 0.0, 0.0]);
        assert_eq!(shorten(&rows, 3, 2, false), [3.0, 4.0, 0.0, 0.0]);
    }

    #[test]
    fn a_template_is_filled_with_untrusted_text() {
        let parts = fill("<q>{query}</q><d>{document}</d>", "a {document}", "b");
        let parts: Vec<_> = parts.iter().map(|s| (s.text.as_str(), s.trusted)).collect();
        let (template, text) = (true, false);
        let expected = [
            ("<q>", template),
            ("a {document}", text),
            ("</q><d>", template),
            ("b", text),
            ("</d>", template),
        ];
        assert_eq!(parts, expected);
        assert_eq!(fill("none", "a", "b").len(), 1);
    }
}
