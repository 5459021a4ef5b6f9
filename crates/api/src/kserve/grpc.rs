//! The protocol over gRPC: `inference.GRPCInferenceService`.

use std::time::Instant;

use bytes::Bytes;
use serving::Pick;

use super::datatype::{Elements, exact, put, size};
use super::infer::{Answer, Contents, Input, Output, PORTS_MAX, check_name, infer};
use super::messages::{
    Choice, Empty, InferInputTensor, InferOutputTensor, InferTensorContents, ModelIndex, ModelInferRequest,
    ModelInferResponse, ModelMetadataResponse, ModelReadyResponse, ModelRequest, Parameter, Parameters,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelRequest, ServerLiveResponse,
    ServerMetadataResponse, ServerReadyResponse, TensorMetadata,
};
use super::models::{Port, describe, is_ready};
use super::{EXTENSIONS, SERVER, parent, pick, repository, unserved};
use crate::Fault;
use crate::fields::{invalid, unsupported};
use crate::http::Access::{Needs, Public};
use crate::http::Permission::{Invoke, Look, Read, Write};
use crate::http::{Access, Call, Route, grpc};
use crate::language::{find_predictor, project_of};

/// The service.
const SERVICE: &str = "inference.GRPCInferenceService";

/// Procedures that are known and not served.
const UNSERVED: [(&str, Access); 11] = [
    ("ModelStreamInfer", Needs(Invoke)),
    ("ModelConfig", Needs(Look)),
    ("ModelStatistics", Needs(Look)),
    ("SystemSharedMemoryStatus", Needs(Look)),
    ("SystemSharedMemoryRegister", Needs(Write)),
    ("SystemSharedMemoryUnregister", Needs(Write)),
    ("CudaSharedMemoryStatus", Needs(Look)),
    ("CudaSharedMemoryRegister", Needs(Write)),
    ("CudaSharedMemoryUnregister", Needs(Write)),
    ("TraceSetting", Needs(Write)),
    ("LogSettings", Needs(Write)),
];

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    let served = [
        grpc::unary(SERVICE, "ServerLive", Public, live),
        grpc::unary(SERVICE, "ServerReady", Public, ready),
        grpc::unary(SERVICE, "ServerMetadata", Needs(Look), server),
        grpc::unary(SERVICE, "ModelReady", Needs(Look), model_ready),
        grpc::unary(SERVICE, "ModelMetadata", Needs(Look), metadata),
        grpc::unary(SERVICE, "ModelInfer", Needs(Invoke), answer),
        grpc::unary(SERVICE, "RepositoryIndex", Needs(Read), index),
        grpc::unary(SERVICE, "RepositoryModelLoad", Needs(Write), load),
        grpc::unary(SERVICE, "RepositoryModelUnload", Needs(Write), unload),
    ];
    let unserved = UNSERVED.into_iter().map(|(method, access)| {
        grpc::unary(SERVICE, method, access, move |_: Call, _: Empty, _| async move {
            Err::<Empty, _>(unserved(method))
        })
    });
    served.into_iter().chain(unserved).flatten().collect()
}

async fn live(_: Call, _: Empty, _: Instant) -> Result<ServerLiveResponse, Fault> {
    Ok(ServerLiveResponse { live: true })
}

async fn ready(_: Call, _: Empty, _: Instant) -> Result<ServerReadyResponse, Fault> {
    Ok(ServerReadyResponse { ready: true })
}

async fn server(_: Call, _: Empty, _: Instant) -> Result<ServerMetadataResponse, Fault> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let extensions = EXTENSIONS.iter().map(|name| (*name).to_owned()).collect();
    Ok(ServerMetadataResponse { name: SERVER.to_owned(), version, extensions })
}

async fn model_ready(call: Call, asked: ModelRequest, _: Instant) -> Result<ModelReadyResponse, Fault> {
    let project = project_of(&call, None)?;
    let ready = is_ready(&call.app, &project, &asked.name, pick(&asked.version, Pick::Most)?)?;
    Ok(ModelReadyResponse { ready })
}

async fn metadata(call: Call, asked: ModelRequest, _: Instant) -> Result<ModelMetadataResponse, Fault> {
    let project = project_of(&call, None)?;
    let model = describe(&call.app, &project, &asked.name, pick(&asked.version, Pick::Most)?)?;
    let tensor = |Port { name, datatype, shape, .. }: Port| TensorMetadata {
        name,
        datatype: datatype.to_owned(),
        shape,
    };
    Ok(ModelMetadataResponse {
        name: model.name,
        versions: model.versions,
        platform: model.platform.to_owned(),
        inputs: model.inputs.into_iter().map(tensor).collect(),
        outputs: model.outputs.into_iter().map(tensor).collect(),
    })
}

async fn answer(call: Call, asked: ModelInferRequest, until: Instant) -> Result<ModelInferResponse, Fault> {
    let began = Instant::now();
    let project = project_of(&call, None)?;
    let ModelInferRequest { model_name, model_version, id, parameters, inputs, outputs, raw_input_contents } =
        asked;
    let mut deadline = until.min(began + call.app.limits.predict_timeout);
    for (name, parameter) in &parameters {
        match (name.as_str(), whole(parameter)) {
            ("timeout", Some(0)) => {}
            ("timeout", Some(us)) => deadline = deadline.min(began + std::time::Duration::from_micros(us)),
            _ => return Err(unhonoured(name, "parameters")),
        }
    }
    let inputs = read_inputs(inputs, raw_input_contents)?;
    if outputs.len() > PORTS_MAX {
        return Err(invalid("outputs", format!("names more than {PORTS_MAX} outputs")));
    }
    let wanted = outputs.into_iter().map(|output| {
        check_name(&output.name)?;
        let classes = classes(&output.name, &output.parameters)?;
        Ok(Output { name: output.name, classes, binary: true })
    });
    let wanted = Some(wanted.collect::<Result<Vec<_>, Fault>>()?).filter(|wanted| !wanted.is_empty());
    let route = find_predictor(&call.app, &project, &model_name, pick(&model_version, Pick::Split)?)?;
    let answers = infer(&call.app, &route, inputs, wanted, true, deadline).await?;
    let model_version = route.deployed.version.to_string();
    let raw_output_contents = answers.iter().map(raw).collect();
    let outputs = answers.into_iter().map(|answer| InferOutputTensor {
        name: answer.name,
        datatype: answer.datatype.name().to_owned(),
        shape: answer.shape.iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX)).collect(),
    });
    let outputs = outputs.collect();
    call.app.metrics.predicted(began.elapsed());
    Ok(ModelInferResponse { model_name, model_version, id, outputs, raw_output_contents })
}

fn raw(answer: &Answer) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size(&answer.data));
    put(&answer.data, &mut bytes);
    bytes
}

/// The inputs, all with raw contents or all with typed ones.
fn read_inputs(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> Result<Vec<Input>, Fault> {
    if inputs.len() > PORTS_MAX {
        return Err(invalid("inputs", format!("names more than {PORTS_MAX} inputs")));
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        let (found, wanted) = (raw.len(), inputs.len());
        return Err(invalid("raw_input_contents", format!("has {found} entries for {wanted} inputs")));
    }
    let mut raw = raw.into_iter();
    let inputs = inputs.into_iter().map(|input| {
        let InferInputTensor { name, datatype, shape, parameters, contents } = input;
        check_name(&name)?;
        check_name(&datatype)?;
        if let Some(parameter) = parameters.keys().next() {
            return Err(unhonoured(parameter, &format!("parameters of input `{name}`")));
        }
        let contents = match (raw.next(), contents) {
            (Some(bytes), None) => Contents::Binary(bytes),
            (None, Some(contents)) => {
                let wrong = |what: String| Fault::invalid(format!("input `{name}`: {what}"));
                Contents::Elements(typed(contents).map_err(wrong)?)
            }
            (None, None) => return Err(Fault::invalid(format!("input `{name}` has no contents"))),
            (Some(_), Some(_)) => {
                return Err(Fault::invalid(format!("input `{name}` has both typed and raw contents")));
            }
        };
        Ok(Input { name, datatype, shape, contents })
    });
    inputs.collect()
}

/// The elements of the one field that has some.
fn typed(contents: InferTensorContents) -> Result<Elements, String> {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let mut found = Vec::new();
    let mut add = |elements: Elements| {
        if elements.len() > 0 {
            found.push(elements);
        }
    };
    add(Elements::Bools(bool_contents));
    add(Elements::Numbers(int_contents.into_iter().map(f64::from).collect()));
    add(Elements::Numbers(exact(int64_contents.into_iter().map(i128::from))?));
    add(Elements::Numbers(uint_contents.into_iter().map(f64::from).collect()));
    add(Elements::Numbers(exact(uint64_contents.into_iter().map(i128::from))?));
    add(Elements::Numbers(fp32_contents.into_iter().map(f64::from).collect()));
    add(Elements::Numbers(fp64_contents));
    add(Elements::Texts(bytes_contents));
    match (found.pop(), found.is_empty()) {
        (Some(elements), true) => Ok(elements),
        (None, _) => Ok(Elements::Numbers(Vec::new())),
        (Some(_), false) => Err("has contents of several types".to_owned()),
    }
}

fn classes(output: &str, parameters: &Parameters) -> Result<Option<u32>, Fault> {
    let mut classes = None;
    for (name, parameter) in parameters {
        match (name.as_str(), whole(parameter).map(u32::try_from)) {
            ("classification", Some(Ok(k))) => classes = Some(k).filter(|k| *k > 0),
            // All outputs go so.
            ("binary_data", _) if parameter.choice == Some(Choice::Bool(true)) => {}
            _ => return Err(unhonoured(name, &format!("parameters of output `{output}`"))),
        }
    }
    Ok(classes)
}

fn whole(parameter: &Parameter) -> Option<u64> {
    match parameter.choice {
        Some(Choice::Int64(n)) => u64::try_from(n).ok(),
        Some(Choice::Uint64(n)) => Some(n),
        _ => None,
    }
}

fn unhonoured(name: &str, place: &str) -> Fault {
    let name: String = name.chars().take(80).collect();
    let so = match name.starts_with("shared_memory") {
        true => "is not served: shared memory is not offered here, send the data in the request",
        false => "has no effect on this server, or not with this value: leave it out",
    };
    unsupported(format!("{name} in the {place}"), so)
}

async fn index(
    call: Call,
    asked: RepositoryIndexRequest,
    _: Instant,
) -> Result<RepositoryIndexResponse, Fault> {
    refuse_repository(&asked.repository_name)?;
    let models = repository::index(&call.app, &parent(&call)?, asked.ready).await?;
    let models = models.into_iter().map(|model| ModelIndex {
        state: model.state().to_owned(),
        reason: model.reason.to_owned(),
        name: model.name,
        version: model.version,
    });
    Ok(RepositoryIndexResponse { models: models.collect() })
}

async fn load(call: Call, asked: RepositoryModelRequest, _: Instant) -> Result<Empty, Fault> {
    refuse_repository(&asked.repository_name)?;
    if let Some(name) = asked.parameters.keys().next() {
        return Err(unhonoured(name, "parameters"));
    }
    repository::load(&call.app, &parent(&call)?, &asked.model_name).await?;
    Ok(Empty {})
}

async fn unload(call: Call, asked: RepositoryModelRequest, _: Instant) -> Result<Empty, Fault> {
    refuse_repository(&asked.repository_name)?;
    // Nothing here depends on another model in the repository's sense.
    if let Some(name) = asked.parameters.keys().find(|name| *name != "unload_dependents") {
        return Err(unhonoured(name, "parameters"));
    }
    repository::unload(&call.app, &parent(&call)?, &asked.model_name).await?;
    Ok(Empty {})
}

/// A project has one repository, which has no name.
fn refuse_repository(name: &str) -> Result<(), Fault> {
    match name.is_empty() {
        true => Ok(()),
        false => Err(unsupported("repository_name", "has no effect on this server: leave it out")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn input(contents: Option<InferTensorContents>) -> InferInputTensor {
        InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1],
            contents,
            ..Default::default()
        }
    }

    #[test]
    fn contents_are_typed_or_raw() {
        let typed = |contents| Some(InferTensorContents { fp32_contents: contents, ..Default::default() });
        let read = read_inputs(vec![input(typed(vec![1.5]))], vec![]).unwrap();
        assert!(matches!(&read[0].contents, Contents::Elements(Elements::Numbers(n)) if *n == [1.5]));
        let read = read_inputs(vec![input(None)], vec![Bytes::from_static(b"abcd")]).unwrap();
        assert!(matches!(&read[0].contents, Contents::Binary(bytes) if bytes == "abcd"));
        let raw = || vec![Bytes::from_static(b"abcd")];
        let two = InferTensorContents {
            fp32_contents: vec![1.0],
            bool_contents: vec![true],
            ..InferTensorContents::default()
        };
        for (inputs, raw) in [
            (vec![input(None)], vec![]),
            (vec![input(typed(vec![1.0]))], raw()),
            (vec![input(None), input(None)], raw()),
            (vec![], raw()),
            (vec![input(Some(two))], vec![]),
        ] {
            assert!(read_inputs(inputs, raw).is_err());
        }
    }

    #[test]
    fn shared_memory_is_refused_by_name() {
        let region = Parameter { choice: Some(Choice::String("r".into())) };
        let parameters = Parameters::from([("shared_memory_region".to_owned(), region)]);
        let fault = read_inputs(vec![InferInputTensor { parameters, ..input(None) }], vec![]).err().unwrap();
        assert!(fault.message.contains("shared memory is not offered"), "{}", fault.message);
    }
}
