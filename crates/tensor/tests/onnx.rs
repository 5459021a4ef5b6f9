//! Loading and running ONNX files: what is checked, what is promised, and files that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{Dice, batch, classifier, networks, rows, run};
use rten_onnx::onnx::{
    AttributeProto, AttributeType, DataLocation, DataType as Element, Dimension, GraphProto, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto,
    TypeProtoTensor, ValueInfoProto,
};
use tensor::export::{Layer, sequential};
use tensor::{Data, DataType, Dim, Lane, LoadError, LoadLimits, OnnxModel, RunError, Tensor};

fn port(name: &str, element: Element, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim =
        |d: &Option<i64>| Dimension { dim_value: *d, dim_param: d.is_none().then(|| "batch".to_owned()) };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor_type = TypeProtoTensor { elem_type: Some(element), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() }),
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op.to_owned()),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

fn model(graph: GraphProto) -> Vec<u8> {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    ModelProto {
        ir_version: Some(9),
        opset_import: vec![opset("", 20), opset("ai.onnx.ml", 3)],
        graph: Some(graph),
        ..ModelProto::default()
    }
    .write_buf()
    .unwrap()
}

fn unary(op: NodeProto, input: Element, output: Element) -> Vec<u8> {
    let dims = [None, Some(2)];
    model(GraphProto {
        node: vec![op],
        input: vec![port("x", input, &dims)],
        output: vec![port("y", output, &dims)],
        ..GraphProto::default()
    })
}

fn refusal(bytes: Vec<u8>) -> String {
    OnnxModel::from_bytes(bytes).unwrap_err().to_string()
}

fn x(shape: &[usize], data: Data) -> Vec<(String, Tensor)> {
    vec![("x".to_owned(), Tensor::new(shape.to_vec(), data).unwrap())]
}

/// The determinism contract: the same row gives the same bits alone and in any batch, on any lane.
#[test]
fn a_row_gives_the_same_bits_in_every_batch() {
    let mut dice = Dice(1);
    for (name, shape, layers) in networks(&mut dice) {
        let model = OnnxModel::from_bytes(sequential(&shape, &layers).unwrap()).unwrap();
        let total = 67;
        let input = batch(&mut dice, &shape, &layers, total);
        let whole = run(&model, &input);
        let bits = |tensor: &Tensor| tensor.as_f32().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        for size in (1..=18).chain([31, 32, 33, 64, 65]) {
            for from in (0..total).step_by(size) {
                let to = (from + size).min(total);
                let part = run(&model, &rows(&input, from, to));
                assert_eq!(part.shape()[0], to - from);
                assert_eq!(bits(&part), bits(&rows(&whole, from, to)), "{name}: rows {from}..{to}");
            }
        }
        let lane = Lane::new();
        assert_eq!(bits(&lane.enter(|| run(&model, &input))), bits(&whole), "{name} on a lane");
    }
}

fn weights(dice: &mut Dice, name: &str, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(Element::FLOAT),
        float_data: dice.floats(dims.iter().product::<i64>() as usize, 0.7),
        ..TensorProto::default()
    }
}

fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::INTS),
        ints,
        ..AttributeProto::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::INT),
        i: Some(i),
        ..AttributeProto::default()
    }
}

/// Attention over `[batch, steps, 12]`, its mean, and a classifier: products of every rank.
fn attention(dice: &mut Dice) -> Vec<u8> {
    let mut transpose = node("Transpose", &["k"], "kt");
    transpose.attribute = vec![ints("perm", vec![0, 2, 1])];
    let mut mean = node("ReduceMean", &["n"], "m");
    mean.attribute = vec![ints("axes", vec![1]), int("keepdims", 0)];
    let mut softmax = node("Softmax", &["s"], "p");
    softmax.attribute = vec![int("axis", -1)];
    let mut graph = GraphProto {
        node: vec![
            node("MatMul", &["x", "wq"], "q"),
            node("MatMul", &["x", "wk"], "k"),
            transpose,
            node("MatMul", &["q", "kt"], "s"),
            softmax,
            node("MatMul", &["p", "x"], "a"),
            node("Add", &["a", "x"], "r"),
            node("LayerNormalization", &["r", "gamma", "beta"], "n"),
            mean,
            node("Gemm", &["m", "wo", "bo"], "y"),
        ],
        input: vec![port("x", Element::FLOAT, &[None, Some(-1), Some(12)])],
        output: vec![port("y", Element::FLOAT, &[None, Some(5)])],
        ..GraphProto::default()
    };
    for (name, dims) in [
        ("wq", &[12, 7][..]),
        ("wk", &[12, 7]),
        ("gamma", &[12]),
        ("beta", &[12]),
        ("wo", &[12, 5]),
        ("bo", &[5]),
    ] {
        graph.initializer.push(weights(dice, name, dims));
    }
    model(graph)
}

/// Convolutions of one channel, of each channel alone, of one pixel, and backwards, then a classifier.
fn convolutions(dice: &mut Dice) -> Vec<u8> {
    let mut alone = node("Conv", &["x", "each"], "c1");
    alone.attribute = vec![int("group", 3), ints("pads", vec![1, 1, 1, 1])];
    let mut graph = GraphProto {
        node: vec![
            alone,
            node("Conv", &["c1", "pixel"], "c2"),
            node("ConvTranspose", &["c2", "back"], "c3"),
            node("Conv", &["c3", "one"], "c4"),
            node("GlobalAveragePool", &["c3"], "g"),
            node("Flatten", &["g"], "f1"),
            node("Flatten", &["c4"], "f2"),
            node("Gemm", &["f1", "w1", "b"], "y1"),
            node("MatMul", &["f2", "w2"], "y2"),
            node("Add", &["y1", "y2"], "y"),
        ],
        input: vec![port("x", Element::FLOAT, &[None, Some(3), Some(6), Some(5)])],
        output: vec![port("y", Element::FLOAT, &[None, Some(4)])],
        ..GraphProto::default()
    };
    for (name, dims) in [
        ("each", &[3, 1, 3, 3][..]),
        ("pixel", &[4, 3, 1, 1]),
        ("back", &[4, 6, 2, 2]),
        ("one", &[1, 6, 3, 3]),
        ("w1", &[6, 4]),
        ("b", &[4]),
        ("w2", &[20, 4]),
    ] {
        graph.initializer.push(weights(dice, name, dims));
    }
    let mut bytes = ModelProto::parse_buf(&model(graph)).unwrap();
    for node in bytes
        .graph
        .as_mut()
        .unwrap()
        .node
        .iter_mut()
        .filter(|n| n.op_type.as_deref() == Some("ConvTranspose"))
    {
        node.attribute.push(ints("kernel_shape", vec![2, 2]));
    }
    bytes.write_buf().unwrap()
}

/// The same promise for networks made elsewhere.
#[test]
fn a_row_gives_the_same_bits_in_every_batch_of_other_networks() {
    let mut dice = Dice(4);
    let mut cases = vec![(convolutions(&mut dice), vec![3, 6, 5])];
    let attention = attention(&mut dice);
    cases.extend([1, 2, 9].map(|steps| (attention.clone(), vec![steps, 12])));
    for (bytes, shape) in cases {
        let model = OnnxModel::from_bytes(bytes).unwrap();
        let total = 21;
        let input = Tensor::new(
            [&[total], &shape[..]].concat(),
            Data::F32(dice.floats(total * shape.iter().product::<usize>(), 1.0)),
        )
        .unwrap();
        let run = |input: Tensor| {
            let y = model.run(&[("x".to_owned(), input)]).unwrap().remove(0).1;
            y.as_f32().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        let whole = run(input.clone());
        let width = whole.len() / total;
        for size in [1, 2, 3, 4, 7, 8, 16] {
            for from in (0..total).step_by(size) {
                let to = (from + size).min(total);
                let part = run(rows(&input, from, to));
                assert_eq!(part, whole[from * width..to * width], "{shape:?}: rows {from}..{to}");
            }
        }
    }
}

#[test]
fn many_threads_share_a_model() {
    let mut dice = Dice(2);
    let layers = classifier(&mut dice);
    let model = Arc::new(OnnxModel::from_bytes(sequential(&[100], &layers).unwrap()).unwrap());
    let input = batch(&mut dice, &[100], &layers, 8);
    let whole = run(&model, &input);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (model, input, whole) = (&model, &input, &whole);
            scope.spawn(move || {
                for i in 0..50 {
                    let row = (i + thread) % 8;
                    assert_eq!(run(model, &rows(input, row, row + 1)), rows(whole, row, row + 1));
                }
            });
        }
    });
}

#[test]
fn inputs_are_checked_at_the_door() {
    let model =
        OnnxModel::from_bytes(unary(node("Neg", &["x"], "y"), Element::FLOAT, Element::FLOAT)).unwrap();
    let f32s = |n: usize| Data::F32(vec![1.0; n]);
    let takes = "x: float32[?, 2]".to_owned();
    let error = |inputs: &[(String, Tensor)]| model.run(inputs).unwrap_err();
    assert_eq!(error(&[]), RunError::MissingInput { name: "x".into(), takes: takes.clone() });
    let good = x(&[1, 2], f32s(2)).remove(0);
    let other = ("z".to_owned(), good.1.clone());
    assert_eq!(
        error(&[good.clone(), other]),
        RunError::UnknownInput { name: "z".into(), takes: takes.clone() }
    );
    assert_eq!(error(&[good.clone(), good]), RunError::RepeatedInput { name: "x".into() });
    let wrong = RunError::WrongType { name: "x".into(), expected: DataType::F32, found: DataType::I32 };
    assert_eq!(error(&x(&[1, 2], Data::I32(vec![1, 2]))), wrong);
    for shape in [vec![2], vec![1, 3], vec![1, 2, 1], vec![]] {
        let n = shape.iter().product();
        assert_eq!(
            error(&x(&shape, f32s(n))),
            RunError::WrongShape { expected: takes.clone(), found: shape }
        );
    }
    assert!(Tensor::new(vec![usize::MAX, 2], f32s(2)).is_err());
    let none = model.run(&x(&[0, 2], f32s(0))).unwrap();
    assert_eq!(none[0].1.shape(), [0, 2]);
    let some = model.run(&x(&[1, 2], f32s(2))).unwrap();
    assert_eq!(some[0].1.as_f32().unwrap(), [-1.0, -1.0]);
}

#[test]
fn element_types_that_the_runtime_has_not_are_carried_and_noted() {
    let load =
        |element| OnnxModel::from_bytes(unary(node("Identity", &["x"], "y"), element, element)).unwrap();
    for (element, data_type, note) in [
        (Element::INT64, DataType::I32, "input `x` is INT64 in the file, carried as int32 here"),
        (Element::DOUBLE, DataType::F32, "input `x` is DOUBLE in the file, computed as float32 here"),
        (Element::FLOAT16, DataType::F32, "input `x` is FLOAT16 in the file, computed as float32 here"),
    ] {
        let model = load(element);
        assert_eq!(model.signature().inputs[0].data_type, data_type);
        assert_eq!(model.notes()[0], note);
    }
    for (element, min, max) in [(Element::UINT8, 0, 255), (Element::INT8, -128, 127), (Element::BOOL, 0, 1)] {
        let model = load(element);
        let edges = model.run(&x(&[1, 2], Data::I32(vec![min, max]))).unwrap();
        assert_eq!(edges[0].1.data(), &Data::I32(vec![min, max]), "{element}");
        let error = model.run(&x(&[1, 2], Data::I32(vec![0, max + 1]))).unwrap_err();
        assert_eq!(error, RunError::OutOfRange { name: "x".into(), min, max, found: max + 1 });
    }
    let texts = OnnxModel::from_bytes(unary(node("Identity", &["x"], "y"), Element::STRING, Element::STRING));
    assert_eq!(texts.unwrap().signature().inputs[0].data_type, DataType::Text);
    let text = refusal(unary(node("Conv", &["x"], "y"), Element::STRING, Element::STRING));
    assert_eq!(text, "the model uses operators that are not supported: Conv");
    let text = refusal(unary(node("Identity", &["x"], "y"), Element::UINT64, Element::UINT64));
    assert_eq!(text, "input `x` is UINT64, which is not supported");
}

#[test]
fn operators_that_are_missing_are_named() {
    let text = refusal(unary(node("Frobnicate", &["x"], "y"), Element::FLOAT, Element::FLOAT));
    assert_eq!(text, "the model uses operators that are not supported: Frobnicate");
    let mut columns = node("DictVectorizer", &["x"], "y");
    columns.domain = Some("ai.onnx.ml".to_owned());
    let text = refusal(unary(columns, Element::FLOAT, Element::FLOAT));
    assert_eq!(text, "the model uses operators that are not supported: DictVectorizer (ai.onnx.ml)");
}

#[test]
fn a_convolution_may_leave_its_window_to_its_weights() {
    let weights = TensorProto {
        name: Some("w".into()),
        dims: vec![1, 1, 2, 2],
        data_type: Some(Element::FLOAT),
        float_data: vec![1.0; 4],
        ..TensorProto::default()
    };
    let bytes = model(GraphProto {
        node: vec![node("Conv", &["x", "w"], "y")],
        initializer: vec![weights],
        input: vec![port("x", Element::FLOAT, &[None, Some(1), Some(2), Some(3)])],
        output: vec![port("y", Element::FLOAT, &[None, Some(1), Some(1), Some(2)])],
        ..GraphProto::default()
    });
    let model = OnnxModel::from_bytes(bytes).unwrap();
    let y = model.run(&x(&[1, 1, 2, 3], Data::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))).unwrap();
    assert_eq!(y[0].1.as_f32().unwrap(), [12.0, 16.0]);
}

#[test]
fn operators_that_the_runtime_lacks_or_gets_wrong() {
    let infinity = f32::INFINITY;
    for (op, ins, outs) in [
        ("Sign", [-2.5, 0.0], [-1.0, 0.0]),
        ("Sign", [-infinity, 1e-40], [-1.0, 1.0]),
        ("Selu", [2.0, -1.0], [2.101_402, -1.111_330_7]),
        ("Softplus", [200.0, 0.0], [200.0, std::f32::consts::LN_2]),
    ] {
        let model =
            OnnxModel::from_bytes(unary(node(op, &["x"], "y"), Element::FLOAT, Element::FLOAT)).unwrap();
        let y = model.run(&x(&[1, 2], Data::F32(ins.to_vec()))).unwrap();
        assert_eq!(y[0].1.as_f32().unwrap(), outs, "{op}");
    }
}

/// A model whose first dimension is not a batch though it looks like one: each element is a sum over it.
#[test]
fn a_first_dimension_that_is_no_batch_is_found_out() {
    let mut sum = node("CumSum", &["x", "axis"], "s");
    sum.attribute = vec![];
    let ones = |name: &str, dims: &[i64], n: usize| TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(Element::FLOAT),
        float_data: vec![1.0; n],
        ..TensorProto::default()
    };
    let axis = TensorProto {
        name: Some("axis".into()),
        data_type: Some(Element::INT64),
        int64_data: vec![0],
        ..TensorProto::default()
    };
    let bytes = model(GraphProto {
        node: vec![sum, node("MatMul", &["s", "w"], "y")],
        initializer: vec![axis, ones("w", &[2, 2], 4)],
        input: vec![port("x", Element::FLOAT, &[None, Some(2)])],
        output: vec![port("y", Element::FLOAT, &[None, Some(2)])],
        ..GraphProto::default()
    });
    let model = OnnxModel::from_bytes(bytes).unwrap();
    for _ in 0..2 {
        let y = model.run(&x(&[1, 2], Data::F32(vec![1.0, 2.0]))).unwrap();
        assert_eq!((y[0].1.shape(), y[0].1.as_f32().unwrap()), (&[1, 2][..], &[3.0, 3.0][..]));
    }
}

/// Dynamic quantisation takes the range of the whole batch: rows must not see each other through it.
#[test]
fn dynamically_quantised_rows_do_not_mix() {
    let mut quantise = node("DynamicQuantizeLinear", &["x"], "q");
    quantise.output = vec!["q".into(), "scale".into(), "zero".into()];
    let bytes = model(GraphProto {
        node: vec![quantise, node("DequantizeLinear", &["q", "scale", "zero"], "y")],
        input: vec![port("x", Element::FLOAT, &[None, Some(2)])],
        output: vec![port("y", Element::FLOAT, &[None, Some(2)])],
        ..GraphProto::default()
    });
    let model = OnnxModel::from_bytes(bytes).unwrap();
    let alone = model.run(&x(&[1, 2], Data::F32(vec![0.1, 0.7]))).unwrap();
    let beside = model.run(&x(&[2, 2], Data::F32(vec![0.1, 0.7, 100.0, -100.0]))).unwrap();
    assert_eq!(rows(&beside[0].1, 0, 1), alone[0].1);
}

#[test]
fn other_formats_are_named_with_what_to_do() {
    let directory = tempdir("formats");
    let torch = [b"PK\x03\x04", &[0; 26][..], b"archive/data.pkl", &[0; 100]].concat();
    let keras = [b"PK\x03\x04", &[0; 26][..], b"model.weights.h5", &[0; 100]].concat();
    let cases: [(&[u8], &str, &str); 14] = [
        (b"\x80\x04\x95\x10\0\0\0", "a Python pickle", "skl2onnx"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9", "a PyTorch file", "torch.onnx.export"),
        (b"\x78\x9c\x03\x00", "a compressed joblib pickle", "skl2onnx"),
        (&torch, "a PyTorch file", "torch.onnx.export"),
        (&keras, "a Keras archive", "model.export"),
        (b"PK\x03\x04rest", "a zip archive", "upload the file within it"),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file", "model.export"),
        (b"\x1f\x8b\x08\0", "gzip-compressed", "upload the file within it"),
        (b"GGUF\x03\0\0\0", "a GGUF language model", "language model"),
        (b"\x1c\0\0\0TFL3\0\0", "a TensorFlow Lite file", "model.export"),
        (b"\x10\0\0\0\0\0\0\0{\"a\":1}", "a safetensors file", "without a network"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        (b"{\"learner\": {}}", "a text file", "upload an ONNX file"),
        (b"", "empty", "upload it again"),
    ];
    for (i, (bytes, found, advice)) in cases.into_iter().enumerate() {
        let path = directory.join(format!("{i}.onnx"));
        std::fs::write(&path, bytes).unwrap();
        let text = OnnxModel::load(&path).unwrap_err().to_string();
        assert!(text.starts_with(&format!("the file is {found}")) && text.contains(advice), "{text}");
    }
    std::fs::write(directory.join("saved_model.pb"), [0x08, 0x01, 0x12, 0x00]).unwrap();
    for path in [directory.clone(), directory.join("saved_model.pb")] {
        let text = OnnxModel::load(&path).unwrap_err().to_string();
        assert!(text.starts_with("the file is a TensorFlow SavedModel"), "{text}");
    }
    assert!(
        refusal(b"hello, this is no model".to_vec()).starts_with("the file is not a readable ONNX model")
    );
    assert!(matches!(OnnxModel::load(&directory.join("absent")), Err(LoadError::Io { .. })));
    let limits = LoadLimits { bytes_max: 3 };
    let too_large = OnnxModel::load_within(&directory.join("0.onnx"), &limits).unwrap_err();
    assert_eq!(too_large.to_string(), "the model takes 7 bytes, more than the 3 allowed");
}

fn tempdir(name: &str) -> std::path::PathBuf {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("onnx-{name}"));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

#[test]
fn weights_beside_the_model_are_read_from_nowhere_else() {
    let directory = tempdir("external");
    let with = |location: &str| {
        // Where the data start and how long they are may be left out.
        let entry = |key: &str, value: &str| StringStringEntryProto {
            key: Some(key.into()),
            value: Some(value.into()),
        };
        let weights = TensorProto {
            name: Some("w".into()),
            dims: vec![2],
            data_type: Some(Element::FLOAT),
            data_location: Some(DataLocation::EXTERNAL),
            external_data: vec![entry("location", location)],
            ..TensorProto::default()
        };
        let bytes = model(GraphProto {
            node: vec![node("Mul", &["x", "w"], "y")],
            initializer: vec![weights],
            input: vec![port("x", Element::FLOAT, &[None, Some(2)])],
            output: vec![port("y", Element::FLOAT, &[None, Some(2)])],
            ..GraphProto::default()
        });
        let path = directory.join("model.onnx");
        std::fs::write(&path, bytes).unwrap();
        OnnxModel::load(&path)
    };
    let text = with("w.bin").unwrap_err().to_string();
    assert!(text.contains("upload the file together with the model"), "{text}");
    std::fs::write(directory.join("w.bin"), [2f32, 3.0].map(f32::to_le_bytes).concat()).unwrap();
    let y = with("w.bin").unwrap().run(&x(&[1, 2], Data::F32(vec![1.0, 1.0]))).unwrap();
    assert_eq!(y[0].1.as_f32().unwrap(), [2.0, 3.0]);
    for location in ["../w.bin", "/etc/hostname", "a/../../w.bin", ""] {
        let text = with(location).unwrap_err().to_string();
        assert!(text.contains("only files beside the model"), "{text}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", directory.join("link")).unwrap();
        assert!(with("link").unwrap_err().to_string().contains("link"));
    }
    std::fs::write(directory.join("w.bin"), [0; 4]).unwrap();
    assert!(with("w.bin").is_err());
}

/// Damaged files are refused or run, but nothing panics through, hangs or takes memory beyond measure.
#[test]
fn damaged_files_do_no_harm() {
    let mut dice = Dice(3);
    let networks: Vec<(Vec<usize>, Vec<Layer>)> =
        networks(&mut dice).into_iter().map(|(_, s, l)| (s, l)).collect();
    for (shape, layers) in &networks[1..] {
        let good = sequential(shape, layers).unwrap();
        let input = batch(&mut dice, shape, layers, 2);
        let attempt = |bytes: Vec<u8>| {
            let Ok(model) = OnnxModel::from_bytes(bytes) else { return };
            if model.signature().inputs.iter().all(|spec| spec.shape.len() < 8) {
                let _ = model.run(&[("input".to_owned(), input.clone())]);
            }
        };
        for cut in (0..good.len()).step_by(1 + good.len() / 150) {
            attempt(good[..cut].to_vec());
        }
        for _ in 0..400 {
            let mut bytes = good.clone();
            for _ in 0..1 + dice.roll(3) {
                let at = dice.roll(bytes.len());
                match dice.roll(3) {
                    0 => bytes[at] ^= 1 << dice.roll(8),
                    1 => bytes[at] = [0, 0x7F, 0x80, 0xFF][dice.roll(4)],
                    _ => drop(bytes.remove(at)),
                }
            }
            attempt(bytes);
        }
    }
}

#[test]
fn lengths_and_nesting_that_a_file_only_claims() {
    // A text of 2^60 bytes.
    assert!(refusal(b"\x08\x09\x12\x80\x80\x80\x80\x80\x80\x80\x80\x10".to_vec()).contains("damaged"));
    // Graphs in attributes of nodes in graphs, and so on.
    let mut graph = GraphProto::default();
    for _ in 0..40 {
        let attribute = AttributeProto {
            name: Some("then_branch".into()),
            r#type: Some(AttributeType::GRAPH),
            g: Some(graph),
            ..AttributeProto::default()
        };
        let mut branch = node("If", &["c"], "y");
        branch.attribute = vec![attribute];
        graph = GraphProto {
            node: vec![branch],
            output: vec![port("y", Element::FLOAT, &[])],
            ..GraphProto::default()
        };
    }
    assert!(refusal(model(graph)).contains("nest deeper"));
    // A chain of operators as long as the planner can bear, and a longer one.
    let chain = |length: usize| {
        let name = |i: usize| {
            if i == 0 {
                "x".to_owned()
            } else if i == length {
                "y".to_owned()
            } else {
                format!("v{i}")
            }
        };
        let ops = ["Sin", "Neg", "Relu"];
        model(GraphProto {
            node: (0..length).map(|i| node(ops[i % 3], &[&name(i)], &name(i + 1))).collect(),
            input: vec![port("x", Element::FLOAT, &[None, Some(2)])],
            output: vec![port("y", Element::FLOAT, &[None, Some(2)])],
            ..GraphProto::default()
        })
    };
    let long = OnnxModel::from_bytes(chain(4_000)).unwrap();
    assert!(long.run(&x(&[1, 2], Data::F32(vec![0.5, 1.0]))).is_ok());
    assert!(refusal(chain(4_001)).contains("depend on one another"));
    // Two values that need each other.
    let cycle = model(GraphProto {
        node: vec![node("Neg", &["b"], "a"), node("Neg", &["a"], "b"), node("Neg", &["b"], "y")],
        input: vec![port("x", Element::FLOAT, &[None])],
        output: vec![port("y", Element::FLOAT, &[None])],
        ..GraphProto::default()
    });
    assert!(refusal(cycle).contains("used before it is computed"));
    // A padding of four billion cells.
    let mut pool = node("MaxPool", &["x"], "y");
    pool.attribute = vec![ints("kernel_shape", vec![1, 1]), ints("pads", vec![0, 0, 1 << 32, 0])];
    assert!(refusal(unary(pool.clone(), Element::FLOAT, Element::FLOAT)).contains("is beyond 65535"));
    pool.attribute = vec![ints("kernel_shape", vec![1, 1]), ints("pads", vec![60_000; 4])];
    assert!(refusal(unary(pool, Element::FLOAT, Element::FLOAT)).contains("beyond measure"));
    // A value of 10^18 elements.
    let size = TensorProto {
        name: Some("size".into()),
        dims: vec![2],
        data_type: Some(Element::INT64),
        int64_data: vec![1_000_000_000; 2],
        ..TensorProto::default()
    };
    let huge = model(GraphProto {
        node: vec![node("ConstantOfShape", &["size"], "z"), node("ReduceSum", &["z"], "y")],
        initializer: vec![size],
        output: vec![port("y", Element::FLOAT, &[])],
        ..GraphProto::default()
    });
    assert!(refusal(huge).contains("1000000000000000000 elements"));
}

#[test]
fn a_signature_is_read_from_the_file() {
    let bytes = model(GraphProto {
        node: vec![node("Add", &["a", "b"], "y")],
        input: vec![port("a", Element::FLOAT, &[None, Some(-1), Some(3)]), port("b", Element::FLOAT, &[])],
        output: vec![port("y", Element::FLOAT, &[None, None, Some(3)])],
        ..GraphProto::default()
    });
    let model = OnnxModel::from_bytes(bytes).unwrap();
    assert_eq!(model.signature().inputs[0].shape, [Dim::Any, Dim::Any, Dim::Fixed(3)]);
    assert_eq!(model.signature().inputs[1].shape, []);
    assert!(!model.is_batched());
}
