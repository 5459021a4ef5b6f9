//! [`Step`]: one value made of others.

use std::sync::Arc;

use kernels::{Isa, Panels, Rows, ops, product};

use super::picture::{self, Convolution, Window};
use super::shaping::{self, Shaping};
use super::view::{Room, Value, View, Whole, count, dense_strides, walk};

/// Rows of scores that are computed together: they stay in the cache until they are multiplied with values.
const SCORE_ROWS: usize = 96;

/// One value made of others.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) op: Op,
    /// The numbers of what it takes; none where an optional input is left out.
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) output: usize,
    /// Values that nobody needs after it.
    pub(super) done: Vec<usize>,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Op {
    /// A product with a constant matrix, and what is done to each number of it.
    Dense { weights: Panels, bias: Option<Vec<f32>>, function: Option<Function> },
    /// Softmax of scaled products of queries and keys, which a mask may be added to; the values' mean by these.
    Attention { scale: f32 },
    /// A convolution over pictures.
    Convolution(Box<Convolution>),
    /// The greatest number in a window.
    Greatest(Window),
    /// The mean of each channel of a picture.
    Pixels,
    /// A product of two values.
    Product,
    /// Layer normalisation of the last dimension.
    Normalize { weight: Vec<f32>, bias: Vec<f32>, epsilon: f32 },
    /// The mean over one dimension, which stays as one of size one or goes.
    Mean { axis: i64, keep: bool },
    /// Over the last dimension, which is this one.
    Softmax { axis: i64 },
    /// A function of each number.
    Each(Function),
    /// An operation of two numbers each.
    Pairs(Operation),
    /// Rows of the first by their places in the second.
    Gather { axis: i64 },
    /// Another view of the same numbers, or something of shapes.
    Shaping(Shaping),
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    /// Within these.
    Clip(f32, f32),
    Exp,
    Gelu,
    /// `x * factor + plus` within 0 and 1.
    HardSigmoid(f32, f32),
    /// `x * (x + 3 within 0 and 6) / 6`.
    HardSwish,
    Neg,
    Relu,
    Sigmoid,
    Sqrt,
    Tanh,
}

/// An operation of two numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// The values of a run.
pub(super) struct Memory<'a> {
    pub(super) constants: &'a [Option<Value>],
    pub(super) computed: Vec<Option<Value>>,
}

impl Memory<'_> {
    pub(super) fn get(&self, number: usize) -> Option<&Value> {
        self.constants.get(number)?.as_ref().or(self.computed.get(number)?.as_ref())
    }
}

impl Step {
    /// What it makes of `memory`; `None` if it cannot.
    pub(super) fn run(&self, isa: Isa, memory: &Memory<'_>, room: &mut Room) -> Option<Value> {
        let value = |i: usize| memory.get((*self.inputs.get(i)?)?);
        let numbers = |i: usize| value(i)?.numbers();
        let made = match &self.op {
            Op::Dense { weights, bias, function } => {
                dense(isa, numbers(0)?, weights, bias.as_deref(), *function, room)?
            }
            Op::Attention { scale } => {
                let mask = match self.inputs.get(3) {
                    Some(_) => Some(numbers(3)?),
                    None => None,
                };
                attend(isa, [numbers(0)?, numbers(1)?, numbers(2)?], mask, *scale, room)?
            }
            Op::Convolution(convolution) => convolution.run(isa, numbers(0)?, room)?,
            Op::Greatest(window) => picture::greatest(window, numbers(0)?, room)?,
            Op::Pixels => picture::mean(numbers(0)?, room)?,
            Op::Product => multiply(isa, numbers(0)?, numbers(1)?, room)?,
            Op::Normalize { weight, bias, epsilon } => {
                let x = numbers(0)?;
                if x.last() != weight.len() || x.shape.is_empty() {
                    return None;
                }
                rows(x, room, |row| ops::layer_norm(isa, row, weight, bias, *epsilon))?
            }
            Op::Softmax { axis } => {
                let x = numbers(0)?;
                let last = i64::try_from(x.shape.len()).ok()? - 1;
                if (*axis != -1 && *axis != last) || last < 0 {
                    return None;
                }
                rows(x, room, |row| ops::scaled_softmax(isa, row, 1.0, None))?
            }
            Op::Mean { axis, keep } => mean(numbers(0)?, *axis, *keep, room)?,
            Op::Each(function) => each(isa, *function, numbers(0)?, room)?,
            Op::Pairs(operation) => match (value(0)?, value(1)?) {
                (Value::Numbers(a), Value::Numbers(b)) => pairs(*operation, a, b, room)?,
                (Value::Whole(a), Value::Whole(b)) => return whole_pairs(*operation, a, b).map(Value::Whole),
                _ => return None,
            },
            Op::Gather { axis } => return shaping::gather(value(0)?, value(1)?.whole()?, *axis, room),
            Op::Shaping(shaping) => {
                let inputs: Vec<Option<&Value>> =
                    self.inputs.iter().map(|number| memory.get((*number)?)).collect();
                return shaping.run(&inputs, room);
            }
        };
        Some(Value::Numbers(made))
    }
}

impl Function {
    pub(super) fn apply(self, isa: Isa, values: &mut [f32]) {
        // NaN stays NaN; `max` would make it a number.
        let within = |x: f32, low: f32, high: f32| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        };
        match self {
            Function::Clip(low, high) => values.iter_mut().for_each(|v| *v = within(*v, low, high)),
            Function::HardSigmoid(factor, plus) => {
                values.iter_mut().for_each(|v| *v = within(*v * factor + plus, 0.0, 1.0));
            }
            Function::HardSwish => values.iter_mut().for_each(|v| *v = *v * within(*v + 3.0, 0.0, 6.0) / 6.0),
            Function::Exp => values.iter_mut().for_each(|v| *v = v.exp()),
            Function::Gelu => ops::gelu(isa, values),
            Function::Neg => values.iter_mut().for_each(|v| *v = -*v),
            Function::Relu => values.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v }),
            Function::Sigmoid => values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
            Function::Sqrt => values.iter_mut().for_each(|v| *v = v.sqrt()),
            Function::Tanh => values.iter_mut().for_each(|v| *v = v.tanh()),
        }
    }
}

/// A function of each number of `x`, in the order in which they lie.
fn each(isa: Isa, function: Function, x: &View, room: &mut Room) -> Option<View> {
    let x = if x.solid().is_some() { x.clone() } else { x.clone().packed(room)? };
    let from = x.solid()?;
    let mut out = room.take(from.len())?;
    let result = &mut out[..from.len()];
    result.copy_from_slice(from);
    function.apply(isa, result);
    let (shape, strides) = (x.shape.clone(), x.strides.clone());
    room.give(x.data);
    Some(View { shape, strides, start: 0, data: Arc::new(out) })
}

/// A copy of `x`, each run of its last dimension changed by `change`.
fn rows(x: &View, room: &mut Room, mut change: impl FnMut(&mut [f32])) -> Option<View> {
    let x = x.clone().packed(room)?;
    let (from, length) = (x.slice()?, x.last());
    let mut out = room.take(from.len())?;
    if length > 0 {
        for (to, from) in out.chunks_exact_mut(length).zip(from.chunks_exact(length)) {
            to.copy_from_slice(from);
            change(to);
        }
    }
    let shape = x.shape.clone();
    room.give(x.data);
    Some(View::new(shape, Arc::new(out)))
}

fn dense(
    isa: Isa,
    x: &View,
    weights: &Panels,
    bias: Option<&[f32]>,
    function: Option<Function>,
    room: &mut Room,
) -> Option<View> {
    let (depth, cols) = (weights.rows(), weights.cols());
    let mut shape = x.shape.clone();
    if shape.pop()? != depth {
        return None;
    }
    let count = count(&shape)?;
    shape.push(cols);
    let x = x.clone().packed(room)?;
    let mut out = room.take(count.checked_mul(cols)?)?;
    let result = &mut out[..count * cols];
    product(Rows { data: x.slice()?, stride: depth }, count, weights, bias, result, cols);
    if let Some(function) = function {
        function.apply(isa, result);
    }
    room.give(x.data);
    Some(View::new(shape, Arc::new(out)))
}

/// `[batch, heads, queries, width]`, `[batch, heads, width, keys]` and `[batch, heads, keys, width]`. What is made lies as
/// `[batch, queries, heads, width]`, which is what comes next.
/// Without heads where there are none.
fn attend(isa: Isa, [q, k, v]: [&View; 3], mask: Option<&View>, scale: f32, room: &mut Room) -> Option<View> {
    if q.shape.len() == 3 && mask.is_none() {
        let [q, k, v] = [q, k, v].map(View::with_heads);
        let mut out = attend(isa, [&q, &k, &v], None, scale, room)?;
        out.shape.remove(1);
        out.strides.remove(1);
        return Some(out);
    }
    let ([batch, heads, queries, width], [_, _, _, keys], [.., wide]) = (
        <[usize; 4]>::try_from(&q.shape[..]).ok()?,
        <[usize; 4]>::try_from(&k.shape[..]).ok()?,
        &v.shape[..],
    ) else {
        return None;
    };
    let wide = *wide;
    if k.shape != [batch, heads, width, keys]
        || v.shape != [batch, heads, keys, wide]
        || q.len() == 0
        || keys == 0
    {
        return None;
    }
    let q = if q.strides[3] == 1 { q.clone() } else { q.clone().packed(room)? };
    let mask = match mask {
        Some(mask) => {
            let strides = mask.stretched(&[batch, heads, queries, keys])?;
            if strides[3] != 1 && keys > 1 {
                return None;
            }
            Some((mask.rest(), strides))
        }
        None => None,
    };
    let mut out = room.take(count(&[batch, queries, heads, wide])?)?;
    let mut scores = room.take(SCORE_ROWS.min(queries).checked_mul(keys)?)?;
    let mut key_panels = room.panels(isa, 0, width, keys)?;
    let mut value_panels = room.panels(isa, 1, keys, wide)?;
    for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
        let at = |view: &View| b * view.strides[0] + h * view.strides[1];
        key_panels.fill(&k.rest()[at(k)..], [k.strides[2], k.strides[3]]);
        value_panels.fill(&v.rest()[at(v)..], [v.strides[2], v.strides[3]]);
        for first in (0..queries).step_by(SCORE_ROWS) {
            let count = SCORE_ROWS.min(queries - first);
            let these = Rows { data: &q.rest()[at(&q) + first * q.strides[2]..], stride: q.strides[2] };
            product(these, count, &key_panels, None, &mut scores, keys);
            for (query, row) in scores.chunks_exact_mut(keys).take(count).enumerate() {
                let mask = mask.as_ref().map(|(mask, strides)| {
                    &mask[b * strides[0] + h * strides[1] + (first + query) * strides[2]..][..keys]
                });
                ops::scaled_softmax(isa, row, scale, mask);
            }
            let to = &mut out[((b * queries + first) * heads + h) * wide..];
            product(Rows { data: &scores, stride: keys }, count, &value_panels, None, to, heads * wide);
        }
    }
    room.panels = [Some(key_panels), Some(value_panels)];
    room.give(Arc::new(scores));
    let strides = vec![queries * heads * wide, wide, heads * wide, 1];
    Some(View { shape: vec![batch, heads, queries, wide], strides, start: 0, data: Arc::new(out) })
}

/// The mean over a dimension, summed from its first to its last.
fn mean(x: &View, axis: i64, keep: bool, room: &mut Room) -> Option<View> {
    let axis = shaping::place(axis, x.shape.len())?;
    let x = x.clone().packed(room)?;
    let (all, size) = (x.slice()?, x.shape[axis]);
    let inner = count(&x.shape[axis + 1..])?;
    let mut shape = x.shape.clone();
    shape[axis] = 1;
    let made = count(&shape)?;
    if size == 0 || inner == 0 {
        return None;
    }
    let mut out = room.take(made)?;
    for (sums, rows) in out[..made].chunks_exact_mut(inner).zip(all.chunks_exact(size * inner)) {
        sums.fill(0.0);
        for row in rows.chunks_exact(inner) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
        sums.iter_mut().for_each(|sum| *sum /= size as f32);
    }
    if !keep {
        shape.remove(axis);
    }
    room.give(x.data);
    Some(View::new(shape, Arc::new(out)))
}

/// A product of matrices, one for each place of the outer dimensions.
fn multiply(isa: Isa, a: &View, b: &View, room: &mut Room) -> Option<View> {
    let (&[ref outer_a @ .., count, depth], &[ref outer_b @ .., rows, cols]) = (&a.shape[..], &b.shape[..])
    else {
        return None;
    };
    if rows != depth {
        return None;
    }
    let outer = broadcast(outer_a, outer_b)?;
    let shape = |ends: [usize; 2]| [&outer[..], &ends].concat();
    let a = if a.strides.last() == Some(&1) { a.clone() } else { a.clone().packed(room)? };
    let (a_strides, b_strides) = (a.stretched(&shape([count, depth]))?, b.stretched(&shape([rows, cols]))?);
    let made = shape([count, cols]);
    let size = super::view::count(&made)?;
    let mut out = room.take(size)?;
    let mut panels = room.panels(isa, 0, rows, cols)?;
    let dims = outer.len();
    let mut results = out[..size].chunks_exact_mut((count * cols).max(1));
    // One more dimension, for `walk` to pass over.
    let places: Vec<usize> = outer.iter().copied().chain([1]).collect();
    walk(&places, [&a_strides[..dims], &b_strides[..dims]], |[at_a, at_b]| {
        let result = results.next().unwrap_or_default();
        panels.fill(&b.rest()[at_b..], [b_strides[dims], b_strides[dims + 1]]);
        product(
            Rows { data: &a.rest()[at_a..], stride: a_strides[dims] },
            count,
            &panels,
            None,
            result,
            cols,
        );
    });
    room.panels[0] = Some(panels);
    Some(View::new(made, Arc::new(out)))
}

/// The shape that both can be stretched to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let length = a.len().max(b.len());
    let at = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(length).map_or(1, |i| shape[i]);
    (0..length)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

impl Operation {
    fn whole(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Operation::Add => a.checked_add(b),
            Operation::Subtract => a.checked_sub(b),
            Operation::Multiply => a.checked_mul(b),
            Operation::Divide => a.checked_div(b),
        }
    }
}

fn pairs(operation: Operation, a: &View, b: &View, room: &mut Room) -> Option<View> {
    match operation {
        Operation::Add => zip(a, b, room, |a, b| a + b),
        Operation::Subtract => zip(a, b, room, |a, b| a - b),
        Operation::Multiply => zip(a, b, room, |a, b| a * b),
        Operation::Divide => zip(a, b, room, |a, b| a / b),
    }
}

fn zip(a: &View, b: &View, room: &mut Room, each: impl Fn(f32, f32) -> f32) -> Option<View> {
    let shape = broadcast(&a.shape, &b.shape)?;
    let size = count(&shape)?;
    let mut out = room.take(size)?;
    let result = &mut out[..size];
    let alike = a.shape == b.shape && a.strides == b.strides;
    if let (Some(a_all), Some(b_all), true) = (a.solid(), b.solid(), alike) {
        result.iter_mut().zip(a_all).zip(b_all).for_each(|((to, a), b)| *to = each(*a, *b));
        return Some(View { shape, strides: a.strides.clone(), start: 0, data: Arc::new(out) });
    }
    let (a_strides, b_strides) = (a.stretched(&shape)?, b.stretched(&shape)?);
    // The dimensions from the widest step of the greater one to its least: the result lies as that does.
    let greater = if a.len() >= b.len() { &a_strides } else { &b_strides };
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&dim| std::cmp::Reverse(greater[dim]));
    let ordered = |of: &[usize]| order.iter().map(|&dim| of[dim]).collect::<Vec<_>>();
    let (made, a_strides, b_strides) = (ordered(&shape), ordered(&a_strides), ordered(&b_strides));
    let mut strides = vec![0; shape.len()];
    for (&dim, stride) in order.iter().zip(dense_strides(&made)) {
        strides[dim] = stride;
    }
    let length = made.last().copied().unwrap_or(1);
    let step = |strides: &[usize]| strides.last().copied().unwrap_or(0);
    let steps = (step(&a_strides), step(&b_strides));
    let (a, b) = (a.rest(), b.rest());
    let mut rows = result.chunks_exact_mut(length.max(1));
    walk(&made, [&a_strides, &b_strides], |[at_a, at_b]| {
        let row = rows.next().unwrap_or_default();
        let (a, b) = (&a[at_a..], &b[at_b..]);
        match steps {
            (1, 1) => row.iter_mut().zip(a).zip(b).for_each(|((to, a), b)| *to = each(*a, *b)),
            (1, 0) => row.iter_mut().zip(a).for_each(|(to, a)| *to = each(*a, b[0])),
            (0, 1) => row.iter_mut().zip(b).for_each(|(to, b)| *to = each(a[0], *b)),
            (s, t) => row.iter_mut().enumerate().for_each(|(i, to)| *to = each(a[i * s], b[i * t])),
        }
    });
    Some(View { shape, strides, start: 0, data: Arc::new(out) })
}

/// Of one number and several, or of as many.
fn whole_pairs(operation: Operation, a: &Whole, b: &Whole) -> Option<Whole> {
    let shape = broadcast(&a.shape, &b.shape)?;
    let size = count(&shape)?;
    let one_of = |x: &Whole| matches!(x.data.len(), n if n == 1 || n == size);
    if !one_of(a) || !one_of(b) {
        return None;
    }
    let at = |x: &Whole, i: usize| x.data.get(if x.data.len() == 1 { 0 } else { i }).copied();
    let data = (0..size).map(|i| operation.whole(at(a, i)?, at(b, i)?)).collect::<Option<Vec<i64>>>()?;
    Some(Whole { shape, data: Arc::new(data) })
}
