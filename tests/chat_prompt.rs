//! Prompts of conversations: what is asked of a template beside the messages, and how the answer is
//! read.

mod common;

use std::process::{Command, Output};

use formats::{Access, Gguf, GgufWriter};
use pumice::text::tokenizer::Show;
use pumice::{ChatOptions, Message, Model};

/// A model (without weights) with this chat template.
fn model(template: &str) -> Model {
    let path = common::data().join("archs/llama-rope3/model.gguf");
    let file = Gguf::open(&path, Access::Mmap).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.set(key, value.clone());
    }
    writer.set("tokenizer.chat_template", template);
    Model::from_gguf(Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap()
}

/// The prompt of a question, asked with or without thoughts, and whether that could be honoured.
fn prompt(model: &Model, think: Option<bool>) -> (String, bool) {
    let messages = [Message::new("user", "a")];
    let prompt = model.chat_prompt(&messages, &ChatOptions { think }).unwrap();
    let text = model.tokenizer().unwrap().decode(&prompt.tokens, Show::All).unwrap();
    assert!(text.ends_with(&prompt.tail), "{text:?} {:?}", prompt.tail);
    (prompt.tail, prompt.steered)
}

#[test]
fn variables_reach_the_template() {
    let m = model(
        "{{ messages[0].content }}{% if enable_thinking is defined %}[{{ enable_thinking }}]{% endif %}",
    );
    assert_eq!(prompt(&m, None), ("a".into(), true));
    assert_eq!(prompt(&m, Some(true)), ("a[True]".into(), true));
    assert_eq!(prompt(&m, Some(false)), ("a[False]".into(), true));
}

#[test]
fn thoughts_are_opened_or_closed_where_the_template_has_no_switch() {
    let m = model("{{ messages[0].content }}|{{ '<think>\n' }}");
    assert_eq!(prompt(&m, Some(true)).0, "a|<think>\n");
    assert_eq!(prompt(&m, Some(false)).0, "a|<think>\n\n</think>\n\n");
    let m = model("{{ messages[0].content }}{{ '<think>' if messages[0].content == 'b' }}|");
    assert_eq!(prompt(&m, Some(false)).0, "a|<think>\n\n</think>\n\n");
    assert_eq!(prompt(&m, None).0, "a|");
    let m = model("{{ messages[0].content }}");
    assert_eq!(prompt(&m, Some(false)), ("a".into(), false));
}

#[test]
fn a_word_in_the_system_message_steers_models_that_read_it() {
    let m = model(
        "{% for m in messages %}{{ m.role }}:{{ m.content }} {% endfor %}{% if '/no_think' in 'x' %}{% endif %}",
    );
    assert_eq!(prompt(&m, Some(false)).0, "system:/no_think user:a ");
    let messages = [Message::new("system", "s"), Message::new("user", "a")];
    let prompt = m.chat_prompt(&messages, &ChatOptions { think: Some(true) }).unwrap();
    assert_eq!(prompt.tail, "system:s /think user:a ");
}

#[test]
fn thoughts_of_earlier_turns_are_there_for_the_template() {
    let m =
        model("{% for m in messages %}{{ m.reasoning_content or '-' }}{{ m.content }}{% endfor %}");
    let mut message = Message::new("assistant", "b");
    message.reasoning_content = Some("hm".into());
    let prompt = m.chat_prompt(&[Message::new("user", "a"), message], &ChatOptions::default());
    assert_eq!(prompt.unwrap().tail, "-ahmb");
}

#[test]
fn the_template_tells_how_answers_are_read() {
    assert_eq!(
        model("{{ messages }} <tool_call> </think>").answer_format().unwrap().name(),
        "qwen3"
    );
    assert_eq!(model("{{ messages }}").answer_format().unwrap().name(), "plain");
    assert_eq!(model("{{ messages }}").answer_markers().unwrap(), [0u32; 0]);
}

fn run(args: &[&str]) -> Output {
    let path = common::data().join("archs/llama-rope3/model.gguf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pumice"));
    command.args(["run", "Hi", "--no-stdin", "-n", "2", "-c", "256", "-m"]).arg(path);
    command.args(args).output().unwrap()
}

#[test]
fn a_model_that_cannot_be_asked_for_thoughts_says_so() {
    let out = run(&["--think"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success() && text.contains("knows no thoughts"), "{text}");
    let out = run(&["--no-think", "--raw"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && text.contains("--raw"), "{text}");
    assert!(run(&["--think", "--no-think", "-q"]).stderr.is_empty());
}
