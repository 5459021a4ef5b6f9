//! Recurrent layers over steps of which some do not count: those that do are put before the others, seen, and what is
//! made of them is put back.

use rten_onnx::onnx::DataType;

use super::super::writer::{Writer, int, ints};

/// Where the steps that count go, and what is given in their places.
pub(super) struct Unmasked {
    /// The steps, those that count first and in the order in which they are seen: `[steps, rows, features]`.
    pub(super) steps: String,
    /// How many count up to each, and with it: `[rows, steps]`.
    seen: String,
    /// How many count: `[rows, 1]`.
    all: String,
    mask: String,
}

impl Writer {
    /// The steps of `[rows, steps, features]` that count by `mask`, in front, in the order in which they are seen.
    pub(super) fn unmasked(&mut self, value: &str, mask: &str, backwards: bool) -> Unmasked {
        let counts = self.node("Cast", &[mask], vec![int("to", i64::from(DataType::FLOAT.0))]);
        let axis = self.integers("axis", &[1]);
        let places = self.places(mask);
        // Those that count lie higher than all that do not, and the first seen highest among them.
        let high = self.scalar("high", (1u32 << 23) as f32);
        let heights = self.node("Mul", &[&counts, &high], vec![]);
        let order = if backwards { "Add" } else { "Sub" };
        let heights = self.node(order, &[&heights, &places], vec![]);
        let length = self.node("Shape", &[mask], vec![int("start", 1), int("end", 2)]);
        let sorted = self.node_of(2, "TopK", &[&heights, &length], vec![int("axis", 1)]);
        let order = sorted.last().cloned().unwrap_or_default();
        let steps = self.picked(value, &order);
        let steps = self.node("Transpose", &[&steps], vec![ints("perm", vec![1, 0, 2])]);
        let steps_axis = self.index(1);
        let seen = self.node("CumSum", &[&counts, &steps_axis], vec![int("reverse", i64::from(backwards))]);
        let all = self.node("ReduceSum", &[&counts, &axis], vec![int("keepdims", 1)]);
        let whole = |writer: &mut Writer, name: &str| {
            writer.node("Cast", &[name], vec![int("to", i64::from(DataType::INT64.0))])
        };
        let (seen, all) = (whole(self, &seen), whole(self, &all));
        Unmasked { steps, seen, all, mask: mask.to_owned() }
    }

    /// What was made of the steps, `[rows, steps, units]`, in the places where they lay: in those that do not count what
    /// was given last, `initial` or zeros at first, or `zeros` in all. Without `sequences`, what was given at the end, `[rows, units]`.
    pub(super) fn put_back(
        &mut self,
        made: &str,
        unmasked: &Unmasked,
        initial: Option<&String>,
        sequences: bool,
        zeros: bool,
    ) -> String {
        let made = match initial {
            Some(initial) => {
                let axis = self.integers("axis", &[1]);
                let initial = self.node("Unsqueeze", &[initial, &axis], vec![]);
                self.node("Concat", &[&initial, made], vec![int("axis", 1)])
            }
            None => {
                let pads = self.integers("pads", &[0, 1, 0, 0, 0, 0]);
                self.node("Pad", &[made, &pads], vec![])
            }
        };
        if !sequences {
            let axis = self.integers("axis", &[1]);
            let last = self.picked(&made, &unmasked.all);
            return self.node("Squeeze", &[&last, &axis], vec![]);
        }
        let all = self.picked(&made, &unmasked.seen);
        if !zeros {
            return all;
        }
        let (last, zero) = (self.integers("axis", &[-1]), self.scalar("zero", 0.0));
        let counts = self.node("Unsqueeze", &[&unmasked.mask, &last], vec![]);
        self.node("Where", &[&counts, &all, &zero], vec![])
    }

    /// 1 for each of the steps, as they are put, that does not count, else 0: `[steps, rows, 1]`.
    pub(super) fn idle(&mut self, unmasked: &Unmasked) -> String {
        let float = || vec![int("to", i64::from(DataType::FLOAT.0))];
        let (places, last) = (self.places(&unmasked.mask), self.integers("axis", &[-1]));
        let places = self.node("Unsqueeze", &[&places, &last], vec![]);
        let all = self.node("Cast", &[&unmasked.all], float());
        let all = self.node("Transpose", &[&all], vec![ints("perm", vec![1, 0])]);
        let idle = self.node("GreaterOrEqual", &[&places, &all], vec![]);
        let idle = self.node("Cast", &[&idle], float());
        self.node("Unsqueeze", &[&idle, &last], vec![])
    }

    /// The steps of `[rows, steps, features]` that `[rows, …]` names.
    fn picked(&mut self, value: &str, places: &str) -> String {
        let last = self.integers("axis", &[-1]);
        let places = self.node("Unsqueeze", &[places, &last], vec![]);
        let features = self.node("Shape", &[value], vec![int("start", 2)]);
        let ones = self.integers("ones", &[1, 1]);
        let shape = self.node("Concat", &[&ones, &features], vec![int("axis", 0)]);
        let places = self.node("Expand", &[&places, &shape], vec![]);
        self.node("GatherElements", &[value, &places], vec![int("axis", 1)])
    }

    /// The number of each step of `[rows, steps, …]`, from 0, as floats.
    pub(super) fn places(&mut self, value: &str) -> String {
        let (first, one, step) = (self.index(0), self.index(1), self.index(1));
        let length = self.node("Shape", &[value], vec![]);
        let length = self.node("Gather", &[&length, &one], vec![int("axis", 0)]);
        let places = self.node("Range", &[&first, &length, &step], vec![]);
        self.node("Cast", &[&places], vec![int("to", i64::from(DataType::FLOAT.0))])
    }
}
