//! Templates for models whose file carries none.
//!
//! The vocabulary tells the family: a control token that only one format uses decides. All of them
//! are ordinary template sources, so that one path renders everything.
//!
//! | the vocabulary has | format |
//! |---|---|
//! | `<\|im_start\|>` and `<\|im_end\|>` | ChatML |
//! | `<\|start_header_id\|>` and `<\|eot_id\|>` | Llama 3 |
//! | `<start_of_turn>` and `<end_of_turn>` | Gemma |
//! | `<\|user\|>` and `<\|end\|>` | Phi 3 |
//! | `[INST]` and `[/INST]` (also as text, Llama 2) | Llama 2 / Mistral |
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

/// Lines of `role: text`.
pub const PLAIN: Fallback = Fallback {
    name: "plain",
    source: with_content!(
        "{%- for m in messages -%}{{- m.role + ': ' + text(m.content) + '\\n' -}}{%- endfor -%}\
         {%- if add_generation_prompt -%}{{- 'assistant:' -}}{%- endif -%}"
    ),
};

/// Chooses the built-in template for a vocabulary; `has` says whether it holds a token text.
pub fn fallback(has: impl Fn(&str) -> bool) -> Fallback {
    let table: [(&str, &str, Fallback); 5] = [
        ("<|im_start|>", "<|im_end|>", CHATML),
        ("<|start_header_id|>", "<|eot_id|>", LLAMA3),
        ("<start_of_turn>", "<end_of_turn>", GEMMA),
        ("<|user|>", "<|end|>", PHI3),
        ("[INST]", "[/INST]", LLAMA2),
    ];
    table.into_iter().find(|(a, b, _)| has(a) && has(b)).map_or(PLAIN, |row| row.2)
}
