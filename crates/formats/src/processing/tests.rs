#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

fn read(document: &str) -> Result<Processing, String> {
    let beside = |file: &str| match file {
        "labels.txt" => Ok(b"cat\ndog \n\n".to_vec()),
        _ => Err(SpecError::new("output.labels", "there is no such file")),
    };
    Processing::from_yaml(document, beside).map_err(|e| e.to_string())
}

fn at(files: &[(&str, &str)]) -> Result<Option<Processing>, String> {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
    Processing::at(dir.path()).map_err(|e| e.to_string())
}

#[test]
fn a_short_document_has_the_usual_defaults() {
    let read =
        read("image: {resize: {shortest: 256}, crop: 224}\noutput: {labels: labels.txt, softmax: true}")
            .unwrap();
    let Some(Input::Image(image)) = read.input else { unreachable!() };
    assert_eq!((image.resize, image.crop), (Some(Resize::Shortest(256)), Some([224, 224])));
    assert_eq!((image.filter, image.layout, image.channels), (Filter::Bilinear, Layout::Nchw, Channels::Rgb));
    assert_eq!((image.rescale, image.shape()), (1.0 / 255.0, [3, 224, 224]));
    assert_eq!(read.output.labels.unwrap(), ["cat", "dog"]);
}

#[test]
fn texts_and_tables_are_described_too() {
    let text = read("text: {max_length: 64, truncate: true}").unwrap();
    let Some(Input::Text(text)) = text.input else { unreachable!() };
    assert_eq!((text.max_length, text.truncate, text.ids.as_str()), (64, true, "input_ids"));
    let table = read("table: {columns: [age, {name: city, categories: [Liège, no], unknown: -1}]}").unwrap();
    let Some(Input::Table(table)) = table.input else { unreachable!() };
    assert_eq!(table.columns[1].categories.as_ref().unwrap(), &["Liège", "no"]);
    assert_eq!((table.columns[0].name.as_str(), table.columns[1].unknown), ("age", Some(-1.0)));
}

#[test]
fn what_is_wrong_is_named() {
    for (document, said) in [
        ("{}", "says nothing"),
        ("image: {resize: {shortest: 256}}", "give `crop`"),
        ("image: {crop: 0}", "image.crop: expected a whole number from 1 to 4096"),
        ("image: {crop: 9, filter: cubic}", "image.filter: `cubic` is none of bilinear, nearest"),
        ("image: {crop: 9, mean: [1, 2]}", "image.mean: 2 numbers for 3 channels"),
        ("image: {crop: 9, std: 0}", "image.std"),
        ("image: {crop: 9, sharpen: 1}", "image.sharpen: is not an option here"),
        ("image: {crop: 9}\ntext: {}", "one of image, text and table"),
        ("table: {columns: []}", "0 columns"),
        ("table: {columns: [a, a]}", "`a` stands there twice"),
        ("table: {columns: [{name: a, unknown: 1}]}", "stands beside `categories` alone"),
        ("output: {labels: [a, '']}", "label 1 is empty"),
        ("output: {top_k: 3}", "output.top_k: needs `labels`"),
        ("output: {labels: ../x}", "output.labels"),
        ("outputs: {}", "outputs: is not an option here"),
    ] {
        let error = read(document).unwrap_err();
        assert!(error.contains(said), "{document}: {error}");
    }
}

#[test]
fn what_transformers_writes_is_recognised() {
    let images = r#"{"do_resize": true, "size": {"shortest_edge": 256}, "resample": 3, "do_center_crop": true,
        "crop_size": {"height": 224, "width": 224}, "do_rescale": true, "rescale_factor": 0.5, "do_normalize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "image_processor_type": "MobileNetV2ImageProcessor"}"#;
    let config = r#"{"id2label": {"1": "dog", "0": "cat"}, "hidden": [1]}"#;
    let read = at(&[("preprocessor_config.json", images), ("config.json", config)]).unwrap().unwrap();
    let Some(Input::Image(image)) = read.input else { unreachable!() };
    assert_eq!((image.resize, image.crop), (Some(Resize::Shortest(256)), Some([224, 224])));
    assert_eq!((image.filter, image.rescale, image.mean), (Filter::Bicubic, 0.5, vec![0.5; 3]));
    assert_eq!((read.output.labels.unwrap(), read.output.softmax), (vec!["cat".into(), "dog".into()], true));
    let square = r#"{"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 2}"#;
    let Some(Input::Image(image)) = at(&[("preprocessor_config.json", square)]).unwrap().unwrap().input
    else {
        unreachable!()
    };
    assert_eq!(image.size(), [224, 224]);
    for (images, said) in [
        (r#"{"size": 224}"#, "size: one number does not say"),
        (r#"{"size": {"height": 2, "width": 2}, "do_pad": true}"#, "do_pad: true is not supported"),
        (r#"{"size": {"height": 2, "width": 2}, "do_reduce_labels": true}"#, "do_reduce_labels"),
        (r#"{"do_resize": false}"#, "give `crop`"),
        ("[", "`preprocessor_config.json`: not JSON"),
    ] {
        let error = at(&[("preprocessor_config.json", images)]).unwrap_err();
        assert!(error.contains(said), "{images}: {error}");
    }
}

#[test]
fn texts_are_told_by_what_the_model_is_made_for() {
    let config = r#"{"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"},
        "max_position_embeddings": 64}"#;
    let read = at(&[("tokenizer.json", "{}"), ("config.json", config)]).unwrap().unwrap();
    assert!(matches!(read.input, Some(Input::Text(Text { max_length: 64, .. }))));
    let other = config.replace("ForSequenceClassification", "Model");
    assert_eq!(at(&[("tokenizer.json", "{}"), ("config.json", &other)]).unwrap(), None);
    let labels = at(&[("labels.txt", "a\nb\n")]).unwrap().unwrap();
    assert_eq!((labels.input, labels.output.labels.unwrap()), (None, vec!["a".into(), "b".into()]));
    assert_eq!(at(&[]).unwrap(), None);
    let document = "image: {crop: 4}\noutput: {labels: labels.txt}";
    assert!(at(&[("processing.yaml", document)]).unwrap_err().contains("`labels.txt` beside"));
}
