//! Exported networks compute what their layers mean: against values worked out by hand, against a plain
//! implementation in f64, and, where Python is at hand, in ONNX Runtime.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::f32::consts::LN_2;
use std::process::Command;

use common::{Dice, batch, networks, run};
use tensor::export::{Activation, Layer, Padding, sequential};
use tensor::{Data, DataType, Dim, OnnxModel, Tensor};

fn model(shape: &[usize], layers: &[Layer]) -> OnnxModel {
    OnnxModel::from_bytes(sequential(shape, layers).unwrap()).unwrap()
}

fn f32s(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::new(shape.to_vec(), Data::F32(data.to_vec())).unwrap()
}

#[track_caller]
fn assert_close(got: &Tensor, shape: &[usize], want: &[f32]) {
    assert_eq!(got.shape(), shape);
    for (i, (g, w)) in got.as_f32().unwrap().iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-5 * w.abs().max(1.0), "element {i}: {g} instead of {w}");
    }
}

#[test]
fn dense_by_hand() {
    let layers = [Layer::Dense {
        units: 2,
        kernel: vec![1.0, 2.0, 3.0, 4.0],
        bias: Some(vec![0.5, -20.0]),
        activation: Activation::Relu,
    }];
    let model = model(&[2], &layers);
    assert_close(&run(&model, &f32s(&[2, 2], &[1.0, 1.0, -1.0, 2.0])), &[2, 2], &[4.5, 0.0, 5.5, 0.0]);
    let spec = &model.signature().inputs[0];
    assert_eq!(
        (spec.name.as_str(), spec.data_type, spec.shape.as_slice()),
        ("input", DataType::F32, &[Dim::Any, Dim::Fixed(2)][..])
    );
    assert_eq!(model.signature().outputs[0].to_string(), "output: float32[?, 2]");
    assert!(model.is_batched() && model.notes().is_empty());
}

#[test]
fn a_convolution_with_same_padding_by_hand() {
    // One row of four pixels, window 1x3, stride 2: two cells; of the overhang of one, none is before.
    let layers = [Layer::Conv2d {
        filters: 1,
        kernel_size: [1, 3],
        kernel: vec![1.0, 10.0, 100.0],
        bias: None,
        strides: [1, 2],
        padding: Padding::Same,
        activation: Activation::Linear,
    }];
    let got = run(&model(&[1, 4, 1], &layers), &f32s(&[1, 1, 4, 1], &[1.0, 2.0, 3.0, 4.0]));
    assert_close(&got, &[1, 1, 2, 1], &[321.0, 43.0]);
}

#[test]
fn padding_never_wins_a_maximum() {
    let layers = [Layer::MaxPooling2d { pool_size: [2, 2], strides: [2, 2], padding: Padding::Same }];
    let got = run(
        &model(&[3, 3, 1], &layers),
        &f32s(&[1, 3, 3, 1], &[-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0]),
    );
    assert_close(&got, &[1, 2, 2, 1], &[-1.0, -3.0, -7.0, -9.0]);
}

#[test]
fn flatten_runs_over_channels_last() {
    let layers =
        [Layer::MaxPooling2d { pool_size: [1, 1], strides: [1, 1], padding: Padding::Valid }, Layer::Flatten];
    let pixels: Vec<f32> = (0..12).map(|i| i as f32).collect();
    assert_close(&run(&model(&[2, 3, 2], &layers), &f32s(&[1, 2, 3, 2], &pixels)), &[1, 12], &pixels);
}

#[test]
fn a_mean_leaves_masked_steps_out() {
    let layers = |mask_zero| {
        [
            Layer::Embedding { rows: 3, width: 2, table: vec![7.0, 7.0, 1.0, 2.0, 3.0, 4.0], mask_zero },
            Layer::GlobalAveragePooling1d,
        ]
    };
    let ids = Tensor::new(vec![3, 4], Data::I32(vec![1, 2, 0, 0, 2, 0, 2, 2, 0, 0, 0, 0])).unwrap();
    assert_close(&run(&model(&[4], &layers(true)), &ids), &[3, 2], &[2.0, 3.0, 3.0, 4.0, 0.0, 0.0]);
    assert_close(&run(&model(&[4], &layers(false)), &ids), &[3, 2], &[4.5, 5.0, 4.0, 4.75, 7.0, 7.0]);
}

#[test]
fn every_layer_equals_its_plain_definition() {
    let mut dice = Dice(5);
    for (name, shape, layers) in networks(&mut dice) {
        let model = model(&shape, &layers);
        let input = batch(&mut dice, &shape, &layers, 5);
        let (want_shape, want) = plain::network(&layers, &input);
        let got = run(&model, &input);
        assert_eq!(got.shape(), want_shape, "{name}");
        for (g, w) in got.as_f32().unwrap().iter().zip(&want) {
            assert!((f64::from(*g) - w).abs() <= 2e-5 * w.abs().max(1.0), "{name}: {g} instead of {w}");
        }
    }
}

#[test]
fn activations_stay_finite_where_they_should() {
    let ends = [-3e38, -1e7, -200.0, -0.0, 0.0, 200.0, 1e7, 3e38];
    for (activation, want) in [
        (Activation::Softplus, [0.0, 0.0, 0.0, LN_2, LN_2, 200.0, 1e7, 3e38]),
        (Activation::Sigmoid, [0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0]),
        (Activation::Tanh, [-1.0, -1.0, -1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        (Activation::Gelu { approximate: false }, [0.0, 0.0, 0.0, 0.0, 0.0, 200.0, 1e7, 3e38]),
        (Activation::Gelu { approximate: true }, [0.0, 0.0, 0.0, 0.0, 0.0, 200.0, 1e7, 3e38]),
        (Activation::Elu { alpha: 2.0 }, [-2.0, -2.0, -2.0, 0.0, 0.0, 200.0, 1e7, 3e38]),
    ] {
        let got = run(&model(&[8], &[Layer::Activation(activation)]), &f32s(&[1, 8], &ends));
        assert_close(&got, &[1, 8], &want);
    }
    let got =
        run(&model(&[3], &[Layer::Activation(Activation::Softmax)]), &f32s(&[1, 3], &[-1e30, 1e30, 1e30]));
    assert_close(&got, &[1, 3], &[0.0, 0.5, 0.5]);
}

#[test]
fn a_feature_that_never_varied_is_not_divided_by_zero() {
    let layers = [Layer::Normalization { mean: vec![3.0, 1.0], variance: vec![0.0, 4.0] }];
    assert_close(&run(&model(&[2], &layers), &f32s(&[1, 2], &[3.0, 5.0])), &[1, 2], &[0.0, 2.0]);
}

#[test]
fn layers_that_do_not_fit_are_named() {
    let dense = |units: usize, n: usize| Layer::Dense {
        units,
        kernel: vec![0.0; n],
        bias: None,
        activation: Activation::Linear,
    };
    let pool = Layer::MaxPooling2d { pool_size: [3, 3], strides: [1, 1], padding: Padding::Valid };
    let embedding = Layer::Embedding { rows: 1, width: 1, table: vec![0.0], mask_zero: false };
    let cases = [
        (vec![4], vec![dense(2, 8), dense(3, 5)], "layer 1: kernel has 5 values where [2, 3] is expected"),
        (vec![4], vec![pool.clone()], "layer 0: takes [height, width, channels], not [4]"),
        (vec![2, 9, 1], vec![pool], "layer 0: a window of [3, 3] does not fit into [2, 9]"),
        (vec![4], vec![dense(4, 16), embedding], "layer 1: an embedding must be the first layer"),
        (vec![4], vec![Layer::Reshape { shape: vec![3] }], "layer 0: [4] cannot become [3]"),
        (vec![4], vec![Layer::GlobalAveragePooling1d], "layer 0: takes [steps, features], not [4]"),
        (vec![usize::MAX, 2], vec![Layer::Flatten], "layer 0: [18446744073709551615, 2] is too large"),
    ];
    for (shape, layers, message) in cases {
        assert_eq!(sequential(&shape, &layers).unwrap_err().to_string(), message);
    }
}

/// Checks every network with the ONNX checker and runs it in ONNX Runtime, with the Python interpreter
/// that the environment variable `MEUSE_PYTHON` names.
#[test]
fn onnx_runtime_agrees() {
    let Some(python) = std::env::var_os("MEUSE_PYTHON") else { return };
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("onnx_runtime_agrees");
    std::fs::create_dir_all(&directory).unwrap();
    let mut dice = Dice(6);
    let le = |tensor: &Tensor| match tensor.data() {
        Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
        Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::Text(_) => unreachable!(),
    };
    let mut arguments = Vec::new();
    for (i, (_, shape, layers)) in networks(&mut dice).into_iter().enumerate() {
        let bytes = sequential(&shape, &layers).unwrap();
        let input = batch(&mut dice, &shape, &layers, 4);
        let output = run(&OnnxModel::from_bytes(bytes.clone()).unwrap(), &input);
        let file = |suffix: &str| directory.join(format!("{i}.{suffix}"));
        std::fs::write(file("onnx"), bytes).unwrap();
        std::fs::write(file("in"), le(&input)).unwrap();
        std::fs::write(file("out"), le(&output)).unwrap();
        arguments.push(directory.join(i.to_string()));
    }
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx_runtime_agrees.py");
    let status = Command::new(python).arg(script).args(arguments).status().unwrap();
    assert!(status.success());
}

/// The layers in f64, written for reading.
mod plain {
    use super::*;

    type Value = (Vec<usize>, Vec<f64>);

    pub(super) fn network(layers: &[Layer], input: &Tensor) -> Value {
        let data = match input.data() {
            Data::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::Text(_) => unreachable!(),
        };
        let mut value: Value = (input.shape().to_vec(), data);
        let mut masked = None;
        for layer in layers {
            if let Layer::Embedding { mask_zero: true, .. } = layer {
                masked = Some(value.1.clone());
            }
            value = apply(layer, value, masked.as_deref());
        }
        value
    }

    fn apply(layer: &Layer, (mut shape, mut x): Value, ids: Option<&[f64]>) -> Value {
        let channels = *shape.last().unwrap();
        match layer {
            Layer::Dense { units, kernel, bias, activation } => {
                let mut out = Vec::new();
                for row in x.chunks(channels) {
                    for u in 0..*units {
                        let sum: f64 =
                            row.iter().enumerate().map(|(i, v)| v * f64::from(kernel[i * units + u])).sum();
                        out.push(sum + bias.as_ref().map_or(0.0, |b| f64::from(b[u])));
                    }
                }
                *shape.last_mut().unwrap() = *units;
                activate(*activation, &mut out, *units);
                (shape, out)
            }
            Layer::Conv2d { filters, kernel_size: [kh, kw], kernel, bias, strides, padding, activation } => {
                let window = ([*kh, *kw], *strides, *padding);
                let (out_shape, mut out) = windows(&shape, window, *filters, |pixels, f| {
                    let sum: f64 = pixels
                        .iter()
                        .map(|&(dy, dx, at)| {
                            (0..channels)
                                .map(|c| {
                                    x[at + c] * f64::from(kernel[((f * channels + c) * kh + dy) * kw + dx])
                                })
                                .sum::<f64>()
                        })
                        .sum();
                    sum + bias.as_ref().map_or(0.0, |b| f64::from(b[f]))
                });
                activate(*activation, &mut out, *filters);
                (out_shape, out)
            }
            Layer::MaxPooling2d { pool_size, strides, padding } => {
                windows(&shape, (*pool_size, *strides, *padding), channels, |pixels, c| {
                    pixels.iter().map(|&(_, _, at)| x[at + c]).fold(f64::NEG_INFINITY, f64::max)
                })
            }
            Layer::BatchNormalization { gamma, beta, mean, variance, epsilon } => {
                for (i, v) in x.iter_mut().enumerate() {
                    let c = i % channels;
                    let normal =
                        (*v - f64::from(mean[c])) / (f64::from(variance[c]) + f64::from(*epsilon)).sqrt();
                    *v =
                        normal * f64::from(gamma.as_ref().unwrap()[c]) + f64::from(beta.as_ref().unwrap()[c]);
                }
                (shape, x)
            }
            Layer::Normalization { mean, variance } => {
                for (i, v) in x.iter_mut().enumerate() {
                    let c = i % channels;
                    *v = (*v - f64::from(mean[c])) / f64::from(variance[c]).sqrt().max(f64::from(1e-7f32));
                }
                (shape, x)
            }
            Layer::Flatten => (vec![shape[0], shape[1..].iter().product()], x),
            Layer::Reshape { shape: new } => ([&shape[..1], new].concat(), x),
            Layer::Embedding { width, table, .. } => {
                shape.push(*width);
                let row = |id: &f64| {
                    table[*id as usize * width..][..*width].iter().map(|&v| f64::from(v)).collect::<Vec<_>>()
                };
                (shape, x.iter().flat_map(row).collect())
            }
            Layer::GlobalAveragePooling1d => {
                let (rows, steps) = (shape[0], shape[1]);
                let mut out = vec![0.0; rows * channels];
                for row in 0..rows {
                    let kept: Vec<usize> =
                        (0..steps).filter(|s| ids.is_none_or(|ids| ids[row * steps + s] != 0.0)).collect();
                    for step in &kept {
                        for c in 0..channels {
                            out[row * channels + c] +=
                                x[(row * steps + step) * channels + c] / kept.len() as f64;
                        }
                    }
                }
                (vec![rows, channels], out)
            }
            Layer::Activation(activation) => {
                activate(*activation, &mut x, channels);
                (shape, x)
            }
        }
    }

    /// For each place of a window and each output channel, what `of` makes of the pixels in it, each as
    /// row and column in the window and index of its first channel.
    fn windows(
        shape: &[usize],
        (size, strides, padding): ([usize; 2], [usize; 2], Padding),
        channels_out: usize,
        of: impl Fn(&[(usize, usize, usize)], usize) -> f64,
    ) -> Value {
        let [n, h, w, c] = *shape else { panic!() };
        let extent = |length: usize, axis: usize| match padding {
            Padding::Valid => ((length - size[axis]) / strides[axis] + 1, 0),
            Padding::Same => {
                let out = length.div_ceil(strides[axis]);
                (out, ((out - 1) * strides[axis] + size[axis]).saturating_sub(length) / 2)
            }
        };
        let ((out_h, top), (out_w, left)) = (extent(h, 0), extent(w, 1));
        let mut out = Vec::new();
        for image in 0..n {
            for y in 0..out_h {
                for x in 0..out_w {
                    let mut pixels = Vec::new();
                    for dy in 0..size[0] {
                        for dx in 0..size[1] {
                            let (py, px) = (
                                (y * strides[0] + dy).wrapping_sub(top),
                                (x * strides[1] + dx).wrapping_sub(left),
                            );
                            if py < h && px < w {
                                pixels.push((dy, dx, ((image * h + py) * w + px) * c));
                            }
                        }
                    }
                    out.extend((0..channels_out).map(|channel| of(&pixels, channel)));
                }
            }
        }
        (vec![n, out_h, out_w, channels_out], out)
    }

    fn activate(activation: Activation, x: &mut [f64], channels: usize) {
        if activation == Activation::Softmax {
            for row in x.chunks_mut(channels) {
                let sum: f64 = row.iter().map(|v| v.exp()).sum();
                row.iter_mut().for_each(|v| *v = v.exp() / sum);
            }
            return;
        }
        for v in x {
            *v = one(activation, *v);
        }
    }

    fn one(activation: Activation, x: f64) -> f64 {
        let elu = |alpha: f64| if x > 0.0 { x } else { alpha * x.exp_m1() };
        match activation {
            Activation::Linear | Activation::Softmax => x,
            Activation::Relu => x.max(0.0),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::Gelu { approximate: true } => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            Activation::Gelu { approximate: false } => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            Activation::Elu { alpha } => elu(f64::from(alpha)),
            Activation::Selu => 1.050_700_987_355_480_5 * elu(1.673_263_242_354_377_2),
            Activation::Softplus => x.exp().ln_1p(),
            Activation::LeakyRelu { negative_slope } => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(negative_slope) * x
                }
            }
        }
    }

    /// The error function by its series.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        2.0 / std::f64::consts::PI.sqrt() * sum
    }
}
