//! The formats: their names, their markers, and how a chat template shows which one a model writes.

use super::headed::{self, Headed, Headers};
use super::marked::Marked;
use super::named::Marks;
use super::pairs::{HY3, PairTags};
use super::xml::{ATEM, DSML, DSML_4, MINICPM, MINIMAX, QWEN, SEED, Tags};
use super::{Grammar, ParseOptions, nested};

/// A way to write thoughts and calls.
#[derive(Debug, Clone, Copy)]
pub struct Format(&'static Spec);

/// A format's markers.
#[derive(Debug)]
pub(super) struct Spec {
    name: &'static str,
    /// How its models are told from others: all of these stand in their chat template, and none of
    /// those.
    signs: (&'static [&'static str], &'static [&'static str]),
    /// An answer is made of messages with headers; the other fields are of no use then.
    headers: Option<&'static Headers>,
    /// The first tags are those that a prompt may have opened.
    pub(super) thoughts: &'static [Thoughts],
    pub(super) calls: &'static [(&'static str, Calls)],
    /// An answer that begins with a brace may be a call.
    pub(super) bare: bool,
    /// Markers that are neither text nor call.
    pub(super) drops: &'static [&'static str],
    pub(super) start: Start,
}

/// Tags around thoughts.
#[derive(Debug)]
pub(super) struct Thoughts {
    pub(super) open: &'static str,
    pub(super) closes: &'static [&'static str],
    /// They count wherever they stand, not only before the answer: nobody writes them as text.
    pub(super) anywhere: bool,
}

/// Where an answer usually begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    Content,
    Reasoning,
    Call(Calls),
}

/// What a marker in content stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// The thoughts of this number begin.
    Open(usize),
    Close,
    Call(Calls),
    Drop,
}

/// How calls are written behind a marker.
#[derive(Debug, Clone, Copy)]
pub(super) enum Calls {
    Any,
    Pairs(&'static PairTags),
    Nested,
    Objects(&'static [&'static str]),
    Bare,
    Tags(&'static Tags),
    OpenTag(&'static Tags),
    Section(&'static Marks),
    OpenCall(&'static Marks),
    Mistral,
    Addressed,
    Gemma,
    PythonList,
    PythonTag,
}

impl Calls {
    /// The markers that stand within calls.
    fn words(self) -> Vec<&'static str> {
        match self {
            Calls::Any => [&[super::xml::QWEN.end], &*super::pairs::GLM.words()].concat(),
            Calls::Pairs(tags) => tags.words(),
            Calls::Objects(closes) => closes.to_vec(),
            Calls::Nested => nested::MARKERS.to_vec(),
            Calls::Section(marks) | Calls::OpenCall(marks) => {
                [marks.opens, marks.id_ends, marks.between, marks.closes, marks.ends].concat()
            }
            Calls::Mistral => vec!["[ARGS]", "[CALL_ID]"],
            Calls::Gemma => super::gemma::MARKERS.to_vec(),
            Calls::PythonList => vec![super::python::LIST_END],
            Calls::Tags(_) | Calls::OpenTag(_) => vec!["</tool_call>", "</minimax:tool_call>"],
            Calls::Bare | Calls::Addressed | Calls::PythonTag => vec![],
        }
    }
}

const THINK: Thoughts = Thoughts { open: "<think>", closes: &["</think>"], anywhere: false };
const BRACKETS: Thoughts = Thoughts { open: "[THINK]", closes: &["[/THINK]"], anywhere: true };

const SEED_THINK: Thoughts =
    Thoughts { open: "<seed:think>", closes: &["</seed:think>"], anywhere: true };

const DEEPSEEK: Marks = Marks {
    opens: &["<｜tool▁call▁begin｜>", "<｜tool_call_begin｜>"],
    id_ends: &[],
    between: &["<｜tool▁sep｜>", "<｜tool_sep｜>"],
    closes: &["<｜tool▁call▁end｜>", "<｜tool_call_end｜>"],
    ends: &["<｜tool▁calls▁end｜>", "<｜tool_calls_end｜>"],
};
const DEEPSEEK_CALLS: &[(&str, Calls)] = &[
    ("<｜tool▁calls▁begin｜>", Calls::Section(&DEEPSEEK)),
    // Some distilled models write the markers in other ways.
    ("<｜tool_calls_begin｜>", Calls::Section(&DEEPSEEK)),
    ("<｜tool calls begin｜>", Calls::Section(&DEEPSEEK)),
    ("<｜tool▁calls｜>", Calls::Section(&DEEPSEEK)),
    ("<｜tool▁call▁begin｜>", Calls::OpenCall(&DEEPSEEK)),
];

const KIMI: Marks = Marks {
    opens: &["<|tool_call_begin|>"],
    id_ends: &[],
    between: &["<|tool_call_argument_begin|>"],
    closes: &["<|tool_call_end|>"],
    ends: &["<|tool_calls_section_end|>"],
};
const KIMI_CALLS: &[(&str, Calls)] = &[
    ("<|tool_calls_section_begin|>", Calls::Section(&KIMI)),
    ("<|tool_call_begin|>", Calls::OpenCall(&KIMI)),
];

const SOLAR: Marks = Marks {
    opens: &["<|tool_call:begin|>"],
    id_ends: &["<|tool_call:name|>"],
    between: &["<|tool_call:args|>"],
    closes: &["<|tool_call:end|>"],
    ends: &["<|calls|>"],
};
const SOLAR_CALLS: &[(&str, Calls)] =
    &[("<|tool_calls|>", Calls::Section(&SOLAR)), ("<|tool_call:begin|>", Calls::OpenCall(&SOLAR))];

const HY3_CALLS: &[(&str, Calls)] = &[
    ("<tool_calls:opensource>", Calls::Pairs(&HY3)),
    ("<tool_call:opensource>", Calls::Pairs(&HY3)),
];

/// GigaChat: the first releases name calls as a role, later ones have a mark for them.
const GIGACHAT_CALLS: &[(&str, Calls)] = &[
    ("<|function_call|>", Calls::Objects(&["<|message_sep|>"])),
    ("function call<|role_sep|>", Calls::Objects(&["<|message_sep|>"])),
];

const TOOL_CALL: (&str, Calls) = ("<tool_call>", Calls::Any);
const MISTRAL: (&str, Calls) = ("[TOOL_CALLS]", Calls::Mistral);
const FUNCTION: (&str, Calls) = ("<function=", Calls::OpenTag(&QWEN));
const GRANITE: (&str, Calls) = ("<|tool_call|>", Calls::Objects(&["</|tool_call|>"]));
const PYTHON_TAG: (&str, Calls) = ("<|python_tag|>", Calls::PythonTag);
const PYTHON_LIST: (&str, Calls) = ("<|tool_call_start|>", Calls::PythonList);
const ACTION: (&str, Calls) = ("<|START_ACTION|>", Calls::Objects(&["<|END_ACTION|>"]));
const INVOKE: (&str, Calls) = ("<minimax:tool_call>", Calls::Tags(&MINIMAX));
const MINIMAX_3: (&str, Calls) = (nested::OPEN, Calls::Nested);
const MUSE: (&str, Calls) = ("<atem:function_calls>", Calls::Tags(&ATEM));
const GEMMA: (&str, Calls) = ("<|tool_call>", Calls::Gemma);
const TOOL_CALLS: (&str, Calls) = ("<tool_calls>", Calls::Objects(&["</tool_calls>"]));
const TOOLCALL: (&str, Calls) = ("<TOOLCALL>", Calls::Objects(&["</TOOLCALL>"]));
const SEED_CALL: (&str, Calls) = ("<seed:tool_call>", Calls::Tags(&SEED));
const NAMED_FUNCTION: (&str, Calls) = ("<function name=\"", Calls::OpenTag(&MINICPM));
const DSML_CALLS: &[(&str, Calls)] = &[
    ("<｜DSML｜function_calls>", Calls::Tags(&DSML)),
    ("<｜DSML｜tool_calls>", Calls::Tags(&DSML_4)),
];
const TOOLS_PREFIX: (&str, Calls) = ("<|tools_prefix|>", Calls::Objects(&["<|tools_suffix|>"]));
const GEMMA_THOUGHT: Thoughts =
    Thoughts { open: "<|channel>thought", closes: &["<channel|>"], anywhere: true };

const COMMAND_THINKING: Thoughts =
    Thoughts { open: "<|START_THINKING|>", closes: &["<|END_THINKING|>"], anywhere: true };
const COMMAND_RESPONSE: &[&str] =
    &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"];

const MINIMAX_THINK: Thoughts =
    Thoughts { open: "<mm:think>", closes: &["</mm:think>"], anywhere: true };
const HY3_THINK: Thoughts =
    Thoughts { open: "<think:opensource>", closes: &["</think:opensource>"], anywhere: true };

/// A format without anything; rows of the table change what differs.
const PLAIN: Spec = Spec {
    name: "plain",
    signs: (&[], &[]),
    headers: None,
    thoughts: &[],
    calls: &[],
    bare: false,
    drops: &[],
    start: Start::Content,
};

/// All formats. The first whose signs a template shows is that of its model.
static FORMATS: &[Spec] = &[
    Spec {
        name: "harmony",
        signs: (&["<|channel|>", "<|message|>"], &[]),
        headers: Some(&headed::HARMONY),
        ..PLAIN
    },
    Spec {
        name: "muse",
        signs: (&["<atem:function_calls>"], &[]),
        headers: Some(&headed::MUSE),
        ..PLAIN
    },
    Spec {
        name: "gemma-4",
        signs: (&["<|tool_call>"], &[]),
        thoughts: &[GEMMA_THOUGHT],
        calls: &[GEMMA],
        ..PLAIN
    },
    Spec {
        name: "command-r7b",
        signs: (&["<|START_ACTION|>"], &[]),
        thoughts: &[COMMAND_THINKING],
        calls: &[ACTION],
        drops: COMMAND_RESPONSE,
        ..PLAIN
    },
    Spec {
        name: "functionary-v3.2",
        signs: (&[">>>all"], &[]),
        calls: &[(">>>", Calls::Addressed)],
        start: Start::Call(Calls::Addressed),
        ..PLAIN
    },
    Spec {
        name: "kimi-k2",
        signs: (&["<|tool_calls_section_begin|>"], &[]),
        thoughts: &[THINK],
        calls: KIMI_CALLS,
        ..PLAIN
    },
    Spec {
        name: "deepseek-r1",
        signs: (&["<｜tool▁calls▁begin｜>", "```json"], &[]),
        thoughts: &[THINK],
        calls: DEEPSEEK_CALLS,
        start: Start::Reasoning,
        ..PLAIN
    },
    Spec {
        name: "deepseek-v3.1",
        signs: (&["<｜tool▁calls▁begin｜>"], &[]),
        thoughts: &[THINK],
        calls: DEEPSEEK_CALLS,
        start: Start::Reasoning,
        ..PLAIN
    },
    Spec {
        name: "minimax-m2",
        signs: (&["minimax:tool_call", "<invoke"], &[]),
        thoughts: &[THINK],
        calls: &[INVOKE],
        start: Start::Reasoning,
        ..PLAIN
    },
    Spec {
        name: "minimax-m3",
        signs: (&["]<]minimax[>["], &[]),
        thoughts: &[MINIMAX_THINK],
        calls: &[MINIMAX_3],
        ..PLAIN
    },
    // The template puts the end of its markers' names in with `format`.
    Spec {
        name: "hy3",
        signs: (&["<tool_sep{}>", ":opensource"], &[]),
        thoughts: &[HY3_THINK],
        calls: HY3_CALLS,
        ..PLAIN
    },
    Spec {
        name: "solar-open",
        signs: (&["<|tool_call:begin|>"], &[]),
        thoughts: &[Thoughts { open: "<|think|>", closes: &["<|end|>"], anywhere: true }],
        calls: SOLAR_CALLS,
        drops: &["<|begin|>assistant", "<|content|>", "<|end|>"],
        ..PLAIN
    },
    Spec {
        name: "gigachat-3",
        signs: (&["<|role_sep|>", "function call"], &[]),
        calls: GIGACHAT_CALLS,
        drops: &["<|message_sep|>"],
        ..PLAIN
    },
    // GLM 4.6 writes line breaks between its tags, 4.7 none; both are read by one reader.
    Spec {
        name: "glm-4.6",
        signs: (&["<arg_key>", "{arg-key-1}</arg_key>\n"], &[]),
        thoughts: &[THINK],
        calls: &[TOOL_CALL],
        ..PLAIN
    },
    Spec {
        name: "glm-4.7",
        signs: (&["<arg_key>"], &[]),
        thoughts: &[THINK],
        calls: &[TOOL_CALL],
        start: Start::Reasoning,
        ..PLAIN
    },
    Spec {
        name: "lfm2",
        signs: (&["<|tool_call_start|>"], &[]),
        thoughts: &[THINK],
        calls: &[PYTHON_LIST],
        ..PLAIN
    },
    Spec {
        name: "granite-3.3",
        signs: (&["<|tool_call|>"], &[]),
        thoughts: &[THINK],
        calls: &[GRANITE],
        drops: &["<response>", "</response>"],
        ..PLAIN
    },
    Spec {
        name: "mistral-think",
        signs: (&["[TOOL_CALLS]", "[THINK]"], &[]),
        thoughts: &[BRACKETS],
        calls: &[MISTRAL],
        ..PLAIN
    },
    Spec {
        name: "mistral-new",
        signs: (&["[TOOL_CALLS]", "[ARGS]"], &[]),
        thoughts: &[BRACKETS],
        calls: &[MISTRAL],
        ..PLAIN
    },
    Spec { name: "mistral-old", signs: (&["[TOOL_CALLS]"], &[]), calls: &[MISTRAL], ..PLAIN },
    Spec {
        name: "seed",
        signs: (&["<seed:tool_call>"], &[]),
        thoughts: &[SEED_THINK],
        calls: &[SEED_CALL],
        ..PLAIN
    },
    Spec {
        name: "deepseek-v3.2",
        signs: (&["｜DSML｜"], &[]),
        thoughts: &[THINK],
        calls: DSML_CALLS,
        ..PLAIN
    },
    Spec {
        name: "nemotron",
        signs: (&["<TOOLCALL>"], &[]),
        thoughts: &[THINK],
        calls: &[TOOLCALL],
        ..PLAIN
    },
    Spec {
        name: "apertus",
        signs: (&["<|tools_prefix|>"], &[]),
        thoughts: &[Thoughts {
            open: "<|inner_prefix|>",
            closes: &["<|inner_suffix|>"],
            anywhere: true,
        }],
        calls: &[TOOLS_PREFIX],
        ..PLAIN
    },
    Spec {
        name: "apriel",
        signs: (&["<tool_calls>", "[BEGIN FINAL RESPONSE]"], &[]),
        thoughts: &[Thoughts {
            open: "Here are my reasoning steps:",
            closes: &["[BEGIN FINAL RESPONSE]"],
            anywhere: false,
        }],
        calls: &[TOOL_CALLS],
        drops: &["[END FINAL RESPONSE]"],
        ..PLAIN
    },
    Spec {
        name: "minimax-m1",
        signs: (&["<tool_calls>", "<beginning_of_sentence>"], &[]),
        thoughts: &[THINK],
        calls: &[TOOL_CALLS],
        ..PLAIN
    },
    Spec {
        name: "minicpm5",
        signs: (&["<function name=", "<param name="], &[]),
        thoughts: &[THINK],
        calls: &[NAMED_FUNCTION],
        ..PLAIN
    },
    Spec {
        name: "firefunction",
        signs: (&[" functools["], &[]),
        calls: &[("functools", Calls::Objects(&[]))],
        ..PLAIN
    },
    Spec {
        name: "qwen3-coder",
        signs: (&["<function=", "<parameter="], &[]),
        thoughts: &[THINK],
        calls: &[TOOL_CALL, FUNCTION],
        ..PLAIN
    },
    Spec {
        name: "functionary-v3.1",
        signs: (&["<function="], &[]),
        calls: &[FUNCTION, PYTHON_TAG],
        ..PLAIN
    },
    Spec {
        name: "granite-4",
        signs: (&["<tool_call>", "<|start_of_role|>"], &[]),
        thoughts: &[THINK],
        calls: &[TOOL_CALL],
        ..PLAIN
    },
    Spec {
        name: "qwen3",
        signs: (&["<tool_call>", "</think>"], &[]),
        thoughts: &[THINK],
        calls: &[TOOL_CALL],
        ..PLAIN
    },
    Spec { name: "qwen2.5", signs: (&["<tool_call>", "Qwen"], &[]), calls: &[TOOL_CALL], ..PLAIN },
    Spec { name: "hermes", signs: (&["<tool_call>"], &[]), calls: &[TOOL_CALL], ..PLAIN },
    Spec {
        name: "llama3",
        signs: (&["<|start_header_id|>", "ipython"], &[]),
        calls: &[PYTHON_TAG],
        bare: true,
        ..PLAIN
    },
    Spec { name: "gemma-plain", signs: (&["<start_of_turn>"], &["tool"]), ..PLAIN },
    Spec { name: "think", signs: (&["</think>"], &["tools"]), thoughts: &[THINK], ..PLAIN },
    Spec { name: "plain", signs: (&["messages"], &["tool", "think", "THINK"]), ..PLAIN },
    // The fallback: all markers that nobody writes by chance.
    Spec {
        name: "generic",
        signs: (&[], &[]),
        thoughts: &[
            THINK,
            BRACKETS,
            GEMMA_THOUGHT,
            COMMAND_THINKING,
            SEED_THINK,
            MINIMAX_THINK,
            HY3_THINK,
        ],
        drops: COMMAND_RESPONSE,
        calls: &[
            TOOL_CALL,
            FUNCTION,
            MISTRAL,
            GRANITE,
            PYTHON_TAG,
            PYTHON_LIST,
            ACTION,
            INVOKE,
            GEMMA,
            SEED_CALL,
            NAMED_FUNCTION,
            DSML_CALLS[0],
            DSML_CALLS[1],
            TOOLCALL,
            TOOL_CALLS,
            TOOLS_PREFIX,
            DEEPSEEK_CALLS[0],
            DEEPSEEK_CALLS[1],
            DEEPSEEK_CALLS[2],
            DEEPSEEK_CALLS[3],
            DEEPSEEK_CALLS[4],
            KIMI_CALLS[0],
            KIMI_CALLS[1],
            SOLAR_CALLS[0],
            SOLAR_CALLS[1],
            HY3_CALLS[0],
            HY3_CALLS[1],
            GIGACHAT_CALLS[0],
            GIGACHAT_CALLS[1],
            MINIMAX_3,
            MUSE,
        ],
        bare: true,
        ..PLAIN
    },
];

impl Format {
    /// The format called `name`.
    pub fn by_name(name: &str) -> Option<Format> {
        FORMATS.iter().find(|spec| spec.name == name).map(Format)
    }

    /// The fallback, for models that nothing is known about: it knows the markers of all others.
    pub fn generic() -> Format {
        Format(&FORMATS[FORMATS.len() - 1])
    }

    /// The format that models with this chat template write, as its text shows; the fallback if it
    /// shows none.
    pub fn of_template(template: &str) -> Format {
        let shows = |spec: &&Spec| {
            let (all, none) = spec.signs;
            all.iter().all(|sign| template.contains(sign))
                && !none.iter().any(|sign| template.contains(sign))
        };
        FORMATS.iter().find(shows).map_or_else(Format::generic, Format)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The names of all formats.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().map(|spec| spec.name)
    }

    /// Whether its models may write down their thoughts.
    pub fn can_reason(self) -> bool {
        self.0.headers.is_some() || !self.0.thoughts.is_empty()
    }

    /// Whether a token with this text stands in a marker of this format.
    pub(crate) fn has_marker(self, token: &str) -> bool {
        let spec = self.0;
        let thoughts = spec.thoughts.iter().flat_map(|t| std::iter::once(&t.open).chain(t.closes));
        let calls = spec
            .calls
            .iter()
            .flat_map(|(marker, calls)| std::iter::once(*marker).chain(calls.words()));
        let words = thoughts.copied().chain(calls).chain(spec.drops.iter().copied());
        let own = spec.headers.map_or(&[][..], |headers| headers.markers);
        !token.is_empty() && words.chain(own.iter().copied()).any(|word| word.contains(token))
    }

    /// Its grammar, about to read an answer.
    pub(super) fn grammar(self, options: ParseOptions) -> Box<dyn Grammar> {
        match self.0.headers {
            Some(headers) => Box::new(Headed::new(headers, options)),
            None => Box::new(Marked::new(self.0, options)),
        }
    }
}
