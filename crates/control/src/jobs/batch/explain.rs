//! [`Explainer`]: attributions beside each prediction.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use formats::Value;
use serde_json::{Map, json};
use serving::{Explain, Explanation, Method};

use crate::jobs::model::LoadedModel;
use crate::{Error, ExplanationMethod, Result, Version};

/// Explains instances the way their version is explained.
pub(super) struct Explainer(Explain);

impl Explainer {
    /// With the version's own method, or the model's default where it has none.
    ///
    /// # Errors
    /// If the version explains by examples, which is for single instances.
    pub(super) fn new(version: &Version) -> Result<Self> {
        let method = match version.explanation.as_ref().map(|spec| spec.method) {
            Some(ExplanationMethod::IntegratedGradients { step_count }) => {
                Some(Method::IntegratedGradients { step_count })
            }
            Some(ExplanationMethod::SampledShapley { path_count }) => {
                Some(Method::SampledShapley { path_count })
            }
            Some(ExplanationMethod::NearestExamples { .. }) => {
                return Err(Error::precondition(
                    "the version explains by examples; a batch has attributions beside its predictions",
                ));
            }
            None => None,
        };
        Ok(Explainer(Explain { method, ..Explain::default() }))
    }

    /// One explanation an instance, in the form that online explanations have.
    pub(super) fn explain(
        &self,
        model: &LoadedModel,
        uri: &str,
        instances: &[Value],
    ) -> Result<Vec<serde_json::Value>> {
        Ok(model.explain(uri, instances, &self.0)?.iter().map(written).collect())
    }
}

fn written(explanation: &Explanation) -> serde_json::Value {
    let (mut features, mut tokens) = (Map::new(), Map::new());
    for attribution in &explanation.attributions {
        if let Some(drawn) = &attribution.heat_map {
            let picture = json!({ "b64_png": STANDARD.encode(drawn), "values": attribution.values });
            features.insert(attribution.feature.clone(), picture);
            continue;
        }
        let values = match (attribution.values.as_slice(), &attribution.tokens) {
            ([single], None) => json!(single),
            (several, _) => json!(several),
        };
        features.insert(attribution.feature.clone(), values);
        if let Some(words) = &attribution.tokens {
            let words: Vec<&str> = words.iter().map(|(_, word)| word.as_str()).collect();
            tokens.insert(attribution.feature.clone(), json!(words));
        }
    }
    let mut attribution = Map::new();
    attribution.insert("baselineOutputValue".to_owned(), json!(explanation.baseline_output));
    attribution.insert("instanceOutputValue".to_owned(), json!(explanation.instance_output));
    attribution.insert("featureAttributions".to_owned(), features.into());
    attribution.insert("outputIndex".to_owned(), json!([explanation.output_index]));
    if let Some(name) = &explanation.output_name {
        attribution.insert("outputDisplayName".to_owned(), json!(name));
    }
    attribution.insert("approximationError".to_owned(), json!(explanation.approximation_error));
    if tokens.is_empty() {
        return json!({ "attributions": [attribution] });
    }
    json!({ "attributions": [attribution], "tokens": tokens })
}
