//! Jinja's tests (`x is …`), by Python's rules and blind to provenance.

use super::compare::compare;
use super::shade;
use super::value::{List, Shape};
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, State};

/// Puts all tests into an environment.
pub(super) fn register(env: &mut Environment<'_>) {
    // `Undefined` can be iterated over in Jinja, None cannot
    env.add_test("iterable", |v: &Value| {
        matches!(
            v.kind(),
            ValueKind::String
                | ValueKind::Seq
                | ValueKind::Iterable
                | ValueKind::Map
                | ValueKind::Undefined
        )
    });
    env.add_test("sequence", |v: &Value| {
        let stream = v.downcast_object_ref::<List>().is_some_and(|l| l.shape == Shape::Stream);
        !stream
            && matches!(
                v.kind(),
                ValueKind::String
                    | ValueKind::Seq
                    | ValueKind::Iterable
                    | ValueKind::Map
                    | ValueKind::Undefined
            )
    });
    env.add_test("number", |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool));
    env.add_test("integer", |v: &Value| v.kind() == ValueKind::Number && v.is_integer());
    env.add_test("float", |v: &Value| v.kind() == ValueKind::Number && !v.is_integer());
    env.add_test("boolean", |v: &Value| v.kind() == ValueKind::Bool);
    env.add_test("true", |v: &Value| v.kind() == ValueKind::Bool && v.is_true());
    env.add_test("false", |v: &Value| v.kind() == ValueKind::Bool && !v.is_true());
    env.add_test("callable", |v: &Value| v.kind() == ValueKind::Plain);
    env.add_test("lower", |v: &Value| cased(v, char::is_lowercase, char::is_uppercase));
    env.add_test("upper", |v: &Value| cased(v, char::is_uppercase, char::is_lowercase));
    operators(env);
}

/// Comparisons under their names as tests, and the two about ends of texts.
fn operators(env: &mut Environment<'_>) {
    const OPERATORS: &[(&str, &[&str])] = &[
        ("==", &["==", "eq", "equalto"]),
        ("!=", &["!=", "ne"]),
        ("<", &["<", "lt", "lessthan"]),
        ("<=", &["<=", "le"]),
        (">", &[">", "gt", "greaterthan"]),
        (">=", &[">=", "ge"]),
        ("in", &["in"]),
    ];
    for &(op, names) in OPERATORS {
        for &name in names {
            env.add_test(
                name,
                move |state: &mut State<'_, '_>, a: &Value, b: &Value| -> Result<bool, Error> {
                    compare(state, a, op, b)
                },
            );
        }
    }
    for (name, end) in [("startingwith", "startswith"), ("endingwith", "endswith")] {
        env.add_test(
            name,
            move |state: &mut State<'_, '_>, a: &Value, b: &Value| -> Result<bool, Error> {
                Ok(super::methods::other_method(state, a, end, std::slice::from_ref(b))?.is_true())
            },
        );
    }
}

fn cased(v: &Value, some: fn(char) -> bool, none: fn(char) -> bool) -> bool {
    let s = v.to_string();
    let s = shade::plain(&s);
    s.chars().any(some) && !s.chars().any(none)
}
