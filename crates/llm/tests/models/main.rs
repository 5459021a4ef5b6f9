//! The engine on real model files.
//!
//! They lie in the directory `MEUSE_TEST_MODELS`, or where `tests/models/fetch.py` puts them by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod constraint;
mod determinism;
mod reference;

use std::path::PathBuf;

use llm::{LoadOptions, LoadedModel};

/// The smallest of them.
const SMOLLM2: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// The model in `file`, with `kv_mib` MiB for keys and values.
fn load(file: &str, kv_mib: u64, options: LoadOptions) -> LoadedModel {
    let by_itself = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/models");
    let path = std::env::var_os("MEUSE_TEST_MODELS").map_or_else(by_itself, PathBuf::from).join(file);
    assert!(path.exists(), "{} is not there: run tests/models/fetch.py first", path.display());
    LoadedModel::open(path, &LoadOptions { kv_bytes_max: kv_mib << 20, ..options }).unwrap()
}
