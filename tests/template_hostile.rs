//! Chat templates that want to hurt the process: each must end soon, in little memory, and leave
//! later renderings alone. The set `templates/hostile.json` below `PUMICE_GOLDENS` (a copy without
//! its largest case in `tests/data/templates`), and more.

use pumice::text::template::{ChatTemplate, RenderInput};
use serde_json::Value;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The tests measure the memory of the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn hostile() -> Value {
    let folder = match std::env::var_os("PUMICE_GOLDENS") {
        Some(dir) => Path::new(&dir).join("templates"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates"),
    };
    serde_json::from_slice(&std::fs::read(folder.join("hostile.json")).expect("hostile.json"))
        .expect("JSON")
}

/// The largest resident set of this process so far in MiB, where the system tells.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

#[test]
fn hostile_templates_end_within_their_limits() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = hostile();
    let seconds = file["limits"]["seconds"].as_u64().expect("seconds");
    let memory = file["limits"]["memory_mb"].as_u64().expect("memory");
    let chat =
        ChatTemplate::new("{% for m in messages %}{{ m.role ~ ': ' ~ m.content }}{% endfor %}")
            .expect("a template");
    for case in file["cases"].as_array().expect("cases") {
        let source = case["template"].as_str().expect("a template");
        let input = RenderInput::from_json(&case["input"]).expect("an input");
        let start = Instant::now();
        let got = ChatTemplate::new(source).and_then(|t| t.render(&input));
        let took = start.elapsed();
        println!(
            "{:24} {took:9.2?}  peak {:?} MiB  {}",
            case["label"].to_string(),
            peak_mib(),
            match &got {
                Ok(s) => format!("rendered {} bytes", s.len()),
                Err(e) => e.to_string(),
            }
        );
        assert_eq!(got.is_err(), case["must_fail"].as_bool().expect("a flag"), "{}", case["label"]);
        assert!(took < Duration::from_secs(seconds), "{} took {took:?}", case["label"]);
        assert!(
            peak_mib().is_none_or(|m| m < memory),
            "{} took {:?} MiB",
            case["label"],
            peak_mib()
        );
        assert_eq!(chat.render(&input).as_deref(), Ok("user: Hello"), "after {}", case["label"]);
    }
}

/// Ways to hurt the process that the goldens do not try.
#[test]
fn more_hostile_templates_end() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let chat = ChatTemplate::new("{{ messages[0].content }}").expect("a template");
    let input = RenderInput::new(serde_json::json!([{"role": "user", "content": "Hello"}]));
    let blocks = format!("{}{}", "{% if true %}".repeat(20_000), "{% endif %}".repeat(20_000));
    for (source, must_fail) in [
        (blocks.as_str(), true),
        (
            "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
            true,
        ),
        (
            "{% set ns = namespace(l=(1,)) %}{% for i in range(90000) %}{% set ns.l = (ns.l, 1) %}{% endfor %}",
            true,
        ),
        (
            "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
            true,
        ),
        (
            "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l | tojson }}",
            true,
        ),
        (
            "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
            true,
        ),
        (
            "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
            true,
        ),
        (
            "{% set l = [] %}{% for i in range(300) %}{% set _ = l.append(l) %}{% endfor %}{{ l }}",
            true,
        ),
        ("{% set l = [1] %}{% for i in range(64) %}{% set _ = l.extend(l) %}{% endfor %}", true),
        (
            "{% set ns = namespace(p=0) %}{% for i in range(60000) %}{% set n = namespace(p=ns.p) %}{% set ns.p = n %}{% endfor %}done",
            false,
        ),
        ("{% set l = ['x' * 1000] * 100000 %}{{ l | join(',') }}", true),
        (
            "{{ ('a' * 200000) | list | unique | list }}{{ range(90000) | unique | list | length }}",
            false,
        ),
        (
            "{% set l = [] %}{% for i in range(30000) %}{% set _ = l.append([i]) %}{% endfor %}{{ l | unique | list | length }}",
            true,
        ),
        (
            "{% set s = 'a' * 100000 %}{% for i in range(90000) %}{% if s in s ~ s %}{% endif %}{% endfor %}",
            true,
        ),
        (
            "{{ {'a': 1} | tojson(indent='x' * 10000000) }}{{ 'a\n' * 100000 | indent(100000) }}",
            true,
        ),
        ("{{ 'x'.ljust(10 ** 12) }}", true),
        ("{{ [1, [2, 3]] | tojson(separators=['y' * 30000000, 'z' * 30000000]) }}", true),
        ("{% macro a(n) %}{{ a(n + 1) }}{% endmacro %}{{ a(0) }}", true),
        ("{{ ('1' * 1000000) | int }}{{ ('[' * 1000000) | from_json }}", true),
    ] {
        let start = Instant::now();
        let got = ChatTemplate::new(source).and_then(|t| t.render(&input));
        let took = start.elapsed();
        println!(
            "{took:9.2?}  peak {:?} MiB  {:.90}",
            peak_mib(),
            got.as_ref().map_or_else(ToString::to_string, |s| format!("{} bytes", s.len()))
        );
        assert_eq!(got.is_err(), must_fail, "{source}");
        assert!(took < Duration::from_secs(2), "{source} took {took:?}");
        assert!(peak_mib().is_none_or(|m| m < 256), "{source} took {:?} MiB", peak_mib());
        assert_eq!(chat.render(&input).as_deref(), Ok("Hello"));
    }
}

/// Damaged templates compile or fail, render or fail, and nothing else.
#[test]
fn mutated_templates_never_panic() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates");
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut compiled, mut rendered, mut runs) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).expect("the copies") {
        let path = entry.expect("an entry").path();
        if path.ends_with("hostile.json") {
            continue;
        }
        let file: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        let source: Vec<char> = file["template"].as_str().expect("a template").chars().collect();
        let cases = file["cases"].as_array().expect("cases");
        for _ in 0..150 {
            let mut mutated = source.clone();
            for _ in 0..1 + next(3) {
                let at = next(mutated.len());
                let end = (at + next(12)).min(mutated.len());
                match next(4) {
                    0 => drop(mutated.drain(at..end)),
                    1 => mutated.insert(at, source[next(source.len())]),
                    2 => {
                        mutated[at] = ['(', ']', '{', '}', '%', '|', '~', '-', '0', '\''][next(10)]
                    }
                    _ => {
                        let from = next(source.len());
                        let piece: Vec<char> =
                            source[from..(from + next(40)).min(source.len())].to_vec();
                        mutated.splice(at..end, piece);
                    }
                }
            }
            runs += 1;
            let mutated: String = mutated.into_iter().collect();
            let input =
                RenderInput::from_json(&cases[next(cases.len())]["input"]).expect("an input");
            let template = ChatTemplate::new(&mutated);
            compiled += usize::from(template.is_ok());
            let got = template.and_then(|t| t.render(&input));
            rendered += usize::from(got.is_ok());
            assert!(!got.is_err_and(|e| e.to_string().contains("panicked")), "{mutated}");
        }
    }
    println!("{runs} mutations: {compiled} compiled, {rendered} rendered");
    assert!(compiled > runs / 10 && compiled < runs, "{compiled} of {runs}");
}
