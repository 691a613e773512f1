//! Calls that chat templates write, read back: what a template shows a model of its own earlier calls is
//! what the model will write, so that every format is tested by its models' template. (Whether each case
//! of the goldens is read is checked in toolcalls.rs.)
//!
//! All templates of the goldens are looked for in `PUMICE_GOLDENS`; those in tests/data are always read.

use std::path::{Path, PathBuf};

use pumice::text::parse::{Format, ParseOptions, Parsed, Parser, Tools, parse};
use pumice::text::template::{ChatTemplate, RenderInput};
use serde_json::{Value as Json, json};

/// The folders of templates that are there.
fn folders() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates")];
    match std::env::var_os("PUMICE_GOLDENS").map(PathBuf::from).filter(|f| f.is_dir()) {
        Some(goldens) => folders.push(goldens.join("templates")),
        None => println!("skipped: PUMICE_GOLDENS names no folder"),
    }
    folders
}

/// Names and sources of all templates, each once.
fn templates() -> Vec<(String, String)> {
    let mut templates = vec![];
    for folder in folders() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let Ok(file) = serde_json::from_slice::<Json>(&bytes) else { continue };
            if let (Some(name), Some(source)) = (file["name"].as_str(), file["template"].as_str()) {
                templates.push((name.to_owned(), source.to_owned()));
            }
        }
    }
    templates.sort();
    templates.dedup();
    templates
}

/// What a model writes for an assistant's message as the template shows it, and the prompt before it;
/// `None` where the template refuses.
fn written(template: &ChatTemplate, tools: &Json, answer: &Json) -> Option<(String, String)> {
    let user = json!({"role": "user", "content": "Weather?"});
    let render = |messages: Json, is_prompt: bool| {
        let mut input = RenderInput::new(messages);
        input.tools = Some(tools.clone());
        input.add_generation_prompt = is_prompt;
        template.render(&input).ok()
    };
    let prompt = render(json!([user]), true)?;
    let whole = render(json!([user, answer]), false)?;
    let same = prompt.char_indices().zip(whole.chars()).find(|((_, a), b)| a != b);
    let at = same.map_or(prompt.len().min(whole.len()), |((at, _), _)| at);
    // Where a marker begins like that of the prompt, it is taken whole.
    let marker = whole[..at].rfind(['<', '[']).filter(|&m| !whole[m..at].contains(['>', ']']));
    let at = marker.unwrap_or(at);
    Some((whole[..at].to_owned(), whole[at..].to_owned()))
}

/// The answer in pieces of `n` characters; what was given out is never taken back, so that the pieces
/// joined are all there is to compare.
fn streamed(format: Format, options: &ParseOptions, text: &str, n: usize) -> Parsed {
    let chars: Vec<char> = text.chars().collect();
    let (mut parser, mut parsed) = (Parser::new(format, options.clone()), Parsed::default());
    for piece in chars.chunks(n) {
        parsed.extend(parser.push(&piece.iter().collect::<String>()));
    }
    parsed.extend(parser.finish());
    parsed
}

fn get_weather() -> Json {
    json!({"type": "function", "function": {"name": "get_weather", "description": "Weather",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "City"},
            "days": {"type": "integer", "description": "Days"}}}}})
}

/// What a template writes as an earlier call must be read as that call when the model writes it.
#[test]
fn a_call_that_a_template_writes_is_read_back() {
    let tools = json!([get_weather()]);
    let (mut n_read, mut failures) = (0, vec![]);
    for (name, source) in templates() {
        let (format, template) = (Format::of_template(&source), ChatTemplate::new(&source));
        let Ok(template) = template else { continue };
        let arguments = json!({"city": "Z\u{fc}rich <b>", "days": 2});
        let forms = [
            (arguments.clone(), json!("")),
            (arguments.to_string().into(), json!("")),
            (arguments.clone(), Json::Null),
            (arguments.to_string().into(), Json::Null),
        ];
        let texts = forms.into_iter().filter_map(|(arguments, content)| {
            let call = json!({"id": "call00001", "type": "function",
                "function": {"name": "get_weather", "arguments": arguments}});
            let answer = json!({"role": "assistant", "content": content, "tool_calls": [call]});
            Some(written(&template, &tools, &answer)?.1)
        });
        let texts: Vec<String> = texts.filter(|text| text.contains("get_weather")).collect();
        if texts.is_empty() {
            println!("{name}: writes no calls");
            continue;
        }
        let is_read = |text: &String| {
            let options = ParseOptions {
                tools: Tools::from_json(Some(&tools)),
                starts_in_reasoning: Some(false),
                ..ParseOptions::default()
            };
            let parsed = parse(format, options, text);
            matches!(&parsed.tool_calls[..], [call] if call.name == "get_weather"
                && call.arguments == arguments)
        };
        match texts.iter().any(is_read) {
            true => n_read += 1,
            false => failures.push(format!("{name} ({}): {texts:?}", format.name())),
        }
    }
    println!("{n_read} templates, {} failures", failures.len());
    assert!(failures.is_empty() && n_read >= 9, "{}", failures.join("\n"));
}

/// What a template shows of an assistant's message with thoughts, content and two calls.
struct Shows {
    template: &'static str,
    format: &'static str,
    /// The end of the turn, which the model's last token stands for.
    end: &'static str,
    reasoning: bool,
    content: bool,
    /// How many calls.
    n_calls: usize,
    /// Calls have the ids that they were given.
    ids: bool,
}

const SHOWS: &[Shows] = &[
    Shows {
        template: "GigaChat3-10B-A1.8B",
        format: "gigachat-3",
        end: "",
        reasoning: false,
        content: true,
        n_calls: 1,
        ids: false,
    },
    Shows {
        template: "GigaChat3.1-10B-A1.8B",
        format: "gigachat-3",
        end: "",
        reasoning: false,
        content: true,
        n_calls: 1,
        ids: false,
    },
    Shows {
        template: "MiniMax-M3",
        format: "minimax-m3",
        end: "[e~[\n",
        reasoning: true,
        content: true,
        n_calls: 2,
        ids: false,
    },
    Shows {
        template: "muse-glimmer",
        format: "muse",
        end: "<|eot|>",
        reasoning: true,
        content: false,
        n_calls: 2,
        ids: false,
    },
    Shows {
        template: "tencent-Hy3",
        format: "hy3",
        end: "<｜hy_eos:opensource｜>",
        reasoning: true,
        content: true,
        n_calls: 2,
        ids: false,
    },
    Shows {
        template: "upstage-Solar-Open-100B",
        format: "solar-open",
        end: "<|calls|>",
        reasoning: true,
        content: false,
        n_calls: 2,
        ids: true,
    },
];

/// A tool whose parameters have all types, and arguments that are hard to write.
fn hard_call() -> (Json, Json) {
    let types = json!({
        "text": {"type": "string", "description": "t"},
        "digits": {"type": "string", "description": "t"},
        "n": {"type": "integer", "description": "t"},
        "ratio": {"type": "number", "description": "t"},
        "on": {"type": "boolean", "description": "t"},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "t"},
        "none": {"type": "array", "items": {"type": "string"}, "description": "t"},
        "options": {"type": "object", "description": "t", "properties": {
            "depth": {"type": "integer", "description": "t"},
            "item": {"type": "object", "properties": {"x": {"type": "string", "description": "t"}},
                     "description": "t"},
        }},
    });
    let tool = json!({"type": "function", "function": {"name": "hard-tool_2", "description": "Hard",
        "parameters": {"type": "object", "properties": types, "required": ["text"]}}});
    let arguments = json!({
        "text": "  Z\u{fc}rich \u{1f600} \"q\" 'a' \\n \\\\ {[(\n\n</tool_call></parameter></arg_value> \
                 <b>&amp;</b> <|end|x> }} \t",
        "digits": "012",
        "n": -7,
        "ratio": 0.125,
        "on": false,
        "tags": ["a, b", "", "12", "\u{2603} \"]"],
        "none": [],
        "options": {"depth": 3, "item": {"x": "1"}, "deep": [1, {"k": "v", "l": [true, 2.5]}]},
    });
    (tool, arguments)
}

#[test]
fn thoughts_content_and_hard_calls_come_back_whole_and_in_pieces() {
    let (hard, hard_arguments) = hard_call();
    let tools = json!([get_weather(), hard]);
    let all = templates();
    for shows in SHOWS {
        let Some((name, source)) = all.iter().find(|(name, _)| name == shows.template) else {
            println!("skipped: {} is not there", shows.template);
            continue;
        };
        let (format, template) = (Format::of_template(source), ChatTemplate::new(source).unwrap());
        assert_eq!(format.name(), shows.format, "{name}");
        let calls = [
            json!({"id": "k1l2m3n4o5", "type": "function",
                   "function": {"name": "hard-tool_2", "arguments": hard_arguments}}),
            json!({"id": "a1b2c3d4e5", "type": "function",
                   "function": {"name": "get_weather", "arguments": {}}}),
        ];
        let calls = &calls[..shows.n_calls];
        let (thoughts, content) = ("Let me see:\n <b> is what?", "I shall look \u{2026} at <x>.");
        let answer = json!({"role": "assistant", "content": content, "tool_calls": calls,
                            "reasoning_content": thoughts, "reasoning": thoughts});
        let (prompt, text) = written(&template, &tools, &answer).unwrap();
        let text = text.strip_suffix(shows.end).unwrap_or_else(|| panic!("{name}: {text:?}"));
        let options = ParseOptions {
            tools: Tools::from_json(Some(&tools)),
            prompt_tail: Some(prompt),
            ..ParseOptions::default()
        };
        let whole = parse(format, options.clone(), text);
        let expected_of = |shown: bool, text: &'static str| if shown { text } else { "" };
        assert_eq!(whole.reasoning_content, expected_of(shows.reasoning, thoughts), "{name}");
        assert_eq!(whole.content, expected_of(shows.content, content), "{name}: {text:?}");
        assert_eq!(whole.tool_calls.len(), calls.len(), "{name}: {text:?}");
        for (found, call) in whole.tool_calls.iter().zip(calls) {
            assert_eq!(found.name, call["function"]["name"], "{name}");
            assert_eq!(found.arguments, call["function"]["arguments"], "{name}: {text:?}");
            assert!(!shows.ids || found.id == call["id"], "{name}: {}", found.id);
        }
        for n in [1, 2, 3, 7] {
            assert_eq!(streamed(format, &options, text, n), whole, "{name} in pieces of {n}");
        }
        // The fallback knows the calls too, whatever it makes of the rest.
        let generic = parse(Format::generic(), options.clone(), text);
        assert_eq!(generic.tool_calls, whole.tool_calls, "{name}");

        // Cut short anywhere, no call is made up and none of what was complete is lost.
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).step_by(5).collect();
        for end in ends {
            let cut = parse(format, options.clone(), &text[..end]);
            assert!(whole.tool_calls.starts_with(&cut.tool_calls), "{name}: {:?}", &text[..end]);
        }
        // Without tools, all of it is text.
        let none = ParseOptions { tools: Tools::Known(vec![]), ..options };
        let parsed = parse(format, none, text);
        assert!(parsed.tool_calls.is_empty() && parsed.content.contains("hard-tool_2"), "{name}");
        assert!(
            parsed.content.contains("\u{2603}") || parsed.content.contains("\\u2603"),
            "{name}"
        );
    }
}
