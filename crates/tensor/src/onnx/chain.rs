//! [`Chain`]: small networks of dense layers, computed right here.
//!
//! A run of the general runtime costs some 10 µs before its first multiplication, and 15 more for the way
//! to its thread and back; a classifier of three small layers is half a microsecond of arithmetic. Models
//! that are nothing but a chain of matrix products and functions of single elements are therefore
//! recognised and computed on the calling thread.
//!
//! Every element is the sum of its products in the order of the inputs, multiplied and added without
//! fusing, whatever the number of rows and the width of the vectors that the compiler chose: a row gives
//! the same bits in every batch and on every machine, but for the last bit of `exp` and `tanh`.

use std::collections::HashMap;

use rten_onnx::onnx::{AttributeProto, DataType as Element, ModelProto, NodeProto, TensorProto};
use rten_simd::{Isa, SimdOp};

/// Larger files are left to the general runtime, whose blocked products win there.
const BYTES_MAX: usize = 4 << 20;

/// Columns that lie together.
const PANEL: usize = 16;

/// Panels computed together for one row, and rows computed together with one panel: 64 sums at a time.
const PANELS: usize = 4;
const ROWS: usize = 4;

/// Rows that go through the whole chain together, so that what lies between two layers stays in cache.
const TILE: usize = 32;

/// A network that is a chain of simple steps over rows of numbers.
#[derive(Debug)]
pub(super) struct Chain {
    steps: Vec<Step>,
    inputs: usize,
    outputs: usize,
    /// The widest row between two steps.
    widest: usize,
}

#[derive(Debug)]
enum Step {
    Product(Product),
    Each(Function),
    /// An operation of each element with the constant of its column.
    Columns(Operation, Vec<f32>),
    Softmax,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Relu,
    Sigmoid,
    Tanh,
    LeakyRelu(f32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// A constant matrix in panels: for each [`PANEL`] columns, row by row, zeros where there are no more columns.
#[derive(Debug)]
struct Product {
    rows: usize,
    columns: usize,
    panels: Vec<f32>,
}

impl Chain {
    /// The model as a chain, if it is one.
    pub(super) fn of(bytes: &[u8]) -> Option<Chain> {
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let graph = ModelProto::parse_buf(bytes).ok()?.graph?;
        let ([input], [output]) = (&graph.input[..], &graph.output[..]) else { return None };
        let input_type = input.r#type.as_ref()?.tensor_type.as_ref()?;
        let [_, width] = &input_type.shape.as_ref()?.dim[..] else { return None };
        let inputs = usize::try_from(width.dim_value?).ok()?;
        if input_type.elem_type != Some(Element::FLOAT) || inputs == 0 {
            return None;
        }
        let constants = graph.initializer.iter().filter_map(|t| Some((t.name.as_deref()?, t))).collect();
        let mut links = Links { constants, value: input.name.as_deref()?, width: inputs };
        let mut steps = Vec::with_capacity(graph.node.len());
        let mut widest = inputs;
        for node in &graph.node {
            links.add(node, &mut steps)?;
            widest = widest.max(links.width);
        }
        let ends = output.name.as_deref()? == links.value && links.value != input.name.as_deref()?;
        ends.then_some(Chain { steps, inputs, outputs: links.width, widest })
    }

    /// Elements of a row of output.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Computes rows of outputs from rows of inputs, both row-major.
    pub(super) fn run(&self, input: &[f32]) -> Vec<f32> {
        let rows = input.len() / self.inputs;
        let mut output = Vec::with_capacity(rows * self.outputs);
        let mut now = Vec::with_capacity(TILE.min(rows) * self.widest);
        let mut next = Vec::with_capacity(TILE.min(rows) * self.widest);
        for tile in input.chunks(TILE * self.inputs) {
            now.clear();
            now.extend_from_slice(tile);
            let mut width = self.inputs;
            for step in &self.steps {
                if let Step::Product(product) = step {
                    product.apply(&now, &mut next);
                    std::mem::swap(&mut now, &mut next);
                    width = product.columns;
                } else {
                    step.in_place(&mut now, width);
                }
            }
            output.extend_from_slice(&now);
        }
        output
    }
}

impl Step {
    /// Computes a step that changes no widths.
    fn in_place(&self, values: &mut [f32], width: usize) {
        match self {
            Step::Product(_) => {}
            Step::Each(function) => function.apply(values),
            Step::Columns(operation, constants) => {
                values.chunks_mut(width).for_each(|row| operation.apply(row, constants));
            }
            Step::Softmax => values.chunks_mut(width).for_each(softmax),
        }
    }
}

impl Function {
    fn apply(self, values: &mut [f32]) {
        match self {
            // NaN stays NaN, as elsewhere; `max` would make it 0.
            Function::Relu => values.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v }),
            Function::Sigmoid => values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
            Function::Tanh => values.iter_mut().for_each(|v| *v = v.tanh()),
            Function::LeakyRelu(slope) => {
                values.iter_mut().for_each(|v| *v = if *v < 0.0 { slope * *v } else { *v })
            }
        }
    }
}

impl Operation {
    fn apply(self, row: &mut [f32], constants: &[f32]) {
        let pairs = row.iter_mut().zip(constants);
        match self {
            Operation::Add => pairs.for_each(|(v, c)| *v += c),
            Operation::Subtract => pairs.for_each(|(v, c)| *v -= c),
            Operation::Multiply => pairs.for_each(|(v, c)| *v *= c),
            Operation::Divide => pairs.for_each(|(v, c)| *v /= c),
        }
    }
}

fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in row.iter_mut() {
        *v = (*v - max).exp();
        sum += *v;
    }
    row.iter_mut().for_each(|v| *v /= sum);
}

impl Product {
    /// `matrix` is `[rows, columns]`, or `[columns, rows]` if `transposed`.
    fn new(matrix: &[f32], rows: usize, columns: usize, transposed: bool) -> Product {
        let at = |row: usize, column: usize| match transposed {
            true => matrix.get(column * rows + row),
            false => matrix.get(row * columns + column),
        };
        let mut panels = Vec::with_capacity(columns.next_multiple_of(PANEL) * rows);
        for first in (0..columns).step_by(PANEL) {
            for row in 0..rows {
                let cells = (first..first + PANEL)
                    .map(|column| if column < columns { at(row, column) } else { None });
                panels.extend(cells.map(|cell| cell.copied().unwrap_or_default()));
            }
        }
        Product { rows, columns, panels }
    }

    /// `output = input · matrix`, row-major.
    fn apply(&self, input: &[f32], output: &mut Vec<f32>) {
        output.clear();
        output.resize(input.len() / self.rows * self.columns, 0.0);
        Apply { product: self, input, output }.dispatch();
    }

    /// As [`Product::apply`], inlined into a function for each instruction set.
    #[inline(always)]
    fn apply_inline(&self, input: &[f32], output: &mut [f32]) {
        let outputs = output.chunks_mut(ROWS * self.columns);
        for (input, output) in input.chunks(ROWS * self.rows).zip(outputs) {
            if input.len() == ROWS * self.rows {
                let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &input[row * self.rows..][..self.rows]);
                for first in 0..self.columns.div_ceil(PANEL) {
                    self.store(&sums([self.panel(first)], rows, self.rows), first, output);
                }
                continue;
            }
            for (row, output) in input.chunks(self.rows).zip(output.chunks_mut(self.columns)) {
                self.apply_row(row, output);
            }
        }
    }

    /// One row alone: several panels together, so that there are sums enough to work on at a time.
    #[inline(always)]
    fn apply_row(&self, row: &[f32], output: &mut [f32]) {
        let panels = self.columns.div_ceil(PANEL);
        let mut first = 0;
        while first + PANELS <= panels {
            let together: [_; PANELS] = std::array::from_fn(|i| self.panel(first + i));
            self.store(&sums(together, [row], self.rows), first, output);
            first += PANELS;
        }
        for first in first..panels {
            self.store(&sums([self.panel(first)], [row], self.rows), first, output);
        }
    }

    #[inline(always)]
    fn panel(&self, i: usize) -> &[[f32; PANEL]] {
        let (panels, _) = self.panels.as_chunks::<PANEL>();
        &panels[i * self.rows..][..self.rows]
    }

    /// Puts the sums of panels from `first` on into the rows of `output`.
    #[inline(always)]
    fn store<const P: usize, const R: usize>(
        &self,
        sums: &[[[f32; PANEL]; P]; R],
        first: usize,
        output: &mut [f32],
    ) {
        for (row, sums) in output.chunks_exact_mut(self.columns).zip(sums) {
            for (cells, sums) in row[first * PANEL..].chunks_mut(PANEL).zip(sums) {
                cells.copy_from_slice(&sums[..cells.len()]);
            }
        }
    }
}

/// [`Product::apply_inline`] for the best instruction set of this machine. The operation is plain Rust that
/// the compiler vectorises anew for each set; it never fuses a multiplication with an addition, so that
/// all sets give the same bits.
struct Apply<'a> {
    product: &'a Product,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl SimdOp for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) {
        self.product.apply_inline(self.input, self.output);
    }
}

/// Rows times panels: `[row][panel][column]`. Each sum adds its `depth` products in order, whatever the
/// numbers of rows and panels.
#[inline(always)]
fn sums<const P: usize, const R: usize>(
    panels: [&[[f32; PANEL]]; P],
    rows: [&[f32]; R],
    depth: usize,
) -> [[[f32; PANEL]; P]; R] {
    // The lengths, said once, spare the checks in the loop.
    let panels = panels.map(|panel| &panel[..depth]);
    let rows = rows.map(|row| &row[..depth]);
    let mut sums = [[[0.0; PANEL]; P]; R];
    for k in 0..depth {
        for (panel, weights) in panels.iter().map(|panel| &panel[k]).enumerate() {
            for (row, sums) in rows.iter().zip(&mut sums) {
                for (sum, weight) in sums[panel].iter_mut().zip(weights) {
                    *sum += row[k] * weight;
                }
            }
        }
    }
    sums
}

/// The graph on the way from its input to its output.
struct Links<'a> {
    constants: HashMap<&'a str, &'a TensorProto>,
    /// The value that the steps so far compute.
    value: &'a str,
    /// Its elements a row.
    width: usize,
}

impl<'a> Links<'a> {
    /// Adds what `node` does to the value; `None` if it is no link of a chain.
    fn add(&mut self, node: &'a NodeProto, steps: &mut Vec<Step>) -> Option<()> {
        let op = node.op_type.as_deref()?;
        if !matches!(node.domain.as_deref(), None | Some("" | "ai.onnx")) {
            return None;
        }
        let [output] = &node.output[..] else { return None };
        if op == "Constant" {
            let [AttributeProto { t: Some(tensor), .. }] = &node.attribute[..] else { return None };
            self.constants.insert(output, tensor);
            return Some(());
        }
        let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
        match (op, &inputs[..]) {
            ("MatMul", &[x, matrix]) if x == self.value => self.product(matrix, false, steps)?,
            ("Gemm", &[x, matrix, ref bias @ ..]) if x == self.value => {
                self.gemm(node, matrix, bias, steps)?
            }
            ("Add" | "Mul", &[x, y]) if y == self.value && x != y => self.columns(op, x, steps)?,
            ("Add" | "Mul" | "Sub" | "Div", &[x, y]) if x == self.value => self.columns(op, y, steps)?,
            ("Relu", &[x]) if x == self.value => steps.push(Step::Each(Function::Relu)),
            ("Sigmoid", &[x]) if x == self.value => steps.push(Step::Each(Function::Sigmoid)),
            ("Tanh", &[x]) if x == self.value => steps.push(Step::Each(Function::Tanh)),
            ("LeakyRelu", &[x]) if x == self.value => {
                let slope = attribute(node, "alpha").map_or(Some(0.01), |a| a.f)?;
                steps.push(Step::Each(Function::LeakyRelu(slope)));
            }
            ("Softmax", &[x]) if x == self.value => {
                // Over rows of two dimensions all defaults of all versions mean the last.
                let axis = attribute(node, "axis").map_or(Some(-1), |a| a.i)?;
                matches!(axis, -1 | 1).then(|| steps.push(Step::Softmax))?;
            }
            ("Identity", &[x]) if x == self.value => {}
            ("Flatten", &[x]) if x == self.value => {
                let axis = attribute(node, "axis").map_or(Some(1), |a| a.i)?;
                (axis == 1).then_some(())?;
            }
            _ => return None,
        }
        self.value = output;
        Some(())
    }

    fn product(&mut self, matrix: &str, transposed: bool, steps: &mut Vec<Step>) -> Option<()> {
        let (dims, matrix) = self.constant(matrix)?;
        let (rows, columns) = match (&dims[..], transposed) {
            (&[rows, columns], false) | (&[columns, rows], true) => (rows, columns),
            _ => return None,
        };
        if rows != self.width || columns == 0 {
            return None;
        }
        steps.push(Step::Product(Product::new(&matrix, rows, columns, transposed)));
        self.width = columns;
        Some(())
    }

    fn gemm(&mut self, node: &NodeProto, matrix: &str, bias: &[&str], steps: &mut Vec<Step>) -> Option<()> {
        let one = |name: &str| attribute(node, name).map_or(Some(1.0), |a| a.f) == Some(1.0);
        let flag = |name: &str| attribute(node, name).map_or(Some(0), |a| a.i);
        if !one("alpha") || !one("beta") || flag("transA") != Some(0) {
            return None;
        }
        self.product(matrix, flag("transB")? != 0, steps)?;
        match bias {
            [] | [""] => Some(()),
            [bias] => self.columns("Add", bias, steps),
            _ => None,
        }
    }

    /// An operation with a constant that is one number, or one for each column.
    fn columns(&mut self, op: &str, constant: &str, steps: &mut Vec<Step>) -> Option<()> {
        let (dims, mut constants) = self.constant(constant)?;
        match &dims[..] {
            [] | [1] | [1, 1] => constants = vec![*constants.first()?; self.width],
            &[n] | &[1, n] if n == self.width => {}
            _ => return None,
        }
        let operation = match op {
            "Add" => Operation::Add,
            "Sub" => Operation::Subtract,
            "Mul" => Operation::Multiply,
            "Div" => Operation::Divide,
            _ => return None,
        };
        steps.push(Step::Columns(operation, constants));
        Some(())
    }

    /// The shape and the elements of a float constant.
    fn constant(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensor = self.constants.get(name)?;
        if tensor.data_type != Some(Element::FLOAT) || !tensor.external_data.is_empty() {
            return None;
        }
        let dims: Vec<usize> =
            tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().ok()?;
        let data = match &tensor.raw_data {
            Some(raw) => {
                let raw = raw.borrow();
                let (numbers, rest) = raw.as_chunks::<4>();
                rest.is_empty().then(|| numbers.iter().map(|&b| f32::from_le_bytes(b)).collect())?
            }
            None => tensor.float_data.clone(),
        };
        let elements = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (elements == data.len()).then_some((dims, data))
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name.as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::export::{Activation, Layer, sequential};
    use crate::{Data, OnnxModel, Tensor};

    /// Numbers without a pattern, in -1..1.
    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
    }

    fn dense(inputs: usize, units: usize, activation: Activation) -> Layer {
        let kernel = numbers(inputs * units, units);
        Layer::Dense { units, kernel, bias: Some(numbers(units, inputs)), activation }
    }

    fn layers() -> Vec<Layer> {
        vec![
            Layer::Normalization { mean: numbers(37, 1), variance: vec![0.5; 37] },
            dense(37, 20, Activation::Tanh),
            dense(20, 16, Activation::Relu),
            dense(16, 33, Activation::LeakyRelu { negative_slope: 0.2 }),
            Layer::Flatten,
            dense(33, 9, Activation::Sigmoid),
            dense(9, 10, Activation::Softmax),
        ]
    }

    #[test]
    fn a_chain_equals_the_general_runtime() {
        let bytes = sequential(&[37], &layers()).unwrap();
        let chain = Chain::of(&bytes).expect("a chain");
        let mut model = OnnxModel::from_bytes(bytes).unwrap();
        let super::super::Engine::Network(network) = &mut model.engine else { panic!("a network") };
        assert!(network.chain.take().is_some());
        for rows in [1, 2, 3, 31, 32, 33, 70] {
            let input = numbers(rows * 37, rows);
            let tensor = Tensor::new(vec![rows, 37], Data::F32(input.clone())).unwrap();
            let want = model.run(&[("input".into(), tensor)]).unwrap().remove(0).1;
            let got = chain.run(&input);
            assert_eq!(got.len(), rows * chain.outputs());
            for (g, w) in got.iter().zip(want.as_f32().unwrap()) {
                assert!((g - w).abs() <= 1e-5, "{g} instead of {w}");
            }
        }
    }

    #[test]
    fn networks_of_other_layers_are_no_chains() {
        let pool = Layer::MaxPooling2d {
            pool_size: [1, 1],
            strides: [1, 1],
            padding: crate::export::Padding::Valid,
        };
        for (shape, layers) in [
            (vec![2, 2, 1], vec![pool]),
            (vec![3], vec![Layer::Activation(Activation::Gelu { approximate: false })]),
            (vec![4, 3], vec![dense(3, 2, Activation::Relu)]),
        ] {
            assert!(Chain::of(&sequential(&shape, &layers).unwrap()).is_none(), "{layers:?}");
        }
        assert!(Chain::of(b"no model").is_none());
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        let chain = Chain::of(&sequential(&[1], &[Layer::Activation(Activation::Relu)]).unwrap()).unwrap();
        assert!(chain.run(&[f32::NAN])[0].is_nan());
        assert_eq!(chain.run(&[-1.0, f32::INFINITY]), [0.0, f32::INFINITY]);
    }
}
