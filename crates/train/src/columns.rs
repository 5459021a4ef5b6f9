//! Which columns feed the network: what was asked for, with every `*` spelt out, or what the columns
//! look like.

use std::collections::HashSet;

use formats::rows::parse_number;
use formats::spec::{Feature, SpecError, TrainSpec, Vectorizer};
use tensor::features::tokens::Tokenizer;

use crate::TrainError;
use crate::dataset::Dataset;

/// Rows looked at to tell what a column is.
const SAMPLE_ROWS: usize = 5_000;
/// Columns of a text where nothing else is said.
const TEXT_WIDTH: usize = 100;

/// The features of a training, with real column names.
pub(crate) fn features(spec: &TrainSpec, dataset: &Dataset) -> Result<Vec<Feature>, TrainError> {
    let mut features = match &spec.features {
        Some(features) => features
            .iter()
            .map(|feature| explicit(feature, dataset, &spec.label))
            .collect::<Result<Vec<_>, _>>()?,
        None => inferred(spec, dataset)?,
    };
    if let Some(own) = spec.vectorizer {
        match features.as_mut_slice() {
            [Feature::Text { vectorizer, .. }] => *vectorizer = own,
            _ => {
                let message = "the network begins with a text step, but the rows have not exactly one text column; \
                               name it: `features: [{text: COLUMN}]`";
                return Err(SpecError::new("features", message).into());
            }
        }
    }
    // A network that states its input's width decides the width of its one text.
    if let (Some([width]), [Feature::Text { vectorizer, .. }]) =
        (spec.input_shape.as_deref(), features.as_mut_slice())
        && let Vectorizer::Evidence { width: own } | Vectorizer::Terms { width: own, .. } = vectorizer
    {
        *own = *width;
    }
    Ok(features)
}

/// A feature with every `*` spelt out.
fn explicit(feature: &Feature, dataset: &Dataset, label: &str) -> Result<Feature, TrainError> {
    let mut feature = feature.clone();
    match &mut feature {
        Feature::Text { column, .. } | Feature::Image { column, .. } => {
            dataset.column(column)?;
        }
        Feature::Numeric { columns, .. }
        | Feature::Categorical { columns, .. }
        | Feature::Pixels { columns, .. } => {
            *columns = expand(columns, dataset, label)?;
        }
    }
    Ok(feature)
}

fn expand(patterns: &[String], dataset: &Dataset, label: &str) -> Result<Vec<String>, TrainError> {
    let mut columns: Vec<String> = Vec::new();
    let mut taken: HashSet<String> = HashSet::new();
    for pattern in patterns {
        match pattern.strip_suffix('*') {
            Some(prefix) => {
                let before = columns.len();
                let matching = dataset.names().iter().filter(|n| n.starts_with(prefix) && *n != label);
                columns.extend(matching.filter(|n| taken.insert((*n).clone())).cloned());
                if columns.len() == before {
                    dataset.column(pattern)?;
                }
            }
            None => {
                dataset.column(pattern)?;
                if taken.insert(pattern.clone()) {
                    columns.push(pattern.clone());
                }
            }
        }
    }
    Ok(columns)
}

/// Features for every column but the label.
fn inferred(spec: &TrainSpec, dataset: &Dataset) -> Result<Vec<Feature>, TrainError> {
    dataset.column(&spec.label)?;
    let mut numeric = Vec::new();
    let mut categorical = Vec::new();
    let mut features = Vec::new();
    for (i, name) in dataset.names().iter().enumerate().filter(|(_, name)| **name != spec.label) {
        match look(dataset, i) {
            Looks::Numeric => numeric.push(name.clone()),
            Looks::Categorical => categorical.push(name.clone()),
            Looks::Text => {
                let vectorizer = Vectorizer::Evidence { width: TEXT_WIDTH };
                features.push(Feature::Text { column: name.clone(), vectorizer });
            }
            Looks::Empty => {}
        }
    }
    if let Some(&[h, w, c]) = spec.input_shape.as_deref()
        && numeric.len() == h * w * c
        && features.is_empty()
        && categorical.is_empty()
    {
        return Ok(vec![Feature::Pixels { columns: numeric, shape: Some([h, w, c]), scale: 1.0 / 255.0 }]);
    }
    if !numeric.is_empty() {
        features.push(Feature::Numeric { columns: numeric, standardize: true });
    }
    if !categorical.is_empty() {
        features.push(Feature::Categorical { columns: categorical, max_categories: 1_000 });
    }
    if features.is_empty() {
        return Err(SpecError::new(
            "features",
            "the rows have no column beside the label that holds anything",
        )
        .into());
    }
    Ok(features)
}

/// What a column's cells look like.
enum Looks {
    Numeric,
    Categorical,
    Text,
    Empty,
}

fn look(dataset: &Dataset, column: usize) -> Looks {
    let (mut cells, mut numbers, mut words) = (0usize, 0usize, 0usize);
    let mut distinct = HashSet::new();
    for at in dataset.refs().take(SAMPLE_ROWS) {
        let cell = dataset.cell(at, column);
        if cell.trim().is_empty() {
            continue;
        }
        cells += 1;
        numbers += usize::from(parse_number(cell).is_ok());
        words += Tokenizer::Words.spans(cell).take(8).count();
        distinct.insert(cell);
    }
    if cells == 0 {
        Looks::Empty
    } else if numbers * 20 >= cells * 19 {
        // A stray "n/a" does not make a column of numbers a text; its row becomes a fault.
        Looks::Numeric
    } else if words > cells * 2 && distinct.len() * 5 > cells {
        Looks::Text
    } else if distinct.len() * 2 <= cells.max(4) {
        Looks::Categorical
    } else {
        Looks::Text
    }
}
