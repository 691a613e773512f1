//! The report for people. Strings of the file are escaped: what a file says must not steer the
//! terminal.

use super::{Report, chosen, elements, endian, total};
use formats::Value;
use models::Estimate;
use std::fmt::{self, Write};

/// Characters of a string that are shown.
const SHOWN_CHARS: usize = 60;
/// Elements of an array that are shown.
const SHOWN_ELEMENTS: usize = 4;

impl Report {
    pub(super) fn text(&self) -> String {
        let mut s = String::new();
        self.write(&mut s).expect("a String takes all that is written to it");
        s
    }

    fn write(&self, s: &mut String) -> fmt::Result {
        self.file(s)?;
        self.metadata(s)?;
        self.tensors(s)?;
        if let Some(model) = &self.model {
            writeln!(s, "\nmodel")?;
            for line in model.spec().to_string().lines() {
                writeln!(s, "  {line}")?;
            }
        }
        if let Some(e) = &self.estimate {
            self.estimate(s, e)?;
        }
        if !self.problems.is_empty() {
            writeln!(s)?;
        }
        for problem in &self.problems {
            writeln!(s, "note: {}", plain(problem))?;
        }
        Ok(())
    }

    fn file(&self, s: &mut String) -> fmt::Result {
        let g = &self.gguf;
        if let Some(path) = g.path() {
            writeln!(s, "file          {}", plain(&path.display().to_string()))?;
        }
        let order = endian(g);
        writeln!(
            s,
            "format        GGUF v{}, {order}-endian, alignment {}",
            g.version(),
            g.alignment()
        )?;
        writeln!(s, "size          {}", bytes(g.file_bytes()))?;
        let arch = self.architecture().map_or("not given".into(), plain);
        writeln!(s, "architecture  {arch}")?;
        if let Some(bits) = self.bits_per_weight() {
            let count = count(self.n_parameters());
            writeln!(s, "parameters    {count}, {bits:.2} bits per weight")?;
        }
        if let Some(t) = &self.tokenizer {
            let special = |name: &str, id: Option<u32>, adds: bool| {
                let added = if adds { ", added" } else { "" };
                id.map_or(String::new(), |id| format!(", {name} {id}{added}"))
            };
            let bos = special("BOS", t.special().bos, t.adds().bos);
            let eos = special("EOS", t.special().eos, t.adds().eos);
            writeln!(s, "vocabulary    {}, {} tokens{bos}{eos}", plain(t.kind()), t.n_tokens())?;
        }
        Ok(())
    }

    fn metadata(&self, s: &mut String) -> fmt::Result {
        let metadata = self.gguf.metadata();
        writeln!(s, "\nmetadata, {} keys", metadata.len())?;
        let width = metadata.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0).min(48);
        for (key, value) in metadata.iter() {
            writeln!(s, "  {:width$}  {}", plain(key), shown(value))?;
        }
        Ok(())
    }

    fn tensors(&self, s: &mut String) -> fmt::Result {
        let tensors = self.gguf.tensors();
        writeln!(s, "\ntensors, {} (row length first)", tensors.len())?;
        let width = tensors.iter().map(|t| t.name.chars().count()).max().unwrap_or(0).min(48);
        for t in tensors {
            let dims: Vec<String> = t.dims.iter().map(u64::to_string).collect();
            let (name, shape) = (plain(&t.name), format!("[{}]", dims.join(", ")));
            writeln!(s, "  {name:width$}  {:7} {shape:20} {:>10}", t.ty, bytes(t.n_bytes))?;
        }
        if tensors.is_empty() {
            return Ok(());
        }
        writeln!(s, "\ntypes")?;
        for t in &self.totals {
            let (name, n, size) = (t.ty.name(), t.n_tensors, bytes(t.n_bytes));
            let elements = count(t.n_elements);
            writeln!(s, "  {name:7} {n:5} tensors {elements:>10} weights {size:>10}")?;
        }
        Ok(())
    }

    fn estimate(&self, s: &mut String, e: &Estimate) -> fmt::Result {
        let m = e.memory;
        writeln!(s, "\nmemory at a context of {} (-c), {} threads (-t)", e.n_ctx, e.n_threads)?;
        for (what, n) in [("weights", m.weights), ("cache", m.state), ("scratch", m.scratch)] {
            writeln!(s, "  {what:7} {:>10}", bytes(n))?;
        }
        write!(s, "  {:7} {:>10}", "total", bytes(total(e)))?;
        if let Some(limit) = models::device::memory_limit() {
            let verdict = if total(e) <= limit.bytes { "of" } else { "does not fit in" };
            write!(s, " {verdict} the {} that {} allows", bytes(limit.bytes), limit.source)?;
        }
        writeln!(s, "\n\nkernels, {}", self.isa.name())?;
        for (kernel, n) in chosen(&e.kernels) {
            let matrices = if n == 1 { "matrix" } else { "matrices" };
            writeln!(s, "  {:7} {} ({n} {matrices})", kernel.ty, kernel.kernel)?;
        }
        Ok(())
    }
}

/// A text of the file without what could steer a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            escaped.into_iter().flatten().chain((!c.is_control()).then_some(c))
        })
        .collect()
}

/// A value on one line, cut where it is long.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let head: String = text.chars().take(SHOWN_CHARS).collect();
            match text.len() - head.len() {
                0 => format!("{head:?}"),
                _ => format!("{head:?}… ({} bytes)", text.len()),
            }
        }
        Value::Array(a) => {
            let first: Vec<String> = elements(a, SHOWN_ELEMENTS).iter().map(shown).collect();
            let more = if a.len() > first.len() { ", …" } else { "" };
            format!("{} {}: [{}{more}]", a.len(), a.kind_name(), first.join(", "))
        }
        Value::F32(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        integer => integer.as_integer().map_or(String::new(), |v| v.to_string()),
    }
}

/// Bytes in the unit that suits them.
fn bytes(n: u64) -> String {
    scaled(n, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

/// A count in the unit that suits it.
fn count(n: u64) -> String {
    scaled(n, 1000.0, &["", "K", "M", "B", "T", "P", "E"]).trim_end().to_string()
}

fn scaled(n: u64, step: f64, units: &[&str]) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    match unit {
        0 => format!("{n} {}", units[0]),
        _ => format!("{value:.2} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_file_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\u{9b}é\n"), "a\\u{1b}[2Jb\\u{9b}é\\n");
        assert_eq!(shown(&Value::from("\x1b]0;x\x07")), r#""\u{1b}]0;x\u{7}""#);
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        assert_eq!(shown(&Value::from("é".repeat(60))), format!("{:?}", "é".repeat(60)));
        assert!(shown(&Value::from("é".repeat(61))).ends_with("… (122 bytes)"));
        assert_eq!(shown(&Value::from(vec![1u32, 2, 3, 4, 5])), "5 u32: [1, 2, 3, 4, …]");
        assert_eq!(shown(&Value::from(vec![0.1f32])), "1 f32: [0.1]");
    }

    #[test]
    fn sizes_have_fitting_units() {
        assert_eq!((bytes(1023), bytes(1024)), ("1023 B".into(), "1.00 KiB".into()));
        assert_eq!((count(999), count(134_515_008)), ("999".into(), "134.52 M".into()));
        assert_eq!(bytes(u64::MAX), "16.00 EiB");
    }
}
