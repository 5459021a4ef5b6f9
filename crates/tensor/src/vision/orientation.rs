//! Which side of a picture is up, as a camera notes it in EXIF.

/// The field that says it.
const ORIENTATION: u16 = 0x0112;

/// What the EXIF block says, 1 to 8; 1 where it says nothing that can be read.
pub(super) fn noted(exif: &[u8]) -> u8 {
    // Some files keep the name of the block in front of it.
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    find(tiff).unwrap_or(1)
}

fn find(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let two = |at: usize| {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let four = |at: usize| {
        let bytes: [u8; 4] = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let first = four(4)? as usize;
    let entries = usize::from(two(first)?);
    let entry = |n: usize| first.checked_add(2 + 12 * n);
    let at = (0..entries).filter_map(entry).find(|at| two(*at) == Some(ORIENTATION))?;
    u8::try_from(two(at + 8)?).ok().filter(|way| (1..=8).contains(way))
}

/// Of a picture of `width` × `height`, where pixel (`x`, `y`) of the upright one lies.
pub(super) fn source(way: u8, [width, height]: [usize; 2], x: usize, y: usize) -> (usize, usize) {
    let (right, bottom) = (width.saturating_sub(1), height.saturating_sub(1));
    match way {
        2 => (right - x, y),
        3 => (right - x, bottom - y),
        4 => (x, bottom - y),
        5 => (y, x),
        6 => (y, bottom - x),
        7 => (right - y, bottom - x),
        8 => (right - y, x),
        _ => (x, y),
    }
}

/// Whether the upright picture is as wide as this one is high.
pub(super) fn lies(way: u8) -> bool {
    (5..=8).contains(&way)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_found_in_either_byte_order() {
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0";
        assert_eq!((noted(little), noted(big)), (6, 8));
        assert_eq!(noted(&[&b"Exif\0\0"[..], little].concat()), 6);
        for broken in
            [&b""[..], b"II*\0", b"II*\0\xff\xff\xff\xff", &little[..14], b"II*\0\x08\0\0\0\xff\xff"]
        {
            assert_eq!(noted(broken), 1, "{broken:?}");
        }
    }

    #[test]
    fn each_way_takes_every_pixel_once() {
        for way in 1..=8 {
            let (width, height) = if lies(way) { (2, 3) } else { (3, 2) };
            let mut seen: Vec<_> =
                (0..height).flat_map(|y| (0..width).map(move |x| source(way, [3, 2], x, y))).collect();
            seen.sort_unstable();
            assert_eq!(seen, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)], "{way}");
        }
    }
}
