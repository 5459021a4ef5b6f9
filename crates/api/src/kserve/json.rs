//! The protocol's requests and replies in JSON, with tensors beside it in the binary form.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::de::{self, DeserializeSeed, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use tensor::Data;

use super::datatype::{Elements, put, size};
use super::infer::{Answer, Contents, Input, Output, PORTS_MAX, check_name};
use crate::fields::{Fields, invalid};
use crate::http::Route;
use crate::{Fault, shape};

/// Shared memory is between processes of one machine, and this server is asked over the network.
const SHARED_MEMORY: &str = "is not served: shared memory is not offered here, send the data in the request";

/// The most dimensions of a tensor.
const DIMENSIONS_MAX: usize = 32;

/// A request as it was read.
pub(super) struct Request {
    pub(super) id: Option<String>,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Option<Vec<Output>>,
    /// Whether outputs that are not named are told in the binary form.
    pub(super) binary: bool,
    pub(super) timeout: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRequest {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    inputs: Few<WireInput>,
    #[serde(default)]
    outputs: Option<Few<WireOutput>>,
    /// The path says which; some clients repeat it.
    #[serde(default)]
    #[allow(dead_code, reason = "named so that it is taken")]
    model_name: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireInput {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    data: Option<Flat>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireOutput {
    name: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
}

/// `route`, known for the fields that [`Request::read`] takes.
pub(super) fn described(route: Route) -> Route {
    route.takes_body(shape::of::<WireRequest>())
}

impl Request {
    /// Reads a body whose first `json_bytes` are JSON, all of it where the client does not say.
    pub(super) fn read(body: &Bytes, json_bytes: Option<usize>) -> Result<Request, Fault> {
        let length = json_bytes.unwrap_or(body.len());
        let (json, binary) = match body.len() >= length {
            true => (body.slice(..length), body.slice(length..)),
            false => {
                let message = format!("says {length} bytes of JSON, and the body has {}", body.len());
                return Err(invalid("Inference-Header-Content-Length", message));
            }
        };
        let wire: WireRequest = serde_json::from_slice(&json).map_err(|error| {
            let what = if error.is_data() { "the request" } else { "the request's body is not JSON" };
            Fault::invalid(format!("{what}: {error}"))
        })?;
        let mut parameters = fields(wire.parameters, "parameters".to_owned())?;
        let told_binary = parameters.flag("binary_data_output")?.unwrap_or(false);
        let timeout = parameters.whole("timeout", 0..=i64::MAX)?.filter(|us| *us > 0);
        parameters.finish()?;
        let mut rest = binary;
        let inputs = wire.inputs.0.into_iter().map(|input| input.read(&mut rest));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        if !rest.is_empty() {
            let message =
                format!("{} bytes of the body belong to no input: sizes in `binary_data_size`", rest.len());
            return Err(Fault::invalid(message));
        }
        let outputs = wire.outputs.map(|outputs| {
            outputs.0.into_iter().map(|output| output.read(told_binary)).collect::<Result<Vec<_>, _>>()
        });
        Ok(Request {
            id: wire.id,
            inputs,
            outputs: outputs.transpose()?.filter(|outputs| !outputs.is_empty()),
            binary: told_binary,
            timeout: timeout.map(|us| Duration::from_micros(us.unsigned_abs())),
        })
    }
}

fn fields(map: Option<Map<String, Value>>, path: String) -> Result<Fields, Fault> {
    let mut fields = Fields::of(Value::Object(map.unwrap_or_default()), &path)?;
    for name in ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"] {
        fields.only(name, |_| false, SHARED_MEMORY)?;
    }
    Ok(fields)
}

impl WireInput {
    /// The input, its binary elements cut from the front of `rest`.
    fn read(self, rest: &mut Bytes) -> Result<Input, Fault> {
        let WireInput { name, shape, datatype, parameters, data } = self;
        check_name(&name)?;
        check_name(&datatype)?;
        if shape.len() > DIMENSIONS_MAX {
            return Err(invalid(
                "shape",
                format!("of input `{name}` has more than {DIMENSIONS_MAX} dimensions"),
            ));
        }
        let path = format!("parameters of input `{name}`");
        let mut fields = fields(parameters, path.clone())?;
        let size = fields.count("binary_data_size", 0..=i64::MAX)?;
        fields.finish()?;
        let contents = match (size, data) {
            (Some(size), None) if size <= rest.len() => Contents::Binary(rest.split_to(size)),
            (Some(size), None) => {
                let message = format!("is {size}, and {} bytes are left in the body", rest.len());
                return Err(invalid(format!("{path}.binary_data_size"), message));
            }
            (None, Some(data)) => Contents::Elements(data.0),
            (Some(_), Some(_)) => {
                return Err(Fault::invalid(format!("input `{name}` has both `data` and `binary_data_size`")));
            }
            (None, None) => {
                return Err(Fault::invalid(format!(
                    "input `{name}` has neither `data` nor `binary_data_size`"
                )));
            }
        };
        Ok(Input { name, datatype, shape, contents })
    }
}

impl WireOutput {
    fn read(self, binary: bool) -> Result<Output, Fault> {
        check_name(&self.name)?;
        let mut fields = fields(self.parameters, format!("parameters of output `{}`", self.name))?;
        let binary = fields.flag("binary_data")?.unwrap_or(binary);
        let classes = fields.whole("classification", 0..=i64::from(u32::MAX))?.filter(|k| *k > 0);
        fields.finish()?;
        let classes = classes.and_then(|k| u32::try_from(k).ok());
        Ok(Output { name: self.name, classes, binary })
    }
}

/// A list of at most [`PORTS_MAX`].
struct Few<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<T>(Vec<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reading<T> {
            type Value = Few<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tensors")
            }

            fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Few<T>, A::Error> {
                while let Some(item) = seq.next_element()? {
                    if self.0.len() == PORTS_MAX {
                        return Err(de::Error::custom(format_args!(
                            "more than {PORTS_MAX} inputs or outputs"
                        )));
                    }
                    self.0.push(item);
                }
                Ok(Few(self.0))
            }
        }
        deserializer.deserialize_seq(Reading(Vec::new()))
    }
}

/// Elements in one list or in lists of lists, in their order.
#[derive(Debug)]
struct Flat(Elements);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut into = Gathered::Nothing;
        Gathering(&mut into).deserialize(deserializer)?;
        Ok(Flat(match into {
            Gathered::Nothing => Elements::Numbers(Vec::new()),
            Gathered::Some(elements) => elements,
        }))
    }
}

enum Gathered {
    Nothing,
    Some(Elements),
}

/// Reads a value into what was gathered before it.
struct Gathering<'a>(&'a mut Gathered);

impl<'de> DeserializeSeed<'de> for Gathering<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Gathering<'_> {
    fn number<E: de::Error>(self, number: f64) -> Result<(), E> {
        match self.0 {
            Gathered::Some(Elements::Numbers(all)) => all.push(number),
            Gathered::Nothing => *self.0 = Gathered::Some(Elements::Numbers(vec![number])),
            Gathered::Some(_) => return Err(mixed()),
        }
        Ok(())
    }

    fn text<E: de::Error>(self, text: String) -> Result<(), E> {
        match self.0 {
            Gathered::Some(Elements::Texts(all)) => all.push(text.into()),
            Gathered::Nothing => *self.0 = Gathered::Some(Elements::Texts(vec![text.into()])),
            Gathered::Some(_) => return Err(mixed()),
        }
        Ok(())
    }
}

fn mixed<E: de::Error>() -> E {
    E::custom("elements of one tensor are of different kinds")
}

impl<'de> Visitor<'de> for Gathering<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, strings or booleans, in one list or in lists of lists")
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<(), E> {
        match self.0 {
            Gathered::Some(Elements::Bools(all)) => all.push(flag),
            Gathered::Nothing => *self.0 = Gathered::Some(Elements::Bools(vec![flag])),
            Gathered::Some(_) => return Err(mixed()),
        }
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        self.number(exact(number.unsigned_abs(), number as f64)?)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        self.number(exact(number, number as f64)?)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<(), E> {
        self.number(number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.text(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<(), E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Gathering(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

fn exact<E: de::Error>(magnitude: u64, number: f64) -> Result<f64, E> {
    match magnitude <= 1 << 53 {
        true => Ok(number),
        false => Err(E::custom("a whole number beyond 2^53 is beyond what the model's own numbers hold")),
    }
}

/// A reply's JSON.
#[derive(Serialize)]
struct WireReply<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<WireAnswer<'a>>,
}

#[derive(Serialize)]
struct WireAnswer<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Listed<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// Elements as one list.
struct Listed<'a>(&'a Data);

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Data::F32(v) => v.serialize(serializer),
            Data::I32(v) => v.serialize(serializer),
            Data::Text(v) => v.serialize(serializer),
        }
    }
}

/// A reply's body, and how many bytes of it are JSON, where not all are.
pub(super) fn written(
    model: &str,
    version: u32,
    id: Option<&str>,
    answers: &[Answer],
) -> Result<(Vec<u8>, Option<usize>), Fault> {
    let outputs = answers.iter().map(|answer| WireAnswer {
        name: &answer.name,
        datatype: answer.datatype.name(),
        shape: &answer.shape,
        parameters: answer.binary.then(|| BinarySize { binary_data_size: size(&answer.data) }),
        data: (!answer.binary).then_some(Listed(&answer.data)),
    });
    let reply =
        WireReply { model_name: model, model_version: version.to_string(), id, outputs: outputs.collect() };
    let binary = || answers.iter().filter(|answer| answer.binary);
    let room: usize = binary().map(|answer| size(&answer.data)).sum();
    let mut body = Vec::with_capacity(512 + room);
    serde_json::to_writer(&mut body, &reply).map_err(|e| Fault::internal("writing the reply", e))?;
    let json = body.len();
    binary().for_each(|answer| put(&answer.data, &mut body));
    Ok((body, binary().next().map(|_| json)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn read(json: &str, binary: &[u8]) -> Result<Request, String> {
        let body = Bytes::from([json.as_bytes(), binary].concat());
        let length = (!binary.is_empty()).then_some(json.len());
        Request::read(&body, length).map_err(|fault| fault.message)
    }

    fn input(rest: &str) -> String {
        format!(r#"{{"inputs":[{{"name":"x","shape":[2,2],"datatype":"FP32",{rest}}}]}}"#)
    }

    #[test]
    fn elements_come_flat_nested_or_beside() {
        for data in ["[1,2,3,4]", "[[1,2],[3,4.0]]"] {
            let request = read(&input(&format!("\"data\":{data}")), b"").unwrap();
            let Contents::Elements(elements) = &request.inputs[0].contents else { panic!("binary") };
            assert_eq!(*elements, Elements::Numbers(vec![1.0, 2.0, 3.0, 4.0]));
        }
        let request = read(&input(r#""parameters":{"binary_data_size":3}"#), b"abc").unwrap();
        assert!(matches!(&request.inputs[0].contents, Contents::Binary(bytes) if bytes == "abc"));
    }

    #[test]
    fn sizes_that_lie_and_what_has_no_effect_are_named() {
        let with_output = |output: &str| {
            let json = input("\"data\":[1]");
            format!("{},\"outputs\":[{output}]}}", json.strip_suffix('}').unwrap())
        };
        for (json, binary, named) in [
            (input(r#""parameters":{"binary_data_size":4}"#), &b"abc"[..], "3 bytes are left"),
            (input(r#""parameters":{"binary_data_size":2}"#), b"abc", "belong to no input"),
            (input(r#""parameters":{"binary_data_size":-1}"#), b"abc", "binary_data_size"),
            (input(r#""parameters":{"shared_memory_region":"r"}"#), b"", "shared memory"),
            (input(r#""parameters":{"frobnicate":1}"#), b"", "frobnicate"),
            (input("\"data\":[1,\"a\"]"), b"", "different kinds"),
            (input("\"data\":[null]"), b"", "null"),
            (input("\"data\":[9007199254740993]"), b"", "2^53"),
            (input("\"data\":[NaN]"), b"", "not JSON"),
            (input("\"shpe\":[1]"), b"", "shpe"),
            (input(r#""data":[1],"parameters":{"binary_data_size":1}"#), b"a", "both"),
            (with_output(r#"{"name":"y","parameters":{"classification":-1}}"#), b"", "classification"),
            (with_output(r#"{"name":"y","parameters":{"shared_memory_region":"r"}}"#), b"", "shared memory"),
        ] {
            let message = read(&json, binary).err().unwrap();
            assert!(message.contains(named), "{json}: {message}");
        }
        let many = vec!["{\"name\":\"y\"}"; 1_000_000].join(",");
        assert!(read(&with_output(&many), b"").err().unwrap().contains("16384"));
        let deep = format!("\"data\":{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(&input(&deep), b"").is_err());
        assert!(Request::read(&Bytes::from_static(b"{}"), Some(3)).is_err());
    }
}
