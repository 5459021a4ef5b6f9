//! From files to the runtime's model.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path};

use rten::ModelOptions;
use rten_onnx::onnx::{
    AttributeProto, AttributeType, GraphProto, ModelProto, StringStringEntryProto, TensorProto,
};

use super::inspect::Inspection;
use super::{LoadError, panic_text};

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
/// the name that the model has for them.
pub(super) fn parse(
    bytes: Vec<u8>,
    external: Vec<(String, Vec<u8>)>,
    bare_conv: bool,
) -> Result<rten::Model, LoadError> {
    let size = bytes.len() + external.iter().map(|(_, content)| content.len()).sum::<usize>();
    let load = move || {
        let bytes = match bare_conv || !external.is_empty() {
            true => patched(&bytes, &external)?,
            false => bytes,
        };
        let mut options = ModelOptions::with_all_ops();
        options.prepack_weights(size <= PREPACK_BYTES_MAX);
        for (i, (_, content)) in external.into_iter().enumerate() {
            options.external_data(&plain_location(i), content);
        }
        options.load(bytes).map_err(|error| explain(&error))
    };
    match catch_unwind(AssertUnwindSafe(load)) {
        Ok(outcome) => outcome,
        Err(panic) => Err(LoadError::Invalid { reason: panic_text(&*panic) }),
    }
}

/// A name that the runtime accepts for the `i`th file of weights; it refuses most that the format allows.
fn plain_location(i: usize) -> String {
    format!("{i}.data")
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

/// Writes the model anew with what the format allows and the runtime does not: convolutions that leave
/// their window to be inferred from their weights, and weights in files of any name, as a whole.
fn patched(bytes: &[u8], external: &[(String, Vec<u8>)]) -> Result<Vec<u8>, LoadError> {
    let damaged =
        |error: rten_onnx::protobuf::ProtobufError| LoadError::NotOnnx { reason: error.to_string() };
    let mut model = ModelProto::parse_buf(bytes).map_err(damaged)?;
    if let Some(graph) = &mut model.graph {
        add_windows(graph);
        let constants =
            graph.node.iter_mut().flat_map(|node| &mut node.attribute).filter_map(|a| a.t.as_mut());
        for tensor in graph.initializer.iter_mut().chain(constants) {
            relocate(tensor, external);
        }
    }
    model.write_buf().map_err(damaged)
}

/// Writes out the windows of convolutions.
fn add_windows(graph: &mut GraphProto) {
    let windows: HashMap<&str, &[i64]> = graph
        .initializer
        .iter()
        .filter_map(|weights| Some((weights.name.as_deref()?, weights.dims.get(2..)?)))
        .collect();
    for node in graph.node.iter_mut().filter(|node| node.op_type.as_deref() == Some("Conv")) {
        let window = node.input.get(1).and_then(|weights| windows.get(weights.as_str()));
        let has = node.attribute.iter().any(|a| a.name.as_deref() == Some("kernel_shape"));
        if let (Some(window), false) = (window, has) {
            node.attribute.push(AttributeProto {
                name: Some("kernel_shape".to_owned()),
                ints: window.to_vec(),
                r#type: Some(AttributeType::INTS),
                ..AttributeProto::default()
            });
        }
    }
}

/// Says where the data of an external tensor are: in which file, by its plain name, from where, how long.
fn relocate(tensor: &mut TensorProto, external: &[(String, Vec<u8>)]) {
    let entry = |key: &str| {
        let entries = tensor.external_data.iter();
        entries.filter(|e| e.key.as_deref() == Some(key)).find_map(|e| e.value.clone())
    };
    let Some(location) = entry("location") else { return };
    let Some(i) = external.iter().position(|(name, _)| *name == location) else { return };
    let offset = entry("offset").unwrap_or_else(|| "0".to_owned());
    let rest = external.get(i).map_or(0, |(_, content)| content.len() as u64);
    let rest = rest.saturating_sub(offset.parse().unwrap_or_default());
    let length = entry("length").unwrap_or_else(|| rest.to_string());
    tensor.external_data = [("location", plain_location(i)), ("offset", offset), ("length", length)]
        .map(|(key, value)| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) })
        .to_vec();
}
