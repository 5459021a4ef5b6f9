//! Operations on vectors of f32: norms, gates, rotations.
//!
//! Each has one definition, written over eight lanes and compiled for every instruction set: the same bits on each.

use crate::lanes::{LANES, Lanes, lanes_fn};

/// Calls `each(lanes from a, lanes from b) -> lanes` over both and writes what it gives; what is left of eight is done on
/// copies, by the same operations.
#[inline(always)]
unsafe fn zip<L: Lanes>(a: &[f32], b: &[f32], out: &mut [f32], each: impl Fn(L, L) -> L) {
    assert!(a.len() == b.len() && a.len() == out.len(), "vectors of one length");
    let whole = a.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        // SAFETY: eight elements from `at` on are within all three.
        unsafe {
            each(L::load(a.as_ptr().add(at)), L::load(b.as_ptr().add(at))).store(out.as_mut_ptr().add(at))
        };
    }
    let rest = a.len() - whole;
    if rest > 0 {
        let (a, b) = (padded(&a[whole..]), padded(&b[whole..]));
        // SAFETY: arrays of eight.
        let result = unsafe { each(L::load(a.as_ptr()), L::load(b.as_ptr())).array() };
        out[whole..].copy_from_slice(&result[..rest]);
    }
}

/// Up to eight numbers, zeros after them.
fn padded(x: &[f32]) -> [f32; LANES] {
    let mut padded = [0.0; LANES];
    padded[..x.len()].copy_from_slice(x);
    padded
}

/// The sum of `a[i] * b[i]`: 32 chains, then lanes, in one order.
#[inline(always)]
unsafe fn dot_lanes<L: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    // SAFETY: `splat` reads nothing.
    let mut sums = unsafe { [L::splat(0.0); 4] };
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (index, (a, b)) in a_chunks.iter().zip(b_chunks).enumerate() {
        // SAFETY: arrays of eight.
        sums[index % 4] = unsafe { L::load(a.as_ptr()).fma(L::load(b.as_ptr()), sums[index % 4]) };
    }
    let (a, b) = (padded(a_rest), padded(b_rest));
    // SAFETY: arrays of eight.
    unsafe {
        sums[0] = L::load(a.as_ptr()).fma(L::load(b.as_ptr()), sums[0]);
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }
}

lanes_fn! {
    /// The sum of `a[i] * b[i]`, in one order that depends on the length alone.
    ///
    /// # Panics
    /// When the lengths differ.
    #[must_use]
    pub fn dot<L>(a: &[f32], b: &[f32]) -> f32 {
        dot_lanes::<L>(a, b)
    }
}

lanes_fn! {
    /// `out[i] = x[i] / sqrt(mean(x²) + epsilon) * weight[i]` (Zhang and Sennrich, 2019).
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn rms_norm<L>(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let scale = 1.0 / (dot_lanes::<L>(x, x) / x.len() as f32 + epsilon).sqrt();
        let scale = L::splat(scale);
        zip::<L>(x, weight, out, #[inline(always)] |x, weight| x.mul(scale).mul(weight));
    }
}

lanes_fn! {
    /// `x[i] = x[i] / sqrt(mean(x²) + epsilon) * weight[i]`: as [`rms_norm`], in place.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn rms_norm_in_place<L>(x: &mut [f32], weight: &[f32], epsilon: f32) {
        let scale = 1.0 / (dot_lanes::<L>(x, x) / x.len() as f32 + epsilon).sqrt();
        let scale = L::splat(scale);
        in_place::<L>(x, weight, #[inline(always)] |x, weight| x.mul(scale).mul(weight));
    }
}

lanes_fn! {
    /// `x[i] = (x[i] - mean(x)) / sqrt(variance(x) + epsilon) * weight[i] + bias[i]` (Ba et al., 2016).
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn layer_norm<L>(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
        // The mean first: sums of squares of numbers far from zero lose the digits that matter.
        let mean = L::splat(sum_lanes::<L>(x) / x.len() as f32);
        map::<L>(x, #[inline(always)] |x| x.sub(mean));
        let scale = 1.0 / (dot_lanes::<L>(x, x) / x.len() as f32 + epsilon).sqrt();
        let scale = L::splat(scale);
        in_place::<L>(x, weight, #[inline(always)] |x, weight| x.mul(scale).mul(weight));
        in_place::<L>(x, bias, #[inline(always)] |x, bias| x.add(bias));
    }
}

lanes_fn! {
    /// `x[i] = x[i] * Φ(x[i])`, Φ the normal distribution's (Hendrycks and Gimpel, 2016), to within 3e-7: its tail by
    /// formula 7.1.26 of Abramowitz and Stegun.
    pub fn gelu<L>(x: &mut [f32]) {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        map::<L>(x, #[inline(always)] |x| {
            let magnitude = x.max(zero.sub(x));
            let z = magnitude.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2));
            let t = one.div(z.fma(L::splat(0.327_591_1), one));
            let mut tail = L::splat(1.061_405_4);
            for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
                tail = tail.fma(t, L::splat(coefficient));
            }
            let tail = tail.mul(t).mul(zero.sub(z.mul(z)).exp()).mul(L::splat(0.5));
            x.max(zero).sub(magnitude.mul(tail))
        });
    }
}

lanes_fn! {
    /// `x[i] += y[i]`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add<L>(x: &mut [f32], y: &[f32]) {
        in_place::<L>(x, y, #[inline(always)] |x, y| x.add(y));
    }
}

lanes_fn! {
    /// `x[i] += factor * y[i]`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add_scaled<L>(x: &mut [f32], y: &[f32], factor: f32) {
        let factor = L::splat(factor);
        in_place::<L>(x, y, #[inline(always)] |x, y| factor.fma(y, x));
    }
}

lanes_fn! {
    /// `out[i] = silu(gate[i]) * up[i]`, `silu(x) = x / (1 + exp(-x))`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn silu_mul<L>(gate: &[f32], up: &[f32], out: &mut [f32]) {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        zip::<L>(gate, up, out, #[inline(always)] |gate, up| gate.div(one.add(zero.sub(gate).exp())).mul(up));
    }
}

lanes_fn! {
    /// `out[i] = gelu(gate[i]) * up[i]`, `gelu(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³)))`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn gelu_tanh_mul<L>(gate: &[f32], up: &[f32], out: &mut [f32]) {
        let (half, one) = (L::splat(0.5), L::splat(1.0));
        let (cubic, factor) = (L::splat(0.044_715), L::splat(0.797_884_6));
        zip::<L>(gate, up, out, #[inline(always)] |x, up| {
            let inner = x.mul(x).mul(x).fma(cubic, x).mul(factor);
            x.mul(half).mul(one.add(inner.tanh())).mul(up)
        });
    }
}

lanes_fn! {
    /// gpt-oss's gate: `out = g / (1 + exp(-1.702 g)) * (u + 1)`, `g = min(gate, 7)`, `u` within -7 and 7.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn clamped_silu_mul<L>(gate: &[f32], up: &[f32], out: &mut [f32]) {
        let (limit, one, slope) = (L::splat(7.0), L::splat(1.0), L::splat(-1.702));
        zip::<L>(gate, up, out, #[inline(always)] |gate, up| {
            let gate = gate.min(limit);
            let up = up.min(limit).max(L::splat(-7.0));
            gate.div(one.add(gate.mul(slope).exp())).mul(up.add(one))
        });
    }
}

lanes_fn! {
    /// `x[i] = cap * tanh(x[i] / cap)`.
    pub fn softcap<L>(x: &mut [f32], cap: f32) {
        let cap = L::splat(cap);
        map::<L>(x, #[inline(always)] |x| cap.mul(x.div(cap).tanh()));
    }
}

lanes_fn! {
    /// `x[i] = exp(x[i] - max(x)) / sum(exp(x - max(x)))`.
    pub fn softmax<L>(x: &mut [f32]) {
        let greatest = x.iter().fold(f32::NEG_INFINITY, |greatest, &x| if x > greatest { x } else { greatest });
        let greatest = L::splat(greatest);
        map::<L>(x, #[inline(always)] |x| x.sub(greatest).exp());
        let sum = L::splat(sum_lanes::<L>(x));
        map::<L>(x, #[inline(always)] |x| x.div(sum));
    }
}

lanes_fn! {
    /// The softmax of `x[i] * scale + bias[i]`, in place; of `x[i] * scale` where there is no bias.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn scaled_softmax<L>(x: &mut [f32], scale: f32, bias: Option<&[f32]>) {
        let scale = L::splat(scale);
        match bias {
            Some(bias) => in_place::<L>(x, bias, #[inline(always)] |x, bias| x.fma(scale, bias)),
            None => map::<L>(x, #[inline(always)] |x| x.mul(scale)),
        }
        let greatest = L::splat(greatest_lanes::<L>(x));
        map::<L>(x, #[inline(always)] |x| x.sub(greatest).exp());
        let share = L::splat(1.0 / sum_lanes::<L>(x));
        map::<L>(x, #[inline(always)] |x| x.mul(share));
    }
}

lanes_fn! {
    /// Turns the pairs `(x[i], x[i + pairs])` of a head by angles given as cosines and sines, `pairs` each: the layout of
    /// GPT-NeoX. What is beyond the pairs stays.
    ///
    /// # Panics
    /// When `x` is shorter than twice the cosines, or there are not as many sines.
    pub fn rope_halves<L>(x: &mut [f32], cosines: &[f32], sines: &[f32]) {
        let pairs = cosines.len();
        assert!(sines.len() == pairs && x.len() >= 2 * pairs, "{pairs} pairs in a head of {}", x.len());
        let (first, second) = x[..2 * pairs].split_at_mut(pairs);
        let whole = pairs / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            let (a, b) = (L::load(first.as_ptr().add(at)), L::load(second.as_ptr().add(at)));
            let (cosine, sine) = (L::load(cosines.as_ptr().add(at)), L::load(sines.as_ptr().add(at)));
            a.mul(cosine).sub(b.mul(sine)).store(first.as_mut_ptr().add(at));
            b.mul(cosine).add(a.mul(sine)).store(second.as_mut_ptr().add(at));
        }
        for at in whole..pairs {
            let (a, b) = (first[at], second[at]);
            first[at] = a * cosines[at] - b * sines[at];
            second[at] = b * cosines[at] + a * sines[at];
        }
    }
}

/// Turns the pairs `(x[2i], x[2i + 1])` of a head by angles given as cosines and sines. What is beyond the pairs stays.
///
/// # Panics
/// When `x` is shorter than twice the cosines, or there are not as many sines.
pub fn rope_neighbours(x: &mut [f32], cosines: &[f32], sines: &[f32]) {
    assert!(
        sines.len() == cosines.len() && x.len() >= 2 * cosines.len(),
        "pairs within a head of {}",
        x.len()
    );
    for ((pair, cosine), sine) in x.chunks_exact_mut(2).zip(cosines).zip(sines) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cosine - b * sine;
        pair[1] = b * cosine + a * sine;
    }
}

/// As `zip`, `a` being where the result goes.
#[inline(always)]
unsafe fn in_place<L: Lanes>(x: &mut [f32], y: &[f32], each: impl Fn(L, L) -> L) {
    assert_eq!(x.len(), y.len(), "vectors of one length");
    let whole = x.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        // SAFETY: eight elements from `at` on are within both.
        unsafe {
            each(L::load(x.as_ptr().add(at)), L::load(y.as_ptr().add(at))).store(x.as_mut_ptr().add(at))
        };
    }
    let rest = x.len() - whole;
    if rest > 0 {
        let (a, b) = (padded(&x[whole..]), padded(&y[whole..]));
        // SAFETY: arrays of eight.
        let result = unsafe { each(L::load(a.as_ptr()), L::load(b.as_ptr())).array() };
        x[whole..].copy_from_slice(&result[..rest]);
    }
}

/// Replaces each number by what `each` gives for it.
#[inline(always)]
unsafe fn map<L: Lanes>(x: &mut [f32], each: impl Fn(L) -> L) {
    let whole = x.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        // SAFETY: eight elements from `at` on are within it.
        unsafe { each(L::load(x.as_ptr().add(at))).store(x.as_mut_ptr().add(at)) };
    }
    let rest = padded(&x[whole..]);
    // SAFETY: an array of eight.
    let result = unsafe { each(L::load(rest.as_ptr())).array() };
    let left = x.len() - whole;
    x[whole..].copy_from_slice(&result[..left]);
}

/// The sum of all numbers, in one order.
#[inline(always)]
unsafe fn sum_lanes<L: Lanes>(x: &[f32]) -> f32 {
    // SAFETY: `splat` reads nothing.
    let mut sum = unsafe { L::splat(0.0) };
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        // SAFETY: an array of eight.
        sum = unsafe { sum.add(L::load(chunk.as_ptr())) };
    }
    let rest = padded(rest);
    // SAFETY: an array of eight.
    unsafe { sum.add(L::load(rest.as_ptr())).sum() }
}

/// The greatest of all numbers.
#[inline(always)]
unsafe fn greatest_lanes<L: Lanes>(x: &[f32]) -> f32 {
    // SAFETY: `splat` reads nothing.
    let mut greatest = unsafe { L::splat(f32::NEG_INFINITY) };
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        // SAFETY: an array of eight.
        greatest = unsafe { L::load(chunk.as_ptr()).max(greatest) };
    }
    // SAFETY: reads nothing.
    let greatest = unsafe { greatest.greatest() };
    rest.iter().fold(greatest, |greatest, &x| if x > greatest { x } else { greatest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::random::Random;

    fn vector(len: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..len).map(|_| 3.0 * random.normal()).collect()
    }

    /// What an operation computes, on one instruction set, from two vectors.
    type Operation = (&'static str, fn(Isa, &[f32], &[f32]) -> Vec<f32>, fn(f64, f64, &Whole) -> f64);

    /// What an exact result needs of all numbers.
    struct Whole {
        square: f64,
        mean: f64,
        variance: f64,
        exp: f64,
    }

    fn out(x: &[f32], write: impl FnOnce(&mut [f32])) -> Vec<f32> {
        let mut out = x.to_vec();
        write(&mut out);
        out
    }

    /// The normal distribution, by Simpson's rule from zero.
    fn normal(x: f64) -> f64 {
        let density = |t: f64| (-t * t / 2.0).exp();
        let step = x / 2000.0;
        let at = |i: u32| density(f64::from(i) * step) * if i.is_multiple_of(2) { 2.0 } else { 4.0 };
        let inner: f64 = (1..2000).map(at).sum();
        0.5 + step / 3.0 * (1.0 + inner + density(x)) / std::f64::consts::TAU.sqrt()
    }

    const OPERATIONS: [Operation; 11] = [
        (
            "rms_norm",
            |isa, x, y| out(x, |out| rms_norm(isa, x, y, 1e-5, out)),
            |x, y, all| x / (all.square + 1e-5).sqrt() * y,
        ),
        (
            "rms_norm_in_place",
            |isa, x, y| out(x, |x| rms_norm_in_place(isa, x, y, 1e-5)),
            |x, y, all| x / (all.square + 1e-5).sqrt() * y,
        ),
        (
            "layer_norm",
            |isa, x, y| out(x, |x| layer_norm(isa, x, y, y, 1e-5)),
            |x, y, all| (x - all.mean) / (all.variance + 1e-5).sqrt() * y + y,
        ),
        ("gelu", |isa, x, _| out(x, |x| gelu(isa, x)), |x, _, _| x * normal(x)),
        ("add", |isa, x, y| out(x, |x| add(isa, x, y)), |x, y, _| x + y),
        ("add_scaled", |isa, x, y| out(x, |x| add_scaled(isa, x, y, 0.5)), |x, y, _| x + 0.5 * y),
        (
            "silu_mul",
            |isa, x, y| out(x, |out| silu_mul(isa, x, y, out)),
            |x, y, _| x / (1.0 + (-x).exp()) * y,
        ),
        (
            "gelu_tanh_mul",
            |isa, x, y| out(x, |out| gelu_tanh_mul(isa, x, y, out)),
            |x, y, _| {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh()) * y
            },
        ),
        ("softcap", |isa, x, _| out(x, |x| softcap(isa, x, 5.0)), |x, _, _| 5.0 * (x / 5.0).tanh()),
        ("softmax", |isa, x, _| out(x, |x| softmax(isa, x)), |x, _, all| x.exp() / all.exp),
        (
            "scaled_softmax",
            |isa, x, _| {
                let half: Vec<f32> = x.iter().map(|x| 0.5 * x).collect();
                out(x, |x| scaled_softmax(isa, x, 0.5, Some(&half)))
            },
            |x, _, all| x.exp() / all.exp,
        ),
    ];

    #[test]
    fn operations_are_close_to_exact_and_alike_on_every_isa() {
        for len in [1, 7, 8, 31, 64, 576] {
            let (x, y) = (vector(len, 11), vector(len, 12));
            let exact = |f: &dyn Fn(f64) -> f64| x.iter().map(|&x| f(f64::from(x))).sum::<f64>();
            let mean = exact(&|x| x) / len as f64;
            let all = Whole {
                square: exact(&|x| x * x) / len as f64,
                mean,
                variance: exact(&|x| (x - mean).powi(2)) / len as f64,
                exp: exact(&f64::exp),
            };
            for (name, run, exact) in OPERATIONS {
                let expected = run(Isa::SCALAR, &x, &y);
                for ((found, &x), &y) in expected.iter().zip(&x).zip(&y) {
                    let exact = exact(f64::from(x), f64::from(y), &all);
                    let error = (f64::from(*found) - exact).abs() / (1.0 + exact.abs());
                    assert!(error < 1e-5, "{name}({x}, {y}) = {found}, not {exact}");
                }
                for isa in Isa::available() {
                    assert_eq!(run(isa, &x, &y), expected, "{name} of {len} on {isa:?}");
                }
            }
        }
    }

    #[test]
    fn dot_and_the_clamped_gate_are_alike() {
        for len in [0, 5, 40, 100] {
            let (x, y) = (vector(len, 13), vector(len, 14));
            let exact: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            let gated = |isa| out(&x, |out| clamped_silu_mul(isa, &x, &y, out));
            for isa in Isa::available() {
                assert_eq!(dot(isa, &x, &y), dot(Isa::SCALAR, &x, &y));
                assert!((f64::from(dot(isa, &x, &y)) - exact).abs() < 1e-3);
                assert_eq!(gated(isa), gated(Isa::SCALAR));
            }
        }
    }

    #[test]
    fn both_rotations_turn_the_same_pairs() {
        let head = vector(50, 15);
        let angles: Vec<f32> = (0..20).map(|i| 0.3 * i as f32).collect();
        let (cosines, sines): (Vec<_>, Vec<_>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let mut neighbours = vec![0.0; 50];
        for i in 0..20 {
            (neighbours[2 * i], neighbours[2 * i + 1]) = (head[i], head[i + 20]);
        }
        rope_neighbours(&mut neighbours, &cosines, &sines);
        for isa in Isa::available() {
            let mut halves = head.clone();
            rope_halves(isa, &mut halves, &cosines, &sines);
            for i in 0..20 {
                assert_eq!((halves[i], halves[i + 20]), (neighbours[2 * i], neighbours[2 * i + 1]));
            }
            assert_eq!(halves[40..], head[40..]);
        }
    }
}
