//! `pumice chat` as a person meets it: typed into a terminal (tmux), read from its screen.
//! Nothing here waits for a fixed time: the screen is read until it shows what it should.
#![cfg(unix)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// For a screen to change: long, as the machine may be busy. Nothing waits for all of it unless
/// it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal with a program in it; gone when dropped.
struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    /// Starts `pumice chat FLAGS`; `None`, saying so, where there is no tmux.
    fn new(flags: &str) -> Option<Terminal> {
        if Command::new("tmux").arg("-V").output().is_err() {
            eprintln!("skipped: tmux is not installed");
            return None;
        }
        let terminal = Terminal { folder: tempfile::tempdir().unwrap() };
        let size = ["-x", "100", "-y", "30"];
        let command = terminal.command(flags);
        let start = [&["-f", "/dev/null", "new-session", "-d"], &size[..], &[&command]].concat();
        terminal.tmux(&start);
        Some(terminal)
    }

    /// A shell's line that runs the chat, then says how it ended and waits to be read.
    fn command(&self, flags: &str) -> String {
        let model = common::data().join("archs/llama-rope3/model.gguf");
        format!(
            "PUMICE_HOME='{}' '{}' chat -m '{}' --temp 0 {flags}; echo \"ended: $?\"; cat",
            self.folder.path().join("home").display(),
            env!("CARGO_BIN_EXE_pumice"),
            model.display(),
        )
    }

    fn run(&self, args: &[&str]) -> Output {
        let socket = self.folder.path().join("socket");
        Command::new("tmux").arg("-S").arg(socket).args(args).output().unwrap()
    }

    fn tmux(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Presses keys, by tmux's names.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a text and Enter.
    fn enter(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.press(&["Enter"]);
    }

    /// The screen and what has left it at the top.
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-"]).trim_end().to_string()
    }

    /// Reads the screen until it is as it should be.
    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(start.elapsed() < PATIENCE, "no {what} on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a prompt with nothing but `text` in it, as the last line.
    #[track_caller]
    fn prompt(&self, text: &str) -> String {
        let line = format!("> {text}");
        self.until(&format!("prompt {line:?}"), |s| s.lines().last() == Some(line.trim_end()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_question_is_answered_and_typed_lines_come_back_in_the_next_run() {
    let Some(t) = Terminal::new("-n 6 -c 512") else { return };
    t.prompt("");
    assert!(t.screen().contains("/help lists the commands"), "{}", t.screen());
    t.enter("How are you?");
    let screen = t.until("answer", |s| s.ends_with("\n>") && s.contains("note: ended by -n"));
    let between = screen.split("> How are you?\n").nth(1).unwrap();
    assert!(between.lines().next().is_some_and(|answer| !answer.trim().is_empty()), "{screen}");

    t.press(&["Up"]);
    t.prompt("How are you?");
    t.press(&["C-u"]);
    t.enter("/nonsense");
    t.until("error", |s| s.contains("unknown command \"/nonsense\"") && s.ends_with("\n>"));
    t.press(&["/", "s", "t", "Tab"]);
    t.prompt("/stats");
    t.press(&["Enter"]);
    t.until("figures", |s| s.contains("2 messages · ") && s.contains("decode 6 tokens"));
    t.prompt("");
    t.enter("/exit");
    t.until("end", |s| s.ends_with("ended: 0"));

    let history = t.folder.path().join("home/chat_history");
    assert_eq!(mode(&history), 0o600);
    t.tmux(&["respawn-pane", "-k", &t.command("-n 6 -c 512")]);
    t.prompt("");
    t.press(&["Up", "Up", "Up", "Up"]);
    t.prompt("How are you?");
    t.press(&["C-u", "C-d"]);
    t.until("end", |s| s.ends_with("ended: 0"));
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_program() {
    // So long a context that no machine comes to its end first; no end token (2) either, nor tabs
    // (12) and line breaks (13), which would leave the screen empty.
    let Some(t) = Terminal::new("-c 200000 -l 2-100 -l 12-100 -l 13-100") else { return };
    for question in ["Count.", "Go on."] {
        t.prompt("");
        t.enter(question);
        // Text below the question: now Ctrl-C meets an answer, not the line editor.
        let below = format!("> {question}\n");
        let begun = |s: &str| s.rsplit_once(&below).is_some_and(|(_, a)| !a.trim().is_empty());
        t.until("beginning of an answer", begun);
        t.press(&["C-c"]);
        t.until("end of the answer", |s| s.ends_with("(stopped)\n>"));
    }
    // At the prompt it drops the line.
    t.tmux(&["send-keys", "-l", "never mind"]);
    t.prompt("never mind");
    t.press(&["C-c"]);
    t.until("hint", |s| s.contains("/exit ends the chat") && s.ends_with("\n>"));
    t.enter("/stats");
    t.until("figures", |s| s.contains("4 messages · "));
    t.prompt("");
    t.press(&["C-d"]);
    t.until("end", |s| s.ends_with("ended: 0"));
}

#[test]
fn a_program_that_is_asked_to_end_leaves_the_terminal_as_it_was() {
    let Some(t) = Terminal::new("-n 3 -c 512") else { return };
    t.prompt("");
    let file = t.folder.path().join("pid");
    let chat = t.command("-n 3 -c 512");
    let chat = chat.split(';').next().unwrap();
    let own = format!("echo $$ > '{}'; exec env {chat}", file.display());
    let line = format!("sh -c \"{own}\"; stty -a; echo ended; cat").replace("$$", "\\$\\$");
    t.tmux(&["respawn-pane", "-k", &line]);
    t.prompt("");
    let pid = std::fs::read_to_string(&file).unwrap();
    let kill = Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap();
    assert!(kill.success());
    let screen = t.until("end", |s| s.lines().any(|l| l == "ended"));
    for flag in ["icanon", "echo", "isig"] {
        let is_on = screen.split([' ', ';', '\n']).any(|word| word == flag);
        assert!(is_on, "{flag} is off:\n{screen}");
    }
}

#[test]
fn pasted_and_continued_lines_are_one_message() {
    let Some(t) = Terminal::new("-n 3 -c 512") else { return };
    t.prompt("");
    t.tmux(&["set-buffer", "first\nsecond"]);
    t.tmux(&["paste-buffer", "-p"]);
    t.until("pasted text", |s| s.ends_with("> first\nsecond"));
    t.tmux(&["send-keys", "-l", "\\"]);
    t.press(&["Enter"]);
    t.tmux(&["send-keys", "-l", "third"]);
    t.until("third line", |s| s.ends_with("second\\\nthird"));
    t.press(&["Enter"]);
    t.prompt("");
    let file = t.folder.path().join("saved.json");
    t.enter(&format!("/save {}", file.display()));
    t.until("note", |s| s.contains("2 messages saved in"));
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(saved[0]["content"], "first\nsecond\nthird");
}
