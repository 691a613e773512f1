//! The packed layout of each type.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Layout` covers every body")]

use super::driver::Lanes;
use super::{Field, Layout, PACK_ROWS, Sub, number, quads, single};
use crate::types::iq::{E2M1_CODES, Iq4Nl, Iq4Xs, LEVEL_CODES, Mxfp4};
use crate::types::k::{Q2K, Q3K, Q4K, Q5K, Q6K};
use crate::types::q4::{Q4_0, Q4_1, Q5_0, Q5_1};
use crate::types::q8::Q8_0;

/// Bytes `i` of the 16 rows, from a field of single bytes at `p`.
#[inline(always)]
unsafe fn bytes(p: *const u8, i: usize) -> [u8; PACK_ROWS] {
    p.add(PACK_ROWS * i).cast::<[u8; PACK_ROWS]>().read()
}

/// A function of the bytes of two vectors, row by row.
#[inline(always)]
fn zip(a: [u8; PACK_ROWS], b: [u8; PACK_ROWS], f: impl Fn(u8, u8) -> u8) -> [u8; PACK_ROWS] {
    std::array::from_fn(|r| f(a[r], b[r]))
}

/// A signed scale from its low nibble and two more bits: 32 is taken off.
#[inline(always)]
fn six(low: u8, high: u8) -> u8 {
    (low | (high & 3) << 4).wrapping_sub(32)
}

/// Quad `i` of rows `r ..` of codes at `p`.
#[inline(always)]
unsafe fn at<S: Lanes>(p: *const u8, i: usize, r: usize) -> S::Q {
    S::load_q(p.add(4 * (PACK_ROWS * i + r)))
}

/// A float16 for each of the rows `r ..` at `p`.
#[inline(always)]
unsafe fn halves<S: Lanes>(p: *const u8, r: usize) -> S::F {
    S::load_f16(p.add(2 * r))
}

/// As [`halves`], negated.
#[inline(always)]
unsafe fn negated<S: Lanes>(p: *const u8, r: usize) -> S::F {
    S::mul(S::splat(-1.0), halves::<S>(p, r))
}

/// Nibbles of 16 bytes: 16 values in the low ones, then 16 in the high ones.
#[inline(always)]
unsafe fn nibbles<S: Lanes>(p: *const u8, i: usize, r: usize) -> S::Q {
    S::field(at::<S>(p, i % 4, r), if i < 4 { 0 } else { 4 }, 15)
}

/// Bit `4 i + b` of four bytes to bit i of byte b: a quad's bits stand in one column then.
#[inline(always)]
fn columns_of_bits(h: &mut [u8]) {
    let bits = u32::from_le_bytes([h[0], h[1], h[2], h[3]]);
    for (b, h) in h.iter_mut().enumerate() {
        *h = (0..8).fold(0, |byte, i| byte | ((bits >> (4 * i + b) & 1) as u8) << i);
    }
}

/// The fifth bits of quad `i`, from bits put in order by [`columns_of_bits`].
#[inline(always)]
unsafe fn fifth<S: Lanes>(p: *const u8, i: usize, r: usize) -> S::Q {
    S::field(at::<S>(p, 0, r), i as i32 - 4, 16)
}

/// Bits of 32 values in 8 groups, bit g of byte l for value l of group g, so that the bits of four groups
/// stand together: byte `16 part + l` has those of groups `4 part ..` of value l in its low half, of value
/// 16 + l in its high half. How far a bit is shifted then does not depend on the part.
#[inline(always)]
fn halves_of_bits(h: &mut [u8]) {
    let (low, high) = h.split_at_mut(16);
    for (low, high) in low.iter_mut().zip(high) {
        (*low, *high) = (*low & 15 | *high << 4, *low >> 4 | *high & 0xf0);
    }
}

/// Bit `4 part + B` of quad `i`, from bits put in order by [`halves_of_bits`], as bit `to`.
#[inline(always)]
unsafe fn bit<S: Lanes, const B: usize>(
    p: *const u8,
    part: usize,
    (i, to): (usize, u32),
    r: usize,
) -> S::Q {
    let from = if i < 4 { B } else { B + 4 };
    S::field(at::<S>(p, 4 * part + i % 4, r), from as i32 - to as i32, 1 << to)
}

impl Layout for Q4_0 {
    const FIELDS: &'static [Field] = &[number(0), quads(2, 16)];

    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(p: *const u8, _: usize, i: usize, r: usize) -> S::Q {
        nibbles::<S>(p.add(32), i, r)
    }
}

impl Layout for Q4_1 {
    const FIELDS: &'static [Field] = &[number(0), number(2), quads(4, 16)];

    #[inline(always)]
    unsafe fn unit<S: Lanes>(p: *const u8, r: usize) -> (S::F, S::F) {
        (halves::<S>(p, r), halves::<S>(p.add(32), r))
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(p: *const u8, _: usize, i: usize, r: usize) -> S::Q {
        nibbles::<S>(p.add(64), i, r)
    }
}

impl Layout for Q5_0 {
    const FIELDS: &'static [Field] = &[number(0), quads(2, 4), quads(6, 16)];

    #[inline(always)]
    fn rearrange(block: &mut [u8]) {
        columns_of_bits(&mut block[2..6]);
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(p: *const u8, _: usize, i: usize, r: usize) -> S::Q {
        S::or(nibbles::<S>(p.add(96), i, r), fifth::<S>(p.add(32), i, r))
    }
}

impl Layout for Q5_1 {
    const FIELDS: &'static [Field] = &[number(0), number(2), quads(4, 4), quads(8, 16)];

    #[inline(always)]
    fn rearrange(block: &mut [u8]) {
        columns_of_bits(&mut block[4..8]);
    }
    #[inline(always)]
    unsafe fn unit<S: Lanes>(p: *const u8, r: usize) -> (S::F, S::F) {
        (halves::<S>(p, r), halves::<S>(p.add(32), r))
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(p: *const u8, _: usize, i: usize, r: usize) -> S::Q {
        S::or(nibbles::<S>(p.add(128), i, r), fifth::<S>(p.add(64), i, r))
    }
}

impl Layout for Q8_0 {
    const FIELDS: &'static [Field] = &[number(0), quads(2, 32)];

    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(p: *const u8, _: usize, i: usize, r: usize) -> S::Q {
        S::flip(at::<S>(p.add(32), i, r))
    }
}

impl Layout for Iq4Nl {
    const FIELDS: &'static [Field] = &[number(0), quads(2, 16)];

    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(p: *const u8, _: usize, i: usize, r: usize) -> S::Q {
        S::lookup(&LEVEL_CODES, nibbles::<S>(p.add(32), i, r))
    }
}

impl Layout for Mxfp4 {
    const FIELDS: &'static [Field] = &[single(0, 1), quads(1, 16)];

    #[inline(always)]
    unsafe fn unit<S: Lanes>(p: *const u8, r: usize) -> (S::F, S::F) {
        // eight at a time, those that hold the rows
        let mut d = [0.0; PACK_ROWS];
        let first = r / 8 * 8;
        for half in (first..first + S::LANES.max(8)).step_by(8) {
            let exponents = p.add(half).cast::<u64>().read_unaligned();
            S::powers(exponents, d.as_mut_ptr().add(half - first));
        }
        (S::load(d.as_ptr().add(r - first)), S::zero())
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(p: *const u8, _: usize, i: usize, r: usize) -> S::Q {
        S::lookup(&E2M1_CODES, nibbles::<S>(p.add(16), i, r))
    }
}

impl Layout for Iq4Xs {
    const FIELDS: &'static [Field] = &[number(0), single(2, 2), single(4, 4), quads(8, 128)];

    #[inline(always)]
    unsafe fn sub(p: *const u8, sub: &mut Sub) {
        for i in 0..2 {
            let high = bytes(p.add(32), i);
            let (a, b) = (bytes(p.add(64), 2 * i), bytes(p.add(64), 2 * i + 1));
            sub.sc[4 * i] = zip(a, high, |low, high| six(low & 15, high));
            sub.sc[4 * i + 1] = zip(a, high, |low, high| six(low >> 4, high >> 2));
            sub.sc[4 * i + 2] = zip(b, high, |low, high| six(low & 15, high >> 4));
            sub.sc[4 * i + 3] = zip(b, high, |low, high| six(low >> 4, high >> 6));
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Lanes>(_: *const u8, sub: &Sub, d: S::F, g: usize, r: usize) -> S::F {
        S::mul(S::load_i8(sub.sc[g].as_ptr().add(r)), d)
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(
        p: *const u8,
        part: usize,
        i: usize,
        r: usize,
    ) -> S::Q {
        let group = p.add(128 + 256 * (4 * part + B));
        S::lookup(&LEVEL_CODES, nibbles::<S>(group, i, r))
    }
}

impl Layout for Q2K {
    const FIELDS: &'static [Field] = &[number(80), number(82), single(0, 16), quads(16, 64)];

    #[inline(always)]
    unsafe fn sub(p: *const u8, sub: &mut Sub) {
        for g in 0..16 {
            let s = bytes(p.add(64), g);
            sub.sc[g] = s.map(|s| s & 15);
            sub.mn[g] = s.map(|s| s >> 4);
        }
    }
    #[inline(always)]
    unsafe fn unit<S: Lanes>(p: *const u8, r: usize) -> (S::F, S::F) {
        (halves::<S>(p, r), negated::<S>(p.add(32), r))
    }
    #[inline(always)]
    unsafe fn scale<S: Lanes>(_: *const u8, sub: &Sub, d: S::F, g: usize, r: usize) -> S::F {
        S::mul(S::load_u8(sub.sc[g].as_ptr().add(r)), d)
    }
    #[inline(always)]
    unsafe fn min<S: Lanes>(sub: &Sub, m: S::F, g: usize, r: usize) -> S::F {
        S::mul(S::load_u8(sub.mn[g].as_ptr().add(r)), m)
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(
        p: *const u8,
        part: usize,
        i: usize,
        r: usize,
    ) -> S::Q {
        S::field(at::<S>(p.add(320), 8 * part + i, r), 2 * B as i32, 3)
    }
}

impl Layout for Q3K {
    const FIELDS: &'static [Field] =
        &[number(108), single(96, 8), single(104, 4), quads(0, 32), quads(32, 64)];

    #[inline(always)]
    fn rearrange(block: &mut [u8]) {
        halves_of_bits(&mut block[..32]);
    }

    #[inline(always)]
    unsafe fn sub(p: *const u8, sub: &mut Sub) {
        for i in 0..4 {
            let high = bytes(p.add(160), i);
            let (a, b) = (bytes(p.add(32), i), bytes(p.add(32), 4 + i));
            sub.sc[i] = zip(a, high, |low, high| six(low & 15, high));
            sub.sc[4 + i] = zip(b, high, |low, high| six(low & 15, high >> 2));
            sub.sc[8 + i] = zip(a, high, |low, high| six(low >> 4, high >> 4));
            sub.sc[12 + i] = zip(b, high, |low, high| six(low >> 4, high >> 6));
        }
    }
    #[inline(always)]
    unsafe fn scale<S: Lanes>(_: *const u8, sub: &Sub, d: S::F, g: usize, r: usize) -> S::F {
        S::mul(S::load_i8(sub.sc[g].as_ptr().add(r)), d)
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(
        p: *const u8,
        part: usize,
        i: usize,
        r: usize,
    ) -> S::Q {
        let third = bit::<S, B>(p.add(224), part, (i, 2), r);
        S::or(S::field(at::<S>(p.add(736), 8 * part + i, r), 2 * B as i32, 3), third)
    }
}

/// Scales and offsets of Q4_K and Q5_K, twelve bytes a row at `p`: the first four of each kind are the
/// low six bits of bytes 0 to 4 and 4 to 8, the last four are nibbles of bytes 8 to 12 below the top two
/// bits of those.
#[inline(always)]
unsafe fn six_bits(p: *const u8, sub: &mut Sub) {
    for i in 0..4 {
        let (s, m, both) = (bytes(p, i), bytes(p, 4 + i), bytes(p, 8 + i));
        sub.sc[i] = s.map(|s| s & 63);
        sub.mn[i] = m.map(|m| m & 63);
        sub.sc[4 + i] = zip(both, s, |low, high| low & 15 | high >> 6 << 4);
        sub.mn[4 + i] = zip(both, m, |low, high| low >> 4 | high >> 6 << 4);
    }
}

impl Layout for Q4K {
    const FIELDS: &'static [Field] = &[number(0), number(2), single(4, 12), quads(16, 128)];

    #[inline(always)]
    unsafe fn sub(p: *const u8, sub: &mut Sub) {
        six_bits(p.add(64), sub);
    }
    #[inline(always)]
    unsafe fn unit<S: Lanes>(p: *const u8, r: usize) -> (S::F, S::F) {
        (halves::<S>(p, r), negated::<S>(p.add(32), r))
    }
    #[inline(always)]
    unsafe fn scale<S: Lanes>(_: *const u8, sub: &Sub, d: S::F, g: usize, r: usize) -> S::F {
        S::mul(S::load_u8(sub.sc[g].as_ptr().add(r)), d)
    }
    #[inline(always)]
    unsafe fn min<S: Lanes>(sub: &Sub, m: S::F, g: usize, r: usize) -> S::F {
        S::mul(S::load_u8(sub.mn[g].as_ptr().add(r)), m)
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(
        p: *const u8,
        part: usize,
        i: usize,
        r: usize,
    ) -> S::Q {
        let chunk = 2 * part + B / 2;
        S::field(at::<S>(p.add(256), 8 * chunk + i, r), if B.is_multiple_of(2) { 0 } else { 4 }, 15)
    }
}

impl Layout for Q5K {
    const FIELDS: &'static [Field] =
        &[number(0), number(2), single(4, 12), quads(16, 32), quads(48, 128)];

    #[inline(always)]
    fn rearrange(block: &mut [u8]) {
        halves_of_bits(&mut block[16..48]);
    }

    #[inline(always)]
    unsafe fn sub(p: *const u8, sub: &mut Sub) {
        six_bits(p.add(64), sub);
    }
    #[inline(always)]
    unsafe fn unit<S: Lanes>(p: *const u8, r: usize) -> (S::F, S::F) {
        (halves::<S>(p, r), negated::<S>(p.add(32), r))
    }
    #[inline(always)]
    unsafe fn scale<S: Lanes>(p: *const u8, sub: &Sub, d: S::F, g: usize, r: usize) -> S::F {
        Q4K::scale::<S>(p, sub, d, g, r)
    }
    #[inline(always)]
    unsafe fn min<S: Lanes>(sub: &Sub, m: S::F, g: usize, r: usize) -> S::F {
        Q4K::min::<S>(sub, m, g, r)
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(
        p: *const u8,
        part: usize,
        i: usize,
        r: usize,
    ) -> S::Q {
        let chunk = 2 * part + B / 2;
        let low = S::field(
            at::<S>(p.add(768), 8 * chunk + i, r),
            if B.is_multiple_of(2) { 0 } else { 4 },
            15,
        );
        S::or(low, bit::<S, B>(p.add(256), part, (i, 4), r))
    }
}

/// Q6_K in the order of use, since memory is read fastest front to back: in each half of a block the
/// first 32 low parts take turns with the high parts, then come the other 32.
const Q6K_FIELDS: [Field; 36] = {
    let mut fields = [const { number(208) }; 36];
    fields[1] = single(192, 16);
    let mut i = 0;
    while i < 34 {
        let (half, i_in) = (i / 17, i % 17);
        fields[2 + i] = match i_in {
            16 => quads(64 * half + 32, 32),
            _ if i_in % 2 == 0 => quads(64 * half + 2 * i_in, 4),
            _ => quads(128 + 32 * half + 2 * (i_in - 1), 4),
        };
        i += 1;
    }
    fields
};

impl Layout for Q6K {
    const FIELDS: &'static [Field] = &Q6K_FIELDS;

    #[inline(always)]
    unsafe fn scale<S: Lanes>(p: *const u8, _: &Sub, d: S::F, g: usize, r: usize) -> S::F {
        S::mul(S::load_i8(p.add(32 + PACK_ROWS * g + r)), d)
    }
    #[inline(always)]
    unsafe fn quad<S: Lanes, const B: usize>(
        p: *const u8,
        part: usize,
        i: usize,
        r: usize,
    ) -> S::Q {
        let half = p.add(288 + 1536 * part);
        let low = at::<S>(half, if B.is_multiple_of(2) { 2 * i } else { 16 + i }, r);
        let low = S::field(low, if B < 2 { 0 } else { 4 }, 15);
        let high = at::<S>(half, 2 * i + 1, r);
        S::or(low, S::field(high, 2 * B as i32 - 4, 0x30))
    }
}
