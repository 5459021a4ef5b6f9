//! Inputs that are looked up in vocabularies before the graph takes them, and integers of which numbers are made.

use std::collections::{HashMap, HashSet};

use formats::keras::{Elements, Encoded, Input, Layer, Model, Place};
use rten_onnx::onnx::DataType;

use super::super::writer::{Step, Value, Writer, int, row_elements};
use super::KerasExportError;
use crate::lookup::Reader;
use crate::{DataType as Type, Dim, Front, TensorSpec};

/// The inputs of a graph.
pub(super) struct Inputs {
    /// What it takes.
    pub(super) given: Vec<Value>,
    /// What it takes in place of what a lookup gives, by the place of that.
    pub(super) read: HashMap<Place, Value>,
    /// How what it takes is made of what the model takes, if it is something else.
    pub(super) front: Option<Front>,
}

/// An input of the model.
pub(super) fn value(input: &Input) -> Value {
    let dim = |length: &Option<usize>| length.map_or(Dim::Any, Dim::Fixed);
    let element = match input.elements {
        Elements::Floats => DataType::FLOAT,
        Elements::Integers => DataType::INT32,
        Elements::Texts => DataType::STRING,
    };
    Value::input(&input.name, input.shape.iter().map(dim).collect(), element)
}

/// The inputs of the graph that `model` becomes.
pub(super) fn inputs(model: &Model) -> Result<Inputs, KerasExportError> {
    let plain: Vec<Value> = model.inputs.iter().map(value).collect();
    let needed: HashSet<Place> = model.nodes.iter().flat_map(|node| needs(model, node)).collect();
    let mut names: HashSet<String> = plain.iter().map(|value| value.name.clone()).collect();
    let (mut given, mut made, mut read) = (Vec::new(), Vec::new(), HashMap::new());
    for (place, value) in plain.iter().enumerate() {
        if value.element != DataType::STRING && (needed.contains(&place) || !looked_up(model, place)) {
            given.push(value.clone());
            made.push((value.name.clone(), place, None));
        }
    }
    for (i, node) in model.nodes.iter().enumerate() {
        let named = model.layers.get(node.layer);
        let (Some(named), &[place]) = (named, node.inputs.as_slice()) else { continue };
        let (Layer::Lookup(lookup), Some(value)) = (&named.layer, plain.get(place)) else { continue };
        let wrong = |reason| KerasExportError { at: named.name.clone(), reason };
        if lookup.integers != (value.element == DataType::INT32) {
            let wanted = if lookup.integers { "integers" } else { "texts" };
            return Err(wrong(format!("looks up {wanted}, which its input does not hold")));
        }
        let shape = Reader::shape(&value.shape, lookup).map_err(wrong)?;
        row_elements(&shape).map_err(wrong)?;
        let mut name = format!("{}:{i}", value.name);
        while !names.insert(name.clone()) {
            name.push('_');
        }
        let element = match lookup.output {
            Encoded::Numbers { .. } => DataType::INT32,
            Encoded::Bag { .. } => DataType::FLOAT,
        };
        let taken = Value::input(&name, shape, element);
        given.push(taken.clone());
        made.push((name, place, Some(Reader::new(lookup))));
        read.insert(model.inputs.len() + i, taken);
    }
    let front = (!read.is_empty()).then(|| Front { inputs: plain.iter().map(spec).collect(), given: made });
    Ok(Inputs { given, read, front })
}

/// What a node needs that is not looked up.
fn needs(model: &Model, node: &formats::keras::Node) -> Vec<Place> {
    let lookup = model.layers.get(node.layer).is_some_and(|named| matches!(named.layer, Layer::Lookup(_)));
    if lookup { Vec::new() } else { node.inputs.clone() }
}

/// Whether anything looks up the input at `place`.
fn looked_up(model: &Model, place: Place) -> bool {
    let looks = |node: &formats::keras::Node| {
        node.inputs == [place]
            && model.layers.get(node.layer).is_some_and(|named| matches!(named.layer, Layer::Lookup(_)))
    };
    model.nodes.iter().any(looks)
}

fn spec(value: &Value) -> TensorSpec {
    let data_type = match value.element {
        DataType::STRING => Type::Text,
        DataType::INT32 => Type::I32,
        _ => Type::F32,
    };
    let shape = std::iter::once(Dim::Any).chain(value.shape.iter().copied()).collect();
    TensorSpec { name: value.name.clone(), data_type, shape }
}

impl Writer {
    /// One number for each of `width` integers: whether a row has it, or how often; those of each integer apart, where
    /// it is not said.
    pub(super) fn category_encoding(&mut self, width: usize, counted: Option<bool>) -> Step {
        let depth = self.whole("width", i32::try_from(width).map_err(|_| "is too large")?);
        let bounds = self.weights("bounds", &[2], &[0.0, 1.0])?;
        let mut shape = self.at.shape.clone();
        let last = shape.last().copied();
        self.apply("OneHot", &[&depth, &bounds], vec![int("axis", -1)]);
        self.at.element = DataType::FLOAT;
        self.at.mask = None;
        match counted {
            // A dimension of one integer is in the way.
            None if last != Some(Dim::Fixed(1)) => shape.push(Dim::Fixed(width)),
            _ => {
                let axis = self.integers("axis", &[-2]);
                let op = if counted == Some(true) { "ReduceSum" } else { "ReduceMax" };
                self.apply(op, &[&axis], vec![int("keepdims", 0)]);
                shape.pop();
                shape.push(Dim::Fixed(width));
            }
        }
        self.at.shape = shape;
        row_elements(&self.at.shape)
    }
}
