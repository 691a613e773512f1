//! The table of pre-tokenizers: names, flags, patterns.
//!
//! Names and patterns are facts about published tokenizers. Each pattern's regular expression
//! stands above its rules; character classes are given as published.

use super::rule::{Border, Fold, Lead, Rule};
use super::{Pattern, Set, Step};

/// A whole piece that is a token is taken as it is, whatever the merges say.
const IGNORE_MERGES: u8 = 1;
/// The published decoder tidies spaces before punctuation (see [`crate::text::tokenizer::tidy_spaces`]).
const CLEAN_SPACES: u8 = 2;
/// Begin with BOS unless the file says otherwise.
const ADD_BOS: u8 = 4;
/// End with SEP unless the file says otherwise.
const ADD_SEP: u8 = 8;
/// Symbols are characters, not bytes; U+0020 is spelled U+2581 in the vocabulary.
const ESCAPE_SPACES: u8 = 16;
/// Begin with BOS whatever the file says: files of this kind say it wrong.
const FORCE_BOS: u8 = 32;
/// Symbols are characters, and what stands between the pieces is dropped.
const DROP_SPACES: u8 = 64;

/// Values of `tokenizer.ggml.pre` by pattern and flags.
const NAMES: &[(&[&str], &str, u8)] = &[
    (&["afmoe"], "afmoe", 0),
    (&["bailingmoe", "bailingmoe2", "llada-moe"], "bailingmoe", 0),
    (&["poro-chat"], "bloom", 0),
    (&["bloom", "gpt3-finnish"], "bloom", CLEAN_SPACES),
    (&["chameleon"], "chameleon", ADD_BOS),
    (&["deepseek-coder"], "deepseek-coder", 0),
    (&["deepseek-llm"], "deepseek-llm", 0),
    (&["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"], "deepseek-v3", 0),
    (&["default"], "default", CLEAN_SPACES),
    (&["command-r", "smollm"], "digits-gpt2", 0),
    (
        &["codeshell", "exaone", "mellum2", "minerva-7b", "refact", "starcoder"],
        "digits-gpt2",
        CLEAN_SPACES,
    ),
    (&["exaone-moe"], "exaone-moe", CLEAN_SPACES),
    (&["falcon"], "falcon", CLEAN_SPACES),
    (&["granite-docling", "trillion"], "gpt2", 0),
    (
        &[
            "a.x-4.0",
            "exaone4",
            "gigachat",
            "gpt-2",
            "jais",
            "jina-de",
            "jina-es",
            "jina-v2-de",
            "jina-v2-es",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "phi-2",
        ],
        "gpt2",
        CLEAN_SPACES,
    ),
    (&["jina-v1-en", "jina-v2-code", "roberta-bpe"], "gpt2", CLEAN_SPACES | ADD_SEP),
    (&["granite-embed-multi-97m"], "granite-embed-multi", IGNORE_MERGES),
    (&["jais-2"], "jais2", CLEAN_SPACES),
    (&["kimi-k2"], "kimi-k2", 0),
    (&["laguna"], "laguna", 0),
    (&["chatglm-bpe", "dbrx", "smaug-bpe"], "llama3", CLEAN_SPACES),
    (&["glm4", "glm5"], "llama3", IGNORE_MERGES | CLEAN_SPACES),
    (
        &[
            "falcon-h1",
            "falcon3",
            "jina-v5-nano",
            "lfm2",
            "llama-bpe",
            "llama-v3",
            "llama3",
            "midm-2.0",
            "pixtral",
        ],
        "llama3",
        IGNORE_MERGES | CLEAN_SPACES | ADD_BOS,
    ),
    (&["minicpm5"], "minicpm5", IGNORE_MERGES | CLEAN_SPACES),
    (&["sarvam-moe"], "newline-runs", ESCAPE_SPACES),
    (
        &["gemma4", "granite-embed-multi-311m"],
        "newline-runs",
        CLEAN_SPACES | ESCAPE_SPACES | FORCE_BOS,
    ),
    (&["gpt-4o", "kanana2", "llama4", "minimax-m2", "talkie"], "o200k", 0),
    (
        &["deepseek-r1-qwen", "f2llmv2", "grok-2", "hunyuan", "kormo", "qwen2", "solar-open"],
        "qwen2",
        0,
    ),
    (&["megrez", "stablelm2"], "qwen2", CLEAN_SPACES),
    (&["qwen35"], "qwen35", 0),
    (&["seed-coder"], "seed-coder", 0),
    (&["spark2_5"], "spark2.5", 0),
    (&["superbpe"], "superbpe", 0),
    (&["tekken"], "tekken", IGNORE_MERGES | ADD_BOS),
    (&["cohere2moe", "tiny_aya"], "tiny-aya", 0),
    (&["ufakzeka"], "ufakzeka", 0),
    (&["viking"], "viking", 0),
    (&["whitespace"], "whitespace", CLEAN_SPACES | DROP_SPACES),
    (&["youtu"], "youtu", IGNORE_MERGES),
];

/// The pre-tokenizer that stands behind a name.
#[derive(Debug, Clone)]
pub(crate) struct Pre {
    /// What cuts the text.
    pub(crate) pattern: Pattern,
    flags: u8,
}

impl Pre {
    /// A whole piece that is a token is taken as it is, whatever the merges say.
    pub(crate) fn ignore_merges(&self) -> bool {
        self.flags & IGNORE_MERGES != 0
    }

    /// The published decoder tidies spaces before punctuation.
    pub(crate) fn clean_spaces(&self) -> bool {
        self.flags & CLEAN_SPACES != 0
    }

    /// BOS in front, if the file does not say.
    pub(crate) fn add_bos(&self) -> bool {
        self.flags & ADD_BOS != 0
    }

    /// BOS in front, whatever the file says.
    pub(crate) fn force_bos(&self) -> bool {
        self.flags & FORCE_BOS != 0
    }

    /// SEP at the end, if the file does not say.
    pub(crate) fn add_sep(&self) -> bool {
        self.flags & ADD_SEP != 0
    }

    /// Symbols are characters, not bytes, and U+0020 is spelled U+2581.
    pub(crate) fn escape_spaces(&self) -> bool {
        self.flags & ESCAPE_SPACES != 0
    }

    /// White space is dropped.
    pub(crate) fn drops_spaces(&self) -> bool {
        self.flags & DROP_SPACES != 0
    }

    /// Symbols are characters, not bytes.
    pub(crate) fn is_over_chars(&self) -> bool {
        self.flags & (ESCAPE_SPACES | DROP_SPACES) != 0
    }
}

/// The pre-tokenizer called `name`; the empty name is that of files which have none. `None` if no
/// one knows it.
pub(crate) fn pre(name: &str) -> Option<Pre> {
    let name = if name.is_empty() { "default" } else { name };
    let &(_, pattern, flags) = NAMES.iter().find(|(names, ..)| names.contains(&name))?;
    Some(Pre { pattern: Pattern::new(steps(pattern)), flags })
}

/// All names of the table.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().flat_map(|(names, ..)| names.iter().copied())
}

const LETTER: &str = r"\p{L}";
const NUMBER: &str = r"\p{N}";
const LETTER_MARK: &str = r"[\p{L}\p{M}]";
const UPPER: &str = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
const LOWER: &str = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";
const NOT_WORD: &str = r"[^\r\n\p{L}\p{N}]";
const SYMBOL: &str = r"[^\s\p{L}\p{N}]";
const BREAK: &str = r"[\r\n]";
const BREAK_SLASH: &str = r"[\r\n/]";
const MANY: u32 = u32::MAX;

/// `set+`
fn some(set: &str) -> Rule {
    counted(set, 1, MANY)
}

/// `set{min,max}`
fn counted(set: &str, min: u32, max: u32) -> Rule {
    Rule::Run { lead: Lead::None, set: Set::new(set), min, max, tail: None }
}

/// `lead?set+`
fn led(lead: &str, set: &str) -> Rule {
    led_tailed(lead, set, None)
}

/// `lead?set+tail*`
fn led_tailed(lead: &str, set: &str, tail: Option<(&str, u32)>) -> Rule {
    let tail = tail.map(|(tail, max)| (Set::new(tail), max));
    Rule::Run { lead: Lead::Maybe(Set::new(lead)), set: Set::new(set), min: 1, max: MANY, tail }
}

/// `lead? upper* lower+ suffix?|lead? upper+ lower* suffix?`
fn cased(upper: &str, lower: &str, suffix: Option<Fold>) -> Rule {
    Rule::Cased { lead: Set::new(NOT_WORD), upper: Set::new(upper), lower: Set::new(lower), suffix }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2() -> Step {
    Step::Match(vec![
        Rule::Contraction(Fold::None),
        led("[ ]", LETTER),
        led("[ ]", NUMBER),
        led("[ ]", SYMBOL),
        Rule::Spaces,
    ])
}

/// The family of `llama3`: contractions, words with one stranger in front, groups of up to
/// `digits` digits, symbols with the line breaks after them, spaces.
fn words(contraction: Option<Fold>, letters: &str, symbols: &str, digits: u32) -> Vec<Rule> {
    let mut rules: Vec<Rule> = contraction.map(Rule::Contraction).into_iter().collect();
    rules.extend([
        led(NOT_WORD, letters),
        counted(NUMBER, 1, digits),
        led_tailed("[ ]", symbols, Some((BREAK, MANY))),
        Rule::ToLineBreak,
        Rule::Spaces,
    ]);
    rules
}

/// The family of `o200k`: words cut where lower case turns to upper.
fn cased_words(suffix: Option<Fold>, digits: u32) -> Vec<Rule> {
    vec![
        cased(UPPER, LOWER, suffix),
        counted(NUMBER, 1, digits),
        led_tailed("[ ]", SYMBOL, Some((BREAK_SLASH, MANY))),
        Rule::ToLineBreak,
        Rule::Spaces,
    ]
}

/// `[!-/:-@..][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|..`, the last
/// step of `deepseek-v3` and `afmoe` (with line breaks after symbols) and `spark2.5` (without).
fn deepseek_words(breaks: bool) -> Step {
    let lead = Lead::Must(Set::new(r"[!-/:-@\[-`{-~]"));
    let tail = breaks.then_some((BREAK, MANY));
    Step::Match(vec![
        Rule::Run { lead, set: Set::new("[A-Za-z]"), min: 1, max: MANY, tail: None },
        led(r"[^\r\n\p{L}\p{P}\p{S}]", LETTER_MARK),
        led_tailed("[ ]", r"[\p{P}\p{S}]", tail),
        if breaks { Rule::ToLineBreak } else { counted(BREAK, 1, 1) },
        Rule::Spaces,
    ])
}

/// One step that matches a single rule.
fn only(rule: Rule) -> Step {
    Step::Match(vec![rule])
}

/// The steps of the pattern `name` of the table above.
fn steps(name: &str) -> Vec<Step> {
    let contraction = Some(Fold::Unicode);
    match name {
        "gpt2" => vec![gpt2()],
        "digits-gpt2" => vec![only(counted(NUMBER, 1, 1)), gpt2()],
        "llama3" => vec![Step::Match(words(contraction, LETTER, SYMBOL, 3))],
        "qwen2" => vec![Step::Match(words(contraction, LETTER, SYMBOL, 1))],
        "ufakzeka" => vec![Step::Match(words(None, LETTER, SYMBOL, 1))],
        // `'(?i:[sdmt]|ll|ve|re)` names the same contractions; possessive quantifiers and
        // `\s*[\r\n]` end where those of qwen2 do.
        "bailingmoe" => vec![Step::Match(words(contraction, LETTER, SYMBOL, 1))],
        "qwen35" => {
            let symbol = r"[^\s\p{L}\p{M}\p{N}]";
            vec![Step::Match(words(contraction, LETTER_MARK, symbol, 1))]
        }
        "laguna" => vec![
            Step::Match(vec![some(r"[^\n]"), some(r"[\n]")]),
            Step::Match(words(Some(Fold::Ascii), LETTER, SYMBOL, 1)),
        ],
        "minicpm5" => {
            vec![only(counted(NUMBER, 1, 3)), Step::Match(words(contraction, LETTER, SYMBOL, MANY))]
        }
        "o200k" | "granite-embed-multi" => vec![Step::Match(cased_words(contraction, 3))],
        "tekken" => vec![Step::Match(cased_words(None, 1))],
        "newline-runs" => vec![Step::Match(vec![some(r"[^\n]"), some(r"[\n]")])],
        "deepseek-v3" => vec![only(counted(NUMBER, 1, 3)), only(some(CJK)), deepseek_words(true)],
        "spark2.5" => vec![
            only(counted(NUMBER, 1, 3)),
            only(some(CJK)),
            deepseek_words(false),
            only(counted(NUMBER, 1, 1)),
        ],
        // ` ?[^(\s|.,!?…。，、।۔،)]+`: brackets and bar stand inside the class.
        "bloom" => vec![only(led("[ ]", BLOOM))],
        "whitespace" => vec![only(some(r"\S"))],
        "viking" => vec![only(led("[ ]", BLOOM)), only(counted(NUMBER, 1, 1))],
        _ => rare_steps(name),
    }
}

/// The patterns that share little with others.
fn rare_steps(name: &str) -> Vec<Step> {
    let contraction = Some(Fold::Unicode);
    match name {
        "jais2" => {
            let mut rules = words(contraction, LETTER, SYMBOL, 3);
            rules.pop();
            rules.push(Rule::HalvedSpaces);
            vec![Step::Match(rules)]
        }
        "seed-coder" => {
            let mut rules = words(contraction, LETTER, SYMBOL, 1);
            rules[3] = led("[ ]", r"[^\s\p{L}\p{N}\r\n]");
            vec![Step::Match(rules)]
        }
        // `[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+` in place of words, one line break
        // or slash after symbols.
        "exaone-moe" => {
            let mut rules = words(contraction, LETTER, SYMBOL, 1);
            let [lead, letter, mark] = [NOT_WORD, LETTER, r"\p{M}"].map(Set::new);
            rules[1] = Rule::Phrase { lead, letter, mark };
            rules[3] = led_tailed("[ ]", SYMBOL, Some((BREAK_SLASH, 1)));
            vec![Step::Match(rules)]
        }
        "kimi-k2" => vec![Step::Match(vec![
            some(r"\p{Han}"),
            cased(
                r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
                r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]",
                contraction,
            ),
            counted(NUMBER, 1, 3),
            led_tailed("[ ]", SYMBOL, Some((BREAK, MANY))),
            Rule::ToLineBreak,
            Rule::Spaces,
        ])],
        // `\d{1,3}(?=(?:\d{3})*\b)`: after a digit, `\b` is the absence of a word character.
        "tiny-aya" => {
            let border = Border::Not(Set::new(r"\w"));
            vec![
                only(Rule::Thousands { set: Set::new(r"\d"), border }),
                Step::Match(cased_words(contraction, 3)),
            ]
        }
        "afmoe" => vec![
            only(Rule::Thousands { set: Set::new(NUMBER), border: Border::Any }),
            only(some(AFMOE_SCRIPTS)),
            deepseek_words(true),
        ],
        "superbpe" => vec![only(some(NUMBER)), Step::CutThousands(Set::new(r"\d"))],
        "youtu" => vec![
            Step::Match(vec![
                some("[가-힣ㄱ-ㆎ]"),
                some("[！…“”‘’—：；，、-\u{303F}︰-﹏]"),
                some("[ㄅ-ㄯ]"),
                some(CJK),
            ]),
            Step::Match(cased_words(Some(Fold::Ascii), 1)),
        ],
        "falcon" => vec![only(some(r"[\p{P}\$\+<=>\^~\|`]")), gpt2(), only(counted("[0-9]", 3, 3))],
        "deepseek-llm" => vec![
            only(counted(BREAK, 1, 1)),
            only(led(r"\s", DEEPSEEK_LETTERS)),
            only(led(r"\s", "[!-/:-~！-／：-～‘-‟\u{3000}-。]")),
            only(Rule::TrailingSpaces),
            only(some("[一-龥ࠀ-一가-\u{D7FF}]")),
            only(some(NUMBER)),
        ],
        "deepseek-coder" => vec![
            only(counted(BREAK, 1, 1)),
            only(led(r"\s", LETTER)),
            only(led(r"\s", r"\p{P}")),
            only(some("[一-龥ࠀ-一가-\u{D7FF}]")),
            only(counted(NUMBER, 1, 1)),
        ],
        "chameleon" => vec![
            only(Rule::Sentinel),
            only(Rule::ImageCode),
            only(Rule::OneOf(&["\t", "\n", "    ", "  "])),
            only(counted(NUMBER, 1, 1)),
            only(counted(r"[\p{P}!-/:-@\[-`{-~]", 1, 1)),
            gpt2(),
        ],
        // What converters guess when a file has no name.
        "default" => vec![
            only(some(r"[\p{P}\$\+<=>\^~\|]")),
            gpt2(),
            only(some(NUMBER)),
            only(counted("[0-9]", 3, 3)),
        ],
        _ => unreachable!("every pattern that the table of names uses has steps"),
    }
}

/// Chinese characters and kana.
const CJK: &str = "[一-龥぀-ゟ゠-ヿ]";
/// What `bloom` takes for a word.
const BLOOM: &str = r"[^(\s|.,!?…。，、।۔،)]";
/// Scripts without spaces, of `afmoe`.
const AFMOE_SCRIPTS: &str = concat!(
    r"[一-鿿㐀-䶿\u{8C48}-\u{FAFF}぀-ゟ゠-ヿ\u{FF65}-\u{FF9F}\u{2F00}-\u{2FDF}\u{E40}-\u{E7F}",
    r"\u{E80}-\u{EFF}\u{1780}-\u{17FF}\u{1000}-\u{109F}\u{AA60}-\u{AA7F}\u{A9E0}-\u{A9FF}",
    r"\u{AC00}-\u{D7AF}\u{1100}-\u{11FF}]",
);
/// The letters of `deepseek-llm`, as published.
const DEEPSEEK_LETTERS: &str = concat!(
    "[",
    r"A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}",
    r"\u{295}-\u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}",
    r"\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}",
    r"\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}",
    r"\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}",
    r"\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}",
    r"\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}",
    r"\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}",
    r"\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}",
    r"\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}",
    r"\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}",
    r"\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}",
    r"\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}",
    r"\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}",
    r"\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}",
    r"\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}",
    "]",
);
