//! What the machine can do: the two limits that every product stands against.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::buffer::{Buffer, OutOfMemory};
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Kind;
use crate::pool::Pool;

/// Bytes read for the bandwidth: more than any cache holds.
const READ: usize = 512 << 20;
/// Bytes a task reads at a time.
const CHUNK: usize = 1 << 20;

/// Bytes a second that all threads of `pool` together read from memory, in order; takes about `duration`.
///
/// # Errors
/// When there are no 512 MiB to read.
pub fn bandwidth(pool: &Pool, duration: Duration) -> Result<f64, OutOfMemory> {
    let mut buffer = Buffer::zeroed(READ)?;
    // A page that was never written is not memory yet.
    buffer.bytes_mut().fill(1);
    let chunks: Vec<&[u8]> = buffer.bytes().chunks_exact(CHUNK).collect();
    let (started, mut best) = (Instant::now(), 0.0_f64);
    while best == 0.0 || started.elapsed() < duration {
        let round = Instant::now();
        pool.run(chunks.len(), |index| {
            black_box(read(chunks[index]));
        });
        best = best.max(READ as f64 / round.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// A sum of all bytes, eight at a time.
fn read(chunk: &[u8]) -> u64 {
    let (words, _) = chunk.as_chunks::<256>();
    let mut sums = [0_u64; 32];
    for word in words {
        for (sum, bytes) in sums.iter_mut().zip(word.as_chunks::<8>().0) {
            *sum ^= u64::from_le_bytes(*bytes);
        }
    }
    sums.iter().fold(0, |all, sum| all ^ sum)
}

/// 8-bit operations a second of all threads of `pool` together, a multiplication and an addition counting as two, with
/// the instructions that the product of 4-bit weights uses and operands in registers; takes about `duration`.
///
/// It is the sum of each thread's best millisecond: what else runs on the machine does not lower it much.
#[must_use]
pub fn int8_rate(pool: &Pool, isa: Isa, duration: Duration) -> f64 {
    let rates = Mutex::new(0.0);
    let started = Instant::now();
    pool.run(pool.threads(), |_| {
        let mut best = 0.0_f64;
        while best == 0.0 || started.elapsed() < duration {
            best = best.max(millisecond(isa));
        }
        *rates.lock().unwrap_or_else(PoisonError::into_inner) += best;
    });
    rates.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Operations a second over about a millisecond.
fn millisecond(isa: Isa) -> f64 {
    let (started, mut operations) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_millis(1) {
        operations += multiply(isa);
    }
    operations as f64 / started.elapsed().as_secs_f64()
}

/// Rounds of the inner loop between two looks at the clock.
const ROUNDS: u64 = 20_000;

/// Multiplies for a while; how many operations that were.
fn multiply(isa: Isa) -> u64 {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind is proof that the CPU has AVX2.
        Kind::Avx2 => unsafe { x86::multiply_avx2() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind is proof that the CPU has AVX-512 VNNI.
        Kind::Avx512Vnni => unsafe { x86::multiply_avx512() },
        _ => multiply_scalar(),
    }
}

fn multiply_scalar() -> u64 {
    let (a, b) = (black_box([3_i8; 32]), black_box([5_i8; 32]));
    let mut sums = [0_i32; 32];
    for _ in 0..ROUNDS {
        for ((sum, a), b) in sums.iter_mut().zip(&a).zip(black_box(&b)) {
            *sum = sum.wrapping_add(i32::from(*a) * i32::from(*b));
        }
    }
    black_box(sums);
    ROUNDS * 32 * 2
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::ROUNDS;

    /// Eight chains: eight products in 16 bits, then one widening.
    #[target_feature(enable = "avx2")]
    pub(super) fn multiply_avx2() -> u64 {
        let mut a: [__m256i; 8] = std::array::from_fn(|i| _mm256_set1_epi8(i as i8));
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); 8];
        // What the compiler does not know, it cannot take out of the loop.
        black_box(&mut a);
        for _ in 0..ROUNDS / 8 {
            for x in a {
                let x = black_box_register(x);
                let mut short = [_mm256_setzero_si256(); 8];
                for (short, a) in short.iter_mut().zip(a) {
                    *short = _mm256_maddubs_epi16(x, a);
                }
                for (sum, short) in sums.iter_mut().zip(short) {
                    *sum = _mm256_add_epi16(*sum, short);
                }
            }
            for sum in &mut sums {
                *sum = _mm256_madd_epi16(*sum, ones);
            }
        }
        black_box(sums);
        ROUNDS * 8 * 32 * 2
    }

    /// `x`, of which the compiler no longer knows where it came from, still in its register.
    #[target_feature(enable = "avx2")]
    fn black_box_register(mut x: __m256i) -> __m256i {
        // SAFETY: no instruction at all.
        unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
        x
    }

    /// Eight chains of dot products.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn multiply_avx512() -> u64 {
        let a = _mm512_set1_epi8(black_box(3));
        let mut sums = [_mm512_setzero_si512(); 16];
        for round in 0..ROUNDS {
            let x = _mm512_set1_epi8(round as i8);
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, x);
            }
        }
        black_box(sums);
        ROUNDS * 16 * 64 * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some_of_either() {
        let pool = Pool::new(2);
        assert!(bandwidth(&pool, Duration::from_millis(1)).is_ok_and(|rate| rate > 1e6));
        for isa in Isa::available() {
            assert!(int8_rate(&pool, isa, Duration::from_millis(1)) > 1e6);
        }
    }
}
