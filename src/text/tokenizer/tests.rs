//! The work of every kind of tokenizer on hostile text, and the stack that it takes.

use std::io::Read;
use std::path::Path;

use formats::Gguf;

use super::{Special, Tokenizer, count};

/// A small vocabulary of each kind.
fn vocabularies() -> Vec<Tokenizer> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizer");
    let load = |name: &str| {
        let file = std::fs::File::open(folder.join(format!("{name}.gguf.gz"))).unwrap();
        let mut bytes = vec![];
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
        Tokenizer::from_gguf(&Gguf::from_bytes(bytes).unwrap()).unwrap()
    };
    ["llama-spm", "tiny-bert", "tiny-t5", "tiny-rwkv", "tiny-plamo2"].map(load).into()
}

/// Units that are hard on one algorithm or another when they are repeated.
const UNITS: [&str; 14] = [
    "a", "ab", "A", "the", " ", " \n", "7", "\u{301}", "e\u{301}", "\u{93e}", "\u{2581}", "<",
    "한", "[UNK",
];

#[test]
fn hostile_text_takes_linear_work() {
    const MOST_PER_BYTE: u64 = 64;
    for t in vocabularies() {
        for unit in UNITS {
            let steps = |n: usize| {
                let text = unit.repeat(n);
                count::steps_of(|| drop(t.encode(&text, Special::Parse, true).unwrap()))
            };
            let n = (1 << 17) / unit.len();
            let (once, twice) = (steps(n), steps(2 * n));
            let kind = t.kind();
            assert!(twice <= 2 * once + once / 4 + 1000, "{kind} {unit:?}: {once}, {twice}");
            assert!(once <= MOST_PER_BYTE << 17, "{kind} {unit:?}: {once} steps");
        }
    }
}

#[test]
fn the_stack_does_not_grow_with_the_text() {
    let work = || {
        for t in vocabularies() {
            for unit in UNITS {
                let text = unit.repeat((1 << 20) / unit.len());
                assert!(t.encode(&text, Special::Parse, false).is_ok());
            }
        }
    };
    let small = std::thread::Builder::new().stack_size(256 << 10);
    small.spawn(work).unwrap().join().unwrap();
}
