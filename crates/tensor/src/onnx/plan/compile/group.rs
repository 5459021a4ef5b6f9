//! [`Group`]: what belongs together in a graph, and is one step.

use super::Compiler;
use super::attribute::{attribute, whole_attribute};
use super::window::window;
use crate::onnx::plan::picture::Window;
use crate::onnx::plan::step::{Function, Op};

/// Several nodes that are one step, in the place of the last.
pub(super) struct Group<'a> {
    /// All of them; the last is the last.
    pub(super) nodes: Vec<usize>,
    pub(super) op: Draft,
    pub(super) inputs: Vec<&'a str>,
}

/// An operation whose weights are not laid out yet.
pub(super) enum Draft {
    Ready(Op),
    Dense {
        matrix: String,
        turned: bool,
        bias: Option<Vec<f32>>,
        function: Option<Function>,
    },
    Convolution {
        shape: [usize; 4],
        kernel: Vec<f32>,
        bias: Vec<f32>,
        window: Window,
        each: bool,
        function: Option<Function>,
    },
}

impl<'a> Compiler<'a> {
    /// `Softmax(queries · keys * scale + mask) · values`, if node `i` is that last product.
    pub(super) fn attention(&self, i: usize) -> Option<Group<'a>> {
        let shares = self.source(self.input(i, 0)?, "Softmax")?;
        let values = self.input(i, 1)?;
        let default = if self.opset < 13 { 1 } else { -1 };
        // Whether 3 is the last shows in a run: scores have four dimensions then.
        let axis = whole_attribute(self.node(shares)?, "axis").unwrap_or(default);
        if !matches!(axis, -1 | 3) {
            return None;
        }
        let mut nodes = vec![i, shares];
        let mut scores = self.input(shares, 0)?;
        let (mut mask, mut scale) = (None, 1.0);
        if let Some(add) = self.source(scores, "Add") {
            let (a, b) = (self.input(add, 0)?, self.input(add, 1)?);
            let is_score = |name| {
                ["Div", "Mul", "MatMul"]
                    .iter()
                    .any(|op| self.source(name, op).is_some_and(|node| self.scores(node).is_some()))
            };
            let (score, other) = if is_score(a) { (a, b) } else { (b, a) };
            (scores, mask) = (score, Some(other));
            nodes.push(add);
        }
        let source = ["Div", "Mul", "MatMul"].iter().find_map(|op| self.source(scores, op))?;
        let product = self.scores(source)?;
        if product != source {
            let (_, factor) = self.with_number(source)?;
            scale = if self.op(source) == "Div" { 1.0 / factor } else { factor };
            nodes.push(source);
        }
        nodes.push(product);
        nodes.reverse();
        let inputs =
            [self.input(product, 0)?, self.input(product, 1)?, values].into_iter().chain(mask).collect();
        Some(Group { nodes, op: Draft::Ready(Op::Attention { scale }), inputs })
    }

    /// The product of two values that `node` is, or scales.
    fn scores(&self, node: usize) -> Option<usize> {
        let product = match self.op(node) {
            "MatMul" => node,
            "Div" => {
                self.number(self.input(node, 1)?)?;
                self.source(self.input(node, 0)?, "MatMul")?
            }
            _ => self.source(self.with_number(node)?.0, "MatMul")?,
        };
        let constant = |i| self.input(product, i).is_some_and(|name| self.constants.contains_key(name));
        (!constant(0) && !constant(1)).then_some(product)
    }

    /// A product with a constant matrix, what is added to each of its rows, and a function after that.
    pub(super) fn dense(&self, i: usize) -> Option<Group<'a>> {
        let (x, matrix) = (self.input(i, 0)?, self.input(i, 1)?);
        if self.constants.contains_key(x) || self.numbers(matrix)?.shape.len() != 2 {
            return None;
        }
        let node = self.node(i)?;
        let mut nodes = vec![i];
        let gemm = self.op(i) == "Gemm";
        let flag = |name: &str| gemm && whole_attribute(node, name).is_some_and(|flag| flag != 0);
        let one = |name: &str| attribute(node, name).is_none_or(|a| a.f == Some(1.0));
        if flag("transA") || gemm && !(one("alpha") && one("beta")) {
            return None;
        }
        let turned = flag("transB");
        let cols = *self.numbers(matrix)?.shape.get(usize::from(!turned))?;
        let row = |name: &str| {
            let view = self.numbers(name).filter(|view| view.last() == cols && view.len() == cols)?;
            Some(view.slice()?.to_vec())
        };
        let mut bias = None;
        let mut made = self.output(i)?;
        match (gemm, self.input(i, 2)) {
            (true, Some(name)) => bias = Some(row(name)?),
            (true, None) => {}
            (false, _) => {
                if let Some(add) = self.only_use(made).filter(|&node| self.op(node) == "Add") {
                    let other =
                        [1, 0].into_iter().filter_map(|i| self.input(add, i)).find(|&name| name != made)?;
                    // A row for all, which adds no dimension.
                    bias =
                        row(other).filter(|_| self.numbers(other).is_some_and(|view| view.shape.len() == 1));
                    if bias.is_some() {
                        nodes.push(add);
                        made = self.output(add)?;
                    }
                }
            }
        }
        let function = self.gelu(made).inspect(|gelu| nodes.extend(gelu)).map(|_| Function::Gelu);
        Some(Group {
            nodes,
            op: Draft::Dense { matrix: matrix.to_owned(), turned, bias, function },
            inputs: vec![x],
        })
    }

    /// GELU that follows something else than a product, if node `i` is its error function.
    pub(super) fn gelu_alone(&self, i: usize) -> Option<Group<'a>> {
        if self.op(i) != "Erf" {
            return None;
        }
        let scaled = *self.sources.get(self.input(i, 0)?)?;
        let x = match self.op(scaled) {
            "Div" => self.input(scaled, 0)?,
            _ => self.with_number(scaled)?.0,
        };
        // What a product takes in has been found before this, if the product comes before.
        Some(Group { nodes: self.gelu(x)?, op: Draft::Ready(Op::Each(Function::Gelu)), inputs: vec![x] })
    }

    /// The nodes that make `x/2 (1 + erf(x/√2))` of `x`, the last one last, if nobody else takes it.
    fn gelu(&self, x: &str) -> Option<Vec<usize>> {
        let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
        let users = self.uses.get(x).filter(|_| !self.kept.contains(x))?;
        let scaled = *users.iter().find(|&&node| match (self.op(node), self.with_number(node)) {
            ("Div", Some((of, by))) => {
                of == x && self.input(node, 0) == Some(x) && near(by, std::f32::consts::SQRT_2)
            }
            ("Mul", Some((of, by))) => of == x && near(by, std::f32::consts::FRAC_1_SQRT_2),
            _ => false,
        })?;
        let next =
            |node: usize, op: &str| self.only_use(self.output(node)?).filter(|&node| self.op(node) == op);
        let erf = next(scaled, "Erf")?;
        let sum =
            next(erf, "Add").filter(|&node| self.with_number(node).is_some_and(|(_, one)| one == 1.0))?;
        let first = next(sum, "Mul")?;
        let sum_name = self.output(sum)?;
        let other = [0, 1].into_iter().filter_map(|i| self.input(first, i)).find(|&name| name != sum_name)?;
        let halved = |node: usize| self.with_number(node).filter(|&(_, half)| half == 0.5).map(|(of, _)| of);
        let (mut nodes, direct) = (vec![scaled, erf, sum], other == x);
        if let Some(half) = self.source(other, "Mul").filter(|&node| halved(node) == Some(x)) {
            // x/2 first.
            nodes.extend([half, first]);
        } else if direct {
            let last = next(first, "Mul").filter(|&node| halved(node).is_some())?;
            nodes.extend([first, last]);
        } else {
            // The sum halved first.
            halved(first)?;
            let last = next(first, "Mul")?;
            let made = self.output(first)?;
            [0, 1]
                .into_iter()
                .filter_map(|i| self.input(last, i))
                .find(|&name| name != made)
                .filter(|&name| name == x)?;
            nodes.extend([first, last]);
        }
        users.iter().all(|user| nodes.contains(user)).then_some(nodes)
    }

    /// A convolution with constant weights, what is added to each of its channels, and a function after that.
    pub(super) fn convolution(&self, i: usize) -> Option<Group<'a>> {
        let (x, node) = (self.input(i, 0)?, self.node(i)?);
        let weights = self.numbers(self.input(i, 1)?)?;
        let shape @ [filters, channels, high, wide] = <[usize; 4]>::try_from(&weights.shape[..]).ok()?;
        let groups = usize::try_from(whole_attribute(node, "group").unwrap_or(1)).ok()?;
        let each = groups == filters && channels == 1 && filters.is_multiple_of(8);
        let window = window(node, Some([high, wide]))?;
        if !(groups == 1 || each) || weights.len() == 0 {
            return None;
        }
        let mut kernel = weights.slice()?.to_vec();
        let of_channels = |name: &str| {
            let view = self.numbers(name).filter(|view| view.len() == filters)?;
            Some(view.slice()?.to_vec())
        };
        let mut bias = match self.input(i, 2) {
            Some(name) => of_channels(name)?,
            None => vec![0.0; filters],
        };
        let (mut nodes, mut made) = (vec![i], self.output(i)?);
        if let Some(add) = self.only_use(made).filter(|&node| self.op(node) == "Add") {
            let other = [0, 1].into_iter().filter_map(|i| self.input(add, i)).find(|&name| name != made)?;
            let by_channel = |name: &str| {
                matches!(self.numbers(name)?.shape[..], [1, n, 1, 1] | [n, 1, 1] if n == filters)
                    .then_some(())
            };
            if let (Some(()), Some(more)) = (by_channel(other), of_channels(other)) {
                bias.iter_mut().zip(more).for_each(|(b, more)| *b += more);
                nodes.push(add);
                made = self.output(add)?;
            }
        }
        if let Some(norm) = self.only_use(made).filter(|&node| self.op(node) == "BatchNormalization") {
            let part = |i: usize| of_channels(self.input(norm, i)?);
            let (scale, plus, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
            let epsilon = attribute(self.node(norm)?, "epsilon").map_or(Some(1e-5), |a| a.f)?;
            let of_filter = weights.len() / filters;
            for filter in 0..filters {
                let factor = scale[filter] / (variance[filter] + epsilon).sqrt();
                kernel[filter * of_filter..][..of_filter].iter_mut().for_each(|w| *w *= factor);
                bias[filter] = (bias[filter] - mean[filter]) * factor + plus[filter];
            }
            nodes.push(norm);
            made = self.output(norm)?;
        }
        let mut function =
            self.hard_swish(made).inspect(|swish| nodes.extend(swish)).map(|_| Function::HardSwish);
        if function.is_none()
            && let Some(next) = self.only_use(made)
        {
            function = self.function(next);
            nodes.extend(function.map(|_| next));
        }
        let op = Draft::Convolution { shape, kernel, bias, window, each, function };
        Some(Group { nodes, op, inputs: vec![x] })
    }

    /// The function of each number that a node is, of those that convolutions end in.
    pub(super) fn function(&self, node: usize) -> Option<Function> {
        let constant = |i: usize, default: f32| match self.input(node, i) {
            Some(name) => self.number(name),
            None => Some(default),
        };
        let attribute =
            |name: &str, default: f32| attribute(self.node(node)?, name).map_or(Some(default), |a| a.f);
        match self.op(node) {
            "Relu" => Some(Function::Relu),
            "Clip" if self.opset >= 11 => {
                Some(Function::Clip(constant(1, f32::NEG_INFINITY)?, constant(2, f32::INFINITY)?))
            }
            "HardSigmoid" => Some(Function::HardSigmoid(attribute("alpha", 0.2)?, attribute("beta", 0.5)?)),
            "HardSwish" => Some(Function::HardSwish),
            _ => None,
        }
    }

    /// `x * clip(x + 3, 0, 6) / 6` after something else than a convolution, if node `i` is its sum.
    pub(super) fn hard_swish_alone(&self, i: usize) -> Option<Group<'a>> {
        let (x, _) = self.with_number(i)?;
        let nodes = self.hard_swish(x).filter(|nodes| nodes.contains(&i))?;
        Some(Group { nodes, op: Draft::Ready(Op::Each(Function::HardSwish)), inputs: vec![x] })
    }

    /// The nodes that make `x * clip(x + 3, 0, 6) / 6` of `x`, the last one last, if nobody else takes it.
    fn hard_swish(&self, x: &str) -> Option<Vec<usize>> {
        let users = self.uses.get(x).filter(|_| !self.kept.contains(x))?;
        let sum = *users
            .iter()
            .find(|&&node| self.op(node) == "Add" && self.with_number(node) == Some((x, 3.0)))?;
        let next =
            |node: usize, op: &str| self.only_use(self.output(node)?).filter(|&node| self.op(node) == op);
        let clip = next(sum, "Clip").filter(|&node| self.function(node) == Some(Function::Clip(0.0, 6.0)))?;
        let product = next(clip, "Mul")?;
        let clipped = self.output(clip)?;
        [0, 1]
            .into_iter()
            .filter_map(|i| self.input(product, i))
            .find(|&name| name != clipped)
            .filter(|&name| name == x)?;
        let last = next(product, "Div").filter(|&node| {
            self.input(node, 0) == self.output(product)
                && self.with_number(node).is_some_and(|(_, six)| six == 6.0)
        })?;
        let nodes = vec![sum, clip, product, last];
        users.iter().all(|user| nodes.contains(user)).then_some(nodes)
    }

    /// Layer normalisation written out, if node `i` is its first mean.
    pub(super) fn normalisation(&self, i: usize) -> Option<Group<'a>> {
        let x = self.input(i, 0)?;
        let next =
            |node: usize, op: &str| self.only_use(self.output(node)?).filter(|&node| self.op(node) == op);
        let last_axis = |node: usize| {
            let axes = match self.input(node, 1) {
                Some(name) => self.constants.get(name)?.whole()?.data.to_vec(),
                None => attribute(self.node(node)?, "axes")?.ints.clone(),
            };
            let kept = whole_attribute(self.node(node)?, "keepdims").unwrap_or(1) == 1;
            (axes == [-1] && kept).then_some(())
        };
        last_axis(i)?;
        let centred = next(i, "Sub")?;
        if self.input(centred, 0) != Some(x) {
            return None;
        }
        let middle = self.output(centred)?;
        let users = self.uses.get(middle).filter(|_| !self.kept.contains(middle))?;
        let square = *users.iter().find(|&&node| match self.op(node) {
            "Pow" => {
                self.input(node, 0) == Some(middle)
                    && self.input(node, 1).and_then(|n| self.number(n)) == Some(2.0)
            }
            "Mul" => self.input(node, 0) == self.input(node, 1),
            _ => false,
        })?;
        let mean = next(square, "ReduceMean")?;
        last_axis(mean)?;
        let sum = next(mean, "Add")?;
        let (_, epsilon) = self.with_number(sum)?;
        let root = next(sum, "Sqrt")?;
        let share = next(root, "Div")?;
        if self.input(share, 0) != Some(middle) || !users.iter().all(|&user| user == square || user == share)
        {
            return None;
        }
        let weighted = next(share, "Mul")?;
        let last = next(weighted, "Add")?;
        let row = |node: usize| {
            let names = [0, 1].into_iter().filter_map(|i| self.input(node, i));
            let view = names.filter_map(|name| self.numbers(name)).next()?;
            (view.shape.len() == 1).then(|| view.slice().map(<[f32]>::to_vec)).flatten()
        };
        let (weight, bias) = (row(weighted)?, row(last)?);
        let nodes = vec![i, centred, square, mean, sum, root, share, weighted, last];
        let same = weight.len() == bias.len();
        same.then(|| Group {
            nodes,
            op: Draft::Ready(Op::Normalize { weight, bias, epsilon }),
            inputs: vec![x],
        })
    }
}
