//! Graphs of `ai.onnx.ml` nodes: what trees and columns answer, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rten_onnx::onnx::{
    AttributeProto, DataType as Element, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};
use tensor::{Data, DataType, Dim, OnnxModel, Tensor};

fn port(name: &str, element: Element, width: i64) -> ValueInfoProto {
    let dim = |dim_value| Dimension { dim_value, dim_param: None };
    let shape = TensorShapeProto { dim: vec![dim(None), dim(Some(width))] };
    let tensor_type = TypeProtoTensor { elem_type: Some(element), shape: Some(shape) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() });
    ValueInfoProto { name: Some(name.to_owned()), r#type }
}

fn attribute(name: &str) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name) }
}

fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { floats: floats.to_vec(), ..attribute(name) }
}

fn texts(name: &str, texts: &[&str]) -> AttributeProto {
    AttributeProto { strings: texts.iter().map(|&text| text.to_owned()).collect(), ..attribute(name) }
}

fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto { s: Some(text.to_owned()), ..attribute(name) }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>();
    NodeProto {
        domain: Some("ai.onnx.ml".to_owned()),
        op_type: Some(op.to_owned()),
        input: owned(inputs),
        output: owned(outputs),
        attribute,
        ..NodeProto::default()
    }
}

fn load(
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
) -> Result<OnnxModel, String> {
    let opset = |domain: &str, version| OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    };
    let graph = GraphProto { node: nodes, input: inputs, output: outputs, ..GraphProto::default() };
    let model = ModelProto {
        ir_version: Some(9),
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
        graph: Some(graph),
        ..ModelProto::default()
    };
    OnnxModel::from_bytes(model.write_buf().unwrap()).map_err(|error| error.to_string())
}

/// A tree of one branch: 1 where it holds, 2 where not; and the missing go as `missing` says.
fn stump(mode: &str, missing: i64) -> Result<OnnxModel, String> {
    tree(mode, missing, 1)
}

/// The same, where the branch that holds leads to the node `yes`.
fn tree(mode: &str, missing: i64, yes: i64) -> Result<OnnxModel, String> {
    let attributes = vec![
        ints("nodes_treeids", &[0, 0, 0]),
        ints("nodes_nodeids", &[0, 1, 2]),
        ints("nodes_featureids", &[1, 0, 0]),
        floats("nodes_values", &[0.5, 0.0, 0.0]),
        texts("nodes_modes", &[mode, "LEAF", "LEAF"]),
        ints("nodes_truenodeids", &[yes, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0]),
        ints("nodes_missing_value_tracks_true", &[missing, 0, 0]),
        ints("target_treeids", &[0, 0]),
        ints("target_nodeids", &[1, 2]),
        ints("target_ids", &[0, 0]),
        floats("target_weights", &[1.0, 2.0]),
        floats("base_values", &[10.0]),
    ];
    let tree = node("TreeEnsembleRegressor", &["x"], &["y"], attributes);
    load(vec![tree], vec![port("x", Element::FLOAT, 2)], vec![port("y", Element::FLOAT, 1)])
}

fn run(model: &OnnxModel, inputs: Vec<(&str, Data)>) -> Vec<Tensor> {
    let named = |(name, data): (&str, Data)| {
        let spec = model.signature().inputs.iter().find(|spec| spec.name == name).unwrap();
        let Dim::Fixed(width) = spec.shape[1] else { panic!("a fixed width") };
        (name.to_owned(), Tensor::new(vec![data.len() / width, width], data).unwrap())
    };
    let inputs: Vec<_> = inputs.into_iter().map(named).collect();
    model.run(&inputs).unwrap().into_iter().map(|(_, tensor)| tensor).collect()
}

#[test]
fn every_comparison_of_a_branch() {
    let x = [9.0, 0.25, 9.0, 0.5, 9.0, 0.75, 9.0, f32::NAN];
    for (mode, want) in [
        ("BRANCH_LEQ", [11.0, 11.0, 12.0, 12.0]),
        ("BRANCH_LT", [11.0, 12.0, 12.0, 12.0]),
        ("BRANCH_GTE", [12.0, 11.0, 11.0, 12.0]),
        ("BRANCH_GT", [12.0, 12.0, 11.0, 12.0]),
        ("BRANCH_EQ", [12.0, 11.0, 12.0, 12.0]),
        ("BRANCH_NEQ", [11.0, 12.0, 11.0, 11.0]),
    ] {
        let model = stump(mode, 0).unwrap();
        let y = run(&model, vec![("x", Data::F32(x.to_vec()))]);
        assert_eq!(y[0].as_f32().unwrap(), want, "{mode}");
        let tracked = run(&stump(mode, 1).unwrap(), vec![("x", Data::F32(x[6..].to_vec()))]);
        assert_eq!(tracked[0].as_f32().unwrap(), [11.0], "{mode}");
    }
    assert!(
        stump("BRANCH_ODD", 0).unwrap_err().contains("`y` (TreeEnsembleRegressor): attribute `nodes_modes`")
    );
}

#[test]
fn a_tree_is_a_tree() {
    for (yes, words) in
        [(0, "leads into itself"), (2, "several"), (7, "tree 0 has no node 7"), (-1, "no node -1")]
    {
        let found = tree("BRANCH_LEQ", 0, yes).unwrap_err();
        assert!(found.contains(words), "{yes}: {found}");
    }
}

#[test]
fn strings_and_numbers_become_a_class() {
    let nodes = vec![
        node("OneHotEncoder", &["town"], &["hot"], vec![texts("cats_strings", &["Metz", "Namur"])]),
        node("Scaler", &["age"], &["scaled"], vec![floats("offset", &[40.0]), floats("scale", &[0.1])]),
        NodeProto { domain: None, ..node("Flatten", &["hot"], &["flat"], vec![]) },
        node("FeatureVectorizer", &["flat", "scaled"], &["row"], vec![ints("inputdimensions", &[2, 1])]),
        node(
            "LinearClassifier",
            &["row"],
            &["label", "scores"],
            vec![
                floats("coefficients", &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
                floats("intercepts", &[0.0, 0.0, 0.0]),
                texts("classlabels_strings", &["m", "n", "old"]),
                text("post_transform", "SOFTMAX"),
            ],
        ),
        node("ZipMap", &["scores"], &["named"], vec![texts("classlabels_strings", &["m", "n", "old"])]),
    ];
    let label = ValueInfoProto {
        r#type: Some(TypeProto {
            tensor_type: Some(TypeProtoTensor {
                elem_type: Some(Element::STRING),
                shape: Some(TensorShapeProto { dim: vec![Dimension::default()] }),
            }),
            ..TypeProto::default()
        }),
        name: Some("label".to_owned()),
    };
    // A list of maps is no tensor.
    let named = ValueInfoProto { name: Some("named".to_owned()), r#type: None };
    let inputs = vec![port("town", Element::STRING, 1), port("age", Element::FLOAT, 1)];
    let model = load(nodes, inputs, vec![label, named]).unwrap();
    assert_eq!(model.classes().unwrap(), ["m", "n", "old"]);
    assert_eq!(model.signature().inputs[0].data_type, DataType::Text);
    assert!(model.is_batched());
    let towns = ["Metz", "Namur", "Nowhere"].map(str::to_owned).to_vec();
    let outputs = run(&model, vec![("age", Data::F32(vec![40.0, 40.0, 80.0])), ("town", Data::Text(towns))]);
    assert_eq!(outputs[0].data(), &Data::Text(["m", "n", "old"].map(str::to_owned).to_vec()));
    let scores = outputs[1].as_f32().unwrap();
    let e = std::f32::consts::E;
    assert!(
        (scores[0] - e / (e + 2.0)).abs() < 1e-6 && (scores[4] - e / (e + 2.0)).abs() < 1e-6,
        "{scores:?}"
    );
    // The same row gives the same bits alone.
    let alone =
        run(&model, vec![("age", Data::F32(vec![80.0])), ("town", Data::Text(vec!["Nowhere".into()]))]);
    assert_eq!(alone[1].as_f32().unwrap(), &scores[6..]);
}

#[test]
fn what_contradicts_itself_is_refused_by_node_and_attribute() {
    let refusal = |op: &str, attributes| {
        let node = node(op, &["x"], &["y"], attributes);
        load(vec![node], vec![port("x", Element::FLOAT, 2)], vec![port("y", Element::FLOAT, 1)]).unwrap_err()
    };
    for (op, attributes, words) in [
        ("Scaler", vec![floats("offset", &[1.0]), floats("scale", &[])], "`y` (Scaler): attribute `offset`"),
        ("Normalizer", vec![text("norm", "L7")], "attribute `norm` has no `L7`"),
        ("Normalizer", vec![ints("norm", &[1])], "attribute `norm` is not a string"),
        ("Binarizer", vec![floats("limit", &[1.0])], "attribute `limit` is not supported"),
        ("LabelEncoder", vec![ints("keys_int64s", &[1, 2]), ints("values_int64s", &[1])], "2 entries"),
        ("LinearRegressor", vec![], "attribute `coefficients` has 0 entries for 1 targets"),
        ("TreeEnsembleRegressor", vec![], "0 nodes"),
        ("Imputer", vec![], "`imputed_value_*`"),
        ("Oracle", vec![], "Oracle (ai.onnx.ml)"),
    ] {
        let found = refusal(op, attributes);
        assert!(found.contains(words), "{op}: {found}");
    }
}
