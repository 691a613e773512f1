//! Blocks with random codes and sane scales, for models whose speed is measured and whose answers
//! nobody reads.

use crate::error::Error;
use formats::TensorType;
use half::{bf16, f16};

/// A small fast generator (xorshift64*, Marsaglia 2003 and Vigna 2014).
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Where the half-precision scales of a block stand, and their values: weights come out around
/// zero with a deviation of some hundredths. Empty for types whose scales [`settle`] knows.
fn scales(ty: TensorType) -> Option<&'static [(usize, f32)]> {
    use TensorType::{
        IQ1M, IQ1S, IQ2S, IQ2XS, IQ2XXS, IQ3S, IQ3XXS, IQ4NL, IQ4XS, MXFP4, NVFP4, Q1_0, Q2_0, Q2K,
        Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, TQ1_0, TQ2_0,
    };
    Some(match ty {
        Q4_0 => &[(0, 0.004)],
        Q4_1 => &[(0, 0.004), (2, -0.03)],
        Q5_0 => &[(0, 0.002)],
        Q5_1 => &[(0, 0.002), (2, -0.031)],
        Q8_0 | IQ4NL => &[(0, 0.0003)],
        Q2K => &[(80, 0.002), (82, 0.003)],
        Q3K => &[(108, 0.0005)],
        Q4K => &[(0, 0.0001), (2, 0.00075)],
        Q5K => &[(0, 0.00005), (2, 0.00078)],
        Q6K => &[(208, 0.00002)],
        IQ4XS => &[(0, 0.000016)],
        IQ3XXS => &[(0, 0.00015)],
        IQ3S => &[(0, 0.00012)],
        IQ2XXS | IQ2XS | IQ2S => &[(0, 0.0004)],
        IQ1S => &[(0, 0.003)],
        TQ1_0 => &[(52, 0.025)],
        TQ2_0 => &[(64, 0.025)],
        Q1_0 => &[(0, 0.02)],
        Q2_0 => &[(0, 0.025)],
        IQ1M | MXFP4 | NVFP4 => &[],
        _ => return None,
    })
}

/// Gives a block of random bytes its scales.
fn settle(ty: TensorType, fields: &[(usize, f32)], block: &mut [u8]) {
    for &(at, scale) in fields {
        block[at..at + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
    }
    match ty {
        TensorType::MXFP4 => block[0] = 120,
        TensorType::NVFP4 => block[..4].fill(4),
        // a nibble of the half-precision scale at the top of each of the last four words
        TensorType::IQ1M => {
            let scale = f16::from_f32(0.003).to_bits();
            for (i, top) in block[48..].iter_mut().skip(1).step_by(2).enumerate() {
                *top = *top & 15 | ((scale >> (4 * i) & 15) << 4) as u8;
            }
        }
        // codes are -1, 0, 1, 2 and a 2 would shift the mean: make it a 0
        TensorType::Q2_0 => block[2..].iter_mut().for_each(ternary),
        TensorType::TQ2_0 => block[..64].iter_mut().for_each(ternary),
        _ => {}
    }
}

/// Turns the 2-bit codes 3 of a byte into 1.
fn ternary(byte: &mut u8) {
    *byte &= !((*byte & 0x55) << 1);
}

/// Fills whole blocks of `ty` from `seed`: the same bytes for the same seed on every machine.
///
/// # Errors
/// [`Error::UnsupportedType`] for types that cannot be made so.
///
/// # Panics
/// When `dst` is no whole number of blocks.
pub fn random_blocks(ty: TensorType, seed: u64, dst: &mut [u8]) -> Result<(), Error> {
    assert!(dst.len().is_multiple_of(ty.block_bytes()), "{} bytes of {ty}", dst.len());
    // A seed of zero would stay there.
    let mut random = Generator(seed ^ 0x9E37_79B9_7F4A_7C15);
    // The sum of four uniform numbers is near enough to a bell.
    let mut number = || {
        let [a, b, c, d] = [0, 16, 32, 48].map(|shift| (random.next() >> shift & 0xFFFF) as f32);
        (a + b + c + d - 2.0 * 65535.0) * (0.02 / 37837.0)
    };
    match ty {
        TensorType::F32 => {
            dst.as_chunks_mut().0.iter_mut().for_each(|b| *b = number().to_le_bytes());
        }
        TensorType::F16 => {
            let bytes = dst.as_chunks_mut().0.iter_mut();
            bytes.for_each(|b| *b = f16::from_f32(number()).to_le_bytes());
        }
        TensorType::BF16 => {
            let bytes = dst.as_chunks_mut().0.iter_mut();
            bytes.for_each(|b| *b = bf16::from_f32(number()).to_le_bytes());
        }
        _ => {
            let fields = scales(ty).ok_or_else(|| crate::table::unsupported(ty))?;
            for word in dst.chunks_mut(8) {
                let bytes = random.next().to_le_bytes();
                word.copy_from_slice(&bytes[..word.len()]);
            }
            dst.chunks_exact_mut(ty.block_bytes()).for_each(|b| settle(ty, fields, b));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_are_small_centred_and_repeatable() {
        for &ty in crate::SUPPORTED {
            let n = 256 * 400;
            let mut bytes = vec![0; ty.row_bytes(n).unwrap()];
            random_blocks(ty, 7, &mut bytes).unwrap();
            let mut again = vec![0; bytes.len()];
            random_blocks(ty, 7, &mut again).unwrap();
            assert!(bytes == again, "{ty}");
            let mut w = vec![0.0; n];
            crate::decode(ty, &bytes, &mut w).unwrap();
            let mean = w.iter().sum::<f32>() / n as f32;
            let deviation = (w.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n as f32).sqrt();
            assert!(deviation > 0.005 && deviation < 0.08, "{ty}: deviation {deviation}");
            assert!(mean.abs() < 0.25 * deviation, "{ty}: mean {mean}, deviation {deviation}");
        }
    }

    #[test]
    fn a_type_that_cannot_be_made_is_named() {
        let mut bytes = [0; 8];
        let e = random_blocks(TensorType::I64, 1, &mut bytes).unwrap_err().to_string();
        assert!(e.contains("I64"), "{e}");
    }
}
