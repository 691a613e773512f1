//! The methods of Python's list and dict.

use super::args::Args;
use super::methods::unknown;
use super::value::{Dict, List, Shape, charge, deep_copy, fail, iterate};
use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn list(items: Vec<Value>) -> Result<Value, Error> {
    List::value(items, Shape::List, false)
}

/// `list.method(…)` (and tuples, generators).
pub(super) fn list_method(
    state: &State<'_, '_>,
    this: &List,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let args = Args::new(method, args)?;
    let none = Value::from(());
    charge(state, 64)?;
    match method {
        "append" => {
            let item = deep_copy(state, &args.need(0, "object")?)?;
            this.change(std::slice::from_ref(&item), |l| l.push(item.clone()))?;
            Ok(none)
        }
        "extend" => {
            let mut items = iterate(state, &args.need(0, "iterable")?)?;
            for item in &mut items {
                *item = deep_copy(state, item)?;
            }
            charge(state, 64 * items.len())?;
            this.change(&items.clone(), |l| l.extend(items))?;
            Ok(none)
        }
        "insert" => {
            let item = deep_copy(state, &args.need(1, "object")?)?;
            let at = args.int(0, "index")?.unwrap_or(0);
            charge(state, 8 * this.len())?;
            this.change(std::slice::from_ref(&item), |l| {
                let n = l.len() as i64;
                let at = if at < 0 { (n + at).max(0) } else { at.min(n) };
                l.insert(at as usize, item.clone());
            })?;
            Ok(none)
        }
        "pop" => {
            let at = args.int(0, "index")?.unwrap_or(-1);
            charge(state, 8 * this.len())?;
            this.change(&[], |l| {
                let i = if at < 0 { at + l.len() as i64 } else { at };
                usize::try_from(i).ok().filter(|&i| i < l.len()).map(|i| l.remove(i))
            })?
            .ok_or_else(|| fail("pop index out of range"))
        }
        "clear" => this.change(&[], Vec::clear).map(|()| none),
        "reverse" => this.change(&[], |l| l.reverse()).map(|()| none),
        "copy" => list(this.peek()),
        "count" | "index" => {
            let wanted = args.need(0, "value")?;
            let mut hits = 0;
            for (i, item) in this.peek().iter().enumerate() {
                if super::compare::equal(state, item, &wanted)? {
                    if method == "index" {
                        return Ok(Value::from(i));
                    }
                    hits += 1;
                }
            }
            if method == "index" {
                Err(fail("the value is not in the list"))
            } else {
                Ok(Value::from(hits))
            }
        }
        _ => Err(unknown()),
    }
}

/// `dict.method(…)`.
pub(super) fn dict_method(
    state: &State<'_, '_>,
    this: &Dict,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let args = Args::new(method, args)?;
    let none = Value::from(());
    charge(state, 64)?;
    let default = || args.get(1, "default").unwrap_or_else(|| Value::from(()));
    match method {
        "get" => Ok(this.get(&args.need(0, "key")?).unwrap_or_else(default)),
        "items" => dict_items(state, this),
        "keys" | "values" => {
            charge(state, 32 * this.len())?;
            list(
                this.pairs()
                    .into_iter()
                    .map(|(k, v)| if method == "keys" { k } else { v })
                    .collect(),
            )
        }
        "copy" => {
            charge(state, 128 * this.len())?;
            Dict::value(this.pairs(), this.shaded)
        }
        "update" => {
            let mut pairs = Vec::new();
            if let Some(other) = args.positional().first() {
                pairs = pairs_of(state, other)?;
            }
            pairs.extend(args.named().iter().map(|(k, v)| (Value::from(k.as_str()), v.clone())));
            charge(state, 128 * pairs.len())?;
            for (k, v) in pairs {
                this.set(k, deep_copy(state, &v)?)?;
            }
            Ok(none)
        }
        "clear" => {
            this.clear();
            Ok(none)
        }
        "setdefault" => {
            let key = args.need(0, "key")?;
            if let Some(v) = this.get(&key) {
                return Ok(v);
            }
            let v = deep_copy(state, &default())?;
            charge(state, 128)?;
            this.set(key, v.clone())?;
            Ok(v)
        }
        "pop" => {
            charge(state, 8 * this.len())?;
            this.remove(&args.need(0, "key")?)
                .or_else(|| args.get(1, "default"))
                .ok_or_else(|| fail("pop: the key is not there"))
        }
        _ => Err(unknown()),
    }
}

/// `dict.items()`.
pub(super) fn dict_items(state: &State<'_, '_>, dict: &Dict) -> Result<Value, Error> {
    charge(state, 256 * dict.len())?;
    let pairs =
        dict.pairs().into_iter().map(|(k, v)| List::value(vec![k, v], Shape::Tuple, dict.shaded));
    list(pairs.collect::<Result<_, _>>()?)
}

/// The pairs that `dict(x)` would take: a mapping, or an iterable of pairs.
pub(super) fn pairs_of(state: &State<'_, '_>, v: &Value) -> Result<Vec<(Value, Value)>, Error> {
    if let Some(d) = v.downcast_object_ref::<Dict>() {
        charge(state, 64 * d.len())?;
        return Ok(d.pairs());
    }
    let items = iterate(state, v)?;
    if v.kind() == ValueKind::Map {
        return items.into_iter().map(|k| Ok((k.clone(), v.get_item(&k)?))).collect();
    }
    items
        .iter()
        .map(|item| match iterate(state, item)?.as_slice() {
            [k, v] => Ok((k.clone(), v.clone())),
            other => Err(fail(format!("a pair has 2 elements, not {}", other.len()))),
        })
        .collect()
}

/// Jinja's `joiner(sep)`: empty when it is called first, then the separator.
#[derive(Debug)]
struct Joiner {
    separator: Value,
    used: AtomicBool,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        let used = self.used.swap(true, Ordering::Relaxed);
        Ok(if used { self.separator.clone() } else { Value::from("") })
    }
}

/// `joiner(sep=', ')`.
pub(super) fn joiner(separator: Option<Value>) -> Value {
    let separator = separator.unwrap_or_else(|| Value::from(", "));
    Value::from_object(Joiner { separator, used: AtomicBool::new(false) })
}
