//! Training specifications, in YAML and in JSON, and Keras' own; what is done to inputs and outputs.
#![no_main]

use formats::manifest::Manifest;
use formats::processing::Processing;
use formats::spec::TrainSpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = TrainSpec::from_yaml(text);
    let _ = TrainSpec::from_json(text);
    let _ = Processing::from_yaml(text, |_| Ok(text.as_bytes().to_vec()));
    let _ = Manifest::parse(text.as_bytes());
});
