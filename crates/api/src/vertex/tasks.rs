//! Training task definitions: what a client asks to be trained, as a [`TrainSpec`].

use formats::spec::TrainSpec;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::convert::whole_numbers;
use super::rpc::read_value;
use crate::Fault;

/// Our own definition: the inputs are a training specification, or what Keras' `to_json()` prints.
pub(super) const TRAIN: &str = "gs://meuse/schema/trainingjob/definition/network_1.0.0.yaml";
const TABULAR: &str = "automl_tabular";
const TEXT: &str = "automl_text_classification";

/// The columns that a text dataset has.
const TEXT_COLUMN: &str = "text";
const TEXT_LABEL_COLUMN: &str = "label";

/// A task as it will be run.
#[derive(Debug)]
pub(super) struct Task {
    /// The specification.
    pub(super) spec: TrainSpec,
    /// Rows that the inputs themselves name; without, the pipeline's dataset has them.
    pub(super) uris: Vec<String>,
}

/// Reads `inputs` as `definition` says. `validation` is the share of rows to keep aside.
///
/// # Errors
/// If the definition is none that is known, or the inputs do not follow it.
pub(super) fn read(definition: &str, inputs: Value, validation: Option<f64>) -> Result<Task, Fault> {
    let inputs = match whole_numbers(inputs) {
        Value::Object(fields) => fields,
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|e| Fault::invalid(format!("trainingTaskInputs is a text that is not JSON: {e}")))?,
        Value::Null => Map::new(),
        _ => return Err(Fault::invalid("trainingTaskInputs must be an object")),
    };
    let file = definition.rsplit('/').next().unwrap_or("");
    if definition == TRAIN {
        return own(inputs, validation);
    }
    let document = if file.starts_with(TABULAR) {
        tabular(read_value(Value::Object(inputs))?)?
    } else if file.starts_with(TEXT) {
        text(&read_value(Value::Object(inputs))?)?
    } else {
        return Err(Fault::unimplemented(format!(
            "trainingTaskDefinition {definition:?} is not served; these are: {TRAIN}, {TABULAR}, {TEXT}"
        )));
    };
    Ok(Task { spec: spec(document, validation)?, uris: Vec::new() })
}

fn own(mut inputs: Map<String, Value>, validation: Option<f64>) -> Result<Task, Fault> {
    let uris = match inputs.remove("gcsSource") {
        Some(source) => read_value::<super::datasets::SourceWire>(source)?.uris,
        None => Vec::new(),
    };
    Ok(Task { spec: spec(inputs, validation)?, uris })
}

fn spec(mut document: Map<String, Value>, validation: Option<f64>) -> Result<TrainSpec, Fault> {
    if let Some(validation) = validation {
        document.insert("validation_split".to_owned(), json!(validation));
    }
    let text = Value::Object(document).to_string();
    TrainSpec::from_json(&text).map_err(|e| Fault::invalid(format!("trainingTaskInputs: {e}")))
}

/// `AutoMlTablesInputs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TabularWire {
    target_column: String,
    #[serde(default)]
    prediction_type: Option<String>,
    #[serde(default)]
    transformations: Option<Vec<Map<String, Value>>>,
    #[serde(default)]
    optimization_objective: Option<String>,
    /// An upper bound that this network stays far below.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    train_budget_milli_node_hours: Option<Value>,
    #[serde(default)]
    disable_early_stopping: bool,
    // The library sends these as null when they are not set.
    #[serde(default)]
    weight_column_name: Option<Value>,
    #[serde(default)]
    optimization_objective_recall_value: Option<Value>,
    #[serde(default)]
    optimization_objective_precision_value: Option<Value>,
    #[serde(default)]
    additional_experiments: Option<Vec<Value>>,
}

fn tabular(wire: TabularWire) -> Result<Map<String, Value>, Fault> {
    let experiments = wire.additional_experiments.filter(|list| !list.is_empty()).map(Value::from);
    for (name, value) in [
        ("weightColumnName", wire.weight_column_name),
        ("optimizationObjectiveRecallValue", wire.optimization_objective_recall_value),
        ("optimizationObjectivePrecisionValue", wire.optimization_objective_precision_value),
        ("additionalExperiments", experiments),
    ] {
        if value.is_some_and(|value| !value.is_null()) {
            return Err(no_effect(name));
        }
    }
    let mut document = Map::new();
    document.insert("label".to_owned(), wire.target_column.clone().into());
    match wire.prediction_type.as_deref() {
        Some(task @ ("classification" | "regression")) => document.insert("task".to_owned(), task.into()),
        None | Some("") => None,
        Some(other) => {
            let message = format!(
                "trainingTaskInputs.predictionType {other:?} is not served: classification and regression are"
            );
            return Err(Fault::unimplemented(message));
        }
    };
    match wire.optimization_objective.as_deref() {
        None | Some("" | "minimize-log-loss" | "minimize-rmse") => {}
        Some(_) => return Err(no_effect("optimizationObjective")),
    }
    if let Some(features) = features(&wire.target_column, &wire.transformations.unwrap_or_default())? {
        document.insert("features".to_owned(), features);
    }
    automl_defaults(&mut document, wire.disable_early_stopping);
    Ok(document)
}

/// The features that transformations describe; `None` when every column is left to be inferred.
fn features(target: &str, transformations: &[Map<String, Value>]) -> Result<Option<Value>, Fault> {
    let mut features = Vec::new();
    let mut inferred = 0;
    for transformation in transformations {
        let (kind, detail) =
            transformation.iter().next().map_or(("", &Value::Null), |(k, v)| (k.as_str(), v));
        let column = detail.get("columnName").or_else(|| detail.get("column_name")).and_then(Value::as_str);
        let column =
            column.ok_or_else(|| Fault::invalid(format!("transformation {kind:?} names no column")))?;
        if column == target {
            continue;
        }
        match kind {
            "auto" => inferred += 1,
            "numeric" | "categorical" | "text" => features.push(json!({kind: column})),
            other => {
                let message = format!(
                    "transformation {other:?} is not served: numeric, categorical, text and auto are"
                );
                return Err(Fault::unimplemented(message));
            }
        }
    }
    match (inferred, features.is_empty()) {
        (_, true) => Ok(None),
        (0, false) => Ok(Some(features.into())),
        _ => Err(Fault::unimplemented(
            "`auto` beside other transformations is not served: say numeric, categorical or text for each column",
        )),
    }
}

/// `AutoMlTextClassificationInputs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TextWire {
    #[serde(default, alias = "multi_label")]
    multi_label: bool,
}

fn text(wire: &TextWire) -> Result<Map<String, Value>, Fault> {
    if wire.multi_label {
        return Err(Fault::unimplemented("several labels a text are not served: leave multiLabel out"));
    }
    let mut document = Map::new();
    document.insert("label".to_owned(), TEXT_LABEL_COLUMN.into());
    document.insert("task".to_owned(), "classification".into());
    document.insert("features".to_owned(), json!([{"text": TEXT_COLUMN}]));
    automl_defaults(&mut document, false);
    Ok(document)
}

/// What Google's AutoML chooses for itself, chosen here once: enough epochs to settle, and the best of
/// them kept unless early stopping is turned off.
fn automl_defaults(document: &mut Map<String, Value>, disable_early_stopping: bool) {
    document.insert("epochs".to_owned(), json!(if disable_early_stopping { 20 } else { 50 }));
    document.insert("metrics".to_owned(), json!(["accuracy"]));
    document.insert("validation_split".to_owned(), json!(0.1));
    if !disable_early_stopping {
        let stopping = json!({"monitor": "val_loss", "patience": 3, "restore_best": true});
        document.insert("early_stopping".to_owned(), stopping);
    }
}

fn no_effect(name: &str) -> Fault {
    Fault::unimplemented(format!(
        "field `trainingTaskInputs.{name}` has no effect on this server: leave it out"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use formats::spec::Feature;

    use super::*;

    #[test]
    fn our_own_inputs_are_a_specification() {
        let inputs = json!({
            "label": "class", "epochs": 3.0, "features": [{"text": "words"}],
            "layers": [{"dense": 64.0, "activation": "relu"}, {"dense": "labels", "activation": "softmax"}],
            "gcsSource": {"uris": ["gs://b/rows.csv"]},
        });
        let task = read(TRAIN, inputs, None).unwrap();
        assert_eq!(task.spec.epochs, 3);
        assert_eq!(task.spec.label, "class");
        assert_eq!(task.uris, ["gs://b/rows.csv"]);
    }

    #[test]
    fn tabular_inputs_of_the_library_become_a_specification() {
        let inputs = json!({
            "targetColumn": "species",
            "transformations": [{"numeric": {"columnName": "length"}}, {"categorical": {"columnName": "island"}}],
            "trainBudgetMilliNodeHours": 1000.0, "weightColumnName": null, "disableEarlyStopping": false,
            "optimizationObjective": null, "predictionType": "classification",
            "optimizationObjectiveRecallValue": null, "optimizationObjectivePrecisionValue": null,
        });
        let definition =
            "gs://google-cloud-aiplatform/schema/trainingjob/definition/automl_tabular_1.0.0.yaml";
        let task = read(definition, inputs, None).unwrap();
        assert_eq!(task.spec.label, "species");
        assert!(matches!(
            task.spec.features.unwrap().as_slice(),
            [Feature::Numeric { .. }, Feature::Categorical { .. }]
        ));
        assert!(task.spec.early_stopping.is_some());
        let auto = json!({"targetColumn": "y", "transformations": [{"auto": {"columnName": "a"}}]});
        assert!(read(definition, auto, None).unwrap().spec.features.is_none());
        let weighted = json!({"targetColumn": "y", "weightColumnName": "w"});
        assert!(read(definition, weighted, None).unwrap_err().message.contains("weightColumnName"));
    }

    #[test]
    fn text_inputs_of_the_library_become_a_specification() {
        let definition = "gs://google-cloud-aiplatform/schema/trainingjob/definition/automl_text_classification_1.0.0.yaml";
        let task = read(definition, json!({"multiLabel": false}), Some(0.2)).unwrap();
        assert_eq!(task.spec.label, "label");
        assert_eq!(task.spec.validation_split, 0.2);
        assert!(read(definition, json!({"multiLabel": true}), None).is_err());
        assert!(read("gs://x/custom_task_1.0.0.yaml", json!({}), None).is_err());
    }
}
