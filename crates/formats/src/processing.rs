//! [`Processing`]: what is done to the inputs of a model made elsewhere before the network sees them, and to what the
//! network says before the client does. It is part of the artifact:
//!
//! ```yaml
//! image:
//!   resize: {shortest: 256}
//!   crop: 224
//!   rescale: 0.00392156862745098
//!   mean: [0.485, 0.456, 0.406]
//!   std: [0.229, 0.224, 0.225]
//! output:
//!   labels: [cat, dog]
//!   softmax: true
//!   top_k: 1
//! ```
//!
//! In place of this document the files stand that `transformers` writes: `preprocessor_config.json`, and `config.json`
//! with the labels; or a `labels.txt` alone.

mod directory;
mod huggingface;
mod image;
mod output;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use directory::{PROCESSING_FILE, ProcessingError};
pub use image::{Channels, Filter, Image, Layout, Orientation, Resize};
pub use output::Output;
pub use table::{Column, Table};
pub use text::Text;

use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::Fields;

/// The longest document read, in bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// What is done to a network's inputs and outputs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Processing {
    /// What instances are, if not the network's tensors.
    pub input: Option<Input>,
    /// What the answer is.
    pub output: Output,
}

/// What instances are.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Image files.
    Image(Image),
    /// Texts.
    Text(Text),
    /// Cells of a table.
    Table(Table),
}

impl Processing {
    /// Reads the YAML document; JSON is YAML, too. Labels may be the name of a file beside it, which `read` reads.
    ///
    /// # Errors
    /// What is wrong, and at which field.
    pub fn from_yaml(
        text: &str,
        read: impl Fn(&str) -> Result<Vec<u8>, SpecError>,
    ) -> Result<Self, SpecError> {
        if text.len() > DOCUMENT_BYTES_MAX {
            let n = text.len();
            return Err(SpecError::new(
                "",
                format!("{n} bytes are beyond the limit of {DOCUMENT_BYTES_MAX}"),
            ));
        }
        // Only `true` and `false` are booleans: a label may be called `no`.
        let options = serde_saphyr::options! { strict_booleans: true };
        let value: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|e| SpecError::new("", format!("not YAML: {e}")))?;
        let mut fields = Fields::new("", &value)?;
        let mut inputs = Vec::new();
        if let Some(value) = fields.take("image") {
            inputs.push(Input::Image(Image::read(value)?));
        }
        if let Some(value) = fields.take("text") {
            inputs.push(Input::Text(Text::read(value)?));
        }
        if let Some(value) = fields.take("table") {
            inputs.push(Input::Table(Table::read(value)?));
        }
        if inputs.len() > 1 {
            return Err(SpecError::new("", "one of image, text and table is possible, not several"));
        }
        let output = fields.take("output").map(|value| Output::read(value, read)).transpose()?;
        fields.finish()?;
        if inputs.is_empty() && output.is_none() {
            return Err(SpecError::new("", "says nothing; give image, text or table, or output"));
        }
        Ok(Processing { input: inputs.pop(), output: output.unwrap_or_default() })
    }
}

/// The name of a column, a field or a tensor: `name`, or what is usual.
fn name(fields: &mut Fields<'_>, usual: &str) -> Result<String, SpecError> {
    let name = fields.text("name")?.unwrap_or(usual);
    match name.is_empty() || name.len() > NAME_BYTES_MAX {
        true => Err(fields.error("name", format!("has 1 to {NAME_BYTES_MAX} bytes"))),
        false => Ok(name.to_owned()),
    }
}

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;
