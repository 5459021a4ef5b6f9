#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use formats::Value;
use formats::manifest::{FittedFeature, Task, Weights};
use formats::rows::RowBlock;
use tensor::features::FeatureStep;
use tensor::{Data, OnnxModel, Tensor};

use super::*;
use crate::random::Random;
use crate::{Blocks, Network, NetworkError};

fn block(names: &[&str], rows: &[Vec<String>]) -> Blocks {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    Blocks::new(vec![RowBlock::new(names, 0, rows).unwrap()])
}

/// Two columns of numbers in three clouds.
fn clouds(n: usize) -> Blocks {
    let mut random = Random::new(1, 9);
    let rows: Vec<Vec<String>> = (0..n)
        .map(|i| {
            let (label, x, y) = [("red", 0.0, 0.0), ("green", 4.0, 0.0), ("blue", 0.0, 4.0)][i % 3];
            vec![(x + random.normal()).to_string(), (y + random.normal()).to_string(), label.to_owned()]
        })
        .collect();
    block(&["x", "y", "color"], &rows)
}

/// Images of 6 x 6 with a bar that stands or lies.
fn bars(n: usize) -> Blocks {
    let mut random = Random::new(2, 9);
    let mut names: Vec<String> = (0..36).map(|i| format!("p{i}")).collect();
    names.push("label".to_owned());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = (0..n)
        .map(|i| {
            let (at, stands) = (random.below(6), i % 2 == 0);
            let lit = |p: usize| if stands { p % 6 == at } else { p / 6 == at };
            let pixel = |p: usize, r: &mut Random| if lit(p) { 200 + r.below(55) } else { r.below(60) };
            let mut row: Vec<String> = (0..36).map(|p| pixel(p, &mut random).to_string()).collect();
            row.push(if stands { "stands" } else { "lies" }.to_owned());
            row
        })
        .collect();
    block(&names, &rows)
}

fn sentences(n: usize) -> Blocks {
    let mut random = Random::new(3, 9);
    let words = [["bird", "fish", "horse", "a small animal"], ["tree", "flower", "moss", "grows from seed"]];
    let filler = ["the", "of", "found in", "Europe", "large", "grey", "commonly"];
    let rows: Vec<Vec<String>> = (0..n)
        .map(|i| {
            let mut text = Vec::new();
            for _ in 0..4 {
                text.push(filler[random.below(filler.len())]);
            }
            text.insert(random.below(4), words[i % 2][random.below(4)]);
            vec![["animal", "plant"][i % 2].to_owned(), text.join(" ")]
        })
        .collect();
    block(&["class", "definition"], &rows)
}

fn run(yaml: &str, mut rows: Blocks) -> Result<Trained, TrainError> {
    fit(&TrainSpec::from_yaml(yaml).unwrap(), &mut rows, &mut |_| Flow::Continue)
}

fn file<'a>(trained: &'a Trained, name: &str) -> &'a [u8] {
    &trained.files.iter().find(|(n, _)| n == name).unwrap().1
}

fn network(trained: &Trained) -> (Manifest, Network) {
    let manifest = Manifest::parse(file(trained, "meuse.json")).unwrap();
    let weights = Weights::parse(file(trained, "weights.safetensors")).unwrap();
    let network = Network::new(&manifest, &weights).unwrap();
    (manifest, network)
}

/// Some rows of input for a trained network.
fn inputs(manifest: &Manifest, rows: usize) -> Tensor {
    let mut random = Random::new(5, 9);
    let shape = [&[rows], manifest.input_shape.as_slice()].concat();
    let count = shape.iter().product();
    let data = match manifest.features.first() {
        Some(FittedFeature::Sequence { vocabulary, .. }) => {
            Data::I32((0..count).map(|_| random.below(vocabulary.len() + 2) as i32).collect())
        }
        _ => Data::F32((0..count).map(|_| random.normal() as f32).collect()),
    };
    Tensor::new(shape, data).unwrap()
}

fn assert_same_answers(name: &str, trained: &Trained) {
    let (manifest, network) = network(trained);
    let model = OnnxModel::from_bytes(file(trained, "model.onnx").to_vec()).unwrap();
    let inputs = inputs(&manifest, 7);
    let ours = network.predict(&inputs).unwrap();
    let theirs = model.run(&[("input".to_owned(), inputs)]).unwrap();
    let (ours, theirs) = (ours.as_f32().unwrap(), theirs[0].1.as_f32().unwrap());
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: {a} {b}");
    }
}

const CONV: &str = "layers:
  - {conv2d: 4, kernel_size: 3, padding: same, strides: 2, activation: relu}
  - batch_normalization
  - {max_pooling2d: 2, padding: same, strides: 1}
  - dropout: 0.1
  - {conv2d: 3, kernel_size: [2, 3], use_bias: false}
  - {activation: gelu}
  - flatten
  - {dense: labels, activation: softmax}
features: [{pixels: p*}]
epochs: 6
batch_size: 16
learning_rate: 0.01";

#[test]
fn clouds_are_told_apart() {
    let trained = run("label: color\nepochs: 30\nvalidation_split: 0.25", clouds(400)).unwrap();
    let last = trained.epochs.last().unwrap();
    assert_eq!((trained.epochs.len(), trained.rows), (30, 400));
    assert!(last.accuracy.unwrap() > 0.93, "{last:?}");
    assert!(last.validation_accuracy.unwrap() > 0.9, "{last:?}");
    let (manifest, _) = network(&trained);
    let labels = ["blue", "green", "red"].map(str::to_owned).to_vec();
    assert_eq!(manifest.task, Task::Classification { labels });
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_thread() {
    let train = || run(&format!("{CONV}\nvalidation_split: 0.2"), bars(80)).unwrap().files;
    let first = train();
    let others: Vec<_> = std::thread::scope(|s| {
        let handles: Vec<_> = (0..4).map(|_| s.spawn(train)).collect();
        handles.into_iter().map(|h| h.join().unwrap()).collect()
    });
    assert!(others.iter().all(|files| *files == first));
    let text = || run("label: class\nepochs: 2", sentences(60)).unwrap().files;
    assert!(text() == text());
    assert_ne!(run(&format!("{CONV}\nseed: 1"), bars(80)).unwrap().files[2], first[2]);
}

#[test]
fn onnx_answers_as_the_trained_network() {
    let cases = [
        ("dense", "label: color\nepochs: 2", clouds(90)),
        (
            "activations",
            "label: color\nepochs: 2\nlayers: [{dense: 8, activation: elu}, {dense: 8, activation: selu}, \
             {dense: 8, activation: leaky_relu}, {dense: 8, activation: softplus}, batch_normalization, \
             {dense: 8, activation: tanh}, {dense: 8, activation: sigmoid}, {normalization: {mean: [0.1], variance: [2]}}, \
             {dense: labels}]",
            clouds(90),
        ),
        ("convolution", CONV, bars(80)),
        (
            "binary",
            "layers: [flatten, {dense: 1, activation: sigmoid}]\nfeatures: [{pixels: p*}]\nepochs: 2",
            bars(80),
        ),
        ("text", "label: class\nepochs: 2", sentences(60)),
        (
            "embedding",
            "label: class\nepochs: 3\nlayers: [{text_vectorization: 50, output_sequence_length: 6}, \
             {embedding: 4, mask_zero: true}, global_average_pooling1d, {dense: labels, activation: softmax}]",
            sentences(60),
        ),
        ("regression", "label: y\ntask: regression\nfeatures: [{numeric: x}]\nepochs: 2", clouds(90)),
    ];
    for (name, yaml, rows) in cases {
        assert_same_answers(name, &run(yaml, rows).unwrap());
    }
}

#[test]
fn bars_are_told_apart_by_convolution() {
    let trained = run(CONV, bars(200)).unwrap();
    assert!(trained.epochs.last().unwrap().accuracy.unwrap() > 0.95, "{:?}", trained.epochs.last());
}

#[test]
fn texts_are_told_apart_and_raw_text_goes_in() {
    let trained = run("label: class\nepochs: 20\nvalidation_split: 0.2", sentences(300)).unwrap();
    assert!(trained.epochs.last().unwrap().validation_accuracy.unwrap() > 0.95);
    let (manifest, network) = network(&trained);
    assert_eq!(manifest.input_shape, [100]);
    let step = FeatureStep::new(&manifest).unwrap();
    let texts = ["a grey horse", "a large tree of Europe"].map(|t| Value::Text(t.to_owned()));
    let answers = network.predict(&step.from_values(&texts).unwrap()).unwrap();
    let scores = answers.as_f32().unwrap();
    assert!(scores[0] > 0.5 && scores[3] > 0.5, "{scores:?}");
    // Integrated gradients land on the words that matter.
    let baseline = step.baseline().unwrap();
    let input = step.from_values(&texts[..1]).unwrap();
    let attributions = integrated(&network, &input, &baseline, 0, 64);
    let shares = step.share(&texts[0], &attributions).unwrap();
    let best = shares[0].values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    assert_eq!(best, 2, "{shares:?}");
    let total: f64 = shares[0].values.iter().sum();
    let zero = network.predict(&baseline).unwrap().as_f32().unwrap()[0];
    assert!((total - f64::from(scores[0] - zero)).abs() < 0.02, "{total}");
}

#[test]
fn a_regression_answers_in_the_labels_unit() {
    let rows: Vec<Vec<String>> = (0..300)
        .map(|i| {
            let x = f64::from(i % 100);
            vec![x.to_string(), (50_000.0 + 1_000.0 * x).to_string()]
        })
        .collect();
    let trained =
        run("label: price\nepochs: 20\nlearning_rate: 0.01", block(&["size", "price"], &rows)).unwrap();
    let last = trained.epochs.last().unwrap();
    assert!(last.mean_absolute_error.unwrap() < 2_000.0, "{last:?}");
    let (manifest, network) = network(&trained);
    assert_eq!(manifest.task, Task::Regression {});
    let step = FeatureStep::new(&manifest).unwrap();
    let answer = network.predict(&step.from_values(&[Value::Numbers(vec![50.0])]).unwrap()).unwrap();
    assert!((answer.as_f32().unwrap()[0] - 100_000.0).abs() < 5_000.0, "{answer:?}");
}

#[test]
fn bad_rows_are_listed_and_left_out() {
    let mut rows: Vec<Vec<String>> =
        (0..20).map(|i| vec![i.to_string(), ["a", "b"][i % 2].to_owned()]).collect();
    rows[3][0] = "three".to_owned();
    rows[7][1] = " ".to_owned();
    let trained = run("epochs: 1", block(&["x", "label"], &rows)).unwrap();
    let faults: Vec<String> = trained.faults.iter().map(|f| format!("{}: {}", f.row, f.reason)).collect();
    assert_eq!(faults, ["3: column `x`: \"three\" is not a number", "7: column `label`: the label is empty"]);
    assert_eq!(trained.rows, 18);
}

#[test]
fn errors_say_what_to_do() {
    let one = |yaml: &str, rows: Blocks| run(yaml, rows).unwrap_err().to_string();
    let cases = [
        (one("label: colour", clouds(9)), "the rows have no column `colour`; they have: x, y, color"),
        (
            one("label: color\nlayers: [{dense: 5}]", clouds(9)),
            "gives 5 outputs, but column `color` has 3 labels",
        ),
        (one("label: color\nlayers: [{max_pooling2d: 2}, {dense: labels}]", clouds(9)), "needs images"),
        (one("label: color\nlayers: [{input: [7]}, {dense: labels}]", clouds(9)), "states rows of shape [7]"),
        (
            one("label: color\nclass_weight: {pink: 2}", clouds(9)),
            "class_weight.pink: is not one of the labels",
        ),
        (
            one("label: color\nlabels: [red, green, blue, pink]", clouds(9)),
            "no usable row has the label `pink`",
        ),
        (
            one("label: color\nfeatures: [{numeric: color}]", clouds(9)),
            "none of the 9 rows can be used; the first fault: row 0",
        ),
        (
            one("label: color\noptimizer: sgd\nlearning_rate: 100\nepochs: 50", clouds(90)),
            "a smaller learning rate than 100",
        ),
        (one("label: x", block(&["x", "y"], &[])), "none of the 0 rows can be used"),
        (
            one(
                "label: color\nlayers: [{dense: labels, activation: relu}]\nloss: categorical_crossentropy",
                clouds(9),
            ),
            "needs a last activation of softmax",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_stop_takes_effect() {
    let spec = TrainSpec::from_yaml("label: color\nepochs: 1000000").unwrap();
    let stopped =
        fit(&spec, &mut clouds(30), &mut |e| if e.epoch == 3 { Flow::Stop } else { Flow::Continue });
    assert!(matches!(stopped, Err(TrainError::Stopped)));
    let mut asked = 0;
    let mut check = || {
        asked += 1;
        if asked > 3 { Flow::Stop } else { Flow::Continue }
    };
    let stopped = fit_until(&spec, &mut clouds(600), &mut |_| Flow::Continue, &mut check);
    assert!(matches!(stopped, Err(TrainError::Stopped)));
}

#[test]
fn early_stopping_keeps_the_best_weights() {
    let yaml = "label: color\nepochs: 200\nvalidation_split: 0.3\nlearning_rate: 0.05\n\
                early_stopping: {patience: 3, restore_best: true}";
    let trained = run(yaml, clouds(120)).unwrap();
    assert!(trained.epochs.len() < 200);
    let best = trained.epochs.iter().filter_map(|e| e.validation_loss).fold(f64::INFINITY, f64::min);
    let at = trained.epochs.iter().position(|e| e.validation_loss == Some(best)).unwrap();
    assert_eq!(at + 4, trained.epochs.len());
}

#[test]
fn a_heavy_class_wins_ties() {
    let rows: Vec<Vec<String>> = (0..60).map(|i| vec!["1".into(), ["a", "b"][i % 2].to_owned()]).collect();
    let yaml = "features: [{numeric: x}]\nlayers: [{dense: labels}]\nclass_weight: {b: 9}\nepochs: 100\nlearning_rate: 0.05";
    let trained = run(yaml, block(&["x", "label"], &rows)).unwrap();
    let (manifest, network) = network(&trained);
    let scores = network.predict(&inputs(&manifest, 1)).unwrap();
    assert!((scores.as_f32().unwrap()[1] - 0.9).abs() < 0.05, "{scores:?}");
}

/// Integrated gradients of one row, by the numbers of its point.
fn integrated(network: &Network, row: &Tensor, baseline: &Tensor, output: usize, steps: usize) -> Vec<f64> {
    let (input, baseline) = (network.points(row).unwrap(), network.points(baseline).unwrap());
    let (x, b) = (input.as_f32().unwrap(), baseline.as_f32().unwrap());
    let mut path = Vec::new();
    for step in 0..steps {
        let t = (step as f32 + 0.5) / steps as f32;
        path.extend(x.iter().zip(b).map(|(x, b)| b + t * (x - b)));
    }
    let shape = [&[steps], &input.shape()[1..]].concat();
    let gradients = network.gradients(row, &Tensor::new(shape, Data::F32(path)).unwrap(), output).unwrap();
    let mut sums = vec![0.0; x.len()];
    for row in gradients.as_f32().unwrap().chunks(x.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, g)| *sum += f64::from(*g));
    }
    sums.iter().zip(x.iter().zip(b)).map(|(sum, (x, b))| sum / steps as f64 * f64::from(x - b)).collect()
}

#[test]
fn integrated_gradients_are_complete() {
    for (yaml, rows) in [("label: color\nepochs: 10", clouds(200)), (CONV, bars(80))] {
        let (manifest, network) = network(&run(yaml, rows).unwrap());
        let input = inputs(&manifest, 1);
        let baseline = Tensor::new(input.shape().to_vec(), Data::F32(vec![0.0; input.row_len()])).unwrap();
        let sum: f64 = integrated(&network, &input, &baseline, 1, 200).iter().sum();
        let answer = |t: &Tensor| f64::from(network.predict(t).unwrap().as_f32().unwrap()[1]);
        let gap = answer(&input) - answer(&baseline);
        assert!((sum - gap).abs() < 5e-3, "{sum} {gap}");
    }
}

#[test]
fn integrated_gradients_of_an_embedding_are_complete_and_fall_on_the_telling_word() {
    let rows: Vec<Vec<String>> = (0..60)
        .map(|i| {
            let (noun, label) = [("cat", "animal"), ("ship", "thing")][i % 2];
            vec![format!("{} {noun} here", ["a", "the", "one"][i % 3]), label.to_owned()]
        })
        .collect();
    for mask in ["true", "false"] {
        let yaml = format!(
            "features: [{{text: text, method: sequence, max_tokens: 50, length: 6}}]\nepochs: 40\nlearning_rate: 0.02\n\
             layers: [{{embedding: 4, mask_zero: {mask}}}, global_average_pooling1d, {{dense: labels, activation: softmax}}]"
        );
        let (manifest, network) = network(&run(&yaml, block(&["text", "label"], &rows)).unwrap());
        let features = FeatureStep::new(&manifest).unwrap();
        let input = features.from_values(&[Value::Text("the cat here".to_owned())]).unwrap();
        let baseline = features.baseline().unwrap();
        let values = integrated(&network, &input, &baseline, 0, 100);
        let answer = |t: &Tensor| f64::from(network.predict(t).unwrap().as_f32().unwrap()[0]);
        let gap = answer(&input) - answer(&baseline);
        let by_token: Vec<f64> = values.chunks(4).map(|v| v.iter().sum()).collect();
        assert_eq!(by_token.len(), 6);
        assert!((by_token.iter().sum::<f64>() - gap).abs() < 5e-3, "{mask}: {by_token:?} {gap}");
        assert!(by_token[1] > by_token[0] && by_token[1] > by_token[2], "{mask}: {by_token:?}");
        assert!(by_token[3..].iter().all(|v| v.abs() < 1e-6), "{mask}: {by_token:?}");
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let smooth = "layers: [{conv2d: 3, kernel_size: 3, padding: same, activation: tanh}, batch_normalization, flatten, \
                  {dense: 8, activation: tanh}, {dense: labels, activation: softmax}]\nfeatures: [{pixels: p*}]\nepochs: 3";
    for (yaml, rows) in [
        (
            "label: color\nepochs: 10\nlayers: [{dense: 8, activation: tanh}, {dense: labels, activation: softmax}]",
            clouds(200),
        ),
        (smooth, bars(80)),
    ] {
        let (manifest, network) = network(&run(yaml, rows).unwrap());
        let input = inputs(&manifest, 2);
        let gradients = network.gradients(&input, &input, 1).unwrap();
        assert_eq!(gradients.shape(), input.shape());
        let values = input.as_f32().unwrap();
        for i in (0..values.len()).step_by(7) {
            let at = |delta: f32| {
                let mut moved = values.to_vec();
                moved[i] += delta;
                let moved = Tensor::new(input.shape().to_vec(), Data::F32(moved)).unwrap();
                let row = i / input.row_len();
                f64::from(network.predict(&moved).unwrap().as_f32().unwrap()[row * network.outputs() + 1])
            };
            let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
            let gradient = f64::from(gradients.as_f32().unwrap()[i]);
            assert!((slope - gradient).abs() < 2e-3 + 0.02 * gradient.abs(), "{i}: {slope} {gradient}");
        }
    }
}

#[test]
fn gradients_refuse_what_they_cannot_give() {
    let (manifest, network) = network(&run("label: color\nepochs: 1", clouds(30)).unwrap());
    let input = inputs(&manifest, 1);
    assert!(matches!(
        network.gradients(&input, &input, 3),
        Err(NetworkError::Output { output: 3, outputs: 3 })
    ));
    let wrong = Tensor::new(vec![1, 5], Data::F32(vec![0.0; 5])).unwrap();
    assert!(matches!(network.gradients(&wrong, &wrong, 0), Err(NetworkError::Inputs { .. })));
}
