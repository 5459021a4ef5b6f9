//! [`Picture`]: an image file, decoded within limits that are checked before.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;

use super::orientation;
use super::webp;

/// The most pixels of a file, whatever its size in bytes: 32 megapixels, which take at most 128 MiB decoded.
pub(super) const PIXELS_MAX: usize = 1 << 25;
/// The longest side of a file.
const SIDE_MAX: usize = 1 << 15;

/// Base64 with or without padding, in the standard alphabet.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    Webp,
}

/// A decoded file.
#[derive(Debug)]
pub struct Picture {
    /// What the file was.
    pub kind: FileKind,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Per pixel: 1 brightness; 2 and an opacity; 3 red, green, blue; 4 and an opacity.
    pub(crate) channels: usize,
    /// Row by row, channels innermost.
    pub(crate) bytes: Vec<u8>,
    /// As EXIF numbers the ways to hold a camera; 1 where nothing is said.
    pub(crate) orientation: u8,
}

impl FileKind {
    /// What media types call it.
    pub fn media_type(self) -> &'static str {
        match self {
            FileKind::Png => "image/png",
            FileKind::Jpeg => "image/jpeg",
            FileKind::Webp => "image/webp",
        }
    }

    fn of(bytes: &[u8]) -> Result<FileKind, String> {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => Ok(FileKind::Png),
            [0xff, 0xd8, ..] => Ok(FileKind::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(FileKind::Webp),
            [] => Err("the image file is empty".into()),
            _ => Err("the image file is neither PNG, JPEG nor WebP".into()),
        }
    }
}

impl Picture {
    /// The picture in a base64 text, with or without a `data:` prefix.
    ///
    /// # Errors
    /// What is wrong with it, for whoever gave it.
    pub fn from_base64(file: &str) -> Result<Picture, String> {
        let text = match file.strip_prefix("data:") {
            Some(rest) => rest.split_once(";base64,").map_or(rest, |(_, data)| data),
            None => file,
        };
        let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| {
            "expected an image file in base64; the text is neither that nor, in a job, the name of a file that \
             ends in .png, .jpg, .jpeg or .webp"
                .to_owned()
        })?;
        Picture::decode(&bytes)
    }

    /// The picture in a PNG, JPEG or WebP file.
    ///
    /// # Errors
    /// What is wrong with it, for whoever gave it.
    pub fn decode(bytes: &[u8]) -> Result<Picture, String> {
        match FileKind::of(bytes)? {
            FileKind::Png => decode_png(bytes),
            FileKind::Jpeg => decode_jpeg(bytes),
            FileKind::Webp => webp::decode(bytes),
        }
    }

    /// Makes sure that the file held as many bytes of pixels as it says.
    pub(super) fn whole(self) -> Result<Picture, String> {
        let expected = self.width * self.height * self.channels;
        if self.bytes.len() != expected {
            return Err(format!("the image holds {} bytes of pixels, not {expected}", self.bytes.len()));
        }
        Ok(self)
    }

    /// Red, green and blue, 0 to 255, as seen over black.
    pub(crate) fn colour(&self, x: usize, y: usize) -> [f32; 3] {
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

fn decode_png(bytes: &[u8]) -> Result<Picture, String> {
    let damaged = |e: png::DecodingError| format!("the PNG file cannot be read: {e}");
    let limits = png::Limits { bytes: PIXELS_MAX * 4 };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let noted = reader.info().exif_metadata.as_deref().map(orientation::noted);
    let size = reader.output_buffer_size().ok_or("the PNG file claims a size that no memory holds")?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(damaged)?;
    pixels.truncate(info.buffer_size());
    let (channels, orientation) = (info.color_type.samples(), noted.unwrap_or(1));
    Picture { kind: FileKind::Png, width, height, channels, bytes: pixels, orientation }.whole()
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
    let orientation = decoder.exif().map_or(1, |exif| orientation::noted(exif));
    let pixels = decoder.decode().map_err(damaged)?;
    Picture { kind: FileKind::Jpeg, width, height, channels: 3, bytes: pixels, orientation }.whole()
}

/// Refuses sizes beyond the limits, before anything of such a size is made.
pub(super) fn check_size(width: usize, height: usize) -> Result<(), String> {
    let fits = width.max(height) <= SIDE_MAX && width.saturating_mul(height) <= PIXELS_MAX;
    if width == 0 || height == 0 || !fits {
        return Err(format!(
            "an image of {width} x {height} pixels; the limit is {PIXELS_MAX} pixels and {SIDE_MAX} a side"
        ));
    }
    Ok(())
}
