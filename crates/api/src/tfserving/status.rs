//! Which versions of a model serve, and what they take and give.

use http::StatusCode;
use serde_json::{Map, Value, json};
use serving::{Pick, PredictorRoute};
use tensor::{DataType, Dim, TensorSpec};

use super::{Named, Place, SIGNATURE};
use crate::Fault;
use crate::http::{Call, Response, json_reply};
use crate::language::{find_predictor, project_of};

/// `GET …/versions/{version}` and `…/labels/{label}`.
pub(super) async fn status(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let named = Named::of(&call)?;
    let route = find_predictor(&call.app, &project, &named.model, named.pick(Pick::Most))?;
    let version = match named.place {
        Place::Anywhere => None,
        _ => Some(route.deployed.version),
    };
    json_reply(StatusCode::OK, &json!({"model_version_status": of_versions(&route, version)}))
}

/// The status of the versions that serve, or of one of them.
pub(crate) fn of_versions(route: &PredictorRoute, only: Option<u32>) -> Vec<Value> {
    // The newest comes first.
    let versions = route.versions().into_iter().rev().map(|deployed| deployed.version);
    let wanted = versions.filter(|version| only.is_none_or(|only| only == *version));
    let status = wanted.map(|version| {
        json!({
            "version": version.to_string(),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        })
    });
    status.collect()
}

/// `GET …/metadata`.
pub(super) async fn metadata(call: Call) -> Result<Response, Fault> {
    let project = project_of(&call, None)?;
    let named = Named::of(&call)?;
    let route = find_predictor(&call.app, &project, &named.model, named.pick(Pick::Most))?;
    let ports = route.deployed.model.ports();
    let signature = json!({
        "inputs": tensors(&ports.inputs),
        "outputs": tensors(&ports.outputs),
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    });
    let version = route.deployed.version.to_string();
    let model = json!({"name": named.model, "signature_name": "", "version": version});
    let signatures = json!({SIGNATURE: signature});
    let metadata = json!({"signature_def": {"signature_def": signatures}});
    json_reply(StatusCode::OK, &json!({"model_spec": model, "metadata": metadata}))
}

fn tensors(specs: &[TensorSpec]) -> Map<String, Value> {
    let tensor = |spec: &TensorSpec| {
        let data_type = match spec.data_type {
            DataType::F32 => "DT_FLOAT",
            DataType::I32 => "DT_INT32",
            DataType::Text => "DT_STRING",
        };
        let size = |dim: &Dim| match dim {
            Dim::Any => "-1".to_owned(),
            Dim::Fixed(n) => n.to_string(),
        };
        let dims: Vec<Value> = spec.shape.iter().map(|dim| json!({"size": size(dim), "name": ""})).collect();
        json!({
            "dtype": data_type,
            "tensor_shape": {"dim": dims, "unknown_rank": false},
            "name": spec.name,
        })
    };
    specs.iter().map(|spec| (spec.name.clone(), tensor(spec))).collect()
}
