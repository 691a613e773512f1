//! Corners of the grammars that the goldens do not show.

use proptest::prelude::*;

use super::*;

/// The answer in pieces of `n` characters.
fn in_pieces(format: Format, options: &ParseOptions, text: &str, n: usize) -> Parsed {
    let mut parser = Parser::new(format, options.clone());
    let mut parsed = Parsed::default();
    let chars: Vec<char> = text.chars().collect();
    for piece in chars.chunks(n) {
        parsed.extend(parser.push(&piece.iter().collect::<String>()));
    }
    parsed.extend(parser.finish());
    parsed
}

fn whole(format: &str, text: &str) -> Parsed {
    let format = Format::by_name(format).unwrap();
    let parsed = parse(format, ParseOptions::default(), text);
    for n in 1..5 {
        assert_eq!(in_pieces(format, &ParseOptions::default(), text, n), parsed, "{text}");
    }
    parsed
}

/// Text that is made of markers and what stands around them.
fn scraps() -> impl Strategy<Value = String> {
    let scraps = [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "{\"name\": \"f\", ",
        "\"arguments\": {",
        "}",
        "}}",
        "\"",
        "\\",
        "[",
        "]",
        "(",
        ")",
        "<function=f>",
        "<parameter=a>",
        "</parameter>",
        "</function>",
        "f\n",
        "<arg_key>k</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[CALL_ID]",
        "f",
        "<|tool_call|>",
        "<|python_tag|>",
        "f.call(a=1)",
        "<|tool_call_start|>",
        "[f(a='x')]",
        "<|tool_call_end|>",
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        "<minimax:tool_call>",
        "<invoke name=\"f\">",
        "</invoke>",
        "<|tool_call>",
        "call:f{a:<|\"|>x<|\"|>}",
        "<tool_call|>",
        "<|channel>thought",
        "<channel|>",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "```json\n",
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "functions.f:0",
        "<|tool_call_argument_begin|>",
        ">>>",
        "all\n",
        "<|start|>assistant",
        "<|channel|>analysis",
        "<|channel|>commentary to=functions.f",
        "<|channel|>final",
        "<|message|>",
        "<|end|>",
        "<|call|>",
        " to=f<|message|>",
        " to=self<|message|>",
        " to=user<|message|>",
        "<|eom|>",
        "<atem:function_calls>",
        "<atem:invoke name=\"f\">",
        "<atem:parameter name=\"a\">",
        "</atem:parameter>",
        "</atem:invoke>",
        "</atem:function_calls>",
        "]<]minimax[>[",
        "<invoke name=\"f\">",
        "<item>",
        "</item>",
        "</tool_call:opensource>",
        "<tool_call:opensource>",
        "<tool_sep:opensource>",
        "<tool_calls:opensource>",
        "<|tool_calls|>",
        "<|tool_call:begin|>",
        "<|tool_call:name|>",
        "<|tool_call:args|>{}",
        "<|tool_call:end|>",
        "<|begin|>assistant",
        "<|content|>",
        "<|think|>",
        "function call<|role_sep|>",
        "<|function_call|>",
        "<|message_sep|>",
        " ",
        "\n",
        "é",
        "text",
        "<",
        "<|",
        "[T",
        "1",
        ",",
    ];
    prop::collection::vec(prop::sample::select(scraps.to_vec()), 0..14).prop_map(|s| s.concat())
}

/// The characters that are no white space.
fn ink(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_cut_changes_nothing_and_words_stay(text in scraps(), n in 1usize..6, none: bool) {
        let tools = if none { Tools::Known(vec![]) } else { Tools::Unknown };
        for name in Format::names() {
            let format = Format::by_name(name).unwrap();
            let options = ParseOptions { tools: tools.clone(), ..ParseOptions::default() };
            let parsed = parse(format, options.clone(), &text);
            prop_assert_eq!(&in_pieces(format, &options, &text, n), &parsed, "{}", name);
            prop_assert!(!none || parsed.tool_calls.is_empty());
            // Without calls all that is missing are markers, so the words stay.
            if parsed.tool_calls.is_empty() {
                let out = parsed.content + &parsed.reasoning_content;
                let n_words = |s: &str| s.matches("text").count() + s.matches('é').count();
                let has_headers = ["harmony", "muse"].contains(&name);
                let in_headers = if has_headers { n_words(&text) - n_words(&out) } else { 0 };
                prop_assert_eq!(n_words(&out) + in_headers, n_words(&text), "{}", name);
                prop_assert!(ink(&out) <= ink(&text));
            }
        }
    }
}

#[test]
fn tags_in_text_are_text() {
    let text = "I write <think> and </think> here.";
    assert_eq!(whole("qwen3", text).content, text);
    assert_eq!(whole("generic", "a [TOOL_CALLS] b").content, "a [TOOL_CALLS] b");
    assert_eq!(whole("hermes", "<tool_call>").content, "<tool_call>");
    assert_eq!(whole("harmony", "No header at all.").content, "No header at all.");
}

#[test]
fn a_good_call_after_a_bad_one_counts() {
    let bad = "<tool_call>{\"name\": }</tool_call>";
    let parsed = whole("hermes", &format!("{bad}<tool_call>{{\"name\": \"f\"}}</tool_call>"));
    assert_eq!(parsed.content, bad);
    assert_eq!(parsed.tool_calls.len(), 1);
    let parsed = whole("mistral-old", "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}, {oops]");
    assert_eq!((parsed.tool_calls.len(), parsed.content.as_str()), (1, ", {oops]"));
}

#[test]
fn ids_are_unique() {
    let call = |id: &str| format!("{{\"name\": \"f\", \"arguments\": {{}}, \"id\": \"{id}\"}}");
    let list = [call("call_1"), call("x"), call("x"), call("")].join(", ");
    let parsed = whole("mistral-old", &format!("[TOOL_CALLS][{list}]"));
    let ids: Vec<&str> = parsed.tool_calls.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["call_1", "x", "call_2", "call_3"]);
}

#[test]
fn line_breaks_in_json_strings_are_read() {
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x\n\ty\"}}</tool_call>";
    assert_eq!(whole("qwen3", text).tool_calls[0].arguments["a"], "x\n\ty");
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>";
    assert_eq!(whole("qwen3", text).tool_calls[0].arguments["a"], 1);
}

#[test]
fn formats_beyond_the_goldens_are_read() {
    let call = "{\"name\": \"f\", \"arguments\": {\"a\": 1, \"b\": \"2\"}}";
    let dsml = |name: &str, is_string: bool, value: &str| {
        let tag = "｜DSML｜parameter";
        format!("<{tag} name=\"{name}\" string=\"{is_string}\">{value}</{tag}>\n")
    };
    let dsml = dsml("a", false, "1") + &dsml("b", true, "2");
    for (format, text) in [
        ("nemotron", format!("<TOOLCALL>[{call}]</TOOLCALL>")),
        ("apriel", format!("<tool_calls>[{call}]</tool_calls>")),
        ("minimax-m1", format!("<tool_calls>\n{call}\n{call}\n</tool_calls>")),
        ("firefunction", format!(" functools[{call}]")),
        (
            "apertus",
            "<|tools_prefix|>[{\"f\": {\"a\": 1, \"b\": \"2\"}}]<|tools_suffix|>".to_owned(),
        ),
        (
            "deepseek-v3.2",
            format!(
                "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n{dsml}</｜DSML｜invoke>\n\
                 </｜DSML｜function_calls>"
            ),
        ),
    ] {
        let parsed = whole(format, &text);
        assert_eq!(
            parsed.tool_calls[0].arguments,
            serde_json::json!({"a": 1, "b": "2"}),
            "{format}"
        );
        assert_eq!(parsed.tool_calls.len(), if format == "minimax-m1" { 2 } else { 1 });
        assert_eq!(parsed.content, "", "{format}");
        let generic = parse(Format::generic(), ParseOptions::default(), &text);
        assert!(generic.tool_calls == parsed.tool_calls || format == "firefunction", "{format}");
    }
    let text = "<seed:think>hm</seed:think><seed:tool_call>\n<function=f>\n<parameter=a>1</parameter>\n\
                </function>\n</seed:tool_call>";
    let parsed = whole("seed", text);
    assert_eq!((parsed.reasoning_content.as_str(), parsed.tool_calls.len()), ("hm", 1));
    assert_eq!(whole("firefunction", "Use functools.wraps.").content, "Use functools.wraps.");
}

/// A call of MiniMax M3 with `inner` between the tags of parameter `a`.
fn m3(inner: &str) -> String {
    let text =
        format!("M<tool_call>\nM<invoke name=\"f\">M<a>{inner}M</a>M</invoke>\nM</tool_call>");
    text.replace('M', "]<]minimax[>[")
}

#[test]
fn elements_are_lists_objects_or_text() {
    let schema = serde_json::json!([{"name": "f", "parameters": {"properties": {"a": {
        "type": "object", "properties": {
            "item": {"type": "string"}, "none": {"type": "array"}, "no": {"type": "object"},
            "more": {"type": "array", "items": {"type": "string"}}
        }
    }}}}]);
    let tools = Tools::from_json(Some(&schema));
    let format = Format::by_name("minimax-m3").unwrap();
    let value = |tools: &Tools, inner: &str| {
        let options = ParseOptions { tools: tools.clone(), ..ParseOptions::default() };
        let parsed = parse(format, options, &m3(inner));
        assert_eq!((parsed.tool_calls.len(), parsed.content.as_str()), (1, ""), "{inner}");
        parsed.tool_calls[0].arguments["a"].clone()
    };
    for (inner, known, unknown) in [
        ("M<item>1M</item>", serde_json::json!({"item": "1"}), serde_json::json!([1])),
        (
            "M<none>M</none>M<no> M</no>",
            serde_json::json!({"none": [], "no": {}}),
            serde_json::json!({"none": "", "no": ""}),
        ),
        (
            "M<more>\nM<item> 1 M</item>\nM</more>",
            serde_json::json!({"more": [" 1 "]}),
            serde_json::json!({"more": [1]}),
        ),
        ("", serde_json::json!({}), "".into()),
        ("</a> <b>", "</a> <b>".into(), "</a> <b>".into()),
    ] {
        assert_eq!(value(&tools, inner), known, "{inner}");
        assert_eq!(value(&Tools::Unknown, inner), unknown, "{inner}");
    }
    for broken in ["x M<b>1M</b>", "M<b>1M</c>", "M<b>1M</b> x", "M<>M</>"] {
        let text = m3(broken);
        let parsed = whole("minimax-m3", &text);
        assert_eq!((parsed.tool_calls.len(), parsed.content), (0, text));
    }
}

#[test]
fn what_is_for_others_than_the_user_is_a_call_or_text() {
    let call = " to=f<|message|><atem:function_calls>\n<atem:invoke name=\"f\">\n</atem:invoke>";
    for (text, content, n_calls) in [
        ("<|message|>Hi.<|eot|>", "Hi.", 0),
        (" to=user<|message|>Hi.<|eot|>", "Hi.", 0),
        (" to=python<|message|>print(1)<|eot|>", "to=python<|message|>print(1)", 0),
        (call, "", 1),
        (&format!("{call}\n</atem:function_calls><|eom|><|start|>assistant{call}"), "", 2),
        (&format!("{call} oh <|eot|>"), "oh", 1),
    ] {
        let parsed = whole("muse", text);
        assert_eq!((parsed.content.trim(), parsed.tool_calls.len()), (content, n_calls), "{text}");
    }
    let parsed =
        whole("muse", " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>So.");
    assert_eq!((parsed.reasoning_content.as_str(), parsed.content.as_str()), ("Hm.", "So."));
    let none = ParseOptions { tools: Tools::Known(vec![]), ..ParseOptions::default() };
    let parsed = parse(Format::by_name("muse").unwrap(), none, call);
    assert_eq!(parsed.content, call.trim_start());
}

#[test]
fn nesting_without_end_is_text() {
    let deep = |n: usize| "M<b>".repeat(n) + &"M</b>".repeat(n);
    assert_eq!(whole("minimax-m3", &m3(&deep(60))).tool_calls.len(), 1);
    assert_eq!(whole("minimax-m3", &m3(&deep(5000))).tool_calls.len(), 0);
    for (format, open) in [
        ("hermes", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": "),
        ("lfm2", "<|tool_call_start|>[f(a="),
        ("gemma-4", "<|tool_call>call:f{a:"),
    ] {
        let (n, format) = (5000, Format::by_name(format).unwrap());
        let text = format!("{open}{}{}", "[".repeat(n), "]".repeat(n));
        let text = text + "}})]</tool_call><|tool_call_end|><tool_call|>";
        let parsed = parse(format, ParseOptions::default(), &text);
        assert!(parsed.tool_calls.is_empty() && parsed.content.len() > n, "{}", format.name());
    }
}

#[test]
fn types_decide_what_bare_values_are() {
    let schema = serde_json::json!([{"name": "f", "parameters": {"properties": {
        "s": {"type": "string"}, "n": {"type": ["integer", "null"]}, "b": {"type": "boolean"},
        "x": {"anyOf": [{"type": "number"}, {"type": "string"}]}, "l": {"type": "array"},
        "e": {"enum": ["1", "2"]}, "u": {}
    }}}]);
    let tools = Tools::from_json(Some(&schema));
    for (key, text, expected) in [
        ("s", " 12 ", serde_json::json!(" 12 ")),
        ("n", "12", 12.into()),
        ("n", "None", serde_json::Value::Null),
        ("b", "FALSE", false.into()),
        ("x", "1.5", serde_json::json!(1.5)),
        ("x", "one", "one".into()),
        ("l", "['a', 1]", serde_json::json!(["a", 1])),
        ("e", "1", "1".into()),
        ("u", "true", true.into()),
        ("other", "word", "word".into()),
    ] {
        assert_eq!(tools.typed("f", key, text), expected, "{key} {text}");
    }
    assert_eq!(Tools::Unknown.typed("f", "s", "12"), 12);
}

#[test]
fn long_answers_take_linear_work() {
    // A search from the start at every piece would look at 10^10 bytes.
    let long = "x ".repeat(100_000);
    for (format, text) in [
        ("hermes", format!("<tool_call>{{\"name\": \"f\", \"arguments\": {{\"a\": \"{long}\"}}}}")),
        (
            "qwen3-coder",
            format!("<tool_call><function=f><parameter=a>{long}</parameter></function>"),
        ),
        ("gemma-4", format!("<|tool_call>call:f{{a:<|\"|>{long}<|\"|>}}<tool_call|>")),
        ("generic", long.clone()),
    ] {
        let format = Format::by_name(format).unwrap();
        let parsed = in_pieces(format, &ParseOptions::default(), &text, 2);
        assert_eq!(parsed.content.is_empty(), parsed.tool_calls.len() == 1);
    }
}
