//! ONNX's own operators that look at all elements along an axis.

use super::attributes::Attributes;
use super::layout::{steps, walk};
use super::shapes::axes;
use super::transform::{highest, softmax};
use super::value::{Array, Value, axis};
use super::{Fault, Inputs, Run};

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
