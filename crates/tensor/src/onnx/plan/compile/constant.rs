//! Constants of a graph, as the values that steps take.

use std::sync::Arc;

use rten_onnx::onnx::{DataType as Element, NodeProto, TensorProto};

use crate::onnx::plan::view::{Value, View, Whole, count};

/// What a `Constant` node holds.
pub(super) fn of_attribute(node: &NodeProto, external: &[(String, Vec<u8>)]) -> Option<Value> {
    let [held] = &node.attribute[..] else { return None };
    let numbers = |shape, data| Some(Value::Numbers(View::new(shape, Arc::new(data))));
    let whole = |shape, data| Some(Value::Whole(Whole { shape, data: Arc::new(data) }));
    match held.name.as_deref()? {
        "value" => constant(held.t.as_ref()?, external),
        "value_float" => numbers(vec![], vec![held.f?]),
        "value_floats" => numbers(vec![held.floats.len()], held.floats.clone()),
        "value_int" => whole(vec![], vec![held.i?]),
        "value_ints" => whole(vec![held.ints.len()], held.ints.clone()),
        _ => None,
    }
}

/// A constant of a kind that steps know.
pub(super) fn constant(tensor: &TensorProto, external: &[(String, Vec<u8>)]) -> Option<Value> {
    let shape = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
    let size = count(&shape)?;
    let raw = tensor.raw_data.as_ref().map(std::cell::RefCell::borrow);
    let bytes = match &raw {
        Some(raw) => Some(raw.as_slice()),
        None if tensor.external_data.is_empty() => None,
        None => Some(outside(tensor, external)?),
    };
    match tensor.data_type? {
        Element::FLOAT => {
            let data: Vec<f32> = match bytes {
                Some(bytes) => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
                None => tensor.float_data.clone(),
            };
            (data.len() == size).then(|| Value::Numbers(View::new(shape, Arc::new(data))))
        }
        kind @ (Element::INT64 | Element::INT32 | Element::BOOL) => {
            let narrow = || tensor.int32_data.iter().map(|&x| i64::from(x)).collect();
            let data: Vec<i64> = match (kind, bytes) {
                (Element::INT64, Some(bytes)) => {
                    bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect()
                }
                (Element::INT32, Some(bytes)) => {
                    bytes.as_chunks::<4>().0.iter().map(|&b| i64::from(i32::from_le_bytes(b))).collect()
                }
                (_, Some(bytes)) => bytes.iter().map(|&b| i64::from(b)).collect(),
                (Element::INT64, None) => tensor.int64_data.clone(),
                (_, None) => narrow(),
            };
            (data.len() == size).then(|| Value::Whole(Whole { shape, data: Arc::new(data) }))
        }
        _ => None,
    }
}

/// The bytes of a tensor that lie in another file.
fn outside<'e>(tensor: &TensorProto, external: &'e [(String, Vec<u8>)]) -> Option<&'e [u8]> {
    let entry = |key: &str| {
        let entries = tensor.external_data.iter();
        entries.filter(|e| e.key.as_deref() == Some(key)).find_map(|e| e.value.as_deref())
    };
    let (_, content) = external.iter().find(|(name, _)| Some(name.as_str()) == entry("location"))?;
    let start: usize = entry("offset").map_or(Some(0), |text| text.parse().ok())?;
    let length = entry("length").map_or(content.len().checked_sub(start), |text| text.parse().ok())?;
    content.get(start..start.checked_add(length)?)
}
