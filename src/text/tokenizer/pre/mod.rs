//! Pre-tokenizers: cutting text into the pieces within which tokens are merged.
//!
//! `tokenizer.ggml.pre` names one of a few dozen published patterns. A pattern is a list of steps;
//! each step cuts every piece that the step before left: matches become pieces and so do the gaps
//! between them. A step never sees beyond its piece. The patterns stand in [`table`], spelled with
//! the rules of [`rule`], whose character classes are written as published ([`set`]).
//!
//! Time is linear in the text for every pattern and the stack is as deep as a pattern has steps
//! (at most six).

mod rule;
mod set;
mod table;

pub(crate) use rule::{Rule, Scan};
pub(crate) use set::Set;
pub(crate) use table::{Pre, pre};

/// One step of a pattern.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// An ordered alternation.
    Match(Vec<Rule>),
    /// `(?=(\d{3})+(?!\d))`: a cut without a match before every third digit from the right.
    CutThousands(Set),
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    steps: Vec<Step>,
    space: Set,
}

impl Pattern {
    fn new(steps: Vec<Step>) -> Pattern {
        Pattern { steps, space: Set::new(r"\s") }
    }

    /// Calls `sink` with each piece of `text`, in order; together they are the text.
    pub(crate) fn split<'t>(&self, text: &'t str, sink: &mut dyn FnMut(&'t str)) {
        self.split_from(0, text, sink);
    }

    fn split_from<'t>(&self, step: usize, text: &'t str, sink: &mut dyn FnMut(&'t str)) {
        let mut next = |piece: &'t str| {
            if step + 1 == self.steps.len() {
                sink(piece);
            } else {
                self.split_from(step + 1, piece, sink);
            }
        };
        match &self.steps[step] {
            Step::Match(rules) => self.cut_matches(rules, text, &mut next),
            Step::CutThousands(digit) => cut_thousands(digit, text, &mut next),
        }
    }

    /// Hands on the matches of the alternation `rules` and the gaps between them.
    fn cut_matches<'t>(&self, rules: &[Rule], text: &'t str, sink: &mut dyn FnMut(&'t str)) {
        let mut scan = Scan::new(&self.space);
        let (mut gap, mut at) = (0, 0);
        while at < text.len() {
            match rules.iter().find_map(|rule| rule.matches(&mut scan, text, at)) {
                Some(end) => {
                    if gap < at {
                        sink(&text[gap..at]);
                    }
                    sink(&text[at..end]);
                    (gap, at) = (end, end);
                }
                None => at += text[at..].chars().next().map_or(1, char::len_utf8),
            }
        }
        if gap < text.len() {
            sink(&text[gap..]);
        }
    }
}

/// Cuts `text` at every place from which a number of digits divisible by three runs.
fn cut_thousands<'t>(digit: &Set, text: &'t str, sink: &mut dyn FnMut(&'t str)) {
    let (mut start, mut at) = (0, 0);
    while at < text.len() {
        let (end, n) = digit.run(text, at, u32::MAX);
        if n == 0 {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let mut cut = digit.run(text, at, n % 3).0;
        while cut < end {
            if start < cut {
                sink(&text[start..cut]);
            }
            start = cut;
            cut = digit.run(text, cut, 3).0;
        }
        at = end;
    }
    if start < text.len() {
        sink(&text[start..]);
    }
}
