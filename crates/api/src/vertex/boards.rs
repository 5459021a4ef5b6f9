//! Tensorboards: the curves that clients keep of their runs, numbers by steps.

use control::{Board, BoardKind, CurvePoint};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::convert::time;
use super::metadata::{object, patch};
use super::models::take_text;
use super::operations;
use super::rpc::{Rpc, Served, page, procedure, read_value};
use super::words::{self, with};
use crate::Fault;
use crate::http::Permission::{Read, Write};

type Words = words::Words<BoardKind>;

const TENSORBOARD: Words =
    Words { kind: BoardKind::Tensorboard, field: "tensorboard", id: "", list: "tensorboards" };
const EXPERIMENT: Words = Words {
    kind: BoardKind::Experiment,
    field: "tensorboardExperiment",
    id: "tensorboardExperimentId",
    list: "tensorboardExperiments",
};
const RUN: Words =
    Words { kind: BoardKind::Run, field: "tensorboardRun", id: "tensorboardRunId", list: "tensorboardRuns" };
const TIME_SERIES: Words = Words {
    kind: BoardKind::TimeSeries,
    field: "tensorboardTimeSeries",
    id: "tensorboardTimeSeriesId",
    list: "tensorboardTimeSeries",
};

/// Points of a curve that are read at once, where nobody says how many.
const POINTS: usize = 1000;
/// Curves that are read in one call, at most.
const BATCH_MAX: usize = 100;

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    let of = |words: Words, names: [&'static str; 5]| {
        let [created, got, listed, updated, deleted] = names;
        [
            procedure(created, Write, with(words, create)),
            procedure(got, Read, with(words, get)),
            procedure(listed, Read, with(words, list)),
            procedure(updated, Write, with(words, update)),
            procedure(deleted, Write, with(words, delete)),
        ]
    };
    let boards = [
        "TensorboardService.CreateTensorboard",
        "TensorboardService.GetTensorboard",
        "TensorboardService.ListTensorboards",
        "TensorboardService.UpdateTensorboard",
        "TensorboardService.DeleteTensorboard",
    ];
    let experiments = [
        "TensorboardService.CreateTensorboardExperiment",
        "TensorboardService.GetTensorboardExperiment",
        "TensorboardService.ListTensorboardExperiments",
        "TensorboardService.UpdateTensorboardExperiment",
        "TensorboardService.DeleteTensorboardExperiment",
    ];
    let runs = [
        "TensorboardService.CreateTensorboardRun",
        "TensorboardService.GetTensorboardRun",
        "TensorboardService.ListTensorboardRuns",
        "TensorboardService.UpdateTensorboardRun",
        "TensorboardService.DeleteTensorboardRun",
    ];
    let series = [
        "TensorboardService.CreateTensorboardTimeSeries",
        "TensorboardService.GetTensorboardTimeSeries",
        "TensorboardService.ListTensorboardTimeSeries",
        "TensorboardService.UpdateTensorboardTimeSeries",
        "TensorboardService.DeleteTensorboardTimeSeries",
    ];
    let points = [
        procedure("TensorboardService.WriteTensorboardRunData", Write, write),
        procedure("TensorboardService.ReadTensorboardTimeSeriesData", Read, read_one),
        procedure("TensorboardService.BatchReadTensorboardTimeSeriesData", Read, read_several),
    ];
    let kinds =
        [of(TENSORBOARD, boards), of(EXPERIMENT, experiments), of(RUN, runs), of(TIME_SERIES, series)];
    kinds.into_iter().flatten().chain(points).collect()
}

async fn create(mut rpc: Rpc, words: Words) -> Result<Value, Fault> {
    let content = known(object(rpc.request.remove(words.field)));
    scalars_only(content.get("valueType"))?;
    let id = Some(rpc.text(words.id).to_owned()).filter(|id| !id.is_empty());
    let board = rpc.control().boards().create(words.kind, rpc.text("parent"), id, content).await?;
    if words.kind == BoardKind::Tensorboard {
        let name = board.name.clone();
        return operations::done(
            &rpc,
            &name,
            "CreateTensorboardOperationMetadata",
            "Tensorboard",
            to_wire(board),
        );
    }
    Ok(to_wire(board))
}

async fn get(rpc: Rpc, words: Words) -> Result<Value, Fault> {
    Ok(to_wire(rpc.control().boards().get(words.kind, rpc.text("name")).await?))
}

async fn list(rpc: Rpc, words: Words) -> Result<Value, Fault> {
    let boards = rpc.control().boards().list(words.kind, rpc.text("parent"), &rpc.list_query()?).await?;
    Ok(page(words.list, boards, to_wire))
}

async fn update(mut rpc: Rpc, words: Words) -> Result<Value, Fault> {
    let paths = rpc.text("updateMask").to_owned();
    let mut written = object(rpc.request.remove(words.field));
    let name = take_text(&mut written, "name");
    let etag = Some(take_text(&mut written, "etag")).filter(|etag| !etag.is_empty());
    let mut patch = patch(&paths, known(written));
    // What a curve holds stays what it is.
    patch.remove("valueType");
    let board = rpc.control().boards().update(words.kind, &name, patch, etag.as_deref()).await?;
    if words.kind == BoardKind::Tensorboard {
        let metadata = "UpdateTensorboardOperationMetadata";
        return operations::done(&rpc, &name, metadata, "Tensorboard", to_wire(board));
    }
    Ok(to_wire(board))
}

async fn delete(rpc: Rpc, words: Words) -> Result<Value, Fault> {
    rpc.control().boards().delete(words.kind, rpc.text("name")).await?;
    operations::deleted(&rpc, rpc.text("name"))
}

/// `google.cloud.aiplatform.v1.TimeSeriesData`, as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    tensorboard_time_series_id: String,
    value_type: Option<Value>,
    #[serde(default)]
    values: Vec<Map<String, Value>>,
}

async fn write(mut rpc: Rpc) -> Result<Value, Fault> {
    let data = rpc.request.remove("timeSeriesData").unwrap_or_else(|| json!([]));
    let mut points = Vec::new();
    for series in read_value::<Vec<Written>>(data)? {
        scalars_only(series.value_type.as_ref())?;
        let values = series.values.into_iter().map(point).collect::<Result<Vec<_>, _>>()?;
        points.push((series.tensorboard_time_series_id, values));
    }
    rpc.control().boards().append(rpc.text("tensorboardRun"), &points).await?;
    Ok(json!({}))
}

async fn read_one(rpc: Rpc) -> Result<Value, Fault> {
    if !rpc.text("filter").is_empty() {
        return Err(Fault::unimplemented("field `filter` has no effect on this server: leave it out"));
    }
    let most = rpc.request.get("maxDataPoints").and_then(Value::as_u64).unwrap_or(0);
    let most = usize::try_from(most).ok().filter(|most| *most > 0).unwrap_or(POINTS);
    Ok(json!({"timeSeriesData": curve(&rpc, rpc.text("tensorboardTimeSeries"), most).await?}))
}

async fn read_several(mut rpc: Rpc) -> Result<Value, Fault> {
    let names: Vec<String> = read_value(rpc.request.remove("timeSeries").unwrap_or_else(|| json!([])))?;
    if names.len() > BATCH_MAX {
        let message =
            format!("field `timeSeries` has {} names; at most {BATCH_MAX} are possible", names.len());
        return Err(Fault::invalid(message));
    }
    let within = format!("{}/", rpc.text("tensorboard"));
    let mut curves = Vec::with_capacity(names.len());
    for name in &names {
        if !name.starts_with(&within) {
            return Err(Fault::invalid(format!("{name} is none of {}", rpc.text("tensorboard"))));
        }
        curves.push(curve(&rpc, name, POINTS).await?);
    }
    Ok(json!({"timeSeriesData": curves}))
}

/// `google.cloud.aiplatform.v1.TimeSeriesData` of the curve `name`.
async fn curve(rpc: &Rpc, name: &str, most: usize) -> Result<Value, Fault> {
    let (_, points) = rpc.control().boards().points(name, most).await?;
    let point = |point: CurvePoint| {
        json!({
            "step": point.step.to_string(),
            "wallTime": point.wall_time,
            "scalar": {"value": point.value},
        })
    };
    Ok(json!({
        "tensorboardTimeSeriesId": name.rsplit('/').next().unwrap_or_default(),
        "valueType": "SCALAR",
        "values": points.into_iter().map(point).collect::<Value>(),
    }))
}

/// `google.cloud.aiplatform.v1.TimeSeriesDataPoint`.
fn point(mut point: Map<String, Value>) -> Result<CurvePoint, Fault> {
    let Some(scalar) = point.remove("scalar") else {
        return Err(Fault::unimplemented("field `timeSeriesData.values`: only scalars are kept here"));
    };
    let step = match point.remove("step") {
        None => 0,
        Some(Value::String(step)) => step.parse().map_err(|_| Fault::invalid("field `step` is too large"))?,
        Some(step) => read_value(step)?,
    };
    // A scalar of 0 is not written.
    let value = scalar.get("value").cloned().unwrap_or_else(|| json!(0.0));
    Ok(CurvePoint { step, wall_time: point.remove("wallTime").unwrap_or_default(), value })
}

fn scalars_only(value_type: Option<&Value>) -> Result<(), Fault> {
    match value_type.and_then(Value::as_str) {
        None | Some("SCALAR" | "VALUE_TYPE_UNSPECIFIED") => Ok(()),
        Some(other) => {
            Err(Fault::unimplemented(format!("field `valueType`: {other} is not kept here, only SCALAR")))
        }
    }
}

/// What the client says, without what the server does.
fn known(mut content: Map<String, Value>) -> Map<String, Value> {
    for own in ["name", "etag", "createTime", "updateTime"] {
        content.shift_remove(own);
    }
    content
}

/// `google.cloud.aiplatform.v1.Tensorboard`, `TensorboardExperiment`, `TensorboardRun` or `TensorboardTimeSeries`.
fn to_wire(board: Board) -> Value {
    let mut wire = board.content;
    let own = [
        ("name", board.name.into()),
        ("etag", board.etag.into()),
        ("createTime", time(board.create_time)),
        ("updateTime", time(board.update_time)),
    ];
    wire.extend(own.map(|(name, value): (&str, Value)| (name.to_owned(), value)));
    Value::Object(wire)
}
