//! What is served: names, types and shapes.

use serving::{Model, Pick, PredictorRoute};
use tensor::TensorSpec;

use super::datatype::Datatype;
use super::infer::dimensions;
use crate::http::App;
use crate::language::find_predictor;
use crate::tenant::Tenant;
use crate::{Code, Fault};

/// A model as the protocol describes it.
pub(super) struct Described {
    pub(super) name: String,
    pub(super) versions: Vec<String>,
    pub(super) platform: &'static str,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
}

/// An input or output.
pub(super) struct Port {
    pub(super) name: String,
    pub(super) datatype: &'static str,
    pub(super) shape: Vec<i64>,
    /// What its scores stand for.
    pub(super) labels: Option<Vec<String>>,
}

/// The model called `name`, or that version of it.
pub(super) fn describe(app: &App, project: &Tenant, name: &str, pick: Pick<'_>) -> Result<Described, Fault> {
    let route = find_predictor(app, project, name, pick)?;
    let model = &route.deployed.model;
    let port = |spec: &TensorSpec, labels: Option<Vec<String>>| Port {
        name: spec.name.clone(),
        datatype: Datatype::of(spec.data_type).name(),
        shape: dimensions(spec),
        labels,
    };
    let labels =
        |spec: &TensorSpec| (spec.shape.len() == 2).then(|| model.labels().map(<[_]>::to_vec)).flatten();
    Ok(Described {
        name: name.to_owned(),
        versions: versions(&route),
        platform: platform(model),
        inputs: model.ports().inputs.iter().map(|spec| port(spec, None)).collect(),
        outputs: model.ports().outputs.iter().map(|spec| port(spec, labels(spec))).collect(),
    })
}

fn versions(route: &PredictorRoute) -> Vec<String> {
    route.versions().iter().map(|deployed| deployed.version.to_string()).collect()
}

/// Whether the model called `name`, or that version of it, can be asked now.
pub(super) fn is_ready(app: &App, project: &Tenant, name: &str, pick: Pick<'_>) -> Result<bool, Fault> {
    match find_predictor(app, project, name, pick) {
        Ok(_) => Ok(true),
        Err(fault) if fault.code == Code::InvalidArgument => Err(fault),
        Err(_) => Ok(false),
    }
}

/// What computes a model, in Triton's word where it has one.
fn platform(model: &Model) -> &'static str {
    match model.manifest() {
        Some(_) => "meuse_trained",
        None if model.is_keras() => "keras",
        None if model.is_foreign() => "onnxruntime_onnx",
        None => "onnx",
    }
}
