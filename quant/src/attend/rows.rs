//! Pages of latent attention, where the first elements of a key are the value: rows of both.

use super::{BLOCK, KvLayout, PAGE, PageRef, padded};
use crate::KvType;
use crate::isa::transpose::{Half, transpose_f32, transpose_half};
use crate::vector::Vector;

/// Converts `n` rows of `head_dim` elements, `row_bytes` apart, to f32, `padded(head_dim)` apart.
pub(super) fn convert_rows(
    vector: Vector,
    ty: KvType,
    (head_dim, row_bytes): (usize, usize),
    n: usize,
    src: &[u8],
    dst: &mut [f32],
) {
    let bytes = ty.row_bytes(head_dim);
    let stride = padded(head_dim);
    for (src, dst) in src.chunks_exact(row_bytes).zip(dst.chunks_exact_mut(stride)).take(n) {
        ty.decode(vector, &src[..bytes], &mut dst[..head_dim]);
    }
}

/// Keys stored as rows to f32, transposed to `[head_dim_k, PAGE]`.
pub(super) fn transpose_keys(
    vector: Vector,
    layout: &KvLayout,
    page: &PageRef<'_>,
    block: &mut [f32],
    keys: &mut [f32],
) {
    let (dim, bytes) = (layout.head_dim_k, layout.k_row_bytes());
    let half = match layout.k {
        KvType::F16 => Some(Half::F16),
        KvType::BF16 => Some(Half::Bf16),
        KvType::F32 | KvType::Q8_0 | KvType::Q4_0 => None,
    };
    for first in (0..page.n).step_by(BLOCK) {
        let n = BLOCK.min(page.n - first);
        let (src, keys) = (&page.k[first * bytes..][..n * bytes], &mut keys[first..]);
        let done = half.is_some_and(|half| {
            n == BLOCK
                && transpose_half(vector.isa(), half, bytemuck::cast_slice(src), dim, keys, PAGE)
        });
        if !done {
            convert_rows(vector, layout.k, (dim, bytes), n, src, block);
            let columns = dim.next_multiple_of(4);
            transpose_f32(vector.isa(), block, padded(dim), columns, keys, PAGE);
        }
    }
}
