//! Arithmetic that the compiler turns into vector instructions.
//!
//! Sums run in sixteen lanes, the width of AVX-512, and the lanes are added in a fixed order: the result is the same bytes
//! on AVX-512 and AVX2. The functions are inlined into callers marked `vectorized!`, each compiled once per instruction set.
//! Those callers use plain `for` loops: a closure handed to an iterator's method may stay outside the version, and scalar.

/// Number of lanes of every sum.
pub(crate) const LANES: usize = 16;

/// Hides from the compiler what becomes of the lanes after the loop that filled them.
///
/// If it saw them added up, it would keep them in eight registers of two lanes, ready to be added, and not in one register of
/// sixteen.
#[inline(always)]
fn settle(lanes: [f32; LANES]) -> [f32; LANES] {
    std::hint::black_box(lanes)
}

/// Adds the lanes pairwise, then the tail.
#[inline(always)]
pub(crate) fn fold(lanes: [f32; LANES], tail: f32) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = settle(lanes);
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0] + tail
}

/// Sum of `a`.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (blocks, tail) = a.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] += block[lane];
        }
    }
    fold(lanes, tail.iter().sum())
}

/// Largest of `a`; negative infinity when empty.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, tail) = a.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    settle(lanes).iter().chain(tail).fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most })
}

/// Smallest of `a`; infinity when empty.
#[inline(always)]
pub(crate) fn min(a: &[f32]) -> f32 {
    let mut lanes = [f32::INFINITY; LANES];
    let (blocks, tail) = a.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] < lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    settle(lanes).iter().chain(tail).fold(f32::INFINITY, |least, &x| if x < least { x } else { least })
}

/// Inner product of `a` and `b`, equally long.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] = a[lane].mul_add(b[lane], lanes[lane]);
        }
    }
    let tail = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
    fold(lanes, tail)
}

/// `y += a * x`, elementwise.
#[inline(always)]
pub(crate) fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = a.mul_add(x, *y);
    }
}

/// `(p, r, scale)` with `e^x = scale * (1 + p r)`, `scale` a power of two and `r` within half of ln 2.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, f32, f32) {
    let x = if x > 88.3 { 88.3 } else { x };
    let x = if x < -87.3 { -87.3 } else { x };
    // x = n ln 2 + r with |r| <= ln 2 / 2: adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    let rounded = x.mul_add(std::f32::consts::LOG2_E, 12_582_912.0);
    let n = rounded - 12_582_912.0;
    // ln 2 in two parts, the first exact in few bits so that n * first is exact.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    // Taylor coefficients to the seventh order: the rest is below 6e-9 on this interval.
    let mut p = 1.984_127e-4_f32;
    p = p.mul_add(r, 1.388_888_9e-3);
    p = p.mul_add(r, 8.333_334e-3);
    p = p.mul_add(r, 4.166_666_8e-2);
    p = p.mul_add(r, 1.666_666_7e-1);
    p = p.mul_add(r, 0.5);
    p = p.mul_add(r, 1.0);
    (p, r, f32::from_bits(rounded.to_bits().wrapping_shl(23).wrapping_add(0x3f80_0000)))
}

/// `e^x` to about one unit in the last place; below -87.3 it stays at about 1e-38 instead of reaching 0. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let (p, r, scale) = exp_parts(x);
    p.mul_add(r, 1.0) * scale
}

/// `1 / (1 + e^-x)` to a few units in the last place.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent to a few units in the last place, near 0 too.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // tanh x = m / (m + 2) with m = e^2x - 1, and m without cancellation: scale * p r is exact where scale is 1.
    let (p, r, scale) = exp_parts(x + x);
    let m = (p * r).mul_add(scale, scale - 1.0);
    m / (m + 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_those_of_the_library() {
        let sigmoid_of = |x: f64| 1.0 / (1.0 + (-x).exp());
        for step in -90_000..=90_000i32 {
            let x = step as f32 * 1e-3;
            for x in [x, x * 1e-3, x * 1e-9] {
                let exact = f64::from(x);
                let near = |y: f32, expected: f64| ((f64::from(y) - expected) / expected).abs() < 6e-7;
                assert!(x < -87.0 || near(sigmoid(x), sigmoid_of(exact)), "sigmoid({x}) is {}", sigmoid(x));
                assert!(x == 0.0 || near(tanh(x), exact.tanh()), "tanh({x}) is {}", tanh(x));
            }
        }
        assert_eq!([tanh(0.0), tanh(1e4), tanh(-1e4), sigmoid(1e4)], [0.0, 1.0, -1.0, 1.0]);
        assert!(tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    }
}
