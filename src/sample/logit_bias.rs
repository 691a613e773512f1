//! Logit bias: a number added to the logits of chosen tokens, before all other samplers (as the OpenAI API
//! defines it); `-inf` bans a token.

use super::options::{Flag, OptionError, TokenBias};
use super::table::{Place, SamplerKind};
use super::{Candidates, Rng, Stage};

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "logit-bias",
    aliases: &[],
    doc: "Adds to the logits of chosen tokens.",
    source: "OpenAI API reference",
    place: Place::First,
    flags: &[Flag {
        field: "logit_bias",
        long: "logit-bias",
        short: Some('l'),
        value_name: "ID+BIAS",
        help: "Add a bias to a token's logit: 42+1.5, 42-1; 42-inf bans it",
        expected: "a token id and a bias, as in 42+1.5, 42-1 or 42-inf",
        repeats: true,
        get: |o| {
            o.logit_bias
                .iter()
                .map(|b| format!("{}{:+}", b.token, b.bias))
                .collect()
        },
        set: |o, values| {
            o.logit_bias = values
                .iter()
                .map(|v| parse(v.trim()))
                .collect::<Option<_>>()?;
            Some(())
        },
        valid: |o| o.logit_bias.iter().all(|b| b.bias < f32::INFINITY),
    }],
    build: |options, setup| {
        let mut biases = options.logit_bias.clone();
        if let Some(b) = biases.iter().find(|b| b.token as usize >= setup.n_vocab) {
            return Err(OptionError::Value {
                field: "logit_bias",
                flag: "logit-bias",
                found: format!("token {}", b.token),
                expected: format!("a token id below n_vocab = {}", setup.n_vocab),
            });
        }
        // Several biases of one token are added up, so that each token is edited once.
        biases.sort_by_key(|b| b.token);
        biases.dedup_by(|b, sum| {
            let same = b.token == sum.token;
            sum.bias += if same { b.bias } else { 0.0 };
            same
        });
        Ok((!biases.is_empty()).then(|| Box::new(LogitBias { biases }) as Box<dyn Stage>))
    },
};

/// Reads `ID+BIAS` or `ID-BIAS`; the sign belongs to the bias.
fn parse(text: &str) -> Option<TokenBias> {
    let sign = text.find(['+', '-'])?;
    let bias: f32 = text[sign..].parse().ok()?;
    Some(TokenBias {
        token: text[..sign].parse().ok()?,
        bias,
    })
}

#[derive(Clone)]
struct LogitBias {
    /// By token, each once.
    biases: Vec<TokenBias>,
}

impl Stage for LogitBias {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        candidates.edit(
            self.biases.iter().map(|b| b.token),
            |token, logit| match self.biases.binary_search_by_key(&token, |b| b.token) {
                Ok(at) => logit + self.biases[at].bias,
                Err(_) => logit,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::testing::{chain, logits, tokens};
    use crate::sample::{Sampler, SamplerOptions};

    #[test]
    fn adds_up_and_bans() {
        let bias = |token, bias| TokenBias { token, bias };
        let biases = vec![bias(2, f32::NEG_INFINITY), bias(0, 1.5), bias(0, -0.5)];
        let mut sampler = chain("top-k", |o| o.top_k(2).logit_bias(biases));
        assert_eq!(tokens(&mut sampler, &[1.0, 1.5, 9.0, 0.0]), [0, 1]);
        assert_eq!(logits(&mut sampler, &[1.0, 1.5, 9.0, 0.0])[0], 2.0);
    }

    #[test]
    fn reads_the_flag_and_prints_it_back() {
        let mut o = SamplerOptions::default();
        o.set("logit-bias", &["42+1.5", "7-1", "8-inf"]).unwrap();
        assert_eq!((KIND.flags[0].get)(&o), ["42+1.5", "7-1", "8-inf"]);
        for bad in ["42", "x+1", "42+nan", "42+inf", "+1", "42+1x", "-1+2"] {
            let error = o.set("logit-bias", &[bad]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("found {bad}, expected a token id")),
                "{error}"
            );
        }
        assert_eq!(o.logit_bias.len(), 3, "a refused value changes nothing");
    }

    #[test]
    fn json_writes_a_ban_as_false() {
        let o = SamplerOptions::default().logit_bias(vec![
            TokenBias {
                token: 5,
                bias: f32::NEG_INFINITY,
            },
            TokenBias {
                token: 6,
                bias: 2.0,
            },
        ]);
        let json = serde_json::to_value(&o).unwrap();
        assert_eq!(json["logit_bias"].to_string(), "[[5,false],[6,2.0]]");
        assert_eq!(serde_json::from_value::<SamplerOptions>(json).unwrap(), o);
    }

    #[test]
    fn a_token_outside_the_vocabulary_is_refused_by_name() {
        let o = SamplerOptions::default().logit_bias(vec![TokenBias {
            token: 8,
            bias: 1.0,
        }]);
        let error = Sampler::new(&o, 8).err().unwrap().to_string();
        assert!(
            error.contains("found token 8, expected a token id below n_vocab = 8"),
            "{error}"
        );
    }
}
