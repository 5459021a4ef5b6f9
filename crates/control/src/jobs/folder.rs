//! [`Folder`]: the images of a folder as rows.

use formats::Value;
use formats::rows::Position;

use super::images::media_type;
use crate::artifact::Digest;
use crate::storage::{ObjectUri, Storage};
use crate::{Error, Result};

/// Objects of one folder at most: those that a listing shows.
const OBJECTS_MAX: usize = crate::storage::LIST_MAX;

/// The images below an address that ends in `/`, by name: each is a row, `{"content": ADDRESS, "mimeType": …}`, as
/// Vertex describes one.
pub(super) struct Folder {
    addresses: Vec<String>,
    /// Changes whenever an image does, or which there are.
    pub(super) etag: String,
    next: usize,
}

impl Folder {
    /// Whether an address is that of a folder.
    pub(super) fn is(uri: &str) -> bool {
        uri.ends_with('/')
    }

    /// Lists the folder `uri`.
    ///
    /// # Errors
    /// `NotFound` if there is no image in it; `InvalidArgument` if it holds too much.
    pub(super) async fn list(storage: &Storage, uri: &str) -> Result<Folder> {
        let prefix = ObjectUri::parse_prefix(uri)?;
        let found = storage.list(&prefix).await?;
        if found.len() >= OBJECTS_MAX {
            let message = format!("{uri} holds {OBJECTS_MAX} objects or more; give its folders one by one");
            return Err(Error::invalid(message));
        }
        let (mut addresses, mut listing) = (Vec::new(), String::new());
        for object in found.iter().filter(|object| media_type(&object.name).is_some()) {
            addresses.push(prefix.sibling(&object.name)?.to_string());
            listing.push_str(&format!("{} {}\n", object.name, object.etag));
        }
        if addresses.is_empty() {
            return Err(Error::not_found(format!("an image (.png, .jpg, .jpeg or .webp) below `{uri}`")));
        }
        Ok(Folder { addresses, etag: Digest::of(listing.as_bytes()).to_string(), next: 0 })
    }

    /// The same, from a place on.
    pub(super) fn resume_at(mut self, position: Position) -> Folder {
        self.next = usize::try_from(position.row).unwrap_or(usize::MAX);
        self
    }

    /// The next rows with their numbers; `None` after the last.
    pub(super) fn take(&mut self, rows: usize) -> Option<Vec<(u64, Value)>> {
        let left = self.addresses.get(self.next..).filter(|left| !left.is_empty())?;
        let taken: Vec<(u64, Value)> = left
            .iter()
            .take(rows.max(1))
            .zip(self.next as u64..)
            .map(|(address, number)| {
                let text = |text: &str| Value::Text(text.to_owned());
                let kind = media_type(address).unwrap_or_default();
                let fields = vec![("content".to_owned(), text(address)), ("mimeType".to_owned(), text(kind))];
                (number, Value::Record(fields))
            })
            .collect();
        self.next += taken.len();
        Some(taken)
    }

    /// Where the rows go on.
    pub(super) fn position(&self) -> Position {
        Position { offset: 0, row: self.next as u64 }
    }
}
