//! Chat templates: `tokenizer.chat_template` rendered as transformers renders it.
//!
//! The engine is minijinja, set up as transformers sets up jinja2 (immutable sandbox, trim_blocks,
//! lstrip_blocks, loop controls) with Python's printing, comparing and string methods. Three things
//! stand around it:
//!
//! * `source.rs` rewrites operators and literals of the source into calls of ours;
//! * `shade.rs` marks every character that a caller supplied, so that the rendering comes apart
//!   into [`Segment`]s and **only text that the template itself wrote may become a control token**;
//! * limits: fuel pays for instructions, for every byte made and for every item visited, so that a
//!   hostile template ends in an error soon and within 64 MiB of text.
//!
//! # What is trusted
//! The template's literals, `bos_token` and `eos_token`, the clock, numbers and booleans; and the
//! `role` of a message where it is one of [`KNOWN_ROLES`], because templates build tokens of it
//! (`'<|' + message.role + '|>'`). Everything else that a caller passes is untrusted, names of
//! tools and keys of arguments included, through whatever the template does to it.
//!
//! # Differences from jinja2
//! `append` and other changes of lists and dicts work (the sandbox of transformers forbids them),
//! there is a `from_json` filter, and `tojson` takes what `map` and `select` give. `include`,
//! `import` and `extends` do not exist, nor do the filters for web pages (`striptags`, `urlencode`,
//! `urlize`, `xmlattr`, `wordwrap`, `filesizeformat`), `random` and `lipsum`. Nesting is limited to 150 levels, brackets to 100.

mod args;
mod clock;
mod compare;
mod containers;
mod fallback;
mod filters;
mod functions;
mod input;
mod methods;
mod operators;
mod print;
mod shade;
mod sorting;
mod source;
mod tests_of_jinja;
pub(crate) mod think;
mod value;

pub use clock::{DateError, DateTime};
pub use fallback::{BARE, CHATML, Fallback, GEMMA, LLAMA2, LLAMA3, PHI3, PLAIN, fallback};
pub use input::RenderInput;

use super::Segment;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State};
use value::fail;

/// Roles that templates know; only they are trusted as a message's role.
pub const KNOWN_ROLES: &[&str] = &[
    "system",
    "user",
    "assistant",
    "tool",
    "developer",
    "function",
    "model",
    "ipython",
    "environment",
    "observation",
];

/// Fuel of a render before what the input adds: one unit pays for an instruction or 64 bytes.
const FUEL: u64 = 1_000_000;

/// Fuel that each byte of input adds (its shaded form has up to four bytes, and templates copy it
/// several times).
const FUEL_PER_BYTE: u64 = 2;

/// The longest template source, in bytes.
const MAX_SOURCE: usize = 4 << 20;

/// Templates run on a stack of their own: nested values and macros recurse natively.
const STACK_BYTES: usize = 256 << 20;

const NAME: &str = "chat_template";

/// Why a template did not compile or render.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is no template.
    #[error("the chat template does not compile: {0}")]
    Syntax(String),
    /// The template refused the conversation by itself (`raise_exception`).
    #[error("the chat template refuses this conversation: {0}")]
    Raised(String),
    /// An operation failed on the values it got.
    #[error("the chat template fails on this conversation: {0}")]
    Failed(String),
    /// It would take more work or memory than a render may.
    #[error("the chat template was stopped: {0}")]
    Limit(String),
    /// The input object is not what a render takes.
    #[error("{0}")]
    Input(String),
}

impl TemplateError {
    fn syntax(what: impl Into<String>) -> Self {
        TemplateError::Syntax(what.into())
    }
}

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    env: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] with the line, for sources over 4 MiB too.
    pub fn new(source: &str) -> Result<ChatTemplate, TemplateError> {
        if source.len() > MAX_SOURCE {
            return Err(TemplateError::syntax(format!(
                "{} bytes, at most {MAX_SOURCE} are allowed",
                source.len()
            )));
        }
        on_own_stack(|| {
            let prepared = source::prepare(source)?;
            let mut env = environment().map_err(|e| TemplateError::syntax(describe(&e)))?;
            env.add_template_owned(NAME, prepared)
                .map_err(|e| TemplateError::syntax(describe(&e)))?;
            Ok(ChatTemplate { env })
        })
    }

    /// Renders a conversation to text.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] where the template itself refuses, [`TemplateError::Failed`] where
    /// it cannot go on, [`TemplateError::Limit`] where it takes too much.
    pub fn render(&self, input: &RenderInput) -> Result<String, TemplateError> {
        self.render_raw(input).map(|s| shade::plain(&s).into_owned())
    }

    /// Renders a conversation to text with its provenance: only the trusted segments may spell
    /// control tokens. Joined, the segments are the text of [`ChatTemplate::render`]; no two
    /// neighbours are equally trusted.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_segments(&self, input: &RenderInput) -> Result<Vec<Segment>, TemplateError> {
        self.render_raw(input).map(|s| shade::segments(&s))
    }

    fn render_raw(&self, input: &RenderInput) -> Result<String, TemplateError> {
        on_own_stack(|| {
            let mut env = self.env.clone();
            env.set_fuel(Some(
                FUEL.saturating_add(FUEL_PER_BYTE.saturating_mul(input.bytes() as u64)),
            ));
            let context = input.context().map_err(|e| TemplateError::Input(describe(&e)))?;
            let now = input.now;
            env.add_function(
                "strftime_now",
                move |state: &mut State<'_, '_>, format: String| -> Result<String, Error> {
                    value::charge(state, format.len() * 16)?;
                    Ok(now.strftime(&shade::plain(&format)))
                },
            );
            let template =
                env.get_template(NAME).map_err(|e| TemplateError::syntax(describe(&e)))?;
            template.render(context).map_err(|e| render_error(&e))
        })
    }
}

/// One line of `pumice template --jsonl`: a JSON object as [`RenderInput::from_json`] takes it to
/// the rendering as a JSON string, or to `{"error": message}`.
pub fn render_jsonl(template: &ChatTemplate, line: &str) -> String {
    let rendered = serde_json::from_str(line)
        .map_err(|e| TemplateError::Input(format!("the line is not JSON: {e}")))
        .and_then(|object| RenderInput::from_json(&object))
        .and_then(|input| template.render(&input));
    match rendered {
        Ok(text) => serde_json::Value::from(text).to_string(),
        Err(e) => serde_json::json!({ "error": e.to_string() }).to_string(),
    }
}

fn on_own_stack<R: Send>(
    work: impl FnOnce() -> Result<R, TemplateError> + Send,
) -> Result<R, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("template".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work);
        match thread {
            Err(e) => Err(TemplateError::Limit(format!("no thread for it: {e}"))),
            Ok(handle) => handle
                .join()
                .unwrap_or_else(|_| Err(TemplateError::Failed("the engine panicked".into()))),
        }
    })
}

/// What `raise_exception` puts before its message inside the engine, to be told apart.
const RAISED: &str = "\u{1}raised\u{1}";

fn describe(e: &Error) -> String {
    let mut rv = e.detail().map_or_else(|| e.kind().to_string(), str::to_string);
    let mut source = std::error::Error::source(e);
    while let Some(inner) = source {
        rv += &format!(": {inner}");
        source = inner.source();
    }
    if let Some(line) = e.line() {
        rv += &format!(" (line {line})");
    }
    shade::plain(&rv).into_owned()
}

fn render_error(e: &Error) -> TemplateError {
    let text = describe(e);
    let mut chain: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(inner) = chain {
        if let Some(message) = inner
            .downcast_ref::<Error>()
            .and_then(Error::detail)
            .and_then(|d| d.strip_prefix(RAISED))
        {
            return TemplateError::Raised(shade::plain(message).into_owned());
        }
        chain = inner.source();
    }
    match e.kind() {
        ErrorKind::OutOfFuel => TemplateError::Limit(text),
        _ => TemplateError::Failed(text),
    }
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_recursion_limit(400);
    env.set_unknown_method_callback(methods::other_method_callback);
    env.set_formatter(|out, state, v| {
        let text = print::to_str(state, v)?;
        out.write_str(&text).map_err(|_| fail("the output cannot be written"))
    });
    filters::register(&mut env);
    tests_of_jinja::register(&mut env);
    functions::register(&mut env);
    Ok(env)
}
