//! [`ImageInput`]: image files to rows of a network's input.

use formats::Value;
use formats::processing::Image;
use tensor::vision::{Picture, Pixels};
use tensor::{Data, DataType, Signature};

use super::{Cell, Filling, find, takes};

/// How pictures become rows of one input.
pub(crate) struct ImageInput {
    pub(crate) pixels: Pixels,
    /// The column.
    pub(crate) name: String,
    /// The network's input.
    pub(crate) input: String,
    data_type: DataType,
}

impl ImageInput {
    pub(super) fn new(image: Image, signature: &Signature) -> Result<Self, String> {
        let spec = find(signature, image.input.as_deref())?;
        takes(spec, &image.shape())?;
        let name = image.name.clone();
        let (input, data_type) = (spec.name.clone(), spec.data_type);
        Ok(ImageInput { pixels: Pixels::new(image), name, input, data_type })
    }

    /// Numbers as the network takes them.
    pub(crate) fn data(&self, numbers: Vec<f32>) -> Data {
        match self.data_type {
            DataType::I32 => Data::I32(numbers.into_iter().map(|n| n.round() as i32).collect()),
            DataType::F32 | DataType::Text => Data::F32(numbers),
        }
    }

    pub(super) fn filling(&self) -> Filling {
        Filling { name: self.input.clone(), row: self.pixels.shape().to_vec(), data: self.data(Vec::new()) }
    }

    pub(super) fn append(&self, cell: Cell<'_>, filling: &mut [Filling]) -> Result<(), String> {
        let (file, claimed) = match cell {
            Cell::Text(file) => (file, None),
            Cell::Record(fields) => file(fields)?,
            other => return Err(format!("expected an image file in base64, found {}", other.kind())),
        };
        let picture = Picture::from_base64(file)?;
        let found = picture.kind.media_type();
        if let Some(claimed) = claimed.filter(|claimed| !claimed.eq_ignore_ascii_case(found)) {
            let claimed: String = claimed.chars().take(80).collect();
            return Err(format!("the field `mimeType` says `{claimed}` and the file is {found}"));
        }
        match filling {
            [Filling { data: Data::F32(all), .. }] => self.pixels.append(&picture, all),
            [Filling { data: Data::I32(all), .. }] => {
                let mut row = Vec::new();
                self.pixels.append(&picture, &mut row)?;
                all.extend(row.into_iter().map(|n| n.round() as i32));
                Ok(())
            }
            _ => Err("the network takes no numbers".to_owned()),
        }
    }
}

/// The base64 text in `{"b64": …}` or `{"content": …, "mimeType": …}`, and the media type where one is said.
fn file(value: &Value) -> Result<(&str, Option<&str>), String> {
    let Value::Record(fields) = value else { return Err("expected an image file in base64".to_owned()) };
    let (mut file, mut claimed) = (None, None);
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("b64" | "content", Value::Text(text)) if file.is_none() => file = Some(text.as_str()),
            ("mimeType" | "mime_type", Value::Text(text)) => claimed = Some(text.as_str()),
            ("b64" | "content" | "mimeType" | "mime_type", other) => {
                return Err(format!(
                    "the field `{name}` must be a string beside no other, found {}",
                    other.kind()
                ));
            }
            _ => {
                let name: String = name.chars().take(80).collect();
                return Err(format!(
                    "the field `{name}` is not known; an image is {{\"b64\": …}} or {{\"content\": …}}"
                ));
            }
        }
    }
    file.map(|file| (file, claimed)).ok_or_else(|| "the field `b64` or `content` is missing".to_owned())
}
