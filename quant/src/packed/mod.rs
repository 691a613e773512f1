//! Rows side by side: a layout of the same size in which 16 rows share every vector.
//!
//! A block of 16 rows lies together, its fields one after another, and each field with the rows
//! side by side: codes as `[bytes / 4][row][4 bytes]`, float16 as `[row]`, other bytes as
//! `[byte][row]`. A vector of codes is then 4 values of k of each row, scales of all rows are one
//! load, and nothing is summed across lanes: per 256 weights a third of the operations that the file's
//! own order needs. The bytes of 16 rows of a matrix stay where they were as a whole, so `[n_rows, k]`
//! in this layout has the same length and the same offsets at multiples of 16 rows.
//!
//! Everything reads columns of one kind ([`ActKind::Wide`](crate::ActKind::Wide), a scale for 32
//! values) and adds in one order, be it in registers for few columns ([`driver::rows`]) or through
//! the panel's slab for many ([`driver::panel`]): a result has the same bits in any company.

pub(crate) mod driver;
mod types;

use formats::TensorType;

use crate::error::Error;
use crate::tile::Unpack;

/// Rows that lie side by side.
pub const PACK_ROWS: usize = 16;

/// Bytes of a block that belong together: where they start, how many, and how many stay side by side.
pub(crate) struct Field {
    at: usize,
    len: usize,
    grain: usize,
}

/// Codes, four values of k to an element.
const fn quads(at: usize, len: usize) -> Field {
    Field { at, len, grain: 4 }
}

/// One float16.
const fn number(at: usize) -> Field {
    Field { at, len: 2, grain: 2 }
}

/// Single bytes.
const fn single(at: usize, len: usize) -> Field {
    Field { at, len, grain: 1 }
}

/// Scales within a block as bytes, `[group][row]`, for types that store them in pieces.
#[repr(align(64))]
pub(crate) struct Sub {
    /// Of scales.
    sc: [[u8; PACK_ROWS]; 16],
    /// Of offsets.
    mn: [[u8; PACK_ROWS]; 16],
}

impl Sub {
    /// All zero.
    pub(crate) const ZERO: Self = Self { sc: [[0; PACK_ROWS]; 16], mn: [[0; PACK_ROWS]; 16] };
}

/// A tensor type with a packed layout.
///
/// # Safety
/// Of the functions: `p` is valid for a packed block (`16 * BYTES` bytes), `r` is a multiple of
/// [`Simd::LANES`](crate::isa::Simd::LANES) below 16, plus the contract of [`Lanes`](driver::Lanes).
pub(crate) trait Layout: Unpack {
    /// All bytes of a block, in packed order.
    const FIELDS: &'static [Field];

    /// What becomes of a row's block before its bytes are laid beside those of others.
    #[inline(always)]
    fn rearrange(_: &mut [u8]) {}

    /// Assembles the scales within the block, where they are stored in pieces.
    #[inline(always)]
    unsafe fn sub(_p: *const u8, _sub: &mut Sub) {}

    /// Scale and offset of the block for rows `r ..`; an offset only where the type has any. Most blocks
    /// begin with the scale, a float16, and have no offset.
    #[inline(always)]
    unsafe fn unit<S: driver::Lanes>(p: *const u8, r: usize) -> (S::F, S::F) {
        // SAFETY: the caller's, and 16 float16 are no longer than a block.
        unsafe { (S::load_f16(p.add(2 * r)), S::zero()) }
    }

    /// Scale of group `g` of the block for rows `r ..`; `d` is the first of [`Layout::unit`].
    #[inline(always)]
    unsafe fn scale<S: driver::Lanes>(
        _p: *const u8,
        _sub: &Sub,
        d: S::F,
        _g: usize,
        _r: usize,
    ) -> S::F {
        d
    }

    /// Offset of group `g`, as [`Layout::scale`].
    #[inline(always)]
    unsafe fn min<S: driver::Lanes>(_sub: &Sub, m: S::F, _g: usize, _r: usize) -> S::F {
        m
    }

    /// Codes of values `4 i .. 4 i + 4` of the 32 from `128 part + 32 B` on, rows `r ..`.
    unsafe fn quad<S: driver::Lanes, const B: usize>(
        p: *const u8,
        part: usize,
        i: usize,
        r: usize,
    ) -> S::Q;
}

/// Lays the rows of `src`, `[n_rows, k]`, side by side in `dst`.
///
/// # Errors
/// [`Error::UnsupportedType`] when the type has no such layout (see [`is_packable`]).
///
/// # Panics
/// When the number of rows is no multiple of 16, or the lengths differ.
pub fn pack(ty: TensorType, src: &[u8], k: usize, dst: &mut [u8]) -> Result<(), Error> {
    let row_bytes =
        ty.row_bytes(k).ok_or(Error::BlockMultiple { ty, n: k, block: ty.block_len() })?;
    let group = PACK_ROWS * row_bytes;
    assert_eq!(src.len(), dst.len(), "{ty}: packed rows take as many bytes");
    assert!(src.len().is_multiple_of(group.max(1)), "{ty}: rows in groups of {PACK_ROWS}");
    let one = crate::table::packer(ty).ok_or_else(|| crate::table::unsupported(ty))?;
    for (src, dst) in src.chunks_exact(group).zip(dst.chunks_exact_mut(group)) {
        one(src, row_bytes, dst);
    }
    Ok(())
}

/// Whether rows of this type can lie side by side.
pub fn is_packable(ty: TensorType) -> bool {
    crate::table::packer(ty).is_some()
}

/// [`pack_group`] of a type.
pub(crate) type Packer = fn(&[u8], usize, &mut [u8]);

/// Packs 16 rows of `row_bytes` bytes.
pub(crate) fn pack_group<T: Layout>(src: &[u8], row_bytes: usize, dst: &mut [u8]) {
    let mut blocks = [[0; crate::tile::MAX_SPAN_BYTES]; PACK_ROWS];
    for (u, dst) in dst.chunks_exact_mut(PACK_ROWS * T::BYTES).enumerate() {
        for (r, block) in blocks.iter_mut().enumerate() {
            let block = &mut block[..T::BYTES];
            block.copy_from_slice(&src[r * row_bytes + u * T::BYTES..][..T::BYTES]);
            T::rearrange(block);
        }
        let mut to = 0;
        for f in T::FIELDS {
            let dst = &mut dst[to..to + PACK_ROWS * f.len];
            match f.grain {
                4 => interleave::<4>(&blocks, f, dst),
                2 => interleave::<2>(&blocks, f, dst),
                _ => interleave::<1>(&blocks, f, dst),
            }
            to += PACK_ROWS * f.len;
        }
    }
}

/// Lays the elements of a field of 16 blocks side by side.
#[inline(always)]
fn interleave<const N: usize>(
    blocks: &[[u8; crate::tile::MAX_SPAN_BYTES]; PACK_ROWS],
    f: &Field,
    dst: &mut [u8],
) {
    for (i, dst) in dst.as_chunks_mut::<N>().0.as_chunks_mut::<PACK_ROWS>().0.iter_mut().enumerate()
    {
        for (block, dst) in blocks.iter().zip(dst) {
            let element = block[f.at + N * i..].first_chunk::<N>();
            *dst = *element.unwrap_or(&[0; N]);
        }
    }
}
