#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::tokenizer::TokenizerSpec;

/// A small file with a value of every kind and two tensors.
fn small() -> Writer {
    Writer::new("llama")
        .u32("llama.block_count", 2)
        .f32("llama.rope.freq_base", 10_000.0)
        .bool("tokenizer.ggml.add_bos_token", true)
        .str("tokenizer.ggml.model", "gpt2")
        .str("tokenizer.ggml.pre", "qwen2")
        .strings("tokenizer.ggml.tokens", &["a", "b", "ab", "<|end|>"])
        .strings("tokenizer.ggml.merges", &["a b"])
        .i32s("tokenizer.ggml.token_type", &[1, 1, 1, 3])
        .f32s("tokenizer.ggml.scores", &[0.0, -1.0, -2.0, 0.0])
        .u32("tokenizer.ggml.eos_token_id", 3)
        .tensor("token_embd.weight", &[3, 32], Format::Q8_0, &[1; 3 * 34])
        .tensor("norm.weight", &[8], Format::F32, &[2; 32])
}

fn fault(bytes: Vec<u8>) -> Fault {
    match Gguf::from_bytes(bytes) {
        Err(Error::Invalid { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// The file with the first occurrence of a number, as eight bytes, replaced.
fn with_u64(mut bytes: Vec<u8>, after: &[u8], skip: usize, value: u64) -> Vec<u8> {
    let at = bytes.windows(after.len()).position(|window| window == after).unwrap() + after.len() + skip;
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn what_was_written_is_read() {
    let gguf = Gguf::from_bytes(small().finish()).unwrap();
    assert_eq!(gguf.architecture(), "llama");
    let metadata = gguf.metadata();
    assert_eq!(metadata.u32("llama.block_count").unwrap(), Some(2));
    assert_eq!(metadata.u64("llama.block_count").unwrap(), Some(2));
    assert_eq!(metadata.f32("llama.rope.freq_base").unwrap(), Some(10_000.0));
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    assert_eq!(metadata.str("tokenizer.ggml.pre").unwrap(), Some("qwen2"));
    assert_eq!(metadata.strings("tokenizer.ggml.merges").unwrap(), Some(vec!["a b"]));
    assert_eq!(metadata.i32s("tokenizer.ggml.token_type").unwrap(), Some(vec![1, 1, 1, 3]));
    assert_eq!(metadata.f32s("tokenizer.ggml.scores").unwrap(), Some(vec![0.0, -1.0, -2.0, 0.0]));
    assert_eq!(metadata.u32("absent").unwrap(), None);
    let tensor = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((tensor.shape, tensor.format, tensor.bytes.len()), (&[3, 32][..], Format::Q8_0, 102));
    assert_eq!((tensor.rows(), tensor.columns()), (3, 32));
    assert_eq!(gguf.tensor("norm.weight").unwrap().bytes, [2; 32]);
    assert_eq!(gguf.tensors().len(), 2);
    assert_eq!(gguf.tensor_bytes(), 134);
}

#[test]
fn a_value_of_another_kind_is_refused_by_name() {
    let gguf = Gguf::from_bytes(small().finish()).unwrap();
    let metadata = gguf.metadata();
    let said = |error: Error| error.to_string();
    assert_eq!(
        said(metadata.u32("tokenizer.ggml.pre").unwrap_err()),
        "metadata \"tokenizer.ggml.pre\" is a string, where a whole number from 0 to 2^32 - 1 is needed"
    );
    assert!(said(metadata.str("llama.block_count").unwrap_err()).contains("is 2, where a UTF-8 string"));
    assert!(
        said(metadata.f32s("tokenizer.ggml.tokens").unwrap_err()).contains("is an array of 4 (a string)")
    );
    assert!(metadata.u32s("tokenizer.ggml.scores").is_err());
    let odd = Writer::new("llama").f32("nan", f32::NAN).value("negative", 11, &(-1_i64).to_le_bytes());
    let odd = Gguf::from_bytes(odd.finish()).unwrap();
    assert!(said(odd.metadata().f32("nan").unwrap_err()).contains("is NaN"));
    assert!(said(odd.metadata().u64("negative").unwrap_err()).contains("is -1"));
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let whole = small().finish();
    for len in 0..whole.len() {
        let error = Gguf::from_bytes(whole[..len].to_vec()).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{len}: {error}");
    }
}

#[test]
fn other_files_and_versions_are_refused() {
    assert_eq!(fault(b"GGML....".to_vec()), Fault::Magic);
    assert_eq!(fault(Vec::new()), Fault::Magic);
    let version = |bytes: [u8; 4]| [&b"GGUF"[..], &bytes, &[0; 16]].concat();
    assert_eq!(fault(version([1, 0, 0, 0])), Fault::Version(1));
    assert_eq!(fault(version([4, 0, 0, 0])), Fault::Version(4));
    assert_eq!(fault(version([0, 0, 0, 3])), Fault::BigEndian);
    assert_eq!(fault(version([3, 0, 0, 0])), Fault::NoArchitecture);
}

/// ollama#17042, ggml#1516, llama.cpp#27188: tiny files that claim 2^63 of something.
#[test]
fn claims_beyond_the_file_are_refused_before_anything_is_allocated() {
    let counts = |tensors: u64, keys: u64| {
        [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &keys.to_le_bytes(), &[0; 64]].concat()
    };
    for claimed in [1 << 31, 1 << 62, 1 << 63, u64::MAX] {
        assert!(matches!(fault(counts(claimed, 0)), Fault::Count { count, .. } if count == claimed));
        assert!(matches!(fault(counts(0, claimed)), Fault::Count { count, .. } if count == claimed));
        let file = small().finish();
        let tokens = with_u64(file.clone(), b"tokenizer.ggml.tokens", 8, claimed);
        assert!(matches!(fault(tokens), Fault::Count { count, .. } if count == claimed));
        let text = with_u64(file.clone(), b"tokenizer.ggml.pre", 4, claimed);
        assert!(matches!(fault(text), Fault::Truncated { needed, .. } if needed == claimed));
        let dimension = with_u64(file, b"token_embd.weight", 12, claimed);
        assert!(matches!(fault(dimension), Fault::Shape { .. } | Fault::OutOfFile { .. }));
    }
}

/// CVE-2026-7482: a tensor that claims more than the file holds must not show what lies behind it in memory.
#[test]
fn tensors_stay_inside_the_file() {
    let file = small().finish();
    let beyond = with_u64(file.clone(), b"norm.weight", 4 + 8 + 4, 1 << 20);
    assert!(matches!(fault(beyond), Fault::OutOfFile { offset: 1_048_576, .. }));
    let wrapping = with_u64(file.clone(), b"norm.weight", 4 + 8 + 4, u64::MAX - 31);
    assert!(matches!(fault(wrapping), Fault::OutOfFile { .. }));
    let misaligned = with_u64(file.clone(), b"norm.weight", 4 + 8 + 4, 1);
    assert!(matches!(fault(misaligned), Fault::Misaligned { offset: 1, .. }));
    let overlapping = with_u64(file.clone(), b"norm.weight", 4 + 8 + 4, 96);
    assert!(matches!(fault(overlapping), Fault::Overlap { .. }));
    let zero = with_u64(file, b"norm.weight", 4, 0);
    assert!(matches!(fault(zero), Fault::Shape { .. }));
}

#[test]
fn names_and_formats_are_checked() {
    let twice = Writer::new("llama").u32("a", 1).u32("a", 2).finish();
    assert_eq!(fault(twice), Fault::Duplicate { what: "metadata key", name: "a".to_owned() });
    let twice = small().tensor("norm.weight", &[1], Format::F32, &[0; 4]).finish();
    assert_eq!(fault(twice), Fault::Duplicate { what: "tensor", name: "norm.weight".to_owned() });
    let odd = small().tensor("odd", &[1, 33], Format::Q8_0, &[0; 68]).finish();
    assert!(matches!(fault(odd), Fault::Blocks { columns: 33, format: Format::Q8_0, .. }));
    let alignment = |value| Writer::new("llama").u32("general.alignment", value).finish();
    for value in [0, 3, 1 << 21] {
        assert_eq!(fault(alignment(value)), Fault::Alignment(value.into()));
    }
    assert!(Gguf::from_bytes(alignment(64)).is_ok());
    let nested = Writer::new("llama").value("a", 9, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).finish();
    assert_eq!(fault(nested), Fault::Nested { key: "a".to_owned() });
    let unknown = Writer::new("llama").value("a", 13, &[]).finish();
    assert_eq!(fault(unknown), Fault::ValueType { key: "a".to_owned(), number: 13 });
    let neither = Writer::new("llama").value("a", 7, &[2]).finish();
    assert_eq!(fault(neither), Fault::Bool { key: "a".to_owned(), found: 2 });
}

fn part(number: u32, count: u32, tensors: u32) -> Writer {
    let writer = Writer::new("llama").u32("split.no", number).u32("split.count", count);
    let name = format!("t{number}");
    writer.u32("split.tensors.count", tensors).tensor(&name, &[1], Format::F32, &[number as u8; 4])
}

#[test]
fn shards_are_one_model() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, writer: Writer| {
        let path = directory.path().join(name);
        std::fs::write(&path, writer.finish()).unwrap();
        path
    };
    let first = write("m-00001-of-00002.gguf", part(0, 2, 2));
    let alone = Gguf::open(&first).unwrap_err();
    assert!(matches!(&alone, Error::Read { file, .. } if file == "m-00002-of-00002.gguf"), "{alone}");
    let second = write("m-00002-of-00002.gguf", part(1, 2, 2));
    let gguf = Gguf::open(&first).unwrap();
    assert_eq!(gguf.tensor("t1").unwrap().bytes, [1; 4]);
    gguf.release("t1");
    assert_eq!(gguf.tensor("t1").unwrap().bytes, [1; 4]);
    let invalid = |path: &Path| match Gguf::open(path) {
        Err(Error::Invalid { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(invalid(&second), Fault::NotFirst { part: 2, count: 2 });
    write("m-00002-of-00002.gguf", part(0, 2, 2));
    assert_eq!(invalid(&first), Fault::WrongShard { part: 2, count: 2 });
    write("m-00001-of-00002.gguf", part(0, 2, 3));
    write("m-00002-of-00002.gguf", part(1, 2, 3));
    assert_eq!(invalid(&first), Fault::ShardTensors { found: 2, claimed: 3 });
    assert_eq!(invalid(&write("other.gguf", part(0, 2, 2))), Fault::ShardName { count: 2 });
    assert_eq!(invalid(&write("many.gguf", part(0, 65_535, 2))), Fault::Split("split.count"));
    assert!(matches!(Gguf::open(directory.path()), Err(Error::Read { .. })));
}

/// Mutations of good files: whatever comes of them is an error or a model whose every part can be looked at.
#[test]
fn mutated_files_never_do_harm() {
    let corpus = [small().finish(), part(0, 1, 1).finish(), Writer::new("bert").finish()];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut survivors = 0;
    for round in 0..30_000 {
        let mut bytes = corpus[round % corpus.len()].clone();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(5) {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = next(256) as u8,
                2 => bytes.truncate(at.max(1)),
                3 => {
                    let value = [0, 1, u64::MAX, 1 << 63, 1 << 31, bytes.len() as u64, 65_536][next(7)];
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
                }
                _ => {
                    let (from, len) = (next(bytes.len()), next(40));
                    let piece = bytes[from..(from + len).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        if let Ok(gguf) = Gguf::from_bytes(bytes) {
            survivors += 1;
            look_at_everything(&gguf);
        }
    }
    assert!(survivors > 100, "{survivors} survived: the mutations are too wild to reach anything");
}

fn look_at_everything(gguf: &Gguf) {
    let metadata = gguf.metadata();
    for key in metadata.keys() {
        let _ =
            (metadata.u32(key), metadata.u64(key), metadata.f32(key), metadata.bool(key), metadata.str(key));
        let _ = (metadata.strings(key), metadata.f32s(key), metadata.i32s(key), metadata.bools(key));
    }
    for tensor in gguf.tensors() {
        assert_eq!(
            Some(tensor.bytes.len()),
            tensor.format.row_bytes(tensor.columns()).map(|b| b * tensor.rows())
        );
        std::hint::black_box(tensor.bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>());
    }
    let _ = TokenizerSpec::from_gguf(gguf);
}
