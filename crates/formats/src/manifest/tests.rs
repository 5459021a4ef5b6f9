#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::spec::TrainSpec;

fn manifest() -> Manifest {
    let spec = TrainSpec::from_yaml("label: y\nlayers: [{dense: 2, activation: softmax}]").unwrap();
    let table = Evidence {
        classes: 2,
        words: vec!["a".into(), "b".into()],
        word_evidence: vec![0.1, -0.1, 0.25, -0.25],
        pairs: vec![0, 1],
        pair_evidence: vec![1.0, -1.0],
        parts: vec![" a ".into()],
        part_evidence: vec![0.5, -0.5],
        blocks: 3,
        chosen: vec![1],
        chosen_weight: vec![2.0],
        mean: vec![0.0; 7],
        deviation: vec![1.0; 7],
    };
    let features = vec![
        FittedFeature::Evidence { column: "t".into(), table },
        FittedFeature::Numeric { columns: vec!["x".into()], mean: vec![1.5], deviation: vec![0.1] },
        FittedFeature::Categorical { column: "c".into(), categories: vec!["r".into(), "g".into()] },
    ];
    let layers = spec.layers.clone();
    let task = Task::Classification { labels: vec!["n".into(), "y".into()] };
    Manifest::new(task, features, vec![11], layers, 5, spec)
}

#[test]
fn survives_its_own_json() {
    let json = manifest().to_json().unwrap();
    let read = Manifest::parse(&json).unwrap();
    assert_eq!(read, manifest());
    assert_eq!(read.to_json().unwrap(), json);
    assert_eq!(read.columns(), ["t", "x", "c"]);
}

#[test]
fn refuses_parts_that_disagree() {
    type Break = fn(&mut Manifest);
    let broken: [(&str, Break); 6] = [
        ("input shape", |m| m.input_shape = vec![12]),
        ("2 outputs", |m| m.layers[0] = Layer::Flatten),
        ("must be 2 to", |m| m.task = Task::Classification { labels: vec!["n".into(), "n".into()] }),
        ("occurs twice", |m| {
            m.features[2] =
                FittedFeature::Categorical { column: "c".into(), categories: vec!["r".into(), "r".into()] };
        }),
        ("not positive", |m| {
            m.features[1] =
                FittedFeature::Numeric { columns: vec!["x".into()], mean: vec![0.0], deviation: vec![0.0] };
        }),
        ("form is 2", |m| m.format = 2),
    ];
    for (expected, change) in broken {
        let mut manifest = manifest();
        change(&mut manifest);
        let json = serde_json::to_vec(&manifest).unwrap();
        let error = Manifest::parse(&json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(Manifest::parse(b"{}").is_err());
}

#[test]
fn weights_survive_and_are_checked() {
    let mut weights = Weights::default();
    weights.push("b".into(), vec![2, 2], vec![1.0, 2.0, 3.0, 4.5]).unwrap();
    weights.push("a".into(), vec![1], vec![-0.0]).unwrap();
    let bytes = weights.to_bytes().unwrap();
    assert_eq!(Weights::parse(&bytes).unwrap().get("b", &[2, 2]).unwrap(), [1.0, 2.0, 3.0, 4.5]);
    assert!(weights.get("b", &[4]).is_err());
    assert!(weights.push("c".into(), vec![1], vec![f32::NAN]).is_err());
    for cut in 0..bytes.len() {
        assert!(Weights::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}
