//! Jinja's filters, by Python's rules and blind to provenance.
//!
//! Filters that minijinja already has right for any text (`abs`, `round`, `batch`, `slice`, `sum`,
//! `safe`, `attr`) stay the engine's own.

use super::args::Args;
use super::containers;
use super::methods::{self, lines, lower, upper};
use super::print::{Indent, JsonStyle, Out, to_json, to_str};
use super::shade::{self, is_shaded, map_chars, plain_char};
use super::sorting::{dictsort, extreme, groupby, sort, unique};
use super::value::{self, Dict, List, Shape, Trust, charge, fail, iterate};
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};
use std::cmp::Ordering;

pub(super) type Rv = Result<Value, Error>;
type Filter = fn(&mut State<'_, '_>, &Args) -> Rv;

/// Puts all filters into an environment.
pub(super) fn register(env: &mut Environment<'_>) {
    const FILTERS: &[(&str, Filter)] = &[
        ("upper", |s, a| edit(s, a, upper)),
        ("lower", |s, a| edit(s, a, lower)),
        ("capitalize", |s, a| edit(s, a, methods::capitalize)),
        ("title", |s, a| edit(s, a, title)),
        ("escape", |s, a| edit(s, a, escape)),
        ("e", |s, a| edit(s, a, escape)),
        ("trim", |s, a| {
            Ok(Value::from(methods::strip_by(&text(s, a)?, true, true, a.get(1, "chars"))?))
        }),
        ("string", |s, a| text(s, a).map(Value::from)),
        ("replace", replace),
        ("split", |s, a| method(s, a, "split")),
        ("center", center),
        ("truncate", truncate),
        ("indent", indent),
        ("join", join),
        ("wordcount", |s, a| {
            Ok(Value::from(shade::plain(&text(s, a)?).split_whitespace().count()))
        }),
        ("length", length),
        ("count", length),
        ("list", |s, a| list(iterate(s, &a.need(0, "value")?)?)),
        ("first", |s, a| {
            Ok(iterate(s, &a.need(0, "value")?)?.into_iter().next().unwrap_or_default())
        }),
        ("last", |s, a| Ok(iterate(s, &a.need(0, "value")?)?.pop().unwrap_or_default())),
        ("reverse", reverse),
        ("items", items),
        ("dictsort", dictsort),
        ("sort", sort),
        ("unique", unique),
        ("min", |s, a| extreme(s, a, Ordering::Less)),
        ("max", |s, a| extreme(s, a, Ordering::Greater)),
        ("groupby", groupby),
        ("map", map),
        ("select", |s, a| select(s, a, false, true)),
        ("reject", |s, a| select(s, a, false, false)),
        ("selectattr", |s, a| select(s, a, true, true)),
        ("rejectattr", |s, a| select(s, a, true, false)),
        ("default", default),
        ("d", default),
        ("int", int),
        ("float", float),
        ("tojson", tojson),
        ("from_json", from_json),
        ("fromjson", from_json),
    ];
    for &(name, f) in FILTERS {
        env.add_filter(name, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            f(state, &Args::rest(name, args)?)
        });
    }
}

pub(super) fn list(items: Vec<Value>) -> Rv {
    List::value(items, Shape::List, false)
}

/// What Jinja's lazy filters give.
pub(super) fn stream(items: Vec<Value>) -> Rv {
    List::value(items, Shape::Stream, false)
}

/// The first argument as `str()` gives it.
fn text(state: &State<'_, '_>, args: &Args) -> Result<String, Error> {
    to_str(state, &args.need(0, "value")?)
}

fn edit(state: &State<'_, '_>, args: &Args, f: fn(&str) -> String) -> Rv {
    let s = text(state, args)?;
    charge(state, s.len())?;
    Ok(Value::from(f(&s)))
}

/// Jinja's `title`: words begin after blanks and opening marks.
fn title(s: &str) -> String {
    let begins = |c: char| c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<');
    let first: Vec<bool> =
        std::iter::once(true).chain(s.chars().map(|c| begins(plain_char(c)))).collect();
    map_chars(s, |i, c| {
        let mapped: Vec<char> =
            if first[i] { c.to_uppercase().collect() } else { c.to_lowercase().collect() };
        mapped.into_iter()
    })
}

/// HTML escaping as markupsafe does it.
pub(super) fn escape(s: &str) -> String {
    map_chars(s, |_, c| {
        let entity = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&#34;",
            '\'' => "&#39;",
            _ => "",
        };
        let own = if entity.is_empty() { Some(c) } else { None };
        entity.chars().chain(own)
    })
}

/// A filter that is a method of strings.
fn method(state: &State<'_, '_>, args: &Args, name: &str) -> Rv {
    methods::other_method(state, &Value::from(text(state, args)?), name, &args.after(1))
}

fn replace(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let s = text(state, args)?;
    let (old, new) = (to_str(state, &args.need(1, "old")?)?, to_str(state, &args.need(2, "new")?)?);
    let count = args.int(3, "count")?;
    methods::replace(state, &s, &Value::from(old), &Value::from(new), count).map(Value::from)
}

fn center(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let width = args.int(1, "width")?.unwrap_or(80);
    methods::other_method(state, &Value::from(text(state, args)?), "center", &[Value::from(width)])
}

/// `truncate(length=255, killwords=False, end='...', leeway=5)`.
fn truncate(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let s = text(state, args)?;
    let number = |n: Option<i64>, default| n.map_or(default, |n| usize::try_from(n).unwrap_or(0));
    let length = number(args.int(1, "length")?, 255);
    let end = match args.get(3, "end") {
        Some(v) => to_str(state, &v)?,
        None => "...".into(),
    };
    let leeway = number(args.int(4, "leeway")?, 5);
    if s.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::from(s));
    }
    let mut kept: String = s.chars().take(length.saturating_sub(end.chars().count())).collect();
    if !args.flag(2, "killwords", false)
        && let Some(at) = kept.rfind(|c| plain_char(c) == ' ')
    {
        kept.truncate(at);
    }
    let mut out = Out::fueled(state);
    out.push(&kept)?;
    out.push(&end)?;
    out.finish(state, 1).map(Value::from)
}

/// `indent(width=4, first=false, blank=false)`; keeps a final line end.
fn indent(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let s = text(state, args)? + "\n";
    let width = args.get(1, "width");
    let mut margin = Out::fueled(state);
    match &width {
        Some(w) if w.as_str().is_some() => margin.push(w.as_str().unwrap_or_default())?,
        _ => {
            margin.repeat(' ', usize::try_from(args.int(1, "width")?.unwrap_or(4)).unwrap_or(0))?
        }
    }
    let margin = margin.text;
    let (first, blank) = (args.flag(2, "first", false), args.flag(3, "blank", false));
    let mut out = Out::fueled(state);
    for (i, line) in lines(&s, false).into_iter().enumerate() {
        if i > 0 {
            out.push("\n")?;
        }
        if if i == 0 { first } else { blank || !line.is_empty() } {
            out.push(&margin)?;
        }
        out.push(line)?;
    }
    out.finish(state, 1).map(Value::from)
}

fn join(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let items = iterate(state, &args.need(0, "value")?)?;
    let between = match args.get(1, "d") {
        Some(d) => to_str(state, &d)?,
        None => String::new(),
    };
    let attribute = args.get(2, "attribute");
    let mut out = Out::fueled(state);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(&between)?;
        }
        match &attribute {
            Some(path) => super::print::write_str(&mut out, &attr(item, path)?)?,
            None => super::print::write_str(&mut out, item)?,
        }
    }
    out.finish(state, 1).map(Value::from)
}

fn length(_: &mut State<'_, '_>, args: &Args) -> Rv {
    let v = args.need(0, "value")?;
    match v.kind() {
        ValueKind::Undefined => Ok(Value::from(0)),
        kind => v
            .len()
            .map(Value::from)
            .ok_or_else(|| fail(format!("object of type '{kind}' has no len()"))),
    }
}

fn reverse(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let v = args.need(0, "value")?;
    if let Some(s) = v.as_str() {
        return Ok(Value::from(s.chars().rev().collect::<String>()));
    }
    let mut items = iterate(state, &v)?;
    items.reverse();
    stream(items)
}

fn items(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let v = args.need(0, "value")?;
    match v.downcast_object_ref::<Dict>() {
        Some(d) => stream(iterate(state, &containers::dict_items(state, d)?)?),
        None if v.is_undefined() => stream(Vec::new()),
        None if v.kind() == ValueKind::Map => {
            let pairs = containers::pairs_of(state, &v)?;
            stream(
                pairs
                    .into_iter()
                    .map(|(k, v)| List::value(vec![k, v], Shape::Tuple, false))
                    .collect::<Result<_, _>>()?,
            )
        }
        None => Err(fail("Can only get item pairs from a mapping.")),
    }
}

/// A path of attributes (`a.b.0`) into a value.
pub(super) fn attr(v: &Value, path: &Value) -> Rv {
    let mut at = v.clone();
    match path.as_str() {
        Some(path) => {
            for part in path.split('.') {
                let key = part.parse::<i64>().map_or_else(|_| Value::from(part), Value::from);
                at = at.get_item(&key)?;
            }
        }
        None => at = at.get_item(path)?,
    }
    Ok(at)
}

fn map(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let items = iterate(state, &args.need(0, "value")?)?;
    let mut rv = Vec::with_capacity(items.len());
    if let Some(path) = args.get(usize::MAX, "attribute") {
        let fallback = args.get(usize::MAX, "default");
        for item in &items {
            charge(state, 64)?;
            let v = attr(item, &path)?;
            rv.push(if v.is_undefined() { fallback.clone().unwrap_or(v) } else { v });
        }
        return stream(rv);
    }
    let name = args.text(1, "filter")?;
    let name = shade::plain(name.as_str().unwrap_or_default()).into_owned();
    let rest = args.after(2);
    for item in items {
        charge(state, 64)?;
        let mut call = vec![item];
        call.extend(rest.iter().cloned());
        rv.push(state.apply_filter(&name, &call)?);
    }
    stream(rv)
}

fn select(state: &mut State<'_, '_>, args: &Args, by_attr: bool, wanted: bool) -> Rv {
    let items = iterate(state, &args.need(0, "value")?)?;
    let path = if by_attr { Some(args.need(1, "attribute")?) } else { None };
    let at = 1 + usize::from(by_attr);
    let test = match args.get(at, "test") {
        Some(t) => Some(
            shade::plain(t.as_str().ok_or_else(|| fail("the test's name must be a string"))?)
                .into_owned(),
        ),
        None => None,
    };
    let rest = args.after(at + 1);
    let mut rv = Vec::new();
    for item in items {
        charge(state, 64)?;
        let subject = match &path {
            Some(p) => attr(&item, p)?,
            None => item.clone(),
        };
        let holds = match &test {
            None => subject.is_true(),
            Some(t) => {
                let mut call = vec![subject];
                call.extend(rest.iter().cloned());
                state.perform_test(t, &call)?
            }
        };
        if holds == wanted {
            rv.push(item);
        }
    }
    stream(rv)
}

fn default(_: &mut State<'_, '_>, args: &Args) -> Rv {
    let v = args.get(0, "value").unwrap_or_default();
    if v.is_undefined() || (args.flag(2, "boolean", false) && !v.is_true()) {
        return Ok(args.get(1, "default_value").unwrap_or_else(|| Value::from("")));
    }
    Ok(v)
}

fn int(_: &mut State<'_, '_>, args: &Args) -> Rv {
    let v = args.need(0, "value")?;
    let fallback = args.get(1, "default").unwrap_or_else(|| Value::from(0));
    let base = u32::try_from(args.int(2, "base")?.unwrap_or(10))
        .ok()
        .filter(|b| (2..=36).contains(b))
        .unwrap_or(10);
    let parsed = match v.as_str() {
        Some(s) => {
            let s = shade::plain(s).trim().replace('_', "");
            let digits = match base {
                2 => s.trim_start_matches("0b"),
                8 => s.trim_start_matches("0o"),
                16 => s.trim_start_matches("0x"),
                _ => &s,
            };
            i64::from_str_radix(digits, base)
                .ok()
                .or_else(|| s.parse::<f64>().ok().filter(|x| x.is_finite()).map(|x| x as i64))
        }
        None if v.kind() == ValueKind::Bool => Some(i64::from(v.is_true())),
        None => i64::try_from(v.clone())
            .ok()
            .or_else(|| f64::try_from(v).ok().filter(|x| x.is_finite()).map(|x| x as i64)),
    };
    Ok(parsed.map_or(fallback, Value::from))
}

fn float(_: &mut State<'_, '_>, args: &Args) -> Rv {
    let v = args.need(0, "value")?;
    let parsed = match v.as_str() {
        Some(s) => shade::plain(s).trim().parse::<f64>().ok(),
        None if v.kind() == ValueKind::Bool => Some(f64::from(u8::from(v.is_true()))),
        None => f64::try_from(v).ok(),
    };
    Ok(parsed
        .map_or_else(|| args.get(1, "default").unwrap_or_else(|| Value::from(0.0)), Value::from))
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, the arguments in
/// transformers' order.
fn tojson(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let given = |at, name| args.get(at, name).filter(|v| !v.is_none());
    let indent = match given(2, "indent") {
        None => None,
        Some(v) if v.as_str().is_some() => v.as_str().map(|s| Indent::Text(s.into())),
        Some(_) => args.int(2, "indent")?.map(|n| Indent::Spaces(usize::try_from(n).unwrap_or(0))),
    };
    let separators = match given(3, "separators") {
        Some(v) => {
            let parts = iterate(state, &v)?;
            match parts.as_slice() {
                [a, b] => (to_str(state, a)?, to_str(state, b)?),
                _ => return Err(fail("tojson: separators must be two strings")),
            }
        }
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let style = JsonStyle {
        ascii: args.flag(1, "ensure_ascii", false),
        indent,
        separators,
        sort_keys: args.flag(4, "sort_keys", false),
    };
    to_json(state, &args.need(0, "value")?, &style).map(Value::from)
}

/// JSON text to a value. What comes out of a caller's text stays a caller's.
fn from_json(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let v = args.text(0, "value")?;
    let s = v.as_str().unwrap_or_default();
    charge(state, 64 * s.len())?;
    let trust = if s.chars().any(is_shaded) { Trust::Caller } else { Trust::Template };
    let parsed: serde_json::Value = serde_json::from_str(&shade::plain(s)).map_err(|e| {
        Error::new(ErrorKind::InvalidOperation, "from_json: the text is not JSON").with_source(e)
    })?;
    value::from_json(&parsed, trust)
}
