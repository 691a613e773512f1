//! Speed of tokenizers: loading a vocabulary, encoding text, hostile text.
//!
//! `cargo bench --bench tokenizer -- FILE...` with GGUF files, also gzipped ones.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use formats::{Access, Gguf};
use pumice::text::tokenizer::{Special, Tokenizer};

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if files.is_empty() {
        eprintln!("usage: cargo bench --bench tokenizer -- FILE.gguf[.gz]...");
    }
    let text = text(4 << 20);
    for file in files {
        bench(Path::new(&file), &text);
    }
}

/// Time that this thread has run: on a busy machine it says more than the clock. (The clock where
/// the system does not tell; work of other threads is not in it.)
fn thread_time(start: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = stat.and_then(|s| s.split(' ').next().and_then(|ns| ns.parse().ok()));
    ns.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// The least time of a few runs of `work`.
fn best<R>(n_runs: u32, mut work: impl FnMut() -> R) -> Duration {
    let start = Instant::now();
    let run = |_| {
        let before = thread_time(start);
        std::hint::black_box(work());
        thread_time(start) - before
    };
    (0..n_runs).map(run).min().unwrap_or_default()
}

fn bench(path: &Path, text: &str) {
    let open = || match path.extension().is_some_and(|e| e == "gz") {
        true => {
            let mut bytes = vec![];
            let file = std::fs::File::open(path).expect("the file opens");
            flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
            Gguf::from_bytes(bytes).expect("a GGUF file")
        }
        false => Gguf::open(path, Access::Mmap).expect("a GGUF file"),
    };
    let file = open();
    let tokenizer = Tokenizer::from_gguf(&file).expect("a supported tokenizer");
    let load = best(10, || Tokenizer::from_gguf(&file));
    println!("{}: {} tokens", path.display(), tokenizer.n_tokens());
    println!("  load {:.1} ms", load.as_secs_f64() * 1e3);
    let start = Instant::now();
    let fresh = Tokenizer::from_gguf(&file).expect("a supported tokenizer");
    let ids = fresh.encode("Why is the sky blue?", Special::Parse, true).expect("ids");
    println!("  load and {} first ids {:.1} ms", ids.len(), start.elapsed().as_secs_f64() * 1e3);
    let encode = |text: &str| tokenizer.encode(text, Special::Parse, false).expect("ids").len();
    let n_ids = encode(text);
    let time = best(3, || encode(text)).as_secs_f64();
    println!("  text {:.1} MB/s ({n_ids} ids)", text.len() as f64 / 1e6 / time);
    let pieces = best(3, || tokenizer.pieces(text).len()).as_secs_f64();
    println!("  pieces {:.1} MB/s", text.len() as f64 / 1e6 / pieces);
    for (name, unit) in [
        ("a letter", "a"),
        ("spaces", " "),
        ("digits", "7"),
        ("combining marks", "\u{301}"),
        ("lines and spaces", " \n"),
        ("punctuation", "!"),
        ("letters and quotes", "a'"),
    ] {
        let [one, two] = [1 << 20, 1 << 21].map(|n| {
            let text = unit.repeat(n / unit.len());
            best(2, || encode(&text)).as_secs_f64() * 1e3
        });
        println!("  {name}: 1 MiB {one:.0} ms, 2 MiB {two:.0} ms");
    }
}

/// About `n` bytes of prose and code: this project's own sources, over and over.
fn text(n: usize) -> String {
    fn collect(folder: &Path, text: &mut String) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for path in entries.flatten().map(|e| e.path()) {
            let is_text = path.extension().is_some_and(|e| e == "rs" || e == "md");
            if path.is_dir() && !path.ends_with("target") {
                collect(&path, text);
            } else if is_text && let Ok(file) = std::fs::read_to_string(&path) {
                text.push_str(&file);
            }
        }
    }
    let mut once = String::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), &mut once);
    once.repeat(n / once.len().max(1) + 1)
}
