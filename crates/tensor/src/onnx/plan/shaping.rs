//! [`Shaping`]: steps that compute nothing, but see numbers otherwise or work on shapes.

use std::sync::Arc;

use super::step::broadcast;
use super::view::{Room, Value, View, Whole, count, dense_strides};

/// Numbers that one such step may write at most.
const WHOLE_MAX: usize = 1 << 24;

/// A step that computes nothing.
#[derive(Debug, Clone)]
pub(super) enum Shaping {
    Same,
    /// To numbers, to whole numbers, or to 0 and 1.
    Cast(Cast),
    Concat {
        axis: i64,
    },
    ConstantOfShape(Value),
    Expand,
    /// All dimensions but the first in one.
    Flatten,
    Reshape,
    Shape {
        start: i64,
        end: Option<i64>,
    },
    /// Starts, ends and axes, where they are not inputs.
    Slice,
    /// The axes, where they are no input.
    Squeeze(Option<Vec<i64>>),
    Unsqueeze(Option<Vec<i64>>),
    Transpose(Option<Vec<i64>>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cast {
    Numbers,
    Whole,
    Truth,
}

impl Shaping {
    /// What it makes of `inputs`; `None` if it cannot.
    pub(super) fn run(&self, inputs: &[Option<&Value>], room: &mut Room) -> Option<Value> {
        let value = |i: usize| inputs.get(i).copied().flatten();
        let whole = |i: usize| value(i)?.whole().map(|whole| whole.data.as_slice());
        let x = value(0)?;
        match self {
            Shaping::Same => Some(x.clone()),
            Shaping::Cast(cast) => cast.run(x, room),
            Shaping::Concat { axis } => concat(inputs, *axis),
            Shaping::ConstantOfShape(filler) => {
                let shape = sizes(whole(0)?)?;
                expand(filler, &shape)
            }
            Shaping::Expand => {
                let shape = broadcast(x.shape(), &sizes(whole(1)?)?)?;
                expand(x, &shape)
            }
            Shaping::Flatten => {
                let rows = x.shape().first().copied()?;
                let shape = vec![rows, count(x.shape().get(1..)?)?];
                with_shape(x, shape, room)
            }
            Shaping::Reshape => {
                let shape = reshaped(x.shape(), whole(1)?)?;
                with_shape(x, shape, room)
            }
            Shaping::Shape { start, end } => {
                let rank = i64::try_from(x.shape().len()).ok()?;
                let place =
                    |at: i64| usize::try_from((if at < 0 { at + rank } else { at }).clamp(0, rank)).ok();
                let range = place(*start)?..place(end.unwrap_or(rank))?.max(place(*start)?);
                let data = x
                    .shape()
                    .get(range)?
                    .iter()
                    .map(|&d| i64::try_from(d).ok())
                    .collect::<Option<Vec<_>>>()?;
                Some(Value::Whole(Whole { shape: vec![data.len()], data: Arc::new(data) }))
            }
            Shaping::Slice => {
                let steps_are_one =
                    value(4).is_none_or(|v| v.whole().is_some_and(|w| w.data.iter().all(|&s| s == 1)));
                let axes = match value(3) {
                    Some(axes) => axes.whole()?.data.to_vec(),
                    None => (0..i64::try_from(whole(1)?.len()).ok()?).collect(),
                };
                if steps_are_one { slice(x, whole(1)?, whole(2)?, &axes) } else { None }
            }
            Shaping::Squeeze(axes) => {
                let axes = axes.as_deref().or(whole(1))?;
                let mut shape: Vec<Option<usize>> = x.shape().iter().copied().map(Some).collect();
                for &axis in axes {
                    let dim = shape.get_mut(place(axis, x.shape().len())?)?;
                    if *dim != Some(1) {
                        return None;
                    }
                    *dim = None;
                }
                with_shape(x, shape.into_iter().flatten().collect(), room)
            }
            Shaping::Unsqueeze(axes) => {
                let axes = axes.as_deref().or(whole(1))?;
                let rank = x.shape().len() + axes.len();
                let new = axes.iter().map(|&axis| place(axis, rank)).collect::<Option<Vec<_>>>()?;
                let mut old = x.shape().iter();
                let shape = (0..rank)
                    .map(|i| if new.contains(&i) { Some(1) } else { old.next().copied() })
                    .collect::<Option<Vec<_>>>()?;
                if old.next().is_some() { None } else { with_shape(x, shape, room) }
            }
            Shaping::Transpose(order) => transpose(x.numbers()?, order.as_deref()).map(Value::Numbers),
        }
    }
}

impl Cast {
    fn run(self, x: &Value, room: &mut Room) -> Option<Value> {
        match (self, x) {
            (Cast::Numbers, Value::Numbers(_)) | (Cast::Whole, Value::Whole(_)) => Some(x.clone()),
            (Cast::Numbers, Value::Whole(whole)) => {
                let mut out = room.take(whole.data.len())?;
                out.iter_mut().zip(whole.data.iter()).for_each(|(to, &x)| *to = x as f32);
                Some(Value::Numbers(View::new(whole.shape.clone(), Arc::new(out))))
            }
            (Cast::Truth, Value::Whole(whole)) => {
                let data = whole.data.iter().map(|&x| i64::from(x != 0)).collect();
                Some(Value::Whole(Whole { shape: whole.shape.clone(), data: Arc::new(data) }))
            }
            _ => None,
        }
    }
}

/// Which dimension of `rank` an axis is.
pub(super) fn place(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let place = if axis < 0 { axis + rank } else { axis };
    usize::try_from(place).ok().filter(|_| place < rank)
}

fn sizes(whole: &[i64]) -> Option<Vec<usize>> {
    whole.iter().map(|&d| usize::try_from(d).ok()).collect()
}

/// The shape that `Reshape` asks for: 0 for a dimension as it is, -1 for one that follows.
fn reshaped(old: &[usize], wanted: &[i64]) -> Option<Vec<usize>> {
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            0 => *old.get(i)?,
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            d => usize::try_from(d).ok()?,
        });
    }
    let (all, known) = (count(old)?, count(&shape)?);
    if let Some(i) = open {
        shape[i] = all.checked_div(known)?;
    }
    (count(&shape)? == all).then_some(shape)
}

fn with_shape(x: &Value, shape: Vec<usize>, room: &mut Room) -> Option<Value> {
    Some(match x {
        Value::Whole(whole) => Value::Whole(Whole { shape, data: whole.data.clone() }),
        Value::Numbers(view) => {
            // A dimension of one more or less moves nothing.
            let strides = renamed(view, &shape);
            let view = if strides.is_some() { view.clone() } else { view.clone().packed(room)? };
            Value::Numbers(View { strides: strides.unwrap_or_else(|| dense_strides(&shape)), shape, ..view })
        }
    })
}

/// The strides of `view` in a shape that differs in dimensions of one only.
fn renamed(view: &View, shape: &[usize]) -> Option<Vec<usize>> {
    let mut old = view.shape.iter().zip(&view.strides).filter(|(d, _)| **d != 1);
    let mut strides = Vec::with_capacity(shape.len());
    for &d in shape {
        strides.push(if d == 1 { 0 } else { *old.next().filter(|(own, _)| **own == d)?.1 });
    }
    if old.next().is_some() { None } else { Some(strides) }
}

fn transpose(view: &View, order: Option<&[i64]>) -> Option<View> {
    let rank = view.shape.len();
    let order = match order {
        Some(order) => order.iter().map(|&axis| place(axis, rank)).collect::<Option<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    if order.len() != rank {
        return None;
    }
    let turned = |of: &[usize]| order.iter().map(|&axis| of[axis]).collect::<Vec<_>>();
    Some(View { shape: turned(&view.shape), strides: turned(&view.strides), ..view.clone() })
}

fn expand(x: &Value, shape: &[usize]) -> Option<Value> {
    let size = count(shape)?;
    match x {
        Value::Numbers(view) => {
            let strides = view.stretched(shape)?;
            Some(Value::Numbers(View { shape: shape.to_vec(), strides, ..view.clone() }))
        }
        Value::Whole(whole) if whole.data.len() == size => {
            Some(Value::Whole(Whole { shape: shape.to_vec(), data: whole.data.clone() }))
        }
        Value::Whole(whole) if whole.data.len() == 1 && size <= WHOLE_MAX => {
            let data = vec![*whole.data.first()?; size];
            Some(Value::Whole(Whole { shape: shape.to_vec(), data: Arc::new(data) }))
        }
        // A row for each row of a batch, which may be many.
        Value::Whole(whole) if shape.ends_with(strip(&whole.shape)) && size <= WHOLE_MAX => {
            let data = whole.data.repeat(size.checked_div(whole.data.len())?);
            Some(Value::Whole(Whole { shape: shape.to_vec(), data: Arc::new(data) }))
        }
        Value::Whole(_) => None,
    }
}

/// A shape without the ones at its front.
fn strip(mut shape: &[usize]) -> &[usize] {
    while let [1, rest @ ..] = shape {
        shape = rest;
    }
    shape
}

/// Whole numbers one after another.
fn concat(inputs: &[Option<&Value>], axis: i64) -> Option<Value> {
    let mut data = Vec::new();
    for input in inputs {
        let whole = (*input)?.whole()?;
        if whole.shape.len() != 1 || place(axis, 1)? != 0 {
            return None;
        }
        data.extend_from_slice(&whole.data);
    }
    Some(Value::Whole(Whole { shape: vec![data.len()], data: Arc::new(data) }))
}

fn slice(x: &Value, starts: &[i64], ends: &[i64], axes: &[i64]) -> Option<Value> {
    let mut ranges: Vec<_> = x.shape().iter().map(|&d| 0..d).collect();
    if starts.len() != ends.len() || starts.len() != axes.len() {
        return None;
    }
    for ((&start, &end), &axis) in starts.iter().zip(ends).zip(axes) {
        let range = ranges.get_mut(place(axis, x.shape().len())?)?;
        let size = i64::try_from(range.end).ok()?;
        let at = |at: i64| {
            usize::try_from((if at < 0 { at.saturating_add(size) } else { at }).clamp(0, size)).ok()
        };
        *range = at(start)?..at(end)?.max(at(start)?);
    }
    let shape: Vec<usize> = ranges.iter().map(ExactSizeIterator::len).collect();
    match x {
        Value::Numbers(view) => {
            let start =
                view.start + ranges.iter().zip(&view.strides).map(|(r, s)| r.start * s).sum::<usize>();
            Some(Value::Numbers(View { shape, start, ..view.clone() }))
        }
        // A dimension that is cut must be the only one of more than one.
        Value::Whole(whole) => {
            let mut cut = ranges.iter().zip(x.shape()).filter(|(_, d)| **d != 1);
            let range = match (cut.next(), cut.next()) {
                (None, _) => 0..count(&shape)?,
                (Some((range, _)), None) => range.clone(),
                _ => return None,
            };
            let data = whole.data.get(range)?.to_vec();
            (data.len() == count(&shape)?).then(|| Value::Whole(Whole { shape, data: Arc::new(data) }))
        }
    }
}

/// Parts of `x` by their places.
pub(super) fn gather(x: &Value, places: &Whole, axis: i64, room: &mut Room) -> Option<Value> {
    let axis = place(axis, x.shape().len())?;
    let size = *x.shape().get(axis)?;
    let at = |i: &i64| place(*i, size);
    match x {
        Value::Numbers(view) if places.shape.is_empty() => {
            let mut view = view.clone();
            view.start += at(places.data.first()?)? * view.strides.remove(axis);
            view.shape.remove(axis);
            Some(Value::Numbers(view))
        }
        Value::Numbers(view) if axis == 0 => {
            let rows = view.slice()?;
            let length = count(view.shape.get(1..)?)?;
            let mut out = room.take(places.data.len().checked_mul(length)?)?;
            for (to, i) in out.chunks_exact_mut(length.max(1)).zip(places.data.iter()) {
                to.copy_from_slice(rows.get(at(i)? * length..)?.get(..length)?);
            }
            let shape = [&places.shape[..], view.shape.get(1..)?].concat();
            Some(Value::Numbers(View::new(shape, Arc::new(out))))
        }
        Value::Whole(whole) if whole.shape.len() == 1 => {
            let data =
                places.data.iter().map(|i| whole.data.get(at(i)?).copied()).collect::<Option<Vec<_>>>()?;
            Some(Value::Whole(Whole { shape: places.shape.clone(), data: Arc::new(data) }))
        }
        _ => None,
    }
}
