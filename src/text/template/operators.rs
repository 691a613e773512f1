//! The operators `+`, `-` and `~` by Python's rules, keeping provenance.

use super::filters::escape;
use super::print::Out;
use super::value::{List, Shape, charge, fail, iterate};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, State};

type Rv = Result<Value, Error>;

/// Joins `a + b - c …` by Python's rules. Operators stand between the operands.
///
/// # Errors
/// Types that do not add.
pub(super) fn sum(state: &mut State<'_, '_>, args: &[Value]) -> Rv {
    let mut left = args.first().cloned().unwrap_or_default();
    for pair in args.get(1..).unwrap_or_default().chunks_exact(2) {
        left = if pair[0].as_str() == Some("+") {
            add(state, left, &pair[1])?
        } else {
            subtract(&left, &pair[1])?
        };
    }
    Ok(left)
}

fn add(state: &State<'_, '_>, a: Value, b: &Value) -> Rv {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        let mut out = Out::fueled(state);
        // a safe string escapes what it is joined with (markupsafe's `Markup.__add__`)
        let safe = a.is_safe() || b.is_safe();
        for (s, v) in [(x, &a), (y, b)] {
            if safe && !v.is_safe() { out.push(&escape(s))? } else { out.push(s)? }
        }
        let s = out.finish(state, 0)?;
        return Ok(if safe { Value::from_safe_string(s) } else { Value::from(s) });
    }
    let seq = |v: &Value| matches!(v.kind(), ValueKind::Seq | ValueKind::Iterable);
    if seq(&a) && seq(b) {
        charge(state, 64 * (a.len().unwrap_or(0) + b.len().unwrap_or(0)))?;
        let shape = |v: &Value| v.downcast_object_ref::<List>().map_or(Shape::List, |l| l.shape);
        let (left, right) = (shape(&a), shape(b));
        if left != right || left == Shape::Stream {
            return Err(fail("can only concatenate lists with lists and tuples with tuples"));
        }
        let mut items = iterate(state, &a)?;
        items.extend(iterate(state, b)?);
        return List::value(items, left, false);
    }
    match (int_of(&a), int_of(b)) {
        (Some(x), Some(y)) => {
            x.checked_add(y).map(small).ok_or_else(|| fail("integer overflow in +"))
        }
        _ => match (float_of(&a), float_of(b)) {
            (Some(x), Some(y)) => Ok(Value::from(x + y)),
            _ => Err(unsupported("+", &a, b)),
        },
    }
}

fn subtract(a: &Value, b: &Value) -> Rv {
    match (int_of(a), int_of(b)) {
        (Some(x), Some(y)) => {
            x.checked_sub(y).map(small).ok_or_else(|| fail("integer overflow in -"))
        }
        _ => match (float_of(a), float_of(b)) {
            (Some(x), Some(y)) => Ok(Value::from(x - y)),
            _ => Err(unsupported("-", a, b)),
        },
    }
}

fn unsupported(op: &str, a: &Value, b: &Value) -> Error {
    fail(format!("unsupported operand types for {op}: {} and {}", a.kind(), b.kind()))
}

fn small(n: i128) -> Value {
    i64::try_from(n).map_or_else(|_| Value::from(n), Value::from)
}

fn int_of(v: &Value) -> Option<i128> {
    match v.kind() {
        ValueKind::Bool => Some(i128::from(v.is_true())),
        ValueKind::Number if v.is_integer() => i128::try_from(v.clone()).ok(),
        _ => None,
    }
}

fn float_of(v: &Value) -> Option<f64> {
    match v.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(v.is_true()))),
        ValueKind::Number => f64::try_from(v.clone()).ok(),
        _ => None,
    }
}

/// Joins `a ~ b …` as text.
pub(super) fn concat(state: &mut State<'_, '_>, args: &[Value]) -> Rv {
    let mut out = Out::fueled(state);
    for v in args {
        super::print::write_str(&mut out, v)?;
    }
    out.finish(state, 0).map(Value::from)
}

/// `text % values` by way of the engine's printf filter.
pub(super) fn format(state: &mut State<'_, '_>, args: &[Value]) -> Rv {
    let [text, values] = args else {
        return Err(fail("formatting takes a text and its values"));
    };
    let mut call = vec![text.clone()];
    match values.downcast_object_ref::<List>() {
        Some(tuple) if tuple.shape == Shape::Tuple => call.extend(tuple.items()),
        _ => call.push(values.clone()),
    }
    state.apply_filter("format", &call)
}
