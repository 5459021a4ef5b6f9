//! [`Image`]: how an image file becomes the pixels that a network takes.

use super::name;
use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::{Fields, brief, count_of, numbers_of, pair_of};

/// The longest side of what a network takes, in pixels.
const SIDE_MAX: usize = 4_096;

/// How an image file becomes a row of a network's input, step by step in the order of these fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// What a column, a field or a tensor with the files is called.
    pub name: String,
    /// The network's input; `None` is its only one.
    pub input: Option<String>,
    /// Whether the camera's note on which side is up is followed.
    pub orientation: Orientation,
    /// Which colours there are.
    pub channels: Channels,
    /// The size that it is brought to.
    pub resize: Option<Resize>,
    /// How pixels are made of others for that.
    pub filter: Filter,
    /// Height and width that are cut out of the middle; what is smaller gets a black border.
    pub crop: Option<[usize; 2]>,
    /// What every pixel, 0 to 255, is multiplied by.
    pub rescale: f64,
    /// What is then taken off, by channel; one for all or none.
    pub mean: Vec<f64>,
    /// What is then divided by, by channel; one for all or none.
    pub std: Vec<f64>,
    /// In which order the numbers are.
    pub layout: Layout,
}

/// The size that a picture is brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Its shorter side has so many pixels, and the other as many as keep its shape.
    Shortest(usize),
    /// Height and width, whatever its shape was.
    Exact([usize; 2]),
}

/// How pixels are made of others. Each is that of Pillow, to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The pixel that lies there.
    Nearest,
    /// The mean of those that are covered.
    Box,
    /// Weighted by how near they are.
    Bilinear,
    /// A window that is sharper than bilinear.
    Hamming,
    /// A cubic.
    Bicubic,
    /// A windowed sinc.
    Lanczos,
}

/// Which colours a network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Brightness.
    Gray,
}

/// The order of a network's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A plane for each channel.
    Nchw,
    /// The channels of each pixel side by side.
    Nhwc,
}

/// What is done about the orientation that a camera notes in EXIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// The pixels are taken as they are stored, as most pipelines do.
    Ignored,
    /// The picture is turned as the note says.
    Exif,
}

impl Image {
    pub(super) fn read(value: &Value) -> Result<Self, SpecError> {
        let mut fields = Fields::new("image", value)?;
        let image = Image {
            name: name(&mut fields, "image")?,
            input: fields.text("input")?.map(str::to_owned),
            orientation: one_of(
                &mut fields,
                "orientation",
                &[("ignored", Orientation::Ignored), ("exif", Orientation::Exif)],
            )?,
            channels: one_of(
                &mut fields,
                "channels",
                &[("rgb", Channels::Rgb), ("bgr", Channels::Bgr), ("gray", Channels::Gray)],
            )?,
            resize: resize(&mut fields)?,
            filter: one_of(&mut fields, "filter", &FILTERS)?,
            crop: fields.pair("crop", 1, SIDE_MAX)?,
            rescale: fields.number("rescale", 1e-9, 1e9)?.unwrap_or(1.0 / 255.0),
            mean: numbers(&mut fields, "mean")?,
            std: numbers(&mut fields, "std")?,
            layout: one_of(&mut fields, "layout", &[("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)])?,
        };
        fields.finish()?;
        image.checked("image")
    }

    /// What no single field can be wrong about.
    pub(super) fn checked(self, at: &str) -> Result<Self, SpecError> {
        if self.crop.is_none() && !matches!(self.resize, Some(Resize::Exact(_))) {
            let message = "give `crop`, or `resize: [HEIGHT, WIDTH]`: a network takes pictures of one size";
            return Err(SpecError::new(at, message));
        }
        let channels = self.channels.count();
        for (field, list) in [("mean", &self.mean), ("std", &self.std)] {
            if !list.is_empty() && list.len() != 1 && list.len() != channels {
                let message = format!("{} numbers for {channels} channels", list.len());
                return Err(SpecError::new(format!("{at}.{field}"), message));
            }
        }
        if self.std.contains(&0.0) {
            return Err(SpecError::new(format!("{at}.std"), "nothing can be divided by 0"));
        }
        Ok(self)
    }

    /// Height and width of what the network takes.
    pub fn size(&self) -> [usize; 2] {
        match (self.crop, self.resize) {
            (Some(size), _) | (None, Some(Resize::Exact(size))) => size,
            (None, Some(Resize::Shortest(side))) => [side, side],
            (None, None) => [0, 0],
        }
    }

    /// The shape of a row of the network's input.
    pub fn shape(&self) -> [usize; 3] {
        let ([height, width], channels) = (self.size(), self.channels.count());
        match self.layout {
            Layout::Nchw => [channels, height, width],
            Layout::Nhwc => [height, width, channels],
        }
    }
}

impl Channels {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Channels::Rgb | Channels::Bgr => 3,
            Channels::Gray => 1,
        }
    }
}

/// By name, the usual one first.
const FILTERS: [(&str, Filter); 6] = [
    ("bilinear", Filter::Bilinear),
    ("nearest", Filter::Nearest),
    ("box", Filter::Box),
    ("hamming", Filter::Hamming),
    ("bicubic", Filter::Bicubic),
    ("lanczos", Filter::Lanczos),
];

/// One of a few words; the first where the field is absent.
fn one_of<T: Copy>(fields: &mut Fields<'_>, name: &'static str, words: &[(&str, T)]) -> Result<T, SpecError> {
    let usual = words.first().map_or("", |(word, _)| word);
    let given = fields.text(name)?.unwrap_or(usual);
    words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        fields.error(name, format!("`{}` is none of {}", short(given), known.join(", ")))
    })
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// `{shortest: 256}`, `[height, width]`, or one number for both.
fn resize(fields: &mut Fields<'_>) -> Result<Option<Resize>, SpecError> {
    let at = fields.at("resize");
    let Some(value) = fields.take("resize") else { return Ok(None) };
    if !matches!(value, Value::Record(_)) {
        return pair_of(&at, value, 1, SIDE_MAX).map(|size| Some(Resize::Exact(size)));
    }
    let mut inner = Fields::new(at.clone(), value)?;
    let side = inner.require("shortest")?;
    let side = count_of(&inner.at("shortest"), side, 1, SIDE_MAX)?;
    inner.finish()?;
    Ok(Some(Resize::Shortest(side)))
}

/// A number or several, none where the field is absent.
pub(super) fn numbers(fields: &mut Fields<'_>, name: &'static str) -> Result<Vec<f64>, SpecError> {
    let at = fields.at(name);
    let Some(value) = fields.take(name) else { return Ok(Vec::new()) };
    let numbers = numbers_of(&at, value)?;
    match numbers.iter().all(|n| n.is_finite()) {
        true => Ok(numbers),
        false => Err(SpecError::new(at, format!("expected numbers, found {}", brief(value)))),
    }
}

/// The filter that Pillow calls by this number.
pub(super) fn filter_of_pillow(number: usize) -> Option<Filter> {
    [Filter::Nearest, Filter::Lanczos, Filter::Bilinear, Filter::Bicubic, Filter::Box, Filter::Hamming]
        .get(number)
        .copied()
}

/// A side's bounds, for those who read sizes elsewhere.
pub(super) const SIDES: (usize, usize) = (1, SIDE_MAX);
