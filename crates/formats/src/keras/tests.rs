#![allow(clippy::unwrap_used, clippy::panic)]

use super::weights::snake;
use super::*;
use crate::hdf5::File;

#[test]
fn classes_have_the_names_that_keras_gives_their_weights() {
    for (class, name) in [
        ("Dense", "dense"),
        ("Conv2DTranspose", "conv2d_transpose"),
        ("MaxPooling2D", "max_pooling2d"),
        ("GlobalAveragePooling1D", "global_average_pooling1d"),
        ("LSTM", "lstm"),
        ("LeakyReLU", "leaky_re_lu"),
        ("PReLU", "p_re_lu"),
        ("TimeDistributed", "time_distributed"),
    ] {
        assert_eq!(snake(class), name);
    }
}

/// The model that `config` describes, with a weights file of which nothing is read.
fn read(config: &str) -> Result<Model, String> {
    // A file whose root is an empty group.
    let mut bytes = b"\x89HDF\r\n\x1a\n\x03\x08\x08\x00".to_vec();
    bytes.extend([0u64, u64::MAX, 64, 48].iter().flat_map(|w| w.to_le_bytes()));
    bytes.extend([0; 4]);
    bytes.extend(b"OHDR\x02\x00\x00");
    bytes.extend([0; 9]);
    let config = serde_json::from_str(config).unwrap();
    graph::read(&config, &File::new(&bytes).unwrap(), &|_| Ok(None)).map_err(|e| e.to_string())
}

fn sequential(layers: &str) -> Result<Model, String> {
    let input = r#"{"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [null, 4], "dtype": "float32"}}"#;
    read(&format!(
        r#"{{"class_name": "Sequential", "config": {{"name": "s", "layers": [{input}, {layers}]}}}}"#
    ))
}

/// A graph of layers without weights: name, class, and the names of what it takes.
fn functional(layers: &[(&str, &str, &[&str])], output: &str) -> Result<Model, String> {
    let tensor = |name: &&str| {
        format!(r#"{{"class_name": "__keras_tensor__", "config": {{"keras_history": ["{name}", 0, 0]}}}}"#)
    };
    let layer = |(name, class, inputs): &(&str, &str, &[&str])| {
        let config = match *class {
            "InputLayer" => format!(r#"{{"name": "{name}", "batch_shape": [null, 4]}}"#),
            _ => format!(r#"{{"name": "{name}"}}"#),
        };
        let args: Vec<String> = inputs.iter().map(tensor).collect();
        let nodes = match inputs.is_empty() {
            true => String::new(),
            false => format!(r#"{{"args": [[{}]], "kwargs": {{}}}}"#, args.join(", ")),
        };
        format!(
            r#"{{"class_name": "{class}", "name": "{name}", "config": {config}, "inbound_nodes": [{nodes}]}}"#
        )
    };
    let layers: Vec<String> = layers.iter().map(layer).collect();
    read(&format!(
        r#"{{"class_name": "Functional", "config": {{"layers": [{}], "input_layers": ["x", 0, 0],
            "output_layers": ["{output}", 0, 0]}}}}"#,
        layers.join(", ")
    ))
}

#[test]
fn a_graph_becomes_nodes_in_an_order_that_can_be_computed() {
    let layers: &[(&str, &str, &[&str])] = &[
        ("sum", "Add", &["b", "a"]),
        ("b", "ReLU", &["a"]),
        ("x", "InputLayer", &[]),
        ("unused", "Flatten", &["x"]),
        ("a", "Flatten", &["x"]),
    ];
    let model = functional(layers, "sum").unwrap();
    assert_eq!(model.inputs, [Input { name: "x".into(), shape: vec![Some(4)], elements: Elements::Floats }]);
    let taken: Vec<_> = model.nodes.iter().map(|node| node.inputs.clone()).collect();
    assert_eq!(taken, [vec![0], vec![1], vec![2, 1]]);
    assert_eq!(model.outputs, [Output { name: "sum".into(), place: 3 }]);
}

#[test]
fn a_sequence_without_an_input_has_the_shape_that_it_was_built_with() {
    let layers = r#"[{"class_name": "Flatten", "config": {"name": "f"}}]"#;
    let config = |built: &str| {
        format!(r#"{{"class_name": "Sequential", "config": {{"name": "s", {built} "layers": {layers}}}}}"#)
    };
    let model = read(&config(r#""build_input_shape": [null, 2, 3],"#)).unwrap();
    assert_eq!(
        model.inputs,
        [Input { name: "input".into(), shape: vec![Some(2), Some(3)], elements: Elements::Floats }]
    );
    assert!(read(&config("")).unwrap_err().contains("no inputs: call it"));
}

/// A graph of one input, `x`, and one operation or layer over it, whose call is `node`.
fn applied(class: &str, module: &str, node: &str) -> Result<Model, String> {
    let x = r#"{"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}"#;
    let node = node.replace("$x", x);
    read(&format!(
        r#"{{"class_name": "Functional", "config": {{"layers": [
            {{"class_name": "InputLayer", "name": "x", "config": {{"name": "x", "batch_shape": [null, null, 4]}}}},
            {{"class_name": "{class}", "module": "{module}", "name": "y", "config": {{"name": "y"}},
              "inbound_nodes": [{node}]}}],
            "input_layers": ["x", 0, 0], "output_layers": ["y", 0, 0]}}}}"#
    ))
}

#[test]
fn plain_operations_take_values_and_numbers() {
    let operation = |class: &str, args: &str| {
        let node = format!(r#"{{"args": [{args}], "kwargs": {{}}}}"#);
        applied(class, "keras.src.ops.numpy", &node)
            .map(|model| (model.layers[0].layer.clone(), model.nodes[0].inputs.len()))
    };
    let sum = Operation::As(Box::new(Layer::Merge(Merge::Add)));
    assert_eq!(operation("Add", "$x, $x"), Ok((Layer::Operation(sum), 2)));
    let less = Operation::WithNumber { merge: Some(Merge::Subtract), number: 1.5, first: true };
    assert_eq!(operation("Subtract", "1.5, $x"), Ok((Layer::Operation(less), 1)));
    let all = r#"{"class_name": "__slice__", "config": {"start": null, "stop": null, "step": null}}"#;
    let part = r#"{"class_name": "__slice__", "config": {"start": 1, "stop": -1, "step": null}}"#;
    let taken = vec![Item::One(-1), Item::Range { start: 1, end: Some(-1) }];
    assert_eq!(
        operation("GetItem", &format!("$x, [{all}, -1, {part}]")),
        Ok((Layer::Operation(Operation::Take { items: taken }), 1))
    );
    for (class, args, named) in [
        ("Sort", "$x".to_owned(), "`Sort` is not supported"),
        ("Add", "$x, [1, 2]".to_owned(), "expected a number"),
        ("GetItem", "$x, 0".to_owned(), "`GetItem` is not supported here"),
        (
            "GetItem",
            format!("$x, [{all}, {}]", part.replace("null}", "2}")),
            "`GetItem` is not supported here",
        ),
    ] {
        let error = operation(class, &args).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn calls_say_what_is_taken_and_how() {
    let add = applied("Add", "keras.layers", r#"{"args": [[$x, $x]], "kwargs": {"use_causal_mask": true}}"#)
        .unwrap();
    assert_eq!((add.nodes[0].inputs.as_slice(), add.nodes[0].causal), (&[0, 0][..], true));
    assert_eq!(add.inputs[0].shape, [None, Some(4)]);
    let named =
        applied("Add", "keras.layers", r#"{"args": [], "kwargs": {"value": $x, "query": $x, "mask": null}}"#);
    assert_eq!(named.unwrap().nodes[0].inputs, [0, 0]);
    for (kwargs, reason) in [
        (r#""return_attention_scores": 3"#, "`return_attention_scores` is not supported"),
        (r#""attention_mask": true"#, "`attention_mask` is not supported"),
        (r#""wiggle": $x"#, "`wiggle` is not supported"),
        (r#""mask": 3"#, "`mask` is not supported"),
    ] {
        let node = format!(r#"{{"args": [[$x, $x]], "kwargs": {{{kwargs}}}}}"#);
        let error = applied("Add", "keras.layers", &node).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    let error = applied("Add", "keras.layers", r#"{"args": [], "kwargs": {}}"#).unwrap_err();
    assert!(error.contains("takes nothing"), "{error}");
}

#[test]
fn circles_and_loose_ends_are_refused() {
    let circle: &[(&str, &str, &[&str])] =
        &[("x", "InputLayer", &[]), ("a", "Add", &["x", "b"]), ("b", "ReLU", &["a"])];
    assert!(functional(circle, "b").unwrap_err().contains("form a circle"));
    let itself: &[(&str, &str, &[&str])] = &[("x", "InputLayer", &[]), ("a", "Add", &["x", "a"])];
    assert!(functional(itself, "a").unwrap_err().contains("form a circle"));
    assert!(
        functional(&[("x", "InputLayer", &[])], "gone").unwrap_err().contains("`gone`, which is not there")
    );
    let twice: &[(&str, &str, &[&str])] = &[("x", "InputLayer", &[]), ("x", "InputLayer", &[])];
    assert!(functional(twice, "x").unwrap_err().contains("two of its layers are called `x`"));
}

#[test]
fn what_is_not_honoured_is_refused_by_name() {
    for (layers, named) in [
        (
            r#"{"class_name": "Lambda", "config": {"name": "l", "function": {}}}"#,
            "layer `l` (Lambda): holds Python code",
        ),
        (
            r#"{"class_name": "Activation", "config": {"activation": {"class_name": "__lambda__", "config": {}}}}"#,
            "holds Python code",
        ),
        (r#"{"class_name": "ConvLSTM1D", "config": {"name": "m"}}"#, "(ConvLSTM1D): this layer is not"),
        (
            r#"{"class_name": "Dense", "module": "mine", "config": {"name": "d"}}"#,
            "(Dense): this layer is not",
        ),
        (r#"{"class_name": "ReLU", "config": {"name": "r", "wiggle": 2}}"#, "wiggle: is not an option"),
        (
            r#"{"class_name": "Activation", "config": {"activation": "sparsemax"}}"#,
            "`sparsemax` is not supported",
        ),
        (
            r#"{"class_name": "Flatten", "config": {"data_format": "channels"}}"#,
            "`channels` is not supported",
        ),
        (r#"{"class_name": "Flatten", "config": {"dtype": "float16"}}"#, "`float16` is not supported"),
        (r#"{"class_name": "Dense", "config": {"units": 1e12}}"#, "units: expected a whole number"),
        (r#"{"class_name": "Dense", "config": {"units": 3}}"#, "its kernel is not among the weights"),
    ] {
        let error = sequential(layers).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
    let subclassed = read(r#"{"class_name": "Mine", "module": "builtins", "config": {}}"#).unwrap_err();
    assert!(subclassed.contains("`Mine` is not supported"), "{subclassed}");
}

#[test]
fn networks_within_networks_do_not_multiply_for_ever() {
    // Each level applies the one below it four times: 4^16 applications if nobody counted.
    let mut inner =
        r#"{"class_name": "Sequential", "name": "n0", "config": {"name": "n0", "layers": []}}"#.to_owned();
    for level in 1..=12 {
        let layers = vec![inner; 4].join(", ");
        inner = format!(
            r#"{{"class_name": "Sequential", "name": "n{level}", "config": {{"name": "n{level}", "layers": [{layers}]}}}}"#
        );
        if inner.len() > 1 << 20 {
            break;
        }
    }
    assert!(sequential(&inner).unwrap_err().contains("the limit"));
}

const GRAPH: &[u8] = include_bytes!("../../../../fuzz/corpus/keras/graph");
const SEQUENCE: &[u8] = include_bytes!("../../../../fuzz/corpus/keras/sequence");

#[test]
fn whole_archives_are_read_with_their_weights() {
    for bytes in [GRAPH, SEQUENCE] {
        let model = Model::from_bytes(bytes.to_vec()).unwrap();
        let Layer::Dense { kernel, bias: Some(bias), .. } = &model.layers[0].layer else {
            panic!("{:?}", model.layers[0])
        };
        assert_eq!(
            (kernel.shape.as_slice(), kernel.values.as_slice()),
            (&[2, 2][..], &[0.0, 1.0, 2.0, 3.0][..])
        );
        assert_eq!(bias.values, [1.0, 1.0]);
    }
}

#[test]
fn many_members_are_found_in_their_heap() {
    let bytes: &[u8] = include_bytes!("../../../../fuzz/corpus/keras/links");
    let layers = File::new(bytes).unwrap().root().unwrap().group("layers").unwrap().unwrap();
    assert_eq!(layers.names().count(), 12);
    assert!((1..12).all(|i| layers.group(&format!("dense_{i}")).unwrap().is_some()));
}

#[test]
fn archives_that_are_cut_off_or_changed_do_no_harm() {
    for bytes in [GRAPH, SEQUENCE] {
        for length in 0..bytes.len() {
            assert!(Model::from_bytes(bytes[..length].to_vec()).is_err());
        }
        for at in 0..bytes.len() {
            for value in [0, 0x7f, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                let _ = Model::from_bytes(changed);
            }
        }
    }
}
