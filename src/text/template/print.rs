//! How Python prints: `str()`, `repr()` and `json.dumps`, with a limit on what is written.

use super::shade::{self, is_shaded, plain_char, shade_char};
use super::value::{Dict, List, Shape, charge, fail, room};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// A text under construction that refuses to grow beyond a limit.
pub(super) struct Out {
    /// What was written.
    pub(super) text: String,
    limit: usize,
    /// Work that left no text: walking values that hold each other many times over.
    walked: usize,
}

impl Out {
    /// An empty text of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Out {
        Out { text: String::new(), limit, walked: 0 }
    }

    /// An empty text limited by the render's remaining fuel.
    pub(super) fn fueled(state: &State<'_, '_>) -> Out {
        Out::new(room(state))
    }

    fn check(&self, more: usize) -> Result<(), Error> {
        if self.limit.saturating_sub(self.text.len() + self.walked) <= more {
            let what = "a text grows beyond the limit of a render";
            return Err(Error::new(ErrorKind::OutOfFuel, what));
        }
        Ok(())
    }

    /// Counts one value on the way.
    fn step(&mut self) -> Result<(), Error> {
        self.walked += 64;
        self.check(0)
    }

    /// Appends a text as it is.
    pub(super) fn push(&mut self, s: &str) -> Result<(), Error> {
        self.check(s.len())?;
        self.text.push_str(s);
        Ok(())
    }

    fn push_char(&mut self, c: char) -> Result<(), Error> {
        self.check(4)?;
        self.text.push(c);
        Ok(())
    }

    /// Appends what an engine adds around values: untrusted where the value came from the caller.
    fn mark(&mut self, s: &str, shaded: bool) -> Result<(), Error> {
        if !shaded {
            return self.push(s);
        }
        s.chars().try_for_each(|c| self.push_char(shade_char(c)))
    }

    /// Appends `n` copies of one character.
    pub(super) fn repeat(&mut self, c: char, n: usize) -> Result<(), Error> {
        self.check(n.saturating_mul(c.len_utf8()))?;
        self.text.extend(std::iter::repeat_n(c, n));
        Ok(())
    }

    /// The finished text, paid for in fuel (`weight` bytes of work per byte).
    pub(super) fn finish(self, state: &State<'_, '_>, weight: usize) -> Result<String, Error> {
        charge(state, self.text.len().saturating_mul(weight) + self.walked)?;
        Ok(self.text)
    }
}

/// `str(v)` as a string.
pub(super) fn to_str(state: &State<'_, '_>, v: &Value) -> Result<String, Error> {
    let mut out = Out::fueled(state);
    write_str(&mut out, v)?;
    out.finish(state, 1)
}

/// Appends `str(v)`.
pub(super) fn write_str(out: &mut Out, v: &Value) -> Result<(), Error> {
    match v.kind() {
        ValueKind::String => out.push(v.as_str().unwrap_or_default()),
        ValueKind::Undefined => Ok(()),
        _ => write_repr(out, v, false, 0),
    }
}

/// Appends `repr(v)`.
fn write_repr(out: &mut Out, v: &Value, shaded: bool, level: usize) -> Result<(), Error> {
    if level > 2 * super::value::MAX_DEPTH {
        return Err(fail("the value is nested too deep to print"));
    }
    out.step()?;
    if let Some(list) = v.downcast_object_ref::<List>() {
        let (open, close) = match list.shape {
            Shape::List => ("[", "]"),
            Shape::Tuple => ("(", ")"),
            Shape::Stream => return out.push("<generator object>"),
        };
        let items = list.peek();
        out.mark(open, list.shaded)?;
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.mark(", ", list.shaded)?;
            }
            write_repr(out, item, list.shaded, level + 1)?;
        }
        if items.len() == 1 && list.shape == Shape::Tuple {
            out.mark(",", list.shaded)?;
        }
        return out.mark(close, list.shaded);
    }
    if let Some(dict) = v.downcast_object_ref::<Dict>() {
        out.mark("{", dict.shaded)?;
        for (i, (key, item)) in dict.pairs().iter().enumerate() {
            if i > 0 {
                out.mark(", ", dict.shaded)?;
            }
            write_repr(out, key, dict.shaded, level + 1)?;
            out.mark(": ", dict.shaded)?;
            write_repr(out, item, dict.shaded, level + 1)?;
        }
        return out.mark("}", dict.shaded);
    }
    match v.kind() {
        ValueKind::String => quote(out, v.as_str().unwrap_or_default(), shaded),
        ValueKind::Undefined => out.mark("Undefined", shaded),
        ValueKind::Number => out.mark(&number(v), shaded),
        ValueKind::Seq | ValueKind::Iterable => {
            out.mark("[", shaded)?;
            for (i, item) in v.try_iter()?.enumerate() {
                if i > 0 {
                    out.mark(", ", shaded)?;
                }
                write_repr(out, &item, shaded, level + 1)?;
            }
            out.mark("]", shaded)
        }
        // booleans and None print as in Python; other objects have no text that a model should see
        _ => out.mark(&v.to_string(), shaded),
    }
}

/// A Python string literal.
fn quote(out: &mut Out, s: &str, shaded: bool) -> Result<(), Error> {
    let plain = shade::plain(s);
    let mark = if plain.contains('\'') && !plain.contains('"') { '"' } else { '\'' };
    out.mark(mark.encode_utf8(&mut [0; 4]), shaded)?;
    for c in s.chars() {
        let (p, shaded) = (plain_char(c), is_shaded(c));
        match p {
            '\n' => out.mark("\\n", shaded)?,
            '\r' => out.mark("\\r", shaded)?,
            '\t' => out.mark("\\t", shaded)?,
            '\\' => out.mark("\\\\", shaded)?,
            _ if p == mark => {
                out.mark("\\", shaded)?;
                out.push_char(c)?;
            }
            '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' => {
                out.mark(&format!("\\x{:02x}", p as u32), shaded)?
            }
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{2060}'..='\u{2064}'
            | '\u{3000}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}' => {
                out.mark(&format!("\\u{:04x}", p as u32), shaded)?;
            }
            _ => out.push_char(c)?,
        }
    }
    out.mark(mark.encode_utf8(&mut [0; 4]), shaded)
}

/// A number as Python prints it.
pub(super) fn number(v: &Value) -> String {
    if v.is_integer() {
        return v.to_string();
    }
    f64::try_from(v.clone()).map_or_else(|_| v.to_string(), float)
}

fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let e = format!("{x:e}");
    let (digits, exp) = e.split_once('e').unwrap_or((&e, "0"));
    let exp: i32 = exp.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exp) {
        return format!("{digits}e{}{:02}", if exp < 0 { '-' } else { '+' }, exp.abs());
    }
    let s = x.to_string();
    if s.contains('.') { s } else { s + ".0" }
}

/// The options of `json.dumps`.
pub(super) struct JsonStyle {
    /// Escape everything outside ASCII.
    pub(super) ascii: bool,
    /// The text of one level; none for one line.
    pub(super) indent: Option<Indent>,
    /// Between items, and after keys.
    pub(super) separators: (String, String),
    /// Sort the keys of dicts.
    pub(super) sort_keys: bool,
}

/// One level of indentation: spaces, or a text.
pub(super) enum Indent {
    /// So many spaces.
    Spaces(usize),
    /// This text.
    Text(String),
}

/// `json.dumps(v)`.
///
/// # Errors
/// Values that are not JSON, or more text than the render may write.
pub(super) fn to_json(
    state: &State<'_, '_>,
    v: &Value,
    style: &JsonStyle,
) -> Result<String, Error> {
    let mut out = Out::fueled(state);
    write_json(&mut out, v, style, false, 0)?;
    out.finish(state, 2)
}

fn json_line(out: &mut Out, style: &JsonStyle, level: usize) -> Result<(), Error> {
    match &style.indent {
        None => Ok(()),
        Some(Indent::Spaces(n)) => {
            out.push("\n")?;
            out.repeat(' ', n.saturating_mul(level))
        }
        Some(Indent::Text(s)) => {
            out.push("\n")?;
            (0..level).try_for_each(|_| out.push(s))
        }
    }
}

fn write_json(
    out: &mut Out,
    v: &Value,
    style: &JsonStyle,
    shaded: bool,
    level: usize,
) -> Result<(), Error> {
    if level > 2 * super::value::MAX_DEPTH {
        return Err(fail("the value is nested too deep for tojson"));
    }
    out.step()?;
    match v.kind() {
        ValueKind::String => json_text(out, v.as_str().unwrap_or_default(), style, shaded),
        ValueKind::None => out.mark("null", shaded),
        ValueKind::Bool => out.mark(if v.is_true() { "true" } else { "false" }, shaded),
        ValueKind::Number => out.mark(&json_number(v), shaded),
        ValueKind::Undefined => Err(fail("Object of type Undefined is not JSON serializable")),
        ValueKind::Map => json_object(out, v, style, level),
        ValueKind::Seq | ValueKind::Iterable => json_array(out, v, style, level),
        kind => Err(fail(format!("Object of type {kind} is not JSON serializable"))),
    }
}

fn json_object(out: &mut Out, v: &Value, style: &JsonStyle, level: usize) -> Result<(), Error> {
    let dict = v.downcast_object_ref::<Dict>();
    let shaded = dict.is_some_and(|d| d.shaded);
    let mut pairs = match dict {
        Some(d) => d.pairs(),
        None => {
            v.try_iter()?.map(|k| Ok((k.clone(), v.get_item(&k)?))).collect::<Result<_, Error>>()?
        }
    };
    if style.sort_keys {
        pairs.sort_by_cached_key(|p| shade::plain(&p.0.to_string()).into_owned());
    }
    out.mark("{", shaded)?;
    for (i, (key, item)) in pairs.iter().enumerate() {
        if i > 0 {
            out.mark(&style.separators.0, shaded)?;
        }
        json_line(out, style, level + 1)?;
        json_key(out, key, style, shaded)?;
        out.mark(&style.separators.1, shaded)?;
        write_json(out, item, style, shaded, level + 1)?;
    }
    if !pairs.is_empty() {
        json_line(out, style, level)?;
    }
    out.mark("}", shaded)
}

fn json_array(out: &mut Out, v: &Value, style: &JsonStyle, level: usize) -> Result<(), Error> {
    let list = v.downcast_object_ref::<List>();
    let shaded = list.is_some_and(|l| l.shaded);
    let items: Box<dyn Iterator<Item = Value>> = match list {
        Some(l) => Box::new(l.peek().into_iter()),
        None => Box::new(v.try_iter()?),
    };
    let mut empty = true;
    out.mark("[", shaded)?;
    for item in items {
        if !empty {
            out.mark(&style.separators.0, shaded)?;
        }
        empty = false;
        json_line(out, style, level + 1)?;
        write_json(out, &item, style, shaded, level + 1)?;
    }
    if !empty {
        json_line(out, style, level)?;
    }
    out.mark("]", shaded)
}

fn json_key(out: &mut Out, key: &Value, style: &JsonStyle, shaded: bool) -> Result<(), Error> {
    let text = match key.kind() {
        ValueKind::String => {
            return json_text(out, key.as_str().unwrap_or_default(), style, shaded);
        }
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        _ => json_number(key),
    };
    json_text(out, &text, style, shaded)
}

fn json_number(v: &Value) -> String {
    match number(v).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        s => s.into(),
    }
}

fn json_text(out: &mut Out, s: &str, style: &JsonStyle, shaded: bool) -> Result<(), Error> {
    out.mark("\"", shaded)?;
    for c in s.chars() {
        let (p, shaded) = (plain_char(c), is_shaded(c));
        match p {
            '"' => out.mark("\\\"", shaded)?,
            '\\' => out.mark("\\\\", shaded)?,
            '\n' => out.mark("\\n", shaded)?,
            '\r' => out.mark("\\r", shaded)?,
            '\t' => out.mark("\\t", shaded)?,
            '\x08' => out.mark("\\b", shaded)?,
            '\x0c' => out.mark("\\f", shaded)?,
            '\0'..='\x1f' => out.mark(&format!("\\u{:04x}", p as u32), shaded)?,
            _ if style.ascii && !p.is_ascii() => {
                for unit in p.encode_utf16(&mut [0; 2]) {
                    out.mark(&format!("\\u{unit:04x}"), shaded)?;
                }
            }
            _ => out.push_char(c)?,
        }
    }
    out.mark("\"", shaded)
}

#[cfg(test)]
mod tests {
    use super::float;

    #[test]
    fn floats_print_as_in_python() {
        for (x, s) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (-2.5e300, "-2.5e+300"),
            (0.0, "0.0"),
        ] {
            assert_eq!(float(x), s);
        }
    }
}
