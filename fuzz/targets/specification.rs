//! Training specifications, in YAML and in JSON, and Keras' own.
#![no_main]

use formats::manifest::Manifest;
use formats::spec::TrainSpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = TrainSpec::from_yaml(text);
    let _ = TrainSpec::from_json(text);
    let _ = Manifest::parse(text.as_bytes());
});
