//! `pumice chat` with its input from a pipe.

mod common;

use pumice::Message;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn tiny() -> PathBuf {
    common::data().join("archs/llama-rope3/model.gguf")
}

/// Runs a chat with greedy answers; `lines` are what a program types.
fn chat(model: &Path, flags: &[&str], lines: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pumice"));
    command.args(["chat", "--temp", "0", "-m"]).arg(model).args(flags);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

/// The conversation after `lines`, and all that was written to stdout.
fn conversation(model: &Path, flags: &[&str], lines: &str) -> (Vec<Message>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved.json");
    let out = chat(model, flags, &format!("{lines}/save {}\n", file.display()));
    assert!(out.status.success(), "{}", stderr(&out));
    let saved = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    (saved, String::from_utf8(out.stdout).unwrap())
}

fn roles(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|m| m.role.as_str()).collect()
}

const FEW: &[&str] = &["-n", "6", "-c", "512"];

#[test]
fn each_turn_is_answered_on_stdout_and_becomes_part_of_the_conversation() {
    let flags = [FEW, &["--system", "Be brief."]].concat();
    let (saved, stdout) = conversation(&tiny(), &flags, "One?\n\nTwo?\n");
    assert_eq!(roles(&saved), ["system", "user", "assistant", "user", "assistant"]);
    let contents: Vec<&str> = saved.iter().map(|m| m.content.as_str()).collect();
    assert_eq!((contents[0], contents[1], contents[3]), ("Be brief.", "One?", "Two?"));
    assert!(!contents[2].is_empty() && !contents[4].is_empty());
    assert_eq!(stdout, format!("{}\n{}\n", contents[2], contents[4]), "answers and nothing else");
}

#[test]
fn an_answer_after_others_is_that_of_the_whole_conversation_alone() {
    let (saved, _) = conversation(&tiny(), FEW, "One?\nTwo?\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("first turn.json");
    std::fs::write(&file, serde_json::to_string(&saved[..2]).unwrap()).unwrap();
    let lines = format!("/load {}\nTwo?\n", file.display());
    let (again, stdout) = conversation(&tiny(), FEW, &lines);
    assert_eq!(again, saved);
    assert_eq!(stdout, saved[3].content.clone() + "\n");
}

#[test]
fn an_answer_can_be_asked_for_again() {
    let (saved, stdout) = conversation(&tiny(), FEW, "One?\n/regen\n");
    assert_eq!(roles(&saved), ["user", "assistant"]);
    let answer = format!("{}\n", saved[1].content);
    assert_eq!(stdout, answer.repeat(2), "greedy answers are alike");

    let flags = ["-n", "12", "-c", "512", "--temp", "5", "--top-k", "0", "--seed", "7"];
    let (_, drawn) = conversation(&tiny(), &flags, "One?\n/regen\n");
    assert_eq!(drawn, conversation(&tiny(), &flags, "One?\n/regen\n").1, "the seed fixes them");
    let (first, second) = drawn.split_at(drawn.len() / 2);
    assert_ne!(first, second, "drawn answers differ");

    let out = chat(&tiny(), FEW, "/regen\n");
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("no message to answer again"), "{}", stderr(&out));
}

#[test]
fn clear_forgets_all_but_the_system_message() {
    let (saved, _) = conversation(&tiny(), FEW, "/system Be kind.\nOne?\n/clear\n");
    assert_eq!(saved, [Message::new("system", "Be kind.")]);
    let (saved, _) = conversation(&tiny(), FEW, "/system Be kind.\n/system -\nOne?\n");
    assert_eq!(roles(&saved), ["user", "assistant"]);
}

#[test]
fn messages_of_several_lines_arrive_whole() {
    let lines = "one\\\ntwo\n\"\"\"\nthree\n\nfour\n\"\"\"\n";
    let (saved, _) = conversation(&tiny(), FEW, lines);
    assert_eq!((&*saved[0].content, &*saved[2].content), ("one\ntwo", "three\n\nfour"));
}

#[test]
fn an_unknown_command_names_the_known_ones_and_the_chat_goes_on() {
    let out = chat(&tiny(), FEW, "/quit\n/help\n/stats\nOne?\n/exit\nTwo?\n");
    let text = stderr(&out);
    assert!(text.contains("error: unknown command \"/quit\""), "{text}");
    for name in ["/help", "/clear", "/system", "/regen", "/save", "/load", "/stats", "/exit"] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(text.contains("0 messages · 0 of 512 tokens"), "{text}");
    assert!(!text.contains('\x1b'), "no colours in a pipe: {text}");
    assert_eq!(String::from_utf8_lossy(&out.stdout).matches('\n').count(), 1, "only One? is asked");
    assert_eq!(out.status.code(), Some(1), "a program learns that something failed");
}

#[test]
fn a_conversation_that_is_too_long_says_so_and_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved.json");
    let lines = format!("One?\n{}\n/save {}\n", "long ".repeat(200), file.display());
    let out = chat(&tiny(), &["-n", "4", "-c", "256"], &lines);
    let text = stderr(&out);
    assert!(text.contains("the context has 256") && text.contains("/clear"), "{text}");
    let saved: Vec<Message> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(roles(&saved), ["user", "assistant"]);

    let out = chat(&tiny(), &["-c", "64"], "One?\n");
    let text = stderr(&out);
    assert!(text.contains("the context of 64 tokens is full"), "{text}");
}

#[test]
fn files_that_are_no_conversation_are_neither_read_nor_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "my notes").unwrap();
    let name = file.display();
    let out = chat(&tiny(), FEW, &format!("/load {name}\n/save {name}\n"));
    let text = stderr(&out);
    assert!(text.contains("expected a JSON array") && text.contains("no conversation"), "{text}");
    assert_eq!(std::fs::read(&file).unwrap(), b"my notes");
}

#[test]
fn a_real_model_answers_and_keeps_what_it_has_read() {
    let Some(model) = common::real_model(common::SMOLLM2) else { return };
    let lines = "What is the capital of France?\nThank you.\n/stats\n";
    let out = chat(&model, &["-n", "10"], lines);
    assert!(out.status.success(), "{}", stderr(&out));
    let answers = String::from_utf8(out.stdout.clone()).unwrap();
    assert!(answers.contains("Paris"), "{answers}");
    // The second prompt begins with all of the first, whose system message alone has 20 tokens.
    let text = stderr(&out);
    let figures = text.split(" tokens (").nth(1).unwrap_or_else(|| panic!("{text}"));
    let reused: usize = figures.split(' ').next().unwrap().parse().unwrap();
    assert!(reused > 20, "{text}");
}
