//! [`Pixels`]: image files to rows of a network's input, as its [`Image`] says.

use formats::processing::{Channels, Image, Layout, Resize};

use super::file::{PIXELS_MAX, Picture};
use super::raster::Raster;
use super::resample::resample;

/// Brings image files to the form that a network takes.
#[derive(Debug)]
pub struct Pixels {
    image: Image,
    /// What the network sees of each of 256 values, by channel.
    tables: Vec<[f32; 256]>,
}

impl Pixels {
    /// As `image` says.
    pub fn new(image: Image) -> Pixels {
        let of = |list: &[f64], channel: usize, usual: f64| {
            list.get(channel).or(list.first()).copied().unwrap_or(usual) as f32
        };
        let table = |channel| {
            let (mean, std) = (of(&image.mean, channel, 0.0), of(&image.std, channel, 1.0));
            std::array::from_fn(|value| ((value as f64 * image.rescale) as f32 - mean) / std)
        };
        let tables = (0..image.channels.count()).map(table).collect();
        Pixels { image, tables }
    }

    /// The shape of a row.
    pub fn shape(&self) -> [usize; 3] {
        self.image.shape()
    }

    /// Appends the row of a picture.
    ///
    /// # Errors
    /// If it is so narrow that it would become too large.
    pub fn append(&self, picture: &Picture, to: &mut Vec<f32>) -> Result<(), String> {
        let raster = Raster::of(picture, self.image.channels, self.image.orientation);
        let size = match self.image.resize {
            None => [raster.height, raster.width],
            Some(Resize::Exact(size)) => size,
            Some(Resize::Shortest(side)) => shortest(&raster, side)?,
        };
        let raster = resample(raster, size, self.image.filter).cropped(self.image.size());
        let channels = raster.channels;
        // The tables are those of the network's channels.
        let stored = |channel: usize| match self.image.channels {
            Channels::Bgr => channels - 1 - channel,
            Channels::Rgb | Channels::Gray => channel,
        };
        match self.image.layout {
            Layout::Nchw => {
                for (channel, table) in self.tables.iter().enumerate() {
                    let plane = raster.bytes.iter().skip(stored(channel)).step_by(channels);
                    to.extend(plane.map(|value| table[usize::from(*value)]));
                }
            }
            Layout::Nhwc => {
                for pixel in raster.bytes.chunks_exact(channels.max(1)) {
                    let value = |(channel, table): (usize, &[f32; 256])| {
                        pixel.get(stored(channel)).map(|value| table[usize::from(*value)])
                    };
                    to.extend(self.tables.iter().enumerate().filter_map(value));
                }
            }
        }
        Ok(())
    }

    /// Where in a row the channels of pixel number `pixel` are.
    pub fn places(&self, pixel: usize) -> impl Iterator<Item = usize> {
        let [height, width] = self.image.size();
        let (channels, layout) = (self.image.channels.count(), self.image.layout);
        (0..channels).map(move |channel| match layout {
            Layout::Nchw => channel * height * width + pixel,
            Layout::Nhwc => pixel * channels + channel,
        })
    }

    /// Height and width of what the network sees.
    pub fn size(&self) -> [usize; 2] {
        self.image.size()
    }

    /// A row as a picture: red, green and blue of each pixel.
    pub fn seen(&self, row: &[f32]) -> Vec<u8> {
        let [height, width] = self.image.size();
        let mut rgb = Vec::with_capacity(height * width * 3);
        for pixel in 0..height * width {
            let value = |(place, table): (usize, &[f32; 256])| {
                let seen = row.get(place).copied().unwrap_or_default();
                let (black, white) = (table[0], table[255]);
                ((seen - black) / (white - black) * 255.0).round().clamp(0.0, 255.0) as u8
            };
            let mut colour: Vec<u8> = self.places(pixel).zip(&self.tables).map(value).collect();
            match self.image.channels {
                Channels::Rgb => {}
                Channels::Bgr => colour.reverse(),
                Channels::Gray => colour.resize(3, colour.first().copied().unwrap_or_default()),
            }
            rgb.extend(colour);
        }
        rgb
    }
}

/// The size at which the shorter side has `side` pixels and the shape is kept, cut to whole pixels.
fn shortest(raster: &Raster, side: usize) -> Result<[usize; 2], String> {
    let (short, long) = (raster.width.min(raster.height).max(1), raster.width.max(raster.height));
    let other = side.saturating_mul(long) / short;
    if side.saturating_mul(other) > PIXELS_MAX {
        return Err(format!(
            "an image of {} x {} pixels, whose shorter side is brought to {side}, has more than {PIXELS_MAX} pixels then",
            raster.width, raster.height
        ));
    }
    Ok(if raster.width <= raster.height { [other, side] } else { [side, other] })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use formats::processing::{Filter, Orientation};

    use super::super::FileKind;
    use super::*;

    fn image(channels: Channels, layout: Layout) -> Image {
        Image {
            name: "image".into(),
            input: None,
            orientation: Orientation::Ignored,
            channels,
            resize: None,
            filter: Filter::Bilinear,
            crop: Some([1, 2]),
            rescale: 1.0,
            mean: vec![1.0, 2.0, 3.0],
            std: vec![0.5],
            layout,
        }
    }

    fn picture(width: usize, height: usize, bytes: Vec<u8>) -> Picture {
        Picture { kind: FileKind::Png, width, height, channels: 3, bytes, orientation: 6 }
    }

    fn row(image: Image, picture: &Picture) -> Vec<f32> {
        let mut row = Vec::new();
        Pixels::new(image).append(picture, &mut row).unwrap();
        row
    }

    #[test]
    fn channels_are_where_the_network_wants_them() {
        let two = picture(2, 1, vec![11, 12, 13, 21, 22, 23]);
        let planes = [20.0, 40.0, 20.0, 40.0, 20.0, 40.0];
        assert_eq!(row(image(Channels::Rgb, Layout::Nchw), &two), planes);
        let backwards = row(image(Channels::Bgr, Layout::Nhwc), &two);
        assert_eq!(backwards, [24.0, 20.0, 16.0, 44.0, 40.0, 36.0]);
        for (channels, layout) in [(Channels::Rgb, Layout::Nchw), (Channels::Bgr, Layout::Nhwc)] {
            let pixels = Pixels::new(image(channels, layout));
            assert_eq!(pixels.seen(&row(image(channels, layout), &two)), two.bytes);
        }
    }

    #[test]
    fn the_camera_is_heeded_where_it_is_asked_for() {
        let standing = picture(1, 2, vec![1, 2, 3, 4, 5, 6]);
        let turned = Image {
            orientation: Orientation::Exif,
            mean: vec![],
            std: vec![],
            ..image(Channels::Rgb, Layout::Nhwc)
        };
        assert_eq!(row(turned, &standing), [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_sliver_does_not_become_a_bomb() {
        let resize = Some(Resize::Shortest(4096));
        let pixels = Pixels::new(Image { resize, ..image(Channels::Rgb, Layout::Nchw) });
        let error = pixels.append(&picture(1, 30_000, vec![0; 90_000]), &mut Vec::new()).unwrap_err();
        assert!(error.contains("has more than 33554432 pixels then"), "{error}");
    }
}
