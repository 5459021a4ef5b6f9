//! Inputs and outputs: what the file declares, what the runtime takes and gives, and the checks between.

use rten::{NodeId, Value, ValueOrView, ValueView};
use rten_onnx::onnx::DataType as Element;
use rten_tensor::Layout;

use super::error::{LoadError, RunError};
use super::failed;
use super::inspect::{Extent, Inspection, Port};
use crate::{Data, DataType, Dim, Signature, Tensor, TensorSpec};

/// A declared input or output whose type can be served.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) spec: TensorSpec,
    /// As the file has it.
    pub(super) element: Element,
    wire: Wire,
    ranked: bool,
}

/// How the runtime carries an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    F32,
    I32,
    Bool,
    I8,
    U8,
}

impl Wire {
    /// The least and the greatest value, if not every int32 is one.
    fn range(self) -> Option<(i32, i32)> {
        match self {
            Wire::F32 | Wire::I32 => None,
            Wire::Bool => Some((0, 1)),
            Wire::I8 => Some((i32::from(i8::MIN), i32::from(i8::MAX))),
            Wire::U8 => Some((0, i32::from(u8::MAX))),
        }
    }
}

impl Declared {
    /// Checks that the values fit into the narrower type that the model takes.
    pub(super) fn narrow(&self, values: &[i32]) -> Result<(), RunError> {
        narrow(&self.spec.name, self.wire, values)
    }
}

/// Checks that the values given to input `name` fit into the narrower type that it is.
fn narrow(name: &str, wire: Wire, values: &[i32]) -> Result<(), RunError> {
    let Some((min, max)) = wire.range() else { return Ok(()) };
    match values.iter().find(|&&v| v < min || v > max) {
        Some(&found) => Err(RunError::OutOfRange { name: name.to_owned(), min, max, found }),
        None => Ok(()),
    }
}

/// The inputs and outputs that a file declares.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    pub(super) inputs: Vec<Declared>,
    pub(super) outputs: Vec<Declared>,
    /// What the file's owner should know about their types.
    pub(super) notes: Vec<String>,
}

/// The inputs and outputs that the file declares, if all are of types that can be served.
pub(super) fn declared(inspection: &Inspection) -> Result<Ports, LoadError> {
    let mut notes = Vec::new();
    let mut inputs = Vec::new();
    // Old files declare their weights as inputs too.
    for port in inspection.inputs.iter().filter(|port| !inspection.initializers.contains(&port.name)) {
        let declared = declare(port, "input", &mut notes)?;
        if !declared.ranked {
            let what = format!("input `{}`", port.name);
            let advice = ": export the model with the shapes of its inputs";
            return Err(LoadError::UnsupportedType { what, kind: "of unknown rank".to_owned(), advice });
        }
        inputs.push(declared);
    }
    let outputs = inspection.outputs.iter().map(|port| declare(port, "output", &mut notes));
    let outputs = outputs.collect::<Result<_, _>>()?;
    Ok(Ports { inputs, outputs, notes })
}

fn declare(port: &Port, side: &str, notes: &mut Vec<String>) -> Result<Declared, LoadError> {
    let what = || format!("{side} `{}`", port.name);
    let refuse = |kind: String, advice| Err(LoadError::UnsupportedType { what: what(), kind, advice });
    let Some(element) = port.element else {
        return refuse("not a tensor".to_owned(), ": export the model without sequences and maps");
    };
    let mut note = |as_what: &str| notes.push(format!("{} is {element} in the file, {as_what} here", what()));
    let (data_type, wire) = match element {
        Element::FLOAT => (DataType::F32, Wire::F32),
        Element::DOUBLE | Element::FLOAT16 => {
            note("computed as float32");
            (DataType::F32, Wire::F32)
        }
        Element::INT32 => (DataType::I32, Wire::I32),
        Element::INT64 => {
            note("carried as int32");
            (DataType::I32, Wire::I32)
        }
        Element::BOOL => (DataType::I32, Wire::Bool),
        Element::INT8 => (DataType::I32, Wire::I8),
        Element::UINT8 => (DataType::I32, Wire::U8),
        Element::STRING => return refuse("string".to_owned(), ": export the network without its text steps"),
        other => return refuse(other.to_string(), ""),
    };
    let dim = |extent: &Extent| match extent {
        Extent::Fixed(n) => Dim::Fixed(*n),
        Extent::Named(_) | Extent::Unknown => Dim::Any,
    };
    let shape = port.dims.as_ref().map_or(vec![Dim::Any], |dims| dims.iter().map(dim).collect());
    let spec = TensorSpec { name: port.name.clone(), data_type, shape };
    Ok(Declared { spec, element, wire, ranked: port.dims.is_some() })
}

/// An input of a loaded model.
#[derive(Debug)]
pub(super) struct InputPort {
    pub(super) id: NodeId,
    pub(super) spec: TensorSpec,
    wire: Wire,
}

impl InputPort {
    pub(super) fn bind(declared: Declared, model: &rten::Model) -> Result<Self, LoadError> {
        let id = find(model, &declared.spec.name)?;
        if !model.input_ids().contains(&id) {
            return Err(LoadError::Invalid { reason: format!("`{}` is no input", declared.spec.name) });
        }
        Ok(InputPort { id, spec: declared.spec, wire: declared.wire })
    }

    /// The elements as the runtime takes them, borrowed where they need no conversion.
    pub(super) fn value<'a>(&self, shape: Vec<usize>, data: &'a Data) -> Result<ValueOrView<'a>, RunError> {
        let shape = shape.as_slice();
        match (self.wire, data) {
            (Wire::F32, Data::F32(v)) => {
                Ok(ValueView::from_shape(shape, v.as_slice()).map_err(failed)?.into())
            }
            (Wire::I32, Data::I32(v)) => {
                Ok(ValueView::from_shape(shape, v.as_slice()).map_err(failed)?.into())
            }
            (Wire::Bool, Data::I32(v)) => {
                self.narrow(v)?;
                Ok(ValueView::from_shape(shape, v.as_slice()).map_err(failed)?.into())
            }
            (Wire::I8, Data::I32(v)) => {
                self.narrow(v)?;
                let narrow: Vec<i8> = v.iter().map(|&x| x as i8).collect();
                Ok(Value::from_shape(shape, narrow).map_err(failed)?.into())
            }
            (Wire::U8, Data::I32(v)) => {
                self.narrow(v)?;
                let narrow: Vec<u8> = v.iter().map(|&x| x as u8).collect();
                Ok(Value::from_shape(shape, narrow).map_err(failed)?.into())
            }
            _ => Err(self.wrong_type(data.data_type())),
        }
    }

    fn narrow(&self, values: &[i32]) -> Result<(), RunError> {
        narrow(&self.spec.name, self.wire, values)
    }

    fn wrong_type(&self, found: DataType) -> RunError {
        RunError::WrongType { name: self.spec.name.clone(), expected: self.spec.data_type, found }
    }
}

/// Checks type and shape of a tensor given for an input.
fn check_one(spec: &TensorSpec, tensor: &Tensor) -> Result<(), RunError> {
    let found = tensor.data().data_type();
    if found != spec.data_type {
        return Err(RunError::WrongType { name: spec.name.clone(), expected: spec.data_type, found });
    }
    let fits = |(dim, &size): (&Dim, &usize)| *dim == Dim::Any || *dim == Dim::Fixed(size);
    let same_rank = tensor.shape().len() == spec.shape.len();
    if !(same_rank && spec.shape.iter().zip(tensor.shape()).all(fits)) {
        let (expected, found) = (spec.to_string(), tensor.shape().to_vec());
        return Err(RunError::WrongShape { expected, found });
    }
    Ok(())
}

/// An output of a loaded model.
#[derive(Debug)]
pub(super) struct OutputPort {
    pub(super) id: NodeId,
    pub(super) spec: TensorSpec,
}

impl OutputPort {
    pub(super) fn bind(declared: Declared, model: &rten::Model) -> Result<Self, LoadError> {
        Ok(OutputPort { id: find(model, &declared.spec.name)?, spec: declared.spec })
    }

    /// What the runtime gave, as a tensor of the declared type.
    pub(super) fn tensor(&self, value: Value) -> Result<Tensor, RunError> {
        let (shape, data) = match value {
            Value::FloatTensor(t) => (t.shape().to_vec(), Data::F32(t.into_data())),
            Value::Int32Tensor(t) => (t.shape().to_vec(), Data::I32(t.into_data())),
            Value::Int8Tensor(t) => {
                (t.shape().to_vec(), Data::I32(t.into_data().into_iter().map(i32::from).collect()))
            }
            Value::UInt8Tensor(t) => {
                (t.shape().to_vec(), Data::I32(t.into_data().into_iter().map(i32::from).collect()))
            }
            _ => return Err(failed(format!("output `{}` is not a tensor", self.spec.name))),
        };
        if data.data_type() != self.spec.data_type {
            let (name, declared, found) = (&self.spec.name, self.spec.data_type, data.data_type());
            return Err(failed(format!("output `{name}` is declared {declared} but is {found}")));
        }
        Tensor::new(shape, data).map_err(failed)
    }
}

fn find(model: &rten::Model, name: &str) -> Result<NodeId, LoadError> {
    model.find_node(name).ok_or_else(|| LoadError::Invalid { reason: format!("it has no value `{name}`") })
}

/// Whether the first dimension of every input is a batch of any size, of the same name if it has one.
pub(super) fn share_a_batch<'a>(signature: &Signature, name: impl Fn(&str) -> Option<&'a str>) -> bool {
    let inputs = &signature.inputs;
    !inputs.is_empty()
        && inputs.iter().all(|spec| spec.shape.first() == Some(&Dim::Any))
        && inputs.windows(2).all(|pair| name(&pair[0].name) == name(&pair[1].name))
}

/// The tensors given, in the order of the model's inputs, if they are what the model takes.
pub(crate) fn check<'a>(
    specs: &[&TensorSpec],
    given: &'a [(String, Tensor)],
    batched: bool,
) -> Result<Vec<&'a Tensor>, RunError> {
    let takes = || specs.iter().map(|spec| spec.to_string()).collect::<Vec<_>>().join(", ");
    for (i, (name, _)) in given.iter().enumerate() {
        if !specs.iter().any(|spec| spec.name == *name) {
            return Err(RunError::UnknownInput { name: name.clone(), takes: takes() });
        }
        if given.iter().take(i).any(|(other, _)| other == name) {
            return Err(RunError::RepeatedInput { name: name.clone() });
        }
    }
    let mut ordered = Vec::with_capacity(specs.len());
    for spec in specs {
        let Some((_, tensor)) = given.iter().find(|(given, _)| *given == spec.name) else {
            return Err(RunError::MissingInput { name: spec.name.clone(), takes: takes() });
        };
        check_one(spec, tensor)?;
        ordered.push(tensor);
    }
    if batched && let (Some(first), Some(first_spec)) = (ordered.first(), specs.first()) {
        for (tensor, spec) in ordered.iter().zip(specs) {
            if tensor.rows() != first.rows() {
                return Err(RunError::RowsDiffer {
                    first: first_spec.name.clone(),
                    first_rows: first.rows(),
                    second: spec.name.clone(),
                    second_rows: tensor.rows(),
                });
            }
        }
    }
    Ok(ordered)
}
