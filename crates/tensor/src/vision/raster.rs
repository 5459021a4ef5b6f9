//! [`Raster`]: pixels without opacity, on the way from a file to a network.

use formats::processing::{Channels, Orientation};

use super::file::Picture;
use super::orientation;

/// Pixels row by row, channels innermost: red, green, blue, or brightness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raster {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    pub(super) bytes: Vec<u8>,
}

impl Raster {
    /// The picture with the channels of a network, as Pillow's `convert` makes them: opacity is left out.
    pub(super) fn of(picture: &Picture, channels: Channels, held: Orientation) -> Raster {
        let way = if held == Orientation::Exif { picture.orientation } else { 1 };
        let size = [picture.width, picture.height];
        let [width, height] = if orientation::lies(way) { [size[1], size[0]] } else { size };
        let count = channels.count();
        let mut bytes = Vec::with_capacity(width * height * count);
        for y in 0..height {
            for x in 0..width {
                let (x, y) = orientation::source(way, size, x, y);
                let at = (y * picture.width + x) * picture.channels;
                let colour = match picture.bytes.get(at..at + picture.channels) {
                    Some([gray] | [gray, _]) => [*gray; 3],
                    Some([r, g, b, ..]) => [*r, *g, *b],
                    _ => [0; 3],
                };
                match channels {
                    Channels::Rgb | Channels::Bgr => bytes.extend_from_slice(&colour),
                    Channels::Gray => bytes.push(brightness(colour)),
                }
            }
        }
        Raster { width, height, channels: count, bytes }
    }

    /// Height × width of the middle; what lies outside of the picture is black.
    pub(super) fn cropped(self, [height, width]: [usize; 2]) -> Raster {
        if (self.width, self.height) == (width, height) {
            return self;
        }
        let channels = self.channels;
        let mut bytes = vec![0; width * height * channels];
        let (left, top) = (Cut::of(self.width, width), Cut::of(self.height, height));
        for row in 0..top.length {
            let from = ((top.from + row) * self.width + left.from) * channels;
            let to = ((top.to + row) * width + left.to) * channels;
            let length = left.length * channels;
            if let (Some(from), Some(to)) =
                (self.bytes.get(from..from + length), bytes.get_mut(to..to + length))
            {
                to.copy_from_slice(from);
            }
        }
        Raster { width, height, channels, bytes }
    }
}

/// Which part of one side goes where.
struct Cut {
    from: usize,
    to: usize,
    length: usize,
}

impl Cut {
    fn of(whole: usize, wanted: usize) -> Cut {
        Cut {
            from: whole.saturating_sub(wanted) / 2,
            to: wanted.saturating_sub(whole).div_ceil(2),
            length: whole.min(wanted),
        }
    }
}

/// Brightness as ITU-R BT.601 has it, in the whole numbers of Pillow.
fn brightness([r, g, b]: [u8; 3]) -> u8 {
    let sum = u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000;
    (sum >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_cut_out_or_framed() {
        let line =
            |bytes: &[u8]| Raster { width: bytes.len(), height: 1, channels: 1, bytes: bytes.to_vec() };
        assert_eq!(line(&[1, 2, 3, 4, 5]).cropped([1, 2]).bytes, [2, 3]);
        assert_eq!(line(&[1, 2]).cropped([1, 5]).bytes, [0, 0, 1, 2, 0]);
        assert_eq!(line(&[1, 2]).cropped([2, 2]).bytes, [0, 0, 1, 2]);
        assert_eq!(line(&[1, 2]).cropped([1, 2]).bytes, [1, 2]);
    }

    #[test]
    fn brightness_is_pillows() {
        assert_eq!(
            [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]].map(brightness),
            [76, 150, 29, 255]
        );
    }
}
