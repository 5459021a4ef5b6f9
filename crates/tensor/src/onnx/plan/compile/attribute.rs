//! What a node says of itself by name.

use rten_onnx::onnx::{AttributeProto, NodeProto};

pub(super) fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
}

pub(super) fn whole_attribute(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name)?.i
}
