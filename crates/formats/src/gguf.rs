//! GGUF model files, versions 2 and 3, in one file or in shards.
//!
//! A file is mapped into memory and validated whole when it is opened: afterwards every metadata value and every
//! tensor is known to lie inside it. What is kept beside the map is an index; strings and arrays are read where they
//! lie. Nothing is allocated by a size that the file merely claims.
//!
//! The layout is defined in <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod cursor;
mod error;
mod header;
mod metadata;
mod shards;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::path::Path;

pub use error::{Error, Fault};
pub use metadata::Metadata;
pub use writer::Writer;

use crate::map::Map;
use crate::{Format, TensorView};
use header::Header;

/// A model: metadata and tensors.
#[derive(Debug)]
pub struct Gguf {
    /// One a file.
    maps: Vec<Map>,
    /// That of the first file, which speaks for all.
    metadata: metadata::Index,
    architecture: String,
    tensors: Vec<Tensor>,
    /// Positions in `tensors`.
    by_name: HashMap<Box<str>, usize>,
}

#[derive(Debug)]
struct Tensor {
    name: Box<str>,
    /// Slowest first.
    shape: Box<[usize]>,
    format: Format,
    /// Which of the maps.
    shard: usize,
    /// Where in that map.
    start: usize,
    len: usize,
}

impl Gguf {
    /// Opens a file, and those beside it if it is the first of several (`NAME-00001-of-00003.gguf`).
    ///
    /// # Errors
    /// [`Error`] when a file cannot be read, is not GGUF, or does not hold what it claims.
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf, Error> {
        let (maps, headers) = shards::open(path.as_ref())?;
        Gguf::assemble(maps, headers, &Error::file_name(path.as_ref()))
    }

    /// Reads a single file that is in memory already.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, Error> {
        let file = "these bytes";
        let header = Header::parse(&bytes).map_err(|fault| Error::invalid(file, fault))?;
        if shards::count(&header, &bytes).map_err(|fault| Error::invalid(file, fault))? > 1 {
            return Err(Error::invalid(file, Fault::ShardsMissing));
        }
        Gguf::assemble(vec![Map::Memory(bytes)], vec![header], file)
    }

    /// Puts the files' parts together. Tensors' names must differ across all files.
    fn assemble(maps: Vec<Map>, headers: Vec<Header>, file: &str) -> Result<Gguf, Error> {
        let mut metadata = None;
        let mut tensors = Vec::new();
        let mut by_name = HashMap::new();
        for (shard, header) in headers.into_iter().enumerate() {
            metadata.get_or_insert(header.metadata);
            for info in header.tensors {
                if by_name.insert(info.name.clone(), tensors.len()).is_some() {
                    let name = info.name.into();
                    return Err(Error::invalid(file, Fault::Duplicate { what: "tensor", name }));
                }
                let header::TensorInfo { name, shape, format, start, len } = info;
                tensors.push(Tensor { name, shape, format, shard, start, len });
            }
        }
        let metadata = metadata.unwrap_or_default();
        let bytes = maps.first().map_or(&[][..], |map| map);
        let architecture = metadata.view(bytes).str("general.architecture")?.unwrap_or_default().to_owned();
        if architecture.is_empty() {
            return Err(Error::invalid(file, Fault::NoArchitecture));
        }
        Ok(Gguf { maps, metadata, architecture, tensors, by_name })
    }

    /// The family of models that this one is of, such as `llama`. Other keys often begin with it.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// What the file says about the model.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        self.metadata.view(self.maps.first().map_or(&[], |map| map))
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.by_name.get(name).and_then(|&at| self.tensors.get(at)).map(|tensor| self.view(tensor))
    }

    /// Every tensor, in the order of the files.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|tensor| self.view(tensor))
    }

    /// Bytes of all tensors together.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.len as u64).sum()
    }

    /// Lets the system have back the memory that a tensor's bytes were read into, after it was copied elsewhere. The
    /// tensor can still be looked at: it is read again.
    pub fn release(&self, name: &str) {
        let tensor = self.by_name.get(name).and_then(|&at| self.tensors.get(at));
        if let Some((tensor, map)) = tensor.and_then(|tensor| Some((tensor, self.maps.get(tensor.shard)?))) {
            map.release(tensor.start..tensor.start + tensor.len);
        }
    }

    fn view<'a>(&'a self, tensor: &'a Tensor) -> TensorView<'a> {
        let map = self.maps.get(tensor.shard).map_or(&[][..], |map| map);
        TensorView {
            name: &tensor.name,
            shape: &tensor.shape,
            format: tensor.format,
            bytes: &map[tensor.start..tensor.start + tensor.len],
        }
    }
}
