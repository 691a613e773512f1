//! The methods of Python's str.

use super::args::Args;
use super::print::{Out, to_str};
use super::shade::{self, Mixed, map_chars, plain_char};
use super::value::{List, Shape, charge, fail, iterate};
use minijinja::value::Value;
use minijinja::{Error, ErrorKind, State};

pub(super) fn unknown() -> Error {
    Error::from(ErrorKind::UnknownMethod)
}

/// A method of any other value: strings have some, the rest none.
pub(super) fn other_method(
    state: &State<'_, '_>,
    this: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(s) = this.as_str() else {
        return Err(unknown());
    };
    charge(state, 2 * s.len())?;
    let args = Args::new(method, args)?;
    if let Some(v) = edit(state, s, method, &args)? {
        return Ok(v);
    }
    if let Some(v) = cut(state, s, method, &args)? {
        return Ok(v);
    }
    ask(s, method, &args)?.ok_or_else(unknown)
}

/// Methods that give a changed text.
fn edit(state: &State<'_, '_>, s: &str, method: &str, args: &Args) -> Result<Option<Value>, Error> {
    let rv = match method {
        "strip" => strip_by(s, true, true, args.get(0, "chars"))?,
        "lstrip" => strip_by(s, true, false, args.get(0, "chars"))?,
        "rstrip" => strip_by(s, false, true, args.get(0, "chars"))?,
        "lower" | "casefold" => lower(s),
        "upper" => upper(s),
        "title" => title(s),
        "capitalize" => capitalize(s),
        "swapcase" => map_chars(s, |_, c| {
            let one =
                if c.is_uppercase() { c.to_lowercase().next() } else { c.to_uppercase().next() };
            one.into_iter()
        }),
        "replace" => {
            let count = args.int(2, "count")?;
            replace(state, s, &args.text(0, "old")?, &args.text(1, "new")?, count)?
        }
        "removeprefix" | "removesuffix" => {
            let part = args.text(0, "affix")?;
            let part = part.as_str().unwrap_or_default();
            let n = part.chars().count();
            if method == "removeprefix" && starts(s, part) {
                s.chars().skip(n).collect()
            } else if method == "removesuffix" && ends(s, part) {
                s.chars().take(s.chars().count() - n).collect()
            } else {
                s.to_string()
            }
        }
        "format" => format(state, s, args)?,
        "join" => {
            let items = iterate(state, &args.need(0, "iterable")?)?;
            let mut out = Out::fueled(state);
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(s)?;
                }
                out.push(
                    item.as_str().ok_or_else(|| fail(format!("join: item {i} is no string")))?,
                )?;
            }
            out.finish(state, 1)?
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let width = usize::try_from(args.int(0, "width")?.unwrap_or(0)).unwrap_or(0);
            let fill = match args.get(1, "fillchar") {
                Some(f) => f.as_str().and_then(|f| f.chars().next()).unwrap_or(' '),
                None => ' ',
            };
            pad(state, s, method, width, fill)?
        }
        _ => return Ok(None),
    };
    Ok(Some(Value::from(rv)))
}

/// Strips blanks, or any of a set of characters.
pub(super) fn strip_by(
    s: &str,
    left: bool,
    right: bool,
    chars: Option<Value>,
) -> Result<String, Error> {
    let chars = chars.filter(|c| !c.is_none());
    let rv = match &chars {
        None => shade::strip(s, left, right, is_space),
        Some(c) => {
            let set = shade::plain(
                c.as_str().ok_or_else(|| fail("strip: the characters must be a string"))?,
            );
            shade::strip(s, left, right, |c| set.contains(c))
        }
    };
    Ok(rv.to_string())
}

/// What Python counts as blank: Unicode's white space and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.lower()`.
pub(super) fn lower(s: &str) -> String {
    map_chars(s, |_, c| c.to_lowercase())
}

/// `str.upper()`.
pub(super) fn upper(s: &str) -> String {
    map_chars(s, |_, c| c.to_uppercase())
}

/// `str.capitalize()`.
pub(super) fn capitalize(s: &str) -> String {
    map_chars(s, |i, c| case(i == 0, c))
}

fn case(upper: bool, c: char) -> impl Iterator<Item = char> {
    let (a, b) =
        if upper { (Some(c.to_uppercase()), None) } else { (None, Some(c.to_lowercase())) };
    a.into_iter().flatten().chain(b.into_iter().flatten())
}

/// `str.title()`.
fn title(s: &str) -> String {
    let starts: Vec<bool> =
        std::iter::once(true).chain(s.chars().map(|c| !plain_char(c).is_alphabetic())).collect();
    map_chars(s, |i, c| case(starts[i], c))
}

/// `str.replace(old, new, count)`.
pub(super) fn replace(
    state: &State<'_, '_>,
    s: &str,
    old: &Value,
    new: &Value,
    count: Option<i64>,
) -> Result<String, Error> {
    let (old, new) = (old.as_str().unwrap_or_default(), new.as_str().unwrap_or_default());
    let limit = count.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    let mut out = Out::fueled(state);
    if old.is_empty() {
        for (i, c) in s.chars().map(Some).chain([None]).enumerate() {
            if i < limit {
                out.push(new)?;
            }
            if let Some(c) = c {
                out.push(c.encode_utf8(&mut [0; 4]))?;
            }
        }
        return out.finish(state, 1);
    }
    let mut from = 0;
    for (a, b) in Mixed::new(s).find_all(old, limit) {
        out.push(&s[from..a])?;
        out.push(new)?;
        from = b;
    }
    out.push(&s[from..])?;
    out.finish(state, 1)
}

fn pad(
    state: &State<'_, '_>,
    s: &str,
    method: &str,
    width: usize,
    fill: char,
) -> Result<String, Error> {
    let missing = width.saturating_sub(s.chars().count());
    let mut out = Out::fueled(state);
    let (left, right) = match method {
        "ljust" => (0, missing),
        "rjust" | "zfill" => (missing, 0),
        // Python puts the odd blank to the left for odd widths
        _ => (missing / 2 + (missing & width & 1), missing - (missing / 2 + (missing & width & 1))),
    };
    let fill = if method == "zfill" { '0' } else { fill };
    out.repeat(fill, left)?;
    out.push(s)?;
    out.repeat(fill, right)?;
    out.finish(state, 1)
}

/// `str.format(…)` with `{}`, `{0}` and `{name}` fields, without format specifications.
fn format(state: &State<'_, '_>, s: &str, args: &Args) -> Result<String, Error> {
    let mut out = Out::fueled(state);
    let mut auto = 0;
    let mut chars = s.chars().peekable();
    while let Some(c) = chars.next() {
        let p = plain_char(c);
        let doubled = chars.peek().is_some_and(|&n| plain_char(n) == p);
        match p {
            '{' | '}' if doubled => {
                chars.next();
                out.push(c.encode_utf8(&mut [0; 4]))?;
            }
            '}' => return Err(fail("format: single '}' in the text")),
            '{' => {
                let field: String =
                    chars.by_ref().map(plain_char).take_while(|&c| c != '}').collect();
                let value = if field.is_empty() {
                    auto += 1;
                    args.positional().get(auto - 1).cloned()
                } else if let Ok(i) = field.parse::<usize>() {
                    args.positional().get(i).cloned()
                } else {
                    args.named().iter().find(|(n, _)| *n == field).map(|(_, v)| v.clone())
                };
                let value =
                    value.ok_or_else(|| fail(format!("format: no value for field {{{field}}}")))?;
                out.push(&to_str(state, &value)?)?;
            }
            _ => out.push(c.encode_utf8(&mut [0; 4]))?,
        }
    }
    out.finish(state, 1)
}

/// Methods that cut a text into pieces.
fn cut(state: &State<'_, '_>, s: &str, method: &str, args: &Args) -> Result<Option<Value>, Error> {
    let pieces = match method {
        "split" | "rsplit" => {
            let limit = args
                .int(1, "maxsplit")?
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(usize::MAX);
            split(s, args.get(0, "sep").as_ref(), limit, method == "rsplit")?
        }
        "splitlines" => {
            let keep = args.flag(0, "keepends", false);
            lines(s, keep)
        }
        "partition" | "rpartition" => {
            let sep = args.text(0, "sep")?;
            let sep = sep.as_str().unwrap_or_default();
            if sep.is_empty() {
                return Err(fail("empty separator"));
            }
            let m = Mixed::new(s);
            let hits = if method == "partition" { m.find_all(sep, 1) } else { m.rfind_all(sep, 1) };
            let parts = match hits.first() {
                Some(&(a, b)) => [&s[..a], &s[a..b], &s[b..]],
                None if method == "partition" => [s, "", ""],
                None => ["", "", s],
            };
            return List::value(
                parts.iter().map(|&p| Value::from(p)).collect(),
                Shape::Tuple,
                false,
            )
            .map(Some);
        }
        _ => return Ok(None),
    };
    charge(state, s.len() + 64 * pieces.len())?;
    let pieces = pieces.into_iter().map(Value::from).collect();
    List::value(pieces, Shape::List, false).map(Some)
}

/// `str.split(sep, limit)` and `str.rsplit(sep, limit)`.
pub(super) fn split<'a>(
    s: &'a str,
    sep: Option<&Value>,
    limit: usize,
    right: bool,
) -> Result<Vec<&'a str>, Error> {
    let Some(sep) = sep.filter(|v| !v.is_none()) else {
        return Ok(split_blank(s, limit, right));
    };
    let sep = sep.as_str().ok_or_else(|| {
        fail(format!("split: the separator must be a string, not {}", sep.kind()))
    })?;
    if sep.is_empty() {
        return Err(fail("empty separator"));
    }
    let m = Mixed::new(s);
    let hits = if right { m.rfind_all(sep, limit) } else { m.find_all(sep, limit) };
    let mut rv = Vec::with_capacity(hits.len() + 1);
    let mut from = 0;
    for (a, b) in hits {
        rv.push(&s[from..a]);
        from = b;
    }
    rv.push(&s[from..]);
    Ok(rv)
}

fn split_blank(s: &str, limit: usize, right: bool) -> Vec<&str> {
    let blank = |c: char| is_space(plain_char(c));
    let mut rv = Vec::new();
    let mut rest = shade::strip(s, !right, right, is_space);
    while !rest.is_empty() {
        let at = if right { rest.rfind(blank) } else { rest.find(blank) };
        let Some(at) = at.filter(|_| rv.len() < limit) else {
            rv.push(shade::strip(rest, right, !right && rv.len() < limit, is_space));
            break;
        };
        if right {
            let width = rest[at..].chars().next().map_or(1, char::len_utf8);
            rv.push(&rest[at + width..]);
            rest = shade::strip(&rest[..at], false, true, is_space);
        } else {
            rv.push(&rest[..at]);
            rest = shade::strip(&rest[at..], true, false, is_space);
        }
    }
    if right {
        rv.reverse();
    }
    rv
}

/// `str.splitlines(keep)`.
pub(super) fn lines(s: &str, keep: bool) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut rv = Vec::new();
    let mut from = 0;
    let mut chars = s.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !is_end(plain_char(c)) {
            continue;
        }
        let mut end = at + c.len_utf8();
        if plain_char(c) == '\r' && chars.peek().is_some_and(|&(_, n)| plain_char(n) == '\n') {
            end += chars.next().map_or(0, |(_, n)| n.len_utf8());
        }
        rv.push(&s[from..if keep { end } else { at }]);
        from = end;
    }
    if from < s.len() {
        rv.push(&s[from..]);
    }
    rv
}

fn starts(s: &str, part: &str) -> bool {
    let mut chars = s.chars().map(plain_char);
    part.chars().map(plain_char).all(|c| chars.next() == Some(c))
}

fn ends(s: &str, part: &str) -> bool {
    let mut chars = s.chars().rev().map(plain_char);
    part.chars().rev().map(plain_char).all(|c| chars.next() == Some(c))
}

/// Methods that answer a question about a text.
fn ask(s: &str, method: &str, args: &Args) -> Result<Option<Value>, Error> {
    let plain = shade::plain(s);
    let every = |f: fn(char) -> bool| !plain.is_empty() && plain.chars().all(f);
    let rv = match method {
        "startswith" | "endswith" => {
            let part = args.need(0, "prefix")?;
            let parts: Vec<Value> =
                if part.as_str().is_some() { vec![part] } else { part.try_iter()?.collect() };
            let mut hit = false;
            for p in &parts {
                let p = p.as_str().ok_or_else(|| {
                    fail(format!("{method}: the argument must be a string, not {}", p.kind()))
                })?;
                let from = usize::try_from(args.int(1, "start")?.unwrap_or(0)).unwrap_or(0);
                let tail: String = s.chars().skip(from).collect();
                hit |= if method == "startswith" { starts(&tail, p) } else { ends(&tail, p) };
            }
            Value::from(hit)
        }
        "find" | "rfind" | "index" | "rindex" => {
            let part = args.text(0, "sub")?;
            let part = shade::plain(part.as_str().unwrap_or_default()).into_owned();
            let at = if method.starts_with('r') { plain.rfind(&part) } else { plain.find(&part) };
            match at {
                Some(at) => Value::from(Mixed::new(s).char_index(at)),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(fail("substring not found")),
            }
        }
        "count" => {
            let part = args.text(0, "sub")?;
            let part = shade::plain(part.as_str().unwrap_or_default()).into_owned();
            Value::from(if part.is_empty() {
                plain.chars().count() + 1
            } else {
                plain.matches(&part).count()
            })
        }
        "isdigit" | "isdecimal" | "isnumeric" => Value::from(every(char::is_numeric)),
        "isalpha" => Value::from(every(char::is_alphabetic)),
        "isalnum" => Value::from(every(char::is_alphanumeric)),
        "isspace" => Value::from(every(is_space)),
        "islower" => Value::from(
            plain.chars().any(char::is_lowercase) && !plain.chars().any(char::is_uppercase),
        ),
        "isupper" => Value::from(
            plain.chars().any(char::is_uppercase) && !plain.chars().any(char::is_lowercase),
        ),
        _ => return Ok(None),
    };
    Ok(Some(rv))
}

/// The engine's hook for methods that it does not know.
pub(super) fn other_method_callback(
    state: &mut State<'_, '_>,
    this: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    other_method(state, this, method, args)
}
