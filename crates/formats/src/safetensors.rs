//! Model directories as `transformers` writes them: safetensors files with `config.json` and `tokenizer.json`.
//!
//! Files are mapped into memory and validated whole when they are opened: afterwards every tensor is known to lie
//! inside its file. The layout is defined in <https://github.com/huggingface/safetensors#format>.

mod config;
mod header;
mod sentence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Component, Path};

use serde::Deserialize;

pub use config::Config;
pub use header::Fault;
pub use sentence::{Pooling, Sentence};

use crate::map::Map;
use crate::tokenizer::{TokenizerKind, TokenizerSpec, TokenizerSpecError};
use crate::{Format, TensorView};

const CONFIG_FILE: &str = "config.json";
const TOKENIZER_FILE: &str = "tokenizer.json";
const MODEL_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
/// The largest JSON file read, in bytes. Tokenizers are the largest: some have 35 MiB.
const JSON_BYTES_MAX: u64 = 128 << 20;
const FILES_MAX: usize = 1024;

/// A model directory that cannot be used. Files are called by their names; their directories are not told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not give the file.
    #[error("`{file}` cannot be read")]
    Read {
        /// The file's name.
        file: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file does not hold what it must, or claims what it does not hold.
    #[error("`{file}` is not a usable safetensors file: {fault}")]
    Invalid {
        /// The file's name.
        file: String,
        /// What is wrong.
        fault: Fault,
    },
    /// A JSON file is not what it should be.
    #[error("`{file}` cannot be used: {message}")]
    Json {
        /// The file's name.
        file: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerSpecError),
}

/// Tensors of one file or several.
#[derive(Debug)]
pub struct Safetensors {
    maps: Vec<Map>,
    tensors: Vec<Tensor>,
    /// Positions in `tensors`.
    by_name: HashMap<Box<str>, usize>,
}

#[derive(Debug)]
struct Tensor {
    name: Box<str>,
    shape: Box<[usize]>,
    format: Format,
    /// Which of the maps.
    file: usize,
    start: usize,
    len: usize,
}

/// What a directory says of a model of texts, besides its weights.
#[derive(Debug)]
pub struct Description {
    /// What `config.json` says.
    pub config: Config,
    /// What `tokenizer.json` says, with the chat template.
    pub tokenizer: TokenizerSpec,
    /// What follows the layers of an encoder.
    pub sentence: Sentence,
}

/// A model with all that is known of it.
#[derive(Debug)]
pub struct ModelDirectory {
    /// What `config.json` says.
    pub config: Config,
    /// What `tokenizer.json` says, with the chat template.
    pub tokenizer: TokenizerSpec,
    /// What follows the layers of an encoder.
    pub sentence: Sentence,
    /// The weights.
    pub tensors: Safetensors,
}

impl Description {
    /// Reads `config.json`, `tokenizer.json` and what lies beside them.
    ///
    /// # Errors
    /// [`Error`] when one of the two is missing, or a file cannot be used.
    pub fn read(directory: impl AsRef<Path>) -> Result<Description, Error> {
        let directory = directory.as_ref();
        let config = Config::parse(&required(directory, CONFIG_FILE)?)
            .map_err(|message| Error::Json { file: CONFIG_FILE, message })?;
        let settings = optional(directory, "tokenizer_config.json")?;
        let template = optional(directory, "chat_template.jinja")?;
        let mut tokenizer = TokenizerSpec::from_json(
            &required(directory, TOKENIZER_FILE)?,
            settings.as_deref(),
            template.as_deref().map(String::from_utf8_lossy).as_deref(),
        )?;
        let sentence = Sentence::read(directory)?;
        if let TokenizerKind::WordPiece { lowercase, .. } = &mut tokenizer.kind {
            *lowercase |= sentence.lowercase;
        }
        Ok(Description { config, tokenizer, sentence })
    }

    /// Whether the directory holds such files.
    #[must_use]
    pub fn is_at(directory: &Path) -> bool {
        [CONFIG_FILE, TOKENIZER_FILE].iter().all(|file| directory.join(file).is_file())
    }
}

impl ModelDirectory {
    /// Opens a directory with `config.json`, `tokenizer.json` and safetensors files.
    ///
    /// # Errors
    /// [`Error`] when a file is missing or cannot be used.
    pub fn open(directory: impl AsRef<Path>) -> Result<ModelDirectory, Error> {
        let Description { config, tokenizer, sentence } = Description::read(&directory)?;
        Ok(ModelDirectory { config, tokenizer, sentence, tensors: Safetensors::open(directory)? })
    }

    /// Whether the directory holds such a model, as far as the names of its files tell.
    #[must_use]
    pub fn is_at(directory: &Path) -> bool {
        let has = |file: &str| directory.join(file).is_file();
        has(CONFIG_FILE) && (has(MODEL_FILE) || has(INDEX_FILE))
    }
}

impl Safetensors {
    /// Opens a file, or the files of a directory: `model.safetensors`, or those that the index names.
    ///
    /// # Errors
    /// [`Error`] when a file cannot be read, or does not hold what it claims.
    pub fn open(path: impl AsRef<Path>) -> Result<Safetensors, Error> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Safetensors::assemble(vec![(file_name(path), map(path)?)]);
        }
        let single = path.join(MODEL_FILE);
        if single.exists() {
            return Safetensors::assemble(vec![(MODEL_FILE.to_owned(), map(&single)?)]);
        }
        let index = index(&required(path, INDEX_FILE)?)?;
        let files: BTreeSet<&String> = index.values().collect();
        let maps = files.iter().map(|file| Ok(((*file).clone(), map(&path.join(file))?)));
        let tensors = Safetensors::assemble(maps.collect::<Result<_, Error>>()?)?;
        match index.keys().find(|name| !tensors.by_name.contains_key(name.as_str())) {
            Some(name) => {
                Err(Error::Json { file: INDEX_FILE, message: format!("no file holds tensor {name:?}") })
            }
            None => Ok(tensors),
        }
    }

    /// Reads a single file that is in memory already.
    ///
    /// # Errors
    /// As [`Safetensors::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Safetensors, Error> {
        Safetensors::assemble(vec![("these bytes".to_owned(), Map::Memory(bytes))])
    }

    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.by_name.get(name).and_then(|&at| self.tensors.get(at)).map(|tensor| self.view(tensor))
    }

    /// Every tensor of floats, in the order of the files. Those of whole numbers are left out.
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
        if let Some((tensor, map)) = tensor.and_then(|tensor| Some((tensor, self.maps.get(tensor.file)?))) {
            map.release(tensor.start..tensor.start + tensor.len);
        }
    }

    fn assemble(files: Vec<(String, Map)>) -> Result<Safetensors, Error> {
        let mut result = Safetensors { maps: Vec::new(), tensors: Vec::new(), by_name: HashMap::new() };
        for (at, (file, map)) in files.into_iter().enumerate() {
            let invalid = |fault| Error::Invalid { file: file.clone(), fault };
            for entry in header::parse(&map).map_err(invalid)? {
                let Some(format) = entry.format else { continue };
                let header::Entry { name, shape, start, len, .. } = entry;
                if result.by_name.insert(name.clone(), result.tensors.len()).is_some() {
                    return Err(invalid(Fault::Duplicate(name.into())));
                }
                result.tensors.push(Tensor { name, shape, format, file: at, start, len });
            }
            result.maps.push(map);
        }
        Ok(result)
    }

    fn view<'a>(&'a self, tensor: &'a Tensor) -> TensorView<'a> {
        let map = self.maps.get(tensor.file).map_or(&[][..], |map| map);
        TensorView {
            name: &tensor.name,
            shape: &tensor.shape,
            format: tensor.format,
            bytes: &map[tensor.start..tensor.start + tensor.len],
        }
    }
}

/// Which file holds which tensor.
fn index(json: &[u8]) -> Result<BTreeMap<String, String>, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let wrong = |message: String| Error::Json { file: INDEX_FILE, message };
    let index: Index = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    let files: BTreeSet<&String> = index.weight_map.values().collect();
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(wrong(format!("it names {} files; 1 to {FILES_MAX} are possible", files.len())));
    }
    match files.iter().find(|file| !is_plain(file)) {
        Some(file) => Err(wrong(format!("{file:?} is not the name of a file beside it"))),
        None => Ok(index.weight_map),
    }
}

/// Whether a name leads nowhere but to a file in the same directory.
fn is_plain(file: &str) -> bool {
    let mut components = Path::new(file).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == file)
}

fn map(path: &Path) -> Result<Map, Error> {
    Map::open(path).map_err(|source| Error::Read { file: file_name(path), source })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn required(directory: &Path, file: &'static str) -> Result<Vec<u8>, Error> {
    let missing = || Error::Read { file: file.to_owned(), source: io::ErrorKind::NotFound.into() };
    optional(directory, file)?.ok_or_else(missing)
}

/// A small file's bytes, if it is there.
fn optional(directory: &Path, file: &'static str) -> Result<Option<Vec<u8>>, Error> {
    let path = directory.join(file);
    let unreadable = |source| Error::Read { file: file.to_owned(), source };
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error)),
        Ok(metadata) if metadata.len() > JSON_BYTES_MAX => {
            Err(Error::Json { file, message: format!("it has more than {JSON_BYTES_MAX} bytes") })
        }
        Ok(_) => std::fs::read(&path).map(Some).map_err(unreadable),
    }
}
