#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn dense(units: Option<usize>, activation: Activation) -> Layer {
    Layer::Dense {
        units,
        activation,
        use_bias: true,
        kernel_initializer: Initializer::GlorotUniform,
        bias_initializer: Initializer::Zeros,
    }
}

#[test]
fn a_short_document_is_enough() {
    let spec = TrainSpec::from_yaml(
        "label: class\nfeatures: [{text: definition}]\nlayers:\n  - {dense: 64, activation: relu}\n  - dropout: 0.1\n  \
         - flatten\n  - {dense: labels, activation: softmax}\n",
    )
    .unwrap();
    assert_eq!(spec.label, "class");
    let text = Feature::Text { column: "definition".into(), vectorizer: Vectorizer::Evidence { width: 100 } };
    assert_eq!(spec.features, Some(vec![text]));
    let expected = vec![
        dense(Some(64), Activation::Relu),
        Layer::Dropout { rate: 0.1 },
        Layer::Flatten,
        dense(None, Activation::Softmax),
    ];
    assert_eq!(spec.layers, expected);
    assert_eq!((spec.epochs, spec.batch_size, spec.seed, spec.shuffle), (10, 32, 0, true));
    assert_eq!(spec.optimizer, Optimizer::default());
    assert_eq!(TrainSpec::from_yaml("label: y").unwrap().layers.len(), 3);
}

#[test]
fn every_option_reads() {
    let spec = TrainSpec::from_json(
        r#"{"label":"y","task":"classification","labels":["a","b"],
            "features":[{"numeric":["x*"],"standardize":false},{"categorical":"c","max_categories":5},
                        {"text":"t","tokens":"characters","ngrams":[2,4],"width":50}],
            "layers":[{"type":"dense","units":4},{"activation":"tanh"},{"dense":{"units":2,"use_bias":false}}],
            "optimizer":{"sgd":{"momentum":0.9,"nesterov":true}},"learning_rate":0.1,
            "loss":"sparse_categorical_crossentropy","metrics":["accuracy"],"epochs":3,"batch_size":8,
            "validation_split":0.2,"early_stopping":{"monitor":"val_loss","patience":2,"restore_best":true},
            "class_weight":{"a":2},"seed":7,"shuffle":false}"#,
    )
    .unwrap();
    assert_eq!(spec.optimizer.rule, Rule::Sgd { momentum: 0.9, nesterov: true });
    assert_eq!(spec.optimizer.learning_rate, 0.1);
    assert_eq!(spec.class_weight, vec![("a".to_owned(), 2.0)]);
    assert_eq!(spec.layers[1], Layer::Activation { function: Activation::Tanh });
    assert_eq!(spec.early_stopping.unwrap().patience, 2);
}

/// A document and what its error must say.
#[test]
fn errors_name_the_place_and_the_limit() {
    let cases = [
        ("layers: [{dense: 0}]", "layers[0] (dense).units: expected a whole number from 1 to 65536, found 0"),
        ("layers: [lstm]", "layers[0]: the layer `lstm` is not supported"),
        ("layers: [{lstm: 3}]", "the layer `lstm` is not supported"),
        ("layers: [{dense: 3, activatoin: relu}]", "layers[0] (dense).activatoin: is not an option here"),
        ("layers: [{dense: 3, activation: swoosh}]", "layers[0] (dense).activation: the activation `swoosh`"),
        ("layers: [{dense: 3, kernel_regularizer: l2}]", "kernel_regularizer: `l2` is not supported"),
        (
            "layers: [{dense: 3, kernel_initializer: orthogonal}]",
            "the initialiser `orthogonal` is not supported",
        ),
        ("layers: [{dense: 3}, {embedding: 4}]", "layers[1]: an embedding must be the first layer"),
        ("epoch: 3", "epoch: is not an option here"),
        ("epochs: 0", "epochs: expected a whole number from 1"),
        (
            "optimizer: rmsprop",
            "optimizer: the optimiser `rmsprop` is not supported; there are: sgd, adam, adamw",
        ),
        ("optimizer: {adam: {amsgrad: true}}", "optimizer.adam.amsgrad: true is not supported"),
        ("loss: hinge", "loss: the loss `hinge` is not supported"),
        ("metrics: [auc]", "metrics[0]: the metric `auc`"),
        ("features: [{image: file}]", "features[0].shape: is missing"),
        (
            "features: [{image: file, shape: [8, 8, 2]}]",
            "features[0].shape: an image has 1 or 3 channels, not 2",
        ),
        ("features: [{text: [a, b]}]", "features[0].text: takes one column, not 2"),
        ("early_stopping: {patience: 2}", "early_stopping.monitor: watches validation rows"),
        ("validation_split: .nan", "validation_split"),
        ("layers: []\n", "there is no layer"),
        ("{", "not YAML"),
    ];
    let mut wrong = Vec::new();
    for (document, expected) in cases {
        match TrainSpec::from_yaml(document) {
            Err(e) if e.to_string().contains(expected) => {}
            other => wrong.push(format!("{document}: {:?}", other.map(|_| ()).map_err(|e| e.to_string()))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As Keras 3 prints it, shortened to the fields that matter and one of each ignored kind.
const KERAS_3: &str = r#"{"module":"keras","class_name":"Sequential","config":{"name":"sequential","trainable":true,
"dtype":{"module":"keras","class_name":"DTypePolicy","config":{"name":"float32"},"registered_name":null},
"layers":[
{"module":"keras.layers","class_name":"InputLayer","config":{"batch_shape":[null,100],"dtype":"float32","sparse":false,
 "ragged":false,"name":"input_layer"},"registered_name":null},
{"module":"keras.layers","class_name":"Dense","config":{"name":"dense","trainable":true,"dtype":{"module":"keras",
 "class_name":"DTypePolicy","config":{"name":"float32"},"registered_name":null},"units":64,"activation":"relu",
 "use_bias":true,"kernel_initializer":{"module":"keras.initializers","class_name":"GlorotUniform","config":{"seed":null},
 "registered_name":null},"bias_initializer":{"module":"keras.initializers","class_name":"Zeros","config":{},
 "registered_name":null},"kernel_regularizer":null,"bias_regularizer":null,"kernel_constraint":null,
 "bias_constraint":null,"quantization_config":null},"registered_name":null,"build_config":{"input_shape":[null,100]}},
{"module":"keras.layers","class_name":"Dropout","config":{"name":"d","trainable":true,"dtype":"float32","rate":0.5,
 "seed":null,"noise_shape":null},"registered_name":null},
{"module":"keras.layers","class_name":"Dense","config":{"name":"dense_1","trainable":true,"dtype":"float32","units":10,
 "activation":"softmax","use_bias":true},"registered_name":null}],
"build_input_shape":[null,100]},"registered_name":null,"build_config":{"input_shape":[null,100]},
"compile_config":{"optimizer":{"module":"keras.optimizers","class_name":"Adam","config":{"name":"adam",
 "learning_rate":0.0020000000949949026,"weight_decay":null,"clipnorm":null,"global_clipnorm":null,"clipvalue":null,
 "use_ema":false,"ema_momentum":0.99,"ema_overwrite_frequency":null,"loss_scale_factor":null,
 "gradient_accumulation_steps":null,"beta_1":0.9,"beta_2":0.999,"epsilon":1e-07,"amsgrad":false},
 "registered_name":null},"loss":"sparse_categorical_crossentropy","loss_weights":null,"metrics":["accuracy"],
 "weighted_metrics":null,"run_eagerly":false,"steps_per_execution":1,"jit_compile":false}}"#;

#[test]
fn keras_3_reads_with_its_compile_options() {
    let spec = TrainSpec::from_json(KERAS_3).unwrap();
    assert_eq!(spec.input_shape, Some(vec![100]));
    assert_eq!(
        spec.layers,
        vec![
            dense(Some(64), Activation::Relu),
            Layer::Dropout { rate: 0.5 },
            dense(Some(10), Activation::Softmax)
        ]
    );
    assert!((spec.optimizer.learning_rate - 0.002).abs() < 1e-9);
    assert_eq!(spec.loss, Some(Loss::CategoricalCrossentropy));
    assert_eq!(spec.metrics, vec![Metric::Accuracy]);
    // As the `model` of a document, whose own fields win.
    let yaml = format!("label: class\nepochs: 3\noptimizer: sgd\nmodel: '{}'", KERAS_3.replace('\n', ""));
    let spec = TrainSpec::from_yaml(&yaml).unwrap();
    assert_eq!((spec.label.as_str(), spec.epochs), ("class", 3));
    assert_eq!(spec.optimizer.rule, Rule::Sgd { momentum: 0.0, nesterov: false });
}

#[test]
fn keras_2_reads() {
    let json = r#"{"class_name":"Sequential","config":{"name":"s","layers":[
      {"class_name":"Conv2D","config":{"name":"c","trainable":true,"batch_input_shape":[null,28,28,1],"dtype":"float32",
       "filters":8,"kernel_size":[3,3],"strides":[1,1],"padding":"same","data_format":"channels_last",
       "dilation_rate":[1,1],"groups":1,"activation":"relu","use_bias":true,
       "kernel_initializer":{"class_name":"GlorotUniform","config":{"seed":null}},
       "bias_initializer":{"class_name":"Zeros","config":{}},"kernel_regularizer":null,"bias_regularizer":null,
       "activity_regularizer":null,"kernel_constraint":null,"bias_constraint":null}},
      {"class_name":"MaxPooling2D","config":{"name":"m","trainable":true,"dtype":"float32","pool_size":[2,2],
       "padding":"valid","strides":[2,2],"data_format":"channels_last"}},
      {"class_name":"Flatten","config":{"name":"f","trainable":true,"dtype":"float32","data_format":"channels_last"}},
      {"class_name":"Dense","config":{"name":"d","units":10,"activation":"softmax"}}]},
      "keras_version":"2.13.1","backend":"tensorflow"}"#;
    let spec = TrainSpec::from_json(json).unwrap();
    assert_eq!(spec.input_shape, Some(vec![28, 28, 1]));
    let shapes = shapes(&[28, 28, 1], &spec.layers).unwrap();
    assert_eq!(shapes, vec![vec![28, 28, 1], vec![28, 28, 8], vec![14, 14, 8], vec![1568], vec![10]]);
}

#[test]
fn keras_parts_that_we_lack_are_named() {
    let model = |layer: &str| {
        format!(
            r#"{{"class_name":"Sequential","config":{{"name":"s","layers":[{layer},{{"class_name":"Dense","config":{{"units":2}}}}]}}}}"#
        )
    };
    let cases = [
        (r#"{"class_name":"LSTM","config":{}}"#, "the layer `LSTM` is not supported"),
        (
            r#"{"class_name":"Dense","config":{"units":3,"kernel_regularizer":{"class_name":"L2","config":{"l2":0.01}}}}"#,
            "layers[0] (Dense).kernel_regularizer: `L2` is not supported",
        ),
        (
            r#"{"class_name":"Dense","config":{"units":3,"trainable":false}}"#,
            "trainable: false is not supported",
        ),
        (r#"{"class_name":"Conv2D","config":{"filters":3,"groups":2}}"#, "groups: 2 is not supported"),
        (
            r#"{"class_name":"Dense","config":{"units":3,"dtype":"mixed_float16"}}"#,
            "`mixed_float16` is not supported",
        ),
    ];
    for (layer, expected) in cases {
        let error = TrainSpec::from_json(&model(layer)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let functional = TrainSpec::from_json(r#"{"class_name":"Functional","config":{}}"#).unwrap_err();
    assert!(functional.to_string().contains("only Sequential models are"), "{functional}");
}

#[test]
fn text_vectorization_becomes_a_text_step() {
    let spec = TrainSpec::from_yaml(
        "layers: [{text_vectorization: 1000, output_mode: int, output_sequence_length: 16}, {embedding: 8}, \
         global_average_pooling1d, {dense: labels}]",
    )
    .unwrap();
    assert_eq!(spec.vectorizer, Some(Vectorizer::Sequence { max_tokens: 1000, length: 16 }));
    let keras = TrainSpec::from_json(
        r#"{"class_name":"Sequential","config":{"layers":[
            {"class_name":"InputLayer","config":{"batch_shape":[null,1],"dtype":"string","name":"i"}},
            {"class_name":"TextVectorization","config":{"name":"t","dtype":"string","max_tokens":50,
             "standardize":"lower_and_strip_punctuation","split":"whitespace","ngrams":2,"output_mode":"tf_idf"}},
            {"class_name":"Dense","config":{"units":2}}]}}"#,
    )
    .unwrap();
    assert!(matches!(
        keras.vectorizer,
        Some(Vectorizer::Terms { width: 50, ngrams: [1, 2], unknown: true, .. })
    ));
    assert_eq!(keras.input_shape, None);
}

#[test]
fn shapes_refuse_what_does_not_fit() {
    let error = shapes(
        &[100],
        &[Layer::MaxPooling2d { pool_size: [2, 2], strides: [2, 2], padding: Padding::Valid }],
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "layers[0] (max_pooling2d): needs images of shape [height, width, channels], not rows of shape [100]"
    );
}

/// What Keras 3.15.1 itself printed.
#[test]
fn real_keras_models_read() {
    let images = TrainSpec::from_json(include_str!("testdata/keras_3_15_images.json")).unwrap();
    assert_eq!(images.input_shape, Some(vec![28, 28, 1]));
    assert_eq!(images.layers.len(), 10);
    assert_eq!(images.optimizer.rule, Rule::Sgd { momentum: 0.9, nesterov: true });
    assert_eq!(
        images.layers[4],
        Layer::Activation { function: Activation::LeakyRelu { negative_slope: 0.3 } }
    );
    let text = TrainSpec::from_json(include_str!("testdata/keras_3_15_text.json")).unwrap();
    assert_eq!(text.vectorizer, Some(Vectorizer::Sequence { max_tokens: 1000, length: 16 }));
    assert!(matches!(text.layers[0], Layer::Embedding { input_dim: Some(1000), mask_zero: true, .. }));
    assert_eq!((text.optimizer.weight_decay, text.metrics.clone()), (0.004, vec![Metric::Accuracy]));
    let numbers = TrainSpec::from_json(include_str!("testdata/keras_3_15_numbers.json")).unwrap();
    assert_eq!((numbers.loss, numbers.input_shape), (Some(Loss::BinaryCrossentropy), Some(vec![4])));
}
