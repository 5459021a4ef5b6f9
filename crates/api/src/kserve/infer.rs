//! One inference, whatever carries it: tensors by name in, the wanted outputs out.

use std::time::Instant;

use bytes::Bytes;
use serving::{Model, PredictorRoute};
use tensor::features::ColumnKind;
use tensor::{Data, Dim, Tensor, TensorSpec, Tensors};

use super::datatype::{Datatype, Elements, Wanted, from_bytes, from_elements};
use crate::fields::invalid;
use crate::http::App;
use crate::{Fault, metering};

/// The most inputs, or outputs, that a request may name.
pub(super) const PORTS_MAX: usize = 16_384;

/// The longest name of a tensor or of its type, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// An input as it came.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
    pub(super) contents: Contents,
}

/// The elements of an input.
pub(super) enum Contents {
    Binary(Bytes),
    Elements(Elements),
}

/// An output that is wanted.
pub(super) struct Output {
    pub(super) name: String,
    /// The most likely classes, so many of them, in place of the scores.
    pub(super) classes: Option<u32>,
    /// Whether it is told in the binary form, in protocols that have another.
    pub(super) binary: bool,
}

/// An output as it goes.
pub(super) struct Answer {
    pub(super) name: String,
    pub(super) datatype: Datatype,
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
    pub(super) binary: bool,
}

/// Asks the model that was chosen. Without `wanted` all outputs are told, in the binary form if `binary`.
pub(super) async fn infer(
    app: &App,
    route: &PredictorRoute,
    inputs: Vec<Input>,
    wanted: Option<Vec<Output>>,
    binary: bool,
    deadline: Instant,
) -> Result<Vec<Answer>, Fault> {
    let model = &route.deployed.model;
    let outputs = &model.ports().outputs;
    let all = || outputs.iter().map(|spec| Output { name: spec.name.clone(), classes: None, binary });
    let wanted = wanted.unwrap_or_else(|| all().collect());
    check(&wanted, outputs)?;
    let tensors = inputs.into_iter().map(|input| bound(model, input)).collect::<Result<Tensors, Fault>>()?;
    // Each row of the first input is one; a network without rows is asked once.
    let rows = tensors.first().map_or(1, |(_, tensor)| tensor.shape().first().copied().unwrap_or(1));
    metering::reserve_rows(app, &route.deployed, rows)?;
    let mut told = app.router.infer(route, tensors, deadline).await?;
    metering::predicted(app, rows).await;
    let answers = wanted.into_iter().map(|wanted| {
        let absent =
            || Fault::internal("reading the model's outputs", format!("no output `{}`", wanted.name));
        let place = told.iter().position(|(name, _)| *name == wanted.name).ok_or_else(absent)?;
        let (name, tensor) = told.swap_remove(place);
        answer(model, name, tensor, &wanted)
    });
    answers.collect()
}

/// Refuses a name that no tensor has, before it stands in any text.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    match name.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(Fault::invalid(format!("a name is longer than {NAME_BYTES_MAX} bytes"))),
    }
}

/// Whether the model gives what is wanted, each once.
fn check(wanted: &[Output], outputs: &[TensorSpec]) -> Result<(), Fault> {
    let mut seen = vec![false; outputs.len()];
    for output in wanted {
        let place = outputs.iter().position(|spec| spec.name == output.name);
        let Some(seen) = place.and_then(|place| seen.get_mut(place)) else {
            let names: Vec<String> = outputs.iter().take(8).map(|spec| format!("`{}`", spec.name)).collect();
            let message =
                format!("`{}` is not an output of the model, which gives {}", output.name, names.join(", "));
            return Err(Fault::invalid(message));
        };
        if std::mem::replace(seen, true) {
            return Err(Fault::invalid(format!("output `{}` is asked for twice", output.name)));
        }
    }
    Ok(())
}

/// The tensor of an input, in the model's own element type.
fn bound(model: &Model, input: Input) -> Result<(String, Tensor), Fault> {
    let Input { name, datatype, shape, contents } = input;
    let wrong = |what: String| Fault::invalid(format!("input `{name}`: {what}"));
    let known = Datatype::parse(&datatype);
    let kind = known.ok_or_else(|| wrong(format!("`{datatype}` is no datatype of this protocol")))?;
    let sizes: Option<Vec<usize>> = shape.iter().map(|n| usize::try_from(*n).ok()).collect();
    let count = |sizes: &Vec<usize>| sizes.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
    let (sizes, count) = sizes
        .and_then(|sizes| count(&sizes).map(|count| (sizes, count)))
        .ok_or_else(|| wrong(format!("{shape:?} is no shape of a tensor")))?;
    let Some(wanted) = model.ports().inputs.iter().find(|spec| spec.name == name) else {
        let names: Vec<String> =
            model.ports().inputs.iter().take(8).map(|spec| format!("`{spec}`")).collect();
        return Err(Fault::invalid(format!(
            "`{name}` is not an input of the model, which takes {}",
            names.join(", ")
        )));
    };
    let columns = model.columns().unwrap_or_default();
    let image = columns.iter().any(|column| column.kind == ColumnKind::Image && column.name == name);
    let wanted = Wanted { data_type: wanted.data_type, image };
    let data = match contents {
        Contents::Binary(bytes) => from_bytes(kind, &bytes, count, wanted),
        Contents::Elements(elements) => from_elements(kind, elements, count, wanted),
    };
    let tensor = Tensor::new(sizes, data.map_err(wrong)?).map_err(|e| wrong(e.to_string()))?;
    Ok((name, tensor))
}

fn answer(model: &Model, name: String, tensor: Tensor, wanted: &Output) -> Result<Answer, Fault> {
    let datatype = Datatype::of(tensor.data().data_type());
    let Some(classes) = wanted.classes else {
        let (shape, data) = tensor.into_parts();
        return Ok(Answer { name, datatype, shape, data, binary: wanted.binary });
    };
    let (Some(scores), [rows, width]) = (tensor.as_f32(), tensor.shape()) else {
        let message = format!("output `{name}` holds no scores of classes");
        return Err(invalid("classification", message));
    };
    let kept = (classes as usize).min(*width);
    let labels = model.labels().unwrap_or_default();
    let mut told = Vec::with_capacity(rows * kept);
    for row in scores.chunks_exact((*width).max(1)) {
        let mut places: Vec<usize> = (0..row.len()).collect();
        places.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        told.extend(places.iter().take(kept).map(|&place| match labels.get(place) {
            Some(label) => format!("{}:{place}:{label}", row[place]),
            None => format!("{}:{place}", row[place]),
        }));
    }
    let shape = vec![*rows, kept];
    Ok(Answer { name, datatype: Datatype::Bytes, shape, data: Data::Text(told), binary: wanted.binary })
}

/// The dimensions of a port as the protocol has them: -1 for any size.
pub(super) fn dimensions(spec: &TensorSpec) -> Vec<i64> {
    let size = |dim: &Dim| match dim {
        Dim::Any => -1,
        Dim::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
    };
    spec.shape.iter().map(size).collect()
}
