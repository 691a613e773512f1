//! Comparisons by Python's rules, blind to provenance.

use super::shade::{self, plain_char};
use super::value::{Dict, charge, fail};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, State};
use std::cmp::Ordering;

/// `a == b`.
///
/// # Errors
/// Out of fuel.
pub(super) fn equal(state: &State<'_, '_>, a: &Value, b: &Value) -> Result<bool, Error> {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        charge(state, x.len().min(y.len()))?;
        return Ok(shade::same(x, y));
    }
    charge(state, 0)?;
    if is_seq(a) && is_seq(b) {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (x, y) in a.try_iter()?.zip(b.try_iter()?) {
            charge(state, 64)?;
            if !equal(state, &x, &y)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    if let (Some(x), Some(y)) = (a.downcast_object_ref::<Dict>(), b.downcast_object_ref::<Dict>()) {
        if x.len() != y.len() {
            return Ok(false);
        }
        for (key, value) in x.pairs() {
            charge(state, 64)?;
            match y.get(&key) {
                Some(other) if equal(state, &value, &other)? => {}
                _ => return Ok(false),
            }
        }
        return Ok(true);
    }
    Ok(is_numeric(a) == is_numeric(b) && (is_numeric(a) || a.kind() == b.kind()) && a == b)
}

fn is_numeric(v: &Value) -> bool {
    matches!(v.kind(), ValueKind::Number | ValueKind::Bool)
}

fn is_seq(v: &Value) -> bool {
    matches!(v.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// The order of two values.
///
/// # Errors
/// Types that Python does not order against each other.
pub(super) fn order(state: &State<'_, '_>, a: &Value, b: &Value) -> Result<Ordering, Error> {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        charge(state, x.len().min(y.len()))?;
        return Ok(x.chars().map(plain_char).cmp(y.chars().map(plain_char)));
    }
    charge(state, 0)?;
    if is_seq(a) && is_seq(b) {
        for (x, y) in a.try_iter()?.zip(b.try_iter()?) {
            charge(state, 64)?;
            let o = order(state, &x, &y)?;
            if o != Ordering::Equal {
                return Ok(o);
            }
        }
        return Ok(a.len().cmp(&b.len()));
    }
    if is_numeric(a) && is_numeric(b) {
        return Ok(a.cmp(b));
    }
    Err(fail(format!("'{}' and '{}' have no order", a.kind(), b.kind())))
}

/// `item in container`.
///
/// # Errors
/// Containers that Python cannot search.
pub(super) fn contains(
    state: &State<'_, '_>,
    container: &Value,
    item: &Value,
) -> Result<bool, Error> {
    match container.kind() {
        ValueKind::String => {
            let Some(needle) = item.as_str() else {
                return Err(fail(format!(
                    "'in <string>' requires string as left operand, not {}",
                    item.kind()
                )));
            };
            let haystack = container.as_str().unwrap_or_default();
            // searching costs more than copying
            charge(state, 4 * haystack.len())?;
            Ok(shade::plain(haystack).contains(&*shade::plain(needle)))
        }
        ValueKind::Map => Ok(match container.downcast_object_ref::<Dict>() {
            Some(d) => d.get(item).is_some(),
            None => container.get_item(item).is_ok_and(|v| !v.is_undefined()),
        }),
        ValueKind::Seq | ValueKind::Iterable => {
            for x in container.try_iter()? {
                charge(state, 64)?;
                if equal(state, item, &x)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        ValueKind::Undefined => Ok(false),
        kind => Err(fail(format!("argument of type '{kind}' is not iterable"))),
    }
}

/// One comparison by its operator's text.
pub(super) fn compare(
    state: &State<'_, '_>,
    a: &Value,
    op: &str,
    b: &Value,
) -> Result<bool, Error> {
    Ok(match op {
        "==" => equal(state, a, b)?,
        "!=" => !equal(state, a, b)?,
        "in" => contains(state, b, a)?,
        "not in" => !contains(state, b, a)?,
        "<" => order(state, a, b)? == Ordering::Less,
        "<=" => order(state, a, b)? != Ordering::Greater,
        ">" => order(state, a, b)? == Ordering::Greater,
        ">=" => order(state, a, b)? != Ordering::Less,
        _ => return Err(fail(format!("unknown comparison {op:?}"))),
    })
}
