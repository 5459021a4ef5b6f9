//! [`Predictions`]: what a model answered, row by row, ready to be written.

use std::ops::Range;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use tensor::{Data, ShapeError, Tensor, Tensors};

use crate::rows::{row_count, slice};

/// What the output of a classifier trained here, or with declared labels, is called that holds the label with the highest
/// score: empty where the scores are not numbers.
pub(crate) const LABEL: &str = "label";
/// And the one that holds the scores.
pub(crate) const SCORES: &str = "scores";
/// What the output of a regressor trained here is called.
pub(crate) const VALUE: &str = "value";

/// How a model's outputs read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// The only float output holds a score for each of these labels. There may be another one with the label itself.
    Classes(Vec<String>),
    /// The same, as the artifact declares it, told from the best on.
    Ranked(Ranked),
    /// The one output holds a number.
    Value,
    /// The outputs as they are.
    Tensors,
}

/// Labels of which the best are told first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ranked {
    pub(crate) labels: Vec<String>,
    /// How many are told; all where nothing is said.
    pub(crate) top_k: Option<usize>,
}

impl Form {
    /// The labels that there are scores of.
    pub(crate) fn labels(&self) -> Option<&[String]> {
        match self {
            Form::Classes(labels) | Form::Ranked(Ranked { labels, .. }) => Some(labels),
            Form::Value | Form::Tensors => None,
        }
    }
}

/// Answers to the rows of a request, in their order. Cheap to clone: rows of a shared batch stay where the
/// model put them.
#[derive(Debug, Clone)]
pub struct Predictions {
    outputs: Arc<Tensors>,
    rows: Range<usize>,
    form: Arc<Form>,
}

impl Predictions {
    pub(crate) fn new(outputs: Arc<Tensors>, rows: Range<usize>, form: Arc<Form>) -> Self {
        let end = rows.end.min(row_count(&outputs));
        Predictions { outputs, rows: rows.start.min(end)..end, form }
    }

    /// How many rows were predicted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The answer to row `i`, to be serialised:
    /// - a classifier trained here, or made elsewhere with labels: `{"label": "b", "classes": ["a", "b"], "scores": [0.1, 0.9]}`;
    /// - a classifier whose artifact declares its labels: `{"ids": ["1"], "displayNames": ["b"], "confidences": [0.9]}`, from the
    ///   best on, as Vertex tells what an image is;
    /// - a regressor trained here: `{"value": 1.5}`;
    /// - another model with one output: the row of that output, lists nested as its shape is, a bare value
    ///   where the row is a scalar;
    /// - another model with several outputs: an object of these by output name.
    ///
    /// A row beyond the last is empty. Numbers are float32, written with the fewest digits that read back the
    /// same; what is not a number is written as the format writes it (JSON: null).
    pub fn row(&self, i: usize) -> PredictionRow<'_> {
        PredictionRow { predictions: self, row: self.rows.start.saturating_add(i) }
    }

    /// All answers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = PredictionRow<'_>> {
        (0..self.len()).map(|i| self.row(i))
    }

    /// Scores by class of row `i`: of a classifier trained here, or the first float output of another model
    /// if its rows are flat and have at least two elements.
    pub fn scores(&self, i: usize) -> Option<&[f32]> {
        let (_, output) = self.outputs.iter().find(|(_, t)| t.as_f32().is_some())?;
        (output.shape().len() == 2 && output.row_len() >= 2).then(|| self.floats(output, i)).flatten()
    }

    /// The labels that [`scores`](Self::scores) stand for; `None` if the model does not say.
    pub fn labels(&self) -> Option<&[String]> {
        self.form.labels()
    }

    /// The label that the model itself gives row `i`, or else the one with the highest score, the first of equals;
    /// and its index. `None` where the scores are not numbers, as for inputs so large that the network overflows.
    pub fn label(&self, i: usize) -> Option<(usize, &str)> {
        let scores = self.scores(i)?;
        let best = self.given_label(i).unwrap_or_else(|| highest(scores));
        scores.get(best).filter(|score| score.is_finite())?;
        Some((best, self.labels()?.get(best)?))
    }

    /// The index of the label that a model made elsewhere gives row `i` beside the scores.
    fn given_label(&self, i: usize) -> Option<usize> {
        let (_, output) = self.outputs.iter().find(|(_, t)| t.as_f32().is_none() && t.row_len() == 1)?;
        let row = self.rows.start + i;
        match output.data() {
            Data::Text(v) => {
                v.get(row).and_then(|given| self.labels()?.iter().position(|label| label == given))
            }
            Data::I32(v) => {
                let given = v.get(row)?.to_string();
                self.labels()?.iter().position(|label| *label == given)
            }
            Data::F32(_) => None,
        }
    }

    /// The number of row `i`, for models whose only output is one float per row.
    pub fn value(&self, i: usize) -> Option<f32> {
        match self.outputs.as_slice() {
            [(_, output)] if output.row_len() == 1 => self.floats(output, i)?.first().copied(),
            _ => None,
        }
    }

    /// The rows of the float output `name`, or of the first one, each as one list of numbers.
    pub(crate) fn vectors(&self, name: Option<&str>) -> Option<Vec<Vec<f32>>> {
        let is_meant = |(found, tensor): &&(String, Tensor)| {
            tensor.as_f32().is_some() && name.is_none_or(|name| name == found)
        };
        let (_, output) = self.outputs.iter().find(is_meant)?;
        (0..self.len()).map(|i| self.floats(output, i).map(<[f32]>::to_vec)).collect()
    }

    /// The outputs by name and, of each, the shape of a row; for those who write a header.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.outputs.iter().map(|(name, t)| (name.as_str(), t.shape().get(1..).unwrap_or_default()))
    }

    /// The answers as tensors by name, as [`crate::Model::ports`] has them.
    pub(crate) fn tensors(&self) -> Result<Tensors, ShapeError> {
        let rows = self.len();
        match &*self.form {
            Form::Classes(labels) | Form::Ranked(Ranked { labels, .. }) => {
                let label = |i| self.label(i).map_or_else(String::new, |(_, label)| label.to_owned());
                let label = Tensor::new(vec![rows], Data::Text((0..rows).map(label).collect()))?;
                let scores = (0..rows).filter_map(|i| self.scores(i)).flatten().copied().collect();
                let scores = Tensor::new(vec![rows, labels.len()], Data::F32(scores))?;
                Ok(vec![(LABEL.to_owned(), label), (SCORES.to_owned(), scores)])
            }
            Form::Value => {
                let values = (0..rows).filter_map(|i| self.value(i)).collect();
                Ok(vec![(VALUE.to_owned(), Tensor::new(vec![rows], Data::F32(values))?)])
            }
            Form::Tensors => self.given(),
        }
    }

    /// The network's own outputs.
    pub(crate) fn given(&self) -> Result<Tensors, ShapeError> {
        slice(&self.outputs, self.rows.clone())
    }

    fn floats<'a>(&self, output: &'a Tensor, i: usize) -> Option<&'a [f32]> {
        if i >= self.len() {
            return None;
        }
        let (row, width) = (self.rows.start + i, output.row_len());
        output.as_f32()?.get(row * width..(row + 1) * width)
    }
}

/// The index of the highest score; the first of equals, 0 if there is none.
pub(crate) fn highest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] || scores[best].is_nan() {
            best = i;
        }
    }
    best
}

/// One row of [`Predictions`], to be serialised.
#[derive(Debug, Clone, Copy)]
pub struct PredictionRow<'a> {
    predictions: &'a Predictions,
    row: usize,
}

impl Serialize for PredictionRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let predictions = self.predictions;
        let i = self.row - predictions.rows.start;
        match (&*predictions.form, predictions.outputs.as_slice()) {
            (Form::Classes(labels), _) => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry("label", &predictions.label(i).map(|(_, label)| label))?;
                map.serialize_entry("classes", labels)?;
                map.serialize_entry("scores", predictions.scores(i).unwrap_or_default())?;
                map.end()
            }
            (Form::Ranked(ranked), _) => {
                ranked.best(predictions.scores(i).unwrap_or_default()).serialize(serializer)
            }
            (Form::Value, _) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("value", &predictions.value(i))?;
                map.end()
            }
            (Form::Tensors, [(_, only)]) => Nested::row(only, self.row).serialize(serializer),
            (Form::Tensors, outputs) => {
                let mut map = serializer.serialize_map(Some(outputs.len()))?;
                for (name, tensor) in outputs {
                    map.serialize_entry(name, &Nested::row(tensor, self.row))?;
                }
                map.end()
            }
        }
    }
}

impl Ranked {
    /// The best labels with their scores. What is no number is no better than anything.
    fn best(&self, scores: &[f32]) -> Best<'_> {
        let mut places: Vec<usize> = (0..scores.len().min(self.labels.len())).collect();
        let rank = |place: &usize| if scores[*place].is_nan() { f32::NEG_INFINITY } else { scores[*place] };
        places.sort_by(|a, b| rank(b).total_cmp(&rank(a)));
        places.truncate(self.top_k.unwrap_or(usize::MAX));
        Best {
            ids: places.iter().map(usize::to_string).collect(),
            display_names: places.iter().map(|place| self.labels[*place].as_str()).collect(),
            confidences: places.iter().map(|place| scores[*place]).collect(),
        }
    }
}

/// What an image is, as Vertex tells it.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Best<'a> {
    ids: Vec<String>,
    display_names: Vec<&'a str>,
    confidences: Vec<f32>,
}

/// Elements `start..start + product(shape)` as lists nested like `shape`.
struct Nested<'a> {
    data: &'a Data,
    shape: &'a [usize],
    start: usize,
}

impl<'a> Nested<'a> {
    fn row(tensor: &'a Tensor, row: usize) -> Self {
        let shape = tensor.shape().get(1..).unwrap_or_default();
        Nested { data: tensor.data(), shape, start: row * tensor.row_len() }
    }
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.shape {
            [] => match self.data {
                Data::F32(v) => v.get(self.start).serialize(serializer),
                Data::I32(v) => v.get(self.start).serialize(serializer),
                Data::Text(v) => v.get(self.start).serialize(serializer),
            },
            [n] => {
                let range = self.start..self.start + n;
                match self.data {
                    Data::F32(v) => v.get(range).unwrap_or_default().serialize(serializer),
                    Data::I32(v) => v.get(range).unwrap_or_default().serialize(serializer),
                    Data::Text(v) => v.get(range).unwrap_or_default().serialize(serializer),
                }
            }
            [n, shape @ ..] => {
                let width: usize = shape.iter().product();
                let mut list = serializer.serialize_seq(Some(*n))?;
                for i in 0..*n {
                    list.serialize_element(&Nested {
                        data: self.data,
                        shape,
                        start: self.start + i * width,
                    })?;
                }
                list.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn json(outputs: Tensors, rows: Range<usize>, form: Form) -> Vec<String> {
        let predictions = Predictions::new(Arc::new(outputs), rows, Arc::new(form));
        predictions.iter().map(|row| serde_json::to_string(&row).unwrap()).collect()
    }

    fn output(name: &str, shape: &[usize], data: Data) -> (String, Tensor) {
        (name.into(), Tensor::new(shape.to_vec(), data).unwrap())
    }

    #[test]
    fn each_form_reads_as_documented() {
        let scores = || output("y", &[3, 2], Data::F32(vec![0.5, 0.5, 0.1, 0.9, 0.75, 0.25]));
        let labels = Form::Classes(vec!["a".into(), "b".into()]);
        assert_eq!(
            json(vec![scores()], 1..3, labels),
            [
                r#"{"label":"b","classes":["a","b"],"scores":[0.1,0.9]}"#,
                r#"{"label":"a","classes":["a","b"],"scores":[0.75,0.25]}"#
            ]
        );
        let chosen = output("label", &[3], Data::I32(vec![7, 7, 8]));
        let labels = Form::Classes(vec!["7".into(), "8".into()]);
        assert_eq!(
            json(vec![chosen, scores()], 1..3, labels),
            [
                r#"{"label":"7","classes":["7","8"],"scores":[0.1,0.9]}"#,
                r#"{"label":"8","classes":["7","8"],"scores":[0.75,0.25]}"#
            ]
        );
        let ranked = |top_k| Form::Ranked(Ranked { labels: vec!["a".into(), "b".into()], top_k });
        assert_eq!(
            json(vec![scores()], 0..2, ranked(None)),
            [
                r#"{"ids":["0","1"],"displayNames":["a","b"],"confidences":[0.5,0.5]}"#,
                r#"{"ids":["1","0"],"displayNames":["b","a"],"confidences":[0.9,0.1]}"#
            ]
        );
        assert_eq!(
            json(vec![scores()], 1..2, ranked(Some(1))),
            [r#"{"ids":["1"],"displayNames":["b"],"confidences":[0.9]}"#]
        );
        let overflown = output("y", &[1, 2], Data::F32(vec![f32::NAN, f32::NAN]));
        let labels = Form::Classes(vec!["a".into(), "b".into()]);
        assert_eq!(
            json(vec![overflown], 0..1, labels),
            [r#"{"label":null,"classes":["a","b"],"scores":[null,null]}"#]
        );
        let value = output("y", &[2, 1], Data::F32(vec![1.5, -2.0]));
        assert_eq!(json(vec![value], 0..2, Form::Value), [r#"{"value":1.5}"#, r#"{"value":-2.0}"#]);
        assert_eq!(json(vec![scores()], 0..1, Form::Tensors), ["[0.5,0.5]"]);
        let scalar = output("y", &[2], Data::Text(vec!["p".into(), "q".into()]));
        assert_eq!(json(vec![scalar], 1..2, Form::Tensors), [r#""q""#]);
        let cube = output("y", &[1, 2, 2], Data::I32(vec![1, 2, 3, 4]));
        assert_eq!(json(vec![cube], 0..1, Form::Tensors), ["[[1,2],[3,4]]"]);
        let label = output("label", &[3], Data::I32(vec![0, 1, 0]));
        assert_eq!(json(vec![label, scores()], 1..2, Form::Tensors), [r#"{"label":1,"y":[0.1,0.9]}"#]);
    }

    #[test]
    fn rows_stay_inside_their_range() {
        let outputs = Arc::new(vec![output("y", &[4, 2], Data::F32((0..8).map(|i| i as f32).collect()))]);
        let predictions = Predictions::new(outputs, 1..3, Arc::new(Form::Tensors));
        assert_eq!(predictions.len(), 2);
        assert_eq!(predictions.scores(0), Some(&[2.0, 3.0][..]));
        assert_eq!((predictions.scores(2), predictions.labels(), predictions.value(0)), (None, None, None));
    }
}
