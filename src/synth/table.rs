//! The table of tiny models (archs.txt): for each architecture its metadata, and which of the
//! tensors that files may have or lack this one has.

use formats::{Array, Value};

const TABLE: &str = include_str!("archs.txt");

/// What the table says of one architecture.
#[derive(Debug, Default)]
pub(super) struct Tiny {
    /// Metadata, without the architecture's prefix; a slash in front of those that have none.
    pub(super) keys: Vec<(&'static str, Value)>,
    /// Full names of tensors, with their dimensions (row length first) where they do not follow.
    pub(super) tensors: Vec<(String, Option<Vec<u64>>)>,
}

/// The names and words of all lines.
fn lines() -> impl Iterator<Item = (&'static str, std::str::SplitWhitespace<'static>)> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words))
    })
}

/// The architectures of the table.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    lines().map(|(name, _)| name).filter(|name| !name.starts_with('@'))
}

/// The words of `name` with groups written out.
fn words(name: &str) -> Option<Vec<&'static str>> {
    let (_, own) = lines().find(|(known, _)| *known == name)?;
    let mut all = Vec::new();
    for word in own {
        match word.starts_with('@') {
            true => all.extend(words(word)?),
            false => all.push(word),
        }
    }
    Some(all)
}

/// What the table says of `name`; `None` where it says nothing.
pub(super) fn find(name: &str) -> Option<Tiny> {
    let mut tiny = Tiny::default();
    let words = words(name).filter(|_| !name.starts_with('@'))?;
    for (key, text) in words.iter().filter_map(|word| word.split_once('=')) {
        match tiny.keys.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value(text),
            None => tiny.keys.push((key, value(text))),
        }
    }
    let n_layer = tiny.size("block_count");
    for tensor in words.iter().filter_map(|word| word.strip_prefix('+')) {
        tiny.tensors.extend(named(tensor, n_layer));
    }
    Some(tiny)
}

impl Tiny {
    /// A number that every line has.
    pub(super) fn size(&self, key: &str) -> u64 {
        let value = self.keys.iter().find(|(known, _)| *known == key);
        value.and_then(|(_, v)| u64::try_from(v.as_integer()?).ok()).unwrap_or(0)
    }
}

/// A value as it is spelled.
fn value(text: &str) -> Value {
    let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) else {
        return match (text.parse(), text.parse(), text.parse()) {
            (Ok(n), _, _) => Value::U32(n),
            (_, Ok(x), _) => Value::F32(x),
            (_, _, Ok(flag)) => Value::Bool(flag),
            _ => Value::String(text.into()),
        };
    };
    fn all<T: std::str::FromStr>(list: &str) -> Option<Vec<T>> {
        list.split(',').map(|v| v.parse().ok()).collect()
    }
    let numbers = || all(list).map(Array::I32).or_else(|| all(list).map(Array::F32));
    let array = numbers().or_else(|| all(list).map(Array::Bool));
    Value::Array(array.unwrap_or_else(|| Array::I32(Vec::new())))
}

/// The tensors of one word without its plus sign.
fn named(word: &str, n_layer: u64) -> Vec<(String, Option<Vec<u64>>)> {
    let (word, blocks) = word.split_once('@').unwrap_or((word, "0-"));
    let (name, dims) = match word.strip_suffix(']').and_then(|w| w.split_once('[')) {
        Some((name, dims)) => (name, dims.split(',').map(|d| d.parse().ok()).collect()),
        None => (word, None),
    };
    let pattern = match name.strip_prefix('/') {
        Some(whole) => whole.to_string(),
        None => format!("blk.*.{name}"),
    };
    if !pattern.contains('*') {
        return vec![(pattern, dims)];
    }
    let is_in = |part: &str, il: u64| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str, or: u64| text.parse().unwrap_or(or);
        (number(first, 0)..=number(last, u64::MAX)).contains(&il)
    };
    let blocks = (0..n_layer).filter(|&il| blocks.split(',').any(|part| is_in(part, il)));
    blocks.map(|il| (pattern.replace('*', &il.to_string()), dims.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_look_like() {
        assert_eq!(value("8"), Value::U32(8));
        assert_eq!(value("1e-5"), Value::F32(1e-5));
        assert_eq!(value("true"), Value::Bool(true));
        assert_eq!(value("yarn"), Value::String("yarn".into()));
        assert_eq!(value("[4,0]"), Value::Array(Array::I32(vec![4, 0])));
        assert_eq!(value("[0.5,-1]"), Value::Array(Array::F32(vec![0.5, -1.0])));
        assert_eq!(value("[true]"), Value::Array(Array::Bool(vec![true])));
    }

    #[test]
    fn tensors_stand_in_the_blocks_that_are_named() {
        let names = |word| named(word, 4).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("a.bias@1,3"), ["blk.1.a.bias", "blk.3.a.bias"]);
        assert_eq!(names("a@2-"), ["blk.2.a", "blk.3.a"]);
        assert_eq!(names("a@1-2"), ["blk.1.a", "blk.2.a"]);
        assert_eq!(names("a").len(), 4);
        assert_eq!(names("/output.weight"), ["output.weight"]);
        assert_eq!(names("/enc.blk.*.a@0"), ["enc.blk.0.a"]);
        assert_eq!(named("a[2,3]@0", 4)[0].1, Some(vec![2, 3]));
    }

    #[test]
    fn every_group_that_is_named_exists_and_later_values_win() {
        assert!(names().all(|name| find(name).is_some_and(|t| t.size("block_count") > 0)));
        assert!(find("@base").is_none() && find("nothing").is_none());
        let mut seen: Vec<_> = lines().map(|(name, _)| name).collect();
        seen.sort_unstable();
        assert!(seen.windows(2).all(|w| w[0] != w[1]), "a name stands twice");
        assert_eq!(find("baichuan").unwrap().size("block_count"), 32);
    }
}
