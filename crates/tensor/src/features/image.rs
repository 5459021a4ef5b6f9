//! [`ImageStep`]: an image file to pixels of one size.

use crate::vision::Picture;

/// Brings image files to one size.
#[derive(Debug)]
pub(crate) struct ImageStep {
    shape: [usize; 3],
    scale: f32,
}

impl ImageStep {
    /// Of height, width and channels (1 or 3), pixels multiplied by `scale`.
    pub(crate) fn new(shape: [usize; 3], scale: f32) -> Self {
        ImageStep { shape, scale }
    }

    /// Numbers it gives per row.
    pub(crate) fn width(&self) -> usize {
        self.shape.iter().product()
    }

    /// Writes the pixels of a PNG, JPEG or WebP file given in base64. The picture is stretched to the shape, each pixel the mean of what it covers; transparency lies over black.
    pub(crate) fn write(&self, file: &str, out: &mut [f32]) -> Result<(), String> {
        self.fit(&Picture::from_base64(file)?, out);
        Ok(())
    }

    /// Averages over the area that each pixel of the result covers.
    fn fit(&self, picture: &Picture, out: &mut [f32]) {
        let [height, width, channels] = self.shape;
        let columns: Vec<Vec<(usize, f32)>> = (0..width).map(|x| cover(x, width, picture.width)).collect();
        for (y, row) in out.chunks_exact_mut((width * channels).max(1)).enumerate() {
            let rows = cover(y, height, picture.height);
            for (pixel, columns) in row.chunks_exact_mut(channels.max(1)).zip(&columns) {
                let mut sum = [0.0f32; 3];
                for (y, down) in &rows {
                    for (x, across) in columns {
                        let colour = picture.colour(*x, *y);
                        sum.iter_mut().zip(colour).for_each(|(sum, c)| *sum += c * down * across);
                    }
                }
                match pixel {
                    [gray] => *gray = luma(sum) * self.scale,
                    colours => colours.iter_mut().zip(sum).for_each(|(to, c)| *to = c * self.scale),
                }
            }
        }
    }
}

/// Brightness, ITU-R BT.601.
fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// Which of `from` cells the cell `at` of `to` covers, and the share of it that each takes; they sum to 1.
fn cover(at: usize, to: usize, from: usize) -> Vec<(usize, f32)> {
    let step = from as f64 / to as f64;
    let (begin, end) = (at as f64 * step, (at + 1) as f64 * step);
    let last = (end.ceil() as usize).min(from).max(begin as usize + 1);
    (begin as usize..last)
        .map(|cell| {
            let share = (end.min((cell + 1) as f64) - begin.max(cell as f64)) / step;
            (cell.min(from.saturating_sub(1)), share as f32)
        })
        .collect()
}

/// Whether `file` is a PNG, JPEG or WebP file in base64 that can be used.
///
/// # Errors
/// What is wrong with it, for whoever gave it.
pub fn check(file: &str) -> Result<(), String> {
    Picture::from_base64(file).map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;

    fn png(width: u32, height: u32, color: png::ColorType, pixels: &[u8]) -> String {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(pixels).unwrap();
        BASE64.encode(file)
    }

    fn pixels(shape: [usize; 3], file: &str) -> Result<Vec<f32>, String> {
        let step = ImageStep::new(shape, 1.0);
        let mut out = vec![-1.0; step.width()];
        step.write(file, &mut out).map(|()| out)
    }

    #[test]
    fn a_picture_of_the_right_size_stays_as_it_is() {
        let colours: Vec<u8> = (0..12).map(|i| i * 20).collect();
        let file = png(2, 2, png::ColorType::Rgb, &colours);
        let expected: Vec<f32> = colours.iter().map(|c| f32::from(*c)).collect();
        assert_eq!(pixels([2, 2, 3], &file).unwrap(), expected);
        assert_eq!(pixels([2, 2, 3], &format!("data:image/png;base64,{file}")).unwrap(), expected);
        assert_eq!(pixels([2, 2, 3], file.trim_end_matches('=')).unwrap(), expected);
    }

    #[test]
    fn shrinking_takes_means_and_growing_repeats() {
        let file = png(4, 2, png::ColorType::Grayscale, &[0, 100, 200, 40, 20, 80, 0, 40]);
        assert_eq!(pixels([1, 2, 1], &file).unwrap(), [50.0, 70.0]);
        let three = png(3, 1, png::ColorType::Grayscale, &[30, 60, 90]);
        let halves = pixels([1, 2, 1], &three).unwrap();
        assert!((halves[0] - 40.0).abs() < 1e-3 && (halves[1] - 80.0).abs() < 1e-3, "{halves:?}");
        let one = png(1, 1, png::ColorType::Grayscale, &[7]);
        assert!(pixels([3, 5, 3], &one).unwrap().iter().all(|v| (v - 7.0).abs() < 1e-4));
    }

    #[test]
    fn colours_become_brightness_and_transparency_lies_over_black() {
        let file = png(1, 1, png::ColorType::Rgba, &[255, 0, 0, 0]);
        assert_eq!(pixels([1, 1, 1], &file).unwrap(), [0.0]);
        let file = png(1, 1, png::ColorType::Rgb, &[255, 0, 0]);
        assert!((pixels([1, 1, 1], &file).unwrap()[0] - 76.245).abs() < 1e-3);
    }

    #[test]
    fn files_that_are_no_pictures_say_so() {
        let mut huge = BASE64.decode(png(1, 1, png::ColorType::Grayscale, &[7])).unwrap();
        // The header's width; the checksum is then wrong too, and either is an error.
        huge[16..20].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
        let whole = BASE64.decode(png(4, 4, png::ColorType::Grayscale, &[7; 16])).unwrap();
        for (file, said) in [
            ("photo of a cat".to_owned(), "in base64"),
            (String::new(), "is empty"),
            (BASE64.encode("GIF89a"), "neither PNG, JPEG nor WebP"),
            (BASE64.encode(&whole[..40]), "cannot be read"),
            (BASE64.encode([0xff, 0xd8, 0xff, 0xe0, 0, 16]), "cannot be read"),
            (BASE64.encode(&huge), "PNG"),
        ] {
            let error = pixels([2, 2, 1], &file).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
