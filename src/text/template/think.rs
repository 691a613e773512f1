//! Asking a model for thoughts, or for none: each family of templates has its own switch.
//!
//! | what the template speaks of | what is done |
//! |---|---|
//! | `enable_thinking`, `thinking`, `thinking_mode`, `thinking_budget`, `reasoning_effort` | passed as variables |
//! | `/no_think` | written into the system message |
//! | none of them, but `<think>` | thoughts are opened, or opened and closed, behind the prompt |

use serde_json::{Map, Value, json};

use crate::text::Segment;

/// Sets what steers thoughts in a template with this source; false if it knows no such switch.
pub(crate) fn steer(
    source: &str,
    think: bool,
    kwargs: &mut Map<String, Value>,
    messages: &mut Value,
) -> bool {
    let mut knows = false;
    for (name, value) in [
        ("enable_thinking", json!(think)),
        ("thinking", json!(think)),
        ("thinking_mode", json!(if think { "enabled" } else { "disabled" })),
        ("thinking_budget", if think { Value::Null } else { json!(0) }),
        ("reasoning_effort", effort(source, think)),
    ] {
        if !reads(source, name) {
            continue;
        }
        knows = true;
        if !value.is_null() {
            kwargs.entry(name).or_insert(value);
        }
    }
    if source.contains("/no_think") {
        knows = true;
        add_to_system(messages, if think { "/think" } else { "/no_think" });
    }
    knows
}

/// Whether a template's code reads a variable of this name.
fn reads(source: &str, name: &str) -> bool {
    source.match_indices(name).any(|(at, _)| {
        let (before, after) = (&source[..at], &source[at + name.len()..]);
        let is_word = |c: char| c.is_alphanumeric() || "_.'\"".contains(c);
        let is_whole = !before.ends_with(is_word)
            && !after.starts_with(is_word)
            && (!after.starts_with('=') || after.starts_with("=="));
        let last = |marks: [&str; 2]| marks.into_iter().filter_map(|mark| before.rfind(mark)).max();
        is_whole && last(["{%", "{{"]) > last(["%}", "}}"])
    })
}

/// How much effort stands for thoughts or none. Where there is a word for none, thoughts may be off
/// unless they are asked for.
fn effort(source: &str, think: bool) -> Value {
    let none = ["no_think", "none"]
        .into_iter()
        .find(|w| source.contains(&format!("'{w}'")) || source.contains(&format!("\"{w}\"")));
    match (think, none) {
        (true, Some(_)) => json!("high"),
        (true, None) => Value::Null,
        (false, none) => json!(none.unwrap_or("low")),
    }
}

/// Adds a word to the system message, or one that consists of it.
fn add_to_system(messages: &mut Value, word: &str) {
    let Some(list) = messages.as_array_mut() else { return };
    match list.first_mut().filter(|m| m["role"] == "system") {
        Some(message) => {
            let text = message["content"].as_str().unwrap_or_default();
            message["content"] = json!(format!("{text} {word}").trim_start());
        }
        None => list.insert(0, json!({"role": "system", "content": word})),
    }
}

/// Opens or closes thoughts at the end of a prompt that `<think>` and `</think>` mark: what it has
/// opened is closed where none are wanted; where the template has no switch (`knows` is false),
/// thoughts are opened, or opened and closed.
pub(crate) fn complete(segments: &mut Vec<Segment>, think: bool, knows: bool) {
    let tail: String = segments.iter().rev().take(2).rev().map(|s| s.text.as_str()).collect();
    let tail = tail.trim_end();
    let text = match think {
        false if tail.ends_with("<think>") => "\n</think>\n\n",
        false if !knows && !tail.ends_with("</think>") => "<think>\n\n</think>\n\n",
        true if !knows && !tail.ends_with("<think>") => "<think>\n",
        _ => return,
    };
    segments.push(Segment { text: text.to_owned(), trusted: true });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steered(source: &str, think: bool) -> (bool, Value, Value) {
        let (mut kwargs, mut messages) = (Map::new(), json!([{"role": "user", "content": "a"}]));
        let knows = steer(source, think, &mut kwargs, &mut messages);
        (knows, Value::Object(kwargs), messages)
    }

    #[test]
    fn each_template_is_steered_by_what_it_speaks_of() {
        let qwen = "{% if enable_thinking is defined and enable_thinking is false %}";
        assert_eq!(steered(qwen, false).1, json!({"enable_thinking": false}));
        assert_eq!(steered("{% if not thinking is defined %}", true).1, json!({"thinking": true}));
        let effort = "{{ reasoning_effort if reasoning_effort is defined else 'medium' }}";
        assert_eq!(steered(effort, false).1, json!({"reasoning_effort": "low"}));
        assert_eq!(steered(effort, true).1, json!({}));
        let effort = format!("{effort} 'no_think'");
        assert_eq!(steered(&effort, true).1, json!({"reasoning_effort": "high"}));
        assert_eq!(steered("{{ thinking_budget }}", false).1, json!({"thinking_budget": 0}));
        let (knows, _, messages) = steered("{% if '/no_think' in m.content %}", false);
        assert!(knows);
        assert_eq!(messages[0], json!({"role": "system", "content": "/no_think"}));
        assert!(!steered("{{ messages }} <think>", false).0);
        assert!(!steered("{{ messages }} write thinking first {% set x = 'thinking' %}", false).0);
        assert!(!steered("{% set ns = namespace(thinking=true) %}{{ ns.thinking }}", false).0);
    }

    #[test]
    fn prompts_are_completed_where_nothing_else_steers() {
        let completed = |text: &str, think, knows| {
            let mut segments = vec![Segment { text: text.into(), trusted: true }];
            complete(&mut segments, think, knows);
            segments.into_iter().map(|s| s.text).collect::<String>()
        };
        assert_eq!(completed("A<think>\n", false, true), "A<think>\n\n</think>\n\n");
        assert_eq!(completed("A", false, false), "A<think>\n\n</think>\n\n");
        assert_eq!(completed("A", false, true), "A");
        assert_eq!(completed("A", true, false), "A<think>\n");
        assert_eq!(completed("A<think>", true, false), "A<think>");
        assert_eq!(completed("A</think>", false, false), "A</think>");
    }
}
