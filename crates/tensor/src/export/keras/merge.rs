//! Several values to one: element by element, or behind each other.

use formats::keras::Merge;

use super::super::writer::{Step, Value, Writer, int, row_elements};

impl Writer {
    pub(super) fn merge(&mut self, merge: Merge, taken: Vec<Value>) -> Step {
        let count = taken.len();
        if count < 2 || merge == Merge::Subtract && count != 2 {
            return Err(format!(
                "takes {}two values, not {count}",
                if merge == Merge::Subtract { "" } else { "at least " }
            ));
        }
        let taken = self.alike(taken);
        let op = match merge {
            Merge::Add | Merge::Average => "Add",
            Merge::Subtract => "Sub",
            Merge::Multiply => "Mul",
            Merge::Maximum => "Max",
            Merge::Minimum => "Min",
        };
        let mut values = taken.into_iter();
        self.at = values.next().ok_or("takes values")?;
        self.at.ids = None;
        for value in values {
            let shape = stretched(&self.at.shape, &value.shape).ok_or_else(|| {
                format!("its values have shapes {:?} and {:?}, which do not fit", self.at.shape, value.shape)
            })?;
            row_elements(&shape)?;
            self.apply(op, &[&value.name], vec![]);
            self.at.shape = shape;
        }
        if merge == Merge::Average {
            let divisor = self.scalar("count", count as f32);
            self.apply("Div", &[&divisor], vec![]);
        }
        Ok(())
    }

    pub(super) fn concatenate(&mut self, axis: i64, taken: Vec<Value>) -> Step {
        let taken = self.alike(taken);
        let first = taken.first().ok_or("takes values")?;
        let rank = first.shape.len();
        let wrong =
            || format!("cannot put rows of shape {:?} behind each other along axis {axis}", first.shape);
        let place = if axis < 0 { axis + rank as i64 + 1 } else { axis };
        let place = usize::try_from(place - 1).ok().filter(|place| *place < rank).ok_or_else(wrong)?;
        let mut shape = first.shape.clone();
        shape[place] = 0;
        for value in &taken {
            let mut same = value.shape.clone();
            let own = same.get_mut(place).map(std::mem::take).ok_or_else(wrong)?;
            shape[place] += own;
            let others = |shape: &[usize]| {
                shape.iter().enumerate().filter(|(i, _)| *i != place).map(|(_, d)| *d).collect::<Vec<_>>()
            };
            if others(&same) != others(&shape) {
                return Err(wrong());
            }
        }
        row_elements(&shape)?;
        let onnx = match (first.channels_first, place + 1 == rank) {
            (true, true) => 1,
            (true, false) => place + 2,
            (false, _) => place + 1,
        };
        let names: Vec<&str> = taken.iter().map(|value| value.name.as_str()).collect();
        let name = self.node("Concat", &names, vec![int("axis", onnx as i64)]);
        self.at = Value { name, shape, channels_first: first.channels_first, integers: false, ids: None };
        Ok(())
    }

    /// The values as floats in one layout: with the channels first if all have it and one shape's rank.
    fn alike(&mut self, taken: Vec<Value>) -> Vec<Value> {
        let rank = taken.first().map_or(0, |value| value.shape.len());
        let first = taken.iter().all(|value| value.channels_first && value.shape.len() == rank);
        let same = |value: Value| {
            self.at = value;
            self.become_integers(false);
            if !first {
                self.lay_channels_last();
            }
            self.at.clone()
        };
        taken.into_iter().map(same).collect()
    }
}

/// The shape that both can be stretched to, if they are of one rank.
fn stretched(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let one = |(a, b): (&usize, &usize)| match (*a, *b) {
        (a, b) if a == b => Some(a),
        (1, n) | (n, 1) => Some(n),
        _ => None,
    };
    (a.len() == b.len()).then(|| a.iter().zip(b).map(one).collect()).flatten()
}
