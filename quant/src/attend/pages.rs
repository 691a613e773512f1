//! How keys and values lie in a page.
//!
//! Keys have positions side by side, `[head_dim, PAGE]`: scores are computed for all positions of a
//! page at once, one element of the key after the other, so that a page is read in the order in which
//! it is used. A key is written once and read in every later step. Values are rows, `[PAGE,
//! head_dim]`.
//!
//! Q8_0 and Q4_0: first the codes of all blocks, then the scales, `[block, PAGE]` in half precision,
//! of keys and values alike. A key's codes are rows of PAGE bytes, 32 a block for Q8_0 and 16 for
//! Q4_0 (element i of a block in the low half, element 16 + i in the high one); a value's codes are
//! those of its blocks one after the other. No two positions share a byte, so that threads may store
//! neighbours at the same time.

use super::PAGE;
use crate::KvType;
use crate::vector::{Q8_LEN, Vector};
use half::f16;

/// Elements encoded at a time.
const STEP: usize = Q8_LEN;

/// A buffer that every element type may lie in.
#[repr(align(16))]
struct Encoded([u8; 4 * STEP]);

/// Bytes of the codes of a block of 32 elements; 0 for types without blocks.
pub(super) fn code_bytes(ty: KvType) -> usize {
    match ty {
        KvType::F32 | KvType::F16 | KvType::BF16 => 0,
        KvType::Q8_0 => Q8_LEN,
        KvType::Q4_0 => Q8_LEN / 2,
    }
}

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
    let codes = code_bytes(ty);
    // SAFETY: the scales stand after the codes, inside the page.
    let scales = unsafe { page.add(src.len().div_ceil(STEP) * codes * PAGE) };
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
                KvType::Q8_0 | KvType::Q4_0 => {
                    // A block: the scale, then the codes.
                    scatter::<1>(&bytes[2..], page.add(i * codes * PAGE + at), PAGE);
                    scatter::<2>(&bytes[..2], scales.add(2 * (i * PAGE + at)), 2);
                }
            }
        }
    }
}

/// Stores a value, `[head_dim]`, as position `at` of a page of `PAGE * ty.row_bytes(head_dim)` bytes.
///
/// # Safety
/// As [`store_key`].
///
/// # Panics
/// When `at` is no position of a page.
pub unsafe fn store_value(ty: KvType, vector: Vector, src: &[f32], page: *mut u8, at: usize) {
    assert!(at < PAGE, "position {at} of a page of {PAGE}");
    let codes = code_bytes(ty);
    if codes == 0 {
        let row = ty.row_bytes(src.len());
        // SAFETY: the caller owns the position's row, which lies inside the page.
        let dst = unsafe { std::slice::from_raw_parts_mut(page.add(at * row), row) };
        return ty.encode(vector, src, dst);
    }
    let blocks = src.len().div_ceil(STEP);
    let mut encoded = Encoded([0; 4 * STEP]);
    for (i, part) in src.chunks(STEP).enumerate() {
        let bytes = &mut encoded.0[..2 + codes];
        ty.encode(vector, part, bytes);
        // SAFETY: the caller owns the position, and every offset lies inside the page.
        unsafe {
            scatter::<1>(&bytes[2..], page.add((at * blocks + i) * codes), 1);
            scatter::<2>(&bytes[..2], page.add(PAGE * blocks * codes + 2 * (i * PAGE + at)), 2);
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

/// The scales of a page of blocks to f32, `[block, PAGE]`; of other types nothing.
#[inline(always)]
pub(super) fn read_scales<'s>(
    ty: KvType,
    vector: Vector,
    (page, head_dim): (&[u8], usize),
    dst: &'s mut [f32],
) -> &'s [f32] {
    let (codes, blocks) = (code_bytes(ty), head_dim.div_ceil(Q8_LEN));
    if codes == 0 {
        return &[];
    }
    let scales = &page[PAGE * blocks * codes..][..2 * PAGE * blocks];
    let dst = &mut dst[..PAGE * blocks];
    let scales: &[f16] = bytemuck::cast_slice(scales);
    vector.f16_to_f32(scales, dst);
    dst
}

/// Keys of a page to f32, `[head_dim, PAGE]`; those of blocks without their scales.
#[inline(always)]
pub(super) fn read_keys(
    ty: KvType,
    vector: Vector,
    (page, head_dim): (&[u8], usize),
    dst: &mut [f32],
) {
    let dst = &mut dst[..head_dim * PAGE];
    match ty {
        KvType::F32 | KvType::F16 | KvType::BF16 => {
            ty.decode(vector, &page[..ty.row_bytes(dst.len())], dst);
        }
        KvType::Q8_0 => dst.iter_mut().zip(page).for_each(|(d, &s)| *d = f32::from(s as i8)),
        KvType::Q4_0 => {
            let blocks = page.chunks(Q8_LEN / 2 * PAGE);
            for (dst, codes) in dst.chunks_mut(Q8_LEN * PAGE).zip(blocks) {
                let (low, high) = dst.split_at_mut(dst.len().min(Q8_LEN / 2 * PAGE));
                read_nibbles::<0>(codes, low);
                read_nibbles::<4>(codes, high);
            }
        }
    }
}

/// Values of the first `n` positions of a page to f32, `stride` apart; those of blocks without their
/// scales.
#[inline(always)]
pub(super) fn read_values(
    ty: KvType,
    vector: Vector,
    (page, head_dim, n): (&[u8], usize, usize),
    (dst, stride): (&mut [f32], usize),
) {
    let codes = code_bytes(ty);
    let row = if codes == 0 { ty.row_bytes(head_dim) } else { head_dim.div_ceil(Q8_LEN) * codes };
    if codes == 0 && stride == head_dim {
        // No padding: one long row.
        return ty.decode(vector, &page[..n * row], &mut dst[..n * stride]);
    }
    for (src, dst) in page.chunks_exact(row).zip(dst.chunks_exact_mut(stride)).take(n) {
        let dst = &mut dst[..head_dim];
        match ty {
            KvType::F32 | KvType::F16 | KvType::BF16 => ty.decode(vector, src, dst),
            KvType::Q8_0 => dst.iter_mut().zip(src).for_each(|(d, &s)| *d = f32::from(s as i8)),
            KvType::Q4_0 => {
                for (dst, codes) in dst.chunks_mut(Q8_LEN).zip(src.chunks(codes)) {
                    let (low, high) = dst.split_at_mut(dst.len().min(Q8_LEN / 2));
                    read_nibbles::<0>(codes, low);
                    read_nibbles::<4>(codes, high);
                }
            }
        }
    }
}

/// Codes of 4 bits, less 8.
#[inline(always)]
fn read_nibbles<const SHIFT: u32>(src: &[u8], dst: &mut [f32]) {
    dst.iter_mut().zip(src).for_each(|(d, &s)| *d = f32::from(s >> SHIFT & 15) - 8.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn what_is_stored_comes_back_as_its_row_would() {
        for isa in Isa::available() {
            let vector = Vector::new(isa);
            for ty in KvType::ALL {
                for dim in [1, 16, 31, 32, 40, 64, 80, 128] {
                    check(vector, ty, dim);
                }
            }
        }
    }

    fn check(vector: Vector, ty: KvType, dim: usize) {
        let mut pages = vec![0xFFFF_FFFFu32; 2 * PAGE * ty.row_bytes(dim).div_ceil(4)];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut pages);
        let (k, v) = bytes.split_at_mut(PAGE * ty.row_bytes(dim));
        let row = |p: usize| -> Vec<f32> {
            (0..dim).map(|i| ((i * 7 + p * 13) % 23) as f32 - 11.5).collect()
        };
        for p in 0..PAGE {
            // SAFETY: whole pages, and one thread.
            unsafe {
                store_key(ty, vector, &row(p), k.as_mut_ptr(), p);
                store_value(ty, vector, &row(p), v.as_mut_ptr(), p);
            }
        }
        let (mut keys, mut values) = (vec![f32::NAN; dim * PAGE], vec![f32::NAN; dim * PAGE]);
        let mut scales = [vec![f32::NAN; 4 * PAGE], vec![f32::NAN; 4 * PAGE]];
        read_keys(ty, vector, (k, dim), &mut keys);
        read_values(ty, vector, (v, dim, PAGE), (&mut values, dim));
        let [key_scales, value_scales] = &mut scales;
        let key_scales = read_scales(ty, vector, (k, dim), key_scales);
        let value_scales = read_scales(ty, vector, (v, dim), value_scales);
        let scale = |scales: &[f32], p: usize, i: usize| {
            scales.get(i / Q8_LEN * PAGE + p).copied().unwrap_or(1.0)
        };
        for p in 0..PAGE {
            let mut stored = vec![0u32; ty.row_bytes(dim).div_ceil(4)];
            let stored = &mut bytemuck::cast_slice_mut(&mut stored)[..ty.row_bytes(dim)];
            let mut expected = vec![0.0; dim];
            ty.encode(vector, &row(p), stored);
            ty.decode(vector, stored, &mut expected);
            let key: Vec<f32> =
                (0..dim).map(|i| scale(key_scales, p, i) * keys[i * PAGE + p]).collect();
            let value: Vec<f32> =
                (0..dim).map(|i| scale(value_scales, p, i) * values[p * dim + i]).collect();
            assert_eq!(key, expected, "{ty}, {dim} elements, position {p}");
            assert_eq!(value, expected, "{ty}, {dim} elements, position {p}");
        }
    }
}
