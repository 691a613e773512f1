//! Relative position biases in buckets (T5, Raffel et al. 2020).

use crate::bind::Binder;
use crate::error::Error;
use crate::spec::{Attn, RelativeBias};
use std::sync::Arc;

/// A bias for every head and distance up to a bound, beyond which it stays the same.
pub(super) struct Bias {
    /// [n_head, 2 * span + 1], from distance -span on.
    pub(super) table: Arc<[f32]>,
    /// The bound.
    pub(super) span: usize,
}

impl Bias {
    /// Binds `attn_rel_b` [n_buckets, n_head] of the layer, or of the first one, which serves all.
    pub(super) fn bind(b: &Binder, p: &str, a: &Attn, r: &RelativeBias) -> Result<Bias, Error> {
        let both_ways = !a.causal;
        // Each way needs a bucket for distance 0 and one for all others.
        if r.n_buckets < 4 || r.n_buckets > 1 << 16 || !r.n_buckets.is_multiple_of(4) {
            return Err(Error::BadValue {
                key: "attention.relative_buckets_count".into(),
                found: r.n_buckets.to_string(),
                expected: "a multiple of 4 up to 65536".into(),
            });
        }
        let stack = &p[..p.find("blk.").unwrap_or(0)];
        let own = format!("{p}attn_rel_b.weight");
        let name = if b.has(&own) { own } else { format!("{stack}blk.0.attn_rel_b.weight") };
        let dims = [a.n_head as u64, r.n_buckets as u64];
        let values = b.table(&name, &dims)?;
        let span = r.max_distance;
        let far = i64::try_from(span).unwrap_or(i64::MAX);
        let heads = 0..a.n_head;
        let table = heads.flat_map(|h| {
            let values = &values;
            (-far..=far).map(move |d| values[bucket(d, both_ways, r) * a.n_head + h])
        });
        Ok(Bias { table: table.collect(), span })
    }
}

/// The bucket of a key `distance` positions after the query: exact for near ones, then wider with
/// the logarithm of the distance. Single precision, as the published code, so that borders agree.
fn bucket(distance: i64, both_ways: bool, r: &RelativeBias) -> usize {
    let n = if both_ways { r.n_buckets / 2 } else { r.n_buckets };
    let (first, back) = match both_ways {
        true => (if distance > 0 { n } else { 0 }, distance.unsigned_abs() as usize),
        false => (0, distance.min(0).unsigned_abs() as usize),
    };
    let exact = n / 2;
    if back < exact {
        return first + back;
    }
    let ratio = (back as f32 / exact as f32).ln() / (r.max_distance as f32 / exact as f32).ln();
    first + (exact + (ratio * (n - exact) as f32) as usize).min(n - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_published_code() {
        let r = RelativeBias { n_buckets: 32, max_distance: 128 };
        let back = |d: &[i64]| d.iter().map(|&d| bucket(-d, false, &r)).collect::<Vec<_>>();
        assert_eq!(
            back(&[-5, 0, 1, 15, 16, 20, 21, 32, 127, 128, 9999]),
            [0, 0, 1, 15, 16, 17, 18, 21, 31, 31, 31]
        );
        let both = |d: &[i64]| d.iter().map(|&d| bucket(d, true, &r)).collect::<Vec<_>>();
        assert_eq!(both(&[0, -1, -7, -8, -16, -64, -128]), [0, 1, 7, 8, 10, 14, 15]);
        assert_eq!(both(&[1, 7, 8, 16, 64, 128]), [17, 23, 24, 26, 30, 31]);
    }
}
