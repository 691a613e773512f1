//! The samplers as data: the help, the flags, the order's names and the chain are all read from here.

use super::options::{Flag, OptionError, SamplerOptions};
use super::{
    Stage, TokenTexts, draw, dry, logit_bias, min_p, mirostat, penalties, temperature, top_k,
    top_p, typical, xtc,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A sampler: its name, its options, and how to make it.
pub struct SamplerKind {
    /// The name in an order.
    pub name: &'static str,
    /// Further names that an order may use.
    pub aliases: &'static [&'static str],
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// When it runs.
    pub place: Place,
    /// Its options.
    pub flags: &'static [Flag],
    /// Makes it; `None` when the options switch it off.
    pub(super) build: Build,
}

pub(super) type Build = fn(&SamplerOptions, &Setup) -> Result<Option<Box<dyn Stage>>, OptionError>;

/// What a sampler may need beside the options.
pub(super) struct Setup {
    pub(super) n_vocab: usize,
    pub(super) texts: Option<TokenTexts>,
}

/// Where in the chain a sampler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all others, always.
    First,
    /// Where the order puts it.
    Ordered,
    /// Where the order puts it; left out when Mirostat is on, which does its work.
    OrderedUnlessMirostat,
    /// After all others, always.
    Last,
    /// No step of the chain: options of the chain itself.
    Chain,
}

/// All samplers; the ordered ones in their default order.
pub static SAMPLERS: &[&SamplerKind] = &[
    &logit_bias::KIND,
    &penalties::KIND,
    &dry::KIND,
    &top_k::KIND,
    &typical::KIND,
    &top_p::KIND,
    &min_p::KIND,
    &xtc::KIND,
    &temperature::KIND,
    &mirostat::KIND,
    &draw::KIND,
];

/// The order in which the ordered samplers run. As text and in JSON: names with `;` between them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Order(Vec<&'static str>);

impl Order {
    /// The names that an order may hold, in the default order.
    #[must_use]
    pub fn known() -> Vec<&'static str> {
        ordered().map(|kind| kind.name).collect()
    }

    /// The samplers in this order.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &'static SamplerKind> {
        self.0
            .iter()
            .filter_map(|name| ordered().find(|kind| kind.name == *name))
    }
}

fn ordered() -> impl Iterator<Item = &'static SamplerKind> {
    let is_ordered = |p| matches!(p, Place::Ordered | Place::OrderedUnlessMirostat);
    SAMPLERS
        .iter()
        .copied()
        .filter(move |kind| is_ordered(kind.place))
}

impl Default for Order {
    fn default() -> Self {
        Order(Order::known())
    }
}

impl FromStr for Order {
    type Err = OrderError;

    /// Reads names with `;` or `,` between them; `-` and `_` are the same. No name at all is the empty order,
    /// which draws from the model's own distribution.
    fn from_str(text: &str) -> Result<Order, OrderError> {
        let mut names = Vec::new();
        for name in text
            .split([';', ','])
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let plain = name.to_ascii_lowercase().replace('_', "-");
            let kind = ordered()
                .find(|kind| kind.name == plain || kind.aliases.contains(&plain.as_str()))
                .ok_or_else(|| OrderError::Unknown {
                    name: name.to_owned(),
                    known: Order::known().join(", "),
                })?;
            if names.contains(&kind.name) {
                return Err(OrderError::Twice { name: kind.name });
            }
            names.push(kind.name);
        }
        Ok(Order(names))
    }
}

impl TryFrom<String> for Order {
    type Error = OrderError;

    fn try_from(text: String) -> Result<Order, OrderError> {
        text.parse()
    }
}

impl From<Order> for String {
    fn from(order: Order) -> String {
        order.to_string()
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(";"))
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// An order that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// A name that no ordered sampler has.
    #[error("order of samplers: found {name}, expected names out of {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A sampler given twice: which options would the second have?
    #[error("order of samplers: {name} stands twice, expected once")]
    Twice {
        /// The sampler.
        name: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_what_it_prints_and_the_usual_spellings() {
        let order = Order::default();
        assert_eq!(
            order.to_string(),
            "penalties;dry;top-k;typical;top-p;min-p;xtc;temperature"
        );
        assert_eq!(order.to_string().parse(), Ok(order));
        let spelled: Order = " top_p, TEMP ;typ_p;;".parse().unwrap();
        assert_eq!(spelled.to_string(), "top-p;temperature;typical");
        assert_eq!("".parse(), Ok(Order(vec![])));
    }

    #[test]
    fn an_order_refuses_unknown_and_repeated_names() {
        let error = "top-k;topq".parse::<Order>().unwrap_err().to_string();
        assert!(
            error.contains("found topq") && error.contains("min-p"),
            "{error}"
        );
        assert_eq!(
            "top-k;top_k".parse::<Order>(),
            Err(OrderError::Twice { name: "top-k" })
        );
        assert!(
            "logit-bias".parse::<Order>().is_err(),
            "the bias has a fixed place"
        );
    }

    #[test]
    fn names_flags_and_fields_are_unique() {
        let mut seen = std::collections::HashSet::new();
        for kind in SAMPLERS {
            assert!(seen.insert(kind.name.to_owned()), "{} twice", kind.name);
            assert!(kind.aliases.iter().all(|a| seen.insert((*a).to_owned())));
            assert!(
                kind.doc.ends_with('.') && !kind.source.is_empty(),
                "{}",
                kind.name
            );
        }
        let mut flags = std::collections::HashSet::new();
        for flag in Flag::all() {
            assert!(flags.insert(flag.long) && flags.insert(flag.field) || flag.long == flag.field);
        }
    }

    #[test]
    fn every_option_has_a_flag_and_every_flag_an_option() {
        let json = serde_json::to_value(SamplerOptions::default()).unwrap();
        let mut fields: Vec<_> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut flags: Vec<_> = Flag::all().map(|f| f.field).collect();
        fields.sort_unstable();
        flags.sort_unstable();
        assert_eq!(fields, flags);
    }
}
