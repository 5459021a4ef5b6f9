//! [`rewrite`]: a model anew, with what the format allows and the runtime lacks or gets wrong.

use std::collections::HashMap;

use rten_onnx::onnx::{
    AttributeProto, AttributeType, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
};

use super::inspect::Inspection;
use super::separate::{Operand, separate};
use super::{LoadError, MATRIX_PRODUCTS};

/// Operators that are written out in others.
const REPLACED: &[&str] = &["Selu", "Sign", "Softplus"];

/// Whether there is anything to rewrite.
pub(super) fn needed(inspection: &Inspection) -> bool {
    let replaced = |(domain, name): &(String, String)| own(domain) && REPLACED.contains(&name.as_str());
    inspection.bare_conv
        || !inspection.external.is_empty()
        || inspection.operators.iter().any(replaced)
        || may_separate(inspection)
}

/// Whether [`separate`](super::separate) serves: the network has no product but plain ones, in a version of the
/// operators that this module writes, and nothing whose shape depends on values.
fn may_separate(inspection: &Inspection) -> bool {
    let plain = |name: &&&str| matches!(**name, "Gemm" | "MatMul" | "MatMulInteger");
    MATRIX_PRODUCTS.iter().filter(|&&name| inspection.uses(&[name])).all(|name| plain(&name))
        && inspection.uses(&["Gemm", "MatMul", "MatMulInteger"])
        && !inspection.uses(SHAPED_BY_VALUES)
        && inspection.opset >= 12
}

/// Operators whose results have as many elements as the values say.
const SHAPED_BY_VALUES: &[&str] =
    &["Compress", "If", "Loop", "NonMaxSuppression", "NonZero", "Scan", "Unique"];

/// Whether a domain is ONNX's own.
fn own(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Writes the model anew. Convolutions that leave their window to be inferred from their weights get it;
/// weights may lie in files of any name; and a few operators are written out in others. Also gives what
/// [`separate`](super::separate) does.
pub(super) fn rewrite(
    bytes: &[u8],
    external: &[(String, Vec<u8>)],
    inspection: &Inspection,
) -> Result<(Vec<u8>, Option<Vec<Operand>>), LoadError> {
    let damaged =
        |error: rten_onnx::protobuf::ProtobufError| LoadError::NotOnnx { reason: error.to_string() };
    let mut model = ModelProto::parse_buf(bytes).map_err(damaged)?;
    let mut others = None;
    if let Some(graph) = &mut model.graph {
        rewrite_graph(graph, external);
        others = if may_separate(inspection) { separate(graph) } else { None };
    }
    Ok((model.write_buf().map_err(damaged)?, others))
}

fn rewrite_graph(graph: &mut GraphProto, external: &[(String, Vec<u8>)]) {
    add_windows(graph);
    for tensor in &mut graph.initializer {
        relocate(tensor, external);
    }
    for node in std::mem::take(&mut graph.node) {
        replace(node, &mut graph.node);
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        if let Some(tensor) = &mut attribute.t {
            relocate(tensor, external);
        }
        if let Some(branch) = &mut attribute.g {
            rewrite_graph(branch, external);
        }
    }
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

/// A name that the runtime accepts for the `i`th file of weights; it refuses most that the format allows.
pub(super) fn plain_location(i: usize) -> String {
    format!("{i}.data")
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

/// Adds `node` to `nodes`, or the operators that stand for it.
fn replace(node: NodeProto, nodes: &mut Vec<NodeProto>) {
    let op = node.op_type.as_deref().unwrap_or_default();
    let (true, [x], [y]) =
        (own(node.domain.as_deref().unwrap_or_default()), &node.input[..], &node.output[..])
    else {
        nodes.push(node);
        return;
    };
    // No other value can be named so: the name of a value that is computed once is within.
    let part = |name: &str| format!("{y}:{name}");
    let mut add = |op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| {
        nodes.push(NodeProto {
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..NodeProto::default()
        });
    };
    match op {
        // Not there.
        "Selu" => {
            let parameter = |name: &str, default: f32| {
                let mut attributes = node.attribute.iter().filter(|a| a.name.as_deref() == Some(name));
                attributes.find_map(|a| a.f).unwrap_or(default)
            };
            let (elu, gamma) = (part("elu"), part("gamma"));
            add("Elu", &[x], &elu, vec![float("alpha", parameter("alpha", 1.673_263_2))]);
            add("Constant", &[], &gamma, vec![float("value_float", parameter("gamma", 1.050_701))]);
            add("Mul", &[&elu, &gamma], y, vec![]);
        }
        // Gives 1 for 0.
        "Sign" => {
            let (zero, is_zero, sign) = (part("zero"), part("is_zero"), part("sign"));
            add("Sub", &[x, x], &zero, vec![]);
            add("Equal", &[x, &zero], &is_zero, vec![]);
            add("Sign", &[x], &sign, vec![]);
            add("Where", &[&is_zero, x, &sign], y, vec![]);
        }
        // Overflows where `exp(x)` does. `max(x, 0) + ln(1 + exp(-|x|))` is the same and does not.
        "Softplus" => {
            let (positive, size, minus, rest) = (part("positive"), part("size"), part("minus"), part("rest"));
            add("Relu", &[x], &positive, vec![]);
            add("Abs", &[x], &size, vec![]);
            add("Neg", &[&size], &minus, vec![]);
            add("Softplus", &[&minus], &rest, vec![]);
            add("Add", &[&positive, &rest], y, vec![]);
        }
        _ => nodes.push(node),
    }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        f: Some(f),
        r#type: Some(AttributeType::FLOAT),
        ..AttributeProto::default()
    }
}
