//! [`ImageStep`]: an image file to pixels of one size.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

/// The most pixels of a file, whatever its size in bytes: 32 megapixels, which take at most 128 MiB decoded.
const PIXELS_MAX: usize = 1 << 25;
/// The longest side of a file.
const SIDE_MAX: usize = 1 << 15;

/// Base64 with or without padding, in the standard alphabet.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Brings image files to one size.
#[derive(Debug)]
pub(crate) struct ImageStep {
    shape: [usize; 3],
    scale: f32,
}

/// A decoded file.
struct Picture {
    width: usize,
    height: usize,
    /// Per pixel: 1 brightness; 2 and an opacity; 3 red, green, blue; 4 and an opacity.
    channels: usize,
    /// Row by row, channels innermost.
    bytes: Vec<u8>,
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

    /// Writes the pixels of a PNG or JPEG file given in base64. The picture is stretched to the shape, each pixel the mean of what it covers; transparency lies over black.
    pub(crate) fn write(&self, file: &str, out: &mut [f32]) -> Result<(), String> {
        self.fit(&read(file)?, out);
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

impl Picture {
    /// Red, green and blue, 0 to 255, as seen over black.
    fn colour(&self, x: usize, y: usize) -> [f32; 3] {
        let at = (y * self.width + x) * self.channels;
        match self.bytes.get(at..at + self.channels) {
            Some([gray]) => [f32::from(*gray); 3],
            Some([gray, opacity]) => [f32::from(*gray) * f32::from(*opacity) / 255.0; 3],
            Some([r, g, b]) => [*r, *g, *b].map(f32::from),
            Some([r, g, b, opacity]) => [*r, *g, *b].map(|c| f32::from(c) * f32::from(*opacity) / 255.0),
            _ => [0.0; 3],
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

/// Whether `file` is a PNG or JPEG file in base64 that can be used.
///
/// # Errors
/// What is wrong with it, for whoever gave it.
pub fn check(file: &str) -> Result<(), String> {
    read(file).map(|_| ())
}

/// The picture in a base64 text, with or without a `data:` prefix.
fn read(file: &str) -> Result<Picture, String> {
    let text = match file.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map_or(rest, |(_, data)| data),
        None => file,
    };
    let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| {
        "expected an image file in base64; the text is neither that nor, in a job, the name of a file that \
         ends in .png, .jpg or .jpeg"
            .to_owned()
    })?;
    decode(&bytes)
}

fn decode(bytes: &[u8]) -> Result<Picture, String> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes),
        [0xff, 0xd8, ..] => decode_jpeg(bytes),
        [] => Err("the image file is empty".into()),
        _ => Err("the image file is neither PNG nor JPEG".into()),
    }
}

fn decode_png(bytes: &[u8]) -> Result<Picture, String> {
    let damaged = |e: png::DecodingError| format!("the PNG file cannot be read: {e}");
    let limits = png::Limits { bytes: PIXELS_MAX * 4 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let size = reader.output_buffer_size().ok_or("the PNG file claims a size that no memory holds")?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(damaged)?;
    pixels.truncate(info.buffer_size());
    let channels = info.color_type.samples();
    whole(Picture { width, height, channels, bytes: pixels })
}

fn decode_jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let damaged = |e: zune_jpeg::errors::DecodeErrors| format!("the JPEG file cannot be read: {e}");
    let options = DecoderOptions::default()
        .set_max_width(SIDE_MAX)
        .set_max_height(SIDE_MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) =
        decoder.dimensions().ok_or("the JPEG file cannot be read: it does not say how large it is")?;
    check_size(width, height)?;
    let pixels = decoder.decode().map_err(damaged)?;
    whole(Picture { width, height, channels: 3, bytes: pixels })
}

fn check_size(width: usize, height: usize) -> Result<(), String> {
    let fits = width.max(height) <= SIDE_MAX && width.saturating_mul(height) <= PIXELS_MAX;
    if width == 0 || height == 0 || !fits {
        return Err(format!(
            "an image of {width} x {height} pixels; the limit is {PIXELS_MAX} pixels and {SIDE_MAX} a side"
        ));
    }
    Ok(())
}

fn whole(picture: Picture) -> Result<Picture, String> {
    let expected = picture.width * picture.height * picture.channels;
    if picture.bytes.len() != expected {
        return Err(format!("the image holds {} bytes of pixels, not {expected}", picture.bytes.len()));
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
            (BASE64.encode("GIF89a"), "neither PNG nor JPEG"),
            (BASE64.encode(&whole[..40]), "cannot be read"),
            (BASE64.encode([0xff, 0xd8, 0xff, 0xe0, 0, 16]), "cannot be read"),
            (BASE64.encode(&huge), "PNG"),
        ] {
            let error = pixels([2, 2, 1], &file).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
