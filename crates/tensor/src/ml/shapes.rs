//! ONNX's own operators that move values, and change their shapes and types.

use rten_onnx::onnx::DataType as Element;

use super::attributes::Attributes;
use super::layout::{steps, walk};
use super::value::{Array, Value, axis, elements};
use super::{Fault, Inputs, Run};

pub(super) fn identity(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| Ok(vec![inputs.get(0)?.clone()])))
}

pub(super) fn constant(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let value = match attributes.tensor("value")? {
        Some(value) => value,
        None => match (attributes.float("value_float")?, attributes.int("value_int")?) {
            (Some(x), _) => Value::new(Vec::new(), Array::F32(vec![x]))?,
            (_, Some(i)) => Value::new(Vec::new(), Array::I64(vec![i]))?,
            _ => {
                let ints = attributes.ints("value_ints").to_vec();
                let floats = attributes.floats("value_floats").to_vec();
                match ints.is_empty() {
                    true => Value::new(vec![floats.len()], Array::F32(floats))?,
                    false => Value::new(vec![ints.len()], Array::I64(ints))?,
                }
            }
        },
    };
    Ok(Box::new(move |_: &Inputs<'_>| Ok(vec![value.clone()])))
}

pub(super) fn cast(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let to = attributes.int("to")?.and_then(|to| i32::try_from(to).ok()).unwrap_or_default();
    attributes.int("saturate")?;
    let to = Element(to);
    if !matches!(
        to,
        Element::FLOAT | Element::DOUBLE | Element::INT64 | Element::INT32 | Element::BOOL | Element::STRING
    ) {
        return Err(Fault::new(format!("attribute `to`: {to} is not supported")));
    }
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let array = match (to, &value.array) {
            (Element::STRING, Array::Text(v)) => Array::Text(v.clone()),
            (Element::STRING, array) => Array::Text(written(array)),
            (Element::FLOAT, Array::Text(v)) => Array::narrow(read_numbers(v)?),
            (_, Array::Text(v)) => {
                let numbers = read_numbers(v)?;
                match to {
                    Element::DOUBLE => Array::F64(numbers),
                    Element::BOOL => Array::Bool(numbers.into_iter().map(|x| x != 0.0).collect()),
                    _ => Array::I64(numbers.into_iter().map(|x| x as i64).collect()),
                }
            }
            (Element::FLOAT, Array::F32(v)) => Array::F32(v.clone()),
            (Element::FLOAT, _) => Array::narrow(value.floats()?),
            (Element::DOUBLE, _) => Array::F64(value.floats()?),
            (Element::BOOL, _) => Array::Bool(value.floats()?.into_iter().map(|x| x != 0.0).collect()),
            (Element::INT32, _) => {
                Array::I64(value.ints()?.into_iter().map(|i| i64::from(i as i32)).collect())
            }
            (_, _) => Array::I64(value.ints()?),
        };
        Ok(vec![Value::new(value.shape.clone(), array)?])
    }))
}

fn read_numbers(texts: &[String]) -> Result<Vec<f64>, Fault> {
    let read = |text: &String| text.trim().parse().map_err(|_| Fault::new("a string is not a number"));
    texts.iter().map(read).collect()
}

fn written(array: &Array) -> Vec<String> {
    match array {
        Array::F32(v) => v.iter().map(f32::to_string).collect(),
        Array::F64(v) => v.iter().map(f64::to_string).collect(),
        Array::I64(v) => v.iter().map(i64::to_string).collect(),
        Array::Bool(v) => v.iter().map(|&b| if b { "1".to_owned() } else { "0".to_owned() }).collect(),
        Array::Text(v) => v.clone(),
    }
}

pub(super) fn concat(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let along = attributes.int("axis")?.ok_or_else(|| Fault::new("attribute `axis` is missing"))?;
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let parts: Vec<&Value> = inputs.given().collect();
        let first = inputs.get(0)?;
        let at = axis(along, first.shape.len())?;
        let mut shape = first.shape.clone();
        let mut length = 0usize;
        for part in &parts {
            let same = part.shape.len() == shape.len()
                && part.shape.iter().zip(&shape).enumerate().all(|(i, (a, b))| i == at || a == b);
            if !same {
                return Err(Fault::new(format!("shapes {shape:?} and {:?} differ", part.shape)));
            }
            length = length.saturating_add(part.shape.get(at).copied().unwrap_or(0));
        }
        if let Some(size) = shape.get_mut(at) {
            *size = length;
        }
        let total = elements(&shape)?;
        let outer: usize = shape.iter().take(at).product();
        let inner = |part: &Value| part.shape.iter().skip(at).product::<usize>();
        macro_rules! joined {
            ($kind:ident) => {{
                let mut all = Vec::with_capacity(total);
                for row in 0..outer {
                    for part in &parts {
                        let Array::$kind(values) = &part.array else {
                            return Err(Fault::new("its inputs are of different types"));
                        };
                        let n = inner(part);
                        all.extend_from_slice(values.get(row * n..(row + 1) * n).unwrap_or_default());
                    }
                }
                Array::$kind(all)
            }};
        }
        let array = match first.array {
            Array::F32(_) => joined!(F32),
            Array::F64(_) => joined!(F64),
            Array::I64(_) => joined!(I64),
            Array::Bool(_) => joined!(Bool),
            Array::Text(_) => joined!(Text),
        };
        Ok(vec![Value::new(shape, array)?])
    }))
}

pub(super) fn reshape(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let zero_is_zero = attributes.flag("allowzero", false)?;
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let (value, wanted) = (inputs.get(0)?, inputs.get(1)?.ints()?);
        let mut shape = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (i, &size) in wanted.iter().enumerate() {
            shape.push(match size {
                -1 if open.is_none() => {
                    open = Some(i);
                    1
                }
                0 if !zero_is_zero => value.shape.get(i).copied().unwrap_or(0),
                size => {
                    usize::try_from(size).map_err(|_| Fault::new(format!("no shape has a size of {size}")))?
                }
            });
        }
        let rest = elements(&shape)?;
        if let Some(size) = open.and_then(|open| shape.get_mut(open)) {
            *size = value.array.len().checked_div(rest).unwrap_or(0);
        }
        Ok(vec![Value::new(shape, value.array.clone())?])
    }))
}

pub(super) fn flatten(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let along = attributes.int("axis")?.unwrap_or(1);
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let at = if along == value.shape.len() as i64 {
            value.shape.len()
        } else {
            axis(along, value.shape.len())?
        };
        let product = |sizes: &[usize]| sizes.iter().product::<usize>();
        let (before, after) = value.shape.split_at(at);
        Ok(vec![Value::new(vec![product(before), product(after)], value.array.clone())?])
    }))
}

/// The axes of a node: an attribute in old versions, an input in newer ones.
pub(super) fn axes(attribute: &[i64], inputs: &Inputs<'_>, at: usize) -> Result<Vec<i64>, Fault> {
    match inputs.maybe(at) {
        Some(value) => value.ints(),
        None => Ok(attribute.to_vec()),
    }
}

pub(super) fn squeeze(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let listed = attributes.ints("axes").to_vec();
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let axes = axes(&listed, inputs, 1)?;
        let rank = value.shape.len();
        let named = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        let kept = |(i, size): (usize, &usize)| {
            let goes = if named.is_empty() { *size == 1 } else { named.contains(&i) };
            (!goes).then_some(*size)
        };
        let shape = value.shape.iter().enumerate().filter_map(kept).collect();
        Ok(vec![Value::new(shape, value.array.clone())?])
    }))
}

pub(super) fn unsqueeze(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let listed = attributes.ints("axes").to_vec();
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let axes = axes(&listed, inputs, 1)?;
        let rank = value.shape.len() + axes.len();
        let mut new = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        new.sort_unstable();
        let mut shape = value.shape.clone();
        for at in new {
            if at > shape.len() {
                return Err(Fault::new("its axes repeat"));
            }
            shape.insert(at, 1);
        }
        Ok(vec![Value::new(shape, value.array.clone())?])
    }))
}

pub(super) fn transpose(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let order = attributes.ints("perm").to_vec();
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let rank = value.shape.len();
        let order = match order.is_empty() {
            true => (0..rank).rev().collect(),
            false => order.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        };
        let mut seen = order.clone();
        seen.sort_unstable();
        if !seen.iter().copied().eq(0..rank) {
            return Err(Fault::new(format!("attribute `perm` does not order {rank} axes")));
        }
        let steps = steps(&value.shape);
        let shape: Vec<usize> = order.iter().filter_map(|&a| value.shape.get(a).copied()).collect();
        let moved: Vec<usize> = order.iter().filter_map(|&a| steps.get(a).copied()).collect();
        let places = walk(&shape, &moved);
        Ok(vec![Value::new(shape, value.array.pick(&places)?)?])
    }))
}

pub(super) fn shape(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let sizes: Vec<i64> = inputs.get(0)?.shape.iter().map(|&size| size as i64).collect();
        Ok(vec![Value::new(vec![sizes.len()], Array::I64(sizes))?])
    }))
}

pub(super) fn gather(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let along = attributes.int("axis")?.unwrap_or(0);
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let (value, wanted) = (inputs.get(0)?, inputs.get(1)?);
        let at = axis(along, value.shape.len())?;
        let size = value.shape.get(at).copied().unwrap_or(0);
        let inner: usize = value.shape.iter().skip(at + 1).product();
        let outer: usize = value.shape.iter().take(at).product();
        let wanted_places =
            wanted.ints()?.into_iter().map(|i| axis(i, size)).collect::<Result<Vec<_>, _>>()?;
        let (before, after) = value.shape.split_at(at);
        let shape = [before, &wanted.shape, after.get(1..).unwrap_or_default()].concat();
        let mut places = Vec::with_capacity(elements(&shape)?);
        for row in 0..outer {
            for place in &wanted_places {
                let start = (row * size + place) * inner;
                places.extend(start..start + inner);
            }
        }
        Ok(vec![Value::new(shape, value.array.pick(&places)?)?])
    }))
}
