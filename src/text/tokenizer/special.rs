//! Special tokens: those that metadata names, those known by their text, and the set of tokens
//! that end an answer.
//!
//! Files often name only `eos` although their model ends its answers with another token
//! (`<|im_end|>`, `<|eot_id|>`), so well-known texts count too.

use super::vocab::{TokenType, Vocab};

/// Ids of special tokens; `None` where the model has no such token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn of a conversation.
    pub eot: Option<u32>,
    /// Ends a message after which the tool speaks.
    pub eom: Option<u32>,
    /// Stands for what cannot be spelled.
    pub unk: Option<u32>,
    /// Stands between texts.
    pub sep: Option<u32>,
    /// Fills rows of unequal length.
    pub pad: Option<u32>,
    /// Hides a token.
    pub mask: Option<u32>,
    /// A line break.
    pub nl: Option<u32>,
    /// Fill-in-middle: before the text that precedes the hole.
    pub fim_pre: Option<u32>,
    /// Fill-in-middle: before the text that follows the hole.
    pub fim_suf: Option<u32>,
    /// Fill-in-middle: the hole, or where its text is to be written.
    pub fim_mid: Option<u32>,
    /// Fill-in-middle: padding.
    pub fim_pad: Option<u32>,
    /// Fill-in-middle: before a repository's name.
    pub fim_rep: Option<u32>,
    /// Fill-in-middle: between files.
    pub fim_sep: Option<u32>,
}

/// Texts that end a turn, in the order of preference.
const EOT: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const EOM: &[&str] = &["<|eom_id|>"];
const FIM_PRE: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
];
const FIM_SUF: &[&str] = &[
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
];
const FIM_MID: &[&str] = &[
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
];
const FIM_PAD: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REP: &[&str] = &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];
const FIM_SEP: &[&str] = &["<|file_sep|>"];

/// Texts that can only be there to end an answer, whatever type the file gives them. Files that
/// were converted carelessly call them ordinary text.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
];

/// Ends an answer where the file types it as control; elsewhere it may be HTML (the end of text
/// that is struck out).
const HTML_LIKE_END: &str = "</s>";

/// Texts that steer models although files type them as user-defined.
const MARKERS: &[&str] = &[
    "<start_of_turn>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[THINK]",
    "[/THINK]",
    "<bos>",
    "<eos>",
    "<s>",
];

/// The type under which a token is used, and whether it steers the model.
pub(super) fn classify(text: &[u8], ty: TokenType) -> super::vocab::Kind {
    let is_in = |list: &[&str]| list.iter().any(|known| known.as_bytes() == text);
    // Few tokens begin like this: nothing else is looked up for the others.
    let first = text.first().copied().unwrap_or(0);
    let ty =
        if matches!(first, b'<' | b'[' | b'_') && is_in(ENDS) { TokenType::Control } else { ty };
    let is_control = matches!(ty, TokenType::Control | TokenType::Unknown);
    let is_user_defined = ty == TokenType::UserDefined;
    super::vocab::Kind {
        ty,
        control: is_control || is_user_defined && text == HTML_LIKE_END.as_bytes(),
        marker: is_user_defined && (is_in(MARKERS) || is_fenced(text)),
    }
}

/// `<|..`, `..|>` and the same with a full-width bar: nobody writes these but to steer a model.
fn is_fenced(text: &[u8]) -> bool {
    let (starts, ends) = (["<|", "<｜"], ["|>", "｜>"]);
    starts.iter().any(|s| text.starts_with(s.as_bytes()))
        || ends.iter().any(|s| text.ends_with(s.as_bytes()))
}

impl SpecialIds {
    /// Fills what metadata left open with the tokens that have well-known texts.
    pub(super) fn complete(&mut self, vocab: &Vocab) {
        let find = |texts: &[&str]| {
            let mut ids = texts.iter().filter_map(|text| special(vocab, text));
            ids.next()
        };
        if self.eot.is_none() {
            // A second end is worth more than naming `eos` again.
            let ids: Vec<u32> = EOT.iter().filter_map(|text| special(vocab, text)).collect();
            self.eot = ids.iter().find(|&&id| Some(id) != self.eos).or(ids.first()).copied();
        }
        self.eom = self.eom.or_else(|| find(EOM));
        self.fim_pre = self.fim_pre.or_else(|| find(FIM_PRE));
        self.fim_suf = self.fim_suf.or_else(|| find(FIM_SUF));
        self.fim_mid = self.fim_mid.or_else(|| find(FIM_MID));
        self.fim_pad = self.fim_pad.or_else(|| find(FIM_PAD));
        self.fim_rep = self.fim_rep.or_else(|| find(FIM_REP));
        self.fim_sep = self.fim_sep.or_else(|| find(FIM_SEP));
    }

    /// All tokens that end an answer, in rising order.
    pub(super) fn ends(&self, vocab: &Vocab) -> Vec<u32> {
        let mut ends: Vec<u32> = ENDS.iter().filter_map(|text| special(vocab, text)).collect();
        let html_like = special(vocab, HTML_LIKE_END);
        ends.extend(html_like.filter(|&id| vocab.kind(id).ty == TokenType::Control));
        ends.extend([self.eos, self.eot, self.eom].into_iter().flatten());
        // What separates files ends the text that is written into one.
        ends.extend([self.fim_pad, self.fim_rep, self.fim_sep].into_iter().flatten());
        // Where answers end with the two of a pair, `<|end|>` only ends one of several messages: the
        // thoughts of gpt-oss and of Solar. It may have been taken for the end of a turn by its text.
        let is_there = |text: &&str| special(vocab, text).is_some();
        let pairs = [["<|return|>", "<|call|>"], ["<|flush|>", "<|calls|>"]];
        if pairs.iter().any(|pair| pair.iter().all(is_there)) {
            let end = special(vocab, "<|end|>").filter(|&id| Some(id) != self.eos);
            ends.retain(|&id| Some(id) != end);
        }
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

/// The token with exactly this text that is not ordinary text.
fn special(vocab: &Vocab, text: &str) -> Option<u32> {
    vocab.other(text.as_bytes())
}
