//! Where an artifact says what is done to inputs and outputs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

use super::{Output, Processing, huggingface, output};
use crate::Value;
use crate::spec::SpecError;

/// The document that says it.
pub const PROCESSING_FILE: &str = "processing.yaml";
/// What `transformers` writes about images.
const IMAGES_FILE: &str = "preprocessor_config.json";
/// What it writes about the model.
const CONFIG_FILE: &str = "config.json";
/// How texts are cut.
const TOKENIZER_FILE: &str = "tokenizer.json";
/// Labels alone, one a line.
const LABELS_FILE: &str = "labels.txt";
/// The largest of these files, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// A file of an artifact that does not say what is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file}`: {error}")]
pub struct ProcessingError {
    /// The file, by its name.
    pub file: String,
    /// What is wrong with it, and where.
    pub error: SpecError,
}

impl Processing {
    /// What the files of `directory` say; `None` if they say nothing.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn at(directory: &Path) -> Result<Option<Processing>, ProcessingError> {
        let failed = |file: &str| {
            let file = file.to_owned();
            move |error| ProcessingError { file, error }
        };
        let text = |file: &str| -> Result<Option<Vec<u8>>, ProcessingError> {
            read(directory, file).map_err(failed(file))
        };
        if let Some(bytes) = text(PROCESSING_FILE)? {
            let beside = |file: &str| beside(directory, file);
            return std::str::from_utf8(&bytes)
                .map_err(|_| SpecError::new("", "it is not UTF-8"))
                .and_then(|text| Processing::from_yaml(text, beside))
                .map(Some)
                .map_err(failed(PROCESSING_FILE));
        }
        let json = |file: &str| -> Result<Option<Value>, ProcessingError> {
            let parsed = text(file)?.map(|bytes| serde_json::from_slice(&bytes)).transpose();
            parsed.map_err(|e| failed(file)(SpecError::new("", format!("not JSON: {e}"))))
        };
        if let Some(images) = json(IMAGES_FILE)? {
            let input = Some(huggingface::image(&images).map_err(failed(IMAGES_FILE))?);
            let config = json(CONFIG_FILE)?.unwrap_or(Value::Null);
            let output = huggingface::output(&config).map_err(failed(CONFIG_FILE))?;
            return Ok(Some(Processing { input, output: output.unwrap_or_default() }));
        }
        if directory.join(TOKENIZER_FILE).is_file()
            && let Some(config) = json(CONFIG_FILE)?
            && huggingface::classifies_texts(&config)
            && let Some(output) = huggingface::output(&config).map_err(failed(CONFIG_FILE))?
            // One label is what models have that rank pairs of texts.
            && output.labels.as_ref().is_some_and(|labels| labels.len() > 1)
        {
            return Ok(Some(Processing { input: Some(huggingface::text(&config)), output }));
        }
        let Some(labels) = text(LABELS_FILE)? else { return Ok(None) };
        let labels = Some(output::lines("", &labels).map_err(failed(LABELS_FILE))?);
        Ok(Some(Processing { input: None, output: Output { labels, ..Output::default() } }))
    }
}

/// A file beside the document, by its plain name.
fn beside(directory: &Path, file: &str) -> Result<Vec<u8>, SpecError> {
    let at = "output.labels";
    let mut components = Path::new(file).components();
    if !matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == file)
    {
        return Err(SpecError::new(at, "expected a list, or the name of a file beside this one"));
    }
    read(directory, file)?
        .ok_or_else(|| SpecError::new(at, format!("there is no file `{file}` beside this one")))
}

/// A small file, if it is there.
fn read(directory: &Path, file: &str) -> Result<Option<Vec<u8>>, SpecError> {
    let unreadable = |e: io::Error| SpecError::new("", format!("it cannot be read: {e}"));
    let open = match File::open(directory.join(file)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        open => open.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(SpecError::new("", format!("it has more than {FILE_BYTES_MAX} bytes"))),
        false => Ok(Some(bytes)),
    }
}
