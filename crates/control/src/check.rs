//! Bounds on what clients write into resources.

use std::collections::BTreeMap;

use crate::{Error, ExplanationMethod, ExplanationSpec, Result};

/// Characters of a display name at most.
const DISPLAY_NAME_MAX: usize = 128;
/// Bytes of a description at most.
const DESCRIPTION_BYTES_MAX: usize = 64 << 10;
/// Labels of a resource at most.
const LABELS_MAX: usize = 64;
/// Characters of a label's key, or of its value, at most.
const LABEL_MAX: usize = 64;
/// Bytes, in JSON, of what is kept only to be read back.
const JSON_BYTES_MAX: usize = 1 << 20;
/// Bytes of a URI at most.
const URI_BYTES_MAX: usize = 4 << 10;

/// Checks a display name: not empty, at most 128 characters, none of control.
pub(crate) fn display_name(text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(Error::invalid("display_name is empty; give one"));
    }
    if text.chars().count() > DISPLAY_NAME_MAX || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "display_name is longer than {DISPLAY_NAME_MAX} characters or holds control characters"
        )));
    }
    Ok(())
}

/// Checks a free text.
pub(crate) fn description(field: &str, text: &str) -> Result<()> {
    if text.len() > DESCRIPTION_BYTES_MAX {
        return Err(Error::invalid(format!("{field} is longer than {DESCRIPTION_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Checks labels: at most 64, keys and values of at most 64 characters, none of control, no empty key.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > LABELS_MAX {
        return Err(Error::invalid(format!("labels: there are more than {LABELS_MAX}")));
    }
    for (key, value) in labels {
        let sound = |text: &str| text.chars().count() <= LABEL_MAX && !text.chars().any(char::is_control);
        if key.is_empty() || !sound(key) || !sound(value) {
            return Err(Error::invalid(format!(
                "labels: key {key:?} or its value is empty, longer than {LABEL_MAX} characters or holds control \
                 characters"
            )));
        }
    }
    Ok(())
}

/// Checks what is kept only to be read back.
pub(crate) fn json(field: &str, value: &serde_json::Value) -> Result<()> {
    let mut counter = Counter(0);
    let fits = serde_json::to_writer(&mut counter, value).is_ok();
    if fits {
        Ok(())
    } else {
        Err(Error::invalid(format!("{field} is larger than {JSON_BYTES_MAX} bytes of JSON")))
    }
}

/// Counts what is written to it and fails beyond [`JSON_BYTES_MAX`].
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        if self.0 > JSON_BYTES_MAX { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Checks an address of an object or of a directory of them.
pub(crate) fn uri(field: &str, uri: &str) -> Result<()> {
    if uri.len() > URI_BYTES_MAX {
        return Err(Error::invalid(format!("{field} is longer than {URI_BYTES_MAX} bytes")));
    }
    crate::storage::ObjectUri::parse_prefix(uri).map(drop)
}

/// Checks an id that a client chose: letters, digits, `-`, `_` and `.`, a letter or digit first, at most
/// 63. A colon, which names elsewhere may hold, separates a custom method in a request's path.
pub(crate) fn id(field: &str, id: &str) -> Result<()> {
    let sound = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if id.len() <= 63 && id.bytes().all(sound) && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{field} {id:?} is no id: up to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
    )))
}

/// Checks an explanation specification's effort.
pub(crate) fn explanation(spec: &ExplanationSpec) -> Result<()> {
    json("explanation_spec", &spec.as_written)?;
    match spec.method {
        ExplanationMethod::SampledShapley { path_count } if !(1..=50).contains(&path_count) => Err(
            Error::invalid(format!("sampled_shapley_attribution.path_count is {path_count}; use 1 to 50")),
        ),
        ExplanationMethod::IntegratedGradients { step_count } if !(1..=100).contains(&step_count) => {
            Err(Error::invalid(format!(
                "integrated_gradients_attribution.step_count is {step_count}; use 1 to 100"
            )))
        }
        ExplanationMethod::NearestExamples { neighbor_count } if !(1..=1000).contains(&neighbor_count) => {
            Err(Error::invalid(format!("examples.neighbor_count is {neighbor_count}; use 1 to 1000")))
        }
        _ => Ok(()),
    }
}

/// As [`explanation`], of a version that is registered already.
pub(crate) fn later_explanation(spec: &ExplanationSpec) -> Result<()> {
    match spec.examples {
        Some(_) => Err(Error::invalid(
            "examples are indexed when a version is registered: upload a version with them, and deploy that",
        )),
        None => explanation(spec),
    }
}

/// Checks an alias: `[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]`.
pub(crate) fn alias(alias: &str) -> Result<()> {
    let bytes = alias.as_bytes();
    let sound = match bytes {
        [first, middle @ .., last] => {
            first.is_ascii_lowercase()
                && middle.len() <= 126
                && middle.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
                && (last.is_ascii_lowercase() || last.is_ascii_digit())
        }
        _ => false,
    };
    if sound {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{alias:?} is no alias: 2 to 128 letters, digits and `-`, a lower-case letter first, a lower-case letter or \
         digit last"
    )))
}

/// Checks a serving container's image: one of Google's prebuilt ones for prediction. No container is run;
/// the artifact's content decides what serves it.
pub(crate) fn image(uri: &str) -> Result<()> {
    const FAMILIES: [&str; 6] = ["sklearn", "xgboost", "tf", "tf2", "pytorch", "lightgbm"];
    let known = uri.rsplit_once("prediction/").is_some_and(|(registry, image)| {
        let google = registry.contains("vertex-ai/") || registry.contains("cloud-aiplatform/");
        let family = image.split_once(['-', '.', ':', '@']).map_or(image, |(family, _)| family);
        google && FAMILIES.contains(&family) && !image.contains('/')
    });
    if known && uri.len() <= URI_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "container_spec.image_uri {uri:?} is a container that this server would have to run, and it runs none: name \
         one of the prebuilt prediction images (…/vertex-ai/prediction/sklearn-cpu.1-5:latest, also xgboost, tf2, \
         pytorch) or none, and put an ONNX file or a Keras archive at \
         artifact_uri"
    )))
}

/// Puts `new` in place of `field`, if there is a new one.
pub(crate) fn replace<T: Clone>(field: &mut T, new: &Option<T>) {
    if let Some(new) = new {
        field.clone_from(new);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn aliases() {
        for good in ["default", "v1", "a0", "my-Alias-2", &format!("a{}z", "x".repeat(126))] {
            assert!(alias(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a", "1a", "A1", "-ab", "ab-", "aB", "a_b", "ä1", "a b", &format!("a{}z", "x".repeat(127))]
        {
            assert!(alias(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn images() {
        for good in [
            "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-5:latest",
            "europe-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-12:latest",
            "us-docker.pkg.dev/vertex-ai/prediction/pytorch-gpu.2-1@sha256:00",
            "gcr.io/cloud-aiplatform/prediction/xgboost-cpu.1-1:latest",
        ] {
            assert!(image(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "nginx",
            "docker.io/me/prediction/sklearn-cpu",
            "us-docker.pkg.dev/vertex-ai/training/tf-cpu",
        ] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_cannot_reach_elsewhere() {
        for bad in ["", "a/b", "..", ".a", "a:predict", "a b", "a@1", "%2e", "é", &"a".repeat(64)] {
            assert!(id("model_id", bad).is_err(), "{bad}");
        }
        for good in ["a", "7", "llama-3.1_8b", &"a".repeat(63)] {
            assert!(id("model_id", good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_only_kept_is_bounded() {
        assert!(json("x", &serde_json::json!({"a": "b".repeat(1 << 10)})).is_ok());
        assert!(json("x", &serde_json::json!({"a": "b".repeat(1 << 20)})).is_err());
    }
}
