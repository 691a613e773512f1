//! Arguments of filters and methods: positions and names as Python binds them.

use super::value::fail;
use minijinja::Error;
use minijinja::value::{Kwargs, Rest, Value, ValueOrKwargs};

/// Arguments of one call.
pub(super) struct Args {
    what: String,
    positional: Vec<Value>,
    named: Vec<(String, Value)>,
}

impl Args {
    /// Splits keyword arguments off; `what` names the callee in errors.
    pub(super) fn new(what: &str, args: &[Value]) -> Result<Args, Error> {
        let mut positional = args.to_vec();
        let mut named = Vec::new();
        if positional.last().is_some_and(Value::is_kwargs) {
            let kwargs = Kwargs::try_from(positional.pop().unwrap_or_default())?;
            for name in kwargs.args() {
                named.push((name.to_string(), kwargs.get::<Value>(name)?));
            }
        }
        Ok(Args { what: what.to_string(), positional, named })
    }

    /// The same for a filter or function.
    pub(super) fn rest(what: &str, args: Rest<ValueOrKwargs>) -> Result<Args, Error> {
        Args::new(what, &args.into_values())
    }

    /// The argument at a position or of a name.
    pub(super) fn get(&self, at: usize, name: &str) -> Option<Value> {
        self.positional
            .get(at)
            .cloned()
            .or_else(|| self.named.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
    }

    /// An argument that must be there.
    pub(super) fn need(&self, at: usize, name: &str) -> Result<Value, Error> {
        self.get(at, name).ok_or_else(|| fail(format!("{}: missing argument {name}", self.what)))
    }

    /// A text that must be there.
    pub(super) fn text(&self, at: usize, name: &str) -> Result<Value, Error> {
        let v = self.need(at, name)?;
        if v.as_str().is_none() {
            return Err(fail(format!("{}: {name} must be a string, not {}", self.what, v.kind())));
        }
        Ok(v)
    }

    /// A whole number; absent and None are absent.
    pub(super) fn int(&self, at: usize, name: &str) -> Result<Option<i64>, Error> {
        match self.get(at, name) {
            None => Ok(None),
            Some(v) if v.is_none() => Ok(None),
            Some(v) => i64::try_from(v.clone()).map(Some).map_err(|_| {
                fail(format!("{}: {name} must be an integer, not {}", self.what, v.kind()))
            }),
        }
    }

    /// A flag by Python's truth of any value.
    pub(super) fn flag(&self, at: usize, name: &str, default: bool) -> bool {
        self.get(at, name).map_or(default, |v| v.is_true())
    }

    /// The arguments after the first `n`, as a call takes them.
    pub(super) fn after(&self, n: usize) -> Vec<Value> {
        let mut rv: Vec<Value> = self.positional.iter().skip(n).cloned().collect();
        if !self.named.is_empty() {
            rv.push(
                Kwargs::from_iter(self.named.iter().map(|(k, v)| (k.clone(), v.clone()))).into(),
            );
        }
        rv
    }

    /// The arguments given by position.
    pub(super) fn positional(&self) -> &[Value] {
        &self.positional
    }

    /// The arguments given by name.
    pub(super) fn named(&self) -> &[(String, Value)] {
        &self.named
    }
}
