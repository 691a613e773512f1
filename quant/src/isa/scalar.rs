//! The scalar row: four lanes of plain Rust. Runs on any CPU; the compiler may use whatever the
//! build's baseline has (SSE2 on x86-64), but never fuses or reorders.
#![allow(unsafe_op_in_unsafe_fn, reason = "the contract of `Simd` covers every body")]

use super::{Simd, patterns};
use crate::packed::driver::Lanes;

/// Token of the row.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

super::entries!(Scalar, crate::act::quantize);
super::packed_entries!(Scalar);

fn dot4(u: &[u8], x: &[u8], offset: i32) -> i32 {
    u.iter().zip(x).map(|(&u, &x)| (i32::from(u) - offset) * i32::from(x as i8)).sum()
}

impl Simd for Scalar {
    const LANES: usize = 4;
    const PANEL: usize = 1;
    const TILE: (usize, usize, usize) = (1, 1, 1);
    const PANEL_COLS: (usize, usize, usize) = (1, 1, 1);
    const NARROW: bool = false;
    type F = [f32; 4];
    type Q = [u8; 16];
    type I = ();

    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        p.cast::<[f32; 4]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: [f32; 4]) {
        p.cast::<[f32; 4]>().write_unaligned(x);
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]]
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        Self::add(Self::mul(a, b), c)
    }
    #[inline(always)]
    unsafe fn sum(x: [f32; 4]) -> f32 {
        (x[0] + x[2]) + (x[1] + x[3])
    }
    #[inline(always)]
    unsafe fn half(bits: u16) -> f32 {
        half::f16::from_bits(bits).to_f32_const()
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> [f32; 4] {
        let h = p.cast::<[u16; 4]>().read_unaligned();
        h.map(|bits| half::f16::from_bits(bits).to_f32_const())
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> [f32; 4] {
        let h = p.cast::<[u16; 4]>().read_unaligned();
        h.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

    #[inline(always)]
    unsafe fn load_q(p: *const u8) -> [u8; 16] {
        p.cast::<[u8; 16]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store_q(p: *mut u8, q: [u8; 16]) {
        p.cast::<[u8; 16]>().write_unaligned(q);
    }
    #[inline(always)]
    unsafe fn splat_q(p: *const u8) -> [u8; 16] {
        let x = p.cast::<[u8; 4]>().read_unaligned();
        std::array::from_fn(|i| x[i % 4])
    }
    #[inline(always)]
    unsafe fn or(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        std::array::from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    unsafe fn shl<const N: u32>(a: [u8; 16]) -> [u8; 16] {
        a.map(|x| x << N)
    }
    #[inline(always)]
    unsafe fn flip(a: [u8; 16]) -> [u8; 16] {
        a.map(|x| x ^ 0x80)
    }
    #[inline(always)]
    unsafe fn lookup(table: &'static [u8; 16], index: [u8; 16]) -> [u8; 16] {
        index.map(|i| table[usize::from(i & 15)])
    }
    #[inline(always)]
    unsafe fn bias(_: [u8; 16], _: u8) {}
    #[inline(always)]
    unsafe fn dot(u: [u8; 16], x: [u8; 16], (): (), _: u8, offset: u8) -> [f32; 4] {
        std::array::from_fn(|i| {
            dot4(&u[4 * i..4 * i + 4], &x[4 * i..4 * i + 4], i32::from(offset)) as f32
        })
    }

    #[inline(always)]
    unsafe fn spread(d: *const f32, v: usize, group: usize) -> [f32; 4] {
        [*d.add(16 * v / group); 4]
    }
    #[inline(always)]
    unsafe fn mins(acc: [f32; 4], m: *const f32, sums: *const f32, group: usize) -> [f32; 4] {
        let m = patterns::mins_16(m, group);
        let mut acc = acc;
        for i in 0..4 {
            acc = Self::fma(Self::load(m.as_ptr().add(4 * i)), Self::load(sums.add(4 * i)), acc);
        }
        acc
    }

    #[inline(always)]
    unsafe fn transpose(src: *const u8, from: usize, dst: *mut u8, to: usize) {
        for r in 0..4 {
            for i in 0..4 {
                let dword = src.add(from * r + 4 * i).cast::<[u8; 4]>().read_unaligned();
                dst.add(i * to + 4 * r).cast::<[u8; 4]>().write_unaligned(dword);
            }
        }
    }
    #[inline(always)]
    unsafe fn panel<const V: usize, const C: usize>(
        w: *const u8,
        stride: usize,
        x: &[*const u8; C],
        quads: usize,
        _: &[*const u8; C],
        _: u8,
        shift: Option<u32>,
    ) -> [[[f32; 4]; C]; V] {
        let offset = shift.map_or(0, |shift| 1 << shift);
        let mut acc = [[[0i32; 4]; C]; V];
        for j in 0..quads {
            for (v, acc) in acc.iter_mut().enumerate() {
                let u = Self::load_q(w.add(j * stride + 16 * v));
                for (c, acc) in acc.iter_mut().enumerate() {
                    let x = Self::splat_q(x[c].add(4 * j));
                    for (i, acc) in acc.iter_mut().enumerate() {
                        *acc += dot4(&u[4 * i..4 * i + 4], &x[4 * i..4 * i + 4], offset);
                    }
                }
            }
        }
        acc.map(|row| row.map(|lanes| lanes.map(|n| n as f32)))
    }
}

impl Lanes for Scalar {
    const COLS: usize = 1;
    type N = [i32; 4];

    #[inline(always)]
    unsafe fn zero_n() -> [i32; 4] {
        [0; 4]
    }
    #[inline(always)]
    unsafe fn start(p: *const u8, shift: u32) -> [i32; 4] {
        [p.cast::<i32>().read_unaligned() << shift; 4]
    }
    #[inline(always)]
    unsafe fn add_n(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn dp(acc: [i32; 4], u: [u8; 16], x: [u8; 16], _: u8, _: u8) -> [i32; 4] {
        std::array::from_fn(|i| acc[i] + dot4(&u[4 * i..4 * i + 4], &x[4 * i..4 * i + 4], 0))
    }
    #[inline(always)]
    unsafe fn float(n: [i32; 4]) -> [f32; 4] {
        n.map(|n| n as f32)
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> [f32; 4] {
        p.cast::<[u8; 4]>().read_unaligned().map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> [f32; 4] {
        p.cast::<[i8; 4]>().read_unaligned().map(f32::from)
    }
    #[inline(always)]
    unsafe fn field(q: [u8; 16], shift: i32, mask: u8) -> [u8; 16] {
        q.map(|b| (if shift < 0 { b << -shift } else { b >> shift }) & mask)
    }
}
