//! Fields that are taken and have no effect, because what they steer does not exist here.
//!
//! Everything else that is known to the API and has no effect is refused by name. The list is part of
//! the compatibility table in the README.

use serde_json::Value;

/// Dotted paths from the request's top, each with what makes it harmless.
const HARMLESS: [(&str, &str); 14] = [
    ("serviceAccount", "no container runs, so none acts under an account"),
    ("model.pipelineJob", "a note of who made the model"),
    ("model.metadataSchemaUri", "describes metadata that is not read"),
    ("model.predictSchemata", "the model's own signature decides"),
    ("deployedModel.serviceAccount", "no container runs, so none acts under an account"),
    ("deployedModel.disableContainerLogging", "no container runs, so none logs"),
    ("deployedModel.enableAccessLogging", "requests are never logged"),
    ("batchPredictionJob.serviceAccount", "no container runs, so none acts under an account"),
    ("batchPredictionJob.disableContainerLogging", "no container runs, so none logs"),
    ("batchPredictionJob.manualBatchTuningParameters", "rows are grouped by what the machine holds"),
    ("pipelineJob.serviceAccount", "no container runs, so none acts under an account"),
    ("trainingPipeline.inputDataConfig.persistMlUseAssignment", "the split is a function of the seed"),
    ("modelEvaluation.dataItemSchemaUri", "a note on rows that are not read"),
    ("modelEvaluation.annotationSchemaUri", "a note on rows that are not read"),
];

/// Takes the harmless fields out of `request`.
pub(super) fn drop_harmless(request: &mut Value) {
    for (path, _) in HARMLESS {
        remove(request, path);
    }
}

fn remove(value: &mut Value, path: &str) {
    let Some(fields) = value.as_object_mut() else { return };
    match path.split_once('.') {
        None => {
            fields.remove(path);
        }
        Some((head, rest)) => {
            if let Some(inner) = fields.get_mut(head) {
                remove(inner, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn harmless_fields_go_and_others_stay() {
        let mut request =
            json!({"serviceAccount": "a", "deployedModel": {"enableAccessLogging": true, "model": "m"}});
        drop_harmless(&mut request);
        assert_eq!(request, json!({"deployedModel": {"model": "m"}}));
    }
}
