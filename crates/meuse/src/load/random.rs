//! [`Random`]: numbers drawn from a seed, the same on every machine.

use std::time::Duration;

/// Numbers drawn from a seed: SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// How far the state moves for each number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// One of a seed's many sequences.
    pub fn new(seed: u64, sequence: u64) -> Random {
        let begun = Random(seed).draw();
        Random(Random(begun.wrapping_add(sequence)).draw())
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, which is not 0.
    pub fn below(&mut self, count: u32) -> u32 {
        // The high half of a product is below its factor.
        (((self.draw() >> 32) * u64::from(count)) >> 32) as u32
    }

    /// The time to the next of arrivals that come independently of each other, `rate` of them a second.
    pub fn gap(&mut self, rate: f64) -> Duration {
        // From 53 random bits, never 0.
        let unit = ((self.draw() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        Duration::try_from_secs_f64(-unit.ln() / rate).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_gives_others() {
        let draw = |seed, sequence| {
            let mut random = Random::new(seed, sequence);
            [random.draw(), random.draw(), random.draw()]
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert!(draw(1, 2) != draw(1, 3) && draw(1, 2) != draw(2, 2) && draw(1, 2) != draw(2, 1));
    }

    #[test]
    fn numbers_below_a_count_are_all_drawn() {
        let mut random = Random::new(1, 1);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[random.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }

    #[test]
    fn arrivals_come_as_often_as_asked() {
        let mut random = Random::new(1, 1);
        let gaps: Vec<f64> = (0..20_000).map(|_| random.gap(5.0).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.2).abs() < 0.01, "{mean}");
        // Of independent arrivals, a share of 1 - 1/e comes before the mean gap is over.
        let early = gaps.iter().filter(|gap| **gap < 0.2).count() as f64 / gaps.len() as f64;
        assert!((early - 0.632).abs() < 0.02, "{early}");
    }
}
