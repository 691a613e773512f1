//! The figures of a run, and the forms they are printed in.

use super::limits::Measured;
use super::measure::{Samples, Test};
use super::profile;
use quant::{Isa, KvType};
use serde_json::{Value, json};

/// The forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A table for people
    Md,
    /// One array of objects, with llama-bench's names
    Json,
    /// Comma-separated, one line a test
    Csv,
}

/// One test of one configuration, measured.
pub(super) struct Entry {
    pub(super) model: String,
    pub(super) model_type: String,
    pub(super) model_bytes: u64,
    pub(super) n_params: u64,
    pub(super) n_threads: usize,
    pub(super) n_batch: usize,
    pub(super) n_ubatch: usize,
    pub(super) type_k: KvType,
    pub(super) type_v: KvType,
    pub(super) isa: Isa,
    pub(super) cpu: String,
    pub(super) test: Test,
    pub(super) samples: Samples,
    pub(super) limits: Option<Measured>,
}

/// Figures of an [`Entry`].
struct Figures {
    samples_ts: Vec<f64>,
    avg_ts: f64,
    stddev_ts: f64,
    best_ts: f64,
    avg_ns: f64,
    stddev_ns: f64,
    cpu_s_per_token: Option<f64>,
    j_per_token: Option<f64>,
    /// Decode alone: bytes read a second in the best token, and the part of the limit.
    read: Option<(f64, Option<f64>)>,
    /// Prefill alone: operations a second in the best repetition, and the part of the limit.
    operations: Option<(f64, Option<f64>)>,
}

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len().max(1) as f64
}

/// Standard deviation of a sample; 0 for a single value.
fn deviation(x: &[f64]) -> f64 {
    let m = mean(x);
    let n = x.len().saturating_sub(1).max(1) as f64;
    (x.iter().map(|v| (v - m).powi(2)).sum::<f64>() / n).sqrt()
}

impl Entry {
    fn figures(&self) -> Figures {
        let n = self.test.n_tokens() as f64;
        let ns: Vec<f64> = self.samples.times.iter().map(|t| t.as_nanos() as f64).collect();
        let ts: Vec<f64> = ns.iter().map(|t| n * 1e9 / t).collect();
        let all = n * ns.len() as f64;
        let best = ts.iter().copied().fold(0.0, f64::max);
        let limit = |part: f64, of: Option<f64>| of.map(|of| part / of);
        let read = self.samples.best_token.filter(|_| self.test.n_prompt == 0).map(|token| {
            let speed = self.samples.bytes_per_token as f64 / token.as_secs_f64();
            (speed, limit(speed, self.limits.map(|l| l.bandwidth)))
        });
        let operations = (self.test.n_gen == 0).then(|| {
            let speed = self.samples.operations_per_token as f64 * best;
            (speed, limit(speed, self.limits.and_then(|l| l.peak)))
        });
        Figures {
            avg_ts: mean(&ts),
            stddev_ts: deviation(&ts),
            best_ts: best,
            avg_ns: mean(&ns),
            stddev_ns: deviation(&ns),
            samples_ts: ts,
            cpu_s_per_token: self.samples.cpu.map(|t| t.as_secs_f64() / all),
            j_per_token: self.samples.joules.map(|j| j / all),
            read,
            operations,
        }
    }

    fn json(&self) -> Value {
        let f = self.figures();
        let percent = |part: Option<f64>| part.map(|p| 100.0 * p);
        json!({
            "build_version": env!("CARGO_PKG_VERSION"),
            "cpu_info": self.cpu,
            "isa": self.isa.name(),
            "model_filename": self.model,
            "model_type": self.model_type,
            "model_size": self.model_bytes,
            "model_n_params": self.n_params,
            "n_batch": self.n_batch,
            "n_ubatch": self.n_ubatch,
            "n_threads": self.n_threads,
            "type_k": self.type_k.to_string(),
            "type_v": self.type_v.to_string(),
            "n_prompt": self.test.n_prompt,
            "n_gen": self.test.n_gen,
            "n_depth": self.test.n_depth,
            "avg_ns": f.avg_ns as u64,
            "stddev_ns": f.stddev_ns as u64,
            "avg_ts": f.avg_ts,
            "stddev_ts": f.stddev_ts,
            "best_ts": f.best_ts,
            "best_token_ns": self.samples.best_token.map(|t| t.as_nanos() as u64),
            "samples_ns": self.samples.times.iter().map(|t| t.as_nanos() as u64).collect::<Vec<_>>(),
            "samples_ts": f.samples_ts,
            "bytes_per_token": self.samples.bytes_per_token,
            "read_bytes_per_second": f.read.map(|r| r.0),
            "bandwidth_percent": percent(f.read.and_then(|r| r.1)),
            "operations_per_token": self.samples.operations_per_token,
            "operations_per_second": f.operations.map(|o| o.0),
            "peak_percent": percent(f.operations.and_then(|o| o.1)),
            "cpu_s_per_token": f.cpu_s_per_token,
            "j_per_token": f.j_per_token,
            "profile": self.samples.profile.as_ref().map(profile::json),
        })
    }

    /// Cells of the table for people.
    fn cells(&self) -> Vec<String> {
        let f = self.figures();
        let part = |p: Option<f64>| p.map_or(String::new(), |p| format!(" ({:.0} %)", 100.0 * p));
        let mut cells = vec![
            self.model.clone(),
            format!("{:.1} MiB", self.model_bytes as f64 / f64::from(1 << 20)),
            self.n_threads.to_string(),
            self.isa.name().into(),
            format!("{}/{}", self.type_k, self.type_v),
            self.test.name(),
            format!("{:.2} ± {:.2}", f.avg_ts, f.stddev_ts),
            format!("{:.2}", f.best_ts),
        ];
        cells.push(match (f.read, f.operations) {
            (Some((speed, of)), _) => format!("{:.2} GB/s{}", speed * 1e-9, part(of)),
            (None, Some((speed, of))) => format!("{:.0} GOP/s{}", speed * 1e-9, part(of)),
            (None, None) => String::new(),
        });
        cells.push(f.cpu_s_per_token.map_or(String::new(), |s| format!("{:.2} ms", 1e3 * s)));
        cells.push(f.j_per_token.map_or("-".into(), |j| format!("{j:.3}")));
        cells
    }
}

const COLUMNS: [&str; 11] = [
    "model",
    "size",
    "threads",
    "isa",
    "kv",
    "test",
    "t/s",
    "best t/s",
    "best (of limit)",
    "CPU/token",
    "J/token",
];

/// All entries in one form.
pub(super) fn render(entries: &[Entry], format: Format) -> String {
    match format {
        Format::Md => {
            let rows: Vec<_> = entries.iter().map(Entry::cells).collect();
            let profiles = entries.iter().filter_map(|e| {
                let table = profile::table(e.samples.profile.as_ref()?);
                Some(format!("\n{}, {}:\n\n{table}", e.model, e.test.name()))
            });
            table(&COLUMNS, &rows) + &profiles.collect::<String>()
        }
        Format::Json => {
            let all: Vec<Value> = entries.iter().map(Entry::json).collect();
            format!("{:#}\n", Value::Array(all))
        }
        Format::Csv => csv(entries),
    }
}

/// A Markdown table with columns of even width.
pub(in crate::cli) fn table<S: AsRef<str>>(head: &[S], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().map(|r| r[i].chars().count());
        cells.chain([head[i].as_ref().chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(c, &w)| format!(" {c:w$} |"));
        format!("|{}\n", padded.collect::<String>())
    };
    let rule: Vec<String> = widths.iter().map(|&w| "-".repeat(w)).collect();
    let mut out = line(&mut head.iter().map(AsRef::as_ref));
    out += &line(&mut rule.iter().map(String::as_str));
    for row in rows {
        out += &line(&mut row.iter().map(String::as_str));
    }
    out
}

/// The scalar fields of the JSON form, quoted.
fn csv(entries: &[Entry]) -> String {
    let mut out = String::new();
    for (i, entry) in entries.iter().enumerate() {
        let json = entry.json();
        let Value::Object(fields) = &json else { continue };
        let scalar = fields.iter().filter(|(k, v)| !v.is_array() && *k != "profile");
        let quote = |s: &str| format!("\"{}\"", s.replace('"', "\"\""));
        if i == 0 {
            let names: Vec<&str> = scalar.clone().map(|(k, _)| k.as_str()).collect();
            out += &(names.join(",") + "\n");
        }
        let cells = scalar.map(|(_, v)| match v {
            Value::String(s) => quote(s),
            Value::Null => quote(""),
            other => quote(&other.to_string()),
        });
        out += &(cells.collect::<Vec<_>>().join(",") + "\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn entry(n_prompt: usize, n_gen: usize) -> Entry {
        Entry {
            model: "m \"x\".gguf".into(),
            model_type: "llama Q4_0".into(),
            model_bytes: 3 << 20,
            n_params: 5,
            n_threads: 2,
            n_batch: 2048,
            n_ubatch: 512,
            type_k: KvType::F16,
            type_v: KvType::F16,
            isa: Isa::Scalar,
            cpu: "a CPU".into(),
            test: Test { n_prompt, n_gen, n_depth: 0 },
            samples: Samples {
                times: vec![Duration::from_millis(500), Duration::from_millis(250)],
                best_token: (n_gen > 0).then_some(Duration::from_millis(10)),
                cpu: Some(Duration::from_secs(1)),
                joules: None,
                bytes_per_token: 1_000_000,
                operations_per_token: 1000,
                profile: None,
            },
            limits: Some(Measured { bandwidth: 2e8, peak: None }),
        }
    }

    #[test]
    fn json_has_the_names_and_the_figures_of_llama_bench() {
        let json = entry(0, 10).json();
        assert_eq!(json["n_gen"], 10);
        assert_eq!(json["samples_ns"], json!([500_000_000, 250_000_000]));
        assert_eq!((json["avg_ts"].as_f64(), json["best_ts"].as_f64()), (Some(30.0), Some(40.0)));
        assert!((json["stddev_ts"].as_f64().unwrap() - 200f64.sqrt()).abs() < 1e-9);
        // 1 MB in 10 ms is half of 200 MB/s; 1 s of processor time for 20 tokens.
        assert_eq!(json["bandwidth_percent"].as_f64(), Some(50.0));
        assert_eq!(json["cpu_s_per_token"].as_f64(), Some(0.05));
        assert!(json["operations_per_second"].is_null());
        let json = entry(10, 0).json();
        assert_eq!(json["operations_per_second"].as_f64(), Some(40_000.0));
        assert!(json["bandwidth_percent"].is_null() && json["peak_percent"].is_null());
    }

    #[test]
    fn csv_has_one_head_and_quotes_what_needs_it() {
        let text = render(&[entry(4, 0), entry(0, 4)], Format::Csv);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("build_version,cpu_info,isa,model_filename"));
        assert!(lines[1].contains("\"m \"\"x\"\".gguf\""));
        assert_eq!(lines[0].split(',').count(), lines[2].split("\",\"").count());
    }

    #[test]
    fn tables_are_aligned() {
        let text = table(&["a", "long"], &[vec!["xyz".into(), "é".into()]]);
        assert_eq!(text, "| a   | long |\n| --- | ---- |\n| xyz | é    |\n");
    }
}
