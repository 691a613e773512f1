//! One step of a linear recurrence over a state matrix.
//!
//! Every row of the state goes its own way: decay, an optional correction along a fixed direction
//! (the delta rule), an outer product added, and a read-out. A row is small and stays in the
//! nearest cache between the passes.

use pulp::Simd;

/// What a step does to each row s of the state; n = columns, i = row. With s as it was before:
///
/// `s' = decay * s + dot(s, erase[0]) erase[1] + values[i] key`
///
/// and the output is `dot(s', query)`, or `dot(s, query)` for [`Read::Before`].
#[derive(Clone, Copy, Debug)]
pub struct Recur<'a> {
    /// `[n]` for all rows, or `[rows, n]`.
    pub decay: &'a [f32],
    /// Two vectors of `[n]`: what is read, and along what it is added.
    pub erase: Option<[&'a [f32]; 2]>,
    /// `[n]`.
    pub key: &'a [f32],
    /// `[n]`.
    pub query: &'a [f32],
    /// Which state is read out.
    pub read: Read,
}

/// Which state a step of [`Recur`] reads out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// As it was.
    Before,
    /// With this step's outer product in it.
    After,
}

/// Sum of `x[i] y[i]` in f32: two accumulators, then the tail.
#[inline(always)]
fn dot<S: Simd>(simd: S, x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_tail), (y, y_tail)) = (S::as_simd_f32s(x), S::as_simd_f32s(y));
    let zero = simd.splat_f32s(0.0);
    let mut acc = [zero; 2];
    let ((x2, x1), (y2, y1)) = (x.as_chunks::<2>(), y.as_chunks::<2>());
    for (x, y) in x2.iter().zip(y2) {
        acc[0] = simd.mul_add_e_f32s(x[0], y[0], acc[0]);
        acc[1] = simd.mul_add_e_f32s(x[1], y[1], acc[1]);
    }
    for (x, y) in x1.iter().zip(y1) {
        acc[0] = simd.mul_add_e_f32s(*x, *y, acc[0]);
    }
    if !x_tail.is_empty() {
        let (x, y) = (simd.partial_load_f32s(x_tail), simd.partial_load_f32s(y_tail));
        acc[1] = simd.mul_add_e_f32s(x, y, acc[1]);
    }
    simd.reduce_sum_f32s(simd.add_f32s(acc[0], acc[1]))
}

/// x *= y, then x += a z.
#[inline(always)]
fn scale_and_add<S: Simd>(simd: S, x: &mut [f32], y: &[f32], a: f32, z: &[f32]) {
    let a = simd.splat_f32s(a);
    let (x, x_tail) = S::as_mut_simd_f32s(x);
    let ((y, y_tail), (z, z_tail)) = (S::as_simd_f32s(y), S::as_simd_f32s(z));
    for ((x, y), z) in x.iter_mut().zip(y).zip(z) {
        *x = simd.mul_add_e_f32s(a, *z, simd.mul_f32s(*x, *y));
    }
    if !x_tail.is_empty() {
        let (y, z) = (simd.partial_load_f32s(y_tail), simd.partial_load_f32s(z_tail));
        let x = simd.mul_f32s(simd.partial_load_f32s(x_tail), y);
        simd.partial_store_f32s(x_tail, simd.mul_add_e_f32s(a, z, x));
    }
}

/// x += a z.
#[inline(always)]
fn add_scaled<S: Simd>(simd: S, x: &mut [f32], a: f32, z: &[f32]) {
    let a = simd.splat_f32s(a);
    let ((x, x_tail), (z, z_tail)) = (S::as_mut_simd_f32s(x), S::as_simd_f32s(z));
    for (x, z) in x.iter_mut().zip(z) {
        *x = simd.mul_add_e_f32s(a, *z, *x);
    }
    if !x_tail.is_empty() {
        let (x, z) = (simd.partial_load_f32s(x_tail), simd.partial_load_f32s(z_tail));
        simd.partial_store_f32s(x_tail, simd.mul_add_e_f32s(a, z, x));
    }
}

/// All rows of `state` `[rows, n]`; `values` and `out` are `[rows]`.
#[inline(always)]
pub(super) fn recur<S: Simd>(
    simd: S,
    state: &mut [f32],
    step: Recur<'_>,
    values: &[f32],
    out: &mut [f32],
) {
    let n = step.key.len();
    let shared = step.decay.len() == n;
    let rows = state.chunks_exact_mut(n).zip(values).zip(out);
    for (r, ((s, &value), out)) in rows.enumerate() {
        let decay = if shared { step.decay } else { &step.decay[r * n..(r + 1) * n] };
        if step.read == Read::Before {
            *out = dot(simd, s, step.query);
        }
        let erased = step.erase.map(|[read, along]| (dot(simd, s, read), along));
        scale_and_add(simd, s, decay, value, step.key);
        if let Some((a, along)) = erased {
            add_scaled(simd, s, a, along);
        }
        if step.read == Read::After {
            *out = dot(simd, s, step.query);
        }
    }
}

/// acc += x y, element by element.
#[inline(always)]
pub(super) fn mul_add<S: Simd>(simd: S, acc: &mut [f32], x: &[f32], y: &[f32]) {
    let (acc, acc_tail) = S::as_mut_simd_f32s(acc);
    let ((x, x_tail), (y, y_tail)) = (S::as_simd_f32s(x), S::as_simd_f32s(y));
    for ((acc, x), y) in acc.iter_mut().zip(x).zip(y) {
        *acc = simd.mul_add_e_f32s(*x, *y, *acc);
    }
    if !acc_tail.is_empty() {
        let (x, y) = (simd.partial_load_f32s(x_tail), simd.partial_load_f32s(y_tail));
        let a = simd.partial_load_f32s(acc_tail);
        simd.partial_store_f32s(acc_tail, simd.mul_add_e_f32s(x, y, a));
    }
}
