//! [`Step`]: one fitted feature, ready to run.

use formats::manifest::FittedFeature;
use formats::rows::parse_number;

use super::categorical::CategoricalStep;
use super::evidence::EvidenceStep;
use super::hash::{FastMap, index};
use super::image::ImageStep;
use super::terms::TermsStep;
use super::tokens::{Scratch, Tokenizer};
use super::{Cell, ColumnKind, InputColumn, LoadError};

/// One fitted feature; `column` counts in [`super::FeatureStep::columns`].
#[derive(Debug)]
pub(crate) enum Step {
    Evidence { column: usize, step: Box<EvidenceStep> },
    Terms { column: usize, step: TermsStep },
    Sequence { column: usize, vocabulary: FastMap<Box<str>, u32>, length: usize },
    Numeric { columns: Vec<usize>, mean: Vec<f32>, deviation: Vec<f32> },
    Categorical { column: usize, step: CategoricalStep },
    Image { column: usize, step: ImageStep },
    Pixels { columns: Vec<usize>, scale: f32 },
    Blank { width: usize },
}

impl Step {
    /// Builds the tables of `feature` and registers its columns.
    pub(crate) fn new(feature: &FittedFeature, columns: &mut Vec<InputColumn>) -> Result<Self, LoadError> {
        let kind = match feature {
            FittedFeature::Numeric { .. } | FittedFeature::Pixels { .. } => ColumnKind::Number,
            FittedFeature::Categorical { .. } => ColumnKind::Category,
            FittedFeature::Image { .. } => ColumnKind::Image,
            _ => ColumnKind::Text,
        };
        let places =
            feature.columns().map(|name| place(name, kind, columns)).collect::<Result<Vec<_>, _>>()?;
        let column = places.first().copied().unwrap_or(0);
        Ok(match feature {
            FittedFeature::Evidence { table, .. } => {
                Step::Evidence { column, step: Box::new(EvidenceStep::new(table)) }
            }
            FittedFeature::Terms {
                analyzer, ngrams, weighting, normalize, unknown, terms, rarity, ..
            } => {
                let flags = [*normalize, *unknown];
                let step = TermsStep::new(*analyzer, *ngrams, *weighting, flags, terms, rarity);
                Step::Terms { column, step }
            }
            FittedFeature::Sequence { vocabulary, length, .. } => {
                Step::Sequence { column, vocabulary: index(vocabulary), length: *length }
            }
            FittedFeature::Numeric { mean, deviation, .. } => {
                Step::Numeric { columns: places, mean: mean.clone(), deviation: deviation.clone() }
            }
            FittedFeature::Categorical { categories, .. } => {
                Step::Categorical { column, step: CategoricalStep::new(categories) }
            }
            FittedFeature::Image { shape, scale, .. } => {
                Step::Image { column, step: ImageStep::new(*shape, *scale) }
            }
            FittedFeature::Pixels { scale, .. } => Step::Pixels { columns: places, scale: *scale },
            FittedFeature::Blank { width } => Step::Blank { width: *width },
        })
    }

    /// Numbers it gives per row.
    pub(crate) fn width(&self) -> usize {
        match self {
            Step::Evidence { step, .. } => step.width(),
            Step::Terms { step, .. } => step.width(),
            Step::Sequence { length, .. } => *length,
            Step::Numeric { columns, .. } | Step::Pixels { columns, .. } => columns.len(),
            Step::Categorical { step, .. } => step.width(),
            Step::Image { step, .. } => step.width(),
            Step::Blank { width } => *width,
        }
    }

    /// How it finds tokens, if its column is a text.
    pub(crate) fn tokenizer(&self) -> Option<Tokenizer> {
        match self {
            Step::Evidence { .. } => Some(Tokenizer::Words),
            Step::Terms { step, .. } => Some(step.tokenizer()),
            Step::Sequence { .. } => Some(Tokenizer::Whitespace),
            _ => None,
        }
    }

    /// Writes the numbers of one row, given its cells.
    pub(crate) fn write<'c>(
        &self,
        names: &[InputColumn],
        cell: &impl Fn(usize) -> Cell<'c>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        match self {
            Step::Evidence { column, step } => step.write(self.text(names, cell(*column))?, out, scratch),
            Step::Terms { column, step } => step.write(self.text(names, cell(*column))?, out, scratch),
            Step::Sequence { column, vocabulary, .. } => {
                write_ids(vocabulary, self.text(names, cell(*column))?, out, scratch);
            }
            Step::Numeric { columns, mean, deviation } => {
                let standard = mean.iter().zip(deviation);
                for ((value, column), (mean, deviation)) in out.iter_mut().zip(columns).zip(standard) {
                    *value = (number(names, *column, cell(*column))? - mean) / deviation;
                }
            }
            Step::Pixels { columns, scale } => {
                for (value, column) in out.iter_mut().zip(columns) {
                    *value = number(names, *column, cell(*column))? * scale;
                }
            }
            Step::Blank { .. } => out.fill(0.0),
            Step::Image { column, step } => match cell(*column) {
                Cell::Text(file) => {
                    step.write(file, out).map_err(|e| format!("column `{}`: {e}", name(names, *column)))?
                }
                Cell::Missing => out.fill(0.0),
                other => return Err(wrong(names, *column, "an image file in base64", other.kind())),
            },
            Step::Categorical { column, step } => match cell(*column) {
                Cell::Text(text) => step.write(text, out),
                Cell::Number(n) => step.write(&n.to_string(), out),
                Cell::Bool(b) => step.write(if b { "true" } else { "false" }, out),
                Cell::Missing => step.write("", out),
                other => return Err(wrong(names, *column, "a string", other.kind())),
            },
        }
        Ok(())
    }

    /// The row of "nothing known".
    pub(crate) fn baseline(&self, out: &mut [f32]) {
        match self {
            Step::Evidence { step, .. } => step.baseline(out),
            _ => out.fill(0.0),
        }
    }

    /// The text of a cell.
    pub(crate) fn text<'c>(&self, names: &[InputColumn], cell: Cell<'c>) -> Result<&'c str, String> {
        let column = match self {
            Step::Evidence { column, .. } | Step::Terms { column, .. } | Step::Sequence { column, .. } => {
                *column
            }
            _ => 0,
        };
        match cell {
            Cell::Text(text) => Ok(text),
            other => Err(wrong(names, column, "a string", other.kind())),
        }
    }

    /// Shares of a text's tokens in the attributions of this step's numbers.
    pub(crate) fn share(&self, text: &str, attributions: &[f64], scratch: &mut Scratch) -> Vec<f64> {
        match self {
            Step::Evidence { step, .. } => step.share(text, attributions, scratch),
            Step::Terms { step, .. } => step.share(text, attributions, scratch),
            _ => {
                let tokens = Tokenizer::Whitespace.spans(text).count();
                (0..tokens).map(|i| attributions.get(i).copied().unwrap_or(0.0)).collect()
            }
        }
    }
}

/// Ids of the first tokens; 0 fills up.
fn write_ids(vocabulary: &FastMap<Box<str>, u32>, text: &str, out: &mut [f32], scratch: &mut Scratch) {
    out.fill(0.0);
    let word = &mut scratch.joined;
    for (id, span) in out.iter_mut().zip(Tokenizer::Whitespace.spans(text)) {
        word.clear();
        Tokenizer::Whitespace.normalize(text.get(span).unwrap_or_default(), word);
        // Vocabularies hold fewer than 2^24 tokens, which an f32 carries exactly.
        *id = vocabulary.get(word.as_str()).map_or(1.0, |id| (id + 2) as f32);
    }
}

/// A cell as a number; numbers in quotes are numbers, as some clients send them.
fn number(names: &[InputColumn], column: usize, cell: Cell<'_>) -> Result<f32, String> {
    let named = |what: String| format!("column `{}`: {what}", name(names, column));
    match cell {
        Cell::Text(text) => parse_number(text).map(|v| v as f32).map_err(|e| named(e.to_string())),
        Cell::Number(v) if (v as f32).is_finite() => Ok(v as f32),
        Cell::Number(v) => Err(named(format!("{v} is not a finite float32 number"))),
        other => Err(wrong(names, column, "a number", other.kind())),
    }
}

fn wrong(names: &[InputColumn], column: usize, expected: &str, found: &str) -> String {
    format!("column `{}`: expected {expected}, found {found}", name(names, column))
}

fn name(names: &[InputColumn], column: usize) -> &str {
    names.get(column).map_or("", |c| c.name.as_str())
}

fn place(name: &str, kind: ColumnKind, columns: &mut Vec<InputColumn>) -> Result<usize, LoadError> {
    match columns.iter().position(|c| c.name == name) {
        Some(i) if columns[i].kind == kind => Ok(i),
        Some(_) => Err(LoadError(format!("column `{name}` is used as two kinds"))),
        None => {
            columns.push(InputColumn { name: name.to_owned(), kind });
            Ok(columns.len() - 1)
        }
    }
}
