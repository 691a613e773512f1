//! DRY, "don't repeat yourself" (P. E. Weidmann, pull request 5677 of text-generation-webui, 2024): a token that
//! would prolong a repetition of earlier text is penalised by `multiplier * base^(length - allowed_length)`,
//! where `length` counts the tokens already repeated. A repetition does not reach back over a breaker.
//!
//! For every position of the text the length of the match between what ends there and what ends the text is
//! kept from token to token: a new token lengthens the matches that it continues and ends the others.

use super::options::{Flag, OptionError, SamplerOptions, Window, number};
use super::table::{Place, SamplerKind, Setup};
use super::{Candidates, Rng, Stage, TokenTexts, math};

/// A penalty stays finite, however long the repetition.
const MAX_PENALTY: f64 = 1e30;

pub(super) static KIND: SamplerKind = SamplerKind {
    name: "dry",
    aliases: &[],
    doc: "Lowers the logits of tokens that would prolong a repetition of earlier text.",
    source: "P. E. Weidmann 2024, text-generation-webui pull request 5677",
    place: Place::Ordered,
    flags: FLAGS,
    build,
};

const FLAGS: &[Flag] = &[
    number!(
        dry_multiplier,
        "dry-multiplier",
        "a number from 0 to 1000",
        |m: f32| (0.0..=1000.0).contains(&m),
        "Strength of DRY, which penalises the prolonging of repetitions; 0 = off"
    ),
    number!(
        dry_base,
        "dry-base",
        "a number from 1 to 1000",
        |b: f32| (1.0..=1000.0).contains(&b),
        "Growth of DRY's penalty with each further repeated token"
    ),
    number!(
        dry_allowed_length,
        "dry-allowed-length",
        "a whole number, at least 1",
        |n: u32| n >= 1,
        "Repetitions shorter than this are not penalised by DRY"
    ),
    number!(
        dry_penalty_last_n,
        "dry-penalty-last-n",
        "a whole number from -1",
        |n: i32| n >= -1,
        "How many of the last tokens DRY looks at; 0 = off, -1 = all"
    ),
    Flag {
        field: "dry_sequence_breakers",
        long: "dry-sequence-breaker",
        short: None,
        value_name: "TEXT",
        help: "A text that ends a repetition for DRY, in place of the usual ones; none = no such text",
        expected: "a text that is not empty",
        repeats: true,
        get: |o| o.dry_sequence_breakers.clone(),
        set: |o, values| {
            let typed = |v: &&str| v.replace("\\n", "\n").replace("\\t", "\t");
            o.dry_sequence_breakers = values.iter().filter(|v| **v != "none").map(typed).collect();
            Some(())
        },
        valid: |o| o.dry_sequence_breakers.iter().all(|b| !b.is_empty()),
    },
    Flag {
        field: "dry_breaker_tokens",
        long: "dry-breaker-tokens",
        short: None,
        value_name: "IDS",
        help: "Token ids (with commas between them) that end a repetition for DRY",
        expected: "token ids with commas between them",
        repeats: true,
        get: |o| {
            let text =
                |ids: &Vec<u32>| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            o.dry_breaker_tokens.iter().map(text).collect()
        },
        set: |o, values| {
            let ids = |v: &&str| v.split(',').map(|id| id.trim().parse().ok()).collect();
            o.dry_breaker_tokens = values.iter().map(ids).collect::<Option<_>>()?;
            Some(())
        },
        valid: |o| o.dry_breaker_tokens.iter().all(|ids| !ids.is_empty()),
    },
];

fn build(options: &SamplerOptions, setup: &Setup) -> Result<Option<Box<dyn Stage>>, OptionError> {
    let window = Window::new(options.dry_penalty_last_n);
    if options.dry_multiplier == 0.0 || window == Window::Off {
        return Ok(None);
    }
    let texts: Vec<_> = options
        .dry_sequence_breakers
        .iter()
        .map(|b| b.clone().into_bytes())
        .collect();
    if !texts.is_empty() && setup.texts.is_none() {
        return Err(OptionError::NoTexts {
            found: options.dry_sequence_breakers.clone(),
        });
    }
    Ok(Some(Box::new(Dry {
        multiplier: f64::from(options.dry_multiplier),
        base: f64::from(options.dry_base),
        allowed: options.dry_allowed_length,
        window,
        breakers: Breakers {
            longest: texts.iter().map(Vec::len).max().unwrap_or(0),
            texts,
            sequences: options.dry_breaker_tokens.clone(),
            text_of: setup.texts.clone(),
            tail: Vec::new(),
            alone: Vec::new(),
        },
        tokens: Vec::new(),
        matches: Vec::new(),
        since_break: 0,
        repeats: Vec::new(),
    })))
}

#[derive(Clone)]
struct Dry {
    multiplier: f64,
    base: f64,
    allowed: u32,
    window: Window,
    breakers: Breakers,
    /// The accepted tokens, oldest first; at least those of the window.
    tokens: Vec<u32>,
    /// For each position, how many tokens that end there equal those that end the text.
    matches: Vec<u32>,
    /// Tokens accepted since the last breaker.
    since_break: u32,
    /// (token that would prolong a repetition, length of the longest one); kept for its memory.
    repeats: Vec<(u32, u32)>,
}

impl Dry {
    fn first_in_window(&self) -> usize {
        match self.window {
            Window::Last(n) => self.tokens.len().saturating_sub(n.get() as usize),
            Window::Off | Window::All => 0,
        }
    }

    /// Collects the tokens to penalise, by token, each with its longest repetition.
    fn find_repeats(&mut self) {
        self.repeats.clear();
        if self.since_break < self.allowed {
            return;
        }
        let first = self.first_in_window();
        let ends = self
            .matches
            .iter()
            .zip(self.tokens.get(1..).unwrap_or(&[]))
            .enumerate();
        for (i, (&length, &next)) in ends.skip(first) {
            let length = length.min(self.since_break).min((i - first + 1) as u32);
            if length >= self.allowed {
                self.repeats.push((next, length));
            }
        }
        self.repeats
            .sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        self.repeats.dedup_by_key(|r| r.0);
        let breakers = &mut self.breakers;
        self.repeats.retain(|r| !breakers.breaks_alone(r.0));
    }
}

impl Stage for Dry {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Rng) {
        self.find_repeats();
        if self.repeats.is_empty() {
            return;
        }
        candidates.edit(self.repeats.iter().map(|r| r.0), |token, logit| {
            let Ok(at) = self.repeats.binary_search_by_key(&token, |r| r.0) else {
                return logit;
            };
            let growth = math::powi(self.base, self.repeats[at].1 - self.allowed);
            logit - (self.multiplier * growth).min(MAX_PENALTY) as f32
        });
    }

    fn accept(&mut self, token: u32) {
        if let Window::Last(n) = self.window {
            let n = n.get() as usize;
            // Old tokens go in one piece, so that the cost of moving the rest is spread out.
            if self.tokens.len() >= n.saturating_mul(2) {
                let old = self.tokens.len() - n;
                self.tokens.drain(..old);
                self.matches.drain(..old);
            }
        }
        for i in (0..self.tokens.len()).rev() {
            let before = if i == 0 { 0 } else { self.matches[i - 1] };
            self.matches[i] = if self.tokens[i] == token {
                before + 1
            } else {
                0
            };
        }
        self.tokens.push(token);
        // The text's own end matches itself wholly; no token follows it, so the length is never read.
        self.matches.push(self.matches.len() as u32 + 1);
        let broken = self.breakers.end_with(token, &self.tokens);
        self.since_break = if broken {
            0
        } else {
            self.since_break.saturating_add(1)
        };
    }

    fn reset(&mut self) {
        self.tokens.clear();
        self.matches.clear();
        self.since_break = 0;
        self.breakers.tail.clear();
    }
}

/// Finds the breakers in the growing text.
#[derive(Clone)]
struct Breakers {
    texts: Vec<Vec<u8>>,
    /// Bytes of the longest text.
    longest: usize,
    sequences: Vec<Vec<u32>>,
    text_of: Option<TokenTexts>,
    /// The last bytes of the text, one fewer than the longest breaker.
    tail: Vec<u8>,
    /// Text of one token; kept for its memory.
    alone: Vec<u8>,
}

impl Breakers {
    /// Takes the next token of the text, the last of `tokens`; says whether a breaker ends inside it.
    fn end_with(&mut self, token: u32, tokens: &[u32]) -> bool {
        let by_ids = self.sequences.iter().any(|s| tokens.ends_with(s));
        let Some(text_of) = self.text_of.as_ref().filter(|_| self.longest > 0) else {
            return by_ids;
        };
        let seen = self.tail.len();
        text_of(token, &mut self.tail);
        let tail = &self.tail;
        let by_text = self.texts.iter().any(|b| {
            // An occurrence that ended before this token has been counted then.
            let from = (seen + 1).saturating_sub(b.len());
            tail[from..].windows(b.len()).any(|w| w == b)
        });
        let old = self.tail.len().saturating_sub(self.longest - 1);
        self.tail.drain(..old);
        by_ids || by_text
    }

    /// Whether the token is a breaker by itself: penalising it would only push the text on without one.
    fn breaks_alone(&mut self, token: u32) -> bool {
        if self.sequences.iter().any(|s| s == &[token]) {
            return true;
        }
        let Some(text_of) = self.text_of.as_ref().filter(|_| self.longest > 0) else {
            return false;
        };
        self.alone.clear();
        text_of(token, &mut self.alone);
        self.texts
            .iter()
            .any(|b| self.alone.windows(b.len()).any(|w| w == b))
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::testing::{chain, logits};
    use crate::sample::{OptionError, Sampler, SamplerOptions};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Penalties after `text` over eight tokens, for multiplier 1 and base 2.
    fn penalties(text: &[u32], set: impl FnOnce(SamplerOptions) -> SamplerOptions) -> Vec<f32> {
        let mut sampler = chain("dry", |o| {
            set(o
                .dry_multiplier(1.0)
                .dry_base(2.0)
                .dry_sequence_breakers(vec![]))
        });
        text.iter().for_each(|&t| sampler.accept(t));
        logits(&mut sampler, &[0.0; 8])
            .iter()
            .map(|x| 0.0 - x)
            .collect()
    }

    #[test]
    fn the_penalty_grows_with_the_length_of_the_repetition() {
        assert_eq!(
            penalties(&[1, 2, 3, 1, 2], |o| o)[3],
            1.0,
            "two repeated tokens, two allowed"
        );
        assert_eq!(penalties(&[1, 2, 3, 4, 1, 2, 3], |o| o)[4], 2.0);
        assert_eq!(penalties(&[1, 2, 3, 4, 5, 1, 2, 3, 4], |o| o)[5], 4.0);
        assert_eq!(
            penalties(&[1, 2, 3, 1], |o| o),
            [0.0; 8],
            "one repeated token is allowed"
        );
        assert_eq!(
            penalties(&[1, 2, 3, 1], |o| o.dry_allowed_length(1))[2],
            1.0
        );
        assert_eq!(penalties(&[], |o| o), [0.0; 8]);
    }

    #[test]
    fn the_longest_of_several_repetitions_counts() {
        // "2 3" was followed by 4 once and by 5 once; the one before 5 matches further back.
        let p = penalties(&[6, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], |o| o);
        assert_eq!((p[4], p[5]), (1.0, 2.0));
    }

    #[test]
    fn a_run_of_one_token_overlaps_itself() {
        assert_eq!(penalties(&[1, 1, 1], |o| o)[1], 1.0);
        assert_eq!(penalties(&[1, 1, 1, 1], |o| o)[1], 2.0);
    }

    #[test]
    fn the_window_bounds_both_place_and_length() {
        let text = [1, 2, 3, 4, 1, 2, 3];
        assert_eq!(penalties(&text, |o| o.dry_penalty_last_n(7))[4], 2.0);
        assert_eq!(penalties(&text, |o| o.dry_penalty_last_n(6))[4], 1.0);
        assert_eq!(penalties(&text, |o| o.dry_penalty_last_n(5)), [0.0; 8]);
        assert_eq!(penalties(&text, |o| o.dry_penalty_last_n(0)), [0.0; 8]);
    }

    #[test]
    fn a_repetition_does_not_reach_over_breaker_tokens() {
        let text = [1, 2, 3, 4, 1, 2, 3];
        assert_eq!(
            penalties(&text, |o| o.dry_breaker_tokens(vec![vec![1]]))[4],
            1.0
        );
        assert_eq!(
            penalties(&text, |o| o.dry_breaker_tokens(vec![vec![1, 2]])),
            [0.0; 8]
        );
        assert_eq!(
            penalties(&text, |o| o.dry_breaker_tokens(vec![vec![2, 1]]))[4],
            2.0
        );
        // Token 4 is a breaker itself: it may follow.
        assert_eq!(
            penalties(&text, |o| o.dry_breaker_tokens(vec![vec![4]])),
            [0.0; 8]
        );
    }

    #[test]
    fn text_breakers_are_found_inside_and_across_tokens() {
        let words = ["x", "a", "b", "c", "d:", "<", "|>", "e<|"];
        let with_texts = |breakers: &[&str], text: &[u32]| {
            let options = SamplerOptions::default()
                .samplers("dry".parse().unwrap())
                .temperature(1.0)
                .dry_multiplier(1.0)
                .dry_base(2.0)
                .dry_sequence_breakers(breakers.iter().map(|b| (*b).to_owned()).collect());
            let texts = Arc::new(move |id: u32, out: &mut Vec<u8>| {
                out.extend_from_slice(words[id as usize].as_bytes());
            });
            let mut sampler = Sampler::with_texts(&options, 8, texts).unwrap();
            text.iter().for_each(|&t| sampler.accept(t));
            logits(&mut sampler, &[0.0; 8])
                .iter()
                .map(|x| 0.0 - x)
                .collect::<Vec<_>>()
        };
        let across = [5, 6, 1, 2, 3, 5, 6, 1, 2];
        assert_eq!(with_texts(&["none of these"], &across)[3], 4.0);
        assert_eq!(
            with_texts(&["<|>"], &across)[3],
            1.0,
            "only the two tokens after the breaker count"
        );
        assert_eq!(with_texts(&["|>"], &across)[3], 1.0);
        assert_eq!(with_texts(&["<|>a"], &across), [0.0; 8]);
        let inside = [1, 4, 1, 2, 3, 1, 4, 1, 2];
        assert_eq!(with_texts(&[":"], &inside)[3], 1.0);
        assert_eq!(with_texts(&["a"], &inside), [0.0; 8]);
        assert_eq!(with_texts(&["c"], &inside)[3], 0.0, "a breaker may follow");
    }

    #[test]
    fn text_breakers_without_texts_are_refused() {
        let options = SamplerOptions::default().dry_multiplier(0.8);
        assert!(
            matches!(Sampler::new(&options, 8), Err(OptionError::NoTexts { found }) if found.len() == 4)
        );
        assert!(Sampler::new(&options.dry_sequence_breakers(vec![]), 8).is_ok());
    }

    /// The definition, written as loops over the text.
    fn oracle(text: &[u32], window: usize, breaker: u32, allowed: usize) -> Vec<f32> {
        let text = &text[text.len().saturating_sub(window)..];
        let n = text.len();
        let mut longest = vec![0usize; 8];
        for end in 1..n {
            let length = (0..end)
                .take_while(|&j| text[end - 1 - j] == text[n - 1 - j] && text[n - 1 - j] != breaker)
                .count();
            let next = text[end] as usize;
            longest[next] = longest[next].max(length);
        }
        longest[breaker as usize] = 0;
        let penalty = |l: usize| {
            if l >= allowed {
                2f32.powi((l - allowed) as i32)
            } else {
                0.0
            }
        };
        longest.into_iter().map(penalty).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            text in prop::collection::vec(0u32..4, 0..60), window in 1usize..70, allowed in 1u32..4,
        ) {
            let got = penalties(&text, |o| {
                o.dry_penalty_last_n(window as i32).dry_allowed_length(allowed).dry_breaker_tokens(vec![vec![3]])
            });
            prop_assert_eq!(got, oracle(&text, window, 3, allowed as usize));
        }
    }
}
