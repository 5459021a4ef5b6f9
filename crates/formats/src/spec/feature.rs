//! [`Feature`]: which columns of the rows feed the network, and how.

use serde::{Deserialize, Serialize};

use super::fields::{Fields, brief, numbers_of};
use super::{SpecError, Vectorizer};
use crate::Value;

/// One input of the network, made from one or several columns. A column name that ends in `*` stands
/// for every column that begins so, in the order of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Feature {
    /// A column of free text.
    Text {
        /// The column.
        column: String,
        /// How it becomes numbers.
        vectorizer: Vectorizer,
    },
    /// Columns of numbers.
    Numeric {
        /// The columns.
        columns: Vec<String>,
        /// Whether the training rows' mean is taken off and their deviation divided by.
        standardize: bool,
    },
    /// Columns with one of a few texts each: one output per text seen in training and one for others.
    Categorical {
        /// The columns.
        columns: Vec<String>,
        /// The most texts that get an output of their own, per column; the rest count as others.
        max_categories: usize,
    },
    /// A column of image files, PNG or JPEG: their names in object storage, or the files themselves in base64.
    Image {
        /// The column.
        column: String,
        /// Height, width, channels that every image is brought to: 1 channel is brightness, 3 are red, green, blue.
        shape: [usize; 3],
        /// What every pixel, 0 to 255, is multiplied by.
        scale: f64,
    },
    /// Columns that are the pixels of one image, row by row, channels innermost.
    Pixels {
        /// The columns.
        columns: Vec<String>,
        /// Height, width, channels; `None` is a square of one channel.
        shape: Option<[usize; 3]>,
        /// What every pixel is multiplied by.
        scale: f64,
    },
}

/// The largest side of an image, in pixels.
const SIDE_MAX: usize = 4_096;

impl Feature {
    /// Reads one item of `features`: `{text: COLUMN, …}`, `{numeric: […]}` and so on.
    pub(crate) fn read(at: &str, value: &Value) -> Result<Self, SpecError> {
        let mut fields = Fields::new(at, value)?;
        let feature = if fields.has("text") {
            let column = one_column(&mut fields, "text")?;
            Feature::Text { column, vectorizer: Vectorizer::read(&mut fields)? }
        } else if fields.has("numeric") {
            let standardize = fields.flag("standardize")?.unwrap_or(true);
            Feature::Numeric { columns: columns(&mut fields, "numeric")?, standardize }
        } else if fields.has("categorical") {
            let max_categories = fields.count("max_categories", 1, 65_536)?.unwrap_or(1_000);
            Feature::Categorical { columns: columns(&mut fields, "categorical")?, max_categories }
        } else if fields.has("pixels") {
            let shape = shape(&mut fields)?;
            let scale = fields.number("scale", 1e-9, 1e9)?.unwrap_or(1.0 / 255.0);
            Feature::Pixels { columns: columns(&mut fields, "pixels")?, shape, scale }
        } else if fields.has("image") {
            image(&mut fields)?
        } else {
            let names: Vec<&str> = fields.names().collect();
            return Err(SpecError::new(
                at,
                format!(
                    "says {}; one of text, numeric, categorical, image, pixels is needed",
                    names.join(", ")
                ),
            ));
        };
        fields.finish()?;
        Ok(feature)
    }
}

fn image(fields: &mut Fields<'_>) -> Result<Feature, SpecError> {
    let column = one_column(fields, "image")?;
    let shape = match shape(fields)? {
        Some(shape @ [_, _, 1 | 3]) => shape,
        Some([.., channels]) => {
            return Err(fields.error("shape", format!("an image has 1 or 3 channels, not {channels}")));
        }
        None => return Err(fields.error("shape", "is missing: [height, width, channels]")),
    };
    let scale = fields.number("scale", 1e-9, 1e9)?.unwrap_or(1.0 / 255.0);
    Ok(Feature::Image { column, shape, scale })
}

fn one_column(fields: &mut Fields<'_>, name: &'static str) -> Result<String, SpecError> {
    let found = columns(fields, name)?;
    match <[String; 1]>::try_from(found) {
        Ok([column]) => Ok(column),
        Err(found) => Err(fields.error(name, format!("takes one column, not {}", found.len()))),
    }
}

fn columns(fields: &mut Fields<'_>, name: &'static str) -> Result<Vec<String>, SpecError> {
    let columns = fields.texts(name)?.unwrap_or_default();
    if columns.is_empty() || columns.iter().any(String::is_empty) {
        return Err(fields.error(name, "names no column"));
    }
    Ok(columns)
}

/// `shape: [height, width]` or `[height, width, channels]`.
fn shape(fields: &mut Fields<'_>) -> Result<Option<[usize; 3]>, SpecError> {
    let at = fields.at("shape");
    let Some(value) = fields.take("shape") else { return Ok(None) };
    let sides = numbers_of(&at, value)?;
    let whole = |v: f64, max: usize| (v.fract() == 0.0 && v >= 1.0 && v <= max as f64).then_some(v as usize);
    let read = match sides.as_slice() {
        [h, w] => whole(*h, SIDE_MAX).zip(whole(*w, SIDE_MAX)).map(|(h, w)| [h, w, 1]),
        [h, w, c] => {
            whole(*h, SIDE_MAX).zip(whole(*w, SIDE_MAX)).zip(whole(*c, 64)).map(|((h, w), c)| [h, w, c])
        }
        _ => None,
    };
    read.map(Some).ok_or_else(|| {
        SpecError::new(
            at,
            format!("expected [height, width] or [height, width, channels], found {}", brief(value)),
        )
    })
}
