//! The way back against differences.

#![allow(clippy::unwrap_used)]

use formats::spec::TrainSpec;
use kernels::Isa;

use super::*;

/// How far a weight is moved to either side.
const STEP: f32 = 4e-3;

/// A network, and a batch for it that can be had again.
fn case(layers: &str, shape: &[usize], ids: bool) -> (Net, impl Fn() -> Batch) {
    let spec = TrainSpec::from_yaml(&format!("layers: {layers}")).unwrap();
    let mut net = Net::new(shape, &spec.layers, false, 7).unwrap();
    let mut random = Random::new(11, 9);
    // Not even what starts as zeros and ones is like another.
    for param in &mut net.params {
        param.values.iter_mut().for_each(|value| *value += 0.3 * random.unit() as f32);
    }
    let count = 5 * shape.iter().product::<usize>();
    let batch = move || {
        let mut random = Random::new(13, 9);
        match ids {
            true => Batch::Ids((0..count).map(|_| random.below(6) as i32).collect()),
            false => Batch::Numbers((0..count).map(|_| random.normal() as f32).collect()),
        }
    };
    (net, batch)
}

/// What each of the outputs counts, none like another.
fn weight(at: usize) -> f32 {
    ((at * 7) % 11) as f32 / 5.0 - 1.0
}

fn weighed(net: &Net, batch: Batch, mode: Mode<'_>) -> f64 {
    let pass = net.run(batch, mode, &mut Products::new().unwrap()).unwrap();
    pass.output().iter().enumerate().map(|(at, y)| f64::from(*y) * f64::from(weight(at))).sum()
}

const IMAGES: &str = "[{normalization: {mean: [0.1, -0.2], variance: [2, 0.5]}}, \
    {conv2d: 3, kernel_size: 3, padding: same, strides: 2, activation: tanh}, batch_normalization, {dropout: 0.3}, \
    {max_pooling2d: 2, padding: same, strides: 1}, {conv2d: 4, kernel_size: [2, 3], activation: gelu, use_bias: false}, \
    flatten, {dense: 5, activation: softplus}, {batch_normalization: {center: false, scale: false}}, {activation: elu}, \
    {dense: 3, activation: softmax}]";
const TEXTS: &str = "[{embedding: 4, input_dim: 6, mask_zero: true}, {dense: 3, activation: selu}, batch_normalization, \
    global_average_pooling1d, {dense: 2, activation: sigmoid}]";
const ROWS: &str = "[{dense: 6, activation: leaky_relu}, {dense: 4, use_bias: false}, {dense: 3}]";

#[test]
fn gradients_by_weights_are_slopes() {
    for (layers, shape, ids) in
        [(IMAGES, &[7, 6, 2][..], false), (TEXTS, &[4][..], true), (ROWS, &[5][..], false)]
    {
        let (net, batch) = case(layers, shape, ids);
        let (mut products, mut gradients) = (Products::new().unwrap(), net.gradients());
        let pass = net.run(batch(), Mode::Training(&mut Random::new(1, 2)), &mut products).unwrap();
        let seed = (0..pass.output().len()).map(weight).collect();
        // What was there before is not added to.
        gradients.iter_mut().for_each(|sums| sums.fill(9.0));
        net.back(&pass, seed, Wanted::Weights(&mut gradients), &mut products).unwrap();
        for (number, param) in net.params.iter().enumerate().filter(|(_, param)| param.learns()) {
            assert_eq!(gradients[number].len(), param.values.len());
            for (at, gradient) in gradients[number].iter().enumerate() {
                let moved = |by: f32| {
                    let mut net = net.clone();
                    net.params[number].values[at] += by;
                    weighed(&net, batch(), Mode::Training(&mut Random::new(1, 2)))
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
                let gradient = f64::from(*gradient);
                let close = (slope - gradient).abs() < 4e-3 + 0.02 * gradient.abs();
                assert!(close, "{} {} of layer {}: {slope} {gradient}", param.name, at, param.layer);
            }
        }
    }
}

#[test]
fn gradients_by_input_are_slopes() {
    for (layers, shape) in [(IMAGES, &[7, 6, 2][..]), (ROWS, &[5][..])] {
        let (net, batch) = case(layers, shape, false);
        let Batch::Numbers(x) = batch() else { unreachable!() };
        let mut products = Products::new().unwrap();
        let pass = net.run(batch(), Mode::Derivation, &mut products).unwrap();
        let seed = (0..pass.output().len()).map(weight).collect();
        let gradients = net.back(&pass, seed, Wanted::Input, &mut products).unwrap();
        assert_eq!(gradients.len(), x.len());
        for at in 0..x.len() {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[at] += by;
                weighed(&net, Batch::Numbers(x), Mode::Inference)
            };
            let slope = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
            let gradient = f64::from(gradients[at]);
            assert!((slope - gradient).abs() < 4e-3 + 0.02 * gradient.abs(), "{at}: {slope} {gradient}");
        }
    }
}

#[test]
fn images_too_many_for_one_product_give_what_each_gives() {
    let spec = TrainSpec::from_yaml("layers: [{conv2d: 8, kernel_size: 5, padding: same}, flatten]").unwrap();
    let net = Net::new(&[40, 40, 3], &spec.layers, false, 3).unwrap();
    let mut random = Random::new(5, 9);
    let image = 40 * 40 * 3;
    let x: Vec<f32> = (0..3 * image).map(|_| random.normal() as f32).collect();
    let mut by_isa = Vec::new();
    for isa in Isa::available() {
        let mut products = Products::by(isa).unwrap();
        let together = net.run(Batch::Numbers(x.clone()), Mode::Inference, &mut products).unwrap();
        let mut apart = Vec::new();
        for x in x.chunks(image) {
            let pass = net.run(Batch::Numbers(x.to_vec()), Mode::Inference, &mut products).unwrap();
            apart.extend_from_slice(pass.output());
        }
        assert_eq!(together.output(), apart);
        by_isa.push(apart);
    }
    assert!(by_isa.iter().all(|given| *given == by_isa[0]));
}

#[test]
fn an_id_beyond_the_table_is_refused() {
    let (net, _) = case(TEXTS, &[4], true);
    for id in [-1, 6] {
        let refused = net.run(Batch::Ids(vec![1, 2, id, 0]), Mode::Inference, &mut Products::new().unwrap());
        assert!(matches!(refused, Err(PassError::Id(found)) if found == id));
    }
}
