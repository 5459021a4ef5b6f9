//! [`Bound`]: what the values within a graph grow to with the sizes that a request chooses.
//!
//! The runtime has inferred what the dimensions of each value are of those of the inputs, and says so in words: `batch`,
//! `4 * length`, `max(length, 1)`. Values of which it could not tell are left out of account.

use std::collections::BTreeSet;

use rten::{Dimension, Model};

use super::wire::{Fields, Held};
use crate::Tensor;

/// Numbers that a run may hold at a time, constants left out of account: 512 MiB.
pub(super) const HELD_MAX: usize = 128 << 20;

/// Values of different shapes that are looked at.
const VALUES_MAX: usize = 4096;
/// Deepest nesting of a size.
const DEPTH_MAX: usize = 32;

/// The values within a graph whose sizes depend on the inputs'.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// Which sizes of the inputs have names: by the input, and by its dimension.
    named: Vec<(usize, usize)>,
    /// The dimensions of each value.
    values: Vec<Vec<Size>>,
}

/// A dimension's size.
#[derive(Debug, Clone, PartialEq)]
enum Size {
    Fixed(f64),
    /// One of [`Bound::named`].
    Named(usize),
    Of(Operation, Box<[Size; 2]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    DivideUp,
    Greater,
    Lesser,
}

/// The names of the values that the main graph of the file computes.
pub(super) fn values(bytes: &[u8]) -> BTreeSet<String> {
    let held = |bytes, wanted| {
        let all = Fields(bytes).filter_map(move |field| field.ok().filter(|(number, _)| *number == wanted));
        all.filter_map(|(_, held): (u64, Held<'_>)| held.bytes().ok())
    };
    let outputs = held(bytes, 7).flat_map(|graph| held(graph, 1)).flat_map(|node| held(node, 2));
    outputs.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

impl Bound {
    /// What the runtime knows of those of its values that are called so.
    pub(super) fn of<'a>(
        model: &Model,
        inputs: impl Iterator<Item = &'a str>,
        values: &BTreeSet<String>,
    ) -> Bound {
        let shape = |name: &str| model.node_info(model.find_node(name)?)?.shape();
        let (mut named, mut names) = (Vec::new(), Vec::new());
        for (input, name) in inputs.enumerate() {
            for (place, dim) in shape(name).into_iter().flatten().enumerate() {
                if let Dimension::Symbolic(name) = dim {
                    named.push((input, place));
                    names.push(name);
                }
            }
        }
        let mut different = BTreeSet::new();
        for dims in values.iter().filter_map(|name| shape(name)) {
            let grows = dims.iter().any(|dim| matches!(dim, Dimension::Symbolic(_)));
            if grows && different.len() < VALUES_MAX {
                different.insert(dims.iter().map(written).collect::<Vec<_>>());
            }
        }
        let size = |text: &String| Reading { rest: text, names: &names }.whole();
        let values = different.iter().filter_map(|dims| dims.iter().map(size).collect()).collect();
        Bound { named, values }
    }

    /// Whether no value grows beyond [`HELD_MAX`] numbers with these inputs.
    pub(super) fn admits(&self, inputs: &[&Tensor]) -> bool {
        if self.values.is_empty() {
            return true;
        }
        let size = |&(input, place): &(usize, usize)| {
            inputs.get(input).and_then(|tensor| tensor.shape().get(place)).map_or(1.0, |&size| size as f64)
        };
        let sizes: Vec<f64> = self.named.iter().map(size).collect();
        let numbers = |dims: &Vec<Size>| dims.iter().map(|size| size.at(&sizes).max(0.0)).product::<f64>();
        self.values.iter().all(|dims| numbers(dims) <= HELD_MAX as f64)
    }
}

fn written(dim: &Dimension) -> String {
    match dim {
        Dimension::Fixed(size) => size.to_string(),
        Dimension::Symbolic(text) => text.clone(),
    }
}

impl Size {
    fn at(&self, sizes: &[f64]) -> f64 {
        match self {
            Size::Fixed(size) => *size,
            Size::Named(name) => sizes.get(*name).copied().unwrap_or(1.0),
            Size::Of(operation, two) => {
                let [a, b] = [two[0].at(sizes), two[1].at(sizes)];
                match operation {
                    Operation::Add => a + b,
                    Operation::Subtract => a - b,
                    Operation::Multiply => a * b,
                    Operation::Divide => (a / b).floor(),
                    Operation::DivideUp => (a / b).ceil(),
                    Operation::Greater => a.max(b),
                    Operation::Lesser => a.min(b),
                }
            }
        }
    }
}

/// Reads a size as the runtime writes it.
struct Reading<'t> {
    rest: &'t str,
    names: &'t [String],
}

impl Reading<'_> {
    /// All of it; `None` if it is of something that the inputs do not say.
    fn whole(mut self) -> Option<Size> {
        // A name may be any text.
        if let Some(name) = self.name(self.rest) {
            return Some(name);
        }
        let size = self.sum(0)?;
        self.rest.trim().is_empty().then_some(size)
    }

    fn name(&self, text: &str) -> Option<Size> {
        self.names.iter().position(|name| name == text).map(Size::Named)
    }

    fn eat(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self, depth: usize) -> Option<Size> {
        let mut size = self.product(depth)?;
        loop {
            let operation = match () {
                () if self.eat("+ ") => Operation::Add,
                () if self.eat("- ") => Operation::Subtract,
                () => return Some(size),
            };
            size = Size::Of(operation, Box::new([size, self.product(depth)?]));
        }
    }

    fn product(&mut self, depth: usize) -> Option<Size> {
        let mut size = self.one(depth)?;
        loop {
            let operation = match () {
                () if self.eat("* ") => Operation::Multiply,
                () if self.eat("/ ") => Operation::Divide,
                () => return Some(size),
            };
            size = Size::Of(operation, Box::new([size, self.one(depth)?]));
        }
    }

    fn one(&mut self, depth: usize) -> Option<Size> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.eat("-") {
            let size = self.one(depth + 1)?;
            return Some(Size::Of(Operation::Subtract, Box::new([Size::Fixed(0.0), size])));
        }
        for (word, operation) in [
            ("ceil_div(", Operation::DivideUp),
            ("max(", Operation::Greater),
            ("min(", Operation::Lesser),
            ("broadcast(", Operation::Greater),
        ] {
            if self.eat(word) {
                let first = self.sum(depth + 1)?;
                let second = self.eat(",").then(|| self.sum(depth + 1))??;
                return self.eat(")").then(|| Size::Of(operation, Box::new([first, second])));
            }
        }
        if self.eat("(") {
            let size = self.sum(depth + 1)?;
            return self.eat(")").then_some(size);
        }
        let text = self.rest.trim_start();
        let end = text.find([' ', ',', '(', ')']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        self.name(word).or_else(|| word.parse().ok().map(|size: u32| Size::Fixed(f64::from(size))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn size(text: &str, sizes: &[f64]) -> Option<f64> {
        let names = ["batch", "length", "a b"].map(str::to_owned);
        Reading { rest: text, names: &names }.whole().map(|size| size.at(sizes))
    }

    #[test]
    fn sizes_are_what_they_say() {
        let at = [2.0, 10.0, 7.0];
        for (text, expected) in [
            ("batch", 2.0),
            ("a b", 7.0),
            ("12", 12.0),
            ("length * 4 + batch", 42.0),
            ("batch + length * 4", 42.0),
            ("(batch + length) * 4", 48.0),
            ("length - 3 - 2", 5.0),
            ("length / 4", 2.0),
            ("ceil_div(length, 4)", 3.0),
            ("max(length, batch * 6)", 12.0),
            ("broadcast(1, length)", 10.0),
            ("min(length, -batch + 5)", 3.0),
        ] {
            assert_eq!(size(text, &at), Some(expected), "{text}");
        }
        for text in ["", "other", "length +", "max(length)", "length length", "2.5", &"(".repeat(100_000)] {
            assert_eq!(size(text, &at), None, "{text:.20}");
        }
    }
}
