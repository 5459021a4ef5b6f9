//! The Open Inference Protocol, which KServe, Triton and their clients speak, over HTTP and gRPC, with the binary tensor
//! extension, classification, and the model repository.
//!
//! [`rest`] and [`grpc`] read a request, [`json`] and [`messages`] say in what form; [`infer`] hands its tensors to a
//! model by name, [`datatype`] between the protocol's element types and the model's own. [`models`] describes what is
//! served, [`repository`] lists, loads and unloads. Shared memory is refused by name.

mod datatype;
mod grpc;
mod infer;
mod json;
mod messages;
mod models;
mod repository;
mod rest;

use control::Parent;
use serving::Pick;

use crate::http::{Call, Route};
use crate::language::project_of;
use crate::{Code, Fault};

/// What this server is called in this protocol.
const SERVER: &str = "meuse";
/// The parts of the protocol beyond its core.
const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "classification", "model_repository"];
/// The location of models that are named without one.
const LOCATION: &str = "us-central1";

/// The routes of this protocol.
pub fn routes() -> Vec<Route> {
    rest::routes().into_iter().chain(grpc::routes()).collect()
}

/// The version that a request names, or what `otherwise` says where it names none.
fn pick<'a>(version: &'a str, otherwise: Pick<'a>) -> Result<Pick<'a>, Fault> {
    if version.is_empty() {
        return Ok(otherwise);
    }
    let unknown = || {
        let version: String = version.chars().take(80).collect();
        Fault::not_found(format!("`{version}` is no version: these are numbers from 1"))
    };
    version.parse().map(Pick::Version).map_err(|_| unknown())
}

/// Where the call's models are.
fn parent(call: &Call) -> Result<Parent, Fault> {
    Ok(Parent { project: project_of(call, None)?.to_string(), location: LOCATION.to_owned() })
}

/// That a part of the protocol is not served.
fn unserved(what: &str) -> Fault {
    let message = match what.to_ascii_lowercase().contains("sharedmemory") {
        true => {
            format!("{what} is not served: shared memory is not offered here, send the data in the request")
        }
        false => format!("{what} is not served by this server"),
    };
    Fault::new(Code::Unimplemented, message)
}
