//! Safetensors files.
#![no_main]

use formats::safetensors::Safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Safetensors::from_bytes(bytes.to_vec()) else { return };
    for tensor in file.tensors() {
        assert!(tensor.bytes.len() <= bytes.len(), "a tensor beyond the file");
        assert_eq!(tensor.shape.iter().product::<usize>(), tensor.rows() * tensor.columns());
    }
});
