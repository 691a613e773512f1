//! What a user can choose, and the description of each option from which the command line, the validation and
//! the messages are derived.

use super::table::{Order, SAMPLERS};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// How tokens are drawn. The defaults are those of the command line.
///
/// Each field has a setter of the same name, so that options are built in one expression; nothing is checked
/// until [`SamplerOptions::validate`] or [`Sampler::new`](super::Sampler::new).
///
/// ```
/// use pumice::sample::SamplerOptions;
/// let options = SamplerOptions::default().temperature(0.6).top_k(20).seed(Some(1));
/// assert!(options.validate().is_ok());
/// let error = options.top_p(1.5).validate().unwrap_err();
/// assert_eq!(error.to_string(), "sampling option top_p (--top-p): found 1.5, expected a number from 0 to 1");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerOptions {
    /// Seed of the random numbers; `None` takes one at random, which
    /// [`Sampler::seed`](super::Sampler::seed) tells.
    pub seed: Option<u64>,
    /// The order in which samplers run; those left out do not run.
    pub samplers: Order,
    /// Divisor of the logits; below 0.001 the best token is taken and nothing is drawn.
    pub temperature: f32,
    /// Half width of the dynamic temperature's range; 0 is off.
    pub dynatemp_range: f32,
    /// Exponent of the dynamic temperature's entropy.
    pub dynatemp_exponent: f32,
    /// Number of tokens kept by top-k; 0 is off.
    pub top_k: u32,
    /// Probability mass kept by top-p; 1 is off.
    pub top_p: f32,
    /// Share of the best token's probability that min-p asks for; 0 is off.
    pub min_p: f32,
    /// Mass kept by locally typical sampling; 1 is off.
    pub typical_p: f32,
    /// Chance that XTC acts on a token; 0 is off.
    pub xtc_probability: f32,
    /// Probability from which XTC counts a token as a top choice; above 0.5 is off.
    pub xtc_threshold: f32,
    /// 2 = Mirostat 2, 0 = off.
    pub mirostat: u32,
    /// Mirostat's target surprise in bits.
    pub mirostat_tau: f32,
    /// Mirostat's learning rate.
    pub mirostat_eta: f32,
    /// How many of the last tokens the penalties look at; 0 is off, -1 all.
    pub repeat_last_n: i32,
    /// Divisor of a repeated token's positive logit (factor of a negative one); 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted from the logit of every repeated token; 0 is off.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a repeated token for each repetition; 0 is off.
    pub frequency_penalty: f32,
    /// Strength of DRY; 0 is off.
    pub dry_multiplier: f32,
    /// Growth of DRY's penalty with each further repeated token.
    pub dry_base: f32,
    /// Length of a repetition that DRY lets pass.
    pub dry_allowed_length: u32,
    /// How many of the last tokens DRY looks at; 0 is off, -1 all.
    pub dry_penalty_last_n: i32,
    /// Texts that end a repetition for DRY.
    pub dry_sequence_breakers: Vec<String>,
    /// Token sequences that end a repetition for DRY.
    pub dry_breaker_tokens: Vec<Vec<u32>>,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<TokenBias>,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            seed: None,
            samplers: Order::default(),
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: -1,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
            dry_breaker_tokens: Vec::new(),
            logit_bias: Vec::new(),
        }
    }
}

/// One setter per field, named like it.
macro_rules! setters {
    ($($field:ident: $type:ty),* $(,)?) => {
        impl SamplerOptions {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](SamplerOptions#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

setters! {
    seed: Option<u64>, samplers: Order, temperature: f32, dynatemp_range: f32, dynatemp_exponent: f32,
    top_k: u32, top_p: f32, min_p: f32, typical_p: f32, xtc_probability: f32, xtc_threshold: f32,
    mirostat: u32, mirostat_tau: f32, mirostat_eta: f32, repeat_last_n: i32, repeat_penalty: f32,
    presence_penalty: f32, frequency_penalty: f32, dry_multiplier: f32, dry_base: f32,
    dry_allowed_length: u32, dry_penalty_last_n: i32, dry_sequence_breakers: Vec<String>,
    dry_breaker_tokens: Vec<Vec<u32>>, logit_bias: Vec<TokenBias>,
}

impl SamplerOptions {
    /// Options that always take the most probable token; the other samplers stay as they are by default.
    #[must_use]
    pub fn greedy() -> Self {
        SamplerOptions::default().temperature(0.0)
    }

    /// Checks every option against its description in the table.
    ///
    /// # Errors
    /// The first option out of its range, by name, with what was found and what is expected.
    pub fn validate(&self) -> Result<(), OptionError> {
        match Flag::all().find(|flag| !(flag.valid)(self)) {
            Some(flag) => Err(flag.error((flag.get)(self).join(" "))),
            None => Ok(()),
        }
    }

    /// Sets an option from text, as the command line does. `name` is the long flag or the field;
    /// `values` are all its occurrences: one that takes a single value reads the last.
    ///
    /// # Errors
    /// An unknown name; a value that is no value of this option.
    pub fn set(&mut self, name: &str, values: &[&str]) -> Result<(), OptionError> {
        let unknown = || OptionError::Unknown {
            name: name.to_owned(),
            known: Flag::all().map(|f| f.field).collect::<Vec<_>>().join(", "),
        };
        let flag = Flag::all()
            .find(|f| f.long == name || f.field == name)
            .ok_or_else(unknown)?;
        let mut changed = self.clone();
        if (flag.set)(&mut changed, values).is_none() || !(flag.valid)(&changed) {
            return Err(flag.error(values.join(" ")));
        }
        *self = changed;
        Ok(())
    }
}

/// An option that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A value outside what the option takes.
    #[error("sampling option {field} (--{flag}): found {found}, expected {expected}")]
    Value {
        /// The field of [`SamplerOptions`].
        field: &'static str,
        /// The flag of the command line.
        flag: &'static str,
        /// The value given.
        found: String,
        /// What may be given.
        expected: String,
    },
    /// A name that no sampling option has.
    #[error("no sampling option is called {name}; there are {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// DRY has breakers that are texts, but the sampler was made without the tokens' texts.
    #[error(
        "sampling option dry_sequence_breakers (--dry-sequence-breaker): the tokens' texts are needed to \
         find {found:?}; make the sampler with Sampler::with_texts, or give dry_breaker_tokens instead"
    )]
    NoTexts {
        /// The breakers.
        found: Vec<String>,
    },
    /// A vocabulary without tokens.
    #[error("a sampler needs a vocabulary: found n_vocab = 0, expected 1 or more")]
    EmptyVocabulary,
}

/// A token and what is added to its logit.
///
/// In JSON a pair `[id, bias]`, where the bias is a number or `false`, which bans the token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(u32, BiasText)", into = "(u32, BiasText)")]
pub struct TokenBias {
    /// The token's id.
    pub token: u32,
    /// Added to its logit; `-inf` bans it.
    pub bias: f32,
}

/// The bias in JSON, which has no infinity. `true` is a bias of zero.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum BiasText {
    Allowed(bool),
    Number(f32),
}

impl From<(u32, BiasText)> for TokenBias {
    fn from((token, bias): (u32, BiasText)) -> Self {
        let bias = match bias {
            BiasText::Allowed(true) => 0.0,
            BiasText::Allowed(false) => f32::NEG_INFINITY,
            BiasText::Number(bias) => bias,
        };
        TokenBias { token, bias }
    }
}

impl From<TokenBias> for (u32, BiasText) {
    fn from(bias: TokenBias) -> Self {
        let banned = bias.bias == f32::NEG_INFINITY;
        (
            bias.token,
            if banned {
                BiasText::Allowed(false)
            } else {
                BiasText::Number(bias.bias)
            },
        )
    }
}

/// One option as data.
pub struct Flag {
    /// The field of [`SamplerOptions`].
    pub field: &'static str,
    /// The long flag, without dashes.
    pub long: &'static str,
    /// The short flag.
    pub short: Option<char>,
    /// What the help calls the value.
    pub value_name: &'static str,
    /// One sentence for the help.
    pub help: &'static str,
    /// What may be given, as the error says it.
    pub expected: &'static str,
    /// Whether each occurrence of the flag adds a value.
    pub repeats: bool,
    /// The value as text, one entry per occurrence of the flag.
    pub(super) get: fn(&SamplerOptions) -> Vec<String>,
    /// Reads the value from all occurrences of the flag; `None` when it is not one.
    pub(super) set: fn(&mut SamplerOptions, &[&str]) -> Option<()>,
    pub(super) valid: fn(&SamplerOptions) -> bool,
}

impl Flag {
    /// The flags of all samplers, in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static Flag> {
        SAMPLERS.iter().flat_map(|kind| kind.flags)
    }

    /// The default as the help shows it; `None` where there is nothing to show.
    #[must_use]
    pub fn default_text(&self) -> Option<String> {
        let values: Vec<_> = (self.get)(&SamplerOptions::default())
            .iter()
            .map(|v| v.escape_debug().to_string())
            .collect();
        (!values.is_empty()).then(|| values.join(" "))
    }

    fn error(&self, found: String) -> OptionError {
        let expected = if self.field == "samplers" {
            format!("{}: {}", self.expected, Order::known().join(", "))
        } else {
            self.expected.to_owned()
        };
        OptionError::Value {
            field: self.field,
            flag: self.long,
            found,
            expected,
        }
    }
}

/// The row of an option that is a plain number.
macro_rules! number {
    ($field:ident, $long:literal, $expected:literal, $valid:expr, $help:literal) => {
        $crate::sample::options::Flag {
            field: stringify!($field),
            long: $long,
            short: None,
            value_name: "N",
            help: $help,
            expected: $expected,
            repeats: false,
            get: |o| vec![o.$field.to_string()],
            set: |o, values| {
                o.$field = values.last()?.trim().parse().ok()?;
                Some(())
            },
            valid: |o| {
                let valid: fn(_) -> bool = $valid;
                valid(o.$field)
            },
        }
    };
}
pub(super) use number;

/// What a window option such as `repeat_last_n` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    Off,
    Last(NonZeroU32),
    All,
}

impl Window {
    pub(super) fn new(last_n: i32) -> Window {
        match u32::try_from(last_n).map(NonZeroU32::new) {
            Ok(Some(n)) => Window::Last(n),
            Ok(None) => Window::Off,
            Err(_) => Window::All,
        }
    }
}
