//! A model file with its vocabulary and chat template.

use crate::error::Error;
use crate::sample::SamplerOptions;
use crate::text::Segment;
use crate::text::parse::Format;
use crate::text::template::{BARE, ChatTemplate, Fallback, RenderInput, fallback, think};
use crate::text::tokenizer::{Show, Special, TokenType, Tokenizer};
use formats::{Access, Gguf};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// How a file is opened.
#[derive(Clone, Debug)]
pub struct ModelOptions {
    /// Map the file, or read it into memory.
    pub access: Access,
    /// Keep the file's pages in memory.
    pub mlock: bool,
    /// A `tokenizer.json` to use instead of the file's own vocabulary.
    pub tokenizer: Option<PathBuf>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        ModelOptions { access: Access::Mmap, mlock: false, tokenizer: None }
    }
}

/// An open model: file, hyper-parameters, vocabulary, chat template. Clones share everything.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<models::Model>,
    options: ModelOptions,
    tokenizer: OnceLock<Tokenizer>,
    template: OnceLock<ChatTemplate>,
}

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// "system", "user", "assistant" or what else the template knows.
    pub role: String,
    /// The text.
    pub content: String,
    /// The thoughts before it, for templates that want those of earlier turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
}

impl Message {
    /// A turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into(), reasoning_content: None }
    }
}

/// What is asked of an answer beside its conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatOptions {
    /// Whether the model is to write down thoughts first; `None` leaves it to the template.
    pub think: Option<bool>,
}

/// A conversation as a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// The end of its text: what an answer begins with depends on it.
    pub tail: String,
    /// [`ChatOptions::think`] could be honoured.
    pub steered: bool,
}

/// Bytes of a prompt's end that a parser of answers may look at.
const TAIL_BYTES: usize = 64;

impl Model {
    /// Opens a file and reads what it says of itself; its tensors are looked at by
    /// [`crate::Session::new`], its vocabulary when it is first needed.
    ///
    /// # Errors
    /// An unreadable or damaged file, an unknown architecture, metadata out of range.
    pub fn open(path: impl AsRef<Path>, options: ModelOptions) -> Result<Model, Error> {
        let gguf = Arc::new(Gguf::open(path.as_ref(), options.access)?);
        if options.mlock {
            gguf.lock()?;
        }
        Model::of(gguf, options)
    }

    /// A model that is already in memory.
    ///
    /// # Errors
    /// An unknown architecture, metadata out of range.
    pub fn from_gguf(gguf: Gguf) -> Result<Model, Error> {
        Model::of(Arc::new(gguf), ModelOptions::default())
    }

    fn of(gguf: Arc<Gguf>, options: ModelOptions) -> Result<Model, Error> {
        let core = Arc::new(models::Model::new(gguf)?);
        Ok(Model {
            inner: Arc::new(Inner {
                core,
                options,
                tokenizer: OnceLock::new(),
                template: OnceLock::new(),
            }),
        })
    }

    /// The model without its text side.
    pub fn core(&self) -> &Arc<models::Model> {
        &self.inner.core
    }

    /// The file.
    pub fn gguf(&self) -> &Arc<Gguf> {
        self.inner.core.gguf()
    }

    /// The vocabulary: the one given by [`ModelOptions::tokenizer`], else the file's.
    ///
    /// # Errors
    /// A vocabulary that is missing, damaged or of an unknown kind.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        let inner = &*self.inner;
        if let Some(t) = inner.tokenizer.get() {
            return Ok(t);
        }
        let tokenizer = load_tokenizer(self.gguf(), inner.options.tokenizer.as_deref())?;
        Ok(inner.tokenizer.get_or_init(|| tokenizer))
    }

    /// The file's chat template, or the built-in one that fits its vocabulary.
    ///
    /// # Errors
    /// A template that does not compile; the vocabulary's errors where there is no template.
    pub fn chat_template(&self) -> Result<&ChatTemplate, Error> {
        if let Some(t) = self.inner.template.get() {
            return Ok(t);
        }
        let template = ChatTemplate::new(self.template_source()?)?;
        Ok(self.inner.template.get_or_init(|| template))
    }

    /// The source of [`Model::chat_template`].
    fn template_source(&self) -> Result<&str, Error> {
        match self.own_template()? {
            Some(source) => Ok(source),
            None => Ok(self.built_in_template()?.source),
        }
    }

    /// How this model writes thoughts and calls, as its chat template shows.
    ///
    /// # Errors
    /// As [`Model::chat_template`].
    pub fn answer_format(&self) -> Result<Format, Error> {
        Ok(Format::of_template(self.template_source()?))
    }

    /// Control tokens that stand in answers as markers of thoughts and calls, in rising order: what
    /// reads those needs their text ([`crate::Limits::shown`]).
    ///
    /// # Errors
    /// As [`Model::chat_template`].
    pub fn answer_markers(&self) -> Result<Vec<u32>, Error> {
        let (format, tokenizer) = (self.answer_format()?, self.tokenizer()?);
        let is_marker = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id).unwrap_or_default();
            let is_hidden = tokenizer.token_type(*id) == Some(TokenType::Control);
            is_hidden && std::str::from_utf8(bytes).is_ok_and(|text| format.has_marker(text))
        };
        Ok((0..tokenizer.n_tokens() as u32).filter(is_marker).collect())
    }

    /// How this model draws where nobody says: [`SamplerOptions::default`], but what fills masks takes
    /// the most probable token. That is the default of LLaDA's and Dream's published generation code,
    /// and nearly that of RND1's (a temperature of 0.1): of many masks that are drawn at once with more
    /// noise, some are always improbable, and what is filled is never changed.
    pub fn sampler_options(&self) -> SamplerOptions {
        let options = SamplerOptions::default();
        let fills_masks = self.core().spec().unmask.is_some();
        if fills_masks { options.temperature(0.0) } else { options }
    }

    /// The template that the file carries.
    fn own_template(&self) -> Result<Option<&str>, Error> {
        let found = self.gguf().metadata().str("tokenizer.chat_template")?;
        Ok(found.filter(|t| !t.trim().is_empty()))
    }

    /// Name of the built-in template in use; `None` when the file has its own.
    ///
    /// # Errors
    /// As [`Model::chat_template`].
    pub fn fallback_template(&self) -> Result<Option<&'static str>, Error> {
        if self.own_template()?.is_some() {
            return Ok(None);
        }
        Ok(Some(self.built_in_template()?.name))
    }

    fn built_in_template(&self) -> Result<Fallback, Error> {
        if self.core().spec().encoder.is_some() {
            return Ok(BARE);
        }
        let tokenizer = self.tokenizer()?;
        Ok(fallback(|text| tokenizer.id_of(text).is_some()))
    }

    /// What a model with an encoder reads ends in EOS, which its texts had in training.
    fn ended(&self, mut ids: Vec<u32>) -> Result<Vec<u32>, Error> {
        if self.core().spec().encoder.is_some() {
            let eos = self.tokenizer()?.special().eos;
            ids.extend(eos.filter(|&eos| ids.last() != Some(&eos)));
        }
        Ok(ids)
    }

    /// The prompt of a conversation, with where each part of it comes from.
    ///
    /// # Errors
    /// The template's refusal or failure.
    pub fn chat_segments(&self, mut input: RenderInput) -> Result<Vec<Segment>, Error> {
        let tokenizer = self.tokenizer()?;
        let text = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.token_bytes(id)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        input.bos_token = text(tokenizer.special().bos);
        input.eos_token = text(tokenizer.special().eos);
        Ok(self.chat_template()?.render_segments(&input)?)
    }

    /// The tokens of a conversation up to where the assistant speaks. Text of the messages never
    /// becomes a control token.
    ///
    /// # Errors
    /// As [`Model::chat_segments`].
    pub fn chat_tokens(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        Ok(self.chat_prompt(messages, &ChatOptions::default())?.tokens)
    }

    /// The same, asked for in a certain way, with what is to be known to read the answer.
    ///
    /// # Errors
    /// As [`Model::chat_segments`].
    pub fn chat_prompt(
        &self,
        messages: &[Message],
        options: &ChatOptions,
    ) -> Result<Prompt, Error> {
        let object = |m: &Message| {
            let mut object = serde_json::json!({"role": m.role, "content": m.content});
            if let Some(reasoning) = &m.reasoning_content {
                object["reasoning_content"] = reasoning.as_str().into();
            }
            object
        };
        let source = self.template_source()?;
        let mut input = RenderInput::new(messages.iter().map(object).collect());
        let knows = options
            .think
            .is_some_and(|on| think::steer(source, on, &mut input.kwargs, &mut input.messages));
        let mut segments = self.chat_segments(input)?;
        let has_tags = source.contains("<think>");
        if let Some(on) = options.think.filter(|_| has_tags) {
            think::complete(&mut segments, on, knows);
        }
        let text: String = segments.iter().map(|s| s.text.as_str()).collect();
        let tail =
            text[text.ceil_char_boundary(text.len().saturating_sub(TAIL_BYTES))..].to_owned();
        let tokens = self.ended(self.tokenizer()?.encode_segments(&segments)?)?;
        Ok(Prompt { tokens, tail, steered: options.think.is_none() || knows || has_tags })
    }

    /// The tokens of a text as it is, with BOS where the file asks for it (and EOS where an encoder
    /// reads it).
    ///
    /// # Errors
    /// The vocabulary's.
    pub fn raw_tokens(&self, text: &str) -> Result<Vec<u32>, Error> {
        let segment = Segment { text: text.into(), trusted: true };
        self.ended(self.tokenizer()?.encode_segments(&[segment])?)
    }

    /// The text of tokens, without control tokens.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn text_of(&self, ids: &[u32]) -> Result<String, Error> {
        Ok(self.tokenizer()?.decode(ids, Show::Text)?)
    }

    /// The tokens of plain text in which nothing counts as special, nothing added.
    ///
    /// # Errors
    /// The vocabulary's.
    pub fn plain_tokens(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.tokenizer()?.encode(text, Special::Plain, false)?)
    }
}

/// The vocabulary of `gguf`, or the `tokenizer.json` at `json` in its place.
///
/// # Errors
/// A vocabulary that is missing, damaged or of an unknown kind.
pub fn load_tokenizer(gguf: &Gguf, json: Option<&Path>) -> Result<Tokenizer, Error> {
    match json {
        None => Ok(Tokenizer::from_gguf(gguf)?),
        Some(path) => Ok(Tokenizer::from_tokenizer_json(path)?),
    }
}
