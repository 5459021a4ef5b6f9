//! What the tests of this crate share: random numbers and random networks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use tensor::export::{Activation, Layer, Padding};
use tensor::{Data, OnnxModel, Tensor};

/// A deterministic source of random numbers (xorshift64*).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn roll(&mut self, below: usize) -> usize {
        ((self.bits() >> 33) % below as u64) as usize
    }

    /// Numbers in -scale..scale.
    pub(crate) fn floats(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| ((self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale).collect()
    }
}

pub(crate) fn dense(dice: &mut Dice, inputs: usize, units: usize, activation: Activation) -> Layer {
    let kernel = dice.floats(inputs * units, 0.5);
    Layer::Dense { units, kernel, bias: Some(dice.floats(units, 0.5)), activation }
}

pub(crate) fn conv(
    dice: &mut Dice,
    channels: usize,
    filters: usize,
    size: [usize; 2],
    stride: usize,
    padding: Padding,
) -> Layer {
    Layer::Conv2d {
        filters,
        kernel_size: size,
        kernel: dice.floats(filters * channels * size[0] * size[1], 0.5),
        bias: Some(dice.floats(filters, 0.5)),
        strides: [stride, stride],
        padding,
        activation: Activation::Relu,
    }
}

/// The network of the quickstart: 100 inputs, two hidden layers, ten classes.
pub(crate) fn classifier(dice: &mut Dice) -> Vec<Layer> {
    vec![
        dense(dice, 100, 64, Activation::Relu),
        dense(dice, 64, 64, Activation::Relu),
        dense(dice, 64, 10, Activation::Softmax),
    ]
}

/// Networks that use every layer, each with its input shape. An embedding takes ids below 11.
pub(crate) fn networks(dice: &mut Dice) -> Vec<(&'static str, Vec<usize>, Vec<Layer>)> {
    let normalization = Layer::Normalization {
        mean: dice.floats(7, 2.0),
        variance: vec![0.5, 0.25, 1.0, 4.0, 9.0, 2.0, 0.1],
    };
    let batch_norm = |dice: &mut Dice, n| Layer::BatchNormalization {
        gamma: Some(dice.floats(n, 1.0)),
        beta: Some(dice.floats(n, 1.0)),
        mean: dice.floats(n, 1.0),
        variance: dice.floats(n, 1.0).iter().map(|x| x.abs()).collect(),
        epsilon: 1e-3,
    };
    let mut activations = vec![Layer::Dense {
        units: 9,
        kernel: dice.floats(63, 1.0),
        bias: None,
        activation: Activation::Linear,
    }];
    for activation in [
        Activation::Gelu { approximate: false },
        Activation::Gelu { approximate: true },
        Activation::Elu { alpha: 0.7 },
        Activation::Selu,
        Activation::Softplus,
        Activation::LeakyRelu { negative_slope: 0.2 },
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Softmax,
    ] {
        activations.push(dense(dice, 9, 9, activation));
    }
    let pool = |size, stride, padding| Layer::MaxPooling2d {
        pool_size: [size, size],
        strides: [stride, stride],
        padding,
    };
    let embedding = |dice: &mut Dice, mask_zero| Layer::Embedding {
        rows: 11,
        width: 6,
        table: dice.floats(66, 1.0),
        mask_zero,
    };
    vec![
        ("classifier", vec![100], classifier(dice)),
        ("activations", vec![7], [vec![normalization, batch_norm(dice, 7)], activations].concat()),
        (
            "image, valid",
            vec![12, 9, 3],
            vec![
                conv(dice, 3, 5, [3, 2], 1, Padding::Valid),
                batch_norm(dice, 5),
                pool(2, 2, Padding::Valid),
                Layer::Flatten,
                dense(dice, 5 * 4 * 5, 4, Activation::Softmax),
            ],
        ),
        (
            "image, same",
            vec![7, 10, 2],
            vec![
                conv(dice, 2, 4, [3, 4], 2, Padding::Same),
                pool(3, 2, Padding::Same),
                Layer::Activation(Activation::Softmax),
                dense(dice, 4, 3, Activation::Tanh),
                Layer::Reshape { shape: vec![6, 3] },
                Layer::GlobalAveragePooling1d,
            ],
        ),
        ("channels stay last", vec![4, 4, 2], vec![conv(dice, 2, 3, [1, 1], 1, Padding::Same)]),
        (
            "text, masked",
            vec![8],
            vec![
                embedding(dice, true),
                Layer::GlobalAveragePooling1d,
                dense(dice, 6, 3, Activation::Softmax),
            ],
        ),
        (
            "text, unmasked",
            vec![8],
            vec![
                embedding(dice, false),
                Layer::GlobalAveragePooling1d,
                dense(dice, 6, 3, Activation::Sigmoid),
            ],
        ),
        ("nothing", vec![3], vec![]),
    ]
}

/// A batch of random inputs.
pub(crate) fn batch(dice: &mut Dice, shape: &[usize], layers: &[Layer], rows: usize) -> Tensor {
    let n = rows * shape.iter().product::<usize>();
    let data = match layers.first() {
        Some(Layer::Embedding { rows, .. }) => {
            Data::I32((0..n).map(|_| if dice.roll(3) == 0 { 0 } else { dice.roll(*rows) as i32 }).collect())
        }
        _ => Data::F32(dice.floats(n, 2.0)),
    };
    Tensor::new([&[rows], shape].concat(), data).unwrap()
}

pub(crate) fn run(model: &OnnxModel, input: &Tensor) -> Tensor {
    let mut outputs = model.run(&[("input".to_owned(), input.clone())]).unwrap();
    assert_eq!(outputs.len(), 1);
    outputs.remove(0).1
}

/// Rows `from..to` of a batch.
pub(crate) fn rows(tensor: &Tensor, from: usize, to: usize) -> Tensor {
    let n = tensor.row_len();
    let data = match tensor.data() {
        Data::F32(v) => Data::F32(v[from * n..to * n].to_vec()),
        Data::I32(v) => Data::I32(v[from * n..to * n].to_vec()),
        Data::Text(v) => Data::Text(v[from * n..to * n].to_vec()),
    };
    Tensor::new([&[to - from], &tensor.shape()[1..]].concat(), data).unwrap()
}
