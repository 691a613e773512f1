//! Kernels are compared with the portable ones before they are trusted.
//!
//! A kernel that is wrong on one kind of processor, or in one build, would give answers that look
//! right. So when a plan is made, each kernel that it chooses multiplies a few random blocks, and
//! so does the scalar one; where they differ, the scalar one is used instead. That costs some tens
//! of microseconds a type, once in the life of the process.

use crate::error::Error;
use formats::TensorType;
use quant::{ActKind, Isa, Kernels, Out, Regime};
use std::sync::{Mutex, PoisonError};

/// Columns of the comparison: a wide tile and a rest.
const COLS: usize = 5;

/// What was found out so far.
static KNOWN: Mutex<Vec<(&'static str, bool)>> = Mutex::new(Vec::new());

/// The kernels of a type: those of `isa` when they agree with the scalar ones, else these.
///
/// # Errors
/// As [`quant::kernels`].
pub(crate) fn kernels(ty: TensorType, isa: Isa) -> Result<&'static Kernels, Error> {
    let fast = quant::kernels(ty, isa)?;
    if fast.act() == ActKind::Q8Bf16 {
        // Their columns are of a kind of their own, which others cannot share: all or none.
        for &each in quant::SUPPORTED {
            if !is_right(quant::kernels(each, isa)?)? {
                return kernels(ty, Isa::Avx512);
            }
        }
    }
    Ok(if is_right(fast)? { fast } else { quant::kernels(ty, Isa::Scalar)? })
}

/// Whether kernels give what the scalar ones give.
fn is_right(fast: &Kernels) -> Result<bool, Error> {
    if fast.isa() == Isa::Scalar {
        return Ok(true);
    }
    let scalar = quant::kernels(fast.tensor_type(), Isa::Scalar)?;
    let multiply: Multiply<'_> = &|w, k, n, x, regime, y| multiply(fast, w, k, n, x, regime, y);
    let both = [Regime::Rows, Regime::Panel].map(|r| (r, r));
    Ok(known(fast, || agree(scalar, fast, multiply, 33, both)))
}

/// The kernels for packed rows of a type, when there are any and they agree with the scalar ones for
/// rows as the file has them.
///
/// # Errors
/// As [`quant::kernels`].
pub(crate) fn packed_kernels(ty: TensorType, isa: Isa) -> Result<Option<&'static Kernels>, Error> {
    let scalar = quant::kernels(ty, Isa::Scalar)?;
    let Some(packed) = quant::packed_kernels(ty, isa)? else { return Ok(None) };
    let multiply: Multiply<'_> = &|w, k, n, x, regime, y| {
        let mut side_by_side = vec![0; w.len()];
        if quant::pack(ty, w, k, &mut side_by_side).is_ok() {
            multiply(packed, &side_by_side, k, n, x, regime, y);
        }
    };
    // Both drivers read columns as panels do.
    let both = [Regime::Rows, Regime::Panel].map(|r| (Regime::Panel, r));
    let right = known(packed, || agree(scalar, packed, multiply, 3 * quant::PACK_ROWS, both));
    Ok(right.then_some(packed))
}

/// What was found out of `kernels`, by `check` if nothing was yet.
fn known(kernels: &Kernels, check: impl FnOnce() -> bool) -> bool {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(&(_, right)) = known.iter().find(|k| k.0 == kernels.id()) {
        return right;
    }
    let right = check();
    known.push((kernels.id(), right));
    right
}

/// A product of `[n_rows, k]` weights with [`COLS`] columns of `x`, `[COLS, k]`, into
/// `[COLS, n_rows]`.
type Multiply<'a> = &'a dyn Fn(&[u8], usize, usize, &[f32], Regime, &mut [f32]);

fn multiply(
    kernels: &Kernels,
    w: &[u8],
    k: usize,
    n_rows: usize,
    x: &[f32],
    regime: Regime,
    y: &mut [f32],
) {
    let bytes = kernels.act().bytes(k);
    let mut acts = vec![0; COLS * bytes];
    for (x, dst) in x.chunks_exact(k).zip(acts.chunks_exact_mut(bytes)) {
        kernels.prepare(x, dst, regime);
    }
    let mut out = Out::new(y, COLS, n_rows, n_rows);
    match regime {
        Regime::Rows => kernels.rows(w, k, n_rows, &acts, COLS, &mut out),
        Regime::Panel => {
            let mut scratch = vec![0; kernels.panel_scratch(COLS)];
            kernels.panel(w, k, n_rows, &acts, COLS, &mut out, &mut scratch);
        }
    }
}

/// Whether `candidate` gives for `n_rows` rows what `oracle` gives, for pairs of the oracle's regime
/// and the candidate's, which may be as far off as `fast`.
fn agree(
    oracle: &Kernels,
    fast: &Kernels,
    candidate: Multiply<'_>,
    n_rows: usize,
    regimes: [(Regime, Regime); 2],
) -> bool {
    let ty = oracle.tensor_type();
    // Two whole spans and a piece of one.
    let block = ty.block_len();
    let k = 512 + if block < 256 { block } else { 0 };
    let mut w = vec![0; n_rows * ty.row_bytes(k).unwrap_or_default()];
    if quant::random_blocks(ty, 1, &mut w).is_err() {
        // A type that cannot be made up is left to the tests.
        return true;
    }
    let mut weights = vec![0.0; n_rows * k];
    if quant::decode(ty, &w, &mut weights).is_err() {
        return false;
    }
    // Whole numbers with 127 in every four: nobody rounds them.
    let whole = |i: usize| if i % 4 == 1 { 127.0 } else { (i * 37 % 255) as f32 - 127.0 };
    let x: Vec<f32> = (0..COLS * k).map(whole).collect();
    let magnitude = |c: usize, r: usize| -> f32 {
        let (x, w) = (&x[c * k..(c + 1) * k], &weights[r * k..(r + 1) * k]);
        x.iter().zip(w).map(|(x, w)| (x * w).abs()).sum()
    };
    regimes.into_iter().all(|(theirs, ours)| {
        let mut expected = vec![0.0; COLS * n_rows];
        let mut found = vec![f32::NAN; COLS * n_rows];
        multiply(oracle, &w, k, n_rows, &x, theirs, &mut expected);
        candidate(&w, k, n_rows, &x, ours, &mut found);
        (0..COLS * n_rows).all(|i| {
            // Types with offsets sum two parts, each rounded: four times the bound leaves room and
            // still finds a code that is off by one.
            let bound = match fast.error_bound(ours) {
                wide if wide > Kernels::ERROR_BOUND => wide,
                // Both round.
                bound => 4.0 * 2.0 * bound,
            };
            let bound = bound * magnitude(i / n_rows, i % n_rows);
            (found[i] - expected[i]).abs() <= bound
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_of_this_machine_agrees() {
        for isa in Isa::available() {
            for &ty in quant::SUPPORTED {
                assert_eq!(kernels(ty, isa).unwrap().isa(), isa, "{ty} on {isa}");
                let packed = packed_kernels(ty, isa).unwrap().is_some();
                let expected = quant::packed_kernels(ty, isa).unwrap().is_some();
                assert_eq!(packed, expected, "packed {ty} on {isa}");
            }
        }
    }

    #[test]
    fn a_fault_in_one_value_of_either_regime_is_noticed() {
        for &ty in quant::SUPPORTED {
            let mut w = vec![0; ty.row_bytes(512).unwrap()];
            if quant::random_blocks(ty, 1, &mut w).is_err() {
                continue;
            }
            let oracle = quant::kernels(ty, Isa::Scalar).unwrap();
            for faulty in [Regime::Rows, Regime::Panel] {
                let broken = |w: &[u8], k: usize, n: usize, x: &[f32], regime, y: &mut [f32]| {
                    multiply(oracle, w, k, n, x, regime, y);
                    if regime == faulty {
                        // One weight of one row, taken for zero.
                        let mut row = vec![0.0; k];
                        quant::decode_row(oracle.tensor_type(), w, 17, &mut row).unwrap();
                        let at = (0..k).max_by(|&a, &b| row[a].abs().total_cmp(&row[b].abs()));
                        let at = at.unwrap();
                        y[3 * n + 17] -= row[at] * x[3 * k + at].max(20.0);
                    }
                };
                let both = [Regime::Rows, Regime::Panel].map(|r| (r, r));
                assert!(!agree(oracle, oracle, &broken, 33, both), "{ty}, {faulty:?}");
                let silent = |_: &[u8], _: usize, _: usize, _: &[f32], _, _: &mut [f32]| {};
                assert!(!agree(oracle, oracle, &silent, 33, both), "{ty}: nothing written");
            }
        }
    }
}
