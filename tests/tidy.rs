//! What design.md's shape can be checked by a program: import directions, names, sizes, `unsafe` and its
//! reasons. `the_tree_is_tidy` reads the tree; the other tests prove each rule on a seeded violation.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use rules::{File, Findings};
use source::Source;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files that git tracks or would track; without git, all but build products and hidden folders.
fn tree(root: &Path) -> Vec<String> {
    let git = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output();
    let own_checkout = root.join(".git").exists();
    if let Some(out) = git.ok().filter(|out| own_checkout && out.status.success()) {
        let names = String::from_utf8(out.stdout).expect("git gives UTF-8 names");
        let present = |name: &&str| !name.is_empty() && root.join(name).is_file();
        return names
            .split('\0')
            .filter(present)
            .map(str::to_owned)
            .collect();
    }
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).expect("a readable folder") {
            let entry = entry.expect("a readable entry");
            let name = entry.file_name().into_string().expect("UTF-8 names");
            let path = folder.join(&name);
            let kind = entry.file_type().expect("a file type");
            if kind.is_dir() && name != "target" && (!name.starts_with('.') || name == ".ci") {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path.to_str().expect("UTF-8 names").replace('\\', "/"));
            }
        }
    }
    files
}

/// All findings in one file.
fn check(path: &str, bytes: &[u8]) -> Findings {
    let mut found = rules::small_data(path, bytes.len() as u64);
    let data = path.contains("tests/data/");
    let Ok(text) = std::str::from_utf8(bytes) else {
        return found;
    };
    if data {
        return found;
    }
    found.extend(rules::no_places(path, text));
    if path.ends_with("Cargo.toml") {
        found.extend(rules::manifest_goes_down(path, text));
    }
    if path.ends_with(".rs") {
        let source = Source::new(text);
        let file = File {
            path,
            text,
            source: &source,
        };
        found.extend(rules::RULES.iter().flat_map(|rule| rule(&file)));
    }
    found
}

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = tree(root);
    assert!(
        files.iter().any(|f| f == "src/lib.rs"),
        "the tree was read from {}",
        root.display()
    );
    let mut found = Findings::new();
    for path in &files {
        found.extend(check(
            path,
            &std::fs::read(root.join(path)).expect("a readable file"),
        ));
    }
    assert!(
        found.is_empty(),
        "{} findings:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Asserts that `text` at `path` has exactly one finding, on `line` (from 1), which says `what`.
#[track_caller]
fn breaks(path: &str, text: &str, line: usize, what: &str) {
    let found = check(path, text.as_bytes());
    let prefix = format!("{path}:{line}: ");
    assert!(
        found.len() == 1 && found[0].starts_with(&prefix) && found[0].contains(what),
        "expected line {line}: {what}; found {found:?}"
    );
}

#[track_caller]
fn keeps(path: &str, text: &str) {
    assert_eq!(check(path, text.as_bytes()), Findings::new());
}

#[test]
fn imports_that_go_up_are_found() {
    breaks(
        "formats/src/a.rs",
        "\nuse quant::Isa;\n",
        2,
        "formats may not import quant",
    );
    breaks(
        "quant/src/a.rs",
        "fn f() { models::run() }",
        1,
        "quant may not import models",
    );
    breaks(
        "models/src/a.rs",
        "use pumice::Model;",
        1,
        "models may not import pumice",
    );
    keeps(
        "src/a.rs",
        "use formats::Gguf; use models::x; use quant::y;",
    );
    keeps(
        "quant/src/a.rs",
        "use formats::TensorType; use crate::models::x; // models::x\nlet s = \"models::x\";",
    );
    let manifest = "[dependencies]\nmodels.workspace = true\n";
    breaks(
        "quant/Cargo.toml",
        manifest,
        2,
        "quant may not depend on this",
    );
    breaks(
        "formats/Cargo.toml",
        "[dependencies]\nq = { path = \"../quant\" }",
        2,
        "formats may not",
    );
    breaks(
        "models/Cargo.toml",
        "pumice = \"1\"",
        1,
        "models may not depend",
    );
    keeps(
        "models/Cargo.toml",
        manifest.replace("models", "quant").as_str(),
    );
    keeps("Cargo.toml", "[dependencies]\nmodels.workspace = true\n");
}

#[test]
fn rooms_that_reach_out_are_found() {
    breaks(
        "quant/src/a.rs",
        "use std::fs::File;",
        1,
        "quant knows no files",
    );
    breaks(
        "quant/src/a.rs",
        "std::thread::spawn(f);",
        1,
        "quant has no threads",
    );
    breaks(
        "models/src/a.rs",
        "use std::net::TcpStream;",
        1,
        "models has no sockets",
    );
    breaks(
        "models/src/arch/a.rs",
        "use crate::spec::X;\nuse crate::plan::Y;",
        2,
        "arch/ may not import plan",
    );
    keeps(
        "quant/src/a.rs",
        "#[cfg(test)]\nmod tests {\n    use std::fs::File;\n}",
    );
    keeps("models/src/arch/a.rs", "use crate::hparams::H;");
}

#[test]
fn architecture_names_are_found() {
    let code = "fn f(a: &str) -> bool {\n    a == \"qwen3\"\n}";
    breaks(
        "models/src/plan.rs",
        code,
        2,
        "qwen3 is named outside the registry",
    );
    breaks(
        "src/engine/a.rs",
        "const A: &str = r#\"gemma3\"#;",
        1,
        "gemma3",
    );
    keeps("models/src/arch/qwen.rs", code);
    keeps("tests/a.rs", code);
    keeps(
        "models/src/plan.rs",
        "// \"qwen3\"\nlet a = \"qwen3 \";\n#[cfg(test)]\nmod tests { const A: &str = \"qwen3\"; }",
    );
}

#[test]
fn long_files_are_found() {
    let found = check("src/a.rs", "\n".repeat(rules::MAX_LINES + 1).as_bytes());
    assert!(
        found.len() == 1 && found[0].contains("701 lines"),
        "{found:?}"
    );
    keeps("src/a.rs", &"\n".repeat(rules::MAX_LINES));
}

#[test]
fn unsafe_in_the_wrong_room_is_found() {
    breaks(
        "formats/src/cursor.rs",
        "// SAFETY: none\nunsafe { f() }",
        2,
        "may not stand in this file",
    );
    breaks(
        "src/a.rs",
        "unsafe impl Send for A {}",
        1,
        "may not stand in this file",
    );
    keeps(
        "src/a.rs",
        "// unsafe\nlet s = \"unsafe\"; let c = 'u'; fn f<'unsafe_>() {}",
    );
}

#[test]
fn unexplained_unsafe_is_found() {
    let path = "quant/src/isa/a.rs";
    breaks(
        path,
        "fn f() {\n    unsafe { g() }\n}",
        2,
        "without a SAFETY comment",
    );
    breaks(
        path,
        "// SAFETY: of another statement\nf();\nunsafe { g() }",
        3,
        "without a SAFETY comment",
    );
    breaks(
        path,
        "unsafe impl Send for A {}",
        1,
        "without a SAFETY comment",
    );
    breaks(
        path,
        "/// Adds.\npub unsafe fn f() {}",
        2,
        "without a `# Safety` section",
    );
    breaks(
        path,
        "//! # Safety\n//! All of them.\n\npub unsafe fn f() {}",
        4,
        "without a `# Safety` section",
    );
    keeps(path, "// SAFETY: checked above.\nunsafe { g() }");
    keeps(
        path,
        "// SAFETY: checked above,\n// twice.\nlet x =\n    unsafe { g() };",
    );
    keeps(path, "unsafe { g() } // SAFETY: checked above");
    keeps(
        path,
        "/// Adds.\n///\n/// # Safety\n/// Never.\n#[inline]\npub unsafe fn f() {}",
    );
    keeps(path, "//! # Safety\n//! All of them.\n\nunsafe fn f() {}");
    keeps(
        path,
        "/// # Safety\n/// Never.\npub unsafe fn f() {}\n\nunsafe fn helper() {}",
    );
    keeps(path, "impl Simd for A {\n    unsafe fn f() {}\n}");
    keeps(
        path,
        "/// # Safety\n/// Detected.\ntrait Simd {\n    unsafe fn f();\n}",
    );
    keeps(path, "struct K {\n    f: unsafe fn(u8),\n}");
}

#[test]
fn a_product_that_does_not_forbid_unsafe_is_found() {
    let found = check("src/lib.rs", b"//! #![forbid(unsafe_code)]\n");
    assert!(
        found.len() == 1 && found[0].contains("expected #![forbid"),
        "{found:?}"
    );
    keeps("src/main.rs", "#![forbid(unsafe_code)]\nfn main() {}");
}

#[test]
fn unfinished_work_is_found() {
    let mark = ["TO", "DO"].concat();
    breaks(
        "src/a.rs",
        &format!("\n// {mark}: later"),
        2,
        "a mark of unfinished work",
    );
    breaks("tests/a.rs", "fn f() { dbg!(1); }", 1, "dbg! is left");
    breaks("models/src/a.rs", "fn f() { todo!() }", 1, "todo! is left");
    keeps(
        "src/a.rs",
        &format!("// {mark}S and dbg!(x)\nfn todo() {{}}"),
    );
}

#[test]
fn type_switches_are_found() {
    let switch = "match ty {\n    TensorType::Q4_0 => 1,\n    _ => 2,\n}";
    breaks(
        "models/src/bind.rs",
        switch,
        2,
        "TensorType::Q4_0 is matched",
    );
    breaks(
        "src/a.rs",
        "matches!(ty, TensorType::F32)",
        1,
        "TensorType::F32 is matched",
    );
    let found = check(
        "src/a.rs",
        b"match t { TensorType::F32 | TensorType::F16 => 1, _ => 2 }",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    keeps("quant/src/table.rs", switch);
    keeps("quant/src/tests.rs", switch);
    keeps(
        "models/src/bind.rs",
        "let ty = TensorType::F32; f(TensorType::from_id(3), &[TensorType::Q8_0]);",
    );
}

#[test]
fn places_of_one_machine_are_found() {
    let path = ["/wo", "rk/models"].concat();
    breaks(
        "README.md",
        &format!("line\nsee {path}"),
        2,
        "a path of one machine",
    );
    breaks(".ci/run", &format!("cd {path}"), 1, "a path of one machine");
    breaks(
        "src/a.rs",
        &format!("const A: &str = \"https://{}\";", ["py", "pi.org"].concat()),
        1,
        "registry",
    );
    keeps("README.md", "the network/ folder and ~/frame/work/x");
}

#[test]
fn heavy_test_data_is_found() {
    let heavy = vec![0xffu8; rules::MAX_DATA_BYTES as usize + 1];
    assert_eq!(check("tests/data/a.bin", &heavy).len(), 1);
    assert_eq!(check("quant/tests/data/a.bin", &heavy).len(), 1);
    assert!(check("tests/data/a.bin", &heavy[1..]).is_empty());
}

#[test]
fn the_lexer_tells_code_from_text() {
    let text = "let a = \"x // \\\" y\"; /* b /* c */ \"d\" */ let e = 'f'; let g: &'h str = r#\"i\"j\"#; // k";
    let source = Source::new(text);
    let strings: Vec<_> = source.strings.iter().map(|(_, s)| s.as_str()).collect();
    assert_eq!(strings, ["x // \\\" y", "i\"j"]);
    assert_eq!(source.code.len(), text.len());
    let words: Vec<_> = source.code.split_whitespace().collect();
    let last = ["let", "g:", "&'h", "str", "=", "r#\"", "\"#;"];
    assert_eq!(words[words.len() - last.len()..], last);
    assert!(!source.code.contains(['c', 'd', 'f', 'x']));
    assert_eq!(source.comments.len(), 2);
    for quote in ["b'\\''", "'\\u{1F600}'", "'\"'", "'é'"] {
        assert!(
            Source::new(&format!("f({quote}, unsafe)"))
                .words("unsafe")
                .len()
                == 1,
            "{quote}"
        );
    }
}
