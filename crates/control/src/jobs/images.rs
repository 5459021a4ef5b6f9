//! [`Images`]: cells that name image files, to the files themselves.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use formats::Value;
use formats::rows::{RowBlock, RowFault};
use formats::spec::{Feature, TrainSpec};
use futures_util::{StreamExt as _, stream};
use tensor::features::{ColumnKind, InputColumn};
use tokio::runtime::Handle;

use super::context::Context;
use crate::storage::{ObjectUri, Storage};

/// The largest image file.
const IMAGE_BYTES_MAX: u64 = 32 << 20;
/// The longest name of one, so that base64 is never looked up.
const NAME_MAX: usize = 2048;
/// Files read at once.
const READS: usize = 16;
/// Rows to take at a time where each may bring a file.
pub(super) const CHUNK_ROWS: usize = 64;

/// Puts image files where a table has their names: an address (`gs://bucket/cat.png`), or a name beside the object
/// that the row comes from. What is no name is left alone; it may be the file itself, in base64.
pub(super) struct Images {
    storage: Storage,
    runtime: Handle,
    columns: Vec<String>,
}

impl Images {
    /// Of the columns that a model takes its images from; `None` if it takes none.
    pub(super) fn of_model(context: &Context, columns: &[InputColumn]) -> Option<Self> {
        let images = columns.iter().filter(|column| column.kind == ColumnKind::Image);
        Self::new(context, images.map(|column| column.name.clone()).collect())
    }

    /// Of the columns that a training asks for; `None` if it asks for none.
    pub(super) fn of_training(context: &Context, spec: &TrainSpec) -> Option<Self> {
        let column = |feature: &Feature| match feature {
            Feature::Image { column, .. } => Some(column.clone()),
            _ => None,
        };
        Self::new(context, spec.features.iter().flatten().filter_map(column).collect())
    }

    fn new(context: &Context, columns: Vec<String>) -> Option<Self> {
        let (storage, runtime) = (context.storage(), context.runtime.clone());
        (!columns.is_empty()).then_some(Images { storage, runtime, columns })
    }

    /// `block`, which comes from the object `uri`, with files for their names. Rows whose file cannot be read are
    /// left out, and listed.
    pub(super) fn table(&self, uri: &str, block: &RowBlock) -> (RowBlock, Vec<RowFault>) {
        let mut faults = Vec::new();
        let mut block = Cow::Borrowed(block);
        for name in &self.columns {
            let Some(column) = block.column(name) else { continue };
            let cells: Vec<String> =
                (0..block.rows()).map(|row| block.cell(row, column).to_owned()).collect();
            let mut files = self.files(uri, cells).into_iter();
            let cell = |_: usize| files.next().unwrap_or_else(|| Ok(String::new()));
            let (replaced, failed) = block.replace(column, cell);
            faults.extend(failed);
            block = Cow::Owned(replaced);
        }
        faults.sort_by_key(|fault| fault.row);
        (block.into_owned(), faults)
    }

    /// Instances with files for their names. One whose file cannot be read keeps its name, which the model then
    /// refuses.
    pub(super) fn instances(&self, uri: &str, instances: &[Value]) -> Vec<Value> {
        let mut instances = instances.to_vec();
        for name in &self.columns {
            let mut cells: Vec<&mut String> =
                instances.iter_mut().filter_map(|instance| text(instance, name)).collect();
            let names = cells.iter().map(|cell| (**cell).clone()).collect();
            for (cell, file) in cells.iter_mut().zip(self.files(uri, names)) {
                if let Ok(file) = file {
                    **cell = file;
                }
            }
        }
        instances
    }

    fn files(&self, uri: &str, cells: Vec<String>) -> Vec<Result<String, String>> {
        let read = |cell: String| async move {
            match is_name(&cell) {
                true => self.read(uri, &cell).await.map_err(|e| format!("the image `{cell}`: {e}")),
                false => Ok(cell),
            }
        };
        self.runtime.block_on(stream::iter(cells).map(read).buffered(READS).collect())
    }

    async fn read(&self, uri: &str, name: &str) -> crate::Result<String> {
        let uri = match name.contains("://") {
            true => ObjectUri::parse(name)?,
            false => {
                let rows = ObjectUri::parse(uri)?;
                let beside = rows.name().rsplit_once('/').map(|(directory, _)| format!("{directory}/{name}"));
                rows.sibling(&beside.unwrap_or_else(|| name.to_owned()))?
            }
        };
        let file = self.storage.read(&uri, 0, None).await?.collect(IMAGE_BYTES_MAX).await?;
        Ok(STANDARD.encode(file))
    }
}

/// The text of field `name` of an instance, or of the instance itself where it is one; in either place it may stand as
/// `content`, as Vertex writes it.
fn text<'a>(instance: &'a mut Value, name: &str) -> Option<&'a mut String> {
    if instance.get(name).is_none() {
        return content(instance);
    }
    match instance {
        Value::Record(fields) => {
            fields.iter_mut().find(|(field, _)| field == name).and_then(|(_, value)| content(value))
        }
        _ => None,
    }
}

fn content(value: &mut Value) -> Option<&mut String> {
    match value {
        Value::Text(text) => Some(text),
        Value::Record(fields) => {
            fields.iter_mut().find(|(field, _)| field == "content").and_then(|(_, value)| match value {
                Value::Text(text) => Some(text),
                _ => None,
            })
        }
        _ => None,
    }
}

/// The media types that are known, by how names of such files end.
const ENDINGS: [(&str, &str); 4] =
    [(".png", "image/png"), (".jpg", "image/jpeg"), (".jpeg", "image/jpeg"), (".webp", "image/webp")];

/// What an object of this name holds, if it is an image by its name.
pub(super) fn media_type(name: &str) -> Option<&'static str> {
    let ending = name.rfind('.').and_then(|dot| name.get(dot..)).unwrap_or_default();
    ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, kind)| *kind)
}

/// Whether a cell is the name of a file, and not the file in base64, which has no dot and no colon before a comma.
fn is_name(cell: &str) -> bool {
    cell.len() <= NAME_MAX && (cell.contains("://") || media_type(cell).is_some())
}

#[cfg(test)]
mod tests {
    use formats::Value;

    use super::{is_name, text};

    #[test]
    fn the_file_is_found_wherever_clients_put_it() {
        for (instance, found) in [
            (r#""a.png""#, Some("a.png")),
            (r#"{"image": "a.png", "label": "x"}"#, Some("a.png")),
            (r#"{"content": "gs://b/a", "mimeType": "image/png"}"#, Some("gs://b/a")),
            (r#"{"image": {"content": "gs://b/a"}}"#, Some("gs://b/a")),
            (r#"{"label": "a.png"}"#, None),
            ("5", None),
        ] {
            let mut instance: Value = serde_json::from_str(instance).unwrap_or(Value::Null);
            assert_eq!(text(&mut instance, "image").map(|text| text.as_str()), found);
        }
    }

    #[test]
    fn names_are_told_from_files() {
        for name in ["cat.png", "dir/Cat 1.JPEG", "cat.webp", "gs://bucket/cat", "s3://bucket/cat.jpg"] {
            assert!(is_name(name), "{name}");
        }
        for file in ["iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo=", "", "cat"] {
            assert!(!is_name(file), "{file}");
        }
    }
}
