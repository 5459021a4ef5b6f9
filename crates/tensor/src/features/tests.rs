#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use formats::Value;
use formats::manifest::{Evidence, FittedFeature, Manifest, Task};
use formats::rows::RowBlock;
use formats::spec::{Analyzer, TrainSpec, Weighting};

use super::*;

fn evidence() -> FittedFeature {
    let table = Evidence {
        classes: 2,
        words: ["a", "small", "bird"].map(str::to_owned).to_vec(),
        word_evidence: vec![0.1, -0.1, 0.25, -0.25, 1.0, -1.0],
        pairs: vec![1, 2],
        pair_evidence: vec![0.5, -0.5],
        parts: [" bi", "ird"].map(str::to_owned).to_vec(),
        part_evidence: vec![0.5, -0.5, 0.25, -0.25],
        blocks: 3,
        chosen: vec![2],
        chosen_weight: vec![2.0],
        mean: vec![0.5; 7],
        deviation: vec![2.0; 7],
    };
    FittedFeature::Evidence { column: "text".into(), table }
}

fn mixed() -> Vec<FittedFeature> {
    let terms = FittedFeature::Terms {
        column: "title".into(),
        analyzer: Analyzer::Words,
        ngrams: [1, 2],
        weighting: Weighting::TfIdf,
        normalize: true,
        unknown: true,
        terms: ["red", "red car"].map(str::to_owned).to_vec(),
        rarity: vec![1.0, 2.0, 3.0],
    };
    let numeric = FittedFeature::Numeric { columns: vec!["x".into()], mean: vec![1.0], deviation: vec![2.0] };
    let categories =
        FittedFeature::Categorical { column: "c".into(), categories: vec!["r".into(), "g".into()] };
    vec![evidence(), terms, numeric, categories]
}

fn step(features: Vec<FittedFeature>) -> FeatureStep {
    let spec = TrainSpec::from_yaml("label: answer\nlayers: [{dense: 2, activation: softmax}]").unwrap();
    let width = features.iter().map(FittedFeature::width).sum();
    let layers = spec.layers.clone();
    let task = Task::Classification { labels: vec!["n".into(), "y".into()] };
    let manifest = Manifest::new(task, features, vec![width], layers, 5, spec);
    FeatureStep::new(&Manifest::parse(&manifest.to_json().unwrap()).unwrap()).unwrap()
}

fn text(s: &str) -> Value {
    Value::Text(s.to_owned())
}

#[test]
fn tokens_are_found_in_any_script() {
    let words =
        |t: &str| -> Vec<String> { tokens::Tokenizer::Words.spans(t).map(|r| t[r].to_owned()).collect() };
    assert_eq!(words("Don't  (stop)—now!"), ["Don", "t", "stop", "now"]);
    assert_eq!(words("café naïve été"), ["café", "naïve", "été"]);
    assert_eq!(words("小鳥 and ねこ2"), ["小", "鳥", "and", "ね", "こ", "2"]);
    assert_eq!(words(" ,.;"), Vec::<String>::new());
    let blanks: Vec<_> = tokens::Tokenizer::Whitespace.spans("don't -- stop.").collect();
    assert_eq!(blanks, [0..5, 9..14]);
    let mut normal = String::new();
    tokens::Tokenizer::Whitespace.normalize("Don't.", &mut normal);
    assert_eq!(normal, "dont");
}

#[test]
fn evidence_is_summed_as_described() {
    let step = step(vec![evidence()]);
    let row = step.from_values(&[text("A small BIRD?")]).unwrap();
    let words = (0.1f32 + 0.25 + 1.0) / 3f32.sqrt();
    let parts = 0.75 / 2f32.sqrt();
    let chosen = 2.0 / 3f32.sqrt();
    let expected = [words, -words, parts, -parts, 0.5, -0.5, chosen].map(|v| (v - 0.5) / 2.0);
    for (value, expected) in row.as_f32().unwrap().iter().zip(expected) {
        assert!((value - expected).abs() < 1e-6, "{value} {expected}");
    }
    // An unknown word still has known parts; an empty text has none.
    let row = step.from_values(&[text("thirdly")]).unwrap();
    assert!((row.as_f32().unwrap()[2] - (0.25 - 0.5) / 2.0).abs() < 1e-6);
    assert_eq!(step.from_values(&[text("")]).unwrap(), step.baseline().unwrap());
}

#[test]
fn rows_and_values_give_the_same_bits() {
    let step = step(mixed());
    assert_eq!(step.columns().len(), 4);
    let names = ["c", "answer", "title", "x", "text"].map(str::to_owned).to_vec();
    let rows = [
        vec!["g", "n", "red car", "3", "a bird"],
        vec!["?", "n", "", "oops", "a bird"],
        vec![" r ", "n", "blue red", "-1.5", ""],
    ];
    let block = RowBlock::new(names, 7, &rows).unwrap();
    let (tensor, faults) = step.from_rows(&block).unwrap();
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].row, faults[0].reason.as_str()), (8, "column `x`: \"oops\" is not a number"));
    let record = |c: &str, title: &str, x: Value, t: &str| {
        Value::Record(vec![
            ("x".into(), x),
            ("c".into(), text(c)),
            ("title".into(), text(title)),
            ("text".into(), text(t)),
        ])
    };
    let values = step
        .from_values(&[
            record("g", "red car", Value::Number(3.0), "a bird"),
            record("r", "blue red", text("-1.5"), ""),
        ])
        .unwrap();
    assert_eq!(tensor, values);
    assert_eq!(tensor.shape(), [2, 7 + 3 + 1 + 3]);
    // A list in column order: text, title, x, c.
    let list = Value::List(vec![text("a bird"), text("red car"), Value::Number(3.0), text("g")]);
    assert_eq!(step.from_values(&[list]).unwrap().as_f32().unwrap(), &tensor.as_f32().unwrap()[..14]);
}

#[test]
fn errors_name_the_instance_and_the_field() {
    let mixed = step(mixed());
    let cases = [
        (vec![Value::Record(vec![("x".into(), Value::Number(1.0))])], "instance 0: field `text` is missing"),
        (
            vec![Value::Record(vec![("y".into(), Value::Number(1.0))])],
            "field `y` is not an input of the model",
        ),
        (vec![text("a")], "expected an object with `text`, `title`, `x`, `c`, found a string"),
        (vec![Value::Numbers(vec![1.0])], "expected a list of 4 values"),
        (
            vec![Value::List(vec![text("t"), text("t"), text("NaN"), text("c")])],
            "column `x`: \"NaN\" is not a finite float32 number",
        ),
        (
            vec![Value::List(vec![text("t"), Value::Null, Value::Number(0.0), text("c")])],
            "column `title`: expected a string, found nothing",
        ),
    ];
    for (instances, expected) in cases {
        let error = mixed.from_values(&instances).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let block = RowBlock::new(vec!["x".to_owned()], 0, &[vec!["1"]]).unwrap();
    let error = mixed.from_rows(&block).unwrap_err().to_string();
    assert!(error.contains("the rows have no column `text`"), "{error}");
}

#[test]
fn pixels_take_nested_lists() {
    let columns: Vec<String> = (0..4).map(|i| format!("p{i}")).collect();
    let pixels = FittedFeature::Pixels { columns, shape: [2, 2, 1], scale: 0.5 };
    let spec = TrainSpec::from_yaml("layers: [flatten, {dense: 2, activation: softmax}]").unwrap();
    let layers = spec.layers.clone();
    let task = Task::Classification { labels: vec!["n".into(), "y".into()] };
    let step = FeatureStep::new(&Manifest::new(task, vec![pixels], vec![2, 2, 1], layers, 1, spec)).unwrap();
    let nested = Value::List(vec![Value::Numbers(vec![1.0, 2.0]), Value::Numbers(vec![3.0, 4.0])]);
    let tensor = step.from_values(&[nested]).unwrap();
    assert_eq!(tensor.shape(), [1, 2, 2, 1]);
    assert_eq!(tensor.as_f32().unwrap(), [0.5, 1.0, 1.5, 2.0]);
}

#[test]
fn masked_texts_keep_what_lies_between() {
    let step = step(vec![evidence()]);
    let sentence = "A small, grey bird.";
    assert_eq!(step.text_tokens(sentence), [0..1, 2..7, 9..13, 14..18]);
    assert_eq!(step.text_from_mask(sentence, &[true, false, true, false]), "A , grey .");
    assert_eq!(step.text_from_mask(sentence, &[true; 4]), sentence);
    assert_eq!(step.text_from_mask(sentence, &[false; 4]), " ,  .");
}

#[test]
fn shares_sum_to_the_attributions() {
    let step = step(mixed());
    let instance =
        Value::List(vec![text("a small unknown bird"), text("red car red"), Value::Number(3.0), text("g")]);
    let width = step.baseline().unwrap().row_len();
    let attributions: Vec<f64> = (0..width).map(|i| (i as f64 * 0.7).sin()).collect();
    let shares = step.share(&instance, &attributions).unwrap();
    let tokens: Vec<Option<usize>> = shares.iter().map(|s| s.tokens.as_ref().map(Vec::len)).collect();
    assert_eq!(tokens, [Some(4), Some(3), None, None]);
    let total: f64 = shares.iter().flat_map(|s| &s.values).sum();
    assert!((total - attributions.iter().sum::<f64>()).abs() < 1e-9);
    // The chosen word's own column belongs to that word alone.
    let mut chosen = vec![0.0; width];
    chosen[6] = 1.0;
    assert_eq!(step.share(&instance, &chosen).unwrap()[0].values, [0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn ids_cut_and_pad() {
    let sequence = FittedFeature::Sequence {
        column: "text".into(),
        vocabulary: vec!["a".into(), "bird".into()],
        length: 4,
    };
    let spec = TrainSpec::from_yaml(
        "layers: [{embedding: 3, input_dim: 4}, global_average_pooling1d, {dense: 2, activation: softmax}]",
    )
    .unwrap();
    let layers = spec.layers.clone();
    let task = Task::Classification { labels: vec!["n".into(), "y".into()] };
    let step = FeatureStep::new(&Manifest::new(task, vec![sequence], vec![4], layers, 1, spec)).unwrap();
    let tensor = step.from_values(&[text("A big bird."), text("a a a a bird")]).unwrap();
    assert_eq!(tensor.data(), &Data::I32(vec![2, 1, 3, 0, 2, 2, 2, 2]));
}
