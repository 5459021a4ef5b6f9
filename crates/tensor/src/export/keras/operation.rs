//! `keras.ops` among layers, and the masks that are made of them.

use formats::keras::{Item, Merge, Operation, Sum};
use rten_onnx::onnx::DataType;

use super::super::writer::{Step, Value, Writer, int, length, row_elements, shown};
use super::Call;
use super::merge::stretched;
use crate::Dim;

impl Writer {
    pub(super) fn operation(&mut self, operation: &Operation, mut taken: Vec<Value>) -> Step {
        // An operation knows nothing of masks.
        for value in &mut taken {
            value.mask = None;
        }
        match operation {
            Operation::As(layer) => return self.keras_layer(layer, Call::of(taken)),
            Operation::Divide => return self.pair("Div", DataType::FLOAT, taken),
            Operation::And => return self.pair("And", DataType::BOOL, taken),
            Operation::Or => return self.pair("Or", DataType::BOOL, taken),
            _ => {}
        }
        let several = taken.len();
        let [only] = <[Value; 1]>::try_from(taken).map_err(|_| format!("takes one value, not {several}"))?;
        self.at = only;
        self.lay_channels_last();
        match operation {
            Operation::WithNumber { merge, number, first } => self.with_number(*merge, *number, *first),
            Operation::Reduce { sum, axes, keep } => self.reduce(*sum, axes, *keep),
            Operation::Take { items } => self.take(items),
            Operation::ExpandDims { axis } => self.expand(*axis),
            Operation::NotEqual { number } => {
                self.differs(*number);
                Ok(())
            }
            Operation::Like { truth } => {
                let name = std::mem::take(&mut self.at.name);
                self.at.name = self.filled(&name, *truth, None);
                self.at.element = DataType::BOOL;
                Ok(())
            }
            Operation::As(_) | Operation::Divide | Operation::And | Operation::Or => {
                Err("takes two values".to_owned())
            }
        }
    }

    /// Zeros in place of steps that hold nothing but `value`; these do not count from here on.
    pub(super) fn masking(&mut self, value: f32) -> Step {
        self.extent(1)?;
        self.lay_channels_last();
        let own = self.at.clone();
        self.differs(value);
        self.reduce(Sum::Any, &[-1], true)?;
        let (last, zero) = (self.integers("axis", &[-1]), self.scalar("zero", 0.0));
        let counts = std::mem::take(&mut self.at.name);
        let name = self.node("Where", &[&counts, &own.name, &zero], vec![]);
        let mask = self.node("Squeeze", &[&counts, &last], vec![]);
        self.at = Value { name, mask: Some(mask), ..own };
        Ok(())
    }

    /// As often this truth value as a value has elements in its first `rank` dimensions, or in all.
    pub(super) fn filled(&mut self, name: &str, truth: bool, rank: Option<i64>) -> String {
        let attributes = rank.map(|end| int("end", end)).into_iter().collect();
        let shape = self.node("Shape", &[name], attributes);
        let truth = self.truth(truth);
        self.node("Expand", &[&truth, &shape], vec![])
    }

    fn pair(&mut self, op: &str, element: DataType, taken: Vec<Value>) -> Step {
        let count = taken.len();
        let [a, b] = <[Value; 2]>::try_from(taken).map_err(|_| format!("takes two values, not {count}"))?;
        self.at = b;
        self.lay_channels_last();
        self.become_of(element);
        let b = std::mem::replace(&mut self.at, a);
        self.lay_channels_last();
        self.become_of(element);
        let shape = stretched(&self.at.shape, &b.shape).ok_or_else(|| {
            let (own, other) = (shown(&self.at.shape), shown(&b.shape));
            format!("its values have shapes {own} and {other}, which do not fit")
        })?;
        row_elements(&shape)?;
        self.apply(op, &[&b.name], vec![]);
        (self.at.shape, self.at.mask) = (shape, None);
        Ok(())
    }

    fn with_number(&mut self, merge: Option<Merge>, number: f32, first: bool) -> Step {
        self.become_of(DataType::FLOAT);
        let op = match merge {
            None => "Div",
            Some(Merge::Add) => "Add",
            Some(Merge::Subtract) => "Sub",
            Some(Merge::Multiply) => "Mul",
            Some(Merge::Maximum) => "Max",
            Some(Merge::Minimum) => "Min",
            Some(Merge::Average) => return Err("takes two values".to_owned()),
        };
        let number = self.scalar("number", number);
        if first {
            let own = std::mem::take(&mut self.at.name);
            self.at.name = self.node(op, &[&number, &own], vec![]);
        } else {
            self.apply(op, &[&number], vec![]);
        }
        Ok(())
    }

    fn reduce(&mut self, sum: Sum, axes: &[i64], keep: bool) -> Step {
        let places = axes.iter().map(|axis| self.place(*axis, 0)).collect::<Result<Vec<_>, _>>()?;
        let op = match sum {
            Sum::Sum => "ReduceSum",
            Sum::Mean => "ReduceMean",
            Sum::Max | Sum::Any => "ReduceMax",
            Sum::Min => "ReduceMin",
        };
        self.become_of(DataType::FLOAT);
        let axes: Vec<i64> = places.iter().map(|place| *place as i64 + 1).collect();
        let axes = self.integers("axes", &axes);
        self.apply(op, &[&axes], vec![int("keepdims", i64::from(keep))]);
        let shape = self.at.shape.iter().enumerate();
        self.at.shape = match keep {
            true => shape.map(|(i, dim)| if places.contains(&i) { Dim::Fixed(1) } else { *dim }).collect(),
            false => shape.filter(|(i, _)| !places.contains(i)).map(|(_, dim)| *dim).collect(),
        };
        if sum == Sum::Any {
            self.become_of(DataType::BOOL);
        }
        Ok(())
    }

    fn take(&mut self, items: &[Item]) -> Step {
        if items.len() > self.at.shape.len() {
            return Err(format!(
                "takes {} dimensions of rows of shape {}",
                items.len(),
                shown(&self.at.shape)
            ));
        }
        let mut shape = Vec::with_capacity(self.at.shape.len());
        // Dimensions that are left so far, the batch among them.
        let mut axis = 1;
        for (item, dim) in items.iter().zip(self.at.shape.clone()) {
            match *item {
                Item::One(place) => {
                    if length(dim).is_some_and(|length| !within(place, length)) {
                        return Err(format!(
                            "takes element {place} of rows of shape {}",
                            shown(&self.at.shape)
                        ));
                    }
                    let end = if place == -1 { i64::MAX } else { place.saturating_add(1) };
                    self.slice(place, end, axis);
                    let own = self.integers("axis", &[axis]);
                    self.apply("Squeeze", &[&own], vec![]);
                }
                Item::Range { start: 0, end: None } => {
                    shape.push(dim);
                    axis += 1;
                }
                Item::Range { start, end } => {
                    self.slice(start, end.unwrap_or(i64::MAX), axis);
                    shape.push(match length(dim) {
                        Some(length) => Dim::Fixed(cut(start, end, length)?),
                        None => Dim::Any,
                    });
                    axis += 1;
                }
            }
        }
        shape.extend(self.at.shape.iter().skip(items.len()).copied());
        self.at.shape = shape;
        Ok(())
    }

    fn slice(&mut self, start: i64, end: i64, axis: i64) {
        let (start, end) = (self.integers("start", &[start]), self.integers("end", &[end]));
        let axis = self.integers("axis", &[axis]);
        self.apply("Slice", &[&start, &end, &axis], vec![]);
    }

    fn expand(&mut self, axis: i64) -> Step {
        let place = self.place(axis, 1)?;
        let axis = self.integers("axis", &[place as i64 + 1]);
        self.apply("Unsqueeze", &[&axis], vec![]);
        self.at.shape.insert(place, Dim::Fixed(1));
        Ok(())
    }

    /// Whether the value's elements are others than `number`.
    pub(super) fn differs(&mut self, number: f32) {
        self.become_of(DataType::FLOAT);
        let number = self.scalar("number", number);
        self.apply("Equal", &[&number], vec![]);
        self.apply("Not", &[], vec![]);
        self.at.element = DataType::BOOL;
    }

    /// Which dimension of a row is meant, of as many `more` as there are, where the batch is axis 0.
    pub(super) fn place(&self, axis: i64, more: usize) -> Result<usize, String> {
        let rank = self.at.shape.len() + more;
        let place = if axis < 0 { axis + rank as i64 } else { axis - 1 };
        usize::try_from(place)
            .ok()
            .filter(|place| *place < rank)
            .ok_or_else(|| format!("works along axis {axis} of rows of shape {}", shown(&self.at.shape)))
    }
}

/// Whether there is an element `place`, counted from the end where negative.
fn within(place: i64, length: usize) -> bool {
    let length = length as i64;
    (-length..length).contains(&place)
}

/// How many of `length` elements there are from one to before another.
fn cut(start: i64, end: Option<i64>, length: usize) -> Result<usize, String> {
    let length = length as i64;
    let place = |at: i64| if at < 0 { (at + length).max(0) } else { at.min(length) };
    let cells = end.map_or(length, place) - place(start);
    usize::try_from(cells).ok().filter(|cells| *cells > 0).ok_or_else(|| "takes nothing of a row".to_owned())
}
