//! What models wrote, taken apart: every case of the goldens, whole and in pieces, and the command.
//!
//! The full set is looked for in `PUMICE_GOLDENS`; a small copy in tests/data is always run.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pumice::text::parse::{Event, Format, ParseOptions, Parsed, Parser, Tools, parse};
use serde_json::{Value as Json, json};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/toolcalls")
}

fn goldens() -> Option<PathBuf> {
    let folder = std::env::var_os("PUMICE_GOLDENS").map(PathBuf::from).filter(|f| f.is_dir());
    if folder.is_none() {
        println!("skipped: PUMICE_GOLDENS names no folder");
    }
    folder
}

fn read_json(path: &Path) -> Json {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

fn files(folder: &Path) -> Vec<Json> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    paths.iter().map(|path| read_json(path)).collect()
}

/// What the file, or the case in its place, says beside the text.
fn options(file: &Json, case: &Json) -> ParseOptions {
    let field = |name: &str| case.get(name).unwrap_or(&file[name]).clone();
    let tools = if case["tools_given"] == false { json!([]) } else { field("tools") };
    ParseOptions {
        tools: Tools::from_json(Some(&tools)),
        starts_in_reasoning: field("starts_in_reasoning").as_bool(),
        prompt_tail: field("prompt_tail").as_str().map(str::to_owned),
    }
}

/// Equal as JSON, with 2 and 2.0 the same.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

/// The differences between what came out and what the case expects.
fn differences(case: &Json, found: &Parsed) -> Vec<String> {
    let expected = &case["expected"];
    let mut wrong = vec![];
    for (name, text) in
        [("content", &found.content), ("reasoning_content", &found.reasoning_content)]
    {
        let expected = expected[name].as_str().unwrap_or_default();
        if text.trim() != expected.trim() {
            wrong.push(format!("{name}: {text:?}, expected {expected:?}"));
        }
    }
    let calls = expected["tool_calls"].as_array().unwrap();
    let matches = calls.len() == found.tool_calls.len()
        && calls.iter().zip(&found.tool_calls).all(|(expected, call)| {
            let id = expected["id"].as_str().is_none_or(|id| id == call.id);
            id && !call.id.is_empty()
                && expected["name"] == call.name
                && same(&expected["arguments"], &call.arguments)
        });
    if !matches {
        wrong.push(format!("calls: {:?}, expected {calls:?}", found.tool_calls));
    }
    let mut ids: Vec<_> = found.tool_calls.iter().map(|call| &call.id).collect();
    ids.sort();
    ids.dedup();
    if ids.len() != found.tool_calls.len() {
        wrong.push(format!("ids are not unique: {:?}", found.tool_calls));
    }
    for keep in case["must_keep"].as_array().into_iter().flatten() {
        let keep = keep.as_str().unwrap();
        if !found.content.contains(keep) && !found.reasoning_content.contains(keep) {
            wrong.push(format!("{keep:?} is lost"));
        }
    }
    wrong
}

/// The answer in pieces of `n` characters, and what is wrong with the states in between.
fn streamed(
    format: Format,
    options: &ParseOptions,
    case: &Json,
    n: usize,
) -> (Parsed, Vec<String>) {
    let chars: Vec<char> = case["text"].as_str().unwrap().chars().collect();
    let (mut parser, mut parsed) = (Parser::new(format, options.clone()), Parsed::default());
    let mut wrong = vec![];
    for (i, piece) in chars.chunks(n).enumerate() {
        parsed.extend(parser.push(&piece.iter().collect::<String>()));
        for partial in case["partials"].as_array().into_iter().flatten() {
            let upto = partial["upto"].as_u64().unwrap() as usize;
            if (i * n + piece.len()) != upto {
                continue;
            }
            let within = |max: &Json, text: &str| max.as_str().is_none_or(|m| m.starts_with(text));
            let fits = within(&partial["content_max"], &parsed.content)
                && within(&partial["reasoning_max"], &parsed.reasoning_content)
                && partial["calls_done"] == parsed.tool_calls.len();
            if !fits {
                wrong.push(format!("at {upto}: {parsed:?}, expected {partial}"));
            }
        }
    }
    parsed.extend(parser.finish());
    (parsed, wrong)
}

/// Checks every case of a file with the parser of `format`.
fn check(file: &Json, format: Format, failures: &mut Vec<String>) -> usize {
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let options = options(file, case);
        let whole = parse(format, options.clone(), case["text"].as_str().unwrap());
        let mut wrong = differences(case, &whole);
        for n in [1, 2, 3, 7] {
            let (parsed, partial) = streamed(format, &options, case, n);
            wrong.extend(partial);
            if parsed != whole {
                wrong.push(format!("in pieces of {n}: {parsed:?}, whole {whole:?}"));
            }
        }
        let label = |wrong: String| {
            format!("{} ({}) {}: {wrong}", file["format"], format.name(), case["label"])
        };
        failures.extend(wrong.into_iter().map(label));
    }
    cases.len()
}

fn report(failures: &[String], n_cases: usize, least: usize) {
    println!("{n_cases} cases, {} failures", failures.len());
    failures.iter().take(60).for_each(|failure| println!("  {failure}"));
    assert!(failures.is_empty() && n_cases >= least);
}

#[test]
fn every_case_of_the_small_set() {
    let mut failures = vec![];
    let n_cases = files(&data())
        .iter()
        .map(|file| {
            let format = Format::by_name(file["format"].as_str().unwrap()).unwrap();
            check(file, format, &mut failures)
        })
        .sum();
    report(&failures, n_cases, 20);
}

#[test]
fn every_case_of_the_goldens() {
    let Some(goldens) = goldens() else { return };
    let (mut failures, mut n_cases) = (vec![], 0);
    for file in files(&goldens.join("toolcalls")) {
        let name = file["format"].as_str().unwrap();
        let format = Format::by_name(name).unwrap_or_else(|| panic!("no format {name}"));
        n_cases += check(&file, format, &mut failures);
    }
    report(&failures, n_cases, 180);
}

#[test]
fn templates_show_the_format_of_their_models() {
    let Some(goldens) = goldens() else { return };
    let (mut failures, mut n_cases, mut n_templates) = (vec![], 0, 0);
    for file in files(&goldens.join("toolcalls")) {
        let template = file["template_name"].as_str().unwrap();
        let path = goldens.join(format!("templates/{template}.json"));
        if !path.is_file() {
            println!("skipped: {template} is not there");
            continue;
        }
        n_templates += 1;
        let source = read_json(&path)["template"].as_str().unwrap().to_owned();
        n_cases += check(&file, Format::of_template(&source), &mut failures);
    }
    assert!(n_templates >= 10);
    report(&failures, n_cases, 80);
}

#[test]
fn every_template_has_a_format() {
    let Some(goldens) = goldens() else { return };
    for file in files(&goldens.join("templates")) {
        if let Some(source) = file["template"].as_str() {
            println!("{}: {}", file["name"], Format::of_template(source).name());
        }
    }
    let of = |template: &str| Format::of_template(template).name();
    assert_eq!(of("{{ messages }}"), "plain");
    assert_eq!(of("{{ messages }} {{ tools }}"), "generic");
    assert_eq!(of("{{ messages }} </think>"), "think");
}

/// The fallback must find the calls of every format whose markers nobody writes by chance.
#[test]
fn the_fallback_finds_calls_of_all_formats() {
    let Some(goldens) = goldens() else { return };
    let (mut failures, mut n_cases) = (vec![], 0);
    for file in files(&goldens.join("toolcalls")) {
        // Without headers and markers there is nothing to go by.
        if ["harmony", "functionary-v3.2", "gemma-plain"].iter().any(|f| file["format"] == *f) {
            continue;
        }
        let cases = file["cases"].as_array().unwrap();
        for case in cases.iter().filter(|case| case["label"].as_str().unwrap().contains("call")) {
            let options = options(&file, case);
            let found = parse(Format::generic(), options, case["text"].as_str().unwrap());
            n_cases += 1;
            let wrong = differences(case, &found);
            failures
                .extend(wrong.iter().map(|w| format!("{} {}: {w}", file["format"], case["label"])));
        }
    }
    report(&failures, n_cases, 60);
}

fn pumice(args: &[&str], input: &str) -> (String, String, bool) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pumice"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let out = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out.stdout), text(out.stderr), out.status.success())
}

#[test]
fn the_command_prints_one_object_for_each_text() {
    let call = "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>";
    let lines = [
        json!({"text": format!("<think>hm</think>Yes.{call}")}),
        json!({"text": call, "tools_given": false}),
        json!({"text": "so</think>Yes.", "starts_in_reasoning": true}),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let (out, err, ok) = pumice(&["parse", "--format", "qwen3", "--jsonl"], &input);
    assert!(ok, "{err}");
    let found: Vec<Json> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        found,
        [
            json!({"content": "Yes.", "reasoning_content": "hm",
                   "tool_calls": [{"id": "call_0", "name": "now", "arguments": {}}]}),
            json!({"content": call, "reasoning_content": "", "tool_calls": []}),
            json!({"content": "Yes.", "reasoning_content": "so", "tool_calls": []}),
        ]
    );
    let (_, err, ok) = pumice(&["parse", "--format", "nobody", "--jsonl"], "");
    assert!(!ok && err.contains("hermes"), "{err}");
    let (_, err, ok) = pumice(&["parse", "--format", "qwen3", "--jsonl"], "[]\n");
    assert!(!ok && err.contains("text"), "{err}");
}

#[test]
fn the_command_finds_format_and_start_in_a_template() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.jinja");
    let source = "{% for m in messages %}{{ m.content }}{% endfor %}<tool_call></think><think>\n";
    std::fs::write(&path, source).unwrap();
    let input = json!({"text": "so</think>Yes."}).to_string() + "\n";
    let args = ["parse", "--template", path.to_str().unwrap(), "--jsonl"];
    let (out, err, ok) = pumice(&args, &input);
    assert!(ok, "{err}");
    let found: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["content"], &found["reasoning_content"]), (&json!("Yes."), &json!("so")));
}

#[test]
fn events_stream() {
    let options = ParseOptions::default();
    let mut parser = Parser::new(Format::by_name("qwen3").unwrap(), options);
    assert_eq!(parser.push("<thi"), []);
    assert_eq!(parser.push("nk>\nso \n"), [Event::Reasoning("so".into())]);
    assert_eq!(
        parser.push("be it</think>\n\nY"),
        [Event::Reasoning(" \nbe it".into()), Event::Content("Y".into())]
    );
    assert_eq!(parser.push("es <to"), [Event::Content("es".into())]);
    assert_eq!(parser.finish(), [Event::Content(" <to".into())]);
}
