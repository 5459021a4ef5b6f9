//! Figures of an evaluation: taken by [`Figures`], written in Vertex's schemas by [`Figures::json`].

use analysis::{
    Area, ClassMetrics, Classification, ClassificationMetrics, ConfidencePoint, MultiLabel,
    MultiLabelMetrics, Options, Regression, RegressionMetrics,
};
use serde_json::{Value, json};

use crate::{Error, ErrorCode, Result};

/// The schema of a classifier's figures.
pub(super) const CLASSIFICATION_SCHEMA: &str =
    "gs://google-cloud-aiplatform/schema/modelevaluation/classification_metrics_1.0.0.yaml";

/// The schema of a regression's figures.
pub(super) const REGRESSION_SCHEMA: &str =
    "gs://google-cloud-aiplatform/schema/modelevaluation/regression_metrics_1.0.0.yaml";

/// Figures of one set of rows, in the making.
#[derive(Debug, Clone)]
pub(super) enum Figures {
    /// Of a classifier.
    Classes(Classification),
    /// Of a classifier of which any number of labels may be right, at a threshold.
    Labels(MultiLabel, f32),
    /// Of a regression.
    Value(Regression),
}

impl Figures {
    /// For `classes` classes.
    pub(super) fn classes(classes: usize, options: Options) -> Result<Self> {
        let figures = Classification::new(classes, options);
        figures
            .map(Figures::Classes)
            .ok_or_else(|| Error::invalid(format!("a model with {classes} classes cannot be measured")))
    }

    /// For `labels` labels of which any number may be right.
    pub(super) fn labels(labels: usize, threshold: f32, options: Options) -> Result<Self> {
        let figures = MultiLabel::new(labels, threshold, options);
        figures
            .map(|figures| Figures::Labels(figures, threshold))
            .ok_or_else(|| Error::invalid(format!("a model with {labels} labels cannot be measured")))
    }

    /// The same, empty, with less memory: for one slice of many.
    pub(super) fn for_slice(&self, classes: usize) -> Result<Self> {
        match self {
            Figures::Classes(_) => Figures::classes(classes, Options::default().for_slice()),
            Figures::Labels(_, threshold) => {
                Figures::labels(classes, *threshold, Options::default().for_slice())
            }
            Figures::Value(_) => Ok(Figures::Value(Regression::new())),
        }
    }

    /// Adds what another has counted.
    pub(super) fn merge(&mut self, other: Figures) -> Result<()> {
        let differ = || Error::new(ErrorCode::Internal, "the model changed its kind while it was measured");
        match (self, other) {
            (Figures::Classes(ours), Figures::Classes(theirs)) => ours.merge(theirs).map_err(|_| differ()),
            (Figures::Labels(ours, _), Figures::Labels(theirs, _)) => {
                ours.merge(theirs).map_err(|_| differ())
            }
            (Figures::Value(ours), Figures::Value(theirs)) => {
                ours.merge(theirs);
                Ok(())
            }
            _ => Err(differ()),
        }
    }

    /// Rows counted.
    pub(super) fn rows(&self) -> u64 {
        match self {
            Figures::Classes(figures) => figures.rows(),
            Figures::Labels(figures, _) => figures.rows(),
            Figures::Value(figures) => figures.rows(),
        }
    }

    /// The schema of [`Figures::json`].
    pub(super) fn schema(&self) -> &'static str {
        match self {
            Figures::Classes(_) | Figures::Labels(..) => CLASSIFICATION_SCHEMA,
            Figures::Value(_) => REGRESSION_SCHEMA,
        }
    }

    /// The figures in their schema, and those of each class as `(class, figures)`.
    pub(super) fn json(&mut self, labels: &[String]) -> (Value, Vec<(String, Value)>) {
        match self {
            Figures::Classes(figures) => {
                let metrics = figures.metrics();
                let classes = labels.iter().cloned().zip(metrics.per_class.iter().map(class_json)).collect();
                (classification_json(&metrics, labels), classes)
            }
            Figures::Labels(figures, threshold) => {
                let metrics = figures.metrics();
                let classes = labels.iter().cloned().zip(metrics.per_label.iter().map(class_json)).collect();
                (labels_json(&metrics, labels, *threshold), classes)
            }
            Figures::Value(figures) => {
                (figures.metrics().map_or(Value::Null, |m| regression_json(&m)), Vec::new())
            }
        }
    }
}

fn classification_json(metrics: &ClassificationMetrics, labels: &[String]) -> Value {
    let specs: Vec<Value> = labels
        .iter()
        .enumerate()
        .map(|(i, label)| json!({ "id": i.to_string(), "displayName": label }))
        .collect();
    let rows: Vec<Vec<u64>> = (0..labels.len()).map(|truth| metrics.confusion.row(truth)).collect();
    let per_class: Vec<Value> =
        labels.iter().zip(&metrics.per_class).map(|(label, class)| summary_json(label, class)).collect();
    json!({
        "auPrc": area(metrics.micro.average_precision),
        "auRoc": area(metrics.micro.roc_auc),
        "logLoss": metrics.log_loss,
        "confidenceMetrics": metrics.curve.iter().map(point_json).collect::<Vec<_>>(),
        "confusionMatrix": { "annotationSpecs": specs, "rows": rows },
        "accuracy": metrics.accuracy,
        "rowCount": metrics.rows,
        "micro": averages_json(&metrics.micro),
        "macro": averages_json(&metrics.macro_),
        "weighted": averages_json(&metrics.weighted),
        "perClass": per_class,
    })
}

/// In the same schema, without what supposes one class a row.
fn labels_json(metrics: &MultiLabelMetrics, labels: &[String], threshold: f32) -> Value {
    let per_label: Vec<Value> =
        labels.iter().zip(&metrics.per_label).map(|(label, figures)| summary_json(label, figures)).collect();
    json!({
        "auPrc": area(metrics.micro.average_precision),
        "auRoc": area(metrics.micro.roc_auc),
        "subsetAccuracy": metrics.subset_accuracy,
        "hammingLoss": metrics.hamming_loss,
        "threshold": analysis::as_written(threshold),
        "rowCount": metrics.rows,
        "micro": averages_json(&metrics.micro),
        "macro": averages_json(&metrics.macro_),
        "weighted": averages_json(&metrics.weighted),
        "perClass": per_label,
    })
}

fn averages_json(averages: &analysis::Averages) -> Value {
    json!({
        "precision": averages.precision,
        "recall": averages.recall,
        "f1Score": averages.f1,
        "auRoc": area(averages.roc_auc),
        "auPrc": area(averages.average_precision),
    })
}

fn summary_json(label: &str, class: &ClassMetrics) -> Value {
    json!({
        "displayName": label,
        "support": class.support,
        "predicted": class.predicted,
        "precision": class.precision,
        "recall": class.recall,
        "f1Score": class.f1,
        "auRoc": area(class.roc_auc),
        "auPrc": area(class.average_precision),
    })
}

/// One class against the rest, in the same schema as the whole.
fn class_json(class: &ClassMetrics) -> Value {
    json!({
        "auPrc": area(class.average_precision),
        "auRoc": area(class.roc_auc),
        "confidenceMetrics": class.curve.iter().map(point_json).collect::<Vec<_>>(),
        "precision": class.precision,
        "recall": class.recall,
        "f1Score": class.f1,
        "support": class.support,
    })
}

fn point_json(point: &ConfidencePoint) -> Value {
    json!({
        "confidenceThreshold": point.threshold,
        "recall": point.recall,
        "precision": point.precision,
        "f1Score": point.f1,
        "f1ScoreMicro": point.f1,
        "f1ScoreMacro": point.f1_macro,
        "falsePositiveRate": point.false_positive_rate,
        "recallAt1": point.recall_at_1,
        "precisionAt1": point.precision_at_1,
        "f1ScoreAt1": point.f1_at_1,
        "falsePositiveRateAt1": point.false_positive_rate_at_1,
        "truePositiveCount": point.true_positives,
        "falsePositiveCount": point.false_positives,
        "falseNegativeCount": point.false_negatives,
        "trueNegativeCount": point.true_negatives,
    })
}

fn regression_json(metrics: &RegressionMetrics) -> Value {
    json!({
        "rootMeanSquaredError": metrics.root_mean_squared_error,
        "meanAbsoluteError": metrics.mean_absolute_error,
        "meanAbsolutePercentageError": metrics.mean_absolute_percentage_error,
        "rSquared": metrics.r_squared,
        "rootMeanSquaredLogError": metrics.root_mean_squared_log_error,
        "rowCount": metrics.rows,
    })
}

/// `None` where the area is not defined.
fn area(area: Option<Area>) -> Option<f64> {
    area.map(|area| area.value)
}
