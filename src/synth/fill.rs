//! Random values of a scale that suits a tensor's role, so that every part of a tiny model moves
//! its answer and nothing overflows.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Names, by what they contain, and the range their values are drawn from. The first that fits
/// counts.
const RANGES: &[(&str, f32, f32)] = &[
    ("rope_f", 1.0, 3.0),
    // Negative: the state decays.
    ("ssm_a", -1.5, -0.2),
    ("ssm_dt.bias", -2.0, 0.5),
    ("ssm_d", -1.0, 1.0),
    ("time_mix_decay.weight", -3.0, 0.0),
    ("time_mix_w0", -2.0, 1.0),
    ("time_mix_k_k", 0.5, 1.5),
    ("lerp_", 0.0, 1.0),
    ("scale", 0.5, 1.5),
    ("attn_sinks", -1.0, 1.0),
    ("bias", -0.3, 0.3),
    ("exp_probs_b", -0.3, 0.3),
    ("norm", 0.7, 1.3),
    ("time_mix_ln", 0.7, 1.3),
    ("token_embd", -1.0, 1.0),
    ("position_embd", -0.5, 0.5),
    ("token_types", -0.5, 0.5),
    ("attn_rel_b", -1.0, 1.0),
];

/// Names that [`RANGES`] would catch although they are matrices like others.
const MATRICES: &[&str] = &["ssm_dt.weight", "ssm_alpha", "indexer.proj"];

/// The range for a tensor: a matrix of row length `n` keeps the size of what it is multiplied with,
/// more or less.
fn range(name: &str, dims: &[u64]) -> (f32, f32) {
    let found = RANGES.iter().find(|(part, ..)| name.contains(part));
    match found.filter(|_| !MATRICES.iter().any(|m| name.contains(m))) {
        Some(&(_, low, high)) => (low, high),
        None if dims.iter().filter(|&&d| d > 1).count() < 2 => (-0.5, 0.5),
        None => {
            let most = (4.0 / dims[0] as f32).sqrt();
            (-most, most)
        }
    }
}

/// The little-endian values of a tensor with dimensions `dims` (row length first).
pub(super) fn values(name: &str, dims: &[u64], random: &mut ChaCha8Rng) -> Vec<u8> {
    let (low, high) = range(name, dims);
    let n: u64 = dims.iter().product();
    let mut one = || {
        // The upper 24 bits: every value has the same distance to its neighbours.
        let unit = (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
        (low + unit * (high - low)).to_le_bytes()
    };
    (0..n).flat_map(|_| one()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_suit_the_role() {
        assert_eq!(range("blk.0.ssm_a", &[1, 4]), (-1.5, -0.2));
        assert_eq!(range("blk.0.ssm_alpha.weight", &[64, 4]), (-0.25, 0.25));
        assert_eq!(range("blk.0.attn_norm.weight", &[64]), (0.7, 1.3));
        assert_eq!(range("blk.0.attn_norm.bias", &[64]), (-0.3, 0.3));
        assert_eq!(range("blk.0.ssm_dt.bias", &[4]), (-2.0, 0.5));
        assert_eq!(range("blk.0.ffn_up.weight", &[16, 8]), (-0.5, 0.5));
    }
}
