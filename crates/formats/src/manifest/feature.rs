//! [`FittedFeature`]: an input of the network with what it learnt from the training rows.

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, finite, standardizer};
use super::packed;
use crate::spec::{Analyzer, Weighting};

/// One input; see [`crate::spec::Feature`] for what was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FittedFeature {
    /// A text, as evidence for the classes.
    Evidence {
        /// The column.
        column: String,
        /// What was learnt.
        table: Evidence,
    },
    /// A text, as one column per term.
    Terms {
        /// The column.
        column: String,
        /// What a term is made of.
        analyzer: Analyzer,
        /// Fewest and most tokens or characters in a term.
        ngrams: [usize; 2],
        /// What a column holds.
        weighting: Weighting,
        /// Whether a row is scaled to length 1.
        normalize: bool,
        /// Whether column 0 is for terms that have no column.
        unknown: bool,
        /// The terms, in column order, without the unknown one.
        terms: Vec<String>,
        /// Rarity of each column, that of the unknown one first where there is one.
        #[serde(with = "packed::f32s")]
        rarity: Vec<f32>,
    },
    /// A text, as ids of tokens.
    Sequence {
        /// The column.
        column: String,
        /// Tokens of ids 2, 3, …
        vocabulary: Vec<String>,
        /// Ids per row.
        length: usize,
    },
    /// Numbers: `(x - mean) / deviation`.
    Numeric {
        /// The columns.
        columns: Vec<String>,
        /// One per column.
        #[serde(with = "packed::f32s")]
        mean: Vec<f32>,
        /// One per column.
        #[serde(with = "packed::f32s")]
        deviation: Vec<f32>,
    },
    /// One output per category and a last one for other texts.
    Categorical {
        /// The column.
        column: String,
        /// The texts.
        categories: Vec<String>,
    },
    /// Zeros, where the rows gave fewer columns than the network's stated width.
    Blank {
        /// How many.
        width: usize,
    },
    /// An image file, brought to one size.
    Image {
        /// The column.
        column: String,
        /// Height, width, channels (1 or 3).
        shape: [usize; 3],
        /// What every pixel, 0 to 255, is multiplied by.
        scale: f32,
    },
    /// The pixels of one image.
    Pixels {
        /// Row by row, channels innermost.
        columns: Vec<String>,
        /// Height, width, channels.
        shape: [usize; 3],
        /// What every pixel is multiplied by.
        scale: f32,
    },
}

/// The most columns, terms or categories of one feature.
const ITEMS_MAX: usize = 1 << 20;

impl FittedFeature {
    /// The columns it reads.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            FittedFeature::Evidence { column, .. }
            | FittedFeature::Terms { column, .. }
            | FittedFeature::Sequence { column, .. }
            | FittedFeature::Image { column, .. }
            | FittedFeature::Categorical { column, .. } => (Some(column), [].as_slice()),
            FittedFeature::Numeric { columns, .. } | FittedFeature::Pixels { columns, .. } => {
                (None, columns.as_slice())
            }
            FittedFeature::Blank { .. } => (None, [].as_slice()),
        };
        one.into_iter().chain(many).map(String::as_str)
    }

    /// Whether its column is free text.
    pub fn is_text(&self) -> bool {
        matches!(
            self,
            FittedFeature::Evidence { .. } | FittedFeature::Terms { .. } | FittedFeature::Sequence { .. }
        )
    }

    /// Numbers it gives the network per row.
    pub fn width(&self) -> usize {
        match self {
            FittedFeature::Evidence { table, .. } => table.width(),
            FittedFeature::Terms { rarity, .. } => rarity.len(),
            FittedFeature::Sequence { length, .. } => *length,
            FittedFeature::Blank { width } => *width,
            FittedFeature::Image { shape, .. } => elements(shape),
            FittedFeature::Numeric { columns, .. } | FittedFeature::Pixels { columns, .. } => columns.len(),
            FittedFeature::Categorical { categories, .. } => categories.len() + 1,
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let items = match self {
            FittedFeature::Terms { terms, .. } => terms,
            FittedFeature::Sequence { vocabulary, .. } => vocabulary,
            FittedFeature::Categorical { categories, .. } => categories,
            _ => &Vec::new(),
        };
        if self.width() == 0 || self.width().max(items.len()) > ITEMS_MAX {
            return Err(format!("its width of {} is outside 1 to {ITEMS_MAX}", self.width()));
        }
        distinct(items)?;
        match self {
            FittedFeature::Evidence { table, .. } => table.check(),
            FittedFeature::Terms { ngrams, unknown, terms, rarity, .. } => {
                if ngrams[0] == 0 || ngrams[0] > ngrams[1] || ngrams[1] > 8 {
                    return Err(format!("n-grams of {} to {}", ngrams[0], ngrams[1]));
                }
                if rarity.len() != terms.len() + usize::from(*unknown) {
                    return Err("terms and their rarity differ in number".to_owned());
                }
                finite("rarity", rarity)
            }
            FittedFeature::Numeric { columns, mean, deviation } => {
                standardizer(mean, deviation, columns.len())
            }
            FittedFeature::Image { shape, scale, .. } => {
                if !matches!(shape, [_, _, 1 | 3]) {
                    return Err(format!("an image of {} channels; there may be 1 or 3", shape[2]));
                }
                finite("scale", &[*scale])
            }
            FittedFeature::Pixels { columns, shape, scale } => {
                if elements(shape) != columns.len() {
                    return Err(format!("{} columns for an image of {shape:?}", columns.len()));
                }
                finite("scale", &[*scale])
            }
            FittedFeature::Sequence { .. }
            | FittedFeature::Categorical { .. }
            | FittedFeature::Blank { .. } => Ok(()),
        }
    }
}

/// Numbers of an image; a product that no memory holds counts as the largest number.
fn elements(shape: &[usize; 3]) -> usize {
    shape.iter().fold(1, |product: usize, side| product.saturating_mul(*side))
}

fn distinct(items: &[String]) -> Result<(), String> {
    let mut sorted: Vec<&String> = items.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("`{}` occurs twice", pair[0])),
        None => Ok(()),
    }
}
