//! Pages of keys with positions side by side: `[head_dim, PAGE]`.
//!
//! Scores are computed for all positions of a page at once, one element of the key after the other.
//! Stored so, a page is read in the order in which it is used, and decode, which uses a page for a
//! few queries only, need not turn rows into columns each time. A key is written once and read in
//! every later step.
//!
//! F32, F16 and BF16: element i of position p is number `i * PAGE + p` of the page. Q8_0: for each
//! block of 32 elements, 32 rows of PAGE codes, then PAGE scales in half precision.

use super::PAGE;
use crate::KvType;
use crate::vector::{Q8_BYTES, Q8_LEN, Vector};
use half::f16;

/// Elements encoded at a time.
const STEP: usize = 32;

/// Bytes of a Q8_0 block of a page.
const Q8_BLOCK: usize = PAGE * Q8_BYTES;

/// A buffer that every element type may lie in.
#[repr(align(16))]
struct Encoded([u8; 4 * STEP]);

/// Stores a key, `[head_dim]`, as position `at` of a page of `PAGE * ty.row_bytes(head_dim)` bytes.
///
/// # Safety
/// `page` is valid for writing so many bytes, aligned to 4, and nobody else reads or writes position
/// `at` of it meanwhile; other positions may be written at the same time.
///
/// # Panics
/// When `at` is no position of a page.
pub unsafe fn store_key(ty: KvType, vector: Vector, src: &[f32], page: *mut u8, at: usize) {
    assert!(at < PAGE, "position {at} of a page of {PAGE}");
    let mut encoded = Encoded([0; 4 * STEP]);
    for (i, part) in src.chunks(STEP).enumerate() {
        let bytes = &mut encoded.0[..ty.row_bytes(part.len())];
        ty.encode(vector, part, bytes);
        // SAFETY: the caller owns the position, and every offset lies inside the page.
        unsafe {
            match ty {
                KvType::F32 => scatter::<4>(bytes, page.add(4 * (i * STEP * PAGE + at)), 4 * PAGE),
                KvType::F16 | KvType::BF16 => {
                    scatter::<2>(bytes, page.add(2 * (i * STEP * PAGE + at)), 2 * PAGE);
                }
                KvType::Q8_0 => {
                    // A block: the scale, then the codes.
                    let block = page.add(i * Q8_BLOCK);
                    scatter::<1>(&bytes[Q8_BYTES - Q8_LEN..], block.add(at), PAGE);
                    scatter::<2>(&bytes[..2], block.add(Q8_LEN * PAGE + 2 * at), 2);
                }
            }
        }
    }
}

/// Writes elements of N bytes, `stride` bytes apart.
///
/// # Safety
/// Every place is valid for writing.
#[inline(always)]
unsafe fn scatter<const N: usize>(src: &[u8], dst: *mut u8, stride: usize) {
    for (i, element) in src.as_chunks::<N>().0.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { dst.add(i * stride).cast::<[u8; N]>().write_unaligned(*element) };
    }
}

/// Elements `first..first + n` (multiples of 32, but for the end of the key) of all positions of a
/// page to f32, `[n, PAGE]`.
#[inline(always)]
pub(super) fn read_keys(
    ty: KvType,
    vector: Vector,
    page: &[u8],
    first: usize,
    n: usize,
    dst: &mut [f32],
) {
    let dst = &mut dst[..n * PAGE];
    match ty {
        KvType::F32 | KvType::F16 | KvType::BF16 => {
            let row = ty.row_bytes(PAGE);
            ty.decode(vector, &page[first * row..(first + n) * row], dst);
        }
        KvType::Q8_0 => {
            let blocks = page[first / Q8_LEN * Q8_BLOCK..].chunks(Q8_BLOCK);
            for (block, dst) in blocks.zip(dst.chunks_mut(Q8_LEN * PAGE)) {
                read_block(vector, block, dst);
            }
        }
    }
}

/// A block of codes times the scale of each position.
#[inline(always)]
fn read_block(vector: Vector, block: &[u8], dst: &mut [f32]) {
    let (codes, scales) = block.split_at(Q8_LEN * PAGE);
    let mut scale = [0.0f32; PAGE];
    let halves: &[f16] = bytemuck::cast_slice(&scales[..2 * PAGE]);
    vector.f16_to_f32(halves, &mut scale);
    for (codes, dst) in codes.as_chunks::<PAGE>().0.iter().zip(dst.as_chunks_mut::<PAGE>().0) {
        for p in 0..PAGE {
            dst[p] = scale[p] * f32::from(codes[p] as i8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn a_key_comes_back_as_its_row_would() {
        let vector = Vector::new(Isa::detect());
        for ty in KvType::ALL {
            for dim in [1, 31, 32, 40, 64, 80, 128] {
                let mut page = vec![0xFFFF_FFFFu32; PAGE * ty.row_bytes(dim).div_ceil(4)];
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut page);
                let key = |p: usize| -> Vec<f32> {
                    (0..dim).map(|i| ((i * 7 + p * 13) % 23) as f32 - 11.5).collect()
                };
                for p in 0..PAGE {
                    // SAFETY: a whole page, and one thread.
                    unsafe { store_key(ty, vector, &key(p), bytes.as_mut_ptr(), p) };
                }
                let mut all = vec![f32::NAN; dim * PAGE];
                read_keys(ty, vector, bytes, 0, dim, &mut all);
                for p in 0..PAGE {
                    let mut row = vec![0u32; ty.row_bytes(dim).div_ceil(4)];
                    let row = &mut bytemuck::cast_slice_mut(&mut row)[..ty.row_bytes(dim)];
                    let mut expected = vec![0.0; dim];
                    ty.encode(vector, &key(p), row);
                    ty.decode(vector, row, &mut expected);
                    let found: Vec<f32> = (0..dim).map(|i| all[i * PAGE + p]).collect();
                    assert_eq!(found, expected, "{ty}, {dim} elements, position {p}");
                }
            }
        }
    }
}
