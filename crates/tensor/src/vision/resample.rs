//! Bringing pixels to another size, in the arithmetic of Pillow: first along rows, then along columns, in 8-bit numbers
//! with weights of 22 binary places. The result is Pillow's to the bit.

use formats::processing::Filter;

use super::raster::Raster;

/// Binary places of a weight: what 32 bits leave beside a pixel and two bits for sums that overshoot.
const PLACES: u32 = 32 - 8 - 2;

/// `raster` of another size.
pub(super) fn resample(raster: Raster, [height, width]: [usize; 2], filter: Filter) -> Raster {
    if filter == Filter::Nearest {
        return nearest(&raster, [height, width]);
    }
    let raster = if raster.width == width { raster } else { along_rows(&raster, width, filter) };
    if raster.height == height { raster } else { along_columns(&raster, height, filter) }
}

/// The pixels that one is made of: from which on, and what each weighs.
struct Weights {
    from: usize,
    weights: Vec<i32>,
}

/// Of each of `to` pixels that are made of `from`.
fn weights(from: usize, to: usize, filter: Filter) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let wide = scale.max(1.0);
    let (reach, narrow) = (support(filter) * wide, 1.0 / wide);
    (0..to)
        .map(|place| {
            let center = (place as f64 + 0.5) * scale;
            let first = (center - reach + 0.5).max(0.0) as usize;
            let last = ((center + reach + 0.5) as usize).min(from);
            let weigh = |at: usize| weight(filter, (at as f64 - center + 0.5) * narrow);
            let raw: Vec<f64> = (first..last.max(first)).map(weigh).collect();
            let sum: f64 = raw.iter().sum();
            let fixed = |w: &f64| {
                let w = if sum == 0.0 { *w } else { w / sum } * f64::from(1 << PLACES);
                (if w < 0.0 { w - 0.5 } else { w + 0.5 }) as i32
            };
            Weights { from: first, weights: raw.iter().map(fixed).collect() }
        })
        .collect()
}

fn along_rows(raster: &Raster, width: usize, filter: Filter) -> Raster {
    let (channels, columns) = (raster.channels, weights(raster.width, width, filter));
    let mut bytes = Vec::with_capacity(width * raster.height * channels);
    for row in raster.bytes.chunks_exact((raster.width * channels).max(1)) {
        for column in &columns {
            let covered = row.get(column.from * channels..).unwrap_or_default();
            for channel in 0..channels {
                let pixels = covered.iter().skip(channel).step_by(channels);
                bytes.push(sum(pixels.zip(&column.weights)));
            }
        }
    }
    Raster { width, height: raster.height, channels, bytes }
}

fn along_columns(raster: &Raster, height: usize, filter: Filter) -> Raster {
    let stride = raster.width * raster.channels;
    let mut bytes = Vec::with_capacity(stride * height);
    let mut sums = vec![0i32; stride];
    for row in weights(raster.height, height, filter) {
        sums.fill(HALF);
        let covered = raster.bytes.chunks_exact(stride.max(1)).skip(row.from);
        for (pixels, weight) in covered.zip(&row.weights) {
            for (sum, pixel) in sums.iter_mut().zip(pixels) {
                *sum = sum.wrapping_add(i32::from(*pixel).wrapping_mul(*weight));
            }
        }
        bytes.extend(sums.iter().map(|sum| clipped(*sum)));
    }
    Raster { height, bytes, ..*raster }
}

/// A half, so that cutting rounds.
const HALF: i32 = 1 << (PLACES - 1);

fn sum<'a>(weighed: impl Iterator<Item = (&'a u8, &'a i32)>) -> u8 {
    let add =
        |sum: i32, (pixel, weight): (&u8, &i32)| sum.wrapping_add(i32::from(*pixel).wrapping_mul(*weight));
    clipped(weighed.fold(HALF, add))
}

fn clipped(sum: i32) -> u8 {
    (sum >> PLACES).clamp(0, 255) as u8
}

/// The pixel that lies at the middle of each. Steps are added up as Pillow adds them.
fn nearest(raster: &Raster, [height, width]: [usize; 2]) -> Raster {
    let places = |from: usize, to: usize| -> Vec<usize> {
        let step = from as f64 / to as f64;
        let mut at = step * 0.5;
        (0..to)
            .map(|_| {
                let place = (at as usize).min(from.saturating_sub(1));
                at += step;
                place
            })
            .collect()
    };
    let (columns, channels) = (places(raster.width, width), raster.channels);
    let mut bytes = Vec::with_capacity(width * height * channels);
    for y in places(raster.height, height) {
        for x in &columns {
            let at = (y * raster.width + x) * channels;
            bytes.extend_from_slice(raster.bytes.get(at..at + channels).unwrap_or_default());
        }
    }
    Raster { width, height, channels, bytes }
}

/// How far a pixel reaches.
fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Nearest => 0.0,
        Filter::Box => 0.5,
        Filter::Bilinear | Filter::Hamming => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    }
}

fn weight(filter: Filter, x: f64) -> f64 {
    let far = x.abs();
    match filter {
        Filter::Nearest => 0.0,
        Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
        Filter::Bilinear => (1.0 - far).max(0.0),
        Filter::Hamming if far == 0.0 => 1.0,
        Filter::Hamming if far >= 1.0 => 0.0,
        Filter::Hamming => {
            let x = far * std::f64::consts::PI;
            x.sin() / x * (0.54 + 0.46 * x.cos())
        }
        Filter::Bicubic => cubic(far),
        Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
        Filter::Lanczos => 0.0,
    }
}

/// With the slope that Pillow takes.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, as [`REFERENCE`] was made of.
    fn noise(width: usize, height: usize) -> Raster {
        let bytes = (0..width * height).map(|i| (i * i * 31 + i * 17 + 7) as u8).collect();
        Raster { width, height, channels: 1, bytes }
    }

    #[test]
    fn every_filter_gives_pillows_bytes() {
        for (filter, smaller, larger) in REFERENCE {
            assert_eq!(resample(noise(7, 5), [3, 4], filter).bytes, smaller, "{filter:?}");
            assert_eq!(resample(noise(3, 2), [3, 5], filter).bytes, larger, "{filter:?}");
        }
    }

    /// Made by Pillow 13.0: 7 × 5 pixels brought to 4 × 3, and 3 × 2 to 5 × 3.
    #[rustfmt::skip]
    const REFERENCE: [(Filter, [u8; 12], [u8; 15]); 6] = [
        (Filter::Nearest, [7, 165, 59, 201, 177, 23, 117, 203, 211, 1, 39, 69], [7, 7, 55, 165, 165, 81, 81, 59, 99, 99, 81, 81, 59, 99, 99]),
        (Filter::Box, [63, 141, 82, 115, 123, 31, 117, 102, 163, 93, 67, 69], [7, 7, 55, 165, 165, 81, 81, 59, 99, 99, 81, 81, 59, 99, 99]),
        (Filter::Bilinear, [61, 124, 95, 121, 118, 75, 92, 99, 168, 91, 79, 64], [7, 26, 55, 121, 165, 44, 49, 57, 102, 132, 81, 72, 59, 83, 99]),
        (Filter::Hamming, [54, 132, 89, 129, 127, 59, 94, 108, 179, 79, 73, 61], [7, 20, 55, 134, 165, 44, 48, 57, 111, 132, 81, 75, 59, 88, 99]),
        (Filter::Bicubic, [55, 130, 94, 122, 120, 71, 94, 99, 175, 85, 78, 62], [0, 16, 55, 132, 178, 43, 45, 57, 107, 138, 88, 74, 59, 81, 97]),
        (Filter::Lanczos, [53, 134, 91, 119, 119, 70, 98, 97, 174, 82, 79, 63], [0, 4, 55, 140, 184, 45, 41, 57, 109, 140, 95, 77, 59, 78, 95]),
    ];
}
