//! A picture with what its areas contributed laid over it.

/// How much of the colour lies over the strongest area.
const COVER: f64 = 0.7;
/// What speaks for the output, and what against.
const FOR: [f64; 3] = [220.0, 30.0, 30.0];
const AGAINST: [f64; 3] = [30.0, 70.0, 220.0];

/// A PNG file of a picture (`rgb`, row by row) in gray, its areas red where they speak for the output and blue where
/// they speak against it, the more the stronger. `areas` holds the number of each pixel's area.
///
/// # Errors
/// If the picture has another size than `width` says.
pub fn heat_map(rgb: &[u8], width: usize, areas: &[u32], values: &[f64]) -> Result<Vec<u8>, String> {
    let strongest = values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let mut pixels = Vec::with_capacity(rgb.len());
    for (pixel, area) in rgb.chunks_exact(3).zip(areas) {
        let gray = pixel.iter().map(|c| f64::from(*c)).sum::<f64>() / 3.0;
        let value = values.get(*area as usize).copied().unwrap_or_default();
        let cover = if strongest > 0.0 { COVER * value.abs() / strongest } else { 0.0 };
        let colour = if value < 0.0 { AGAINST } else { FOR };
        pixels.extend(colour.map(|c| (gray + (c - gray) * cover).round().clamp(0.0, 255.0) as u8));
    }
    let failed = |e: png::EncodingError| format!("the heat map cannot be written: {e}");
    let side = |n: usize| u32::try_from(n).map_err(|_| "the heat map is too large".to_owned());
    let height = areas.len() / width.max(1);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(width)?, side(height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::Picture;
    use super::*;

    #[test]
    fn what_speaks_for_is_red_and_what_speaks_against_is_blue() {
        let file = heat_map(&[90; 12], 2, &[0, 1, 2, 2], &[0.5, -0.25, 0.0]).unwrap();
        let drawn = Picture::decode(&file).unwrap();
        assert_eq!((drawn.width, drawn.height), (2, 2));
        let pixels: Vec<&[u8]> = drawn.bytes.chunks(3).collect();
        assert!(pixels[0][0] > 150 && pixels[0][2] < 60, "{pixels:?}");
        assert!(pixels[1][2] > 110 && pixels[1][0] < 80, "{pixels:?}");
        assert_eq!(pixels[2], [90; 3]);
        assert!(heat_map(&[90; 12], 3, &[0; 4], &[1.0]).is_err());
    }
}
