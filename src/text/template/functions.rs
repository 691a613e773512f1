//! The global functions of templates: Jinja's, transformers', and those that `source.rs` writes in
//! place of operators and literals.

use super::args::Args;
use super::value::{self, Dict, List, Shape, fail};
use super::{RAISED, compare, containers, operators, print};
use minijinja::value::{Rest, Value, ValueOrKwargs};
use minijinja::{Environment, Error, State};

type Rv = Result<Value, Error>;

/// Puts all functions into an environment.
pub(super) fn register(env: &mut Environment<'_>) {
    env.remove_global("debug");
    env.add_function("raise_exception", raise_exception);
    env.add_function("dict", dict);
    env.add_function("joiner", containers::joiner);
    // what `source.rs` writes
    env.add_function("_cmp_", compared);
    env.add_function("_sum_", |state: &mut State<'_, '_>, args: Rest<Value>| {
        operators::sum(state, &args)
    });
    env.add_function("_cat_", |state: &mut State<'_, '_>, args: Rest<Value>| {
        operators::concat(state, &args)
    });
    env.add_function("_format_", |state: &mut State<'_, '_>, args: Rest<Value>| {
        operators::format(state, &args)
    });
    env.add_function("_list_", |state: &mut State<'_, '_>, items: Value| {
        literal(state, &items, Shape::List)
    });
    env.add_function("_tuple_", |state: &mut State<'_, '_>, items: Value| {
        literal(state, &items, Shape::Tuple)
    });
    env.add_function("_dict_", dict_literal);
}

fn raise_exception(state: &mut State<'_, '_>, message: Value) -> Rv {
    Err(fail(format!("{RAISED}{}", print::to_str(state, &message)?)))
}

fn dict(state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>) -> Rv {
    let args = Args::rest("dict", args)?;
    let mut pairs = match args.positional().first() {
        Some(v) => containers::pairs_of(state, v)?,
        None => Vec::new(),
    };
    pairs.extend(args.named().iter().map(|(k, v)| (Value::from(k.as_str()), v.clone())));
    value::charge(state, 128 * pairs.len())?;
    Dict::value(pairs, false)
}

/// `a == b`, or a chain `a < b <= c`: operators stand between the operands.
fn compared(state: &mut State<'_, '_>, args: Rest<Value>) -> Result<bool, Error> {
    for link in args.windows(3).step_by(2) {
        if !compare::compare(state, &link[0], link[1].as_str().unwrap_or_default(), &link[2])? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn literal(state: &State<'_, '_>, items: &Value, shape: Shape) -> Rv {
    let items: Vec<Value> = items.try_iter()?.collect();
    value::charge(state, 32 * items.len())?;
    List::value(items, shape, false)
}

fn dict_literal(state: &mut State<'_, '_>, map: Value) -> Rv {
    let pairs = map.try_iter()?.map(|k| Ok((k.clone(), map.get_item(&k)?)));
    let pairs = pairs.collect::<Result<Vec<_>, Error>>()?;
    value::charge(state, 96 * pairs.len())?;
    Dict::value(pairs, false)
}
