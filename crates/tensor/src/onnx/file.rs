//! From files to the runtime's model.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path};

use rten::{ModelOptions, ShapeInferenceMode};

use super::inspect::Inspection;
use super::separate::Operand;
use super::{LoadError, panic_text, rewrite};

/// Models up to this size keep a second copy of their weights, laid out for multiplication: small batches
/// then run up to twice as fast.
const PREPACK_BYTES_MAX: usize = 256 << 20;

/// Reads a file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, LoadError> {
    let io = |source| LoadError::Io { path: path.to_owned(), source };
    if path.is_dir() {
        return Err(match path.join("saved_model.pb").exists() {
            true => LoadError::WrongFormat {
                found: "a TensorFlow SavedModel",
                advice: "re-export it with `model.export(\"model.onnx\", format=\"onnx\")`",
            },
            false => LoadError::NotOnnx { reason: "it is a directory".to_owned() },
        });
    }
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes > max {
        return Err(LoadError::TooLarge { bytes, max });
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    // The file may grow meanwhile.
    file.take(max.saturating_add(1)).read_to_end(&mut content).map_err(io)?;
    match content.len() as u64 {
        bytes if bytes > max => Err(LoadError::TooLarge { bytes, max }),
        _ => Ok(content),
    }
}

/// See [`super::OnnxModel::memory_needed`]: the files once, and once more where the runtime lays them out anew; with the
/// library, once for each of its sessions.
pub(super) fn memory_needed(path: &Path) -> std::io::Result<u64> {
    let mut files = path.metadata()?.len();
    for entry in path.parent().map(std::fs::read_dir).transpose()?.into_iter().flatten() {
        let entry = entry?;
        if entry.path() != path && entry.file_type()?.is_file() {
            files = files.saturating_add(entry.metadata()?.len());
        }
    }
    let copies = if files <= PREPACK_BYTES_MAX as u64 { 2 } else { 1 };
    Ok(files.saturating_mul(copies + super::foreign::copies(files)))
}

/// Reads the files in which a model keeps weights, which must lie beside or below it.
pub(super) fn read_external(
    directory: &Path,
    locations: &[String],
    mut budget: u64,
) -> Result<Vec<Vec<u8>>, LoadError> {
    let mut files = Vec::with_capacity(locations.len());
    for location in locations {
        let refuse = |reason: String| LoadError::ExternalData { location: location.clone(), reason };
        let relative = Path::new(location);
        if location.is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(refuse("only files beside the model may be read".to_owned()));
        }
        let path = directory.join(relative);
        let missing = |error| refuse(format!("{error}; upload the file together with the model"));
        // A link could lead anywhere.
        let real = path.canonicalize().map_err(missing)?;
        if !real.starts_with(directory.canonicalize().map_err(missing)?) {
            return Err(refuse("it is a link to a file elsewhere".to_owned()));
        }
        let content = match read(&real, budget) {
            Err(LoadError::Io { source, .. }) => return Err(refuse(source.to_string())),
            other => other?,
        };
        budget = budget.saturating_sub(content.len() as u64);
        files.push(content);
    }
    Ok(files)
}

/// Refuses operators of domains that the runtime has nothing of.
pub(super) fn check_operators(inspection: &Inspection) -> Result<(), LoadError> {
    let operators: Vec<String> = inspection
        .operators
        .iter()
        .filter(|(domain, _)| !matches!(domain.as_str(), "" | "ai.onnx" | "com.microsoft"))
        .map(|(domain, name)| format!("{name} ({domain})"))
        .collect();
    match operators.is_empty() {
        true => Ok(()),
        false => Err(LoadError::UnsupportedOperators { operators }),
    }
}

/// Has the runtime parse and optimise the model. `external` are the files that weights are kept in, by
/// the name that the model has for them. Also gives the operands
/// that the products depend on, if these are known. `prepack` is whether weights may be laid out for multiplication.
pub(super) fn parse(
    bytes: Vec<u8>,
    external: Vec<(String, Vec<u8>)>,
    inspection: &Inspection,
    prepack: bool,
) -> Result<(rten::Model, Option<Vec<Operand>>), LoadError> {
    let size = bytes.len() + external.iter().map(|(_, content)| content.len()).sum::<usize>();
    let (bytes, operands) = match rewrite::needed(inspection) {
        true => guarded(|| rewrite::rewrite(&bytes, &external, inspection))?,
        false => (bytes, None),
    };
    let mut options = ModelOptions::with_all_ops();
    options.prepack_weights(prepack && size <= PREPACK_BYTES_MAX);
    for (i, (_, content)) in external.into_iter().enumerate() {
        options.external_data(&rewrite::plain_location(i), content);
    }
    let again = (size <= PREPACK_BYTES_MAX).then(|| bytes.clone());
    let model = match (guarded(|| options.load(bytes).map_err(|error| explain(&error))), again) {
        // Shape inference, which only serves speed, fails on some right models.
        (Err(LoadError::Invalid { .. }), Some(bytes)) => {
            options.shape_inference(ShapeInferenceMode::Off);
            guarded(|| options.load(bytes).map_err(|error| explain(&error)))
        }
        (outcome, _) => outcome,
    };
    Ok((model?, operands))
}

/// Makes an error of a panic.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, LoadError>) -> Result<T, LoadError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(LoadError::Invalid { reason: panic_text(&*panic) }))
}

/// The runtime's error as ours. Its kind does not tell an unknown operator apart; its text does.
fn explain(error: &rten::LoadError) -> LoadError {
    let text = error.to_string();
    match text.split_once(" operator not supported") {
        Some((before, _)) => {
            let name = before.rsplit([' ', ':']).next().unwrap_or_default();
            LoadError::UnsupportedOperators { operators: vec![name.to_owned()] }
        }
        None => LoadError::Invalid { reason: text },
    }
}
