//! The two real files against what `transformers` computes from them (tests/llm_engine/reference.py).

use llm::{Batch, LoadOptions, LoadedModel, Span};

use crate::load;

const EXPECTED: &str = include_str!("../../../../tests/llm_engine/reference.txt");

/// Tokens computed at once.
const CHUNK: usize = 256;

/// The reference computes in 32-bit floats, the engine quantises activations to 8 bits: where the reference's two best
/// logits are closer than this, either may win.
const NEAR_TIE: f32 = 0.5;

#[derive(Default)]
struct Expected {
    file: String,
    greedy: Vec<Greedy>,
    text: Vec<u32>,
    likelihood: f64,
}

#[derive(Default)]
struct Greedy {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    margins: Vec<f32>,
}

fn expected() -> Vec<Expected> {
    let mut all: Vec<Expected> = Vec::new();
    for line in EXPECTED.lines() {
        let (word, rest) = line.split_once(' ').unwrap();
        let ids = || rest.split(' ').map(|id| id.parse().unwrap()).collect::<Vec<u32>>();
        if word == "file" {
            all.push(Expected { file: rest.to_string(), ..Expected::default() });
            continue;
        }
        let model = all.last_mut().unwrap();
        match word {
            "prompt" => model.greedy.push(Greedy { prompt: ids(), ..Greedy::default() }),
            "tokens" => model.greedy.last_mut().unwrap().tokens = ids(),
            "margins" => {
                model.greedy.last_mut().unwrap().margins =
                    rest.split(' ').map(|m| m.parse().unwrap()).collect();
            }
            "text" => model.text = ids(),
            "likelihood" => model.likelihood = rest.parse().unwrap(),
            other => panic!("{other}"),
        }
    }
    all
}

/// Calls `look` with each position's logits.
fn each_row(loaded: &mut LoadedModel, tokens: &[u32], mut look: impl FnMut(usize, &[f32])) {
    let (block_len, vocab) = (loaded.model.block_len, loaded.model.forward.vocab());
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(block_len) as u32).collect();
    for (nth, chunk) in tokens.chunks(CHUNK).enumerate() {
        let start = nth * CHUNK;
        let batch = Batch {
            tokens: chunk.to_vec(),
            positions: (start as u32..(start + chunk.len()) as u32).collect(),
            spans: vec![Span { rows: 0..chunk.len(), blocks: blocks.clone(), hidden: 0..0 }],
            copies: Vec::new(),
            wanted: (0..chunk.len()).collect(),
        };
        loaded.model.forward.forward(&batch).unwrap();
        for (row, logits) in loaded.model.forward.logits().chunks_exact(vocab).enumerate() {
            look(start + row, logits);
        }
    }
}

fn best(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    best.0 as u32
}

#[test]
fn greedy_tokens_agree_save_near_ties() {
    for Expected { file, greedy, .. } in expected() {
        let mut loaded = load(&file, 256, LoadOptions::default());
        let (mut agreed, mut steps, mut clear) = (0, 0, Vec::new());
        for Greedy { prompt, tokens, margins } in greedy {
            // The reference's own tokens are given, so that one near-tie does not end the comparison.
            let given = [prompt.as_slice(), &tokens[..tokens.len() - 1]].concat();
            each_row(&mut loaded, &given, |row, logits| {
                let Some(step) = (row + 1).checked_sub(prompt.len()) else { return };
                steps += 1;
                if best(logits) == tokens[step] {
                    agreed += 1;
                } else if margins[step] > NEAR_TIE {
                    clear.push((step, margins[step]));
                } else {
                    println!("{file}: a near-tie went the other way, margin {}", margins[step]);
                }
            });
        }
        println!("{file}: {agreed} of {steps} agree");
        assert!(clear.is_empty(), "{file}: {clear:?}");
        assert!(agreed * 100 >= steps * 97, "{file}: {agreed} of {steps} agree");
    }
}

#[test]
fn the_perplexity_of_a_text_is_within_half_a_percent() {
    for Expected { file, text, likelihood, .. } in expected() {
        let mut loaded = load(&file, 256, LoadOptions::default());
        let mut sum = 0.0;
        each_row(&mut loaded, &text, |row, logits| {
            if let Some(&next) = text.get(row + 1) {
                sum -= f64::from(llm::log_probs(logits, next, 0).unwrap().chosen.logprob);
            }
        });
        let found = (sum / (text.len() - 1) as f64).exp();
        let wanted = likelihood.exp();
        println!(
            "{file}: perplexity {found:.4}, reference {wanted:.4}, {:+.3} %",
            (found / wanted - 1.0) * 100.0
        );
        assert!((found / wanted - 1.0).abs() < 0.005, "{file}: {found} instead of {wanted}");
    }
}
