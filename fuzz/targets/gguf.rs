//! GGUF files: their tensors, what they say of themselves, and the tokenizers in them.
#![no_main]

use formats::gguf::Gguf;
use formats::tokenizer::TokenizerSpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::from_bytes(bytes.to_vec()) else { return };
    for tensor in gguf.tensors() {
        assert!(tensor.bytes.len() <= bytes.len(), "a tensor beyond the file");
        assert_eq!(tensor.shape.iter().product::<usize>(), tensor.rows() * tensor.columns());
    }
    let metadata = gguf.metadata();
    for key in ["tokenizer.ggml.tokens", "llama.block_count", "general.alignment", "tokenizer.ggml.scores"] {
        let _ = (
            metadata.u32(key),
            metadata.f32(key),
            metadata.str(key),
            metadata.strings(key),
            metadata.i32s(key),
        );
    }
    if let Ok(spec) = TokenizerSpec::from_gguf(&gguf) {
        fuzz::tokenize(&spec);
    }
});
