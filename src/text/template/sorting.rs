//! The filters that order and group: `sort`, `dictsort`, `unique`, `min`, `max`, `groupby`.

use super::args::Args;
use super::compare::{equal, order};
use super::containers;
use super::filters::{Rv, attr, list, stream};
use super::methods::lower;
use super::value::{Key, List, Shape, charge, iterate};
use minijinja::value::Value;
use minijinja::{Error, State};
use std::cmp::Ordering;
use std::collections::HashSet;

/// What a value is sorted and compared by: texts in lower case unless asked otherwise.
fn sort_key(state: &State<'_, '_>, v: &Value, attribute: Option<&Value>, case: bool) -> Rv {
    let fold = |v: Value| match v.as_str() {
        Some(s) if !case => Value::from(lower(s)),
        _ => v,
    };
    charge(state, 64)?;
    match attribute {
        None => Ok(fold(v.clone())),
        Some(path) => match path.as_str().filter(|p| p.contains(',')) {
            None => Ok(fold(attr(v, path)?)),
            Some(paths) => {
                let parts = paths.split(',').map(|p| Ok(fold(attr(v, &Value::from(p))?)));
                list(parts.collect::<Result<_, Error>>()?)
            }
        },
    }
}

/// Sorts by keys (a stable sort, as Python's).
fn sorted(
    state: &State<'_, '_>,
    keyed: Vec<(Value, Value)>,
    reverse: bool,
) -> Result<Vec<Value>, Error> {
    let mut error = None;
    let mut keyed = keyed;
    keyed.sort_by(|a, b| {
        let o = order(state, &a.0, &b.0).unwrap_or_else(|e| {
            error.get_or_insert(e);
            Ordering::Equal
        });
        if reverse { o.reverse() } else { o }
    });
    error.map_or_else(|| Ok(keyed.into_iter().map(|p| p.1).collect()), Err)
}

pub(super) fn sort(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let (reverse, case) = (args.flag(1, "reverse", false), args.flag(2, "case_sensitive", false));
    let attribute = args.get(3, "attribute");
    let items = iterate(state, &args.need(0, "value")?)?;
    let keyed = items.into_iter().map(|v| Ok((sort_key(state, &v, attribute.as_ref(), case)?, v)));
    let keyed = keyed.collect::<Result<_, Error>>()?;
    list(sorted(state, keyed, reverse)?)
}

pub(super) fn dictsort(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let (case, reverse) = (args.flag(1, "case_sensitive", false), args.flag(3, "reverse", false));
    let by_value = args.get(2, "by").is_some_and(|v| v.as_str() == Some("value"));
    let pairs = containers::pairs_of(state, &args.need(0, "value")?)?;
    let keyed = pairs.into_iter().map(|(k, v)| {
        let key = sort_key(state, if by_value { &v } else { &k }, None, case)?;
        Ok((key, List::value(vec![k, v], Shape::Tuple, false)?))
    });
    let keyed = keyed.collect::<Result<_, Error>>()?;
    list(sorted(state, keyed, reverse)?)
}

pub(super) fn unique(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let (case, attribute) = (args.flag(1, "case_sensitive", false), args.get(2, "attribute"));
    let mut seen: Vec<Value> = Vec::new();
    let mut hashed = HashSet::new();
    let mut rv = Vec::new();
    'items: for item in iterate(state, &args.need(0, "value")?)? {
        let key = sort_key(state, &item, attribute.as_ref(), case)?;
        if let Some(key) = Key::of(&key) {
            if hashed.insert(key) {
                rv.push(item);
            }
            continue;
        }
        for old in &seen {
            if equal(state, old, &key)? {
                continue 'items;
            }
        }
        seen.push(key);
        rv.push(item);
    }
    stream(rv)
}

pub(super) fn extreme(state: &mut State<'_, '_>, args: &Args, wanted: Ordering) -> Rv {
    let (case, attribute) = (args.flag(1, "case_sensitive", false), args.get(2, "attribute"));
    let mut best: Option<(Value, Value)> = None;
    for item in iterate(state, &args.need(0, "value")?)? {
        let key = sort_key(state, &item, attribute.as_ref(), case)?;
        let better = match &best {
            None => true,
            Some((old, _)) => order(state, &key, old)? == wanted,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map(|b| b.1).unwrap_or_default())
}

pub(super) fn groupby(state: &mut State<'_, '_>, args: &Args) -> Rv {
    let path = args.need(1, "attribute")?;
    let (fallback, case) = (args.get(2, "default"), args.flag(3, "case_sensitive", false));
    let mut keyed = Vec::new();
    for item in iterate(state, &args.need(0, "value")?)? {
        let mut key = attr(&item, &path)?;
        if key.is_undefined() {
            key = fallback.clone().unwrap_or_default();
        }
        let sort = sort_key(state, &key, None, case)?;
        keyed.push((sort, List::value(vec![key, item], Shape::Tuple, false)?));
    }
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for pair in sorted(state, keyed, false)? {
        let (key, item) = (pair.get_item_by_index(0)?, pair.get_item_by_index(1)?);
        match groups.last_mut() {
            Some((last, items)) if equal(state, last, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let groups = groups
        .into_iter()
        .map(|(k, items)| List::value(vec![k, list(items)?], Shape::Tuple, false));
    list(groups.collect::<Result<_, _>>()?)
}
