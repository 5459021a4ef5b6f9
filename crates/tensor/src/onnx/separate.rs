//! [`separate`]: matrix products whose matrix has a row for each row of the batch, made such that a row alone is a row
//! in a batch.
//!
//! The runtime multiplies a matrix of one row by another algorithm than one of several rows. Running every
//! single row as a pair avoids that algorithm, at twice the cost. In an image or text classifier such products are
//! a small part at the end: there each gets one more row instead, and nothing else runs twice.

use std::collections::HashMap;

use rten_onnx::onnx::{AttributeProto, AttributeType, GraphProto, NodeProto};

/// A value whose shape tells how many rows the matrix of a product has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Operand {
    pub(super) name: String,
    /// Which dimension counts them; the last but one if it is not said.
    pub(super) axis: Option<usize>,
}

/// Lengthens the matrix of every product of which it is certain that this serves by its own first row, and shortens
/// the result. Gives the first operands of the other products, which are to be looked at in a run: see
/// [`super::solo`]. `None`, and no change, if there are products within branches, or of turned matrices.
pub(super) fn separate(graph: &mut GraphProto) -> Option<Vec<Operand>> {
    let ranks = ranks(graph);
    let dims: HashMap<&str, &[i64]> =
        graph.initializer.iter().filter_map(|t| Some((t.name.as_deref()?, t.dims.as_slice()))).collect();
    let serves = |node: &NodeProto| {
        let operand = |i: usize| node.input.get(i).map(String::as_str).filter(|name| !name.is_empty());
        let constant = |i: usize| operand(i).and_then(|name| dims.get(name));
        match node.op_type.as_deref() {
            // What is added is the same for every row.
            Some("Gemm") => {
                operand(2).is_none() || constant(2).is_some_and(|d| d.len() < 2 || d.first() == Some(&1))
            }
            Some("MatMul") => {
                let rank = operand(0).and_then(|name| ranks.get(name));
                rank == Some(&2) && constant(1).is_some_and(|d| d.len() == 2)
            }
            _ => false,
        }
    };
    let set = |name: &str, node: &NodeProto| {
        node.attribute.iter().any(|a| a.name.as_deref() == Some(name) && a.i != Some(0))
    };
    if graph.node.iter().any(|node| node.attribute.iter().any(|a| a.g.is_some()) || set("transA", node)) {
        return None;
    }
    let certain: Vec<bool> = graph.node.iter().map(serves).collect();
    let transposed = transposed(graph);
    let mut others = Vec::new();
    for (node, certain) in std::mem::take(&mut graph.node).into_iter().zip(certain) {
        match node.op_type.as_deref() {
            Some("Gemm" | "MatMul") if certain => lengthen(node, &mut graph.node),
            Some("Gemm" | "MatMul" | "MatMulInteger") => {
                let operand = node.input.first().cloned().map(|name| Operand { name, axis: None });
                others
                    .extend(operand.map(|operand| transposed.get(&operand.name).cloned().unwrap_or(operand)));
                graph.node.push(node);
            }
            _ => graph.node.push(node),
        }
    }
    others.sort();
    others.dedup();
    Some(others)
}

/// By the value that a `Transpose` gives, what it takes: the runtime makes it and the product that follows one, and the
/// value is then not there to be looked at.
fn transposed(graph: &GraphProto) -> HashMap<String, Operand> {
    let turned = |node: &NodeProto| {
        let order = node.attribute.iter().find(|a| a.name.as_deref() == Some("perm"))?;
        let axis = *order.ints.get(order.ints.len().checked_sub(2)?)?;
        let operand = Operand { name: node.input.first()?.clone(), axis: Some(usize::try_from(axis).ok()?) };
        Some((node.output.first()?.clone(), operand))
    };
    graph.node.iter().filter(|node| node.op_type.as_deref() == Some("Transpose")).filter_map(turned).collect()
}

/// Adds a product of which the first operand is longer by one row.
fn lengthen(mut product: NodeProto, nodes: &mut Vec<NodeProto>) {
    let ([x, ..], [y]) = (&mut product.input[..], &mut product.output[..]) else {
        nodes.push(product);
        return;
    };
    let part = |name: &str| format!("{y}:{name}");
    let (long_x, long_y) = (part("long_x"), part("long_y"));
    let [zero, one, minus_one] = [("zero", 0), ("one", 1), ("minus_one", -1)].map(|(name, value)| {
        nodes.push(node("Constant", &[], &part(name), vec![ints("value_ints", vec![value])]));
        part(name)
    });
    nodes.push(node("Slice", &[x, &zero, &one, &zero], &part("first"), vec![]));
    let axis = AttributeProto { i: Some(0), ..attribute("axis", AttributeType::INT) };
    nodes.push(node("Concat", &[x, &part("first")], &long_x, vec![axis]));
    let last = node("Slice", &[&long_y, &zero, &minus_one, &zero], y, vec![]);
    *x = long_x;
    *y = long_y;
    nodes.push(product);
    nodes.push(last);
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: Some(op.to_owned()),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(r#type), ..AttributeProto::default() }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..attribute(name, AttributeType::INTS) }
}

/// The numbers of dimensions that are certain, by value.
fn ranks(graph: &GraphProto) -> HashMap<String, usize> {
    let mut ranks = HashMap::new();
    let mut lengths: HashMap<&str, i64> = HashMap::new();
    for port in graph.input.iter().chain(&graph.value_info) {
        let tensor = port.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        if let (Some(name), Some(shape)) = (&port.name, tensor.and_then(|t| t.shape.as_ref())) {
            ranks.insert(name.clone(), shape.dim.len());
        }
    }
    for constant in &graph.initializer {
        if let Some(name) = &constant.name {
            ranks.insert(name.clone(), constant.dims.len());
            if let [length] = constant.dims[..] {
                lengths.insert(name, length);
            }
        }
    }
    for node in &graph.node {
        let rank = |i: usize| node.input.get(i).and_then(|name| ranks.get(name)).copied();
        let known = match node.op_type.as_deref().unwrap_or_default() {
            "Flatten" | "Gemm" => Some(2),
            "Reshape" => {
                let shape = node.input.get(1).and_then(|name| lengths.get(name.as_str()));
                shape.and_then(|&length| usize::try_from(length).ok())
            }
            "Add" | "Sub" | "Mul" | "Div" => rank(0).zip(rank(1)).map(|(a, b)| a.max(b)),
            "MatMul" => rank(0).zip(rank(1)).filter(|&(a, b)| a >= 2 && b >= 2).map(|(a, b)| a.max(b)),
            "Abs" | "AveragePool" | "BatchNormalization" | "Clip" | "Conv" | "Dropout" | "Elu" | "Exp"
            | "Gelu" | "GlobalAveragePool" | "GlobalMaxPool" | "HardSigmoid" | "HardSwish" | "Identity"
            | "LeakyRelu" | "LogSoftmax" | "MaxPool" | "Neg" | "PRelu" | "Relu" | "Selu" | "Sigmoid"
            | "Softmax" | "Softplus" | "Sqrt" | "Tanh" | "Transpose" => rank(0),
            _ => None,
        };
        if let (Some(known), Some(output)) = (known, node.output.first()) {
            ranks.insert(output.clone(), known);
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rten_onnx::onnx::{
        Dimension, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
    };

    use super::*;

    fn graph(nodes: Vec<NodeProto>, constants: &[(&str, &[i64])]) -> GraphProto {
        let dim = |_| Dimension { dim_value: Some(4), dim_param: None };
        let shape = TensorShapeProto { dim: (0..4).map(dim).collect() };
        let tensor_type = TypeProtoTensor { elem_type: None, shape: Some(shape) };
        let r#type = Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() });
        let constant = |&(name, dims): &(&str, &[i64])| TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            ..TensorProto::default()
        };
        GraphProto {
            node: nodes,
            initializer: constants.iter().map(constant).collect(),
            input: vec![ValueInfoProto { name: Some("x".to_owned()), r#type }],
            ..GraphProto::default()
        }
    }

    #[test]
    fn only_certain_products_are_lengthened() {
        let flat = || node("Flatten", &["x"], "f", vec![]);
        let cases: [(_, &[&str]); 8] = [
            (vec![flat(), node("MatMul", &["f", "w"], "y", vec![])], &[]),
            (vec![flat(), node("Gemm", &["f", "w", "b"], "y", vec![])], &[]),
            (vec![flat(), node("Gemm", &["f", "f", ""], "y", vec![])], &[]),
            (
                vec![node("Reshape", &["x", "two"], "f", vec![]), node("MatMul", &["f", "w"], "y", vec![])],
                &[],
            ),
            // Another number for every row, a value of unknown rank, one of four dimensions, two operands of the run.
            (vec![flat(), node("Gemm", &["f", "w", "rows"], "y", vec![])], &["f"]),
            (vec![node("Squeeze", &["x"], "f", vec![]), node("MatMul", &["f", "w"], "y", vec![])], &["f"]),
            (vec![node("Relu", &["x"], "f", vec![]), node("MatMul", &["f", "w"], "y", vec![])], &["f"]),
            (vec![flat(), node("MatMul", &["f", "f"], "y", vec![])], &["f"]),
        ];
        let constants: &[(&str, &[i64])] = &[("w", &[64, 5]), ("b", &[5]), ("rows", &[4, 5]), ("two", &[2])];
        for (nodes, watched) in cases {
            let before = nodes.len();
            let name = nodes.last().unwrap().input.join(", ");
            let mut graph = graph(nodes, constants);
            let others = separate(&mut graph).unwrap();
            let names: Vec<&str> = others.iter().map(|operand| operand.name.as_str()).collect();
            assert_eq!(names, watched, "{name}");
            assert_eq!(graph.node.len(), before + if others.is_empty() { 6 } else { 0 }, "{name}");
        }
        let branch =
            AttributeProto { g: Some(graph(vec![], &[])), ..attribute("body", AttributeType::GRAPH) };
        let mut looped = graph(vec![node("Loop", &["x"], "y", vec![branch])], &[]);
        assert_eq!(separate(&mut looped), None);
    }
}
