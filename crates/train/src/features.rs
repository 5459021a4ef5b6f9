//! Fits the feature steps on training rows and makes the network's input of all usable rows.

mod evidence;
mod vocabulary;

use formats::manifest::FittedFeature;
use formats::rows::{RowFault, parse_number};
use formats::spec::{Feature, Layer, SpecError, TrainSpec, Vectorizer};
use tensor::Data;
use tensor::features::{FeatureStep, check_image};

use crate::TrainError;
use crate::dataset::{Dataset, RowRef};
use crate::target::Target;

/// The most that the network's input may take, in bytes.
const INPUT_BYTES_MAX: u64 = 8 << 30;

/// Fitted features and the network's input.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) features: Vec<FittedFeature>,
    /// The shape of one row.
    pub(crate) shape: Vec<usize>,
    /// Row-major, one row per usable row, in their order.
    pub(crate) rows: Vec<f32>,
    /// Whether they are ids.
    pub(crate) ids: bool,
}

/// Which rows hold numbers in every numeric column and pictures in every column of images; the others become
/// faults.
pub(crate) fn keep_readable(
    features: &[Feature],
    dataset: &Dataset,
    rows: &mut Vec<RowRef>,
    faults: &mut Vec<RowFault>,
) -> Result<(), TrainError> {
    type Check = fn(&str) -> Result<(), String>;
    let number: Check = |cell| parse_number(cell).map(|_| ()).map_err(|e| e.to_string());
    let mut columns: Vec<(usize, &String, Check)> = Vec::new();
    for feature in features {
        match feature {
            Feature::Numeric { columns: names, .. } | Feature::Pixels { columns: names, .. } => {
                for name in names {
                    columns.push((dataset.column(name)?, name, number));
                }
            }
            Feature::Image { column, .. } => columns.push((dataset.column(column)?, column, check_image)),
            Feature::Text { .. } | Feature::Categorical { .. } => {}
        }
    }
    rows.retain(|at| {
        for (column, name, check) in &columns {
            if let Err(error) = check(dataset.cell(*at, *column)) {
                faults.push(dataset.fault(*at, format!("column `{name}`: {error}")));
                return false;
            }
        }
        true
    });
    Ok(())
}

/// Fits on `rows[training]` and transforms all of `rows`.
pub(crate) fn fit(
    spec: &TrainSpec,
    asked: &[Feature],
    dataset: &Dataset,
    rows: &[RowRef],
    training: &[usize],
    target: &Target,
) -> Result<Input, TrainError> {
    let fitting = Fitting { dataset, rows, training, target };
    let mut features = Vec::new();
    // Columns of training rows that must not be computed with the row's own label: where they begin, how
    // many they are, and their values by training row.
    let mut held_out: Vec<(usize, usize, Vec<f32>)> = Vec::new();
    let mut width = 0;
    for feature in asked {
        let (fitted, values) = fitting.fit(feature)?;
        for feature in fitted {
            if let (FittedFeature::Evidence { table, .. }, Some(values)) = (&feature, &values) {
                held_out.push((width, table.blocks * table.classes, values.clone()));
            }
            width += feature.width();
            features.push(feature);
        }
    }
    let shape = shape(spec, &mut features, width)?;
    let mut input = transform(spec, features, shape, dataset, rows)?;
    let width: usize = input.shape.iter().product();
    for (begin, count, values) in held_out {
        for (row, own) in training.iter().zip(values.chunks(count.max(1))) {
            let at = row * width + begin;
            if let Some(to) = input.rows.get_mut(at..at + own.len()) {
                to.copy_from_slice(own);
            }
        }
    }
    Ok(input)
}

/// The shape of one row of input, which the network may state.
fn shape(
    spec: &TrainSpec,
    features: &mut Vec<FittedFeature>,
    width: usize,
) -> Result<Vec<usize>, TrainError> {
    if let [FittedFeature::Pixels { shape, .. } | FittedFeature::Image { shape, .. }] = features.as_slice() {
        return agree(spec, shape.to_vec());
    }
    let text = features.iter().any(FittedFeature::is_text);
    match spec.input_shape.as_deref() {
        Some(&[stated]) if stated > width && text => {
            // A small vocabulary does not fill the width that the network states.
            features.push(FittedFeature::Blank { width: stated - width });
            Ok(vec![stated])
        }
        Some(stated) if stated.iter().product::<usize>() == width => Ok(stated.to_vec()),
        _ => agree(spec, vec![width]),
    }
}

fn agree(spec: &TrainSpec, shape: Vec<usize>) -> Result<Vec<usize>, TrainError> {
    match &spec.input_shape {
        Some(stated) if *stated != shape => Err(SpecError::new(
            "layers[0] (input)",
            format!("states rows of shape {stated:?}, but the features make rows of shape {shape:?}"),
        )
        .into()),
        _ => Ok(shape),
    }
}

fn transform(
    spec: &TrainSpec,
    features: Vec<FittedFeature>,
    shape: Vec<usize>,
    dataset: &Dataset,
    rows: &[RowRef],
) -> Result<Input, TrainError> {
    let width: usize = shape.iter().product();
    let bytes = (rows.len() as u64).saturating_mul(width as u64).saturating_mul(4);
    if bytes > INPUT_BYTES_MAX {
        return Err(TrainError::TooLarge { what: "the network's input", bytes, limit: INPUT_BYTES_MAX });
    }
    let unwritable = |e: &dyn std::error::Error| TrainError::Unwritable(e.to_string());
    let step = FeatureStep::from_features(&features, &shape, &spec.label).map_err(|e| unwritable(&e))?;
    let mut values: Vec<f32> = Vec::with_capacity(rows.len() * width);
    let mut ids = false;
    for (number, block) in dataset.blocks().iter().enumerate() {
        let own = rows.partition_point(|r| r.block < number)..rows.partition_point(|r| r.block <= number);
        let picked: Vec<usize> = rows.get(own).unwrap_or_default().iter().map(|r| r.row).collect();
        let whole = picked.len() == block.rows();
        let selected;
        let block = if whole {
            block
        } else {
            selected = block.select(&picked);
            &selected
        };
        let (tensor, faults) = step.from_rows(block).map_err(|e| unwritable(&e))?;
        if let Some(fault) = faults.first() {
            return Err(TrainError::Unwritable(format!("row {}: {}", fault.row, fault.reason)));
        }
        match tensor.into_parts().1 {
            Data::F32(rows) => values.extend(rows),
            Data::I32(rows) => {
                ids = true;
                values.extend(rows.into_iter().map(|id| id as f32));
            }
            Data::Text(_) => {}
        }
    }
    Ok(Input { features, shape, rows: values, ids })
}

/// What fitting sees.
struct Fitting<'a> {
    dataset: &'a Dataset,
    rows: &'a [RowRef],
    training: &'a [usize],
    target: &'a Target,
}

/// Fitted features, and for evidence its columns of the training rows.
type Fitted = (Vec<FittedFeature>, Option<Vec<f32>>);

impl Fitting<'_> {
    fn fit(&self, feature: &Feature) -> Result<Fitted, TrainError> {
        match feature {
            Feature::Text { column, vectorizer } => self.text(column, *vectorizer),
            Feature::Numeric { columns, standardize } => {
                Ok((vec![self.numeric(columns, *standardize)?], None))
            }
            Feature::Categorical { columns, max_categories } => {
                let fitted = columns.iter().map(|column| self.categories(column, *max_categories));
                Ok((fitted.collect::<Result<_, _>>()?, None))
            }
            Feature::Image { column, shape, scale } => {
                let (column, shape, scale) = (column.clone(), *shape, *scale as f32);
                Ok((vec![FittedFeature::Image { column, shape, scale }], None))
            }
            Feature::Pixels { columns, shape, scale } => {
                let shape = pixel_shape(*shape, columns.len())?;
                Ok((
                    vec![FittedFeature::Pixels { columns: columns.clone(), shape, scale: *scale as f32 }],
                    None,
                ))
            }
        }
    }

    fn text(&self, column: &str, vectorizer: Vectorizer) -> Result<Fitted, TrainError> {
        let place = self.dataset.column(column)?;
        let texts = self.cells(place);
        let column = column.to_owned();
        match vectorizer {
            Vectorizer::Evidence { width } => {
                let classes = evidence::classes(self.target, self.training, width);
                let (table, values) = evidence::fit(&texts, &classes, width);
                let blank = width.saturating_sub(table.width());
                let mut features = vec![FittedFeature::Evidence { column, table }];
                if blank > 0 {
                    features.push(FittedFeature::Blank { width: blank });
                }
                Ok((features, Some(values)))
            }
            Vectorizer::Terms { width, analyzer, ngrams, weighting, normalize, unknown } => {
                let (terms, rarity) = vocabulary::terms(&texts, analyzer, ngrams, width, unknown);
                let fitted = FittedFeature::Terms {
                    column,
                    analyzer,
                    ngrams,
                    weighting,
                    normalize,
                    unknown,
                    terms,
                    rarity,
                };
                if fitted.width() == 0 {
                    return Err(SpecError::new("features", "the training texts hold no term").into());
                }
                Ok((vec![fitted], None))
            }
            Vectorizer::Sequence { max_tokens, length } => {
                let vocabulary = vocabulary::tokens(&texts, max_tokens.saturating_sub(2));
                Ok((vec![FittedFeature::Sequence { column, vocabulary, length }], None))
            }
        }
    }

    fn numeric(&self, names: &[String], standardize: bool) -> Result<FittedFeature, TrainError> {
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        for name in names {
            let place = self.dataset.column(name)?;
            let (mean, deviation) = if standardize { self.moments(place) } else { (0.0, 1.0) };
            means.push(mean);
            deviations.push(deviation);
        }
        Ok(FittedFeature::Numeric { columns: names.to_vec(), mean: means, deviation: deviations })
    }

    /// Mean and deviation of a column, by Welford's recurrence; a constant column has deviation 1.
    fn moments(&self, column: usize) -> (f32, f32) {
        let (mut count, mut mean, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        for cell in self.cells(column) {
            let Ok(value) = parse_number(cell) else { continue };
            count += 1.0;
            let delta = value - mean;
            mean += delta / count;
            squares += delta * (value - mean);
        }
        let deviation = (squares / count.max(1.0)).sqrt() as f32;
        (mean as f32, if deviation > 0.0 && deviation.is_finite() { deviation } else { 1.0 })
    }

    /// The most frequent texts of a column.
    fn categories(&self, name: &str, max: usize) -> Result<FittedFeature, TrainError> {
        let place = self.dataset.column(name)?;
        let cells = self.cells(place);
        let categories = vocabulary::most_frequent(cells.iter().map(|cell| cell.trim()), max);
        Ok(FittedFeature::Categorical { column: name.to_owned(), categories })
    }

    /// The cells of the training rows in a column.
    fn cells(&self, column: usize) -> Vec<&str> {
        let cell = |i: &usize| self.rows.get(*i).map_or("", |at| self.dataset.cell(*at, column));
        self.training.iter().map(cell).collect()
    }
}

/// The shape of an image of `pixels` columns.
fn pixel_shape(shape: Option<[usize; 3]>, pixels: usize) -> Result<[usize; 3], TrainError> {
    match shape {
        Some(shape) if shape.iter().product::<usize>() == pixels => Ok(shape),
        Some(shape) => {
            let message = format!(
                "an image of {shape:?} needs {} pixel columns, not {pixels}",
                shape.iter().product::<usize>()
            );
            Err(SpecError::new("features", message).into())
        }
        None => {
            let side = pixels.isqrt();
            if side * side != pixels {
                let message = format!(
                    "{pixels} pixel columns are not a square; say `shape: [height, width, channels]`"
                );
                return Err(SpecError::new("features", message).into());
            }
            Ok([side, side, 1])
        }
    }
}

/// Decides the widths that the rows decide: `dense: labels`, and an embedding's ids.
pub(crate) fn decide(
    layers: &[Layer],
    outputs: usize,
    features: &[FittedFeature],
) -> Result<Vec<Layer>, SpecError> {
    let mut layers = layers.to_vec();
    for (i, layer) in layers.iter_mut().enumerate() {
        let at = format!("layers[{i}] ({})", layer.kind());
        match layer {
            Layer::Dense { units, .. } => *units = Some(units.unwrap_or(outputs)),
            Layer::Embedding { input_dim, .. } => {
                let ids = match features {
                    [FittedFeature::Sequence { vocabulary, .. }] => vocabulary.len() + 2,
                    _ => {
                        return Err(SpecError::new(
                            at,
                            "needs a text feature with `method: sequence` as the only input",
                        ));
                    }
                };
                if input_dim.is_some_and(|n| n < ids) {
                    let n = input_dim.unwrap_or(0);
                    let message =
                        format!("its input_dim of {n} is less than the {ids} ids of the vocabulary");
                    return Err(SpecError::new(at, message));
                }
                *input_dim = Some(input_dim.unwrap_or(ids));
            }
            _ => {}
        }
    }
    let sequence = matches!(features, [FittedFeature::Sequence { .. }]);
    if sequence && !matches!(layers.first(), Some(Layer::Embedding { .. })) {
        return Err(SpecError::new("layers[0]", "a text feature with `method: sequence` needs an embedding"));
    }
    Ok(layers)
}
