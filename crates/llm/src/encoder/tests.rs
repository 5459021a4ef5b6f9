//! A small encoder with made-up weights: against itself in other company and in the other kind of file, and with files
//! that lie. What real ones compute is compared with `sentence-transformers` in tests/embeddings.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use formats::Format;
use formats::gguf::{Gguf, Writer};
use formats::safetensors::Pooling;
use kernels::Isa;

use super::shape::Names;
use super::states::States;
use super::{Input, LoadedEncoder, Makes};
use crate::decoder::tests::{self as decoders, Expected, VOCAB};
use crate::load::{LoadError, LoadOptions};

const WIDTH: usize = 32;
const HEADS: usize = 4;
const HIDDEN: usize = 48;
const LAYERS: usize = 2;
const POSITIONS: usize = 200;
const WORDS: [&str; 10] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "river", "##s", "flow", "."];

const CONFIG: &str = r#"{"model_type": "bert", "hidden_act": "gelu", "hidden_size": 32, "num_attention_heads": 4,
    "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 200, "vocab_size": 10}"#;

/// A tensor of either kind of file: its names, its shape.
struct Tensor {
    safetensors: String,
    gguf: String,
    shape: Vec<usize>,
}

fn tensors(score: bool) -> Vec<Tensor> {
    let (theirs, ours) = (Names::SAFETENSORS, Names::GGUF);
    let mut all = Vec::new();
    let mut put = |safetensors: String, gguf: String, shape: &[usize]| {
        all.push(Tensor { safetensors, gguf, shape: shape.to_vec() });
    };
    put(theirs.words.into(), ours.words.into(), &[WORDS.len(), WIDTH]);
    put(theirs.positions.into(), ours.positions.into(), &[POSITIONS, WIDTH]);
    put(theirs.segments.into(), ours.segments.into(), &[2, WIDTH]);
    for part in ["weight", "bias"] {
        put(format!("{}.{part}", theirs.norm), format!("{}.{part}", ours.norm), &[WIDTH]);
    }
    for layer in 0..LAYERS {
        for (place, (theirs_part, ours_part)) in theirs.parts.iter().zip(ours.parts).enumerate() {
            let (rows, cols) = match place {
                5 => (HIDDEN, WIDTH),
                6 => (WIDTH, HIDDEN),
                _ => (WIDTH, WIDTH),
            };
            let theirs_name = format!("{}{layer}.{theirs_part}", theirs.layer);
            let ours_name = format!("{}{layer}.{ours_part}", ours.layer);
            if matches!(place, 4 | 7) {
                for part in ["weight", "bias"] {
                    put(format!("{theirs_name}.{part}"), format!("{ours_name}.{part}"), &[WIDTH]);
                }
                continue;
            }
            let bias = |name: &str| name.replace("weight", "bias");
            put(bias(&theirs_name), bias(&ours_name), &[rows]);
            put(theirs_name, ours_name, &[rows, cols]);
        }
    }
    if score {
        put(theirs.pooler.into(), ours.pooler.into(), &[WIDTH, WIDTH]);
        put(theirs.score.into(), ours.score.into(), &[1, WIDTH]);
    }
    all
}

/// The tensor of this name in the safetensors file: numbers that follow from it.
fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut state = tensor.safetensors.bytes().fold(0xcbf2_9ce4_8422_2325u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let about = if tensor.safetensors.contains("LayerNorm.weight") { 1.0 } else { 0.0 };
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) / 2.0 + about
    };
    (0..tensor.shape.iter().product()).flat_map(|_| number().to_le_bytes()).collect()
}

fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let (mut head, mut data) = (Vec::new(), Vec::new());
    for tensor in tensors {
        let start = data.len();
        data.extend(bytes(tensor));
        let (name, shape, end) = (&tensor.safetensors, &tensor.shape, data.len());
        head.push(format!(r#"{name:?}:{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#));
    }
    let head = format!("{{{}}}", head.join(","));
    [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), &data].concat()
}

fn tokenizer() -> String {
    let vocab: Vec<String> = WORDS.iter().enumerate().map(|(id, word)| format!("{word:?}:{id}")).collect();
    let added: Vec<String> = WORDS[..4]
        .iter()
        .enumerate()
        .map(|(id, word)| format!(r#"{{"id":{id},"content":{word:?},"special":true}}"#))
        .collect();
    format!(
        r#"{{"added_tokens":[{}],"normalizer":{{"type":"BertNormalizer","lowercase":true}},
            "post_processor":{{"type":"BertProcessing","cls":["[CLS]",2],"sep":["[SEP]",3]}},
            "model":{{"type":"WordPiece","unk_token":"[UNK]","vocab":{{{}}}}}}}"#,
        added.join(","),
        vocab.join(",")
    )
}

/// A directory with what is given in place of what should be there.
fn directory(score: bool, instead: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| std::fs::write(directory.path().join(name), content).unwrap();
    put("config.json", CONFIG.as_bytes());
    put("tokenizer.json", tokenizer().as_bytes());
    put("model.safetensors", &safetensors(&tensors(score)));
    instead.iter().for_each(|(name, content)| put(name, content));
    directory
}

fn gguf() -> Gguf {
    let words: Vec<String> = WORDS
        .iter()
        .enumerate()
        .map(|(id, word)| match word.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None if id < 4 => (*word).to_owned(),
            None => format!("▁{word}"),
        })
        .collect();
    let kinds: Vec<i32> = (0..WORDS.len()).map(|id| if id < 4 { 3 } else { 1 }).collect();
    let mut writer = Writer::new("bert")
        .u32("bert.block_count", LAYERS as u32)
        .u32("bert.context_length", POSITIONS as u32)
        .u32("bert.embedding_length", WIDTH as u32)
        .u32("bert.feed_forward_length", HIDDEN as u32)
        .u32("bert.attention.head_count", HEADS as u32)
        .f32("bert.attention.layer_norm_epsilon", 1e-12)
        .u32("bert.pooling_type", 1)
        .str("tokenizer.ggml.model", "bert")
        .strings("tokenizer.ggml.tokens", &words)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .u32("tokenizer.ggml.unknown_token_id", 1)
        .u32("tokenizer.ggml.bos_token_id", 2)
        .u32("tokenizer.ggml.seperator_token_id", 3);
    for tensor in tensors(false) {
        writer = writer.tensor(&tensor.gguf, &tensor.shape, Format::F32, &bytes(&tensor));
    }
    Gguf::from_bytes(writer.finish()).unwrap()
}

fn options(threads: usize) -> LoadOptions {
    LoadOptions { threads, memory_max: u64::MAX, ..LoadOptions::default() }
}

fn open(directory: &Path, threads: usize) -> Result<LoadedEncoder, LoadError> {
    LoadedEncoder::open(directory, &options(threads))
}

/// Texts of many lengths, some of them pairs.
fn inputs(loaded: &LoadedEncoder) -> Vec<Input> {
    let text = |len: usize| "rivers flow a b . nowhere ".repeat(len);
    let one = |len: usize| Input::text(&loaded.tokenizer, &text(len));
    let pair = |len: usize| Input::pair(&loaded.tokenizer, "a river", &text(len));
    (0..24).map(|nth| if nth % 3 == 0 { pair(1 + nth) } else { one(nth) }).collect()
}

fn bits(vectors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    vectors.iter().map(|vector| vector.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn company_and_threads_change_no_bit() {
    for score in [false, true] {
        let directory = directory(score, &[]);
        let mut alone = open(directory.path(), 1).unwrap();
        let inputs = inputs(&alone);
        let expected: Vec<_> = inputs
            .iter()
            .map(|input| alone.encoder.run(std::slice::from_ref(input)).unwrap().remove(0))
            .collect();
        assert!(expected.iter().flatten().all(|x| x.is_finite()));
        assert_ne!(expected[1], expected[2]);
        let mut crowd = open(directory.path(), 3).unwrap();
        let wanted = if score { Makes::Scores } else { Makes::Vectors(WIDTH) };
        assert_eq!(crowd.encoder.makes(), wanted);
        for size in [2, 5, 24] {
            let found: Vec<_> =
                inputs.chunks(size).flat_map(|inputs| crowd.encoder.run(inputs).unwrap()).collect();
            assert_eq!(bits(&found), bits(&expected), "{size} at a time, scores: {score}");
        }
    }
}

#[test]
fn both_kinds_of_file_are_one_model() {
    let modules = br#"[{"type":"a.Transformer"},{"type":"a.Pooling","path":"pool"},{"type":"a.Normalize"}]"#;
    let directory = directory(false, &[("modules.json", modules)]);
    std::fs::create_dir(directory.path().join("pool")).unwrap();
    std::fs::write(directory.path().join("pool/config.json"), r#"{"pooling_mode":"mean"}"#).unwrap();
    let mut theirs = open(directory.path(), 1).unwrap();
    let mut ours = LoadedEncoder::read_gguf(&gguf(), &options(1)).unwrap();
    let inputs = inputs(&theirs);
    assert_eq!(inputs, self::inputs(&ours));
    let (theirs, ours) = (theirs.encoder.run(&inputs).unwrap(), ours.encoder.run(&inputs).unwrap());
    assert_eq!(bits(&theirs), bits(&ours));
    let length = |vector: &Vec<f32>| vector.iter().map(|x| x * x).sum::<f32>();
    assert!(theirs.iter().all(|vector| (length(vector) - 1.0).abs() < 1e-5));
}

#[test]
fn a_pair_differs_from_its_texts_joined() {
    let directory = directory(true, &[]);
    let mut loaded = open(directory.path(), 1).unwrap();
    let pair = Input::pair(&loaded.tokenizer, "a river", "rivers flow");
    assert_eq!((pair.tokens.as_slice(), pair.second_from), (&[2, 4, 6, 3, 6, 7, 8, 3][..], 4));
    let joined = Input { second_from: pair.tokens.len(), ..pair.clone() };
    let scores = loaded.encoder.run(&[pair, joined]).unwrap();
    assert_eq!(scores[0].len(), 1);
    assert_ne!(scores[0], scores[1]);
}

#[test]
fn texts_that_do_not_fit_are_refused_or_cut_at_their_end() {
    let directory = directory(false, &[("sentence_bert_config.json", br#"{"max_seq_length": 6}"#)]);
    let mut loaded = open(directory.path(), 1).unwrap();
    let tokenizer = &loaded.tokenizer;
    let long = Input::text(tokenizer, "a b a b a b a b");
    let mut cut = long.clone();
    assert!(cut.truncate(tokenizer, 6));
    assert_eq!((cut.tokens.as_slice(), cut.second_from), (&[2, 4, 5, 4, 5, 3][..], 6));
    let mut pair = Input::pair(tokenizer, "a b", "b b b b");
    assert!(pair.truncate(tokenizer, 6) && pair.tokens == [2, 4, 5, 3, 5, 3] && pair.second_from == 4);
    assert!(!Input::pair(tokenizer, "a b a b a", "b").truncate(tokenizer, 6));
    let error = loaded.encoder.run(std::slice::from_ref(&long)).unwrap_err().to_string();
    assert!(error.contains("10 tokens; 1 to 6"), "{error}");
    let empty = Input { tokens: vec![], second_from: 0 };
    let unknown = Input { tokens: vec![10], second_from: 1 };
    for wrong in [empty, unknown] {
        assert!(loaded.encoder.run(&[cut.clone(), wrong]).is_err());
    }
    assert_eq!(loaded.encoder.run(&[cut]).unwrap().len(), 1);
}

/// A model of the decoder's tests that says how its states become one vector.
fn states(family: &str, pooling: u32) -> Result<States, LoadError> {
    let gguf = decoders::file(family, |writer| writer.u32(&format!("{family}.pooling_type"), pooling));
    let options = LoadOptions { threads: 2, kv_bytes_max: 4 << 20, ..LoadOptions::default() };
    let pooling = States::pooling(&gguf)?.expect("a way of pooling");
    States::read(&gguf, pooling, &options, Isa::best()).map(|(states, _)| states)
}

fn input(tokens: &[u32]) -> Input {
    Input { tokens: tokens.to_vec(), second_from: tokens.len() }
}

/// The vector of a decoder's last state has the direction from which the reference's logits come.
#[test]
fn a_decoders_vectors_are_the_states_behind_the_references_logits() {
    for Expected { family, tokens, logits } in decoders::expected() {
        let mut states = states(&family, 3).unwrap();
        let tied = family.starts_with("gemma");
        let output = decoders::numbers(
            if tied { "token_embd.weight" } else { "output.weight" },
            VOCAB * states.width(),
        );
        for (row, logits) in logits {
            let vector = &states.run(&[input(&tokens[..=row])]).unwrap()[0];
            let ours: Vec<f32> = output
                .chunks_exact(vector.len())
                .map(|weights| weights.iter().zip(vector).map(|(weight, x)| weight * x).sum())
                .collect();
            // What bounds Gemma 2's logits is taken off.
            let plain = |logit: &f32| if family == "gemma2" { 30.0 * (logit / 30.0).atanh() } else { *logit };
            let theirs: Vec<f32> = logits.iter().map(plain).collect();
            let cosine = cosine(&ours, &theirs);
            assert!(cosine > 0.9999, "{family}, row {row}: {cosine}");
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Texts that lie in one step or in two, alone or not: the same bits, in each way of pooling.
#[test]
fn company_changes_no_bit_of_a_decoders_vectors() {
    let texts: Vec<Input> = (0..24)
        .map(|text| {
            input(&(0..40 + text % 24).map(|at| (at * 29 + text * 7) % VOCAB as u32).collect::<Vec<_>>())
        })
        .collect();
    let mut seen = Vec::new();
    for pooling in [1, 2, 3] {
        let mut states = states("qwen3", pooling).unwrap();
        let together = states.run(&texts).unwrap();
        for (text, vector) in texts.iter().zip(&together) {
            let alone = states.run(std::slice::from_ref(text)).unwrap();
            assert_eq!(bits(&alone), bits(std::slice::from_ref(vector)), "pooling {pooling}");
        }
        seen.push(together);
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
}

#[test]
fn a_decoder_that_cannot_embed_is_refused_by_name() {
    let refused = |pooling| states("qwen3", pooling).map(|_| ()).unwrap_err().to_string();
    assert!(refused(4).contains("qwen3.pooling_type"));
    let seeing = decoders::file("qwen3", |writer| writer.bool("qwen3.attention.causal", false));
    let error = States::read(&seeing, Pooling::Mean, &options(1), Isa::best()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("qwen3.attention.causal"), "{error}");
    let plain = decoders::file("qwen3", |writer| writer);
    assert_eq!(States::pooling(&plain).unwrap(), None);
}

#[test]
fn files_that_lie_are_refused() {
    let refused = |instead: &[(&str, &[u8])]| {
        open(directory(false, instead).path(), 1).map(|_| ()).unwrap_err().to_string()
    };
    let settings = [
        ("\"bert\"", "\"modernbert\"", "modernbert"),
        ("\"gelu\"", "\"gelu_new\"", "hidden_act"),
        ("\"hidden_size\": 32", "\"hidden_size\": 4000000000", "hidden_size"),
        ("\"hidden_size\": 32", "\"hidden_size\": 65536", "token_type_embeddings"),
        ("_heads\": 4", "_heads\": 5", "heads"),
        ("_layers\": 2", "_layers\": 3", "encoder.layer.2."),
        ("_layers\": 2", "_layers\": 1", "not known"),
        ("_embeddings\": 200", "_embeddings\": 0", "max_position_embeddings"),
        ("_embeddings\": 200", "_embeddings\": 1000000", "position_embeddings"),
    ];
    for (from, to, names) in settings {
        let error = refused(&[("config.json", CONFIG.replace(from, to).as_bytes())]);
        assert!(error.contains(names), "{to}: {error}");
    }
    let whole = safetensors(&tensors(false));
    for len in [0, 7, 100, whole.len() - 1] {
        assert!(refused(&[("model.safetensors", &whole[..len])]).contains("model.safetensors"), "{len}");
    }
    let mut more = tensors(true);
    let last = more.last_mut().unwrap();
    last.shape[0] = 3;
    assert!(refused(&[("model.safetensors", &safetensors(&more))]).contains("3 classes"));
    let tight = LoadOptions { memory_max: 1 << 20, ..options(1) };
    let error = LoadedEncoder::open(directory(false, &[]).path(), &tight).map(|_| ()).unwrap_err();
    assert!(matches!(error, LoadError::Memory { .. }), "{error}");
}
