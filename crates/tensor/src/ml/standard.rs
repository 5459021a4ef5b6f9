//! ONNX's own operators, as far as exporters put them between those that predict.

use rten_onnx::onnx::DataType as Element;

use super::attributes::Attributes;
use super::transform::{highest, logistic, softmax};
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
fn axes(attribute: &[i64], inputs: &Inputs<'_>, at: usize) -> Result<Vec<i64>, Fault> {
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

/// Elements from one step of each dimension to the next.
fn steps(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        if let (Some(&step), Some(&size)) = (steps.get(i), shape.get(i))
            && let Some(before) = steps.get_mut(i - 1)
        {
            *before = step * size;
        }
    }
    steps
}

/// The place of each element of `shape`, in order, where dimension `i` steps by `by[i]`.
fn walk(shape: &[usize], by: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for (&size, &step) in shape.iter().zip(by) {
        places = places.iter().flat_map(|&start| (0..size).map(move |i| start + i * step)).collect();
    }
    places
}

/// The shape that two values have together, and of each the place of what goes to every element.
struct Together {
    shape: Vec<usize>,
    of_a: Vec<usize>,
    of_b: Vec<usize>,
}

fn broadcast(a: &[usize], b: &[usize]) -> Result<Together, Fault> {
    let rank = a.len().max(b.len());
    let longer = |shape: &[usize]| [vec![1; rank - shape.len()].as_slice(), shape].concat();
    let (a, b) = (longer(a), longer(b));
    let mut shape = Vec::with_capacity(rank);
    for (&x, &y) in a.iter().zip(&b) {
        shape.push(match (x, y) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(Fault::new(format!("shapes {a:?} and {b:?} do not go together"))),
        });
    }
    elements(&shape)?;
    let places = |own: &[usize]| {
        let by = steps(own).into_iter().zip(own).map(|(step, &size)| if size == 1 { 0 } else { step });
        walk(&shape, &by.collect::<Vec<_>>())
    };
    let (of_a, of_b) = (places(&a), places(&b));
    Ok(Together { shape, of_a, of_b })
}

/// Combines two lists of values element by element, each repeated where it is narrower.
fn combined<T: Clone, U>(
    (a, a_shape): (&[T], &[usize]),
    (b, b_shape): (&[T], &[usize]),
    of: impl Fn(&T, &T) -> U,
) -> Result<(Vec<usize>, Vec<U>), Fault> {
    if a_shape == b_shape {
        return Ok((a_shape.to_vec(), a.iter().zip(b).map(|(a, b)| of(a, b)).collect()));
    }
    let Together { shape, of_a, of_b } = broadcast(a_shape, b_shape)?;
    let pairs = of_a.iter().zip(&of_b).filter_map(|(&i, &j)| Some(of(a.get(i)?, b.get(j)?)));
    let all = pairs.collect();
    Ok((shape, all))
}

/// An arithmetic operator of two or more numbers. Computed in float64 and given in the type of the first.
fn arithmetic(float: fn(f64, f64) -> f64, int: fn(i64, i64) -> Option<i64>) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let mut all = inputs.given();
        let mut so_far = all.next().ok_or_else(|| Fault::new("it has no inputs"))?.clone();
        for next in all {
            so_far = match (&so_far.array, &next.array) {
                (Array::I64(a), Array::I64(b)) => {
                    let (shape, all) = combined((a, &so_far.shape), (b, &next.shape), |&a, &b| int(a, b))?;
                    let all: Option<Vec<i64>> = all.into_iter().collect();
                    let all = all.ok_or_else(|| Fault::new("integers beyond int64, or divided by 0"))?;
                    Value::new(shape, Array::I64(all))?
                }
                (array, _) => {
                    let (a, b) = (so_far.floats()?, next.floats()?);
                    let (shape, all) =
                        combined((&a, &so_far.shape), (&b, &next.shape), |&a, &b| float(a, b))?;
                    let array = array.alike(all);
                    Value::new(shape, array)?
                }
            };
        }
        Ok(vec![so_far])
    })
}

pub(super) fn add(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(|a, b| a + b, i64::checked_add))
}

pub(super) fn sub(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(|a, b| a - b, i64::checked_sub))
}

pub(super) fn mul(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(|a, b| a * b, i64::checked_mul))
}

pub(super) fn div(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(|a, b| a / b, i64::checked_div))
}

pub(super) fn max(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(f64::max, |a, b| Some(a.max(b))))
}

pub(super) fn min(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(f64::min, |a, b| Some(a.min(b))))
}

pub(super) fn pow(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(arithmetic(f64::powf, |a, b| a.checked_pow(u32::try_from(b).ok()?)))
}

/// A comparison; strings know only equality.
fn comparison(of: fn(f64, f64) -> bool) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let (shape, all) = match (&a.array, &b.array) {
            (Array::Text(x), Array::Text(y)) => {
                combined((x, &a.shape), (y, &b.shape), |x, y| of(f64::from(u8::from(x != y)), 0.0))?
            }
            (Array::I64(x), Array::I64(y)) => {
                let order = |x: &i64, y: &i64| of(x.cmp(y) as i8 as f64, 0.0);
                combined((x, &a.shape), (y, &b.shape), order)?
            }
            _ => combined((&a.floats()?, &a.shape), (&b.floats()?, &b.shape), |&x, &y| of(x, y))?,
        };
        Ok(vec![Value::new(shape, Array::Bool(all))?])
    })
}

pub(super) fn equal(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a == b))
}

pub(super) fn greater(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a > b))
}

pub(super) fn greater_or_equal(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a >= b))
}

pub(super) fn less(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a < b))
}

pub(super) fn less_or_equal(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(comparison(|a, b| a <= b))
}

fn logical(of: fn(bool, bool) -> bool) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let (Array::Bool(x), Array::Bool(y)) = (&a.array, &b.array) else {
            return Err(Fault::new("takes booleans"));
        };
        let (shape, all) = combined((x, &a.shape), (y, &b.shape), |&x, &y| of(x, y))?;
        Ok(vec![Value::new(shape, Array::Bool(all))?])
    })
}

pub(super) fn and(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(logical(|a, b| a && b))
}

pub(super) fn or(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(logical(|a, b| a || b))
}

pub(super) fn not(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let Array::Bool(all) = &value.array else { return Err(Fault::new("takes booleans")) };
        Ok(vec![Value::new(value.shape.clone(), Array::Bool(all.iter().map(|b| !b).collect()))?])
    }))
}

pub(super) fn is_nan(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let all = value.floats()?.into_iter().map(f64::is_nan).collect();
        Ok(vec![Value::new(value.shape.clone(), Array::Bool(all))?])
    }))
}

pub(super) fn choose(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let (condition, yes, no) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
        let Array::Bool(chooses) = &condition.array else {
            return Err(Fault::new("its condition is not boolean"));
        };
        let both = broadcast(&yes.shape, &no.shape)?.shape;
        let Together { shape, of_a: of_condition, .. } = broadcast(&condition.shape, &both)?;
        let of_yes = broadcast(&yes.shape, &shape)?.of_a;
        let of_no = broadcast(&no.shape, &shape)?.of_a;
        macro_rules! chosen {
            ($kind:ident, $yes:expr, $no:expr) => {{
                let places = of_condition.iter().zip(of_yes.iter().zip(&of_no));
                let all = places.filter_map(|(&c, (&y, &n))| {
                    if *chooses.get(c)? { $yes.get(y).cloned() } else { $no.get(n).cloned() }
                });
                Array::$kind(all.collect())
            }};
        }
        let array = match (&yes.array, &no.array) {
            (Array::F32(a), Array::F32(b)) => chosen!(F32, a, b),
            (Array::F64(a), Array::F64(b)) => chosen!(F64, a, b),
            (Array::I64(a), Array::I64(b)) => chosen!(I64, a, b),
            (Array::Bool(a), Array::Bool(b)) => chosen!(Bool, a, b),
            (Array::Text(a), Array::Text(b)) => chosen!(Text, a, b),
            _ => return Err(Fault::new("its inputs are of different types")),
        };
        Ok(vec![Value::new(shape, array)?])
    }))
}

/// A function of single numbers.
fn pointwise(of: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Run {
    Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let all = value.floats()?.into_iter().map(&of).collect();
        Ok(vec![Value::new(value.shape.clone(), value.array.alike(all))?])
    })
}

pub(super) fn abs(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::abs))
}

pub(super) fn ceil(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::ceil))
}

pub(super) fn exp(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::exp))
}

pub(super) fn floor(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::floor))
}

pub(super) fn log(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::ln))
}

pub(super) fn neg(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(|x| -x))
}

pub(super) fn reciprocal(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::recip))
}

pub(super) fn relu(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(|x| if x < 0.0 { 0.0 } else { x }))
}

pub(super) fn sigmoid(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(logistic))
}

pub(super) fn sign(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(|x| if x == 0.0 { 0.0 } else { x.signum() }))
}

pub(super) fn sqrt(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::sqrt))
}

pub(super) fn tanh(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(pointwise(f64::tanh))
}

pub(super) fn clip(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let (min, max) = (attributes.float("min")?, attributes.float("max")?);
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let bound = |at, attribute: Option<f32>| -> Result<Option<f64>, Fault> {
            match inputs.maybe(at) {
                Some(value) => Ok(value.floats()?.first().copied()),
                None => Ok(attribute.map(f64::from)),
            }
        };
        let (min, max) = (bound(1, min)?, bound(2, max)?);
        let value = inputs.get(0)?;
        let clipped = |x: f64| match (min, max) {
            (_, Some(max)) if x > max => max,
            (Some(min), _) if x < min => min,
            _ => x,
        };
        let all = value.floats()?.into_iter().map(clipped).collect();
        Ok(vec![Value::new(value.shape.clone(), value.array.alike(all))?])
    }))
}

/// Over the last axis, or over all from `axis` on in versions before 13.
fn normalised(attributes: &Attributes<'_>, log: bool) -> Result<Run, Fault> {
    let old = attributes.opset < 13;
    let along = attributes.int("axis")?.unwrap_or(if old { 1 } else { -1 });
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let at = axis(along, value.shape.len())?;
        if !old && at + 1 != value.shape.len() {
            return Err(Fault::new("attribute `axis` is not the last, which alone is supported"));
        }
        let width: usize = value.shape.iter().skip(at).product();
        let mut all = value.floats()?;
        for row in all.chunks_exact_mut(width.max(1)) {
            softmax(row, false);
            if log {
                row.iter_mut().for_each(|x| *x = x.ln());
            }
        }
        Ok(vec![Value::new(value.shape.clone(), value.array.alike(all))?])
    }))
}

pub(super) fn soft_max(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    normalised(attributes, false)
}

pub(super) fn log_soft_max(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    normalised(attributes, true)
}

/// A number of those along the given axes, of the type of the input.
fn reduction(attributes: &Attributes<'_>, of: fn(&[f64]) -> f64) -> Result<Run, Fault> {
    let listed = attributes.ints("axes").to_vec();
    let keep = attributes.flag("keepdims", true)?;
    let none_is_none = attributes.flag("noop_with_empty_axes", false)?;
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let axes = axes(&listed, inputs, 1)?;
        if axes.is_empty() && none_is_none {
            return Ok(vec![value.clone()]);
        }
        let rank = value.shape.len();
        let over = axes.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
        let goes = |i: usize| over.is_empty() || over.contains(&i);
        let split = |wanted: bool| -> (Vec<usize>, Vec<usize>) {
            let all = value.shape.iter().copied().zip(steps(&value.shape)).enumerate();
            all.filter(|(i, _)| goes(*i) == wanted).map(|(_, pair)| pair).unzip()
        };
        let ((kept, kept_steps), (gone, gone_steps)) = (split(false), split(true));
        let numbers = value.floats()?;
        let inner = walk(&gone, &gone_steps);
        let mut part = Vec::with_capacity(inner.len());
        let all = walk(&kept, &kept_steps).into_iter().map(|start| {
            part.clear();
            part.extend(inner.iter().filter_map(|offset| numbers.get(start + offset)));
            of(&part)
        });
        let all = all.collect();
        let shape = match keep {
            true => value.shape.iter().enumerate().map(|(i, &n)| if goes(i) { 1 } else { n }).collect(),
            false => kept,
        };
        Ok(vec![Value::new(shape, value.array.alike(all))?])
    }))
}

pub(super) fn reduce_sum(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    reduction(attributes, |v| v.iter().sum())
}

pub(super) fn reduce_mean(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    reduction(attributes, |v| v.iter().sum::<f64>() / v.len() as f64)
}

pub(super) fn reduce_max(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    reduction(attributes, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

pub(super) fn reduce_min(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    reduction(attributes, |v| v.iter().copied().fold(f64::INFINITY, f64::min))
}

pub(super) fn reduce_l1(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    reduction(attributes, |v| v.iter().map(|x| x.abs()).sum())
}

pub(super) fn reduce_l2(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    reduction(attributes, |v| v.iter().map(|x| x * x).sum::<f64>().sqrt())
}

pub(super) fn reduce_sum_square(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    reduction(attributes, |v| v.iter().map(|x| x * x).sum())
}

pub(super) fn reduce_log_sum_exp(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    reduction(attributes, |v| {
        let max = v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        max + v.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
    })
}

/// The place of the highest number along an axis; with `least`, of the lowest.
fn place_of(attributes: &Attributes<'_>, least: bool) -> Result<Run, Fault> {
    let along = attributes.int("axis")?.unwrap_or(0);
    let keep = attributes.flag("keepdims", true)?;
    if attributes.flag("select_last_index", false)? {
        return Err(Fault::new("attribute `select_last_index` is not supported"));
    }
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let value = inputs.get(0)?;
        let at = axis(along, value.shape.len())?;
        let size = value.shape.get(at).copied().unwrap_or(0);
        let inner: usize = value.shape.iter().skip(at + 1).product();
        let outer: usize = value.shape.iter().take(at).product();
        let numbers = value.floats()?;
        let mut all = Vec::with_capacity(outer * inner);
        let mut part = Vec::with_capacity(size);
        for row in 0..outer {
            for column in 0..inner {
                let along = (0..size).filter_map(|i| numbers.get((row * size + i) * inner + column));
                part.clear();
                part.extend(along.map(|x| if least { -x } else { *x }));
                all.push(highest(&part) as i64);
            }
        }
        let mut shape = value.shape.clone();
        match (keep, shape.get_mut(at)) {
            (true, Some(size)) => *size = 1,
            _ => drop(shape.remove(at)),
        }
        Ok(vec![Value::new(shape, Array::I64(all))?])
    }))
}

pub(super) fn arg_max(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    place_of(attributes, false)
}

pub(super) fn arg_min(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    place_of(attributes, true)
}

/// A product of two matrices: `rows` by `middle` and `middle` by `columns`.
fn product(a: &[f64], b: &[f64], [rows, middle, columns]: [usize; 3]) -> Vec<f64> {
    let mut all = vec![0.0; rows * columns];
    if columns == 0 || middle == 0 {
        return all;
    }
    for (row, out) in a.chunks_exact(middle).zip(all.chunks_exact_mut(columns)) {
        for (x, line) in row.iter().zip(b.chunks_exact(columns)) {
            out.iter_mut().zip(line).for_each(|(out, y)| *out += x * y);
        }
    }
    all
}

pub(super) fn mat_mul(_: &Attributes<'_>) -> Result<Run, Fault> {
    Ok(Box::new(|inputs: &Inputs<'_>| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let [middle, columns] = b.shape[..] else {
            return Err(Fault::new(format!(
                "its second operand has shape {:?}, not two dimensions",
                b.shape
            )));
        };
        let Some((&width, before)) = a.shape.split_last() else {
            return Err(Fault::new("its first operand is a single number"));
        };
        if width != middle {
            return Err(Fault::new(format!("shapes {:?} and {:?} do not go together", a.shape, b.shape)));
        }
        let mut shape = before.to_vec();
        shape.push(columns);
        elements(&shape)?;
        let all = product(&a.floats()?, &b.floats()?, [before.iter().product(), middle, columns]);
        Ok(vec![Value::new(shape, a.array.alike(all))?])
    }))
}

pub(super) fn gemm(attributes: &Attributes<'_>) -> Result<Run, Fault> {
    let alpha = f64::from(attributes.float("alpha")?.unwrap_or(1.0));
    let beta = f64::from(attributes.float("beta")?.unwrap_or(1.0));
    let (turn_a, turn_b) = (attributes.flag("transA", false)?, attributes.flag("transB", false)?);
    Ok(Box::new(move |inputs: &Inputs<'_>| {
        let matrix = |at, turned: bool| -> Result<([usize; 2], Vec<f64>), Fault> {
            let value = inputs.get(at)?;
            let [rows, columns] = value.shape[..] else {
                return Err(Fault::new(format!(
                    "an operand has shape {:?}, not two dimensions",
                    value.shape
                )));
            };
            let numbers = value.floats()?;
            if !turned {
                return Ok(([rows, columns], numbers));
            }
            let places = walk(&[columns, rows], &[1, columns]);
            Ok(([columns, rows], places.iter().filter_map(|&i| numbers.get(i).copied()).collect()))
        };
        let (([rows, middle], a), ([other, columns], b)) = (matrix(0, turn_a)?, matrix(1, turn_b)?);
        if middle != other {
            return Err(Fault::new(format!(
                "matrices of {middle} columns and {other} rows do not go together"
            )));
        }
        let shape = vec![rows, columns];
        elements(&shape)?;
        let mut all = product(&a, &b, [rows, middle, columns]);
        all.iter_mut().for_each(|x| *x *= alpha);
        if let Some(sum) = inputs.maybe(2) {
            let added = sum.floats()?;
            let (together, sums) = combined((&all, &shape), (&added, &sum.shape), |x, y| x + beta * y)?;
            if together != shape {
                return Err(Fault::new(format!("shape {:?} cannot be added to {shape:?}", sum.shape)));
            }
            all = sums;
        }
        Ok(vec![Value::new(shape, inputs.get(0)?.array.alike(all))?])
    }))
}
