//! [`View`] and [`Value`]: what steps take and give; [`Room`]: the memory that they do it in.

use std::sync::Arc;

use kernels::{Isa, Panels};

use crate::onnx::bound::HELD_MAX;

/// Numbers of a shape, somewhere in a block of memory. What is turned, cut or stretched is the same block, seen otherwise.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) shape: Vec<usize>,
    /// From one number to the next in each dimension.
    pub(super) strides: Vec<usize>,
    pub(super) start: usize,
    pub(super) data: Arc<Vec<f32>>,
}

/// Whole numbers of a shape: ids, masks, shapes.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    pub(super) shape: Vec<usize>,
    pub(super) data: Arc<Vec<i64>>,
}

/// What a step takes or gives.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Numbers(View),
    Whole(Whole),
}

impl Value {
    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Value::Numbers(view) => &view.shape,
            Value::Whole(whole) => &whole.shape,
        }
    }

    pub(super) fn numbers(&self) -> Option<&View> {
        match self {
            Value::Numbers(view) => Some(view),
            Value::Whole(_) => None,
        }
    }

    pub(super) fn whole(&self) -> Option<&Whole> {
        match self {
            Value::Numbers(_) => None,
            Value::Whole(whole) => Some(whole),
        }
    }
}

/// The most numbers that a value may have.
const COUNT_MAX: usize = 1 << 30;

/// How many numbers a shape has; `None` if they are too many.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= COUNT_MAX)
}

/// The steps of numbers that lie one after another.
pub(super) fn dense_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

impl View {
    /// The first numbers of `data`, one after another.
    pub(super) fn new(shape: Vec<usize>, data: Arc<Vec<f32>>) -> View {
        View { strides: dense_strides(&shape), shape, start: 0, data }
    }

    /// With one head, as attention has it.
    pub(super) fn with_heads(&self) -> View {
        let mut view = self.clone();
        view.shape.insert(1.min(view.shape.len()), 1);
        view.strides.insert(1.min(view.strides.len()), 0);
        view
    }

    /// How many numbers it has.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn last(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// All numbers in order, if they lie one after another.
    pub(super) fn slice(&self) -> Option<&[f32]> {
        let dims = self.shape.iter().zip(&self.strides).zip(dense_strides(&self.shape));
        let dense = self.len() == 0 || dims.into_iter().all(|((&d, &s), want)| d == 1 || s == want);
        if dense { self.data.get(self.start..self.start + self.len()) } else { None }
    }

    /// All numbers in the order in which they lie, if there is nothing between them.
    pub(super) fn solid(&self) -> Option<&[f32]> {
        let mut dims: Vec<_> = self.shape.iter().zip(&self.strides).filter(|(d, _)| **d != 1).collect();
        dims.sort_by_key(|(_, stride)| **stride);
        let mut next = 1;
        for (&d, &stride) in dims {
            if stride != next {
                return None;
            }
            next *= d;
        }
        self.data.get(self.start..self.start + self.len())
    }

    /// The numbers from the first on, in whatever order they lie.
    pub(super) fn rest(&self) -> &[f32] {
        self.data.get(self.start..).unwrap_or_default()
    }

    /// The same numbers, one after another; `None` where there is no room.
    pub(super) fn packed(self, room: &mut Room) -> Option<View> {
        if self.slice().is_some() {
            return Some(self);
        }
        let mut out = room.take(self.len())?;
        let (from, length) = (self.rest(), self.last());
        let step = self.strides.last().copied().unwrap_or(1);
        let mut rows = out.chunks_exact_mut(length.max(1));
        walk(&self.shape, [&self.strides], |[at]| {
            let cells = rows.next().unwrap_or_default();
            match step {
                1 => cells.copy_from_slice(&from[at..at + length]),
                _ => {
                    cells.iter_mut().zip(from[at..].iter().step_by(step.max(1))).for_each(|(to, x)| *to = *x)
                }
            }
        });
        Some(View::new(self.shape.clone(), Arc::new(out)))
    }

    /// Its strides within `shape`, that it is stretched to: zero where a number stands for many. `None` if it does not fit.
    pub(super) fn stretched(&self, shape: &[usize]) -> Option<Vec<usize>> {
        let more = shape.len().checked_sub(self.shape.len())?;
        let mut strides = vec![0; more];
        for ((&own, &stride), &wanted) in self.shape.iter().zip(&self.strides).zip(shape.get(more..)?) {
            strides.push(match own {
                _ if own == wanted => stride,
                1 => 0,
                _ => return None,
            });
        }
        Some(strides)
    }
}

/// Calls `each` with where every run of the last dimension begins, in order.
pub(super) fn walk<const N: usize>(
    shape: &[usize],
    strides: [&[usize]; N],
    mut each: impl FnMut([usize; N]),
) {
    if shape.contains(&0) {
        return;
    }
    let outer = &shape[..shape.len().saturating_sub(1)];
    let mut place = vec![0usize; outer.len()];
    let mut at = [0usize; N];
    loop {
        each(at);
        let Some(dim) = (0..outer.len()).rev().find(|&dim| place[dim] + 1 < outer[dim]) else { return };
        for inner in dim + 1..outer.len() {
            for (at, strides) in at.iter_mut().zip(strides) {
                *at -= place[inner] * strides[inner];
            }
            place[inner] = 0;
        }
        place[dim] += 1;
        for (at, strides) in at.iter_mut().zip(strides) {
            *at += strides[dim];
        }
    }
}

/// Numbers that are kept for the next run, at most.
const KEPT_MAX: usize = 16 << 20;

/// Memory that steps share: what one needs no more is the next one's, so that little of it is touched and none is asked
/// of the system anew in every run.
#[derive(Debug, Default)]
pub(super) struct Room {
    free: Vec<Vec<f32>>,
    /// Numbers of all blocks that this run has, free ones included.
    held: usize,
    /// Whether it was asked for more than it may give.
    pub(super) overdrawn: bool,
    /// The right sides of products of two values, laid out: what was laid out last.
    pub(super) panels: [Option<Panels>; 2],
}

impl Room {
    /// At least `len` numbers, any; `None` beyond [`HELD_MAX`].
    pub(super) fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let fitting = self.free.iter().enumerate().filter(|(_, block)| block.len() >= len);
        if let Some((i, _)) = fitting.min_by_key(|(_, block)| block.len()) {
            return Some(self.free.swap_remove(i));
        }
        if self.held.saturating_add(len) > HELD_MAX {
            // What lies free is too small for this one.
            self.held -= self.free.drain(..).map(|block| block.len()).sum::<usize>();
        }
        if self.held.saturating_add(len) > HELD_MAX {
            self.overdrawn = true;
            return None;
        }
        self.held += len;
        Some(vec![0.0; len])
    }

    /// Takes back what nobody else has.
    pub(super) fn give(&mut self, data: Arc<Vec<f32>>) {
        self.free.extend(Arc::into_inner(data));
    }

    /// Makes it ready for a run: what an earlier one did not give back is not held any more.
    pub(super) fn open(&mut self) {
        self.held = self.free.iter().map(Vec::len).sum();
        self.overdrawn = false;
    }

    /// Panels of `rows` times `cols` to fill, from place `i`, where they belong afterwards.
    pub(super) fn panels(&mut self, isa: Isa, i: usize, rows: usize, cols: usize) -> Option<Panels> {
        let mut panels = match self.panels.get_mut(i).and_then(Option::take) {
            Some(panels) => panels,
            None => Panels::new(isa, 0, 0, &kernels::Arena::new(0).ok()?).ok()?,
        };
        panels.resize(rows, cols).ok()?;
        Some(panels)
    }

    /// Lets go of what a run out of the ordinary has taken.
    pub(super) fn trim(&mut self) {
        if self.free.iter().map(Vec::len).sum::<usize>() > KEPT_MAX {
            self.free.clear();
        }
    }
}
