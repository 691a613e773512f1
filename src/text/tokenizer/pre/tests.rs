//! The hand-written matchers against the published patterns, run by a backtracking engine, and
//! their work on hostile text.

use serde_json::Value;

use super::table;
use super::{Pattern, pre};
use crate::text::tokenizer::count;

/// Names, flags and patterns as published.
const PUBLISHED: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizer/pretokenizers.json"));

fn published() -> Value {
    serde_json::from_str(PUBLISHED).unwrap()
}

/// One name of each pattern, with its published steps.
fn patterns() -> Vec<(String, Pattern, Vec<String>)> {
    let published = published();
    let names = published["names"].as_object().unwrap();
    let mut patterns = vec![];
    for (pattern, value) in published["patterns"].as_object().unwrap() {
        let (name, _) = names.iter().find(|(_, flags)| flags["pattern"] == **pattern).unwrap();
        let steps = value["steps"].as_array().unwrap().iter();
        let steps = steps.map(|s| s.as_str().unwrap().to_owned()).collect();
        patterns.push((pattern.clone(), pre(name).unwrap().pattern, steps));
    }
    patterns
}

#[test]
fn names_and_flags_are_the_published_ones() {
    let published = published();
    let names = published["names"].as_object().unwrap();
    for (name, flags) in names {
        let ours = pre(name).unwrap_or_else(|| panic!("{name} is unknown"));
        assert_eq!(flags["ignore_merges"], ours.ignore_merges(), "{name}");
        assert_eq!(flags["clean_spaces"], ours.clean_spaces(), "{name}");
        assert_eq!(flags["add_bos_default"], ours.add_bos(), "{name}");
        assert_eq!(flags["add_sep_default"], ours.add_sep(), "{name}");
        assert_eq!(flags["escape_whitespaces"], ours.escape_spaces(), "{name}");
        let forced = flags["add_bos_forced"].as_bool().unwrap_or(false);
        assert_eq!(forced, ours.force_bos(), "{name}");
    }
    assert!(table::names().all(|name| names.contains_key(name)));
    assert!(pre("no-such-name").is_none());
}

/// What a step of the published form makes of `text`.
fn split_by(regex: &fancy_regex::Regex, text: &str) -> Vec<String> {
    let (mut pieces, mut end) = (vec![], 0);
    for found in regex.find_iter(text) {
        let found = found.unwrap();
        pieces.push(text[end..found.start()].to_owned());
        pieces.push(found.as_str().to_owned());
        end = found.end();
    }
    pieces.push(text[end..].to_owned());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// A text of `n` parts that patterns treat differently, the same for the same seed.
fn mixture(seed: &mut u32, n: u32) -> String {
    const PARTS: &[&str] = &[
        "a",
        "B",
        "ab",
        "AB",
        "é",
        "É",
        "ǅ",
        "ʰ",
        "中",
        "々",
        "ア",
        "ㄅ",
        "한",
        "ㄱ",
        "ก",
        "ไ",
        "ក",
        "\u{301}",
        "\u{93e}",
        " ",
        " ",
        " ",
        "  ",
        "\u{a0}",
        "\u{3000}",
        "\t",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "1",
        "2",
        "34",
        "567",
        "٣",
        "²",
        "Ⅷ",
        "½",
        "'",
        "'s",
        "'S",
        "'ſ",
        "'ll",
        "'LL",
        "'Re",
        "'d",
        "'x",
        "’s",
        ".",
        ",",
        "!",
        "...",
        "/",
        "\\",
        "$",
        "+",
        "<",
        "=",
        "`",
        "|",
        "(",
        "「",
        "、",
        "！",
        "…",
        "—",
        "_",
        "-",
        "😀",
        "\u{200d}",
        "\u{200b}",
        "\u{0}",
        "\u{7f}",
        "\u{e000}",
        "<sentinel:12>",
        "<sentinel:>",
        "IMGIMGABZ",
        "IMGIMGABCDEZ",
        "\u{b}",
        "\u{85}",
        "\u{2028}",
    ];
    let mut next = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 8) as usize
    };
    (0..next() as u32 % n).map(|_| PARTS[next() % PARTS.len()]).collect()
}

#[test]
fn matchers_agree_with_the_published_patterns() {
    for (name, pattern, steps) in patterns() {
        let regexes: Vec<_> =
            steps.iter().map(|step| fancy_regex::Regex::new(step).unwrap()).collect();
        let mut seed = 7;
        for round in 0..1500 {
            let text = mixture(&mut seed, 4 + round / 50);
            let mut expected = vec![text.clone()];
            for regex in &regexes {
                expected = expected.iter().flat_map(|piece| split_by(regex, piece)).collect();
            }
            expected.retain(|piece| !piece.is_empty());
            let mut ours = vec![];
            pattern.split(&text, &mut |piece| ours.push(piece.to_owned()));
            assert_eq!(ours, expected, "{name} on {text:?}");
        }
    }
}

#[test]
fn hostile_text_takes_linear_work() {
    // A quadratic matcher would take 2^18 steps for a byte.
    const N_BYTES: usize = 1 << 18;
    const MOST_PER_BYTE: u64 = 64;
    for (name, pattern, _) in patterns() {
        for unit in
            ["a", "A", "中", "中A", " ", "\n", " \n", "7", "\u{301}", "!", "'", "a ", "<sentinel:1"]
        {
            let mut text = unit.repeat(N_BYTES / unit.len());
            // What ends a run decides how it is matched.
            for end in ["", "\n", "x"] {
                text.push_str(end);
                let mut n_bytes = 0;
                let steps = count::steps_of(|| {
                    pattern.split(&text, &mut |piece| n_bytes += piece.len());
                });
                assert_eq!(n_bytes, text.len());
                let most = MOST_PER_BYTE * n_bytes as u64;
                assert!(steps <= most, "{name} on {unit:?}..{end:?}: {steps} steps");
            }
        }
    }
}
