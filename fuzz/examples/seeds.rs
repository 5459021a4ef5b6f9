//! Makes the corpus files that are not text: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.

use std::path::Path;

use formats::Format;
use formats::gguf::Writer;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let write = |name: &str, bytes: Vec<u8>| {
        let path = corpus.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, bytes)
    };
    write("gguf/byte-pair", byte_pair().finish())?;
    write("gguf/sentencepiece", sentencepiece().finish())?;
    write("gguf/wordpiece", wordpiece().finish())?;
    write("safetensors/two-tensors", safetensors())
}

fn with_tensors(writer: Writer) -> Writer {
    writer
        .u32("llama.block_count", 1)
        .f32("llama.rope.freq_base", 10_000.0)
        .tensor("token_embd.weight", &[3, 32], Format::Q8_0, &[1; 3 * 34])
        .tensor("norm.weight", &[8], Format::F32, &[2; 32])
}

fn byte_pair() -> Writer {
    let writer = Writer::new("llama")
        .str("tokenizer.ggml.model", "gpt2")
        .str("tokenizer.ggml.pre", "qwen2")
        .strings("tokenizer.ggml.tokens", &["a", "b", "ab", "Ġ", "Ġa", "<|im_end|>"])
        .strings("tokenizer.ggml.merges", &["a b", "Ġ a"])
        .i32s("tokenizer.ggml.token_type", &[1, 1, 1, 1, 1, 3])
        .bool("tokenizer.ggml.add_bos_token", true)
        .u32("tokenizer.ggml.eos_token_id", 5);
    with_tensors(writer)
}

fn sentencepiece() -> Writer {
    let writer = Writer::new("llama")
        .str("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &["<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "▁a", "b"])
        .f32s("tokenizer.ggml.scores", &[0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0])
        .i32s("tokenizer.ggml.token_type", &[2, 3, 3, 6, 1, 1, 1, 1])
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.unknown_token_id", 0);
    with_tensors(writer)
}

fn wordpiece() -> Writer {
    let writer = Writer::new("bert")
        .str("tokenizer.ggml.model", "bert")
        .strings("tokenizer.ggml.tokens", &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁the", "▁me", "use", ","])
        .i32s("tokenizer.ggml.token_type", &[3, 2, 3, 3, 1, 1, 1, 1])
        .u32("tokenizer.ggml.bos_token_id", 2)
        .u32("tokenizer.ggml.seperator_token_id", 3);
    with_tensors(writer)
}

fn safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[7; 12]].concat()
}
