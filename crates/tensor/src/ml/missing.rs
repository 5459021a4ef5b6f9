//! Which inputs of a graph may have values missing: those that reach only nodes that know what to do then.

use std::collections::HashSet;

use rten_onnx::onnx::{GraphProto, NodeProto};

use super::attributes::Attributes;
use super::{DOMAIN, domain};

/// The inputs whose missing values, which are no numbers, are filled in, tested for, or decided by trees.
pub(super) fn inputs(graph: &GraphProto) -> HashSet<String> {
    let given = |name: &str| !graph.initializer.iter().any(|tensor| tensor.name.as_deref() == Some(name));
    let names = graph.input.iter().filter_map(|input| input.name.as_deref()).filter(|name| given(name));
    names.filter(|name| is_handled(graph, name)).map(str::to_owned).collect()
}

/// Whether all that a value reaches expects missing ones.
fn is_handled(graph: &GraphProto, input: &str) -> bool {
    let mut reached = HashSet::from([input]);
    let mut handled = false;
    // Nodes come after those that they depend on.
    for node in &graph.node {
        if !node.input.iter().any(|name| reached.contains(name.as_str())) {
            continue;
        }
        match does(node) {
            Does::Handles => handled = true,
            Does::PassesOn => reached.extend(node.output.iter().map(String::as_str)),
            Does::Computes => return false,
        }
    }
    let leaves = graph.output.iter().filter_map(|output| output.name.as_deref());
    handled && !leaves.into_iter().any(|name| reached.contains(name))
}

/// What a node does with what is no number.
enum Does {
    Handles,
    PassesOn,
    Computes,
}

fn does(node: &NodeProto) -> Does {
    let name = node.op_type.as_deref().unwrap_or_default();
    match (domain(node.domain.as_deref()), name) {
        (DOMAIN, "TreeEnsemble" | "TreeEnsembleClassifier" | "TreeEnsembleRegressor") | ("", "IsNaN") => {
            Does::Handles
        }
        (DOMAIN, "Imputer") => {
            let attributes = Attributes::of(node, 0);
            match attributes.float("replaced_value_float") {
                Ok(Some(replaced)) if replaced.is_nan() => Does::Handles,
                _ => Does::Computes,
            }
        }
        (DOMAIN, "ArrayFeatureExtractor" | "FeatureVectorizer" | "Scaler")
        | (
            "",
            "Cast" | "Concat" | "Flatten" | "Gather" | "Identity" | "Reshape" | "Squeeze" | "Transpose"
            | "Unsqueeze",
        ) => Does::PassesOn,
        _ => Does::Computes,
    }
}
