//! Datasets: named sets of labelled rows.

use std::collections::BTreeMap;

use control::{Dataset, DatasetKind, DatasetPatch, NewDataset, Parent};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::convert::{labels, mask, time, unchangeable, whole_numbers};
use super::models::{take, take_text};
use super::operations;
use super::rpc::{Rpc, Served, page, procedure, read_value};
use crate::Fault;
use crate::http::Permission::{Read, Write};

/// The procedures of this file.
pub(super) fn served() -> Vec<Served> {
    vec![
        procedure("DatasetService.CreateDataset", Write, create).takes::<CreateWire>(),
        procedure("DatasetService.GetDataset", Read, get),
        procedure("DatasetService.ListDatasets", Read, list).lists(),
        procedure("DatasetService.UpdateDataset", Write, update),
        procedure("DatasetService.ImportData", Write, import).takes::<ImportWire>(),
        procedure("DatasetService.DeleteDataset", Write, delete),
    ]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateWire {
    parent: String,
    dataset: DatasetWire,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DatasetWire {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    metadata_schema_uri: String,
    #[serde(default)]
    metadata: Value,
}

async fn create(mut rpc: Rpc) -> Result<Value, Fault> {
    let wire: CreateWire = rpc.read()?;
    let parent = Parent::parse(&wire.parent)?;
    let metadata = whole_numbers(wire.dataset.metadata);
    let new = NewDataset {
        display_name: wire.dataset.display_name,
        labels: wire.dataset.labels,
        kind: kind(&wire.dataset.metadata_schema_uri)?,
        schema_uri: wire.dataset.metadata_schema_uri,
        uris: uris(&metadata)?,
        metadata,
    };
    let operation = rpc.control().datasets().create(&parent, new).await?;
    operations::to_wire(&rpc, &operation)
}

/// What the rows are, from the name of Google's schema: `gs://…/schema/dataset/metadata/tabular_1.0.0.yaml`.
fn kind(schema_uri: &str) -> Result<DatasetKind, Fault> {
    let file = schema_uri.rsplit('/').next().unwrap_or("");
    match file.split(['_', '.']).next().unwrap_or("") {
        "tabular" | "tables" => Ok(DatasetKind::Tabular),
        "text" => Ok(DatasetKind::Text),
        "image" => Ok(DatasetKind::Image),
        _ => Err(Fault::invalid(format!(
            "dataset.metadataSchemaUri {schema_uri:?} is none that is known here: \
             its file name must begin with tabular, text or image"
        ))),
    }
}

/// The addresses in a tabular dataset's metadata: `inputConfig.gcsSource.uri`.
fn uris(metadata: &Value) -> Result<Vec<String>, Fault> {
    let Some(config) = metadata.get("inputConfig").or_else(|| metadata.get("input_config")) else {
        return Ok(Vec::new());
    };
    if config.get("bigquerySource").or_else(|| config.get("bigquery_source")).is_some() {
        return Err(Fault::unimplemented(
            "field `dataset.metadata.inputConfig.bigquerySource` has no effect on this server: use gcsSource",
        ));
    }
    let source = config.get("gcsSource").or_else(|| config.get("gcs_source"));
    match source.and_then(|source| source.get("uri").or_else(|| source.get("uris"))) {
        Some(Value::String(uri)) => Ok(vec![uri.clone()]),
        Some(list) => read_value(list.clone()),
        None => Ok(Vec::new()),
    }
}

async fn get(rpc: Rpc) -> Result<Value, Fault> {
    Ok(to_wire(&rpc.control().datasets().get(rpc.text("name")).await?))
}

async fn list(rpc: Rpc) -> Result<Value, Fault> {
    let datasets = rpc.control().datasets().list(&rpc.parent()?, &rpc.list_query()?).await?;
    Ok(page("datasets", datasets, |dataset| to_wire(&dataset)))
}

async fn update(mut rpc: Rpc) -> Result<Value, Fault> {
    let paths = rpc.text("updateMask").to_owned();
    let mut written = match rpc.request.remove("dataset") {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let name = take_text(&mut written, "name");
    let etag = Some(take_text(&mut written, "etag")).filter(|etag| !etag.is_empty());
    let mut patch = DatasetPatch::default();
    for path in mask(&paths) {
        match path {
            "displayName" => patch.display_name = Some(take_text(&mut written, path)),
            "labels" => patch.labels = Some(take(&mut written, path)?.unwrap_or_default()),
            "metadata" => {
                let metadata = whole_numbers(written.remove(path).unwrap_or_default());
                patch.uris = Some(uris(&metadata)?);
                patch.metadata = Some(metadata);
            }
            other => return Err(unchangeable(other)),
        }
    }
    Ok(to_wire(&rpc.control().datasets().update(&name, patch, etag.as_deref()).await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImportWire {
    name: String,
    #[serde(default)]
    import_configs: Vec<ImportConfigWire>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImportConfigWire {
    gcs_source: SourceWire,
    /// Says how Google would read the rows; here their header or their field names do.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    import_schema_uri: String,
}

/// `GcsSource`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SourceWire {
    #[serde(default)]
    pub(super) uris: Vec<String>,
}

async fn import(mut rpc: Rpc) -> Result<Value, Fault> {
    let wire: ImportWire = rpc.read()?;
    let uris: Vec<String> =
        wire.import_configs.into_iter().flat_map(|config| config.gcs_source.uris).collect();
    if uris.is_empty() {
        return Err(Fault::invalid("importConfigs names no gcsSource.uris to import"));
    }
    let operation = rpc.control().datasets().import(&wire.name, uris).await?;
    operations::to_wire(&rpc, &operation)
}

async fn delete(rpc: Rpc) -> Result<Value, Fault> {
    let operation = rpc.control().datasets().delete(rpc.text("name")).await?;
    operations::to_wire(&rpc, &operation)
}

/// `google.cloud.aiplatform.v1.Dataset`.
pub(super) fn to_wire(dataset: &Dataset) -> Value {
    json!({
        "name": dataset.name,
        "displayName": dataset.display_name,
        "labels": labels(&dataset.labels),
        "metadataSchemaUri": dataset.schema_uri,
        "metadata": dataset.metadata,
        "etag": dataset.etag,
        "createTime": time(dataset.create_time),
        "updateTime": time(dataset.update_time),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kinds_are_read_from_the_schemas_name() {
        let base = "gs://google-cloud-aiplatform/schema/dataset/metadata";
        assert_eq!(kind(&format!("{base}/tabular_1.0.0.yaml")).unwrap(), DatasetKind::Tabular);
        assert_eq!(kind(&format!("{base}/text_1.0.0.yaml")).unwrap(), DatasetKind::Text);
        assert!(kind(&format!("{base}/video_1.0.0.yaml")).is_err());
    }

    #[test]
    fn addresses_are_read_from_the_metadata() {
        let one = json!({"inputConfig": {"gcsSource": {"uri": "gs://b/a.csv"}}});
        let two = json!({"inputConfig": {"gcsSource": {"uri": ["gs://b/a.csv", "gs://b/b.csv"]}}});
        assert_eq!(uris(&one).unwrap(), ["gs://b/a.csv"]);
        assert_eq!(uris(&two).unwrap(), ["gs://b/a.csv", "gs://b/b.csv"]);
        assert_eq!(uris(&json!({})).unwrap(), Vec::<String>::new());
        assert!(uris(&json!({"inputConfig": {"bigquerySource": {"uri": "bq://x"}}})).is_err());
    }
}
