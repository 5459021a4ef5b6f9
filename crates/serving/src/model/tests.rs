#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;

use tensor::export::{Activation, Layer, sequential};

use super::*;
use crate::fixture;

fn json(predictions: &Predictions) -> Vec<String> {
    predictions.iter().map(|row| serde_json::to_string(&row).unwrap()).collect()
}

fn linear(inputs: usize) -> Vec<u8> {
    let kernel = (1..=inputs).map(|i| i as f32).collect();
    let layer = Layer::Dense { units: 1, kernel, bias: Some(vec![0.5]), activation: Activation::Linear };
    sequential(&[inputs], &[layer]).unwrap()
}

#[test]
fn a_model_made_elsewhere_reads_its_columns_in_order_and_answers_lists() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), linear(2)).unwrap();
    let model = Model::load(dir.path()).unwrap();
    assert_eq!((model.labels(), model.columns(), model.manifest()), (None, None, None));
    let instances = [Value::Numbers(vec![1.0, 2.0]), Value::Numbers(vec![0.0, 0.0])];
    assert_eq!(json(&model.predict(&instances).unwrap()), ["[5.5]", "[0.5]"]);
    let rows = [vec!["1", "2"], vec!["one", "2"], vec!["0", "0"]];
    let block = RowBlock::new(vec!["b".into(), "a".into()], 7, &rows).unwrap();
    let (predictions, faults) = model.predict_rows(&block).unwrap();
    assert_eq!(json(&predictions), ["[5.5]", "[0.5]"]);
    assert_eq!((faults.len(), faults[0].row), (1, 8));
    let (none, faults) = model.predict_rows(&block.select(&[1])).unwrap();
    assert_eq!((none.len(), faults.len()), (0, 1));
}

#[test]
fn a_model_trained_here_answers_labels_with_scores() {
    let (_dir, model) = fixture::texts();
    assert_eq!(model.labels().unwrap().len(), 2);
    assert_eq!(model.columns().unwrap()[0].name, "text");
    assert_eq!(model.manifest().unwrap().label, "label");
    let texts = ["a cat on the mat", "the boat at sea"];
    let instances: Vec<Value> = texts.iter().map(|t| Value::Text((*t).into())).collect();
    let predictions = model.predict(&instances).unwrap();
    let labels: Vec<&str> = (0..2).map(|i| predictions.label(i).unwrap().1).collect();
    assert_eq!(labels, ["cat", "boat"]);
    let written: serde_json::Value = serde_json::from_str(&json(&predictions)[0]).unwrap();
    assert_eq!(written["label"], "cat");
    assert_eq!(written["classes"].as_array().unwrap().len(), 2);

    // Rows of a file give the same bits as instances, each alone or all together.
    let block = RowBlock::new(vec!["text".into()], 0, &texts.map(|t| vec![t])).unwrap();
    let (of_rows, faults) = model.predict_rows(&block).unwrap();
    assert_eq!(json(&of_rows), json(&predictions));
    assert!(faults.is_empty());
    for (i, instance) in instances.iter().enumerate() {
        assert_eq!(json(&model.predict(std::slice::from_ref(instance)).unwrap())[0], json(&predictions)[i]);
    }
    let nameless = RowBlock::new(vec!["words".into()], 0, &[vec!["x"]]).unwrap();
    assert!(model.predict_rows(&nameless).unwrap_err().to_string().contains("no column `text`"));
    let bad = model.predict(&[instances[0].clone(), Value::Number(1.0)]).unwrap_err();
    assert!(matches!(bad, PredictError::BadInstance { index: 1, .. }), "{bad}");
}

#[test]
fn plain_serving_does_not_read_the_weights_for_gradients() {
    let (dir, model) = fixture::texts();
    fs::remove_file(dir.path().join("weights.safetensors")).unwrap();
    let again = Model::load(dir.path()).unwrap();
    let instance = [Value::Text("a cat".into())];
    assert_eq!(json(&again.predict(&instance).unwrap()), json(&model.predict(&instance).unwrap()));
    let method = Some(crate::Method::IntegratedGradients { step_count: 10 });
    let error = again.explain(&instance, &crate::Explain { method, ..Default::default() }).unwrap_err();
    assert!(error.to_string().contains("the network's weights"), "{error}");
}

#[test]
fn an_artifact_that_contradicts_itself_or_is_no_model_is_refused() {
    let (dir, _) = fixture::texts();
    let load = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        Model::load(dir.path()).unwrap_err().to_string()
    };
    let error = load("model.onnx", &linear(3));
    assert!(error.contains("contradicts itself"), "{error}");
    let error = load("model.onnx", b"\x80\x04\x95 a pickle in disguise");
    assert!(error.contains("`model.onnx`") && error.contains("pickle"), "{error}");
    let error = load("meuse.json", b"{}");
    assert!(error.contains("meuse.json"), "{error}");
    assert!(!error.contains(dir.path().to_str().unwrap()), "{error}");
}
