//! One suite for every [`Runtime`]: what the port promises, tried on each implementation.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use serving::{Runtime, RuntimeError};
use tensor::export::{Activation, Layer, Padding, sequential};
use tensor::{Data, DataType, Dim, OnnxModel, Signature, Tensor, TensorSpec, Tensors};

/// `tanh` of a weighted sum of each row, and the row's length in text: in memory, in the simplest way.
struct Plain {
    signature: Signature,
}

impl Plain {
    fn new() -> Self {
        let spec = |name: &str, data_type, shape: &[Dim]| TensorSpec {
            name: name.into(),
            data_type,
            shape: shape.to_vec(),
        };
        let inputs = vec![
            spec("x", DataType::F32, &[Dim::Any, Dim::Fixed(3)]),
            spec("t", DataType::Text, &[Dim::Any]),
        ];
        let outputs = vec![
            spec("score", DataType::F32, &[Dim::Any, Dim::Fixed(1)]),
            spec("length", DataType::I32, &[Dim::Any]),
        ];
        Plain { signature: Signature { inputs, outputs } }
    }
}

impl Runtime for Plain {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, inputs: &Tensors) -> Result<Tensors, RuntimeError> {
        let [(_, x), (_, t)] = inputs.as_slice() else { return Err(RuntimeError::new("takes x and t")) };
        let (Some(x), Data::Text(t), true) = (x.as_f32(), t.data(), x.row_len() == 3 && x.rows() == t.rows())
        else {
            return Err(RuntimeError::new("takes x: float32[?, 3] and t: string[?]"));
        };
        let score = x.chunks(3).map(|r| (r[0] * 0.3 - r[1] * 0.7 + r[2]).tanh()).collect();
        let length = t.iter().map(|t| t.len() as i32).collect();
        Ok(vec![
            ("score".into(), Tensor::new(vec![t.len(), 1], Data::F32(score)).unwrap()),
            ("length".into(), Tensor::new(vec![t.len()], Data::I32(length)).unwrap()),
        ])
    }
}

/// Numbers that look random and are the same each time.
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32) - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn dense(seed: u64, inputs: usize, units: usize, activation: Activation) -> Layer {
    Layer::Dense {
        units,
        kernel: numbers(seed, inputs * units),
        bias: Some(numbers(seed + 1, units)),
        activation,
    }
}

fn onnx(input_shape: &[usize], layers: &[Layer]) -> OnnxModel {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    std::fs::write(&path, sequential(input_shape, layers).unwrap()).unwrap();
    OnnxModel::load(&path).unwrap()
}

fn runtimes() -> Vec<(&'static str, Arc<dyn Runtime>)> {
    let mlp = [
        dense(1, 100, 64, Activation::Relu),
        dense(2, 64, 64, Activation::Relu),
        dense(3, 64, 10, Activation::Softmax),
    ];
    let convolution = [
        Layer::Conv2d {
            filters: 4,
            kernel_size: [3, 3],
            kernel: numbers(4, 4 * 2 * 9),
            bias: None,
            strides: [1, 1],
            padding: Padding::Same,
            activation: Activation::Relu,
        },
        Layer::MaxPooling2d { pool_size: [2, 2], strides: [2, 2], padding: Padding::Valid },
        Layer::Flatten,
        dense(5, 4 * 4 * 4, 3, Activation::Softmax),
    ];
    let embedding = [
        Layer::Embedding { rows: 50, width: 8, table: numbers(6, 400), mask_zero: true },
        Layer::GlobalAveragePooling1d,
        dense(7, 8, 5, Activation::Sigmoid),
    ];
    vec![
        ("plain", Arc::new(Plain::new())),
        ("onnx mlp", Arc::new(onnx(&[100], &mlp))),
        ("onnx convolution", Arc::new(onnx(&[8, 8, 2], &convolution))),
        ("onnx embedding", Arc::new(onnx(&[7], &embedding))),
    ]
}

/// Row `i` of a made-up batch is the same in batches of any size.
fn batch(signature: &Signature, rows: std::ops::Range<usize>) -> Tensors {
    let tensor = |spec: &TensorSpec| {
        let mut shape: Vec<usize> =
            spec.shape.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { 1 }).collect();
        let width: usize = shape[1..].iter().product();
        shape[0] = rows.len();
        let of_row = |i: usize| numbers(i as u64 * 7919 + 13, width);
        let data = match spec.data_type {
            DataType::F32 => Data::F32(rows.clone().flat_map(of_row).collect()),
            DataType::I32 => {
                Data::I32(rows.clone().flat_map(of_row).map(|v| ((v + 0.5) * 50.0) as i32).collect())
            }
            DataType::Text => Data::Text(
                rows.clone().flat_map(of_row).map(|v| "é".repeat((v * 40.0).abs() as usize)).collect(),
            ),
        };
        (spec.name.clone(), Tensor::new(shape, data).unwrap())
    };
    signature.inputs.iter().map(tensor).collect()
}

/// The elements of row `i`, bit for bit.
fn bits(outputs: &Tensors, i: usize) -> Vec<String> {
    let of = |t: &Tensor| {
        let elements = i * t.row_len()..(i + 1) * t.row_len();
        match t.data() {
            Data::F32(v) => format!("{:?}", v[elements].iter().map(|v| v.to_bits()).collect::<Vec<_>>()),
            Data::I32(v) => format!("{:?}", &v[elements]),
            Data::Text(v) => format!("{:?}", &v[elements]),
        }
    };
    outputs.iter().map(|(_, t)| of(t)).collect()
}

#[test]
fn outputs_are_those_of_the_signature() {
    for (name, runtime) in runtimes() {
        let signature = runtime.signature();
        for rows in [1, 2, 5] {
            let outputs = runtime.predict(&batch(signature, 0..rows)).unwrap();
            assert_eq!(outputs.len(), signature.outputs.len(), "{name}");
            for ((output, tensor), spec) in outputs.iter().zip(&signature.outputs) {
                assert_eq!(output, &spec.name, "{name}");
                assert_eq!(tensor.data().data_type(), spec.data_type, "{name}: {output}");
                assert_eq!(tensor.rows(), rows, "{name}: {output}");
                for (n, dim) in tensor.shape().iter().zip(&spec.shape).skip(1) {
                    assert!(*dim == Dim::Any || *dim == Dim::Fixed(*n), "{name}: {output}");
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for (name, runtime) in runtimes() {
        let signature = runtime.signature();
        let alone: Vec<_> =
            (0..70).map(|i| bits(&runtime.predict(&batch(signature, i..i + 1)).unwrap(), 0)).collect();
        for range in [0..2, 3..6, 0..17, 1..33, 0..64, 5..70] {
            let outputs = runtime.predict(&batch(signature, range.clone())).unwrap();
            for (place, i) in range.clone().enumerate() {
                assert_eq!(bits(&outputs, place), alone[i], "{name}: row {i} in a batch of {}", range.len());
            }
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_bits_from_any_thread() {
    for (name, runtime) in runtimes() {
        let inputs = batch(runtime.signature(), 0..9);
        let expected = runtime.predict(&inputs).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(runtime.predict(&inputs).unwrap(), expected, "{name}");
                    }
                });
            }
        });
    }
}

#[test]
fn what_the_signature_does_not_admit_is_an_error() {
    for (name, runtime) in runtimes() {
        let good = batch(runtime.signature(), 0..2);
        let changed = |change: &dyn Fn(&Tensor) -> Tensor| -> Tensors {
            let mut bad = good.clone();
            bad[0].1 = change(&bad[0].1);
            bad
        };
        let wide = |t: &Tensor| {
            let mut shape = t.shape().to_vec();
            shape.push(2);
            let data = match t.data() {
                Data::I32(v) => Data::I32(v.repeat(2)),
                Data::F32(v) => Data::F32(v.repeat(2)),
                Data::Text(v) => Data::Text([v.clone(), v.clone()].concat()),
            };
            Tensor::new(shape, data).unwrap()
        };
        let texts = |t: &Tensor| {
            Tensor::new(t.shape().to_vec(), Data::Text(vec!["x".into(); t.data().len()])).unwrap()
        };
        for bad in [vec![], changed(&wide), changed(&texts)] {
            assert!(runtime.predict(&bad).is_err(), "{name}");
        }
    }
}
