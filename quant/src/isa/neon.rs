//! The NEON rows: 4 lanes of what every aarch64 has. The integer dot product comes in two kinds
//! ([`Products`]); the one here multiplies bytes into 16 bits (`smull`, `smlal`) and adds
//! neighbours (`addp`, `saddlp`); `dotprod` has the other.
//!
//! Codes are made signed first (the type's offset taken off, at most 128 in magnitude), so nothing
//! needs a correction afterwards. In 16 bits two products always fit: 2 * 128 * 127 = 32,512.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Simd` covers every body")]

use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

use super::Simd;
use crate::packed::driver::Lanes;

/// How a row multiplies signed bytes.
///
/// # Safety
/// All functions: that of [`Simd`].
pub(crate) trait Products: Copy + 'static {
    /// See [`Simd::PANEL_COLS`].
    const PANEL_COLS: (usize, usize, usize);
    /// See [`Simd::NARROW`].
    const NARROW: bool;
    /// The four vectors that [`Simd::transpose`] makes of 16 bytes of each of four rows.
    #[inline(always)]
    unsafe fn transpose(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        dwords(rows)
    }
    /// Two quads of four rows as [`Products::panel`] reads them.
    #[inline(always)]
    unsafe fn in_panel(first: uint8x16_t, second: uint8x16_t) -> (uint8x16_t, uint8x16_t) {
        (first, second)
    }
    /// `acc` plus, per lane, the sum of four products.
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t;
    /// See [`Simd::panel`]; codes up to `max`, of which `offset` is to be taken off.
    unsafe fn panel<const V: usize, const C: usize>(
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        max: u8,
        offset: u8,
    ) -> [[int32x4_t; C]; V];
}

/// Token of a NEON row with products of kind `P`.
#[derive(Clone, Copy)]
pub(crate) struct Arm<P>(PhantomData<P>);

/// Products without the `sdot` instruction.
#[derive(Clone, Copy)]
pub(crate) struct Widening;

super::entries!(Arm<Widening>, crate::act::quantize, "neon");
super::packed_entries!(Arm<Widening>, "neon");

/// Codes with their offset taken off, as signed bytes. For offset 128 this flips the top bit, so
/// all 256 codes are right.
#[inline(always)]
pub(crate) unsafe fn signed(u: uint8x16_t, offset: u8) -> int8x16_t {
    vreinterpretq_s8_u8(vsubq_u8(u, vdupq_n_u8(offset)))
}

/// How many products of codes up to `max` may be added in 16 bits. Larger codes than 31 always have
/// the offset taken off, half of the next power of two (see [`Simd::panel`]).
const fn batch(max: u8) -> usize {
    let magnitude = if max < 32 { max as usize } else { (max as usize).div_ceil(2) };
    32767 / (127 * magnitude)
}

/// Columns of four rows of four dwords.
#[inline(always)]
unsafe fn dwords(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
    let row = |r: usize| vreinterpretq_u32_u8(rows[r]);
    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
    let wide = |x: uint32x4_t| vreinterpretq_u64_u32(x);
    let (ab_lo, ab_hi) = (wide(vzip1q_u32(a, b)), wide(vzip2q_u32(a, b)));
    let (cd_lo, cd_hi) = (wide(vzip1q_u32(c, d)), wide(vzip2q_u32(c, d)));
    [
        vreinterpretq_u8_u64(vzip1q_u64(ab_lo, cd_lo)),
        vreinterpretq_u8_u64(vzip2q_u64(ab_lo, cd_lo)),
        vreinterpretq_u8_u64(vzip1q_u64(ab_hi, cd_hi)),
        vreinterpretq_u8_u64(vzip2q_u64(ab_hi, cd_hi)),
    ]
}

/// Sums of four neighbours: `lo` holds the products of lanes 0 and 1, `hi` those of 2 and 3.
#[inline(always)]
unsafe fn fold(lo: int16x8_t, hi: int16x8_t) -> int32x4_t {
    vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi))
}

impl Products for Widening {
    const PANEL_COLS: (usize, usize, usize) = (4, 4, 4);
    const NARROW: bool = true;

    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
        let lo = vmull_s8(vget_low_s8(w), vget_low_s8(x));
        vpadalq_s16(acc, vpaddq_s16(lo, vmull_high_s8(w, x)))
    }

    #[inline(always)]
    unsafe fn panel<const V: usize, const C: usize>(
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        max: u8,
        offset: u8,
    ) -> [[int32x4_t; C]; V] {
        // Each of the 16-bit lanes gets one product a quad.
        let run = batch(max).min(quads);
        let mut acc = [[vdupq_n_s32(0); C]; V];
        let mut j = 0;
        while j < quads {
            let mut lo = [[vdupq_n_s16(0); C]; V];
            let mut hi = [[vdupq_n_s16(0); C]; V];
            let end = (j + run).min(quads);
            while j < end {
                let mut values = [vdupq_n_s8(0); C];
                for c in 0..C {
                    let dword = x[c].add(4 * j).cast::<i32>().read_unaligned();
                    values[c] = vreinterpretq_s8_s32(vdupq_n_s32(dword));
                }
                for v in 0..V {
                    let w = signed(vld1q_u8(w.add(j * stride + 16 * v)), offset);
                    for c in 0..C {
                        let (low, x) = (vget_low_s8(w), values[c]);
                        lo[v][c] = vmlal_s8(lo[v][c], low, vget_low_s8(x));
                        hi[v][c] = vmlal_high_s8(hi[v][c], w, x);
                    }
                }
                j += 1;
            }
            for v in 0..V {
                for c in 0..C {
                    acc[v][c] = vaddq_s32(acc[v][c], fold(lo[v][c], hi[v][c]));
                }
            }
        }
        acc
    }
}

/// 4-bit half of every byte.
#[inline(always)]
unsafe fn nibble(q: uint8x16_t, high: bool) -> uint8x16_t {
    if high { vshrq_n_u8::<4>(q) } else { vandq_u8(q, vdupq_n_u8(15)) }
}

/// Every byte shifted right by a variable count.
#[inline(always)]
unsafe fn shr(q: uint8x16_t, count: usize) -> uint8x16_t {
    vshlq_u8(q, vdupq_n_s8(-(count as i8)))
}

impl<P: Products> Simd for Arm<P> {
    const LANES: usize = 4;
    const PANEL: usize = 2;
    const TILE: (usize, usize, usize) = (2, 2, 4);
    const PANEL_COLS: (usize, usize, usize) = P::PANEL_COLS;
    const NARROW: bool = P::NARROW;
    type F = float32x4_t;
    type Q = uint8x16_t;
    type I = ();

    #[inline(always)]
    unsafe fn zero() -> float32x4_t {
        vdupq_n_f32(0.0)
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        vdupq_n_f32(x)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        vld1q_f32(p)
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: float32x4_t) {
        vst1q_f32(p, x);
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vmulq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vaddq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }
    #[inline(always)]
    unsafe fn sum(x: float32x4_t) -> f32 {
        vaddvq_f32(x)
    }
    #[inline(always)]
    unsafe fn half(bits: u16) -> f32 {
        vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))))
    }
    #[inline(always)]
    unsafe fn scale_u8(bytes: u64, d: f32, out: *mut f32) {
        let wide = vmovl_u8(vcreate_u8(bytes));
        let lo = vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
        let hi = vcvtq_f32_u32(vmovl_high_u16(wide));
        vst1q_f32(out, vmulq_n_f32(lo, d));
        vst1q_f32(out.add(4), vmulq_n_f32(hi, d));
    }
    #[inline(always)]
    unsafe fn scale_i8(bytes: u64, d: f32, out: *mut f32) {
        let wide = vmovl_s8(vcreate_s8(bytes));
        let lo = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
        let hi = vcvtq_f32_s32(vmovl_high_s16(wide));
        vst1q_f32(out, vmulq_n_f32(lo, d));
        vst1q_f32(out.add(4), vmulq_n_f32(hi, d));
    }
    #[inline(always)]
    unsafe fn powers(exponents: u64, out: *mut f32) {
        let wide = vmovl_u8(vcreate_u8(exponents));
        let (one, small) = (vdupq_n_u32(1), vdupq_n_u32(1 << 21));
        for (i, e) in [vmovl_u16(vget_low_u16(wide)), vmovl_high_u16(wide)].into_iter().enumerate()
        {
            let normal = vshlq_n_u32::<23>(vsubq_u32(e, one));
            let subnormal = vshlq_u32(small, vreinterpretq_s32_u32(e));
            let bits = vbslq_u32(vcgtq_u32(e, one), normal, subnormal);
            vst1q_f32(out.add(4 * i), vreinterpretq_f32_u32(bits));
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> float32x4_t {
        vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> float32x4_t {
        vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(p))))
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        asm!("prfm pldl1keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly));
    }

    #[inline(always)]
    unsafe fn load_q(p: *const u8) -> uint8x16_t {
        vld1q_u8(p)
    }
    #[inline(always)]
    unsafe fn store_q(p: *mut u8, q: uint8x16_t) {
        vst1q_u8(p, q);
    }
    #[inline(always)]
    unsafe fn splat_q(p: *const u8) -> uint8x16_t {
        vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned()))
    }
    #[inline(always)]
    unsafe fn or(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        vorrq_u8(a, b)
    }
    #[inline(always)]
    unsafe fn shl<const N: u32>(a: uint8x16_t) -> uint8x16_t {
        vshlq_u8(a, vdupq_n_s8(N as i8))
    }
    #[inline(always)]
    unsafe fn flip(a: uint8x16_t) -> uint8x16_t {
        veorq_u8(a, vdupq_n_u8(0x80))
    }
    #[inline(always)]
    unsafe fn lookup(table: &'static [u8; 16], index: uint8x16_t) -> uint8x16_t {
        vqtbl1q_u8(vld1q_u8(table.as_ptr()), index)
    }
    #[inline(always)]
    unsafe fn bias(_: uint8x16_t, _: u8) {}
    #[inline(always)]
    unsafe fn dot(u: uint8x16_t, x: uint8x16_t, (): (), _: u8, offset: u8) -> float32x4_t {
        vcvtq_f32_s32(P::dot(vdupq_n_s32(0), signed(u, offset), vreinterpretq_s8_u8(x)))
    }

    #[inline(always)]
    unsafe fn spread(d: *const f32, v: usize, group: usize) -> float32x4_t {
        vld1q_dup_f32(d.add(16 * v / group))
    }
    #[inline(always)]
    unsafe fn mins(acc: float32x4_t, m: *const f32, sums: *const f32, group: usize) -> float32x4_t {
        let mut acc = acc;
        for i in 0..4 {
            let m = if group == 32 {
                let pair = vld1_f32(m.add(2 * i));
                vcombine_f32(vzip1_f32(pair, pair), vzip2_f32(pair, pair))
            } else {
                vld1q_f32(m.add(4 * i))
            };
            acc = vfmaq_f32(acc, m, vld1q_f32(sums.add(4 * i)));
        }
        acc
    }

    #[inline(always)]
    unsafe fn transpose(src: *const u8, from: usize, dst: *mut u8, to: usize) {
        let mut rows = [vdupq_n_u8(0); 4];
        for r in 0..4 {
            rows[r] = vld1q_u8(src.add(from * r));
        }
        let columns = P::transpose(rows);
        for i in 0..4 {
            vst1q_u8(dst.add(i * to), columns[i]);
        }
    }
    #[inline(always)]
    unsafe fn panel<const V: usize, const C: usize>(
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        _: &[*const u8; C],
        max: u8,
        shift: Option<u32>,
    ) -> [[float32x4_t; C]; V] {
        let offset = shift.map_or(0, |shift| 1 << shift);
        let sums = P::panel::<V, C>(w, stride, x, quads, max, offset);
        let mut out = [[vdupq_n_f32(0.0); C]; V];
        for v in 0..V {
            for c in 0..C {
                out[v][c] = vcvtq_f32_s32(sums[v][c]);
            }
        }
        out
    }

    #[inline(always)]
    unsafe fn nibbles(p: *const u8, stride: usize, v: usize) -> uint8x16_t {
        nibble(vld1q_u8(p.add(v / 2 * stride)), v % 2 == 1)
    }
    #[inline(always)]
    unsafe fn bits(p: *const u8, stride: usize, v: usize, one: u8) -> uint8x16_t {
        let p = p.add(v / 2 * stride + v % 2 * 2);
        let bits = vcombine_u8(vdup_n_u8(*p), vdup_n_u8(*p.add(1)));
        let own = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
        vandq_u8(vtstq_u8(bits, own), vdupq_n_u8(one))
    }
    #[inline(always)]
    unsafe fn bytes(p: *const u8, stride: usize, v: usize) -> uint8x16_t {
        vld1q_u8(p.add(v / 2 * stride + v % 2 * 16))
    }
    #[inline(always)]
    unsafe fn nibbles_32(p: *const u8, v: usize) -> uint8x16_t {
        nibble(vld1q_u8(p.add(v / 4 * 32 + v % 2 * 16)), v % 4 >= 2)
    }
    #[inline(always)]
    unsafe fn nibbles_64(p: *const u8, v: usize) -> uint8x16_t {
        nibble(vld1q_u8(p.add(v / 8 * 64 + v % 4 * 16)), v % 8 >= 4)
    }
    #[inline(always)]
    unsafe fn two_bits(p: *const u8, v: usize) -> uint8x16_t {
        let q = vld1q_u8(p.add(v / 8 * 32 + v % 2 * 16));
        vandq_u8(shr(q, v % 8 / 2 * 2), vdupq_n_u8(3))
    }
    #[inline(always)]
    unsafe fn one_bit(p: *const u8, v: usize) -> uint8x16_t {
        vandq_u8(shr(vld1q_u8(p.add(v % 2 * 16)), v / 2), vdupq_n_u8(1))
    }
    #[inline(always)]
    unsafe fn nibbles_8(p: *const u8, stride: usize, v: usize) -> uint8x16_t {
        let q = vld1_u8(p.add(v / 4 * stride + v % 4 * 8));
        vcombine_u8(vand_u8(q, vdup_n_u8(15)), vshr_n_u8::<4>(q))
    }
    #[inline(always)]
    unsafe fn quarters(p: *const u8, stride: usize, v: usize) -> uint8x16_t {
        // each of four bytes four times, its pairs of bits shifted to the bottom
        let q = vreinterpretq_u8_u32(vdupq_n_u32(
            p.add(v / 4 * stride + v % 4 * 4).cast::<u32>().read_unaligned(),
        ));
        let own: [u8; 16] = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3];
        let q = vqtbl1q_u8(q, vld1q_u8(own.as_ptr()));
        let count = vreinterpretq_s8_u32(vdupq_n_u32(0xfafc_fe00));
        vandq_u8(vshlq_u8(q, count), vdupq_n_u8(3))
    }
    #[inline(always)]
    unsafe fn thirds(p: *const u8, v: usize) -> uint8x16_t {
        let (mut q, n) = match v {
            0..10 => (vld1q_u8(p.add(v % 2 * 16)), v / 2),
            10..15 => (vld1q_u8(p.add(32)), v - 10),
            _ => {
                let q = vdupq_n_u32(p.add(48).cast::<u32>().read_unaligned());
                let powers = vdupq_n_u8(1);
                let powers = vreinterpretq_u32_u8(powers);
                let powers = vsetq_lane_u32::<1>(0x0303_0303, powers);
                let powers = vsetq_lane_u32::<2>(0x0909_0909, powers);
                let powers = vsetq_lane_u32::<3>(0x1b1b_1b1b, powers);
                (vmulq_u8(vreinterpretq_u8_u32(q), vreinterpretq_u8_u32(powers)), 0)
            }
        };
        for _ in 0..n {
            q = vaddq_u8(q, vaddq_u8(q, q));
        }
        // a comparison that holds gives -1
        let digits = vaddq_u8(vcgtq_u8(q, vdupq_n_u8(85)), vcgtq_u8(q, vdupq_n_u8(170)));
        vsubq_u8(vdupq_n_u8(7), digits)
    }
}

impl<P: Products> Lanes for Arm<P> {
    type N = int32x4_t;

    #[inline(always)]
    unsafe fn zero_n() -> int32x4_t {
        vdupq_n_s32(0)
    }
    #[inline(always)]
    unsafe fn start(_: *const u8, _: u32) -> int32x4_t {
        vdupq_n_s32(0)
    }
    #[inline(always)]
    unsafe fn add_n(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vaddq_s32(a, b)
    }
    #[inline(always)]
    unsafe fn dp(acc: int32x4_t, u: uint8x16_t, x: uint8x16_t, _: u8, offset: u8) -> int32x4_t {
        P::dot(acc, signed(u, offset), vreinterpretq_s8_u8(x))
    }
    #[inline(always)]
    unsafe fn float(n: int32x4_t) -> float32x4_t {
        vcvtq_f32_s32(n)
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> float32x4_t {
        let bytes = vcreate_u8(u64::from(p.cast::<u32>().read_unaligned()));
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> float32x4_t {
        let bytes = vcreate_s8(u64::from(p.cast::<u32>().read_unaligned()));
        vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
    }
    #[inline(always)]
    unsafe fn field(q: uint8x16_t, shift: i32, mask: u8) -> uint8x16_t {
        let q = vshlq_u32(vreinterpretq_u32_u8(q), vdupq_n_s32(-shift));
        vandq_u8(vreinterpretq_u8_u32(q), vdupq_n_u8(mask))
    }
    #[inline(always)]
    unsafe fn in_panel(first: uint8x16_t, second: uint8x16_t) -> (uint8x16_t, uint8x16_t) {
        P::in_panel(first, second)
    }
}
