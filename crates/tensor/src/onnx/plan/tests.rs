#![allow(clippy::unwrap_used)]

use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataType as Element, Dimension, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};

use super::super::inspect::Inspection;
use super::super::network::Network;
use super::super::ports;
use super::super::{Engine, OnnxModel};
use crate::{Data, Tensor, Tensors};

const WIDTH: i64 = 24;
const HEADS: i64 = 3;
const WORDS: i64 = 50;

/// Numbers without a pattern, in -1..1.
fn random(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
}

/// Writes a small text encoder as exporters do.
struct Encoder {
    graph: GraphProto,
    /// Layer normalisation and GELU written out, shapes computed, as torch's exporter has it.
    written_out: bool,
}

impl Encoder {
    fn new(written_out: bool) -> Encoder {
        Encoder { graph: GraphProto::default(), written_out }
    }

    fn op_with(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let output = format!("{op}{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.clone()],
            attribute,
            ..NodeProto::default()
        });
        output
    }

    fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.op_with(op, inputs, vec![])
    }

    fn constant(&mut self, dims: &[i64], data: Vec<f32>) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims: dims.to_vec(),
            data_type: Some(Element::FLOAT),
            float_data: data,
            ..TensorProto::default()
        });
        name
    }

    fn weight(&mut self, dims: &[i64]) -> String {
        let seed = self.graph.initializer.len();
        let data = random(dims.iter().product::<i64>() as usize, seed).iter().map(|x| 0.4 * x).collect();
        self.constant(dims, data)
    }

    fn whole(&mut self, data: &[i64]) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: Some(name.clone()),
            dims: vec![data.len() as i64],
            data_type: Some(Element::INT64),
            int64_data: data.to_vec(),
            ..TensorProto::default()
        });
        name
    }

    fn dense(&mut self, x: &str, inputs: i64, outputs: i64) -> String {
        let (matrix, bias) = (self.weight(&[inputs, outputs]), self.weight(&[outputs]));
        let product = self.op("MatMul", &[x, &matrix]);
        // Exporters have it in either order.
        if self.written_out { self.op("Add", &[&bias, &product]) } else { self.op("Add", &[&product, &bias]) }
    }

    fn normalised(&mut self, x: &str) -> String {
        let (weight, bias) = (self.weight(&[WIDTH]), self.weight(&[WIDTH]));
        if !self.written_out {
            return self.op_with("LayerNormalization", &[x, &weight, &bias], vec![float("epsilon", 1e-12)]);
        }
        let last = || vec![ints("axes", vec![-1])];
        let mean = self.op_with("ReduceMean", &[x], last());
        let centred = self.op("Sub", &[x, &mean]);
        let two = self.constant(&[], vec![2.0]);
        let square = self.op("Pow", &[&centred, &two]);
        let variance = self.op_with("ReduceMean", &[&square], last());
        let epsilon = self.constant(&[], vec![1e-12]);
        let sum = self.op("Add", &[&variance, &epsilon]);
        let root = self.op("Sqrt", &[&sum]);
        let share = self.op("Div", &[&centred, &root]);
        let weighted = self.op("Mul", &[&share, &weight]);
        self.op("Add", &[&weighted, &bias])
    }

    fn gelu(&mut self, x: &str) -> String {
        let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|c| self.constant(&[], vec![c]));
        let scaled = self.op("Div", &[x, &root]);
        let erf = self.op("Erf", &[&scaled]);
        let sum = self.op("Add", &[&erf, &one]);
        if self.written_out {
            let product = self.op("Mul", &[x, &sum]);
            self.op("Mul", &[&product, &half])
        } else {
            let halved = self.op("Mul", &[x, &half]);
            self.op("Mul", &[&halved, &sum])
        }
    }

    /// The dimensions of `x`, the last replaced by these.
    fn shape(&mut self, x: &str, ends: &[i64]) -> String {
        let ends_whole = self.whole(ends);
        if !self.written_out {
            let all = [&[0, 0], ends].concat();
            return self.whole(&all);
        }
        let shape = self.op("Shape", &[x]);
        let zero = self.whole(&[0]);
        let parts: Vec<String> = (0..2)
            .map(|i| {
                let at = self.constant_place(i);
                let one = self.op("Gather", &[&shape, &at]);
                self.op("Unsqueeze", &[&one, &zero])
            })
            .collect();
        self.op_with("Concat", &[&parts[0], &parts[1], &ends_whole], vec![int("axis", 0)])
    }

    fn constant_place(&mut self, place: i64) -> String {
        let name = self.whole(&[place]);
        self.graph.initializer.last_mut().unwrap().dims = vec![];
        name
    }

    fn attention(&mut self, x: &str, mask: &str) -> String {
        let size = WIDTH / HEADS;
        let mut part = |order: Vec<i64>| {
            let value = self.dense(x, WIDTH, WIDTH);
            let split = self.shape(&value, &[HEADS, size]);
            let heads = self.op("Reshape", &[&value, &split]);
            self.op_with("Transpose", &[&heads], vec![ints("perm", order)])
        };
        let [queries, keys, values] = [vec![0, 2, 1, 3], vec![0, 2, 3, 1], vec![0, 2, 1, 3]].map(&mut part);
        let product = self.op("MatMul", &[&queries, &keys]);
        let root = self.constant(&[], vec![(size as f32).sqrt()]);
        let scores = self.op("Div", &[&product, &root]);
        let masked = self.op("Add", &[&scores, mask]);
        let shares = self.op_with("Softmax", &[&masked], vec![int("axis", -1)]);
        let mixed = self.op("MatMul", &[&shares, &values]);
        let turned = self.op_with("Transpose", &[&mixed], vec![ints("perm", vec![0, 2, 1, 3])]);
        let joined = self.shape(&turned, &[WIDTH]);
        let joined = self.op("Reshape", &[&turned, &joined]);
        self.dense(&joined, WIDTH, WIDTH)
    }

    fn finish(mut self) -> Vec<u8> {
        let words = self.weight(&[WORDS, WIDTH]);
        let words = self.op("Gather", &[&words, "ids"]);
        let places = self.weight(&[200, WIDTH]);
        let (zero, one) = (self.whole(&[0]), self.whole(&[1]));
        let shape = self.op("Shape", &["ids"]);
        let length = self.op("Gather", &[&shape, &one]);
        let places = self.op("Slice", &[&places, &zero, &length, &zero]);
        let sum = self.op("Add", &[&words, &places]);
        let mut hidden = self.normalised(&sum);
        let axes = self.whole(&[1, 2]);
        let mask = self.op("Unsqueeze", &["mask", &axes]);
        let mask = self.op_with("Cast", &[&mask], vec![int("to", 1)]);
        let (one, low) = (self.constant(&[], vec![1.0]), self.constant(&[], vec![-1e9]));
        let mask = self.op("Sub", &[&one, &mask]);
        let mask = self.op("Mul", &[&mask, &low]);
        for _ in 0..2 {
            let attended = self.attention(&hidden, &mask);
            let sum = self.op("Add", &[&hidden, &attended]);
            hidden = self.normalised(&sum);
            let inner = self.dense(&hidden, WIDTH, 40);
            let inner = self.gelu(&inner);
            let outer = self.dense(&inner, 40, WIDTH);
            let sum = self.op("Add", &[&hidden, &outer]);
            hidden = self.normalised(&sum);
        }
        let first = self.constant_place(0);
        let pooled = self.op_with("Gather", &[&hidden, &first], vec![int("axis", 1)]);
        let (matrix, bias) = (self.weight(&[WIDTH, WIDTH]), self.weight(&[WIDTH]));
        let pooled = self.op_with("Gemm", &[&pooled, &matrix, &bias], vec![int("transB", 1)]);
        let pooled = self.op("Tanh", &[&pooled]);
        for (from, to) in [(&hidden, "hidden"), (&pooled, "pooled")] {
            self.op("Identity", &[from]);
            self.graph.node.last_mut().unwrap().output = vec![to.to_owned()];
        }
        self.graph.input = ["ids", "mask"].map(|name| port(name, Element::INT64, &[None, None])).to_vec();
        self.graph.output = vec![
            port("hidden", Element::FLOAT, &[None, None, Some(WIDTH)]),
            port("pooled", Element::FLOAT, &[None, Some(WIDTH)]),
        ];
        self.write()
    }

    fn write(self) -> Vec<u8> {
        let opset = OperatorSetIdProto { domain: None, version: Some(17) };
        let model = ModelProto {
            ir_version: Some(8),
            graph: Some(self.graph),
            opset_import: vec![opset],
            ..ModelProto::default()
        };
        model.write_buf().unwrap()
    }
}

/// A small convolutional network with all that its kind has: the product of channels with what is made of their means,
/// each channel by itself, a way around, and a classifier.
fn pictures() -> Vec<u8> {
    let mut graph = Encoder::new(false);
    let swish = |graph: &mut Encoder, x: &str| {
        let [three, zero, six] = [3.0, 0.0, 6.0].map(|c| graph.constant(&[], vec![c]));
        let sum = graph.op("Add", &[x, &three]);
        let clip = graph.op("Clip", &[&sum, &zero, &six]);
        let product = graph.op("Mul", &[x, &clip]);
        graph.op("Div", &[&product, &six])
    };
    let conv = |graph: &mut Encoder, x: &str, dims: [i64; 4], stride: i64, groups: i64| {
        let weights = graph.weight(&dims);
        let pads = vec![dims[2] / 2, dims[3] / 2, dims[2] / 2, dims[3] / 2];
        let attributes = vec![ints("strides", vec![stride, 1]), ints("pads", pads), int("group", groups)];
        let made = graph.op_with("Conv", &[x, &weights], attributes);
        let bias = graph.weight(&[1, dims[0], 1, 1]);
        graph.op("Add", &[&made, &bias])
    };
    let normed = |graph: &mut Encoder, x: &str, channels: i64| {
        let [scale, plus, mean] = [(); 3].map(|()| graph.weight(&[channels]));
        let variance = graph.constant(&[channels], (0..channels).map(|i| 0.5 + i as f32).collect());
        graph.op("BatchNormalization", &[x, &scale, &plus, &mean, &variance])
    };
    let first = conv(&mut graph, "x", [16, 3, 3, 3], 2, 1);
    let first = normed(&mut graph, &first, 16);
    let first = swish(&mut graph, &first);
    let each = conv(&mut graph, &first, [16, 1, 5, 5], 1, 16);
    let each = normed(&mut graph, &each, 16);
    let each = graph.op("Relu", &[&each]);
    let mean = graph.op("GlobalAveragePool", &[&each]);
    let low = conv(&mut graph, &mean, [4, 16, 1, 1], 1, 1);
    let low = graph.op("Relu", &[&low]);
    let gate = conv(&mut graph, &low, [16, 4, 1, 1], 1, 1);
    let gate = graph.op_with("HardSigmoid", &[&gate], vec![float("alpha", 0.25)]);
    let gated = graph.op("Mul", &[&each, &gate]);
    let last = conv(&mut graph, &gated, [16, 16, 1, 1], 1, 1);
    let sum = graph.op("Add", &[&first, &last]);
    let attributes =
        vec![ints("kernel_shape", vec![2, 2]), ints("strides", vec![2, 2]), ints("pads", vec![1, 0, 0, 0])];
    let pooled = graph.op_with("MaxPool", &[&sum], attributes);
    let pooled = swish(&mut graph, &pooled);
    let flat = graph.op("Flatten", &[&pooled]);
    let (matrix, bias) = (graph.weight(&[16 * 3 * 4, 5]), graph.weight(&[5]));
    let scores = graph.op("Gemm", &[&flat, &matrix, &bias]);
    graph.op_with("Softmax", &[&scores], vec![int("axis", -1)]);
    graph.graph.node.last_mut().unwrap().output = vec!["hidden".to_owned()];
    graph.graph.input = vec![port("x", Element::FLOAT, &[None, Some(3), Some(9), Some(8)])];
    graph.graph.output = vec![port("hidden", Element::FLOAT, &[None, Some(5)])];
    graph.write()
}

#[test]
fn a_convolutional_network_is_a_plan_and_each_picture_by_itself() {
    let mut network = network(pictures());
    let picture = |rows: usize, data: &[f32]| {
        let tensor = Tensor::new(vec![rows, 3, 9, 8], Data::F32(data.to_vec())).unwrap();
        vec![("x".to_owned(), tensor)]
    };
    let plan = network.plan.take().unwrap();
    let data = random(5 * 216, 3);
    let inputs = picture(5, &data);
    let want = network.run(&inputs).unwrap();
    let found = plan.run(&[&inputs[0].1]).made().unwrap();
    for (f, w) in found[0].as_f32().unwrap().iter().zip(numbers(&want, 0)) {
        assert!((f - w).abs() < 1e-5, "{f} instead of {w}");
    }
    for (i, data) in data.chunks(216).enumerate() {
        let alone = plan.run(&[&picture(1, data)[0].1]).made().unwrap();
        assert_eq!(alone[0].as_f32().unwrap(), &found[0].as_f32().unwrap()[5 * i..][..5], "picture {i}");
    }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(r#type), ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, AttributeType::INT) }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..attribute(name, AttributeType::INTS) }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, AttributeType::FLOAT) }
}

fn port(name: &str, element: Element, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = |(i, dim): (usize, &Option<i64>)| Dimension {
        dim_value: *dim,
        dim_param: dim.is_none().then(|| ["batch", "tokens"][i].to_owned()),
    };
    let shape = TensorShapeProto { dim: dims.iter().enumerate().map(dim).collect() };
    let tensor_type = TypeProtoTensor { elem_type: Some(element), shape: Some(shape) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() });
    ValueInfoProto { name: Some(name.to_owned()), r#type }
}

fn network(bytes: Vec<u8>) -> Network {
    let inspection = Inspection::of(&bytes).ok().unwrap();
    let ports = ports::declared(&inspection).unwrap();
    Network::of(bytes, vec![], &inspection, ports).unwrap()
}

/// Texts of one length, of which each row but the first ends in tokens that are none.
fn texts(rows: usize, tokens: usize) -> Tensors {
    let ids = (0..rows * tokens).map(|i| (i * 31 + 7) as i32 % WORDS as i32).collect();
    let mask = (0..rows * tokens)
        .map(|i| i32::from(i % tokens + i / tokens % 4 < tokens || i % tokens == 0))
        .collect();
    let tensor = |data| Tensor::new(vec![rows, tokens], Data::I32(data)).unwrap();
    vec![("ids".to_owned(), tensor(ids)), ("mask".to_owned(), tensor(mask))]
}

fn row(inputs: &Tensors, row: usize) -> Tensors {
    let cut = |(name, tensor): &(String, Tensor)| {
        let Data::I32(data) = tensor.data() else { unreachable!() };
        let tokens = tensor.shape()[1];
        let data = data[row * tokens..][..tokens].to_vec();
        (name.clone(), Tensor::new(vec![1, tokens], Data::I32(data)).unwrap())
    };
    inputs.iter().map(cut).collect()
}

fn numbers(outputs: &Tensors, i: usize) -> &[f32] {
    outputs[i].1.as_f32().unwrap()
}

#[test]
fn a_plan_equals_the_general_runtime() {
    for written_out in [false, true] {
        let mut network = network(Encoder::new(written_out).finish());
        assert!(network.plan.is_some());
        let plan = network.plan.take();
        for (rows, tokens) in [(1, 1), (1, 5), (3, 2), (4, 33), (2, 130)] {
            let inputs = texts(rows, tokens);
            let want = network.run(&inputs).unwrap();
            let given: Vec<&Tensor> = inputs.iter().map(|(_, tensor)| tensor).collect();
            let found = plan.as_ref().unwrap().run(&given).made().unwrap();
            for (found, (name, want)) in found.iter().zip(&want) {
                assert_eq!(found.shape(), want.shape(), "{name}");
                for (f, w) in found.as_f32().unwrap().iter().zip(want.as_f32().unwrap()) {
                    assert!((f - w).abs() < 2e-5, "{name} of {rows} x {tokens}: {f} instead of {w}");
                }
            }
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_in_any_company() {
    let network = network(Encoder::new(true).finish());
    for tokens in [1, 3, 40] {
        let inputs = texts(13, tokens);
        let whole = network.run(&inputs).unwrap();
        for i in 0..13 {
            let alone = network.run(&row(&inputs, i)).unwrap();
            for output in 0..2 {
                let (alone, whole) = (numbers(&alone, output), numbers(&whole, output));
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(
                    bits(alone),
                    bits(&whole[i * alone.len()..][..alone.len()]),
                    "{tokens} tokens, row {i}"
                );
            }
        }
    }
}

#[test]
fn what_a_plan_cannot_do_is_the_general_runtimes_to_say() {
    let model = OnnxModel::from_bytes(Encoder::new(false).finish()).unwrap();
    let mut inputs = texts(1, 3);
    inputs[0].1 = Tensor::new(vec![1, 3], Data::I32(vec![1, WORDS as i32, 2])).unwrap();
    assert!(model.run(&inputs).is_err());
    // More places than there are.
    assert!(model.run(&texts(1, 300)).is_err());
    assert!(model.run(&texts(1, 3)).is_ok());
    let mut other = Encoder::new(false);
    other.op("Sin", &["mask_number"]);
    other.graph.node.insert(
        0,
        NodeProto {
            op_type: Some("Cast".to_owned()),
            input: vec!["mask".to_owned()],
            output: vec!["mask_number".to_owned()],
            attribute: vec![int("to", 1)],
            ..NodeProto::default()
        },
    );
    let model = OnnxModel::from_bytes(other.finish()).unwrap();
    assert!(matches!(&model.engine, Engine::Network(network) if network.plan.is_none()));
}

/// A value that somebody else takes, too, stays one.
#[test]
fn what_is_needed_elsewhere_is_not_made_one_with_another() {
    for name in ["Softmax", "Erf", "Sqrt", "Div", "MatMul"] {
        let bytes = Encoder::new(true).finish();
        let mut model = ModelProto::parse_buf(&bytes).unwrap();
        let graph = model.graph.as_mut().unwrap();
        let mut all = graph.node.iter().filter(|node| node.op_type.as_deref() == Some(name));
        let shown = all.next_back().unwrap().output[0].clone();
        graph.output.push(port(&shown, Element::FLOAT, &[None, None, None, None][..2]));
        let mut network = network(model.write_buf().unwrap());
        let inputs = texts(2, 5);
        let found = network.run(&inputs);
        network.plan = None;
        match (found, network.run(&inputs)) {
            (Ok(found), Ok(want)) => {
                for output in 0..3 {
                    for (f, w) in numbers(&found, output).iter().zip(numbers(&want, output)) {
                        assert!((f - w).abs() < 2e-5, "{name}: {f} instead of {w}");
                    }
                }
            }
            (found, want) => assert_eq!(found.is_err(), want.is_err(), "{name}"),
        }
    }
}
