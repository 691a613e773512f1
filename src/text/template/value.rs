//! The values a template sees: Python-like lists, tuples, generators and dicts.
//!
//! Strings of callers are shaded (see `shade.rs`), keys included; look-ups compare the plain form.
//! Nesting is limited to [`MAX_DEPTH`], and what `append` and its kin take in is copied, so that no
//! cycle can form.

use super::shade;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How deep lists and dicts may nest.
pub(super) const MAX_DEPTH: usize = 150;

/// Bytes that one unit of fuel pays for (minijinja's own rate).
const BYTES_PER_FUEL: usize = 64;

/// An error of an operation.
pub(super) fn fail(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// Takes fuel for `bytes` of work or memory.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64 + 1)
}

/// The bytes that the remaining fuel pays for.
pub(super) fn room(state: &State<'_, '_>) -> usize {
    state.fuel_levels().map_or(usize::MAX, |(_, left)| {
        usize::try_from(left).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_FUEL)
    })
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // a panic while the lock was held cannot leave the plain data behind it half changed
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a [`List`] is in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `[1, 2]`.
    List,
    /// `(1, 2)`.
    Tuple,
    /// What `map`, `select` and the like give: true even when empty, gone after one pass.
    Stream,
}

/// A list, tuple or generator.
#[derive(Debug)]
pub(super) struct List {
    items: Mutex<Vec<Value>>,
    pub(super) shape: Shape,
    /// It came from the caller: what printing adds (brackets, commas) is untrusted too.
    pub(super) shaded: bool,
    depth: AtomicUsize,
    loops: AtomicUsize,
}

/// The nesting of a value; scalars have none.
pub(super) fn depth(v: &Value) -> usize {
    if let Some(l) = v.downcast_object_ref::<List>() {
        l.depth.load(Ordering::Relaxed)
    } else if let Some(d) = v.downcast_object_ref::<Dict>() {
        d.depth.load(Ordering::Relaxed)
    } else {
        0
    }
}

fn depth_over<'a>(items: impl Iterator<Item = &'a Value>) -> Result<usize, Error> {
    let depth = 1 + items.map(depth).max().unwrap_or(0);
    if depth > MAX_DEPTH {
        Err(fail(format!("values nested deeper than {MAX_DEPTH}")))
    } else {
        Ok(depth)
    }
}

impl List {
    /// Makes a value of items.
    pub(super) fn value(items: Vec<Value>, shape: Shape, shaded: bool) -> Result<Value, Error> {
        let depth = depth_over(items.iter())?;
        Ok(Value::from_object(List {
            items: Mutex::new(items),
            shape,
            shaded,
            depth: AtomicUsize::new(depth),
            loops: AtomicUsize::new(0),
        }))
    }

    /// A copy of the items; a generator is used up by it.
    pub(super) fn items(&self) -> Vec<Value> {
        if self.shape == Shape::Stream {
            std::mem::take(&mut *lock(&self.items))
        } else {
            self.peek()
        }
    }

    /// A copy of the items that leaves a generator as it is.
    pub(super) fn peek(&self) -> Vec<Value> {
        lock(&self.items).clone()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.items).len()
    }

    /// Changes the list in place; `added` are the values that will be put in.
    pub(super) fn change<R>(
        &self,
        added: &[Value],
        f: impl FnOnce(&mut Vec<Value>) -> R,
    ) -> Result<R, Error> {
        if self.shape != Shape::List {
            return Err(fail("only lists can be changed"));
        }
        if self.loops.load(Ordering::Relaxed) > 0 {
            return Err(fail("a list may not be changed while a loop runs over it"));
        }
        let depth = depth_over(added.iter())?;
        self.depth.fetch_max(depth, Ordering::Relaxed);
        Ok(f(&mut lock(&self.items)))
    }
}

/// A loop over a list, which keeps the list from being changed while it lives.
struct Walk {
    list: Arc<List>,
    next: usize,
}

impl Iterator for Walk {
    type Item = Value;
    fn next(&mut self) -> Option<Value> {
        let item = lock(&self.list.items).get(self.next).cloned();
        self.next += 1;
        item
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.list.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.list.loops.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.shape == Shape::Stream { ObjectRepr::Iterable } else { ObjectRepr::Seq }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        lock(&self.items).get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        if self.shape == Shape::Stream {
            return Enumerator::Values(self.items());
        }
        self.loops.fetch_add(1, Ordering::Relaxed);
        Enumerator::Iter(Box::new(Walk { list: self.clone(), next: 0 }))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.shape == Shape::Stream || self.len() > 0
    }

    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        super::containers::list_method(state, self, method, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(&Value::from_dyn_object(self.clone()), f)
    }
}

/// A dict key as Python would hash it; texts are plain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Text(String),
    Int(i64),
    None,
    /// Any other scalar, by its print.
    Other(String),
}

impl Key {
    /// The key that a value hashes to; containers have none.
    pub(super) fn of(v: &Value) -> Option<Key> {
        match v.kind() {
            ValueKind::String => v.as_str().map(|s| Key::Text(shade::plain(s).into_owned())),
            ValueKind::Bool => Some(Key::Int(i64::from(v.is_true()))),
            ValueKind::None => Some(Key::None),
            ValueKind::Number => {
                Some(i64::try_from(v.clone()).map_or_else(|_| Key::Other(v.to_string()), Key::Int))
            }
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Entries {
    order: Vec<(Value, Value)>,
    index: HashMap<Key, usize>,
}

impl Entries {
    fn set(&mut self, key: Value, value: Value) -> Result<(), Error> {
        let k = Key::of(&key).ok_or_else(|| fail(format!("a {} cannot be a key", key.kind())))?;
        if let Some(&i) = self.index.get(&k) {
            self.order[i].1 = value;
        } else {
            self.index.insert(k, self.order.len());
            self.order.push((key, value));
        }
        Ok(())
    }
}

/// A dict in insertion order.
#[derive(Debug)]
pub(super) struct Dict {
    entries: Mutex<Entries>,
    /// It came from the caller: what printing adds is untrusted too.
    pub(super) shaded: bool,
    depth: AtomicUsize,
}

impl Dict {
    /// Makes a value of pairs; later pairs win.
    pub(super) fn value(pairs: Vec<(Value, Value)>, shaded: bool) -> Result<Value, Error> {
        let depth = depth_over(pairs.iter().map(|p| &p.1))?;
        let mut entries = Entries::default();
        for (k, v) in pairs {
            entries.set(k, v)?;
        }
        Ok(Value::from_object(Dict {
            entries: Mutex::new(entries),
            shaded,
            depth: AtomicUsize::new(depth),
        }))
    }

    pub(super) fn pairs(&self) -> Vec<(Value, Value)> {
        lock(&self.entries).order.clone()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.entries).order.len()
    }

    pub(super) fn get(&self, key: &Value) -> Option<Value> {
        let entries = lock(&self.entries);
        let i = *entries.index.get(&Key::of(key)?)?;
        Some(entries.order[i].1.clone())
    }

    pub(super) fn set(&self, key: Value, value: Value) -> Result<(), Error> {
        let depth = depth_over(std::iter::once(&value))?;
        self.depth.fetch_max(depth, Ordering::Relaxed);
        lock(&self.entries).set(key, value)
    }

    pub(super) fn clear(&self) {
        *lock(&self.entries) = Entries::default();
    }

    pub(super) fn remove(&self, key: &Value) -> Option<Value> {
        let mut entries = lock(&self.entries);
        let i = entries.index.remove(&Key::of(key)?)?;
        for at in entries.index.values_mut() {
            *at -= usize::from(*at > i);
        }
        Some(entries.order.remove(i).1)
    }
}

/// The methods of a dict, which Jinja finds before (`x.items`) or after (`x['items']`) its keys.
const DICT_METHODS: [&str; 9] =
    ["clear", "copy", "get", "items", "keys", "pop", "setdefault", "update", "values"];

/// A method of a dict that was named and not called.
#[derive(Debug)]
struct Bound {
    dict: Arc<Dict>,
    method: &'static str,
}

impl Object for Bound {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        super::containers::dict_method(state, &self.dict, self.method, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<built-in method {} of dict object>", self.method)
    }
}

impl Dict {
    fn bound(self: &Arc<Self>, name: &str) -> Option<Value> {
        let method = DICT_METHODS.iter().find(|m| **m == name)?;
        Some(Value::from_object(Bound { dict: self.clone(), method }))
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key).or_else(|| self.bound(&shade::plain(key.as_str()?)))
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.bound(key).or_else(|| self.get(&Value::from(key)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(lock(&self.entries).order.iter().map(|p| p.0.clone()).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len())
    }

    fn call_method(
        self: &Arc<Self>,
        state: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        super::containers::dict_method(state, self, method, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        render(&Value::from_dyn_object(self.clone()), f)
    }
}

/// For the few places where the engine prints a value by itself (its error messages).
fn render(v: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const LIMIT: usize = 4096;
    let mut out = super::print::Out::new(LIMIT);
    let cut = super::print::write_str(&mut out, v).is_err();
    f.write_str(&shade::plain(&out.text))?;
    if cut { f.write_str("...") } else { Ok(()) }
}

/// Copies a value with all it holds, so that later changes and cycles cannot reach it.
pub(super) fn deep_copy(state: &State<'_, '_>, v: &Value) -> Result<Value, Error> {
    if let Some(l) = v.downcast_object_ref::<List>() {
        charge(state, 64 * (l.len() + 1))?;
        let items = l.peek().iter().map(|x| deep_copy(state, x)).collect::<Result<_, _>>()?;
        List::value(items, l.shape, l.shaded)
    } else if let Some(d) = v.downcast_object_ref::<Dict>() {
        charge(state, 128 * (d.len() + 1))?;
        let pairs = d
            .pairs()
            .into_iter()
            .map(|(k, x)| Ok((k, deep_copy(state, &x)?)))
            .collect::<Result<_, Error>>()?;
        Dict::value(pairs, d.shaded)
    } else {
        Ok(v.clone())
    }
}

/// The items of anything that Python would iterate over.
pub(super) fn iterate(state: &State<'_, '_>, v: &Value) -> Result<Vec<Value>, Error> {
    let items = if let Some(l) = v.downcast_object_ref::<List>() {
        charge(state, 32 * l.len())?;
        l.items()
    } else if v.is_none() {
        return Err(fail("'NoneType' object is not iterable"));
    } else {
        let mut items = Vec::new();
        for item in v.try_iter()? {
            if items.len() % 32 == 0 {
                charge(state, 32 * 32)?;
            }
            items.push(item);
        }
        items
    };
    Ok(items)
}

/// Whether text that comes from the caller is shaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The caller's own: shaded.
    Caller,
    /// As the template's own.
    Template,
}

/// Turns JSON into a template value.
///
/// # Errors
/// Nesting deeper than [`MAX_DEPTH`].
pub(super) fn from_json(v: &serde_json::Value, trust: Trust) -> Result<Value, Error> {
    convert(v, trust, 0)
}

fn convert(v: &serde_json::Value, trust: Trust, level: usize) -> Result<Value, Error> {
    use serde_json::Value as Json;
    if level > MAX_DEPTH {
        return Err(fail(format!("values nested deeper than {MAX_DEPTH}")));
    }
    let shaded = trust == Trust::Caller;
    Ok(match v {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(*b),
        Json::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::from(i),
            (_, Some(u)) => Value::from(u),
            _ => Value::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(s) => text(s, trust),
        Json::Array(items) => {
            let items =
                items.iter().map(|x| convert(x, trust, level + 1)).collect::<Result<_, _>>()?;
            List::value(items, Shape::List, shaded)?
        }
        Json::Object(map) => {
            let mut pairs = Vec::with_capacity(map.len());
            for (k, x) in map {
                pairs.push((text(k, trust), convert(x, trust, level + 1)?));
            }
            Dict::value(pairs, shaded)?
        }
    })
}

/// A text value of the given provenance.
pub(super) fn text(s: &str, trust: Trust) -> Value {
    match trust {
        Trust::Caller => Value::from(shade::shade(s)),
        Trust::Template => Value::from(&*shade::sanitize(s)),
    }
}

/// Bytes of text and slots in a JSON value: what a render may cost grows with it.
pub(super) fn json_bytes(v: &serde_json::Value) -> usize {
    use serde_json::Value as Json;
    match v {
        Json::String(s) => 16 + s.len(),
        Json::Array(a) => 16 + a.iter().map(json_bytes).sum::<usize>(),
        Json::Object(m) => 16 + m.iter().map(|(k, x)| 16 + k.len() + json_bytes(x)).sum::<usize>(),
        _ => 16,
    }
}
