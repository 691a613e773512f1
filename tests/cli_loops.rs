//! `pumice run` with models that do not draw token after token from one stack: those that fill masks
//! (diffusion) and those whose decoder reads what an encoder made of the prompt. What the loops compute
//! is checked in other_loops.rs; here the program is run as its users run it.

mod common;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const DIFFUSION: [&str; 4] = ["dream", "llada", "llada-moe", "rnd1"];
/// A T5 that is sure of every token, whatever is drawn.
const SURE: &str = "t5 of the goldens";

/// A tiny model, made by the program itself.
fn synth(folder: &Path, arch: &str) -> PathBuf {
    let path = folder.join(format!("{}.gguf", arch.replace('/', "-")));
    let out = pumice().args(["synth", "--arch", arch, "-o"]).arg(&path).output().unwrap();
    assert!(out.status.success(), "{arch}: {}", stderr(&out));
    path
}

fn pumice() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pumice"))
}

/// `pumice run` with one thread and a question.
fn command(model: &Path, flags: &[&str]) -> Command {
    let mut command = pumice();
    command.args(["run", "--no-stdin", "-t", "1", "-m"]).arg(model).args(flags);
    command
}

fn run(model: &Path, flags: &[&str]) -> Output {
    command(model, &[&["What is this?"], flags].concat()).output().unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

/// The text of an answer, which must have come.
fn answer(model: &Path, flags: &[&str]) -> String {
    let out = run(model, flags);
    assert!(out.status.success(), "{} {flags:?}: {}", model.display(), stderr(&out));
    String::from_utf8(out.stdout).unwrap()
}

/// How many tokens the program says that it drew.
fn n_drawn(text: &str) -> usize {
    let figures = text.split("decode ").nth(1).unwrap_or_else(|| panic!("no figures in {text:?}"));
    figures.split(' ').next().unwrap().parse().unwrap()
}

fn models(folder: &Path) -> Vec<(&'static str, PathBuf)> {
    let all = DIFFUSION.iter().chain(&["t5", "t5/relu"]);
    let mut models: Vec<_> = all.map(|&arch| (arch, synth(folder, arch))).collect();
    models.push((SURE, common::data().join("archs/t5/model.gguf")));
    models
}

#[test]
fn one_seed_gives_one_answer_and_n_is_the_most() {
    let folder = tempfile::tempdir().unwrap();
    for (name, model) in models(folder.path()) {
        let path = model.display();
        let drawn = |seed| answer(&model, &["-n", "12", "--temp", "1.5", "--seed", seed, "-q"]);
        let text = drawn("7");
        assert!(!text.trim().is_empty() && text.ends_with('\n'), "{path}: {text:?}");
        assert_eq!(drawn("7"), text, "{path}");
        let others: Vec<String> = ["8", "9", "10"].map(drawn).into();
        assert_eq!(others.iter().any(|o| *o != text), name != SURE, "{path}: {others:?}");

        // The end of an answer may come sooner, in none of three answers if the file has no such token.
        let counts = ["1", "5", "12"].map(|n| {
            let out = run(&model, &["-n", n, "--temp", "1.5", "--seed", "7"]);
            let (said, n) = (stderr(&out), n.parse::<usize>().unwrap());
            let drawn = n_drawn(&said);
            assert!(drawn >= 1 && drawn <= n, "{path}, -n {n}: {said}");
            assert!(drawn == n || !said.contains("ended by -n"), "{path}, -n {n}: {said}");
            drawn
        });
        assert!(counts[0] == 1 && counts[2] > 1, "{path}: {counts:?}");
        assert_eq!(answer(&model, &["-n", "0", "-q"]), "\n", "{path}: nothing was asked for");

        // Without --temp, what fills masks takes the most probable tokens; others draw.
        let of_seed = |seed| answer(&model, &["-n", "12", "--seed", seed, "-q"]);
        let greedy = answer(&model, &["-n", "12", "--temp", "0", "-q"]);
        if DIFFUSION.contains(&name) {
            assert_eq!([of_seed("1"), of_seed("2")], [greedy.clone(), greedy], "{path}");
        } else {
            let texts = ["1", "2", "3"].map(of_seed);
            assert_eq!(texts.iter().any(|t| *t != greedy), name != SURE, "{path}: {texts:?}");
        }
    }
}

#[test]
fn steps_and_blocks_are_taken_and_change_what_is_filled() {
    let folder = tempfile::tempdir().unwrap();
    for arch in DIFFUSION {
        let model = synth(folder.path(), arch);
        let with = |flags: &[&str]| answer(&model, &[&["-n", "24", "-q"], flags].concat());
        let usual = with(&[]);
        let all_at_once = with(&["--diffusion-steps", "1", "--diffusion-block", "24"]);
        let in_order = with(&["--diffusion-block", "1"]);
        assert!(usual != all_at_once || usual != in_order, "{arch}: {usual:?}");
        assert!(!all_at_once.trim().is_empty() && !in_order.trim().is_empty(), "{arch}");
        let out = run(&model, &["--diffusion-steps", "0"]);
        assert_eq!(out.status.code(), Some(2), "{arch}");
        assert!(stderr(&out).contains("--diffusion-steps"), "{}", stderr(&out));
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    for (_, model) in models(folder.path()) {
        let path = model.display();
        let out = command(&model, &[&"long ".repeat(60), "-n", "4", "-c", "16"]).output().unwrap();
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(1), "{path}: {said}");
        assert!(said.contains("error: ") && said.contains("16"), "{path}: {said}");
        assert!(out.stdout.is_empty(), "{path}: {:?}", out.stdout);
        let out = command(&model, &["-n", "4"]).output().unwrap();
        assert!(stderr(&out).contains("no prompt"), "{path}: {}", stderr(&out));
        // An answer that the context cuts off says so.
        let out = run(&model, &["--raw", "-n", "500", "-c", "64", "--temp", "1.5", "--seed", "3"]);
        let said = stderr(&out);
        assert!(out.status.success(), "{path}: {said}");
        let is_full = said.contains("the context of 64 is full");
        assert!(is_full || n_drawn(&said) < 64, "{path}: {said}");
    }
}

#[test]
fn a_file_that_does_not_name_its_mask_is_refused() {
    let out = run(&common::data().join("archs/dream/model.gguf"), &["-n", "4"]);
    let said = stderr(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("error: ") && said.contains("tokenizer.ggml.mask_token_id"), "{said}");
    assert!(out.stdout.is_empty(), "{:?}", out.stdout);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_answer_and_keeps_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    for arch in ["llada", "dream"] {
        let model = synth(folder.path(), arch);
        // Left to right, so that the first token shows at once; all of them would take minutes.
        let flags = ["Go on.", "-n", "3000", "-c", "4096", "--diffusion-block", "1"];
        let mut asked = command(&model, &flags);
        let mut child = asked.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let out = child.wait_with_output().unwrap();
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(130), "{arch}: {said}");
        assert!(out.stdout.ends_with(b"\n") && n_drawn(&said) < 3000, "{arch}: {said}");
    }
}
