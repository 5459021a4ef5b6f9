//! WebP files.

use std::io::Cursor;

use super::file::{FileKind, PIXELS_MAX, Picture, check_size};
use super::orientation;

/// Bytes before the first chunk of a file.
const HEADER_BYTES: usize = 12;

/// The picture in a WebP file that is no film.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let damaged = |e: image_webp::DecodingError| format!("the WebP file cannot be read: {e}");
    check_chunks(bytes)?;
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    decoder.set_memory_limit(PIXELS_MAX * 4);
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_size(width, height)?;
    let exif = decoder.exif_metadata().map_err(damaged)?;
    let orientation = exif.map_or(1, |exif| orientation::noted(&exif));
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut pixels = vec![0; width * height * channels];
    decoder.read_image(&mut pixels).map_err(damaged)?;
    Picture { kind: FileKind::Webp, width, height, channels, bytes: pixels, orientation }.whole()
}

/// Looks at the sizes that the file's chunks claim, each for itself: the decoder believes the inner ones, and compares
/// them when it has decoded.
fn check_chunks(bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, size @ ..] = *header;
        match &[a, b, c, d] {
            b"VP8 " => {
                if let Some([.., w0, w1, h0, h1]) = after.first_chunk::<10>() {
                    let side = |low, high| usize::from(u16::from_le_bytes([low, high]) & 0x3fff);
                    check_size(side(*w0, *w1), side(*h0, *h1))?;
                }
            }
            b"VP8L" => {
                if let Some([_, sides @ ..]) = after.first_chunk::<5>() {
                    let sides = u32::from_le_bytes(*sides) as usize;
                    check_size(1 + (sides & 0x3fff), 1 + (sides >> 14 & 0x3fff))?;
                }
            }
            b"ANIM" | b"ANMF" => return Err("the WebP file is animated: send a single picture".to_owned()),
            _ => {}
        }
        let size = u32::from_le_bytes(size) as usize;
        rest = after.get(size.saturating_add(size & 1)..).unwrap_or_default();
    }
    Ok(())
}
