//! Shows what is in a model file, for the reference checks under `tests/llm`.
//!
//! `inspect FILE_OR_DIRECTORY`: one line a metadata value (its name, and the value or the number of elements and a sum over
//! them), one a tensor (name, format, dimensions, and the sum of all bytes, modulo 2^64).
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use formats::TensorView;
use formats::gguf::{Gguf, Metadata};
use formats::safetensors::Safetensors;

fn main() {
    let path = std::env::args().nth(1).expect("inspect FILE_OR_DIRECTORY");
    if path.ends_with(".gguf") {
        let gguf = Gguf::open(&path).expect("a GGUF file");
        let metadata = gguf.metadata();
        metadata.keys().for_each(|key| println!("key {key} {}", value(&metadata, key)));
        gguf.tensors().for_each(show);
    } else {
        Safetensors::open(&path).expect("a safetensors file").tensors().for_each(show);
    }
}

fn show(tensor: TensorView<'_>) {
    let sum = tensor.bytes.iter().fold(0_u64, |sum, &byte| sum.wrapping_add(byte.into()));
    println!("tensor {} {} {:?} {sum}", tensor.name, tensor.format, tensor.shape);
}

fn value(metadata: &Metadata<'_>, key: &str) -> String {
    let text = metadata.str(key).ok().flatten().map(|text| format!("text {} {}", text.len(), sum(text)));
    let texts = || metadata.strings(key).ok().flatten();
    let texts = || {
        texts().map(|all| format!("texts {} {}", all.len(), all.iter().map(|text| sum(text)).sum::<u64>()))
    };
    let bool = || metadata.bool(key).ok().flatten().map(|value| format!("bool {value}"));
    let whole = || metadata.u64(key).ok().flatten().map(|value| format!("whole {value}"));
    let float = || metadata.f32(key).ok().flatten().map(|value| format!("float {value:e}"));
    let wholes = || metadata.i32s(key).ok().flatten();
    let wholes = || {
        wholes().map(|all| format!("wholes {} {}", all.len(), all.iter().map(|&n| i64::from(n)).sum::<i64>()))
    };
    let found = text.or_else(texts).or_else(bool).or_else(whole).or_else(float).or_else(wholes);
    found.unwrap_or_else(|| "other".to_owned())
}

fn sum(text: &str) -> u64 {
    text.bytes().map(u64::from).sum()
}
