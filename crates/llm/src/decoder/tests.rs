//! A small model of each family against what `transformers` computes (tests/llm_engine/families.py), and against
//! itself in other company.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::ControlFlow;

use formats::Format;
use formats::gguf::{Gguf, Writer};
use kernels::Isa;

use crate::forward::{Batch, Forward, Span};
use crate::load::{self, LoadError, LoadOptions};
use crate::scheduler::BlockCopy;

use super::{BLOCK_LEN, Decoder};

const EXPECTED: &str = include_str!("../../../../tests/llm_engine/families.txt");

const LAYERS: usize = 7;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 32;
const HIDDEN: usize = 96;
pub(crate) const VOCAB: usize = 80;
const EXPERTS: usize = 6;

const FAMILIES: [&str; 8] = ["llama", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "phi3", "gpt-oss"];

/// The tensor of this name, as families.py makes it.
pub(crate) fn numbers(name: &str, count: usize) -> Vec<f32> {
    let state = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let number = |place: usize| {
        let x = state.wrapping_add(place as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((x ^ (x >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        unit / 4.0 + if name.contains("norm") { 1.0 } else { 0.0 }
    };
    (0..count).map(number).collect()
}

/// A file in the making, of 32-bit floats.
struct File(Writer);

impl File {
    fn tensor(self, name: &str, shape: &[usize]) -> File {
        let bytes: Vec<u8> =
            numbers(name, shape.iter().product()).iter().flat_map(|number| number.to_le_bytes()).collect();
        File(self.0.tensor(name, shape, Format::F32, &bytes))
    }

    fn layer(mut self, family: &str, layer: usize) -> File {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (query, key) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        let mut parts: Vec<(&str, Vec<usize>)> =
            vec![("attn_norm.weight", vec![WIDTH]), ("attn_output.weight", vec![WIDTH, query])];
        if family == "phi3" {
            parts.push(("attn_qkv.weight", vec![query + 2 * key, WIDTH]));
            parts.push(("ffn_up.weight", vec![2 * HIDDEN, WIDTH]));
        } else {
            parts.push(("attn_q.weight", vec![query, WIDTH]));
            parts.push(("attn_k.weight", vec![key, WIDTH]));
            parts.push(("attn_v.weight", vec![key, WIDTH]));
        }
        if matches!(family, "qwen2" | "gpt-oss") {
            parts.push(("attn_q.bias", vec![query]));
            parts.push(("attn_k.bias", vec![key]));
            parts.push(("attn_v.bias", vec![key]));
        }
        if matches!(family, "qwen3" | "qwen3moe" | "gemma3") {
            parts.push(("attn_q_norm.weight", vec![HEAD_DIM]));
            parts.push(("attn_k_norm.weight", vec![HEAD_DIM]));
        }
        if family.starts_with("gemma") {
            parts.push(("post_attention_norm.weight", vec![WIDTH]));
            parts.push(("post_ffw_norm.weight", vec![WIDTH]));
        }
        if matches!(family, "qwen3moe" | "gpt-oss") {
            parts.push(("ffn_gate_inp.weight", vec![EXPERTS, WIDTH]));
            parts.push(("ffn_gate_exps.weight", vec![EXPERTS, HIDDEN, WIDTH]));
            parts.push(("ffn_up_exps.weight", vec![EXPERTS, HIDDEN, WIDTH]));
            parts.push(("ffn_down_exps.weight", vec![EXPERTS, WIDTH, HIDDEN]));
        } else {
            parts.push(("ffn_down.weight", vec![WIDTH, HIDDEN]));
            if family != "phi3" {
                parts.push(("ffn_gate.weight", vec![HIDDEN, WIDTH]));
                parts.push(("ffn_up.weight", vec![HIDDEN, WIDTH]));
            }
        }
        if family == "gpt-oss" {
            parts.push(("post_attention_norm.weight", vec![WIDTH]));
            parts.push(("attn_output.bias", vec![WIDTH]));
            parts.push(("attn_sinks.weight", vec![HEADS]));
            parts.push(("ffn_gate_inp.bias", vec![EXPERTS]));
            parts.push(("ffn_gate_exps.bias", vec![EXPERTS, HIDDEN]));
            parts.push(("ffn_up_exps.bias", vec![EXPERTS, HIDDEN]));
            parts.push(("ffn_down_exps.bias", vec![EXPERTS, WIDTH]));
        } else {
            parts.push(("ffn_norm.weight", vec![WIDTH]));
        }
        for (part, shape) in parts {
            self = self.tensor(&name(part), &shape);
        }
        self
    }
}

/// A small model of the family, of which `more` is said.
pub(crate) fn file(family: &str, more: impl FnOnce(Writer) -> Writer) -> Gguf {
    Gguf::from_bytes(bytes(family, more)).unwrap()
}

fn bytes(family: &str, more: impl FnOnce(Writer) -> Writer) -> Vec<u8> {
    let key = |key: &str| format!("{family}.{key}");
    let mut writer = Writer::new(family)
        .u32(&key("block_count"), LAYERS as u32)
        .u32(&key("embedding_length"), WIDTH as u32)
        .u32(&key("context_length"), 64)
        .u32(&key("attention.head_count"), HEADS as u32)
        .u32(&key("attention.head_count_kv"), KV_HEADS as u32)
        .u32(&key("attention.key_length"), HEAD_DIM as u32)
        .u32(&key("attention.value_length"), HEAD_DIM as u32)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
    if matches!(family, "qwen3moe" | "gpt-oss") {
        writer = writer.u32(&key("expert_count"), EXPERTS as u32).u32(&key("expert_used_count"), 2);
    }
    if matches!(family, "gemma2" | "gemma3" | "phi3" | "gpt-oss") {
        writer = writer.u32(&key("attention.sliding_window"), 8);
    }
    if family == "gemma3" {
        writer = writer
            .f32(&key("rope.freq_base"), 1e6)
            .str(&key("rope.scaling.type"), "linear")
            .f32(&key("rope.scaling.factor"), 8.0);
    }
    if family == "gpt-oss" {
        writer = writer
            .f32(&key("rope.freq_base"), 150_000.0)
            .str(&key("rope.scaling.type"), "yarn")
            .f32(&key("rope.scaling.factor"), 32.0)
            .u32(&key("rope.scaling.original_context_length"), 4096);
    }
    let mut file = File(more(writer))
        .tensor("token_embd.weight", &[VOCAB, WIDTH])
        .tensor("output_norm.weight", &[WIDTH]);
    if !family.starts_with("gemma") {
        file = file.tensor("output.weight", &[VOCAB, WIDTH]);
    }
    for layer in 0..LAYERS {
        file = file.layer(family, layer);
    }
    file.0.finish()
}

fn plain(family: &str) -> Gguf {
    file(family, |writer| writer)
}

fn decoder(family: &str, threads: usize, isa: Isa) -> Decoder {
    let options = LoadOptions { threads, kv_bytes_max: 1 << 20, ..LoadOptions::default() };
    load::decoders(&plain(family), None, &options, isa).unwrap().1
}

/// The logits of each of the last `len` rows of `tokens`, in blocks of the cache from `first_block` on.
fn rows(decoder: &mut (impl Forward + ?Sized), tokens: &[u32], start: usize, first_block: u32) -> Vec<f32> {
    let blocks = (0..tokens.len().div_ceil(BLOCK_LEN) as u32).map(|block| first_block + block).collect();
    let len = tokens.len() - start;
    decoder
        .forward(&Batch {
            tokens: tokens[start..].to_vec(),
            positions: (start as u32..tokens.len() as u32).collect(),
            spans: vec![Span { rows: 0..len, blocks, hidden: 0..0 }],
            copies: Vec::new(),
            wanted: (0..len).collect(),
        })
        .unwrap();
    decoder.logits().to_vec()
}

/// What the reference computes of a family: of some rows, the logits.
pub(crate) struct Expected {
    pub(crate) family: String,
    pub(crate) tokens: Vec<u32>,
    pub(crate) logits: Vec<(usize, Vec<f32>)>,
}

pub(crate) fn expected() -> Vec<Expected> {
    let mut all: Vec<Expected> = Vec::new();
    for line in EXPECTED.lines() {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "family" {
            all.push(Expected { family: rest.into(), tokens: Vec::new(), logits: Vec::new() });
            continue;
        }
        let last = all.last_mut().unwrap();
        let mut values = rest.split(' ');
        match word {
            "tokens" => last.tokens = values.map(|token| token.parse().unwrap()).collect(),
            _ => {
                let row = values.next().unwrap().parse().unwrap();
                last.logits.push((row, values.map(|logit| logit.parse().unwrap()).collect()));
            }
        }
    }
    all
}

#[test]
fn every_family_computes_what_the_reference_computes() {
    let all = expected();
    assert_eq!(all.iter().map(|one| one.family.as_str()).collect::<Vec<_>>(), FAMILIES);
    let mut wrong = Vec::new();
    for Expected { family, tokens, logits } in all {
        let mut decoder = decoder(&family, 1, Isa::best());
        let got = rows(&mut decoder, &tokens, 0, 0);
        let worst = logits
            .iter()
            .flat_map(|(row, logits)| logits.iter().zip(&got[row * VOCAB..]))
            .map(|(wanted, got)| (wanted - got).abs())
            .fold(0.0, f32::max);
        // Keys and values are kept in 16 bits.
        if worst > 5e-3 {
            wrong.push((family, worst));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Chunks, threads, company, shared blocks: the same bits.
#[test]
fn company_changes_no_bit_of_any_family() {
    let tokens: Vec<u32> = (0..40).map(|at| (at * 29 + 3) % VOCAB as u32).collect();
    for family in FAMILIES {
        let whole = rows(&mut decoder(family, 1, Isa::best()), &tokens, 0, 0);
        let mut chunked = decoder(family, 2, Isa::best());
        let mut parts = Vec::new();
        for cut in [0, 1, 17, 18, 30, 40].windows(2) {
            parts.extend(rows(&mut chunked, &tokens[..cut[1]], cut[0], 7));
        }
        assert_eq!(parts, whole, "{family} in chunks");
        let mut crowd = decoder(family, 2, Isa::best());
        rows(&mut crowd, &tokens[..33], 0, 0);
        let batch = Batch {
            // Another sequence, the last tokens of ours from a copied block, and a third.
            tokens: [&tokens[5..8], &tokens[33..], &tokens[..2]].concat(),
            positions: (0..3).chain(33..40).chain(0..2).collect(),
            spans: vec![
                Span { rows: 0..3, blocks: vec![9], hidden: 0..0 },
                Span { rows: 3..10, blocks: vec![0, 1, 5], hidden: 0..0 },
                Span { rows: 10..12, blocks: vec![8], hidden: 0..0 },
            ],
            copies: vec![BlockCopy { from: 2, to: 5 }],
            wanted: (3..10).collect(),
        };
        let given_up = crowd.forward_watched(&batch, &mut |share| match share < 0.5 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        });
        assert_eq!(given_up.unwrap(), ControlFlow::Break(()), "{family}");
        // Copies are made even then.
        crowd.forward(&Batch { copies: Vec::new(), ..batch }).unwrap();
        assert_eq!(crowd.logits(), &whole[33 * VOCAB..], "{family} in company, after it was given up");
    }
}

/// Rows that nobody wants leave their keys and values, and the others are what they are beside them.
#[test]
fn what_is_wanted_changes_no_bit_of_any_family() {
    let tokens: Vec<u32> = (0..40).map(|at| (at * 29 + 3) % VOCAB as u32).collect();
    for family in FAMILIES {
        let whole = rows(&mut decoder(family, 1, Isa::best()), &tokens, 0, 0);
        let mut decoder = decoder(family, 2, Isa::best());
        for (part, wanted) in [(0..20, vec![]), (20..39, vec![1, 4, 5, 18]), (39..40, vec![0])] {
            let batch = Batch {
                tokens: tokens[part.clone()].to_vec(),
                positions: part.clone().map(|position| position as u32).collect(),
                spans: vec![Span { rows: 0..part.len(), blocks: vec![4, 0, 7], hidden: 0..0 }],
                copies: Vec::new(),
                wanted: wanted.clone(),
            };
            decoder.forward(&batch).unwrap();
            let row = |row: usize| &whole[(part.start + row) * VOCAB..][..VOCAB];
            assert_eq!(
                decoder.logits(),
                wanted.into_iter().map(row).collect::<Vec<_>>().concat(),
                "{family}"
            );
        }
    }
}

#[test]
fn a_file_that_cannot_be_run_is_refused_by_name() {
    let refuse = |file: Gguf, options: &LoadOptions| {
        load::decoders(&file, None, options, Isa::SCALAR).expect_err("it was loaded").to_string()
    };
    let options = LoadOptions::default();
    let strange = Gguf::from_bytes(Writer::new("mamba").finish()).unwrap();
    assert!(refuse(strange, &options).contains("\"mamba\""));
    let bare = Gguf::from_bytes(Writer::new("llama").finish()).unwrap();
    assert!(refuse(bare, &options).contains("llama.embedding_length"));
    let large = refuse(plain("llama"), &LoadOptions { memory_max: 1 << 20, ..options });
    assert!(large.contains("MiB are available"), "{large}");
}

/// A small model beside a large one is counted in what both take, and computes as it does alone.
#[test]
fn a_model_beside_another_has_to_fit_too() {
    let (large, small) = (plain("llama"), plain("qwen2"));
    let options = LoadOptions { threads: 2, kv_bytes_max: 1 << 20, ..LoadOptions::default() };
    let (need, ..) = load::decoders(&large, None, &options, Isa::best()).unwrap();
    let tight = LoadOptions { memory_max: need.total() + 1000, ..options };
    load::decoders(&large, None, &tight, Isa::best()).unwrap();
    let error = load::decoders(&large, Some(&small), &tight, Isa::best()).unwrap_err();
    assert!(matches!(&error, LoadError::Draft(_)) && error.is_out_of_memory(), "{error}");
    let draft = load::decoders(&large, Some(&small), &options, Isa::best()).unwrap().2.unwrap();
    assert_eq!((draft.blocks, draft.context_max), (need.blocks, need.context));
    let mut beside = draft.forward;
    let mut alone = decoder("qwen2", 1, Isa::best());
    assert_eq!(rows(&mut *beside, &[1, 2, 3, 4], 0, 0), rows(&mut alone, &[1, 2, 3, 4], 0, 0));
}

/// Files that were changed at random are refused or run, and never break the program.
#[test]
fn damaged_files_do_no_damage() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let options = LoadOptions { threads: 1, kv_bytes_max: 1 << 20, memory_max: 1 << 26, context_max: 0 };
    let (mut refused, mut ran) = (0, 0);
    for family in ["llama", "gemma3", "phi3", "gpt-oss"] {
        let whole = bytes(family, |writer| writer);
        // Metadata and the tensors' descriptions; what follows is numbers.
        let header = 9_000.min(whole.len());
        for _ in 0..150 {
            let mut damaged = whole.clone();
            for _ in 0..=random(3) {
                damaged[random(header)] = [0, 1, 0x7f, 0xff, random(256) as u8][random(5)];
            }
            let Ok(gguf) = Gguf::from_bytes(damaged) else {
                refused += 1;
                continue;
            };
            match load::decoders(&gguf, None, &options, Isa::best()) {
                Ok((_, mut decoder, _)) => {
                    rows(&mut decoder, &[1, 2, 3], 0, 0);
                    ran += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0 && ran > 0, "{refused} refused, {ran} ran");
}
