//! [`Call`]: one application of a layer, as the configuration has it.

use super::graph::{NODES_MAX, Reference};
use crate::Value;
use crate::spec::SpecError;
use crate::spec::fields::{brief, count_of};

/// Arguments that are values, in the order in which attention and recurrent layers take them.
const NAMED: [&str; 5] = ["inputs", "query", "value", "key", "initial_state"];
/// Masks of attention's value and key. Of a query, Keras takes the mask that it has itself, whatever is given.
const MASKS: [(&str, usize); 2] = [("value_mask", 1), ("key_mask", 2)];

/// One application of a layer.
pub(super) struct Call<'v> {
    pub(super) inputs: Vec<Reference<'v>>,
    /// For each input, as far as there are any.
    pub(super) masks: Vec<Option<Reference<'v>>>,
    /// Which steps of a query may look at which of a key.
    pub(super) allowed: Option<Reference<'v>>,
    pub(super) causal: bool,
    /// Whether an attention's scores are wanted besides.
    pub(super) scores: bool,
    /// The configuration's own words.
    pub(super) node: &'v Value,
}

impl<'v> Call<'v> {
    /// The call that `node` describes, of the layer at `at`; among the arguments of an `operation` there are others
    /// than values.
    pub(super) fn read(at: &str, node: &'v Value, operation: bool) -> Result<Call<'v>, SpecError> {
        let mut call =
            Call { inputs: Vec::new(), masks: Vec::new(), allowed: None, causal: false, scores: false, node };
        if let Value::List(_) = node {
            older(at, node, &mut call.inputs)?;
            return Ok(call);
        }
        tensors(at, node.get("args").unwrap_or(&Value::Null), operation, &mut call.inputs)?;
        let options = match node.get("kwargs") {
            Some(Value::Record(options)) => options.as_slice(),
            _ => &[],
        };
        for name in NAMED {
            if let Some((_, value)) = options.iter().find(|(option, _)| option == name)
                && *value != Value::Null
            {
                tensors(at, value, false, &mut call.inputs)?;
            }
        }
        for (name, value) in options {
            let wrong = || SpecError::new(at, format!("its argument `{name}` is not supported"));
            match (name.as_str(), value) {
                (_, Value::Null) | ("training", _) => {}
                (name, _) if NAMED.contains(&name) => {}
                ("return_attention_scores", Value::Bool(scores)) => call.scores = *scores,
                ("use_causal_mask", Value::Bool(causal)) => call.causal = *causal,
                ("mask", Value::List(masks)) => {
                    let mask = |mask: &'v Value| match mask {
                        Value::Null => Ok(None),
                        mask => tensor(mask).map(Some).ok_or_else(wrong),
                    };
                    call.masks = masks.iter().map(mask).collect::<Result<_, _>>()?;
                }
                ("mask", value) => call.masks = vec![Some(tensor(value).ok_or_else(wrong)?)],
                ("attention_mask", value) => call.allowed = Some(tensor(value).ok_or_else(wrong)?),
                ("query_mask", _) => {}
                (name, value) => match MASKS.iter().find(|(mask, _)| *mask == name) {
                    Some((_, place)) => {
                        call.masks.resize(call.masks.len().max(place + 1), None);
                        call.masks[*place] = Some(tensor(value).ok_or_else(wrong)?);
                    }
                    None => return Err(wrong()),
                },
            }
        }
        if call.inputs.is_empty() {
            return Err(SpecError::new(at, "it takes nothing"));
        }
        Ok(call)
    }

    pub(super) fn needs(&self) -> impl Iterator<Item = Reference<'v>> {
        self.inputs.iter().chain(self.masks.iter().flatten()).chain(&self.allowed).copied()
    }
}

/// The most values that a layer gives.
const TENSORS_MAX: usize = 64;

/// `[layer, node, tensor]`
pub(super) fn reference(list: &[Value]) -> Option<Reference<'_>> {
    match list {
        [Value::Text(layer), Value::Number(node), Value::Number(tensor), ..] => {
            let node = count_of("", &Value::Number(*node), 0, NODES_MAX).ok()?;
            let tensor = count_of("", &Value::Number(*tensor), 0, TENSORS_MAX).ok()?;
            Some(Reference { layer, node, tensor })
        }
        _ => None,
    }
}

/// Whether an argument is a value between layers.
pub(super) fn is_tensor(value: &Value) -> bool {
    tensor(value).is_some()
}

/// The text of a field.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    match value.get(name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// A tensor, as Keras 3 writes it among arguments.
fn tensor(value: &Value) -> Option<Reference<'_>> {
    match value.get("config").and_then(|config| config.get("keras_history")) {
        Some(Value::List(history)) if text(value, "class_name") == Some("__keras_tensor__") => {
            reference(history)
        }
        _ => None,
    }
}

/// Adds the tensors among arguments to `found`; there may be `others` among them.
fn tensors<'v>(
    at: &str,
    value: &'v Value,
    others: bool,
    found: &mut Vec<Reference<'v>>,
) -> Result<(), SpecError> {
    match value {
        Value::List(list) => list.iter().try_for_each(|value| tensors(at, value, others, found)),
        value => match tensor(value) {
            Some(reference) => {
                found.push(reference);
                Ok(())
            }
            None if others => Ok(()),
            None => Err(SpecError::new(at, format!("its argument {} is not supported", brief(value)))),
        },
    }
}

/// Adds the tensors of an application as Keras 2 writes it, `[[layer, node, tensor, options], …]`, to `found`.
fn older<'v>(at: &str, value: &'v Value, found: &mut Vec<Reference<'v>>) -> Result<(), SpecError> {
    let wrong = || SpecError::new(at, "its `inbound_nodes` cannot be read");
    let Value::List(list) = value else { return Err(wrong()) };
    for item in list {
        let Value::List(item) = item else { return Err(wrong()) };
        found.push(reference(item).ok_or_else(wrong)?);
        if let Some(Value::Record(options)) = item.get(3)
            && let Some((name, _)) = options.iter().find(|(_, value)| *value != Value::Null)
        {
            return Err(SpecError::new(at, format!("its argument `{name}` is not supported")));
        }
    }
    if found.is_empty() { Err(wrong()) } else { Ok(()) }
}
