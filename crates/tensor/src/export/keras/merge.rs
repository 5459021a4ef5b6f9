//! Several values to one: element by element, or behind each other.

use formats::keras::Merge;

use rten_onnx::onnx::DataType;

use super::super::writer::{Step, Value, Writer, int, row_elements, shown};
use crate::Dim;

impl Writer {
    pub(super) fn merge(&mut self, merge: Merge, taken: Vec<Value>) -> Step {
        let count = taken.len();
        if count < 2 || merge == Merge::Subtract && count != 2 {
            return Err(format!(
                "takes {}two values, not {count}",
                if merge == Merge::Subtract { "" } else { "at least " }
            ));
        }
        let mask = self.common_mask(&taken);
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
        self.at.mask = mask;
        for value in values {
            let shape = stretched(&self.at.shape, &value.shape).ok_or_else(|| {
                let (own, other) = (shown(&self.at.shape), shown(&value.shape));
                format!("its values have shapes {own} and {other}, which do not fit")
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
        let (rank, booleans) = match taken.first() {
            Some(first) => (first.shape.len(), taken.iter().all(|value| value.element == DataType::BOOL)),
            None => return Err("takes values".to_owned()),
        };
        let place = if axis < 0 { axis + rank as i64 + 1 } else { axis };
        let place = usize::try_from(place - 1).ok().filter(|place| *place < rank);
        let mask = match place {
            Some(0) if rank > 1 => self.joined_mask(&taken),
            _ => self.common_mask(&taken),
        };
        let taken = if booleans { taken } else { self.alike(taken) };
        let first = taken.first().ok_or("takes values")?;
        let wrong = || {
            format!("cannot put rows of shape {} behind each other along axis {axis}", shown(&first.shape))
        };
        let place = place.ok_or_else(wrong)?;
        let mut shape = first.shape.clone();
        shape[place] = Dim::Fixed(0);
        for value in &taken {
            let mut same = value.shape.clone();
            let own = same.get_mut(place).map(|dim| std::mem::replace(dim, Dim::Any)).ok_or_else(wrong)?;
            let before = std::mem::replace(&mut shape[place], Dim::Any);
            let fits = |(a, b): (&Dim, &Dim)| a == b || *a == Dim::Any || *b == Dim::Any;
            if same.len() != rank || !same.iter().zip(&shape).all(fits) {
                return Err(wrong());
            }
            shape[place] = match (before, own) {
                (Dim::Fixed(a), Dim::Fixed(b)) => Dim::Fixed(a.checked_add(b).ok_or("is too large")?),
                _ => Dim::Any,
            };
        }
        row_elements(&shape)?;
        let onnx = match (first.channels_first, place + 1 == rank) {
            (true, true) => 1,
            (true, false) => place + 2,
            (false, _) => place + 1,
        };
        let names: Vec<&str> = taken.iter().map(|value| value.name.as_str()).collect();
        let name = self.node("Concat", &names, vec![int("axis", onnx as i64)]);
        self.at = Value { name, shape, channels_first: first.channels_first, element: first.element, mask };
        Ok(())
    }

    /// The steps that count in one of the values, if all have steps that do not.
    fn common_mask(&mut self, taken: &[Value]) -> Option<String> {
        let masks = taken.iter().map(|value| value.mask.clone()).collect::<Option<Vec<_>>>()?;
        let mut masks = masks.into_iter();
        let first = masks.next()?;
        Some(
            masks.fold(
                first,
                |all, mask| if all == mask { all } else { self.node("Or", &[&all, &mask], vec![]) },
            ),
        )
    }

    /// The steps that count of values that stand behind each other.
    fn joined_mask(&mut self, taken: &[Value]) -> Option<String> {
        taken.iter().find_map(|value| value.mask.as_ref())?;
        let mut masks = Vec::with_capacity(taken.len());
        for value in taken {
            masks.push(match &value.mask {
                Some(mask) => mask.clone(),
                None => self.filled(&value.name, true, Some(2)),
            });
        }
        let masks: Vec<&str> = masks.iter().map(String::as_str).collect();
        Some(self.node("Concat", &masks, vec![int("axis", 1)]))
    }

    /// The values as floats in one layout: with the channels first if all have it and one shape's rank.
    fn alike(&mut self, taken: Vec<Value>) -> Vec<Value> {
        let rank = taken.first().map_or(0, |value| value.shape.len());
        let first = taken.iter().all(|value| value.channels_first && value.shape.len() == rank);
        let same = |value: Value| {
            self.at = value;
            self.become_of(DataType::FLOAT);
            if !first {
                self.lay_channels_last();
            }
            self.at.clone()
        };
        taken.into_iter().map(same).collect()
    }
}

/// The shape that both can be stretched to, if they are of one rank.
pub(super) fn stretched(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let one = |(a, b): (&Dim, &Dim)| match (*a, *b) {
        (a, b) if a == b => Some(a),
        (Dim::Fixed(1), dim) | (dim, Dim::Fixed(1)) => Some(dim),
        (Dim::Any, dim) | (dim, Dim::Any) => Some(dim),
        _ => None,
    };
    (a.len() == b.len()).then(|| a.iter().zip(b).map(one).collect()).flatten()
}
