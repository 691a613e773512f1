//! Templates for models whose file carries none.
//!
//! The vocabulary tells the family: a control token that only one format uses decides. All of them
//! are ordinary template sources, so that one path renders everything.
//!
//! | the vocabulary has | format |
//! |---|---|
//! | `<\|im_start\|>` and `<\|im_end\|>` | ChatML |
//! | `<\|start_header_id\|>` and `<\|eot_id\|>` | Llama 3 |
//! | `<\|header_start\|>` and `<\|eot\|>` | Llama 4 |
//! | `<start_of_turn>` and `<end_of_turn>` | Gemma |
//! | `<\|turn>` and `<turn\|>` | Gemma 4 |
//! | `<\|start_of_role\|>` and `<\|end_of_role\|>` | Granite |
//! | `<\|START_OF_TURN_TOKEN\|>` and `<\|CHATBOT_TOKEN\|>` | Command |
//! | `<\|im_user\|>` and `<\|im_middle\|>` | Kimi |
//! | `<\|start\|>` and `<\|channel\|>` | Harmony |
//! | `[gMASK]` and `<\|assistant\|>` | GLM 4 |
//! | `<｜User｜>` and `<｜Assistant｜>` | DeepSeek |
//! | `[\|user\|]` and `[\|endofturn\|]` | EXAONE |
//! | `<seed:bos>` and `<seed:eos>` | Seed |
//! | `<\|user\|>` and `<\|end\|>` | Phi 3 |
//! | `[INST]` and `[/INST]` (also as text, Llama 2) | Llama 2 / Mistral |
//! | `<\|user\|>` and `<\|assistant\|>` | Zephyr |
//! | none of them | lines of `role: text` |

/// A built-in template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// What to call it in messages.
    pub name: &'static str,
    /// The Jinja source.
    pub source: &'static str,
}

/// Turns a message's content (text, or a list of parts) into text.
macro_rules! with_content {
    ($body:literal) => {
        concat!(
            "{%- macro text(content) -%}{%- if content is string -%}{{- content -}}",
            "{%- elif content is not none and content is iterable -%}",
            "{%- for part in content -%}{%- if part is string -%}{{- part -}}{%- elif part.text is defined -%}{{- part.text -}}{%- endif -%}{%- endfor -%}",
            "{%- endif -%}{%- endmacro -%}",
            $body
        )
    };
}

/// `<|im_start|>role … <|im_end|>`.
pub const CHATML: Fallback = Fallback {
    name: "chatml",
    source: with_content!(
        "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' + text(m.content) + '<|im_end|>\\n' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    ),
};

/// Llama 3 headers.
pub const LLAMA3: Fallback = Fallback {
    name: "llama3",
    source: with_content!(
        "{{- bos_token -}}{%- for m in messages -%}\
         {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + text(m.content) | trim + '<|eot_id|>' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
    ),
};

/// Gemma turns; a system message joins the first turn.
pub const GEMMA: Fallback = Fallback {
    name: "gemma",
    source: with_content!(
        "{{- bos_token -}}{%- set ns = namespace(system='') -%}{%- for m in messages -%}\
         {%- if m.role in ('system', 'developer') -%}{%- set ns.system = ns.system ~ text(m.content) | trim ~ '\\n\\n' -%}\
         {%- else -%}{{- '<start_of_turn>' + ('model' if m.role in ('assistant', 'model') else 'user') + '\\n' + ns.system + text(m.content) | trim + '<end_of_turn>\\n' -}}\
         {%- set ns.system = '' -%}{%- endif -%}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}"
    ),
};

/// `<|user|> … <|end|>`.
pub const PHI3: Fallback = Fallback {
    name: "phi3",
    source: with_content!(
        "{%- for m in messages -%}{{- '<|' + m.role + '|>\\n' + text(m.content) + '<|end|>\\n' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
    ),
};

/// `[INST] … [/INST]` with the system message in `<<SYS>>`.
pub const LLAMA2: Fallback = Fallback {
    name: "llama2",
    source: with_content!(
        "{{- bos_token -}}{%- set ns = namespace(system='') -%}{%- for m in messages -%}\
         {%- if m.role in ('system', 'developer') -%}{%- set ns.system = '<<SYS>>\\n' ~ text(m.content) | trim ~ '\\n<</SYS>>\\n\\n' -%}\
         {%- elif m.role in ('assistant', 'model') -%}{{- ' ' + text(m.content) | trim + ' ' + eos_token -}}\
         {%- else -%}{{- '[INST] ' + ns.system + text(m.content) | trim + ' [/INST]' -}}{%- set ns.system = '' -%}\
         {%- endif -%}{%- endfor -%}"
    ),
};

/// Llama 4 headers.
const LLAMA4: Fallback = Fallback {
    name: "llama4",
    source: with_content!(
        "{{- bos_token -}}{%- for m in messages -%}\
         {{- '<|header_start|>' + m.role + '<|header_end|>\\n\\n' + text(m.content) | trim + '<|eot|>' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|header_start|>assistant<|header_end|>\\n\\n' -}}{%- endif -%}"
    ),
};

/// Gemma 4 turns.
const GEMMA4: Fallback = Fallback {
    name: "gemma4",
    source: with_content!(
        "{{- bos_token -}}{%- for m in messages -%}\
         {{- '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + text(m.content) | trim + '<turn|>\\n' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|turn>model\\n' -}}{%- endif -%}"
    ),
};

/// `<|start_of_role|>role<|end_of_role|> …`.
const GRANITE: Fallback = Fallback {
    name: "granite",
    source: with_content!(
        "{%- for m in messages -%}{{- '<|start_of_role|>' + m.role + '<|end_of_role|>' + text(m.content) + '<|end_of_text|>\\n' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|start_of_role|>assistant<|end_of_role|>' -}}{%- endif -%}"
    ),
};

/// Command's turns.
const COMMAND: Fallback = Fallback {
    name: "command",
    source: with_content!(
        "{{- bos_token -}}{%- for m in messages -%}\
         {{- '<|START_OF_TURN_TOKEN|>' + ('<|CHATBOT_TOKEN|>' if m.role == 'assistant' else '<|SYSTEM_TOKEN|>' if m.role == 'system' else '<|USER_TOKEN|>') + text(m.content) | trim + '<|END_OF_TURN_TOKEN|>' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' -}}{%- endif -%}"
    ),
};

/// `<|im_user|>user<|im_middle|> … <|im_end|>`.
const KIMI: Fallback = Fallback {
    name: "kimi",
    source: with_content!(
        "{%- for m in messages -%}\
         {{- '<|im_' + (m.role if m.role in ('system', 'assistant') else 'user') + '|>' + m.role + '<|im_middle|>' + text(m.content) + '<|im_end|>' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|im_assistant|>assistant<|im_middle|>' -}}{%- endif -%}"
    ),
};

/// Messages with a channel.
const HARMONY: Fallback = Fallback {
    name: "harmony",
    source: with_content!(
        "{%- for m in messages -%}\
         {{- '<|start|>' + m.role + ('<|channel|>final' if m.role == 'assistant' else '') + '<|message|>' + text(m.content) + '<|end|>' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|start|>assistant' -}}{%- endif -%}"
    ),
};

/// GLM 4's roles.
const GLM4: Fallback = Fallback {
    name: "glm4",
    source: with_content!(
        "{{- '[gMASK]<sop>' -}}{%- for m in messages -%}{{- '<|' + m.role + '|>\\n' + text(m.content) -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
    ),
};

/// DeepSeek's roles; system messages stand in front as they are.
const DEEPSEEK: Fallback = Fallback {
    name: "deepseek",
    source: with_content!(
        "{{- bos_token -}}{%- for m in messages -%}\
         {%- if m.role == 'assistant' -%}{{- '<｜Assistant｜>' + text(m.content) + eos_token -}}\
         {%- elif m.role in ('system', 'developer') -%}{{- text(m.content) -}}\
         {%- else -%}{{- '<｜User｜>' + text(m.content) -}}{%- endif -%}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<｜Assistant｜>' -}}{%- endif -%}"
    ),
};

/// `[|role|] … [|endofturn|]`; a user's turn ends with its line.
const EXAONE: Fallback = Fallback {
    name: "exaone",
    source: with_content!(
        "{%- for m in messages -%}\
         {{- '[|' + m.role + '|]' + text(m.content) | trim + ('\\n' if m.role == 'user' else '[|endofturn|]\\n') -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '[|assistant|]' -}}{%- endif -%}"
    ),
};

/// `<seed:bos>role … <seed:eos>`.
const SEED: Fallback = Fallback {
    name: "seed",
    source: with_content!(
        "{%- for m in messages -%}{{- '<seed:bos>' + m.role + '\\n' + text(m.content) | trim + '<seed:eos>' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<seed:bos>assistant\\n' -}}{%- endif -%}"
    ),
};

/// `<|role|>` and the end of the text.
const ZEPHYR: Fallback = Fallback {
    name: "zephyr",
    source: with_content!(
        "{%- for m in messages -%}{{- '<|' + m.role + '|>\\n' + text(m.content) + eos_token + '\\n' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
    ),
};

/// Lines of `role: text`.
pub const PLAIN: Fallback = Fallback {
    name: "plain",
    source: with_content!(
        "{%- for m in messages -%}{{- m.role + ': ' + text(m.content) + '\\n' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- 'assistant:' -}}{%- endif -%}"
    ),
};

/// Nothing but the text of the system's message and of the last one, each on lines of its own: for
/// encoders with a decoder, which were trained on tasks and not on conversations.
pub const BARE: Fallback = Fallback {
    name: "bare",
    source: with_content!(
        "{%- for m in messages -%}{%- if m.role == 'system' and not loop.last -%}{{- text(m.content) + '\\n' -}}\
         {%- elif loop.last -%}{{- text(m.content) -}}{%- endif -%}{%- endfor -%}"
    ),
};

/// Chooses the built-in template for a vocabulary; `has` says whether it holds a token text.
pub fn fallback(has: impl Fn(&str) -> bool) -> Fallback {
    let table = [
        ("<|im_start|>", "<|im_end|>", CHATML),
        ("<|start_header_id|>", "<|eot_id|>", LLAMA3),
        ("<|header_start|>", "<|eot|>", LLAMA4),
        ("<start_of_turn>", "<end_of_turn>", GEMMA),
        ("<|turn>", "<turn|>", GEMMA4),
        ("<|start_of_role|>", "<|end_of_role|>", GRANITE),
        ("<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>", COMMAND),
        ("<|im_user|>", "<|im_middle|>", KIMI),
        ("<|start|>", "<|channel|>", HARMONY),
        ("[gMASK]", "<|assistant|>", GLM4),
        ("<｜User｜>", "<｜Assistant｜>", DEEPSEEK),
        ("[|user|]", "[|endofturn|]", EXAONE),
        ("<seed:bos>", "<seed:eos>", SEED),
        ("<|user|>", "<|end|>", PHI3),
        ("[INST]", "[/INST]", LLAMA2),
        ("<|user|>", "<|assistant|>", ZEPHYR),
    ];
    table.into_iter().find(|(a, b, _)| has(a) && has(b)).map_or(PLAIN, |row| row.2)
}
