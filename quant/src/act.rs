//! Prepared activations: one column (one token's vector of k values) in the form that a kernel
//! reads.
//!
//! For quantized weights ([`ActKind::Q8`]) the column is rounded to int8 with float32 scales. The
//! two drivers want different groups, so the caller says which one will read the column:
//!
//! - [`Regime::Rows`] has a scale for every **4** values: a lane of the integer dot product covers
//!   4 consecutive k, so a scale per lane costs one multiplication with a memory operand, and
//!   rounding errors of outlier channels stay among their 4 neighbours.
//! - [`Regime::Panel`] has a scale for every **32** values: there a scale step costs as much as
//!   eight integer dot products.
//!
//! Layout (`kp` = k rounded up to 256, the added values being zero; offsets from the column):
//!
//! | bytes | rows | panel |
//! | --- | --- | --- |
//! | 0..64 | header: regime tag, k (both u32) | the same |
//! | 64.. | `kp` int8 | `kp` int8 |
//! | then | `kp / 4` scales, f32 | `kp / 32` scales, f32 |
//! | then | `kp / 16` sums of the rounded values, f32 | `kp / 32` sums, f32 |
//! | then | | `kp / 32` negated integer sums, i32 |
//! | then | | `kp / 16` sums, f32; `kp / 16` negated integer sums, i32 |
//!
//! On rows of the table that multiply panels as bfloat16 ([`ActKind::Q8Bf16`]) a column for them is the
//! header and `kp` bfloat16.
//!
//! Sums are of the rounded values (scale times integer), so that a weight's offset and its scale
//! meet the same activation. A column's size in cache lines is odd: columns side by side then fall
//! into different cache sets.
//!
//! Rounding: `scale = max / 127`, `q = round_half_even(x * (127 / max))`, identical on every row.
//! A group whose largest magnitude is below 1e-35 becomes zero; a group with a NaN or an infinity
//! gets the scale NaN, so that every result it touches is NaN and the step can be refused (which NaN
//! it is differs by row, all else is the same bytes).

/// What a kernel reads as activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActKind {
    /// Plain floats, for F32, F16 and BF16 weights.
    F32,
    /// int8 with float scales, for quantized weights.
    Q8,
    /// int8 with a float scale for 32 values whoever reads it, for packed weights: the columns of
    /// [`Regime::Panel`].
    Wide,
    /// As [`ActKind::Q8`] for [`Regime::Rows`], bfloat16 for [`Regime::Panel`].
    Q8Bf16,
}

/// Which driver will read a prepared column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Regime {
    /// [`Kernels::rows`](crate::Kernels::rows): few columns, finest scales.
    Rows,
    /// [`Kernels::panel`](crate::Kernels::panel): many columns.
    Panel,
}

/// Bytes before the values of a column.
pub(crate) const HEADER: usize = 64;
/// Values per scale in [`Regime::Rows`].
const FINE: usize = 4;
/// Groups whose largest magnitude is below this are zero: 127 / x must not overflow.
pub(crate) const TINY: f32 = 1e-35;
/// Values handled at once by the quantizer.
pub(crate) const CHUNK: usize = 64;

impl ActKind {
    /// Bytes of one prepared column of `k` values, for either regime; a multiple of 64.
    pub const fn bytes(self, k: usize) -> usize {
        let lines = match self {
            Self::F32 => 1 + k.div_ceil(16),
            Self::Q8 | Self::Wide | Self::Q8Bf16 => 1 + padded(k) / 256 * 9,
        };
        (lines | 1) * 64
    }
}

/// `k` rounded up to whole spans.
pub(crate) const fn padded(k: usize) -> usize {
    k.div_ceil(256) * 256
}

/// Tag in the header of a column.
pub(crate) const fn tag(kind: ActKind, regime: Regime) -> u32 {
    match (kind, regime) {
        (ActKind::F32, _) => 0x5046_3332,
        (ActKind::Q8 | ActKind::Q8Bf16, Regime::Rows) => 0x5051_3804,
        (ActKind::Q8, Regime::Panel) | (ActKind::Wide, _) => 0x5051_3820,
        (ActKind::Q8Bf16, Regime::Panel) => 0x5042_3136,
    }
}

/// Byte offsets inside a [`Regime::Rows`] column: scales, sums.
pub(crate) const fn rows_offsets(kp: usize) -> (usize, usize) {
    (HEADER + kp, HEADER + 2 * kp)
}

/// Byte offsets inside a [`Regime::Panel`] column.
#[derive(Clone, Copy)]
pub(crate) struct PanelOffsets {
    /// One f32 per 32 values.
    pub(crate) scales: usize,
    /// Float sums per group.
    pub(crate) sums: usize,
    /// Negated integer sums per group.
    pub(crate) nsums: usize,
}

/// Where a panel finds its numbers, for weight groups of 16 or 32.
pub(crate) const fn panel_offsets(kp: usize, group: usize) -> PanelOffsets {
    let scales = HEADER + kp;
    let step = kp / 8;
    if group == 32 {
        PanelOffsets { scales, sums: scales + step, nsums: scales + 2 * step }
    } else {
        PanelOffsets { scales, sums: scales + 3 * step, nsums: scales + 5 * step }
    }
}

pub(crate) fn write_header(dst: &mut [u8], tag: u32, k: usize) {
    dst[..HEADER].fill(0);
    dst[..4].copy_from_slice(&tag.to_le_bytes());
    dst[4..8].copy_from_slice(&(k as u32).to_le_bytes());
}

/// Tag and k of a prepared column.
pub(crate) fn header(column: &[u8]) -> (u32, usize) {
    let word =
        |i: usize| u32::from_le_bytes([column[i], column[i + 1], column[i + 2], column[i + 3]]);
    (word(0), word(4) as usize)
}

/// Copies a column of floats, zero-padded to a multiple of 16.
pub(crate) fn copy(x: &[f32], dst: &mut [u8]) {
    write_header(dst, tag(ActKind::F32, Regime::Rows), x.len());
    let (values, rest) = dst[HEADER..].split_at_mut(4 * x.len());
    values.copy_from_slice(bytemuck::cast_slice(x));
    rest.fill(0);
}

/// Scale and its inverse for a group whose largest magnitude has the bits `max`.
#[inline(always)]
fn scale_of(max: u32) -> (f32, f32) {
    let amax = f32::from_bits(max);
    // integer comparison of the bits orders magnitudes and puts NaN above infinity
    let finite = max < f32::INFINITY.to_bits();
    let used = finite && amax >= TINY;
    let safe = if used { amax } else { 1.0 };
    let d = if used { safe / 127.0 } else { 0.0 };
    (if finite { d } else { f32::NAN }, if used { 127.0 / safe } else { 0.0 })
}

/// `x * inverse` rounded to the nearest integer, ties to even, for magnitudes up to 127.
#[inline(always)]
fn round(x: f32, inverse: f32) -> i8 {
    // 1.5 * 2^23: the sum's low mantissa bits are the rounded integer in two's complement
    const MAGIC: f32 = 12_582_912.0;
    let scaled = if inverse == 0.0 { 0.0 } else { x * inverse };
    (scaled + MAGIC).to_bits() as i8
}

/// Quantizes one column; the entry of every row compiles this same function.
#[inline(always)]
pub(crate) fn quantize(x: &[f32], dst: &mut [u8], regime: Regime) {
    write_header(dst, tag(ActKind::Q8, regime), x.len());
    match regime {
        Regime::Rows => quantize_fine(x, &mut dst[HEADER..]),
        Regime::Panel => quantize_wide(x, &mut dst[HEADER..]),
    }
}

/// Calls `f` with every chunk of 64 values, the last ones padded with zeros up to `kp`.
#[inline(always)]
fn chunks(x: &[f32], kp: usize, mut f: impl FnMut(usize, &[f32; CHUNK])) {
    for i in 0..kp / CHUNK {
        let at = i * CHUNK;
        let mut last = [0f32; CHUNK];
        let chunk = match x.get(at..at + CHUNK).and_then(|s| s.try_into().ok()) {
            Some(full) => full,
            None => {
                let rest = x.get(at..).unwrap_or(&[]);
                last[..rest.len()].copy_from_slice(rest);
                &last
            }
        };
        f(i, chunk);
    }
}

#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

#[inline(always)]
fn quantize_fine(x: &[f32], dst: &mut [u8]) {
    let kp = padded(x.len());
    let (q, rest) = dst.split_at_mut(kp);
    let (scales, rest) = rest.split_at_mut(kp);
    let sums = &mut rest[..kp / 4];
    chunks(x, kp, |i, x| {
        let mut out = [0i8; CHUNK];
        let mut d = [0f32; CHUNK / FINE];
        let mut part = [0f32; CHUNK / FINE];
        for g in 0..CHUNK / FINE {
            let m = |j: usize| magnitude(x[FINE * g + j]);
            let max = m(0).max(m(1)).max(m(2).max(m(3)));
            let (scale, inverse) = scale_of(max);
            let mut n = 0i32;
            for j in 0..FINE {
                let r = round(x[FINE * g + j], inverse);
                out[FINE * g + j] = r;
                n += i32::from(r);
            }
            d[g] = scale;
            part[g] = scale * n as f32;
        }
        let sum: [f32; 4] = std::array::from_fn(|j| {
            (part[4 * j] + part[4 * j + 1]) + (part[4 * j + 2] + part[4 * j + 3])
        });
        q[i * CHUNK..][..CHUNK].copy_from_slice(bytemuck::cast_slice(&out));
        scales[i * CHUNK..][..CHUNK].copy_from_slice(bytemuck::cast_slice(&d));
        sums[i * CHUNK / 4..][..CHUNK / 4].copy_from_slice(bytemuck::cast_slice(&sum));
    });
}

#[inline(always)]
fn quantize_wide(x: &[f32], dst: &mut [u8]) {
    let kp = padded(x.len());
    let step = kp / 8;
    let (q, rest) = dst.split_at_mut(kp);
    let (scales, rest) = rest.split_at_mut(step);
    let (sums, rest) = rest.split_at_mut(step);
    let (nsums, rest) = rest.split_at_mut(step);
    let (sums16, rest) = rest.split_at_mut(2 * step);
    let nsums16 = &mut rest[..2 * step];
    chunks(x, kp, |i, x| {
        let mut out = [0i8; CHUNK];
        let mut d = [0f32; 2];
        let mut n16 = [0i32; 4];
        for g in 0..2 {
            let x = &x[32 * g..32 * g + 32];
            let max = x.iter().fold(0, |max, &x| magnitude(x).max(max));
            let (scale, inverse) = scale_of(max);
            for (out, &x) in out[32 * g..32 * g + 32].iter_mut().zip(x) {
                *out = round(x, inverse);
            }
            d[g] = scale;
        }
        for (j, n) in n16.iter_mut().enumerate() {
            *n = -out[16 * j..16 * j + 16].iter().map(|&q| i32::from(q)).sum::<i32>();
        }
        let n32 = [n16[0] + n16[1], n16[2] + n16[3]];
        let s32: [f32; 2] = std::array::from_fn(|g| -(d[g] * n32[g] as f32));
        let s16: [f32; 4] = std::array::from_fn(|j| -(d[j / 2] * n16[j] as f32));
        q[i * CHUNK..][..CHUNK].copy_from_slice(bytemuck::cast_slice(&out));
        scales[i * 8..][..8].copy_from_slice(bytemuck::cast_slice(&d));
        sums[i * 8..][..8].copy_from_slice(bytemuck::cast_slice(&s32));
        nsums[i * 8..][..8].copy_from_slice(bytemuck::cast_slice(&n32));
        sums16[i * 16..][..16].copy_from_slice(bytemuck::cast_slice(&s16));
        nsums16[i * 16..][..16].copy_from_slice(bytemuck::cast_slice(&n16));
    });
}

/// What a prepared column of `x` leaves out: `x` less the values that the column stands for.
///
/// # Panics
/// When `rest` is not as long as `x`, or the column is shorter than one of so many values.
pub(crate) fn residual(x: &[f32], column: &[u8], tag_of: u32, rest: &mut [f32]) {
    assert_eq!(x.len(), rest.len(), "values and what is left of them");
    let kp = padded(x.len());
    if tag_of == tag(ActKind::Q8Bf16, Regime::Panel) {
        let values = column[HEADER..].as_chunks().0;
        for ((rest, &x), &y) in rest.iter_mut().zip(x).zip(values) {
            *rest = x - half::bf16::from_le_bytes(y).to_f32();
        }
        return;
    }
    let per_scale = if tag_of == tag(ActKind::Q8, Regime::Rows) { FINE } else { 32 };
    let scales = &column[HEADER + kp..];
    let groups = x.chunks(per_scale).zip(rest.chunks_mut(per_scale));
    for (g, (x, rest)) in groups.enumerate() {
        let q = &column[HEADER + g * per_scale..];
        let d = scales[4 * g..].first_chunk().map_or(0.0, |&d| f32::from_le_bytes(d));
        for ((rest, &x), &q) in rest.iter_mut().zip(x).zip(q) {
            *rest = x - d * f32::from(q as i8);
        }
    }
}
