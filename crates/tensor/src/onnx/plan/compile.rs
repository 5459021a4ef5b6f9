//! From a graph to a [`Plan`]: constants laid out, what belongs together found.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use kernels::{Arena, Depthwise, Isa, Panels};
use rten_onnx::onnx::{AttributeProto, DataType as Element, GraphProto, ModelProto, NodeProto, TensorProto};

use super::Plan;
use super::picture::{Convolution, Weights, Window};
use super::shaping::{Cast, Shaping};
use super::step::{Function, Op, Operation, Step};
use super::view::{Room, Value, View, Whole};

impl Plan {
    /// The network as a plan over `inputs`, if it is one of those that gain by it. `external` are the files that weights
    /// are kept in, by name.
    pub(in super::super) fn of(
        bytes: &[u8],
        external: &[(String, Vec<u8>)],
        inputs: &[&str],
        outputs: &[&str],
    ) -> Option<Plan> {
        let model = ModelProto::parse_buf(bytes).ok()?;
        let opset =
            model.opset_import.iter().filter(|set| own(set.domain.as_deref())).find_map(|set| set.version)?;
        let graph = model.graph.as_ref()?;
        let mut constants = HashMap::new();
        for tensor in &graph.initializer {
            constants.insert(tensor.name.as_deref()?, constant(tensor, external)?);
        }
        for node in &graph.node {
            if let (Some("Constant"), [output]) = (node.op_type.as_deref(), &node.output[..]) {
                constants.insert(output, of_attribute(node, external)?);
            }
        }
        // Old exporters give a constant its shape in the graph.
        for node in graph.node.iter().filter(|node| node.op_type.as_deref() == Some("Reshape")) {
            let inputs: Vec<Option<&Value>> =
                node.input.iter().map(|name| constants.get(name.as_str())).collect();
            if inputs.iter().all(Option::is_some)
                && let ([output], Some(value)) =
                    (&node.output[..], Shaping::Reshape.run(&inputs, &mut Room::default()))
            {
                constants.insert(output, value);
            }
        }
        let mut sources = HashMap::new();
        let mut uses: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, node) in graph.node.iter().enumerate() {
            for output in &node.output {
                sources.insert(output.as_str(), i);
            }
            for input in node.input.iter().filter(|name| !name.is_empty()) {
                uses.entry(input).or_default().push(i);
            }
        }
        let mut compiler =
            Compiler { graph, opset, constants, sources, uses, kept: outputs.iter().copied().collect() };
        compiler.kept.extend(inputs);
        compiler.compile(inputs, outputs)
    }
}

/// Whether a domain is ONNX's own.
fn own(domain: Option<&str>) -> bool {
    matches!(domain, None | Some("" | "ai.onnx"))
}

struct Compiler<'a> {
    graph: &'a GraphProto,
    opset: i64,
    constants: HashMap<&'a str, Value>,
    /// Which node makes a value.
    sources: HashMap<&'a str, usize>,
    /// Which nodes take a value.
    uses: HashMap<&'a str, Vec<usize>>,
    /// Values that must be there by their names.
    kept: HashSet<&'a str>,
}

/// Several nodes that are one step, in the place of the last.
struct Group<'a> {
    /// All of them; the last is the last.
    nodes: Vec<usize>,
    op: Draft,
    inputs: Vec<&'a str>,
}

/// An operation whose weights are not laid out yet.
enum Draft {
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
    fn compile(&self, inputs: &[&'a str], outputs: &[&'a str]) -> Option<Plan> {
        let mut groups: HashMap<usize, Group<'a>> = HashMap::new();
        let mut taken: HashSet<usize> = HashSet::new();
        let (mut attends, mut convolves) = (false, false);
        for i in 0..self.graph.node.len() {
            let group = match self.op(i) {
                "MatMul" => self.attention(i).inspect(|_| attends = true).or_else(|| self.dense(i)),
                "Gemm" => self.dense(i),
                "ReduceMean" => self.normalisation(i),
                "Conv" => self.convolution(i).inspect(|_| convolves = true),
                "Add" => self.hard_swish_alone(i),
                _ => self.gelu_alone(i),
            };
            let Some(group) = group else { continue };
            if group.nodes.iter().all(|node| !taken.contains(node)) {
                taken.extend(&group.nodes);
                groups.insert(*group.nodes.last()?, group);
            }
        }
        // Functions that the general runtime computes faster, in networks that may be made of little else.
        let slow = (0..self.graph.node.len()).any(|i| matches!(self.op(i), "Exp" | "Sigmoid" | "Tanh"));
        if !attends && (slow || !convolves) {
            return None;
        }
        let mut builder = Builder::new(self, inputs)?;
        for (i, node) in self.graph.node.iter().enumerate() {
            match groups.remove(&i) {
                Some(group) => builder.add_group(group, node.output.first()?)?,
                None if taken.contains(&i)
                    || self.output(i).is_some_and(|name| self.constants.contains_key(name)) => {}
                None => builder.add_node(node)?,
            }
        }
        builder.finish(outputs)
    }

    fn node(&self, i: usize) -> Option<&'a NodeProto> {
        self.graph.node.get(i)
    }

    fn op(&self, i: usize) -> &'a str {
        self.node(i)
            .filter(|node| own(node.domain.as_deref()))
            .and_then(|n| n.op_type.as_deref())
            .unwrap_or_default()
    }

    fn input(&self, node: usize, i: usize) -> Option<&'a str> {
        self.node(node)?.input.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn output(&self, node: usize) -> Option<&'a str> {
        self.node(node)?.output.first().map(String::as_str)
    }

    /// The only node that takes a value, if nobody else wants it.
    fn only_use(&self, name: &str) -> Option<usize> {
        match self.uses.get(name)?[..] {
            [node] if !self.kept.contains(name) => Some(node),
            _ => None,
        }
    }

    /// The node that makes a value for one other alone, if it is of this kind.
    fn source(&self, name: &str, op: &str) -> Option<usize> {
        let node = *self.sources.get(name)?;
        (self.op(node) == op && self.only_use(name).is_some()).then_some(node)
    }

    fn numbers(&self, name: &str) -> Option<&View> {
        self.constants.get(name)?.numbers()
    }

    /// A constant of one number.
    fn number(&self, name: &str) -> Option<f32> {
        let view = self.numbers(name)?;
        if view.len() == 1 { view.slice()?.first().copied() } else { None }
    }

    /// The two inputs of a node, the one that is a constant number second.
    fn with_number(&self, node: usize) -> Option<(&'a str, f32)> {
        let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
        self.number(b).map(|b| (a, b)).or_else(|| self.number(a).map(|a| (b, a)))
    }

    /// `Softmax(queries · keys * scale + mask) · values`, if node `i` is that last product.
    fn attention(&self, i: usize) -> Option<Group<'a>> {
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
    fn dense(&self, i: usize) -> Option<Group<'a>> {
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
    fn gelu_alone(&self, i: usize) -> Option<Group<'a>> {
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
    fn convolution(&self, i: usize) -> Option<Group<'a>> {
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
    fn function(&self, node: usize) -> Option<Function> {
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
    fn hard_swish_alone(&self, i: usize) -> Option<Group<'a>> {
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
    fn normalisation(&self, i: usize) -> Option<Group<'a>> {
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

/// Steps as they are put together.
struct Builder<'a, 'c> {
    compiler: &'c Compiler<'a>,
    isa: Isa,
    numbers: HashMap<String, usize>,
    constants: Vec<Option<Value>>,
    inputs: Vec<usize>,
    steps: Vec<Step>,
    arena: Arena,
}

impl<'a, 'c> Builder<'a, 'c> {
    fn new(compiler: &'c Compiler<'a>, inputs: &[&'a str]) -> Option<Self> {
        let isa = Isa::best();
        let matrices =
            compiler.constants.values().filter_map(Value::numbers).filter(|view| view.shape.len() == 2);
        let bytes = |view: &View| Panels::bytes(isa, view.shape[0], view.shape[1]);
        // Room for all, of which what is not used costs nothing.
        let arena = Arena::new(matrices.map(bytes).fold(0, usize::saturating_add)).ok()?;
        let (numbers, constants) = (HashMap::new(), Vec::new());
        let mut builder = Builder { compiler, isa, numbers, constants, inputs: vec![], steps: vec![], arena };
        builder.inputs = inputs.iter().map(|name| builder.define(name)).collect();
        Some(builder)
    }

    /// A new number for a value.
    fn define(&mut self, name: &str) -> usize {
        let number = self.constants.len();
        self.numbers.insert(name.to_owned(), number);
        self.constants.push(None);
        number
    }

    /// The number of a value that is there.
    fn number(&mut self, name: &str) -> Option<usize> {
        if let Some(&number) = self.numbers.get(name) {
            return Some(number);
        }
        let constant = self.compiler.constants.get(name)?.clone();
        let number = self.define(name);
        self.constants[number] = Some(constant);
        Some(number)
    }

    fn add(&mut self, op: Op, inputs: &[&str], output: &str) -> Option<()> {
        let optional = |name: &&str| if name.is_empty() { Some(None) } else { self.number(name).map(Some) };
        let inputs = inputs.iter().map(optional).collect::<Option<Vec<_>>>()?;
        let output = self.define(output);
        self.steps.push(Step { op, inputs, output, done: vec![] });
        Some(())
    }

    fn add_group(&mut self, group: Group<'a>, output: &str) -> Option<()> {
        let op = match group.op {
            Draft::Ready(op) => op,
            Draft::Dense { matrix, turned, bias, function } => {
                let view = self.compiler.numbers(&matrix)?;
                let (&[first, second], data) = (&view.shape[..], view.slice()?) else { return None };
                let (rows, cols) = if turned { (second, first) } else { (first, second) };
                let mut weights = Panels::new(self.isa, rows, cols, &self.arena).ok()?;
                weights.fill(data, if turned { [1, rows] } else { [cols, 1] });
                Op::Dense { weights, bias, function }
            }
            Draft::Convolution { shape: [filters, channels, ..], kernel, bias, window, each, function } => {
                let places = window.size[0] * window.size[1];
                let weights = if each {
                    let at = |i: usize| kernel.get(i % filters * places + i / filters).copied();
                    let weights = (0..places * filters).map(at).collect::<Option<Vec<_>>>()?;
                    let Window { size: window, strides, before, .. } = window;
                    Weights::Each(Depthwise { channels: filters, window, strides, before, weights, bias })
                } else {
                    // By place, then by channel.
                    let depth = places * channels;
                    let at = |i: usize| {
                        kernel.get(i / depth * depth + i % channels * places + i % depth / channels).copied()
                    };
                    let rows = (0..filters * depth).map(at).collect::<Option<Vec<_>>>()?;
                    let mut panels = Panels::new(self.isa, depth, filters, &self.arena).ok()?;
                    panels.fill(&rows, [1, depth]);
                    Weights::All { channels, panels, bias }
                };
                Op::Convolution(Box::new(Convolution { window, weights, function }))
            }
        };
        self.add(op, &group.inputs, output)
    }

    /// A node that is a step by itself.
    fn add_node(&mut self, node: &'a NodeProto) -> Option<()> {
        if !own(node.domain.as_deref()) {
            return None;
        }
        let whole = |name: &str| whole_attribute(node, name);
        let list = |name: &str| attribute(node, name).map(|a| a.ints.clone());
        let mut inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
        let op = match node.op_type.as_deref()? {
            "Add" => Op::Pairs(Operation::Add),
            "Sub" => Op::Pairs(Operation::Subtract),
            "Mul" => Op::Pairs(Operation::Multiply),
            "Div" => Op::Pairs(Operation::Divide),
            "Exp" => Op::Each(Function::Exp),
            "Clip" | "HardSigmoid" | "HardSwish" | "Relu" => {
                let function =
                    self.compiler.function(*self.compiler.sources.get(node.output.first()?.as_str())?)?;
                inputs.truncate(1);
                Op::Each(function)
            }
            "GlobalAveragePool" => Op::Pixels,
            "MaxPool" if whole("ceil_mode").unwrap_or(0) == 0 => Op::Greatest(window(node, None)?),
            "Flatten" if whole("axis").unwrap_or(1) == 1 => Op::Shaping(Shaping::Flatten),
            "Gelu" if attribute(node, "approximate").is_none_or(|a| a.s.as_deref() == Some("none")) => {
                Op::Each(Function::Gelu)
            }
            "Neg" => Op::Each(Function::Neg),
            "Sigmoid" => Op::Each(Function::Sigmoid),
            "Sqrt" => Op::Each(Function::Sqrt),
            "Tanh" => Op::Each(Function::Tanh),
            "Softmax" => {
                let default = if self.compiler.opset < 13 { 1 } else { -1 };
                Op::Softmax { axis: whole("axis").unwrap_or(default) }
            }
            "ReduceMean" => {
                let axes = match inputs.get(1) {
                    Some(name) => self.compiler.constants.get(name)?.whole()?.data.to_vec(),
                    None => list("axes")?,
                };
                inputs.truncate(1);
                let &[axis] = &axes[..] else { return None };
                Op::Mean { axis, keep: whole("keepdims").unwrap_or(1) != 0 }
            }
            "MatMul" => Op::Product,
            "LayerNormalization" if node.output.len() == 1 && whole("axis").unwrap_or(-1) == -1 => {
                let row = |i: usize| {
                    let view = self.compiler.numbers(inputs.get(i).copied()?)?;
                    (view.shape.len() == 1).then(|| view.slice().map(<[f32]>::to_vec)).flatten()
                };
                let weight = row(1)?;
                let bias = if inputs.len() > 2 { row(2)? } else { vec![0.0; weight.len()] };
                let epsilon = attribute(node, "epsilon").map_or(Some(1e-5), |a| a.f)?;
                if bias.len() != weight.len() {
                    return None;
                }
                inputs.truncate(1);
                Op::Normalize { weight, bias, epsilon }
            }
            "Gather" => Op::Gather { axis: whole("axis").unwrap_or(0) },
            "Identity" => Op::Shaping(Shaping::Same),
            "Cast" => Op::Shaping(Shaping::Cast(match whole("to")? {
                1 => Cast::Numbers,
                6 | 7 => Cast::Whole,
                9 => Cast::Truth,
                _ => return None,
            })),
            "Concat" => Op::Shaping(Shaping::Concat { axis: whole("axis")? }),
            "ConstantOfShape" => {
                let zero = Value::Numbers(View::new(vec![1], Arc::new(vec![0.0])));
                let filler = match attribute(node, "value") {
                    Some(held) => constant(held.t.as_ref()?, &[])?,
                    None => zero,
                };
                Op::Shaping(Shaping::ConstantOfShape(filler))
            }
            "Expand" => Op::Shaping(Shaping::Expand),
            "Reshape" if whole("allowzero").unwrap_or(0) == 0 => Op::Shaping(Shaping::Reshape),
            "Shape" => Op::Shaping(Shaping::Shape { start: whole("start").unwrap_or(0), end: whole("end") }),
            "Slice" if self.compiler.opset >= 10 => Op::Shaping(Shaping::Slice),
            "Squeeze" => Op::Shaping(Shaping::Squeeze(list("axes"))),
            "Unsqueeze" => Op::Shaping(Shaping::Unsqueeze(list("axes"))),
            "Transpose" => Op::Shaping(Shaping::Transpose(list("perm"))),
            _ => return None,
        };
        let [output] = &node.output[..] else { return None };
        self.add(op, &inputs, output)
    }

    fn finish(mut self, outputs: &[&str]) -> Option<Plan> {
        let outputs =
            outputs.iter().map(|name| self.numbers.get(*name).copied()).collect::<Option<Vec<_>>>()?;
        let mut needed: HashSet<usize> = outputs.iter().copied().collect();
        for step in self.steps.iter_mut().rev() {
            let taken = step.inputs.iter().flatten().chain([&step.output]);
            step.done = taken.copied().filter(|&number| needed.insert(number)).collect();
        }
        Some(Plan {
            isa: self.isa,
            steps: self.steps,
            constants: self.constants,
            inputs: self.inputs,
            outputs,
            rooms: Mutex::default(),
            apart: false,
        })
    }
}

/// The window of a convolution or pool over pictures, if it is one that steps know.
fn window(node: &NodeProto, of_weights: Option<[usize; 2]>) -> Option<Window> {
    let list = |name: &str| match attribute(node, name) {
        Some(held) => held.ints.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<_>>>(),
        None => Some(vec![]),
    };
    let pair = |name: &str| match list(name)?[..] {
        [] => Some([1, 1]),
        [a, b] => Some([a, b]),
        _ => None,
    };
    let automatic = attribute(node, "auto_pad").is_some_and(|a| !matches!(a.s.as_deref(), Some("NOTSET")));
    let size = match of_weights {
        Some(size) => size,
        None => attribute(node, "kernel_shape").and_then(|_| pair("kernel_shape"))?,
    };
    let pads = match list("pads")?[..] {
        [] => [0; 4],
        [top, left, bottom, right] => [top, left, bottom, right],
        _ => return None,
    };
    let strides = pair("strides")?;
    let plain = !automatic && pair("dilations")? == [1, 1] && !strides.contains(&0) && !size.contains(&0);
    // A window that lies beyond the picture altogether is for the general runtime.
    let small = size.iter().all(|&n| n <= WINDOW_MAX);
    let near = small && pads[0] < size[0] && pads[2] < size[0] && pads[1] < size[1] && pads[3] < size[1];
    let [top, left, bottom, right] = pads;
    (plain && near).then_some(Window { size, strides, before: [top, left], after: [bottom, right] })
}

/// The greatest height and width of a window that steps compute.
const WINDOW_MAX: usize = 256;

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
}

fn whole_attribute(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name)?.i
}

/// What a `Constant` node holds.
fn of_attribute(node: &NodeProto, external: &[(String, Vec<u8>)]) -> Option<Value> {
    let [held] = &node.attribute[..] else { return None };
    let numbers = |shape, data| Some(Value::Numbers(View::new(shape, Arc::new(data))));
    let whole = |shape, data| Some(Value::Whole(Whole { shape, data: Arc::new(data) }));
    match held.name.as_deref()? {
        "value" => constant(held.t.as_ref()?, external),
        "value_float" => numbers(vec![], vec![held.f?]),
        "value_floats" => numbers(vec![held.floats.len()], held.floats.clone()),
        "value_int" => whole(vec![], vec![held.i?]),
        "value_ints" => whole(vec![held.ints.len()], held.ints.clone()),
        _ => None,
    }
}

/// A constant of a kind that steps know.
fn constant(tensor: &TensorProto, external: &[(String, Vec<u8>)]) -> Option<Value> {
    let shape = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>()?;
    let size = super::view::count(&shape)?;
    let raw = tensor.raw_data.as_ref().map(std::cell::RefCell::borrow);
    let bytes = match &raw {
        Some(raw) => Some(raw.as_slice()),
        None if tensor.external_data.is_empty() => None,
        None => Some(outside(tensor, external)?),
    };
    match tensor.data_type? {
        Element::FLOAT => {
            let data: Vec<f32> = match bytes {
                Some(bytes) => bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
                None => tensor.float_data.clone(),
            };
            (data.len() == size).then(|| Value::Numbers(View::new(shape, Arc::new(data))))
        }
        kind @ (Element::INT64 | Element::INT32 | Element::BOOL) => {
            let narrow = || tensor.int32_data.iter().map(|&x| i64::from(x)).collect();
            let data: Vec<i64> = match (kind, bytes) {
                (Element::INT64, Some(bytes)) => {
                    bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect()
                }
                (Element::INT32, Some(bytes)) => {
                    bytes.as_chunks::<4>().0.iter().map(|&b| i64::from(i32::from_le_bytes(b))).collect()
                }
                (_, Some(bytes)) => bytes.iter().map(|&b| i64::from(b)).collect(),
                (Element::INT64, None) => tensor.int64_data.clone(),
                (_, None) => narrow(),
            };
            (data.len() == size).then(|| Value::Whole(Whole { shape, data: Arc::new(data) }))
        }
        _ => None,
    }
}

/// The bytes of a tensor that lie in another file.
fn outside<'e>(tensor: &TensorProto, external: &'e [(String, Vec<u8>)]) -> Option<&'e [u8]> {
    let entry = |key: &str| {
        let entries = tensor.external_data.iter();
        entries.filter(|e| e.key.as_deref() == Some(key)).find_map(|e| e.value.as_deref())
    };
    let (_, content) = external.iter().find(|(name, _)| Some(name.as_str()) == entry("location"))?;
    let start: usize = entry("offset").map_or(Some(0), |text| text.parse().ok())?;
    let length = entry("length").map_or(content.len().checked_sub(start), |text| text.parse().ok())?;
    content.get(start..start.checked_add(length)?)
}
