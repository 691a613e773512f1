//! Which tensor gets which type: one type for all matrices, or the usual mixtures.

use super::Shape;
use formats::TensorType;
use std::fmt;
use std::str::FromStr;

/// A file type as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// All matrices of one type; the output matrix Q6_K where the type has fewer bits and the rows
    /// allow it, as quantizers do.
    All(TensorType),
    /// Q4_K, with Q6_K for the output, and for half of the value and down projections.
    Q4KM,
    /// Q5_K, with Q6_K as in [`Recipe::Q4KM`].
    Q5KM,
}

/// The layers in which mixtures spend more bits: the first and last eighth, and every third of
/// those between. What llama.cpp's quantizer does, so that figures can be compared.
fn more_bits(il: usize, n_layer: usize) -> bool {
    let eighth = n_layer / 8;
    il < eighth || il >= 7 * n_layer / 8 || (il - eighth) % 3 == 2
}

impl Recipe {
    /// The type of a matrix.
    pub(super) fn ty(self, name: &str, shape: &Shape) -> TensorType {
        let base = match self {
            Recipe::All(ty) => ty,
            Recipe::Q4KM => TensorType::Q4K,
            Recipe::Q5KM => TensorType::Q5K,
        };
        let is_output = name == "output.weight" || (shape.tied && name == "token_embd.weight");
        if is_output {
            let fine = base.bits_per_weight() > TensorType::Q6K.bits_per_weight();
            let fits = shape.n_embd.is_multiple_of(TensorType::Q6K.block_len());
            let q6 = if fits { TensorType::Q6K } else { TensorType::Q8_0 };
            return if fine { base } else { q6 };
        }
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
        let favoured = name.contains("attn_v.") || name.contains("ffn_down");
        match (self, layer) {
            (Recipe::All(_), _) | (_, None) => base,
            (_, Some(il)) if favoured && more_bits(il, shape.n_layer) => TensorType::Q6K,
            _ => base,
        }
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(text: &str) -> Result<Recipe, String> {
        match text.to_ascii_lowercase().as_str() {
            "q4_k_m" => return Ok(Recipe::Q4KM),
            "q5_k_m" => return Ok(Recipe::Q5KM),
            _ => {}
        }
        let ty = quant::SUPPORTED.iter().find(|ty| ty.name().eq_ignore_ascii_case(text));
        ty.copied().map(Recipe::All).ok_or_else(|| {
            let names: Vec<_> = quant::SUPPORTED.iter().map(|ty| ty.name()).collect();
            format!("unknown type {text:?}; expected Q4_K_M, Q5_K_M or one of {}", names.join(" "))
        })
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recipe::All(ty) => f.write_str(ty.name()),
            Recipe::Q4KM => f.write_str("Q4_K_M"),
            Recipe::Q5KM => f.write_str("Q5_K_M"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_printed_back() {
        for name in ["Q4_K_M", "Q5_K_M", "Q4_0", "F16", "MXFP4"] {
            assert_eq!(name.to_lowercase().parse::<Recipe>().unwrap().to_string(), name);
        }
        assert!("q9".parse::<Recipe>().unwrap_err().contains("Q8_0"));
    }

    #[test]
    fn mixtures_spend_bits_at_both_ends() {
        let more: Vec<usize> = (0..16).filter(|&il| more_bits(il, 16)).collect();
        assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15]);
    }
}
