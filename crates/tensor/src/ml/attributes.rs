//! [`Attributes`]: the attributes of one node, read by name; what nobody reads is refused.

use std::cell::RefCell;

use rten_onnx::onnx::{AttributeProto, DataType as Element, NodeProto, TensorProto};

use super::value::{Array, Value};
use super::{Fault, value};

/// The attributes of a node.
pub(super) struct Attributes<'a> {
    node: &'a NodeProto,
    read: RefCell<Vec<&'static str>>,
    /// Version of the operators of the node's domain; 0 if it is not said.
    pub(super) opset: i64,
}

impl<'a> Attributes<'a> {
    pub(super) fn of(node: &'a NodeProto, opset: i64) -> Self {
        Attributes { node, read: RefCell::default(), opset }
    }

    fn get(&self, name: &'static str) -> Option<&'a AttributeProto> {
        self.read.borrow_mut().push(name);
        self.node.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    fn single<T>(
        &self,
        name: &'static str,
        kind: &str,
        of: impl Fn(&'a AttributeProto) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(attribute) = self.get(name) else { return Ok(None) };
        of(attribute).map(Some).ok_or_else(|| Fault::new(format!("attribute `{name}` is not {kind}")))
    }

    pub(super) fn float(&self, name: &'static str) -> Result<Option<f32>, Fault> {
        self.single(name, "a float", |a| a.f)
    }

    pub(super) fn int(&self, name: &'static str) -> Result<Option<i64>, Fault> {
        self.single(name, "an integer", |a| a.i)
    }

    /// Whether the integer attribute is not 0.
    pub(super) fn flag(&self, name: &'static str, default: bool) -> Result<bool, Fault> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<&'a str>, Fault> {
        self.single(name, "a string", |a| a.s.as_deref())
    }

    /// The floats, or none.
    pub(super) fn floats(&self, name: &'static str) -> &'a [f32] {
        self.get(name).map_or(&[], |a| &a.floats)
    }

    /// The integers, or none.
    pub(super) fn ints(&self, name: &'static str) -> &'a [i64] {
        self.get(name).map_or(&[], |a| &a.ints)
    }

    /// The strings, or none.
    pub(super) fn texts(&self, name: &'static str) -> &'a [String] {
        self.get(name).map_or(&[], |a| &a.strings)
    }

    pub(super) fn tensor(&self, name: &'static str) -> Result<Option<Value>, Fault> {
        let Some(tensor) = self.single(name, "a tensor", |a| a.t.as_ref())? else { return Ok(None) };
        read_tensor(tensor, None).map(Some).map_err(|fault| fault.of(name))
    }

    /// The floats of an attribute, or of the tensor that stands for it where they are float64.
    pub(super) fn floats_or_tensor(
        &self,
        name: &'static str,
        tensor: &'static str,
    ) -> Result<Vec<f64>, Fault> {
        match self.tensor(tensor)? {
            Some(value) => value.floats().map_err(|fault| fault.of(tensor)),
            None => Ok(self.floats(name).iter().map(|&x| f64::from(x)).collect()),
        }
    }

    /// Class labels, of which at most one kind is given.
    pub(super) fn labels(
        &self,
        texts: &'static str,
        ints: &'static str,
    ) -> Result<Option<super::Labels>, Fault> {
        match (self.texts(texts), self.ints(ints)) {
            ([], []) => Ok(None),
            (texts, []) => Ok(Some(super::Labels::Text(texts.to_vec()))),
            ([], ints) => Ok(Some(super::Labels::Int(ints.to_vec()))),
            _ => Err(Fault::new(format!("attributes `{texts}` and `{ints}` are both given"))),
        }
    }

    /// Refuses attributes that were not read.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let read = self.read.borrow();
        let names = self.node.attribute.iter().filter_map(|attribute| attribute.name.as_deref());
        match names.into_iter().find(|name| !read.contains(name)) {
            Some(unread) => Err(Fault::new(format!("attribute `{unread}` is not supported"))),
            None => Ok(()),
        }
    }
}

/// A constant of the graph, which may lie in one of the files `external`.
pub(super) fn read_constant(
    tensor: &TensorProto,
    texts: Option<Vec<String>>,
    external: &[(String, Vec<u8>)],
) -> Result<Value, Fault> {
    if tensor.external_data.is_empty() {
        return read_tensor(tensor, texts);
    }
    let entry = |key: &str| {
        let found = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
        found.and_then(|entry| entry.value.as_deref())
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => {
            text.parse::<usize>().map(Some).map_err(|_| Fault::new(format!("its {key} is no number")))
        }
    };
    let location = entry("location").unwrap_or_default();
    let file = external.iter().find(|(name, _)| name == location);
    let (_, content) = file.ok_or_else(|| Fault::new(format!("its file `{location}` is not there")))?;
    let beyond = || Fault::new(format!("it lies beyond the end of `{location}`"));
    let rest = content.get(number("offset")?.unwrap_or(0)..).ok_or_else(beyond)?;
    let raw = rest.get(..number("length")?.unwrap_or(rest.len())).ok_or_else(beyond)?;
    let held = TensorProto {
        dims: tensor.dims.clone(),
        data_type: tensor.data_type,
        raw_data: Some(RefCell::new(raw.to_vec())),
        ..TensorProto::default()
    };
    read_tensor(&held, texts)
}

/// A constant of the file. `texts` are its strings, which the parser leaves out.
pub(super) fn read_tensor(tensor: &TensorProto, texts: Option<Vec<String>>) -> Result<Value, Fault> {
    let negative = |_| Fault::new("a dimension is negative");
    let shape: Vec<usize> =
        tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().map_err(negative)?;
    value::elements(&shape)?;
    let raw = tensor.raw_data.as_ref().map(|raw| raw.borrow());
    let raw = raw.as_deref().map(Vec::as_slice).filter(|raw| !raw.is_empty());
    fn chunks<const N: usize, T>(raw: &[u8], of: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks::<N>().0.iter().map(|&bytes| of(bytes)).collect()
    }
    let widen = |v: &[i32]| v.iter().map(|&i| i64::from(i)).collect::<Vec<i64>>();
    let array = match (tensor.data_type.unwrap_or(Element(0)), raw) {
        (Element::FLOAT, Some(raw)) => Array::F32(chunks(raw, f32::from_le_bytes)),
        (Element::FLOAT, None) => Array::F32(tensor.float_data.clone()),
        (Element::DOUBLE, Some(raw)) => Array::F64(chunks(raw, f64::from_le_bytes)),
        (Element::DOUBLE, None) => Array::F64(tensor.double_data.clone()),
        (Element::INT64, Some(raw)) => Array::I64(chunks(raw, i64::from_le_bytes)),
        (Element::INT64, None) => Array::I64(tensor.int64_data.clone()),
        (Element::INT32, Some(raw)) => Array::I64(widen(&chunks(raw, i32::from_le_bytes))),
        (Element::UINT8, Some(raw)) => Array::I64(raw.iter().map(|&b| i64::from(b)).collect()),
        (Element::INT32 | Element::UINT8, None) => Array::I64(widen(&tensor.int32_data)),
        (Element::BOOL, Some(raw)) => Array::Bool(raw.iter().map(|&b| b != 0).collect()),
        (Element::BOOL, None) => Array::Bool(tensor.int32_data.iter().map(|&b| b != 0).collect()),
        (Element::STRING, _) => match texts {
            Some(texts) => Array::Text(texts),
            None => return Err(Fault::new("tensors of strings are supported as initializers only")),
        },
        (other, _) => return Err(Fault::new(format!("tensors of {other} are not supported"))),
    };
    Value::new(shape, array)
}
