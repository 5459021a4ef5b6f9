//! Finding the model in an artifact directory.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use formats::manifest::{MANIFEST_FILE, MODEL_FILE, Manifest, ManifestError};
use formats::processing::{Processing, ProcessingError};
use formats::safetensors::{Description, ModelDirectory};
use llm::encoder::LoadedEncoder;

use crate::admission::Shortage;
use crate::language::with_causes;

/// Why an artifact cannot be served. Texts name files of the artifact, never the server's paths.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file or directory of the artifact cannot be read.
    #[error("`{file}` of the artifact cannot be read: {source}")]
    Unreadable {
        /// The file, within the artifact.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// There is no model.
    #[error(
        "the artifact holds no model: it needs exactly one `.onnx`, `.keras` or `.gguf` file, or an encoder's \
         `config.json`, `tokenizer.json` and `model.safetensors`; it has {found}"
    )]
    NoModel {
        /// What is there instead.
        found: String,
    },
    /// There are several models.
    #[error("the artifact holds several models ({found}): register each as a model of its own")]
    SeveralModels {
        /// Their files.
        found: String,
    },
    /// A format that is not served, by its name.
    #[error("`{file}` is {format}: {advice}")]
    Refused {
        /// The file, within the artifact.
        file: String,
        /// What it is.
        format: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// The manifest of a model trained here cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The feature step of a model trained here cannot be built.
    #[error(transparent)]
    Features(#[from] tensor::features::LoadError),
    /// The model file cannot be served.
    #[error("`{file}`: {source}")]
    Onnx {
        /// The file, within the artifact.
        file: String,
        /// Why.
        source: tensor::LoadError,
    },
    /// The Keras archive cannot be served.
    #[error("`{file}`: {source}")]
    Keras {
        /// The file, within the artifact.
        file: String,
        /// Why.
        source: crate::keras::KerasLoadError,
    },
    /// A file that says what is done to inputs and outputs cannot be used.
    #[error(transparent)]
    Processing(#[from] ProcessingError),
    /// A language model's or an encoder's file cannot be served, or not on this machine.
    #[error("`{file}`: {}", with_causes(&**source))]
    Language {
        /// The file, within the artifact.
        file: String,
        /// Why.
        source: Box<llm::LoadError>,
    },
    /// There is not the memory for a network.
    #[error("`{file}` {shortage}")]
    Memory {
        /// The file, within the artifact.
        file: String,
        /// By how much.
        shortage: Shortage,
    },
    /// A draft model was asked for, and one of the two is no language model.
    #[error("{0} is no language model: only these have draft models, and are such")]
    NoDraft(&'static str),
    /// The system gives no thread for a language model's engine, or an encoder's.
    #[error("the model's engine cannot be started: {0}")]
    Engine(std::io::Error),
    /// The parts of the artifact contradict each other.
    #[error("the artifact contradicts itself: {reason}")]
    Inconsistent {
        /// How.
        reason: String,
    },
}

impl LoadError {
    /// Whether the model is a good one, for which this machine has not the memory.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            LoadError::Memory { .. } => true,
            LoadError::Language { source, .. } => source.is_out_of_memory(),
            _ => false,
        }
    }
}

/// What an artifact directory holds.
#[derive(Debug)]
pub(crate) enum Artifact {
    /// A model trained here.
    Trained { manifest: Box<Manifest>, onnx: PathBuf },
    /// A network made elsewhere.
    Onnx(PathBuf),
    /// A Keras archive.
    Keras(PathBuf),
    /// A language model; of one in several files, the first.
    Language(PathBuf),
    /// An encoder: a file, or the directory of its safetensors.
    Encoder(PathBuf),
}

/// Formats that are recognised by name and refused: the end of the name, what it is, what to do instead.
const REFUSED: &[(&str, &str, &str)] = &[
    (".pkl", "a Python pickle", SKLEARN),
    (".pickle", "a Python pickle", SKLEARN),
    (".joblib", "a joblib pickle", SKLEARN),
    (".pt", "a PyTorch file", TORCH),
    (".pth", "a PyTorch file", TORCH),
    (".ckpt", "a training checkpoint", TORCH),
    ("saved_model.pb", "a TensorFlow SavedModel", KERAS),
    (".h5", "an HDF5 file", KERAS),
    (".hdf5", "an HDF5 file", KERAS),
    (".tflite", "a TensorFlow Lite file", KERAS),
    (".bst", "an XGBoost model", BOOSTED),
    (".ubj", "an XGBoost model", BOOSTED),
    (".mar", "a TorchServe archive", TORCH),
];

const SKLEARN: &str = "pickles can run any code and are never loaded; export the model as ONNX, \
     for scikit-learn with `skl2onnx.to_onnx(model, example)`, and upload the `.onnx` file";
const TORCH: &str =
    "export the model with `torch.onnx.export(model, example, \"model.onnx\")` and upload that file";
const KERAS: &str = "save the model with `model.save(\"model.keras\")`, or export it with \
     `model.export(\"model.onnx\", format=\"onnx\")`, and upload that file";
const BOOSTED: &str =
    "export the model as ONNX with `onnxmltools.convert_xgboost` and upload the `.onnx` file";

/// Looks for the model in `dir`.
pub(crate) fn find(dir: &Path) -> Result<Artifact, LoadError> {
    let manifest_path = dir.join(MANIFEST_FILE);
    if manifest_path.is_file() {
        let bytes = fs::read(&manifest_path).map_err(|source| unreadable(MANIFEST_FILE, source))?;
        let manifest = Box::new(Manifest::parse(&bytes)?);
        return Ok(Artifact::Trained { manifest, onnx: dir.join(MODEL_FILE) });
    }
    if ModelDirectory::is_at(dir) {
        return Ok(Artifact::Encoder(dir.to_owned()));
    }
    let files = list(dir)?;
    let models: Vec<&String> =
        files.iter().filter(|file| is(file, ".onnx") || is(file, ".keras") || is_gguf(file)).collect();
    match models.as_slice() {
        [only] if is_gguf(only) => {
            let file = dir.join(only);
            let encoder = LoadedEncoder::is_in(&file);
            Ok(if encoder { Artifact::Encoder(file) } else { Artifact::Language(file) })
        }
        [only] if is(only, ".keras") => Ok(Artifact::Keras(dir.join(only))),
        [only] => Ok(Artifact::Onnx(dir.join(only))),
        [] => match files.as_slice() {
            // Google's library names the one file that it uploads after a framework; what it is, it says itself.
            [only] if is_graph(&dir.join(only)) => Ok(Artifact::Onnx(dir.join(only))),
            _ => Err(refusal(&files)),
        },
        several if let Some(graph) = usual_graph(dir, several) => Ok(Artifact::Onnx(dir.join(graph))),
        several => Err(LoadError::SeveralModels { found: quoted(several) }),
    }
}

/// Where a model of texts has several graphs, which differ in how they were optimised: the one that others take, too.
fn usual_graph<'f>(dir: &Path, models: &[&'f String]) -> Option<&'f str> {
    let usual = ["onnx/model.onnx", "model.onnx"];
    let found = usual.into_iter().find_map(|name| models.iter().find(|file| **file == name))?;
    (Description::is_at(dir) && models.iter().all(|file| is(file, ".onnx"))).then_some(found)
}

/// Whether the name of a file ends so.
fn is(file: &str, end: &str) -> bool {
    file.to_ascii_lowercase().ends_with(end)
}

/// Whether a file begins as ONNX graphs do: with the version of the format, and then with one of the fields that follow it.
/// No format that is refused by its name begins so.
fn is_graph(path: &Path) -> bool {
    let mut begin = [0; 3];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && matches!(begin, [0x08, 3..=30, 0x12 | 0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42])
}

/// What is done to the inputs and outputs of the network in the file `onnx`, and the directory that says so: that of the
/// artifact, or else the file's own.
pub(crate) fn processing(dir: &Path, onnx: &Path) -> Result<Option<(Processing, PathBuf)>, LoadError> {
    let own = onnx.parent().filter(|own| *own != dir);
    for place in std::iter::once(dir).chain(own) {
        if let Some(processing) = Processing::at(place)? {
            return Ok(Some((processing, place.to_owned())));
        }
    }
    Ok(None)
}

/// Whether a file is a language model, and not the second or a later part of one: `…-00002-of-00005.gguf`.
fn is_gguf(file: &str) -> bool {
    let lower = file.to_ascii_lowercase();
    let Some(stem) = lower.strip_suffix(".gguf") else { return false };
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let part =
        stem.rsplit_once("-of-").filter(|(_, all)| digits(all)).and_then(|(rest, _)| rest.rsplit_once('-'));
    part.is_none_or(|(_, part)| !digits(part) || part == "00001")
}

fn refusal(files: &[String]) -> LoadError {
    for file in files {
        let lower = file.to_ascii_lowercase();
        if let Some((_, format, advice)) = REFUSED.iter().find(|(end, ..)| lower.ends_with(end)) {
            return LoadError::Refused { file: file.clone(), format, advice };
        }
    }
    let found = if files.is_empty() { "no files".into() } else { quoted(&files.iter().collect::<Vec<_>>()) };
    LoadError::NoModel { found }
}

/// The most files of an artifact that are looked at, and how deep.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 4;

/// Files below `dir`, relative to it, in order of their names.
fn list(dir: &Path) -> Result<Vec<String>, LoadError> {
    let mut files = Vec::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((under, depth)) = open.pop() {
        let entries = fs::read_dir(dir.join(&under)).map_err(|source| unreadable(&under, source))?;
        for entry in entries.take(FILES_MAX) {
            let entry = entry.map_err(|source| unreadable(&under, source))?;
            let name = format!("{under}{}", entry.file_name().to_string_lossy());
            // Of the entry itself: a link is neither, and never followed.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH_MAX => open.push((format!("{name}/"), depth + 1)),
                Ok(kind) if kind.is_file() && files.len() < FILES_MAX => files.push(name),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(file: &str, source: std::io::Error) -> LoadError {
    LoadError::Unreadable { file: file.to_owned(), source }
}

/// The first few of `files`, quoted.
fn quoted(files: &[&String]) -> String {
    const SHOWN: usize = 5;
    let mut text = files.iter().take(SHOWN).map(|f| format!("`{f}`")).collect::<Vec<_>>().join(", ");
    if files.len() > SHOWN {
        text.push_str(&format!(" and {} more", files.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn found(files: &[&str]) -> Result<PathBuf, String> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        let (Artifact::Onnx(path)
        | Artifact::Keras(path)
        | Artifact::Language(path)
        | Artifact::Encoder(path)
        | Artifact::Trained { onnx: path, .. }) = find(dir.path()).map_err(|e| e.to_string())?;
        Ok(path.strip_prefix(dir.path()).unwrap().to_owned())
    }

    #[test]
    fn exactly_one_onnx_or_keras_file_wherever_it_lies() {
        assert_eq!(found(&["net.onnx", "net.onnx.data", "README.md"]).unwrap(), Path::new("net.onnx"));
        assert_eq!(found(&["1/model.ONNX", "config.pbtxt"]).unwrap(), Path::new("1/model.ONNX"));
        assert_eq!(found(&["sub/net.keras", "README.md"]).unwrap(), Path::new("sub/net.keras"));
        assert!(found(&["a.onnx", "b.onnx"]).unwrap_err().contains("several models (`a.onnx`, `b.onnx`)"));
        assert!(found(&["a.onnx", "a.keras"]).unwrap_err().contains("several models"));
    }

    #[test]
    fn a_language_model_is_one_file_or_its_parts() {
        assert_eq!(found(&["m.gguf", "README.md"]).unwrap(), Path::new("m.gguf"));
        let parts = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
        assert_eq!(found(&parts).unwrap(), Path::new(parts[0]));
        assert!(found(&["a.gguf", "b.gguf"]).unwrap_err().contains("several models"));
        assert!(found(&["a.gguf", "b.onnx"]).unwrap_err().contains("several models"));
    }

    #[test]
    fn an_encoder_is_its_directory_whatever_lies_below() {
        let files = ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx"];
        assert_eq!(found(&files).unwrap(), Path::new(""));
        assert_eq!(found(&files[2..]).unwrap(), Path::new("onnx/model.onnx"));
        assert!(found(&files[1..3]).unwrap_err().contains("`model.safetensors`"));
    }

    #[test]
    fn other_formats_are_refused_by_name_with_advice() {
        let cases: [(&[&str], &str); 8] = [
            (&["model.pkl"], "skl2onnx"),
            (&["sub/model.joblib"], "skl2onnx"),
            (&["model.pt"], "torch.onnx.export"),
            (&["saved_model.pb", "variables/variables.index"], "model.export"),
            (&["model.h5"], "model.save"),
            (&["model.bst"], "onnxmltools"),
            (&["weights.bin"], "it has `weights.bin`"),
            (&[], "it has no files"),
        ];
        for (files, advice) in cases {
            let error = found(files).unwrap_err();
            assert!(error.contains(advice), "{files:?}: {error}");
        }
    }

    #[test]
    fn one_file_is_what_it_says_whatever_its_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.bst"), [0x08, 8, 0x12, 0]).unwrap();
        assert!(matches!(find(dir.path()), Ok(Artifact::Onnx(path)) if path.ends_with("model.bst")));
        // That of a SavedModel.
        fs::write(dir.path().join("model.bst"), [0x08, 1, 0x12, 0]).unwrap();
        assert!(matches!(find(dir.path()), Err(LoadError::Refused { .. })));
    }

    #[test]
    fn a_missing_directory_is_an_error_without_its_path() {
        let error = find(Path::new("/nonexistent/secret/place")).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
