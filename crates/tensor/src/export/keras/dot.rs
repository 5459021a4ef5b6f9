//! `Dot`: products of two values, summed along an axis of each.

use super::super::writer::{Step, Value, Writer, ints, row_elements, shown};
use crate::Dim;

impl Writer {
    pub(super) fn dot(&mut self, axes: [i64; 2], normalize: bool, taken: Vec<Value>) -> Step {
        let count = taken.len();
        let [a, b] = <[Value; 2]>::try_from(taken).map_err(|_| format!("takes two values, not {count}"))?;
        // The first with the axis behind the rest, the second with it before the rest.
        let (a, rows, lengths) = self.along(a, axes[0], normalize, true)?;
        let (b, columns, others) = self.along(b, axes[1], normalize, false)?;
        if lengths != others && lengths != Dim::Any && others != Dim::Any {
            return Err(format!("sums along axes of {} and {}", shown(&[lengths]), shown(&[others])));
        }
        let name = self.node("MatMul", &[&a, &b], vec![]);
        let (shape, gone) = match (rows, columns) {
            (Some(rows), Some(columns)) => (vec![rows, columns], None),
            (Some(rows), None) => (vec![rows], Some(2)),
            (None, Some(columns)) => (vec![columns], Some(1)),
            (None, None) => (vec![Dim::Fixed(1)], Some(1)),
        };
        row_elements(&shape)?;
        self.at = Value::floats(name, shape);
        if let Some(axis) = gone {
            let axis = self.integers("axis", &[axis]);
            self.apply("Squeeze", &[&axis], vec![]);
        }
        Ok(())
    }

    /// A value as matrices with `axis` as the last dimension, or the first but the batch; how long the other dimension
    /// is, if the value has one, and how long that along the axis.
    fn along(
        &mut self,
        value: Value,
        axis: i64,
        normalize: bool,
        last: bool,
    ) -> Result<(String, Option<Dim>, Dim), String> {
        self.at = value;
        self.become_plain();
        let shape = self.at.shape.clone();
        let place = self.place(axis, 0)?;
        let mut name = self.at.name.clone();
        if normalize {
            name = self.unit(&name, &[place as i64 + 1]);
        }
        match shape.as_slice() {
            &[only] => {
                let axis = self.integers("axis", &[if last { 1 } else { 2 }]);
                Ok((self.node("Unsqueeze", &[&name, &axis], vec![]), None, only))
            }
            &[first, second] => {
                let (along, other) = if place == 0 { (first, second) } else { (second, first) };
                if (place == 1) != last {
                    name = self.node("Transpose", &[&name], vec![ints("perm", vec![0, 2, 1])]);
                }
                Ok((name, Some(other), along))
            }
            other => Err(format!("takes rows of one or two dimensions, not {}", shown(other))),
        }
    }
}
