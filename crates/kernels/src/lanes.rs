//! Eight f32 side by side: what the vector operations and attention are written in, once for every instruction set.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every function here is instructions and pointers through and through"
)]

use crate::half::f16_to_f32;

/// Lanes of a vector.
pub(crate) const LANES: usize = 8;

/// Eight numbers. Each operation is that of IEEE 754 in every lane, so all implementations give the same bits.
///
/// # Safety
/// Every function needs a CPU that has the implementation's instructions, and pointers valid for eight elements.
pub(crate) trait Lanes: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(at: *const f32) -> Self;
    /// Eight binary16 numbers.
    unsafe fn load_f16(at: *const u16) -> Self;
    unsafe fn store(self, at: *mut f32);
    /// As binary16, the nearest, ties to even.
    unsafe fn store_f16(self, at: *mut u16);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once.
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
    /// `self` where it is greater, else `other`.
    unsafe fn max(self, other: Self) -> Self;
    /// `self` where it is less, else `other`.
    unsafe fn min(self, other: Self) -> Self;
    /// The nearest whole number, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of whole numbers from -126 to 127.
    unsafe fn pow2(self) -> Self;
    /// The lanes, to fold in an order of one's own.
    unsafe fn array(self) -> [f32; LANES];

    /// The sum of all lanes, in one order.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let x = self.array();
        ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
    }

    /// The greatest lane.
    #[inline(always)]
    unsafe fn greatest(self) -> f32 {
        let x = self.array();
        let max = |a: f32, b: f32| if a > b { a } else { b };
        max(max(max(x[0], x[4]), max(x[2], x[6])), max(max(x[1], x[5]), max(x[3], x[7])))
    }

    /// e to the power of each lane, to within 2 units in the last place; of what is below -87.3, a number below 2e-38.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        let x = self.min(Self::splat(88.0)).max(Self::splat(-87.3));
        // x = n ln 2 + r; ln 2 in two parts, of which the first is exact in a product with n.
        let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
        let r = n.fma(Self::splat(-0.693_359_4), x);
        let r = n.fma(Self::splat(2.121_944_4e-4), r);
        // The polynomial of Cephes' expf.
        let mut p = Self::splat(1.987_569_1e-4);
        for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.fma(r, Self::splat(coefficient));
        }
        let y = p.fma(r.mul(r), r).add(Self::splat(1.0));
        y.mul(n.pow2())
    }

    /// The hyperbolic tangent of each lane, to within 1e-6.
    #[inline(always)]
    unsafe fn tanh(self) -> Self {
        let one = Self::splat(1.0);
        one.sub(Self::splat(2.0).div(self.add(self).exp().add(one)))
    }
}

/// One or more vectors of [`LANES`], or a register that holds as many numbers: what attention's sums are made of. Every
/// number's arithmetic is its own, so a width is a choice of speed alone.
///
/// # Safety
/// Every function needs a CPU that has the implementation's instructions, and pointers valid for `LEN` elements.
pub(crate) trait Vector: Copy {
    /// Numbers in it.
    const LEN: usize;
    /// The most rows whose sums, a vector for each, are best kept in registers together.
    const ROWS: usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(at: *const f32) -> Self;
    /// Binary16 numbers.
    unsafe fn load_f16(at: *const u16) -> Self;
    unsafe fn store(self, at: *mut f32);
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once.
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
}

impl<L: Lanes, const N: usize> Vector for [L; N] {
    const LEN: usize = N * LANES;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [L::splat(x); N]
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        let mut all = Self::splat(0.0);
        for (i, lanes) in all.iter_mut().enumerate() {
            *lanes = L::load(at.add(i * LANES));
        }
        all
    }

    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> Self {
        let mut all = Self::splat(0.0);
        for (i, lanes) in all.iter_mut().enumerate() {
            *lanes = L::load_f16(at.add(i * LANES));
        }
        all
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        for (i, lanes) in self.into_iter().enumerate() {
            lanes.store(at.add(i * LANES));
        }
    }

    #[inline(always)]
    unsafe fn mul(mut self, other: Self) -> Self {
        for (lanes, other) in self.iter_mut().zip(other) {
            *lanes = lanes.mul(other);
        }
        self
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, mut plus: Self) -> Self {
        for i in 0..N {
            plus[i] = self[i].fma(by[i], plus[i]);
        }
        plus
    }
}

impl Lanes for [f32; LANES] {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        at.cast::<Self>().read_unaligned()
    }

    #[inline(always)]
    unsafe fn load_f16(at: *const u16) -> Self {
        at.cast::<[u16; LANES]>().read_unaligned().map(f16_to_f32)
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        at.cast::<Self>().write_unaligned(self);
    }

    #[inline(always)]
    unsafe fn store_f16(self, at: *mut u16) {
        at.cast::<[u16; LANES]>().write_unaligned(self.map(crate::half::f32_to_f16));
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] / other[i])
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        std::array::from_fn(|i| self[i].mul_add(by[i], plus[i]))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] > other[i] { self[i] } else { other[i] })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] < other[i] { self[i] } else { other[i] })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        self.map(f32::round_ties_even)
    }

    #[inline(always)]
    unsafe fn pow2(self) -> Self {
        self.map(|x| f32::from_bits((x as i32).wrapping_add(127).wrapping_shl(23) as u32))
    }

    #[inline(always)]
    unsafe fn array(self) -> [f32; LANES] {
        self
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use std::arch::x86_64::*;

    use super::{LANES, Lanes, Vector};

    impl Vector for __m512 {
        const LEN: usize = 16;
        /// There are twice the registers, too.
        const ROWS: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            _mm512_set1_ps(x)
        }

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            _mm512_loadu_ps(at)
        }

        #[inline(always)]
        unsafe fn load_f16(at: *const u16) -> Self {
            _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            _mm512_storeu_ps(at, self);
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            _mm512_mul_ps(self, other)
        }

        #[inline(always)]
        unsafe fn fma(self, by: Self, plus: Self) -> Self {
            _mm512_fmadd_ps(self, by, plus)
        }
    }

    impl Lanes for __m256 {
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            _mm256_set1_ps(x)
        }

        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            _mm256_loadu_ps(at)
        }

        #[inline(always)]
        unsafe fn load_f16(at: *const u16) -> Self {
            _mm256_cvtph_ps(_mm_loadu_si128(at.cast()))
        }

        #[inline(always)]
        unsafe fn store(self, at: *mut f32) {
            _mm256_storeu_ps(at, self);
        }

        #[inline(always)]
        unsafe fn store_f16(self, at: *mut u16) {
            _mm_storeu_si128(at.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self));
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            _mm256_add_ps(self, other)
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            _mm256_sub_ps(self, other)
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            _mm256_mul_ps(self, other)
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            _mm256_div_ps(self, other)
        }

        #[inline(always)]
        unsafe fn fma(self, by: Self, plus: Self) -> Self {
            _mm256_fmadd_ps(self, by, plus)
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            _mm256_max_ps(self, other)
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            _mm256_min_ps(self, other)
        }

        #[inline(always)]
        unsafe fn round(self) -> Self {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self)
        }

        #[inline(always)]
        unsafe fn pow2(self) -> Self {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }

        #[inline(always)]
        unsafe fn array(self) -> [f32; LANES] {
            let mut array = [0.0; LANES];
            _mm256_storeu_ps(array.as_mut_ptr(), self);
            array
        }
    }
}

/// Defines a function over [`Lanes`] that takes an [`crate::Isa`] first and runs with that set's lanes.
macro_rules! lanes_fn {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$lanes:ident>($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(unsafe_op_in_unsafe_fn, reason = "its body is written for lanes, whose functions are all unsafe")]
            unsafe fn with<$lanes: $crate::lanes::Lanes>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $type),*) $(-> $result)? {
                // SAFETY: this function's features are those of these lanes; the body keeps its pointers in bounds.
                unsafe { with::<std::arch::x86_64::__m256>($($arg),*) }
            }

            match isa.kind() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` of this kind is proof that the CPU has these features.
                $crate::isa::Kind::Avx2 | $crate::isa::Kind::Avx512Vnni => unsafe { avx2($($arg),*) },
                // SAFETY: these lanes need no instructions; the body keeps its pointers in bounds.
                _ => unsafe { with::<[f32; $crate::lanes::LANES]>($($arg),*) },
            }
        }
    };
}
pub(crate) use lanes_fn;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    lanes_fn! {
        fn functions<L>(x: &[f32; LANES]) -> [[f32; LANES]; 2] {
            let x = L::load(x.as_ptr());
            [x.exp().array(), x.tanh().array()]
        }
    }

    #[test]
    fn exp_and_tanh_are_close_and_alike() {
        for i in -9000..9000 {
            let x: [f32; LANES] = std::array::from_fn(|lane| i as f32 * 0.0097 + lane as f32 * 0.001);
            let expected = functions(Isa::SCALAR, &x);
            for (lane, x) in x.iter().enumerate() {
                let exact = f64::from(*x).exp();
                let error = (f64::from(expected[0][lane]) - exact).abs() / exact;
                assert!(error < 2.5e-7, "exp({x}) = {}, {error}", expected[0][lane]);
                assert!((f64::from(expected[1][lane]) - f64::from(*x).tanh()).abs() < 1e-6, "tanh({x})");
            }
            for isa in Isa::available() {
                assert_eq!(functions(isa, &x), expected, "{isa:?}");
            }
        }
    }
}
