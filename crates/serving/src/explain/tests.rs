#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::fixture::{self, Function};

const SHAPLEY: Method = Method::SampledShapley { path_count: 10 };
const GRADIENTS: Method = Method::IntegratedGradients { step_count: 50 };

fn with(method: Method) -> Explain {
    Explain { method: Some(method), ..Explain::default() }
}

fn linear() -> Model {
    Function::new(3, 2, |x| vec![2.0 * x[0] - x[1], x[2]]).model()
}

fn message(result: Result<Vec<Explanation>, PredictError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_linear_model_is_explained_exactly() {
    let instance = Value::Numbers(vec![3.0, 1.0, 4.5]);
    let explained = linear().explain(std::slice::from_ref(&instance), &Explain::default()).unwrap();
    let [explanation] = explained.as_slice() else { panic!("{explained:?}") };
    // The second output, 4.5, is not the highest: 5 is.
    assert_eq!((explanation.output_index, &explanation.output_name), (0, &None));
    assert_eq!((explanation.instance_output, explanation.baseline_output), (5.0, 0.0));
    assert_eq!(
        explanation.attributions,
        [Attribution { feature: "x".into(), tokens: None, values: vec![6.0, -1.0, 0.0], heat_map: None }]
    );
    assert!(explanation.approximation_error < 1e-12);

    let asked = Explain {
        output: Some("1".into()),
        baselines: vec![("x".into(), Value::Numbers(vec![0.0, 0.0, 1.0]))],
        ..with(SHAPLEY)
    };
    let explanation = linear().explain(&[instance], &asked).unwrap().remove(0);
    assert_eq!((explanation.output_index, explanation.baseline_output), (1, 1.0));
    let values = &explanation.attributions[0].values;
    assert!(
        values.iter().zip([0.0, 0.0, 3.5]).all(|(found, expected)| (found - expected).abs() < 1e-12),
        "{values:?}"
    );
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let model = linear();
    let instance = [Value::Numbers(vec![0.0; 3])];
    let cases = [
        (with(Method::SampledShapley { path_count: 0 }), "path count must be 1 to 50, not 0"),
        (with(Method::SampledShapley { path_count: 51 }), "path count must be 1 to 50, not 51"),
        (with(Method::IntegratedGradients { step_count: 101 }), "step count must be 1 to 100, not 101"),
        (with(GRADIENTS), "has no gradients; use sampled Shapley"),
        (Explain { output: Some("2".into()), ..with(SHAPLEY) }, "`2` is not the index of an output"),
        (Explain { output: Some("cat".into()), ..with(SHAPLEY) }, "`cat` is not the index of an output"),
        (
            Explain { baselines: vec![("z".into(), Value::Number(0.0))], ..with(SHAPLEY) },
            "baseline is given for `z`, which is not an input",
        ),
        (
            Explain { baselines: vec![("x".into(), Value::Number(0.0))], ..with(SHAPLEY) },
            "the baseline: `x`: expected",
        ),
    ];
    for (explain, expected) in cases {
        let error = message(model.explain(&instance, &explain));
        assert!(error.contains(expected), "{explain:?}: {error}");
    }
    let error = message(model.explain(&[instance[0].clone(), Value::Null], &Explain::default()));
    assert!(error.starts_with("instance 1"), "{error}");
    let huge = Function::new(5000, 1, |x| vec![x[0]]).model();
    let error = message(huge.explain(&[Value::Numbers(vec![0.0; 5000])], &Explain::default()));
    assert!(error.contains("5000 parts; sampled Shapley values are computed for at most 4096"), "{error}");
}

#[test]
fn the_same_instance_gets_the_same_explanation_beside_any_other() {
    let model = Function::new(40, 1, |x| vec![x.iter().map(|v| v * v).sum::<f32>().sin()]).model();
    let instance = |k: usize| Value::Numbers((0..40).map(|i| ((i * k) % 7) as f64 / 7.0).collect());
    let explain = Explain { seed: 5, ..with(SHAPLEY) };
    let alone = model.explain(&[instance(3)], &explain).unwrap();
    let beside = model.explain(&[instance(2), instance(3)], &explain).unwrap();
    assert_eq!(alone[0], beside[1]);
    let other = model.explain(&[instance(3)], &Explain { seed: 6, ..explain }).unwrap();
    assert_ne!(alone, other);
}

#[test]
fn a_text_is_explained_token_by_token_by_both_methods() {
    let (_dir, model) = fixture::texts();
    let text = "The cat, on a boat?";
    for method in [SHAPLEY, GRADIENTS] {
        for class in ["cat", "boat"] {
            let explain = Explain { output: Some(class.into()), ..with(method) };
            let explanation = model.explain(&[Value::Text(text.into())], &explain).unwrap().remove(0);
            assert_eq!(explanation.output_name.as_deref(), Some(class));
            let [of_text] = explanation.attributions.as_slice() else { panic!("{explanation:?}") };
            let tokens = of_text.tokens.as_ref().unwrap();
            assert_eq!(of_text.feature, "text");
            assert_eq!(tokens.len(), of_text.values.len());
            assert!(tokens.iter().all(|(range, token)| &text[range.clone()] == token));
            let at = |word: &str| tokens.iter().position(|(_, t)| t.eq_ignore_ascii_case(word)).unwrap();
            let (cat, boat) = (of_text.values[at("cat")], of_text.values[at("boat")]);
            assert!(if class == "cat" { cat > boat } else { boat > cat }, "{method:?} {class}: {of_text:?}");
            let gap = of_text.values.iter().sum::<f64>()
                - (explanation.instance_output - explanation.baseline_output);
            assert!(gap.abs() < 0.02, "{method:?} {class}: {gap}");
            assert!(explanation.approximation_error < 0.05, "{explanation:?}");
        }
    }
}

#[test]
fn an_embedded_text_is_explained_token_by_token_by_both_methods() {
    let (_dir, model) = fixture::embedded();
    for method in [SHAPLEY, GRADIENTS] {
        let explain = Explain { output: Some("boat".into()), ..with(method) };
        let explanation = model.explain(&[Value::Text("The boat sails".into())], &explain).unwrap().remove(0);
        let of_text = &explanation.attributions[0];
        let tokens: Vec<&str> = of_text.tokens.as_ref().unwrap().iter().map(|(_, t)| t.as_str()).collect();
        assert_eq!(tokens, ["The", "boat", "sails"]);
        assert!(of_text.values[1] > of_text.values[0], "{method:?}: {of_text:?}");
        let gap =
            of_text.values.iter().sum::<f64>() - (explanation.instance_output - explanation.baseline_output);
        assert!(gap.abs() < 0.02, "{method:?}: {gap}");
    }
}

#[test]
fn texts_without_tokens_and_with_too_many() {
    let (_dir, model) = fixture::texts();
    for method in [SHAPLEY, GRADIENTS] {
        let explanation = model.explain(&[Value::Text(String::new())], &with(method)).unwrap().remove(0);
        assert!(explanation.attributions[0].values.iter().all(|v| v.abs() < 1e-6), "{explanation:?}");
    }
    let long = Value::Text("word ".repeat(1025));
    let error = message(model.explain(&[Value::Text("short".into()), long], &with(SHAPLEY)));
    assert!(
        error.starts_with("instance 1: the text has 1025 tokens; explanations take at most 1024"),
        "{error}"
    );
    let asked = Explain { output: Some("dog".into()), ..with(SHAPLEY) };
    let error = message(model.explain(&[Value::Text("x".into())], &asked));
    assert!(error.contains("no class `dog`"), "{error}");
}

#[test]
fn columns_are_explained_from_their_means() {
    let rows: Vec<Vec<String>> = (0..200)
        .map(|i| {
            let (a, b) = (f64::from(i % 10) / 10.0, f64::from(i % 7));
            vec![a.to_string(), b.to_string(), if a > 0.45 { "high" } else { "low" }.to_owned()]
        })
        .collect();
    let rows: Vec<Vec<&str>> = rows.iter().map(|r| r.iter().map(String::as_str).collect()).collect();
    let (_dir, model) = fixture::trained(
        "features: [{numeric: [a, b]}]\nlabel: class\nlayers: [{dense: 8, activation: relu}, {dense: 2, activation: softmax}]\nepochs: 30",
        &["a", "b", "class"],
        &rows,
    );
    let instance = Value::Record(vec![("a".into(), Value::Number(0.9)), ("b".into(), Value::Number(3.0))]);
    for method in [SHAPLEY, GRADIENTS] {
        let explanation = model.explain(std::slice::from_ref(&instance), &with(method)).unwrap().remove(0);
        assert_eq!(explanation.output_name.as_deref(), Some("high"));
        let names: Vec<&str> = explanation.attributions.iter().map(|a| a.feature.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let value = |i: usize| explanation.attributions[i].values[0];
        assert!(value(0) > value(1).abs(), "{explanation:?}");
        // The instance as a list is the same instance.
        let list = model.explain(&[Value::Numbers(vec![0.9, 3.0])], &with(method)).unwrap().remove(0);
        assert_eq!(explanation, list);
    }
}

#[test]
fn work_ends_when_nobody_waits_for_it() {
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let instance = Value::Numbers(vec![1.0; 3000]);
    let model = Function::new(3000, 1, |x| vec![x[0]]).model();
    let result = model.explain_until(&[instance], &Explain::default(), &stop);
    assert_eq!(result.unwrap_err(), PredictError::Stopped);
    assert_eq!(asked.get(), 3);
}

#[test]
fn string_inputs_of_other_models_are_explained_by_words() {
    use tensor::{DataType, Dim, Signature, TensorSpec};
    struct Counter(Signature);
    impl crate::Runtime for Counter {
        fn signature(&self) -> &Signature {
            &self.0
        }
        fn predict(&self, inputs: &Tensors) -> Result<Tensors, crate::RuntimeError> {
            let Data::Text(texts) = inputs[0].1.data() else { panic!("texts go in") };
            let counts = texts.iter().map(|t| t.split(' ').filter(|w| *w == "good").count() as f32).collect();
            Ok(vec![("score".into(), Tensor::new(vec![texts.len(), 1], Data::F32(counts)).unwrap())])
        }
    }
    let spec = |name: &str, data_type| TensorSpec {
        name: name.into(),
        data_type,
        shape: vec![Dim::Any, Dim::Fixed(1)],
    };
    let signature =
        Signature { inputs: vec![spec("t", DataType::Text)], outputs: vec![spec("score", DataType::F32)] };
    let model = Model::from_runtime(Box::new(Counter(signature)));
    let explanation =
        model.explain(&[Value::Text("good  or bad\tgood".into())], &with(SHAPLEY)).unwrap().remove(0);
    assert_eq!(explanation.attributions[0].values, [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(explanation.attributions[0].tokens.as_ref().unwrap()[3], (13..17, "good".into()));
}
