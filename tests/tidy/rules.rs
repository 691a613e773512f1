//! The rules, as data and as functions from a file to what is wrong in it. Nothing here reads the disk.

use super::source::Source;

/// A file of the tree: its path from the root with `/`, and its text.
pub(crate) struct File<'a> {
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    pub(crate) source: &'a Source,
}

/// What breaks a rule: `path:line: message`.
pub(crate) type Findings = Vec<String>;

/// Lines a Rust file may have.
pub(crate) const MAX_LINES: usize = 700;
/// Data tables that may be longer.
pub(crate) const LONG_TABLES: &[&str] = &[];
/// Bytes a file of test data may have.
pub(crate) const MAX_DATA_BYTES: u64 = 300 * 1024;

/// The crates from the top down, by folder and by the name that code uses. Each may import those below it.
pub(crate) const CRATES: &[(&str, &str)] =
    &[("", "pumice"), ("models/", "models"), ("quant/", "quant"), ("formats/", "formats")];

/// What a room may not use: (files that begin with this, word of the code, why).
const NOT_HERE: &[(&str, &str, &str)] = &[
    ("formats/src/", "std::thread", "formats has no threads"),
    ("formats/src/", "rayon", "formats has no threads"),
    ("quant/src/", "std::thread", "quant has no threads"),
    ("quant/src/", "rayon", "quant has no threads"),
    ("quant/src/", "std::fs", "quant knows no files"),
    ("quant/src/", "memmap2", "quant knows no files"),
    ("models/src/", "std::net", "models has no sockets"),
    ("models/src/", "minijinja", "models has no text"),
    ("models/src/", "tokenizers", "models has no text"),
    ("src/cli/", "Row", "the engine alone makes the rows of a step"),
    ("src/session.rs", "Row", "the engine alone makes the rows of a step"),
];

/// What an architecture's file may import of its own crate: the vocabulary, the values it is filled from (those
/// that old files leave to guessing are in quirks), and the error of a file that lacks one.
const ARCH_IMPORTS: &[&str] = &["spec", "hparams", "quirks", "error", "arch"];

/// Where `unsafe` may stand.
const UNSAFE_ROOMS: &[&str] = &[
    "formats/src/map.rs",
    "quant/src/block.rs",
    "quant/src/isa/",
    "quant/src/types/",
    "quant/src/attend/",
    "quant/src/packed/",
    "quant/src/bf16.rs",
    "quant/src/vector/",
    "quant/src/act.rs",
    "quant/src/float.rs",
    "quant/src/gemm.rs",
    "quant/src/out.rs",
    "quant/src/panel.rs",
    "quant/src/span.rs",
    "quant/src/table.rs",
    "quant/src/tile.rs",
    // The team's workers take disjoint parts of shared buffers here.
    "models/src/device/",
    "models/src/ops/",
    "models/src/context.rs",
    "models/src/context/",
    "models/src/exec.rs",
    "models/src/state/",
    "models/src/team/",
    "quant/src/tests.rs",
    "quant/src/tests/",
    "quant/tests/",
    "quant/benches/",
    "formats/tests/",
    "models/tests/",
];

/// Where tensor types are told apart.
const TYPE_ROOMS: &[&str] =
    &["quant/src/table.rs", "quant/src/types/", "formats/src/types.rs", "src/convert/"];

/// Names of architectures as `general.architecture` gives them.
const ARCHITECTURES: &str = "afmoe apertus arcee arctic baichuan bailingmoe bailingmoe2 bert bitnet bloom \
    chatglm codeshell cogvlm cohere2 command-r dbrx deci deepseek deepseek2 dots1 dream ernie4_5 \
    ernie4_5-moe exaone exaone4 falcon falcon-h1 gemma gemma2 gemma3 gemma3n gemma4 gemma-embedding glm4 \
    glm4moe gpt2 gptj gptneox gpt-oss granite granitehybrid granitemoe grok grovemoe hunyuan-dense \
    hunyuan-moe internlm2 jais jamba jina-bert-v2 kimi-linear lfm2 lfm2moe llada llada-moe llama llama4 \
    mamba mamba2 minicpm minicpm3 minimax-m2 modern-bert mpt nemotron nemotron_h neo-bert nomic-bert \
    nomic-bert-moe olmo olmo2 olmoe openelm orion phi2 phi3 phimoe plamo plamo2 plm qwen qwen2 qwen2moe \
    qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next qwen3vl qwen3vlmoe refact rwkv6 rwkv6qwen2 rwkv7 arwkv7 \
    seed_oss smallthinker smollm3 stablelm starcoder starcoder2 t5 t5encoder wavtokenizer-dec xverse";

/// Where the same words mean something else: names of tokenizers and of their splits, models of the
/// catalogue, forms of templates and of answers.
const NAME_ROOMS: &[&str] = &[
    "models/src/arch/",
    "src/text/tokenizer/",
    "src/text/template/fallback.rs",
    "src/text/parse/format.rs",
    "src/hub/",
    "src/synth/",
    "src/convert/",
];

/// Texts that no tracked file may hold. In two halves, so that this file does not hold them either.
const FORBIDDEN_TEXTS: &[(&str, &str, &str)] = &[
    ("/wo", "rk/", "a path of one machine"),
    ("/ro", "ot/", "a path of one machine"),
    ("/fa", "rm/", "a path of one machine"),
    ("/tmp/bash_", "jobs", "a path of one machine"),
    ("py", "pi.org", "the host of a registry"),
    ("python", "hosted.org", "the host of a registry"),
    ("static.cra", "tes.io", "the host of a registry"),
    ("index.cra", "tes.io", "the host of a registry"),
    ("registry.npm", "js.org", "the host of a registry"),
    ("proxy.gol", "ang.org", "the host of a registry"),
    ("deb.deb", "ian.org", "the host of a registry"),
];

/// Words that mark unfinished work, in two halves.
const UNFINISHED: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME"), ("XX", "X")];

fn starts(path: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| path.starts_with(room))
}

fn at(file: &File<'_>, line: usize, message: &str) -> String {
    format!("{}:{}: {message}", file.path, line + 1)
}

/// Whether the file is part of a library or the binary, rather than of the tests, a bench or an example. A
/// crate's own test modules are called `tests`, `testing` or `tests_of_…`.
fn is_product(path: &str) -> bool {
    let tests = path.rsplit('/').any(|part| {
        ["tests", "tests.rs", "testing.rs"].contains(&part) || part.starts_with("tests_")
    });
    (path.starts_with("src/") || path.contains("/src/")) && !tests
}

/// The crate a file belongs to, as an index of [`CRATES`].
fn crate_of(path: &str) -> usize {
    CRATES.iter().rposition(|(folder, _)| path.starts_with(folder)).unwrap_or(0)
}

/// Imports between crates go down only, in code.
pub(crate) fn imports_go_down(file: &File<'_>) -> Findings {
    let own = crate_of(file.path);
    let mut found = Vec::new();
    for (_, name) in &CRATES[..own] {
        for (line, column) in file.source.words(name) {
            let text = file.source.code.lines().nth(line).unwrap_or("");
            let (before, after) = (&text[..column], &text[column + name.len()..]);
            // `crate::models::x` or `self.models` is something of the crate itself.
            let inner = before.ends_with("::") || before.ends_with('.');
            if !inner && after.starts_with("::") {
                found.push(at(file, line, &format!("{} may not import {name}", CRATES[own].1)));
            }
        }
    }
    found
}

/// Imports between crates go down only, in a manifest (`path` of the `Cargo.toml`).
pub(crate) fn manifest_goes_down(path: &str, text: &str) -> Findings {
    let own = crate_of(path);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let key = line.split(['=', '.', ' ']).next().unwrap_or("");
        let above = |(_, name): &&(&str, &str)| {
            key == *name
                || key == format!("pumice-{name}")
                || line.contains(&format!("path = \"../{name}\""))
        };
        if own > 0 && CRATES[..own].iter().any(|c| above(&c)) {
            found.push(format!("{path}:{}: {} may not depend on this", number + 1, CRATES[own].1));
        }
    }
    found
}

/// Rooms keep to what they are for.
pub(crate) fn rooms_keep_out(file: &File<'_>) -> Findings {
    let mut found = Vec::new();
    for (_, word, why) in NOT_HERE.iter().filter(|(room, ..)| file.path.starts_with(room)) {
        let lines = file.source.words(word).into_iter().map(|(line, _)| line);
        found.extend(lines.filter(|l| *l < file.source.tests_from).map(|l| at(file, l, why)));
    }
    if file.path.starts_with("models/src/arch/") {
        for (line, text) in file.source.code.lines().enumerate().take(file.source.tests_from) {
            for (place, _) in text.match_indices("crate::") {
                let module: String = text[place + 7..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if !module.is_empty() && !ARCH_IMPORTS.contains(&module.as_str()) {
                    found.push(at(file, line, &format!("arch/ may not import {module}")));
                }
            }
        }
    }
    found
}

/// No architecture's name outside the registry.
pub(crate) fn no_architecture_names(file: &File<'_>) -> Findings {
    if !is_product(file.path) || starts(file.path, NAME_ROOMS) {
        return vec![];
    }
    let product = file.source.strings.iter().filter(|(line, _)| *line < file.source.tests_from);
    product
        .filter(|(_, text)| ARCHITECTURES.split_whitespace().any(|name| name == text))
        .map(|(line, text)| {
            at(file, *line, &format!("the architecture {text} is named outside the registry"))
        })
        .collect()
}

/// Files stay short enough to be read.
pub(crate) fn short_enough(file: &File<'_>) -> Findings {
    let lines = file.text.lines().count();
    if lines <= MAX_LINES || LONG_TABLES.contains(&file.path) {
        return vec![];
    }
    vec![format!("{}: {lines} lines, expected at most {MAX_LINES}", file.path)]
}

/// `unsafe` only where it belongs, each use with its reason.
pub(crate) fn unsafe_is_confined_and_explained(file: &File<'_>) -> Findings {
    let mut found = Vec::new();
    let lines: Vec<&str> = file.source.code.lines().collect();
    for (line, column) in file.source.words("unsafe") {
        if !starts(file.path, UNSAFE_ROOMS) {
            found.push(at(file, line, "unsafe may not stand in this file"));
            continue;
        }
        let mut after = lines[line][column + 6..].trim_start().to_owned();
        if after.is_empty() {
            after = lines.get(line + 1).unwrap_or(&"").trim_start().to_owned();
        }
        let function = after.starts_with("fn ") || after.starts_with("extern ");
        if after.starts_with('{') || after.starts_with("impl") {
            if !explained(file.source, &lines, line) {
                found.push(at(file, line, "unsafe without a SAFETY comment next to it"));
            }
        } else if function && !contract_stated(file.source, &lines, line) {
            found.push(at(
                file,
                line,
                "unsafe fn without a `# Safety` section in its documentation",
            ));
        }
    }
    found
}

/// Whether a SAFETY comment stands on the line, or above it with nothing but the same statement between.
fn explained(source: &Source, lines: &[&str], line: usize) -> bool {
    let mut at = line;
    loop {
        if source.comment_has(at, "SAFETY:") {
            return true;
        }
        if at == 0 {
            return false;
        }
        at -= 1;
        let above = lines[at].trim_end();
        let ends_statement = above.ends_with([';', '}']) || above.trim().is_empty();
        if ends_statement && !source.has_comment(at) || line - at > 12 {
            return false;
        }
    }
}

/// Whether the contract of the unsafe function on `line` is stated: in its own documentation; or it implements
/// a trait, which states it; or in that of the trait that holds it; or, if it is not public, in that of the
/// module; or, if it is private, in that of the entry of its file, which alone leads to it.
fn contract_stated(source: &Source, lines: &[&str], line: usize) -> bool {
    let mut at = line;
    while at > 0 && (source.has_comment(at - 1) || lines[at - 1].trim_start().starts_with("#[")) {
        at -= 1;
        if source.comment_has(at, "# Safety") {
            return true;
        }
    }
    let head = lines[line].trim_start();
    let (public, private) = (head.starts_with("pub "), !head.starts_with("pub"));
    let holder = enclosing(lines, line);
    let is_impl = holder.is_some_and(|h| {
        lines[h].contains("impl") && lines[h..].iter().take(3).any(|l| l.contains(" for "))
    });
    if is_impl {
        return true;
    }
    let trait_says = holder.is_some_and(|h| {
        (0..h)
            .rev()
            .take_while(|l| source.has_comment(*l) || lines[*l].trim_start().starts_with("#["))
            .any(|l| source.comment_has(l, "# Safety"))
    });
    // A module may also state it where it says why bodies need no blocks of their own.
    let reason = |text: &str| text.contains("contract") && !text.contains('\n');
    let module_says =
        source.comments.iter().any(|(_, c)| c.starts_with("//!") && c.contains("# Safety"))
            || source.words("unsafe_op_in_unsafe_fn").iter().any(|(line, _)| {
                source.strings.iter().any(|(at, s)| (*line..line + 4).contains(at) && reason(s))
            });
    let entry_says = source.comments.iter().any(|(_, c)| c.contains("# Safety"));
    trait_says || (module_says && !public) || (entry_says && private)
}

/// The line that opens the block around `line`, if it is not the file.
fn enclosing(lines: &[&str], line: usize) -> Option<usize> {
    let mut depth = 0i32;
    (0..line).rev().find(|&l| {
        for c in lines[l].chars().rev() {
            depth += match c {
                '}' => 1,
                '{' => -1,
                _ => 0,
            };
            if depth < 0 {
                return true;
            }
        }
        false
    })
}

/// The product's crate forbids `unsafe` altogether.
pub(crate) fn product_forbids_unsafe(file: &File<'_>) -> Findings {
    let is_root = file.path == "src/lib.rs" || file.path == "src/main.rs";
    if is_root && !file.source.code.contains("#![forbid(unsafe_code)]") {
        return vec![format!("{}: expected #![forbid(unsafe_code)]", file.path)];
    }
    vec![]
}

/// Nothing unfinished is left.
pub(crate) fn nothing_unfinished(file: &File<'_>) -> Findings {
    let mut found = Vec::new();
    for (a, b) in UNFINISHED {
        let mark = format!("{a}{b}");
        let comments = file.source.comments.iter().map(|(line, text)| (line, text));
        for (line, text) in
            comments.chain(file.source.strings.iter().map(|(line, text)| (line, text)))
        {
            let part = |c: char| c.is_alphanumeric() || c == '_';
            let alone = text.match_indices(&mark).any(|(i, _)| {
                !text[..i].ends_with(part) && !text[i + mark.len()..].starts_with(part)
            });
            if alone {
                found.push(at(file, *line, "a mark of unfinished work"));
            }
        }
    }
    for name in ["dbg", "todo", "unimplemented"] {
        for (line, column) in file.source.words(name) {
            let text = file.source.code.lines().nth(line).unwrap_or("");
            if text[column + name.len()..].starts_with('!') {
                found.push(at(file, line, &format!("{name}! is left in the code")));
            }
        }
    }
    found
}

/// Tensor types are told apart in the tables alone.
pub(crate) fn no_type_switch(file: &File<'_>) -> Findings {
    if !is_product(file.path) || starts(file.path, TYPE_ROOMS) {
        return vec![];
    }
    let mut found = Vec::new();
    let code = &file.source.code;
    for (place, name) in code.match_indices("TensorType::") {
        let after = &code[place + name.len()..];
        let variant: String =
            after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !variant.starts_with(|c: char| c.is_uppercase()) || variant == "ALL" {
            continue;
        }
        // An arm: the variant, perhaps others or a guard, then `=>`, before anything else ends.
        let tail = after[variant.len()..].trim_start();
        let arm = tail.starts_with("=>") || tail.starts_with('|') || tail.starts_with("if ");
        let line = code[..place].matches('\n').count();
        let statement = &code[code[..place].rfind([';', '{', '}']).map_or(0, |i| i + 1)..place];
        if (arm || statement.contains("matches!(")) && line < file.source.tests_from {
            found.push(at(
                file,
                line,
                &format!("TensorType::{variant} is matched outside the type tables"),
            ));
        }
    }
    found
}

/// No path of a machine and no host of a registry, in any tracked text.
pub(crate) fn no_places(path: &str, text: &str) -> Findings {
    // The lock file names its registry; cargo writes it.
    if path == "Cargo.lock" {
        return vec![];
    }
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (a, b, what) in FORBIDDEN_TEXTS {
            let mark = format!("{a}{b}");
            let alone = line.match_indices(&mark).any(|(i, _)| {
                // A longer path or name that only ends alike is another one: `~/network/`.
                !line[..i].ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '}')
            });
            if alone {
                found.push(format!("{path}:{}: {what}", number + 1));
            }
        }
    }
    found
}

/// Test data stays small.
pub(crate) fn small_data(path: &str, bytes: u64) -> Findings {
    let data = path.starts_with("tests/data/") || path.contains("/tests/data/");
    if data && bytes > MAX_DATA_BYTES {
        return vec![format!("{path}: {bytes} bytes, expected at most {MAX_DATA_BYTES}")];
    }
    vec![]
}

/// The rules for Rust files.
pub(crate) const RULES: &[fn(&File<'_>) -> Findings] = &[
    imports_go_down,
    rooms_keep_out,
    no_architecture_names,
    short_enough,
    unsafe_is_confined_and_explained,
    product_forbids_unsafe,
    nothing_unfinished,
    no_type_switch,
];
