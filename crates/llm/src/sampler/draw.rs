//! Random numbers without a state: the n-th is a function of where it is drawn.

use super::Place;

/// A number in `0 .. 1`, uniform over 2⁵³ values.
pub(super) fn uniform(place: Place) -> f64 {
    let mixed = mix(mix(mix(place.seed) ^ place.choice as u64) ^ place.position as u64);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

/// One step of SplitMix64 (Steele, Lea, Flood, 2014): every bit of the input moves half of the output's.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_draw_apart_and_evenly() {
        let mut tenths = [0u32; 10];
        for seed in 0..10 {
            for choice in 0..10 {
                for position in 0..100 {
                    let drawn = uniform(Place { seed, choice, position });
                    tenths[(drawn * 10.0) as usize] += 1;
                }
            }
        }
        assert!(tenths.iter().all(|&count| (900..1100).contains(&count)), "{tenths:?}");
    }
}
