//! `pumice synth`, `bench` and `doctor`: what they say, not how fast anything is.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn pumice(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pumice")).args(args).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// A random model of the smallest shape.
fn tiny(folder: &Path, ty: &str) -> String {
    let path = folder.join(format!("{ty}.gguf")).to_str().unwrap().to_owned();
    let made = pumice(&["synth", "--shape", "tiny", "--type", ty, "-o", &path]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    path
}

#[test]
fn a_random_model_runs_and_is_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny(folder.path(), "q4_k_m");
    let first = std::fs::read(&path).unwrap();
    assert!(tiny(folder.path(), "q4_k_m") == path && std::fs::read(&path).unwrap() == first);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing but the model is left: {left:?}");

    let inspected = pumice(&["inspect", "--json", &path]);
    let said: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    let said = said.to_string();
    assert!(said.contains("Q4_K") && said.contains("Q6_K"), "{said}");
    let answer = pumice(&["run", "-m", &path, "--raw", "-p", "hi", "-n", "4", "--no-stdin"]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
}

#[test]
fn bench_measures_every_test_of_every_setup() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny(folder.path(), "q8_0");
    let args = ["-p", "32", "-n", "4", "-d", "0,40", "-t", "1,2", "-r", "2", "-q", "--no-limits"];
    let out = pumice(&[&["bench", "-m", &path, "-o", "json"][..], &args].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
    let all: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    let what: Vec<[u64; 4]> = all
        .iter()
        .map(|e| ["n_threads", "n_prompt", "n_gen", "n_depth"].map(|k| e[k].as_u64().unwrap()))
        .collect();
    let of = |t| [[t, 32, 0, 0], [t, 0, 4, 0], [t, 32, 0, 40], [t, 0, 4, 40]];
    assert_eq!(what, [of(1), of(2)].concat());
    for e in &all {
        assert_eq!(e["samples_ts"].as_array().unwrap().len(), 2);
        assert!(e["avg_ts"].as_f64().unwrap() > 0.0, "{e}");
        assert_eq!(e["model_n_params"], all[0]["model_n_params"]);
    }
    // A decode row reads all weights but the embedding's other rows (it is the output here), and
    // keys and values as deep as they are: 2 layers, 2 heads of 64, 2 bytes, twice.
    let bytes = |i: usize| all[i]["bytes_per_token"].as_u64().unwrap();
    assert_eq!(bytes(3) - bytes(1), 40 * 2 * 2 * 64 * 2 * 2);
    assert!(bytes(1) < all[0]["model_size"].as_u64().unwrap());

    let table =
        text(&pumice(&["bench", "-m", &path, "-p", "8", "-n", "2", "-r", "1", "-q"]).stdout);
    assert!(table.starts_with("| model") && table.contains("pp8") && table.contains("tg2"));
    assert!(table.contains("GB/s"), "{table}");
}

#[test]
fn bench_refuses_what_cannot_be_measured() {
    for (args, word) in [
        (&["-p", "0", "-n", "0"][..], "nothing to measure"),
        (&["-t", "0"], "-t 0"),
        (&["--ubatch-size", "0"], "batch of 0"),
        (&["--isa", "abacus"], "abacus"),
    ] {
        let out = pumice(&[&["bench", "--shape", "tiny", "--type", "q4_0"][..], args].concat());
        assert!(!out.status.success() && text(&out.stderr).contains(word), "{args:?}");
    }
}

#[test]
fn a_profile_says_where_the_time_went() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny(folder.path(), "q4_0");
    let args = ["bench", "-m", &path, "-p", "32", "-n", "3", "-r", "1", "-q", "--no-limits"];
    let out = pumice(&[&args[..], &["--profile", "-o", "json"]].concat());
    let all: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    for (entry, steps) in all.iter().zip([1, 3]) {
        let profile = &entry["profile"];
        assert_eq!(profile["n_steps"], steps);
        let phases = profile["phases"].as_array().unwrap();
        let name = |p: &Value| p["phase"].as_str().unwrap().to_owned();
        let names: Vec<String> = phases.iter().map(name).collect();
        for phase in ["embed", "norm", "qkv", "attention", "attn_out", "gate_up", "down", "output"]
        {
            assert!(names.iter().any(|n| n == phase), "{phase} in {names:?}");
        }
    }
    let table = text(&pumice(&[&args[..], &["--profile"]].concat()).stdout);
    assert!(table.contains("| gate_up ") && table.contains("3 steps of"), "{table}");
    let plain: Vec<Value> =
        serde_json::from_slice(&pumice(&[&args[..], &["-o", "json"]].concat()).stdout).unwrap();
    assert!(plain[0]["profile"].is_null(), "nobody asked for it");
}

#[test]
fn kernels_are_measured_by_type() {
    let out = pumice(&["bench", "--kernels", "q4_0,Q8_0", "--isa", "scalar", "-o", "json"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let all: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    for ty in ["Q4_0", "Q8_0"] {
        for driver in ["rows", "panel"] {
            let found = all.iter().find(|e| e["type"] == ty && e["driver"] == driver);
            let cycles = found.and_then(|e| e["cycles_per_32"].as_f64());
            assert!(cycles.is_some_and(|c| c > 0.0), "{ty} {driver}: {found:?}");
        }
    }
    let out = pumice(&["bench", "--kernels", "q9"]);
    assert!(!out.status.success() && text(&out.stderr).contains("--kernels q9"));
}

#[test]
fn figures_of_tune_that_are_damaged_are_passed_over_with_a_note() {
    let home = tempfile::tempdir().unwrap();
    let pumice = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pumice"));
        command.args(args).env("PUMICE_HOME", home.path()).env_remove("PUMICE_NO_TUNE_FILE");
        command.output().unwrap()
    };
    let doctor = || text(&pumice(&["doctor", "--no-measure", "--isa", "scalar"]).stdout);
    assert!(doctor().contains("`pumice tune` finds out"), "{}", doctor());
    let file = home.path().join("tuning.json");
    let damaged = "{\"form\": 1, \"machine\": {}}";
    std::fs::write(&file, damaged).unwrap();
    let path = tiny(home.path(), "q4_0");
    let run = ["run", "-m", &path, "--raw", "-p", "hi", "-n", "1", "--no-stdin"];
    let out = pumice(&run);
    assert!(out.status.success(), "a damaged hint is no reason to fail");
    assert!(text(&out.stderr).contains("passing over what `pumice tune` found"), "{out:?}");
    assert!(doctor().contains("not used: "), "{}", doctor());
    let out = pumice(&[&run[..], &["--no-tune-file"]].concat());
    assert!(!text(&out.stderr).contains("passing over"), "{out:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), damaged, "left as it was");
}

#[test]
fn doctor_names_the_machine_and_what_a_model_needs() {
    let out = pumice(&["doctor", "--no-measure"]);
    let said = text(&out.stdout);
    for word in ["processor", "kernels", "memory", "scalar", "-m FILE"] {
        assert!(said.contains(word), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = tiny(folder.path(), "q4_0");
    let said = text(&pumice(&["doctor", "-m", &path, "-c", "256"]).stdout);
    for word in ["read speed", "llama, 2 layers", "256 positions", "decode", "t/s"] {
        assert!(said.contains(word), "{said}");
    }
}
