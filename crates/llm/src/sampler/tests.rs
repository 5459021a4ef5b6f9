#![allow(clippy::unwrap_used)]

use super::*;

const NONE: History<'static> = History { prompt: &[], answer: &[] };

fn place(position: usize) -> Place {
    Place { seed: 1, choice: 0, position }
}

fn sample(
    params: &SamplingParams,
    logits: &[f32],
    history: History<'_>,
    mask: Option<TokenMask<'_>>,
    place: Place,
) -> Option<u32> {
    super::sample(params, logits, history, mask, place, &mut Vec::new())
}

/// How often each token is drawn from `logits` in 2,000 draws.
fn draws(params: &SamplingParams, logits: &[f32]) -> Vec<usize> {
    let mut counts = vec![0; logits.len()];
    for position in 0..2000 {
        let token = sample(params, logits, NONE, None, place(position)).unwrap();
        counts[token as usize] += 1;
    }
    counts
}

fn ln(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

#[test]
fn greedy_takes_the_first_of_the_greatest() {
    let logits = [0.0, 3.0, 1.0, 3.0, f32::NEG_INFINITY, 0.5, 0.1, 0.2, 3.0, 0.0];
    assert_eq!(sample(&SamplingParams::greedy(), &logits, NONE, None, place(0)), Some(1));
}

#[test]
fn draws_follow_the_distribution() {
    let counts = draws(&SamplingParams::default(), &ln(&[0.1, 0.2, 0.7]));
    assert!((150..250).contains(&counts[0]) && (340..460).contains(&counts[1]), "{counts:?}");
}

#[test]
fn each_filter_keeps_what_it_says() {
    let logits = ln(&[0.05, 0.5, 0.15, 0.3]);
    let kept = |params: SamplingParams| -> Vec<usize> {
        let counts = draws(&params, &logits);
        (0..logits.len()).filter(|&token| counts[token] > 0).collect()
    };
    let all = SamplingParams::default();
    assert_eq!(kept(SamplingParams { top_k: 2, ..all.clone() }), [1, 3]);
    assert_eq!(kept(SamplingParams { top_p: 0.79, ..all.clone() }), [1, 3]);
    assert_eq!(kept(SamplingParams { top_p: 0.0, ..all.clone() }), [1]);
    assert_eq!(kept(SamplingParams { min_p: 0.29, ..all.clone() }), [1, 2, 3]);
    // The entropy is 1.14; 0.3 carries 1.20, 0.5 carries 0.69, 0.15 carries 1.90.
    assert_eq!(kept(SamplingParams { typical_p: 0.25, ..all.clone() }), [3]);
    assert_eq!(kept(SamplingParams { typical_p: 0.7, ..all.clone() }), [1, 3]);
    assert_eq!(kept(SamplingParams { top_k: 3, top_p: 0.9, min_p: 0.5, ..all }), [1, 3]);
}

#[test]
fn top_p_over_a_flat_vocabulary_looks_further() {
    let params = SamplingParams { top_p: 0.5, ..SamplingParams::default() };
    let logits = vec![0.0; 10_000];
    for position in 0..50 {
        let token = sample(&params, &logits, NONE, None, place(position)).unwrap();
        assert!(token < 5_000);
    }
}

#[test]
fn penalties_count_what_they_say() {
    let history = History { prompt: &[0], answer: &[1, 1, 2] };
    let logits = [2.0, 2.0, -2.0, 2.0];
    let params = SamplingParams {
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(3, -1.5)],
        ..SamplingParams::greedy()
    };
    let mut scratch = Vec::new();
    assert_eq!(super::sample(&params, &logits, history, None, place(0), &mut scratch), Some(0));
    assert_eq!(scratch, [1.0, 0.0, -4.75, 0.5]);
}

#[test]
fn a_mask_leaves_only_what_it_allows() {
    let mask = [0b1010];
    let logits = vec![5.0, 1.0, 4.0, 0.0];
    let token = sample(&SamplingParams::greedy(), &logits, NONE, Some(TokenMask(&mask)), place(0));
    assert_eq!(token, Some(1));
    let nothing = sample(&SamplingParams::greedy(), &[1.0], NONE, Some(TokenMask(&[0])), place(0));
    assert_eq!(nothing, None);
}

#[test]
fn what_is_not_a_number_is_never_chosen() {
    let logits = vec![f32::NAN, 0.0, f32::NAN];
    assert_eq!(sample(&SamplingParams::default(), &logits, NONE, None, place(0)), Some(1));
    assert_eq!(sample(&SamplingParams::default(), &[f32::NAN], NONE, None, place(0)), None);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let logits = ln(&[0.1, 0.2, 0.7]);
    let found = log_probs(&logits, 1, 2).unwrap();
    assert!((found.chosen.logprob - 0.2f32.ln()).abs() < 1e-6);
    assert_eq!(found.top.iter().map(|top| top.token).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(found.top[1], found.chosen);
}

#[test]
fn a_parameter_out_of_range_is_refused_by_name() {
    let bad = [
        ("temperature", SamplingParams { temperature: -1.0, ..SamplingParams::default() }),
        ("temperature", SamplingParams { temperature: f32::NAN, ..SamplingParams::default() }),
        ("top_p", SamplingParams { top_p: 1.5, ..SamplingParams::default() }),
        ("repetition_penalty", SamplingParams { repetition_penalty: 0.0, ..SamplingParams::default() }),
        ("logit_bias", SamplingParams { logit_bias: vec![(10, 1.0)], ..SamplingParams::default() }),
        ("logit_bias", SamplingParams { logit_bias: vec![(1, f32::INFINITY)], ..SamplingParams::default() }),
        ("logit_bias", SamplingParams { logit_bias: vec![(1, 0.0); 1025], ..SamplingParams::default() }),
    ];
    for (field, params) in bad {
        assert_eq!(params.check(10).unwrap_err().field, field);
    }
    assert!(SamplingParams::greedy().check(10).is_ok());
}
