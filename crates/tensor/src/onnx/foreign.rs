//! [`Foreign`]: a graph that ONNX Runtime computes, where the operator has brought its library.
//!
//! The library convolves several times faster than what is built in, and has operators that are not. It comes as a
//! file of the operator's, opened once: nothing of it is built into the program.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, TensorRef};
use rten_onnx::onnx::DataType as Element;

use super::error::{LoadError, RunError};
use super::inspect::Inspection;
use super::ports::{self, Declared, Ports};
use super::{failed, rows};
use crate::{Data, Signature, Tensor, Tensors};

/// A model whose weights take more has one session on all processors; others have one a processor.
const SESSIONS_BYTES_MAX: u64 = 256 << 20;

/// The library, once it is open.
static LIBRARY: OnceLock<Environment> = OnceLock::new();

/// Why the library cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` cannot be used as ONNX Runtime's library: {reason}")]
pub struct LibraryError {
    path: String,
    reason: String,
}

/// Opens ONNX Runtime's library for this process: models that it computes faster than what is built in are computed by
/// it from then on, and those that only it can. Whoever names the file runs its code.
///
/// # Errors
/// If it is no such library, or too old a one.
pub fn open_onnxruntime(path: &Path) -> Result<(), LibraryError> {
    let refuse =
        |reason: String| LibraryError { path: path.display().to_string(), reason: reason.trim().to_owned() };
    // A name alone would be looked for beside the program.
    let real = path.canonicalize().map_err(|e| refuse(e.to_string()))?;
    let builder = ort::init_from(real).map_err(|e| refuse(e.to_string()))?;
    let environment = builder.with_telemetry(false).build().map_err(|e| refuse(e.to_string()))?;
    // A second opening finds the first one.
    let _ = LIBRARY.set(environment);
    Ok(())
}

/// Whether there is a library.
pub(super) fn is_open() -> bool {
    LIBRARY.get().is_some()
}

/// How many sessions a model whose files take `size` bytes has, and the threads of each.
fn sessions(size: u64) -> (usize, usize) {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    if size > SESSIONS_BYTES_MAX { (1, processors) } else { (processors, 1) }
}

/// How many copies of a model's weights the library may hold.
pub(super) fn copies(size: u64) -> u64 {
    if is_open() { sessions(size).0 as u64 } else { 0 }
}

/// Where the graph comes from.
pub(super) enum Source<'a> {
    /// The file's bytes, which hold all of its weights.
    Bytes(&'a [u8]),
    /// A file with weights in others beside it, all of which were looked at.
    File(&'a Path),
}

/// A loaded graph. Rows run one at a time, so that a row gives the same bits in any company.
#[derive(Debug)]
pub(super) struct Foreign {
    /// Each runs one row at a time.
    sessions: Vec<Mutex<Session>>,
    turn: AtomicUsize,
    signature: Signature,
    inputs: Vec<Declared>,
    outputs: Vec<Declared>,
    notes: Vec<String>,
    batched: bool,
}

impl Foreign {
    /// The graph of a file that was inspected, and whose files take `size` bytes.
    pub(super) fn of(
        source: &Source<'_>,
        size: usize,
        inspection: &Inspection,
        ports: Ports,
    ) -> Result<Foreign, LoadError> {
        let library =
            LIBRARY.get().ok_or_else(|| LoadError::Invalid { reason: "there is no library".to_owned() })?;
        let (sessions, threads) = sessions(size as u64);
        let open = |_| Ok(Mutex::new(session(library, source, threads).map_err(invalid)?));
        let Ports { inputs, outputs, mut notes } = ports;
        notes.push("ONNX Runtime's library computes it".to_owned());
        let signature = Signature {
            inputs: inputs.iter().map(|port| port.spec.clone()).collect(),
            outputs: outputs.iter().map(|port| port.spec.clone()).collect(),
        };
        Ok(Foreign {
            sessions: (0..sessions).map(open).collect::<Result<_, _>>()?,
            turn: AtomicUsize::new(0),
            batched: ports::share_a_batch(&signature, |name| inspection.batch_name(name)),
            signature,
            inputs,
            outputs,
            notes,
        })
    }

    /// What the model takes and gives.
    pub(super) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What the model's owner should know.
    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// As [`super::OnnxModel::is_batched`].
    pub(super) fn is_batched(&self) -> bool {
        self.batched
    }

    /// As [`super::OnnxModel::run`].
    pub(super) fn run(&self, inputs: &[(String, Tensor)]) -> Result<Tensors, RunError> {
        let specs: Vec<_> = self.signature.inputs.iter().collect();
        let ordered = ports::check(&specs, inputs, self.batched)?;
        let rows = ordered.first().map_or(1, |tensor| tensor.rows());
        let mut session = self.session();
        let session = &mut *session;
        if !self.batched || rows == 1 {
            return self.run_on(session, &ordered);
        }
        rows::each(&ordered, rows, &self.signature.outputs, |row| self.run_on(session, row))
    }

    /// A session that is free, or the next one.
    fn session(&self) -> MutexGuard<'_, Session> {
        let free = self.sessions.iter().find_map(|session| match session.try_lock() {
            Ok(free) => Some(free),
            Err(TryLockError::Poisoned(free)) => Some(free.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        free.unwrap_or_else(|| {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.sessions.len();
            self.sessions[turn].lock().unwrap_or_else(PoisonError::into_inner)
        })
    }

    fn run_on(&self, session: &mut Session, inputs: &[&Tensor]) -> Result<Tensors, RunError> {
        let given = self.inputs.iter().zip(inputs);
        let given: Vec<(&str, SessionInputValue<'_>)> = given
            .map(|(port, tensor)| Ok((port.spec.name.as_str(), value(port, tensor)?)))
            .collect::<Result<_, RunError>>()?;
        let mut given_back = session.run(given).map_err(failed)?;
        let one = |port: &Declared| {
            let name = &port.spec.name;
            let value =
                given_back.remove(name).ok_or_else(|| failed(format!("there is no output `{name}`")))?;
            Ok((name.clone(), tensor(port, &value)?))
        };
        self.outputs.iter().map(one).collect()
    }
}

fn session(library: &Environment, source: &Source<'_>, threads: usize) -> ort::Result<Session> {
    let mut builder: SessionBuilder = Session::builder(library)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?;
    match source {
        Source::Bytes(bytes) => builder.commit_from_memory(bytes),
        Source::File(path) => builder.commit_from_file(path),
    }
}

fn invalid(error: ort::Error) -> LoadError {
    LoadError::Invalid { reason: error.to_string() }
}

/// A tensor as the library takes it: of the type that the file declares.
fn value<'a>(port: &Declared, tensor: &'a Tensor) -> Result<SessionInputValue<'a>, RunError> {
    let shape = tensor.shape();
    let made: ort::Result<SessionInputValue<'a>> = match (port.element, tensor.data()) {
        (Element::FLOAT, Data::F32(v)) => TensorRef::from_array_view((shape, v.as_slice())).map(Into::into),
        (Element::DOUBLE, Data::F32(v)) => owned(shape, v.iter().map(|&x| f64::from(x)).collect()),
        (Element::INT32, Data::I32(v)) => TensorRef::from_array_view((shape, v.as_slice())).map(Into::into),
        (Element::INT64, Data::I32(v)) => owned(shape, v.iter().map(|&x| i64::from(x)).collect()),
        (Element::BOOL, Data::I32(v)) => {
            port.narrow(v)?;
            owned(shape, v.iter().map(|&x| x != 0).collect())
        }
        (Element::INT8, Data::I32(v)) => {
            port.narrow(v)?;
            owned(shape, v.iter().map(|&x| x as i8).collect())
        }
        (Element::UINT8, Data::I32(v)) => {
            port.narrow(v)?;
            owned(shape, v.iter().map(|&x| x as u8).collect())
        }
        (element, _) => {
            return Err(failed(format!("input `{}` is {element}, which is not passed on", port.spec.name)));
        }
    };
    made.map_err(failed)
}

fn owned<'a, T>(shape: &[usize], values: Vec<T>) -> ort::Result<SessionInputValue<'a>>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    ort::value::Tensor::from_array((shape.to_vec(), values)).map(Into::into)
}

/// What the library gave, as a tensor of the declared type.
fn tensor(port: &Declared, value: &DynValue) -> Result<Tensor, RunError> {
    let (shape, data) = match port.element {
        Element::FLOAT => extract(value, |v: &[f32]| Data::F32(v.to_vec())),
        Element::DOUBLE => extract(value, |v: &[f64]| Data::F32(v.iter().map(|&x| x as f32).collect())),
        Element::INT32 => extract(value, |v: &[i32]| Data::I32(v.to_vec())),
        Element::INT64 => return wide(port, value),
        Element::BOOL => extract(value, |v: &[bool]| Data::I32(v.iter().map(|&x| i32::from(x)).collect())),
        Element::INT8 => extract(value, |v: &[i8]| Data::I32(v.iter().map(|&x| i32::from(x)).collect())),
        Element::UINT8 => extract(value, |v: &[u8]| Data::I32(v.iter().map(|&x| i32::from(x)).collect())),
        other => {
            return Err(failed(format!("output `{}` is {other}, which is not passed on", port.spec.name)));
        }
    }
    .map_err(failed)?;
    Tensor::new(shape, data).map_err(failed)
}

fn extract<T: ort::value::PrimitiveTensorElementType>(
    value: &DynValue,
    data: impl Fn(&[T]) -> Data,
) -> ort::Result<(Vec<usize>, Data)> {
    let (shape, values) = value.try_extract_tensor::<T>()?;
    Ok((sizes(shape), data(values)))
}

fn wide(port: &Declared, value: &DynValue) -> Result<Tensor, RunError> {
    let (shape, values) = value.try_extract_tensor::<i64>().map_err(failed)?;
    Tensor::from_i64(sizes(shape), values).map_err(|e| failed(format!("output `{}`: {e}", port.spec.name)))
}

fn sizes(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect()
}
