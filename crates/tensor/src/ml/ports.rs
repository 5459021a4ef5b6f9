//! Inputs and outputs of an [`Evaluator`](super::Evaluator): types declared, tensors in and out, class labels.

use rten_onnx::onnx::{DataType as Element, GraphProto, NodeProto};

use super::attributes::Attributes;
use super::value::{Array, Value};
use super::{DOMAIN, Extent, Fault, Inputs, InspectedPort, Inspection, Labels, LoadError, Run, domain};
use crate::{Data, DataType, Dim, Tensor, TensorSpec};

/// How an input is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F64,
    I64,
    Bool,
    Text,
}

/// The inputs and outputs that a file declares.
pub(super) struct Ports {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) kinds: Vec<Kind>,
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) notes: Vec<String>,
}

impl Ports {
    pub(super) fn of(inspection: &Inspection) -> Result<Ports, LoadError> {
        let (mut inputs, mut kinds, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        for port in inspection.inputs.iter().filter(|port| !inspection.initializers.contains(&port.name)) {
            let what = || format!("input `{}`", port.name);
            let refuse = |kind: &str, advice| {
                Err(LoadError::UnsupportedType { what: what(), kind: kind.to_owned(), advice })
            };
            let (data_type, kind) = match port.element {
                Some(Element::FLOAT) => (DataType::F32, Kind::F32),
                Some(Element::DOUBLE) => {
                    notes.push(format!("{} is DOUBLE in the file, carried as float32 here", what()));
                    (DataType::F32, Kind::F64)
                }
                Some(Element::INT64) => {
                    notes.push(format!("{} is INT64 in the file, carried as int32 here", what()));
                    (DataType::I32, Kind::I64)
                }
                Some(Element::INT32) => (DataType::I32, Kind::I64),
                Some(Element::BOOL) => (DataType::I32, Kind::Bool),
                Some(Element::STRING) => (DataType::Text, Kind::Text),
                Some(other) => return refuse(&other.to_string(), ""),
                None => return refuse("not a tensor", ": export the model without sequences and maps"),
            };
            if port.dims.is_none() {
                let advice = ": export the model with the shapes of its inputs";
                return refuse("of unknown rank", advice);
            }
            inputs.push(spec(port, data_type));
            kinds.push(kind);
        }
        let outputs = inspection.outputs.iter().map(|port| {
            let data_type = match port.element {
                Some(Element::STRING) => DataType::Text,
                Some(Element::INT64 | Element::INT32 | Element::BOOL) => DataType::I32,
                // What is no tensor is a list of maps from class to score, and given as the scores.
                _ => DataType::F32,
            };
            spec(port, data_type)
        });
        Ok(Ports { outputs: outputs.collect(), inputs, kinds, notes })
    }
}

fn spec(port: &InspectedPort, data_type: DataType) -> TensorSpec {
    let dim = |extent: &Extent| match extent {
        Extent::Fixed(n) => Dim::Fixed(*n),
        Extent::Named(_) | Extent::Unknown => Dim::Any,
    };
    let dims = port.element.and(port.dims.as_ref());
    let shape = dims.map_or_else(|| vec![Dim::Any, Dim::Any], |dims| dims.iter().map(dim).collect());
    TensorSpec { name: port.name.clone(), data_type, shape }
}

impl Kind {
    /// A tensor of the declared type, which was checked, as a value.
    pub(super) fn value(self, tensor: &Tensor) -> Result<Value, Fault> {
        let array = match (self, tensor.data()) {
            (Kind::F32, Data::F32(v)) => Array::F32(v.clone()),
            (Kind::F64, Data::F32(v)) => Array::F64(v.iter().map(|&x| f64::from(x)).collect()),
            (Kind::I64, Data::I32(v)) => Array::I64(v.iter().map(|&x| i64::from(x)).collect()),
            (Kind::Bool, Data::I32(v)) => Array::Bool(v.iter().map(|&x| x != 0).collect()),
            (Kind::Text, Data::Text(v)) => Array::Text(v.clone()),
            _ => return Err(Fault::new("is of another type than declared")),
        };
        Value::new(tensor.shape().to_vec(), array)
    }
}

/// A value as a tensor of the declared type.
pub(super) fn tensor(value: &Value, spec: &TensorSpec) -> Result<Tensor, Fault> {
    let name = &spec.name;
    let data = match (spec.data_type, &value.array) {
        (DataType::F32, Array::F32(v)) => Data::F32(v.clone()),
        (DataType::F32, Array::F64(v)) => Data::F32(v.iter().map(|&x| x as f32).collect()),
        (DataType::I32, Array::I64(v)) => {
            let beyond = |_| Fault::new(format!("`{name}` has an integer beyond int32"));
            Data::I32(v.iter().map(|&i| i32::try_from(i)).collect::<Result<_, _>>().map_err(beyond)?)
        }
        (DataType::I32, Array::Bool(v)) => Data::I32(v.iter().map(|&b| i32::from(b)).collect()),
        (DataType::Text, Array::Text(v)) => Data::Text(v.clone()),
        _ => return Err(Fault::new(format!("`{name}` is of another type than declared"))),
    };
    Tensor::new(value.shape.clone(), data).map_err(|error| Fault::new(error.to_string()))
}

/// `ZipMap` names the columns of its input. They stay columns here; [`classes`] has their names.
pub(super) fn zip_map(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let labels = attributes.labels("classlabels_strings", "classlabels_int64s")?;
    let count = labels.map_or(0, |labels| labels.len());
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        match value.shape.last() {
            Some(&width) if width == count => Ok(vec![value.clone()]),
            _ => Err(Fault::new(format!("it names {count} columns of shape {:?}", value.shape))),
        }
    }))
}

/// The labels of the classes, if the outputs are a label and a score for each class: those of the classifier, or
/// of the `ZipMap`, that the scores come from.
pub(super) fn classes(graph: &GraphProto, outputs: &[TensorSpec]) -> Option<Vec<String>> {
    let [first, second] = outputs else { return None };
    let (label, scores) = match (first.data_type, second.data_type) {
        (DataType::I32 | DataType::Text, DataType::F32) => (first, second),
        (DataType::F32, DataType::I32 | DataType::Text) => (second, first),
        _ => return None,
    };
    if !matches!(label.shape.as_slice(), [_] | [_, Dim::Fixed(1)]) || scores.shape.len() != 2 {
        return None;
    }
    let mut wanted = scores.name.as_str();
    // Nodes come after those that they depend on: one way back passes each at most once.
    for node in graph.node.iter().rev().filter(|node| node.op_type.is_some()) {
        let Some(at) = node.output.iter().position(|name| name == wanted) else { continue };
        let labels = match (domain(node.domain.as_deref()), node.op_type.as_deref().unwrap_or_default(), at) {
            (DOMAIN, "ZipMap", 0) | (DOMAIN, "TreeEnsembleClassifier", 1) => {
                labels(node, "classlabels_strings", "classlabels_int64s")
            }
            // Without probabilities the scores are of pairs of classes.
            (DOMAIN, "SVMClassifier", 1) => {
                let of = Attributes::of(node, 0);
                let labels = labels(node, "classlabels_strings", "classlabels_ints");
                labels.filter(|labels| labels.len() == 2 || !of.floats("prob_a").is_empty())
            }
            (DOMAIN, "LinearClassifier", 1) => labels(node, "classlabels_strings", "classlabels_ints"),
            (DOMAIN, "Normalizer", 0) | ("", "Cast" | "Identity" | "Reshape" | "Softmax" | "Sigmoid", 0) => {
                wanted = node.input.first()?;
                continue;
            }
            _ => return None,
        };
        return labels.filter(|labels| labels.len() >= 2).map(|labels| labels.names());
    }
    None
}

fn labels(node: &NodeProto, texts: &'static str, ints: &'static str) -> Option<Labels> {
    Attributes::of(node, 0).labels(texts, ints).ok().flatten()
}
